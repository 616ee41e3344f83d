//! Paths of requests: unescaping, cleaning, and the redirects of Go's multiplexer.

use std::borrow::Cow;

use super::form::hex_pair;

/// A path has a `%` without two hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadEscape;

/// Replaces `%XX` by bytes; keeps `+`.
pub(crate) fn unescape(path: &[u8]) -> Result<Cow<'_, [u8]>, BadEscape> {
    let Some(first) = memchr::memchr(b'%', path) else { return Ok(Cow::Borrowed(path)) };
    let mut out = Vec::with_capacity(path.len());
    out.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            out.push(hex_pair(after).ok_or(BadEscape)?);
            rest = &after[2..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    Ok(Cow::Owned(out))
}

/// The path to redirect to, if `path` has empty, `.` or `..` elements. A slash at the end is kept.
pub(crate) fn cleaned(path: &[u8]) -> Option<Vec<u8>> {
    if is_clean(path) {
        return None;
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for element in path.split(|byte| *byte == b'/') {
        match element {
            b"" | b"." => {}
            b".." => {
                let parent = memchr::memrchr(b'/', &out).unwrap_or(0);
                out.truncate(parent);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(element);
            }
        }
    }
    if out.is_empty() || path.ends_with(b"/") {
        out.push(b'/');
    }
    Some(out)
}

/// Whether a path has no empty, `.` or `..` elements.
pub(crate) fn is_clean(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'/', &path[from..]) {
        from += at + 1;
        match &path[from..] {
            [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes() {
        assert_eq!(unescape(b"/a+b").as_deref(), Ok(&b"/a+b"[..]));
        assert_eq!(unescape(b"/a%2Fb%00%e6").as_deref(), Ok(&b"/a/b\0\xe6"[..]));
        for bad in ["/%zz", "/%4", "/%", "/a%2", "/%2F%"] {
            assert_eq!(unescape(bad.as_bytes()), Err(BadEscape), "{bad}");
        }
    }

    #[test]
    fn cleans_as_go_does() {
        for clean in ["/", "/a", "/a/", "/a/b", "/.a", "/a./b", "/..a/b..", "/a/...", "/v2/keys/.x/"] {
            assert_eq!(cleaned(clean.as_bytes()), None, "{clean}");
        }
        for (path, wanted) in [
            ("//version", "/version"),
            ("/a//b", "/a/b"),
            ("/a/b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a/b/../", "/a/"),
            ("/.", "/"),
            ("/./", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/a/.", "/a"),
            ("", "/"),
            ("a", "/a"),
        ] {
            let clean = cleaned(path.as_bytes());
            assert_eq!(clean.as_deref(), Some(wanted.as_bytes()), "{path}");
            assert_eq!(cleaned(wanted.as_bytes()), None, "a cleaned path is clean");
        }
    }
}

//! Paths of the store: `/` and names with a `/` before each. Names are any bytes but `/`.

use std::borrow::Cow;

/// `path` as a clean absolute one, as Go's `path.Clean("/" + path)` makes it: no empty, `.` or `..`
/// elements, no `/` at the end.
#[must_use]
pub fn clean(path: &[u8]) -> Cow<'_, [u8]> {
    if is_clean(path) {
        return Cow::Borrowed(path);
    }
    let mut clean = Vec::with_capacity(path.len() + 1);
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => clean.truncate(parent(&clean).len()),
            _ => {
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Cow::Owned(clean)
}

fn is_clean(path: &[u8]) -> bool {
    path == b"/"
        || path.strip_prefix(b"/").is_some_and(|names| {
            !names.split(|byte| *byte == b'/').any(|name| matches!(name, b"" | b"." | b".."))
        })
}

/// What is before the last `/`: of `/a` that is empty.
fn parent(path: &[u8]) -> &[u8] {
    &path[..memchr::memrchr(b'/', path).unwrap_or(0)]
}

/// The names of a clean path, each with the length of the path up to its end.
pub(crate) fn names(path: &[u8]) -> Names<'_> {
    // The root has none.
    Names { path, start: if path.len() > 1 { 1 } else { path.len() } }
}

/// Iterates over the names of a path.
#[derive(Clone)]
pub(crate) struct Names<'a> {
    path: &'a [u8],
    start: usize,
}

impl<'a> Names<'a> {
    /// The path up to the end of the name that was returned last.
    pub(crate) fn walked(&self) -> &'a [u8] {
        &self.path[..self.start.saturating_sub(1).min(self.path.len())]
    }

    /// Whether there are no more.
    pub(crate) fn is_done(&self) -> bool {
        self.start >= self.path.len()
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.path.get(self.start..).filter(|rest| !rest.is_empty())?;
        let name = &rest[..memchr::memchr(b'/', rest).unwrap_or(rest.len())];
        self.start += name.len() + 1;
        Some(name)
    }
}

/// Whether `path` is hidden from watchers of `watched`, which is a prefix of it: a name after it starts with `_`.
pub(crate) fn is_hidden_below(watched: &[u8], path: &[u8]) -> bool {
    let rest = &path[watched.len().min(path.len())..];
    let starts_hidden = watched == b"/" && rest.first() == Some(&b'_');
    starts_hidden || memchr::memmem::find(rest, b"/_").is_some()
}

/// Whether `path` lies below the directory `above`.
pub(crate) fn is_below(above: &[u8], path: &[u8]) -> bool {
    above == b"/" && path != b"/" || path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// `path` and each of its parents, from `/` down.
pub(crate) fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let above = memchr::memchr_iter(b'/', path).map(|at| &path[..at.max(1)]);
    above.chain((path.len() > 1).then_some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go() {
        for (path, want) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("a", "/a"),
            ("/a/", "/a"),
            ("//a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../a", "/a"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/../..", "/"),
            ("./a", "/a"),
            ("/...", "/..."),
            ("/a/..b", "/a/..b"),
            ("/.a", "/.a"),
        ] {
            assert_eq!(clean(path.as_bytes()), want.as_bytes(), "{path:?}");
        }
        assert!(matches!(clean(b"/1/a"), Cow::Borrowed(_)));
    }

    #[test]
    fn names_know_how_far_they_came() {
        let mut names = names(b"/1/ab/c");
        assert!(!names.is_done());
        assert_eq!(names.next(), Some(&b"1"[..]));
        assert_eq!(names.walked(), b"/1");
        assert_eq!(names.next(), Some(&b"ab"[..]));
        assert_eq!(names.walked(), b"/1/ab");
        assert_eq!(names.next(), Some(&b"c"[..]));
        assert_eq!(names.walked(), b"/1/ab/c");
        assert!(names.is_done());
        assert_eq!(names.next(), None);
        assert_eq!(super::names(b"/").next(), None);
        assert!(super::names(b"/").is_done());
    }

    #[test]
    fn hidden_is_a_name_after_the_watched_path() {
        for (watched, path, hidden) in [
            ("/", "/_a", true),
            ("/", "/a/_b", true),
            ("/", "/a_/b", false),
            ("/a", "/a/_b", true),
            ("/a/_b", "/a/_b", false),
            ("/a/_b", "/a/_b/c", false),
            ("/a/_b", "/a/_b/_c", true),
            ("/a/b/c", "/a", false),
        ] {
            assert_eq!(is_hidden_below(watched.as_bytes(), path.as_bytes()), hidden, "{watched} {path}");
        }
    }

    #[test]
    fn prefixes_start_at_the_root() {
        let all = |path: &'static str| -> Vec<&[u8]> { prefixes(path.as_bytes()).collect() };
        assert_eq!(all("/1/a/bc"), [&b"/"[..], b"/1", b"/1/a", b"/1/a/bc"]);
        assert_eq!(all("/"), [b"/"]);
    }

    #[test]
    fn below_is_not_beside() {
        assert!(is_below(b"/a", b"/a/b") && is_below(b"/", b"/a"));
        assert!(!is_below(b"/a", b"/a") && !is_below(b"/a", b"/ab") && !is_below(b"/", b"/"));
    }
}

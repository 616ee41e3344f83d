//! Encodes paths, queries and forms.
//!
//! The bytes are those that the original client sends. A key may hold any bytes, so the input is bytes; the output is
//! ASCII.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The characters to escape in a query or a form: all but unreserved ones (spaces are handled separately).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

/// The characters to escape in a path: those of a query, except the ones that a path may contain.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// The path with one slash in front and between its parts, without `.` and `..`; a slash at the end stays.
pub fn canonical_path(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for part in &parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if parts.is_empty() || path.ends_with(b"/") {
        out.push(b'/');
    }
    out
}

/// Escapes a path.
pub(super) fn escape_path(path: &[u8]) -> String {
    percent_encode(path, PATH).to_string()
}

/// A form or a query: pairs in the order of their names.
#[derive(Debug, Clone, Default)]
pub(super) struct Form(Vec<(&'static str, Vec<u8>)>);

impl Form {
    /// Adds a pair.
    pub(super) fn add(&mut self, name: &'static str, value: impl Into<Vec<u8>>) {
        self.0.push((name, value.into()));
    }

    /// `a=1&b=two+words`, sorted by name.
    pub(super) fn encode(&self) -> String {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort_by_key(|(name, _)| *name);
        let mut out = String::new();
        for (name, value) in pairs {
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(name);
            out.push('=');
            // The set leaves spaces alone and escapes every plus sign, so each space here is one of the value.
            out.push_str(&percent_encode(value, QUERY).to_string().replace(' ', "+"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_but_keep_their_last_slash() {
        for (path, clean) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../a", "/a"),
            ("/a/", "/a/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
        ] {
            assert_eq!(String::from_utf8(canonical_path(path.as_bytes())).unwrap(), clean, "{path}");
        }
    }

    #[test]
    fn a_path_escapes_what_it_may_not_hold() {
        assert_eq!(escape_path("/clé e?#%".as_bytes()), "/cl%C3%A9%20e%3F%23%25");
        assert_eq!(escape_path(b"/a:b@c;d,e=f&g+h$i~j"), "/a:b@c;d,e=f&g+h$i~j");
        assert_eq!(escape_path(b"/a!b'c(d)e*f\\g\xff"), "/a%21b%27c%28d%29e%2Af%5Cg%FF");
    }

    #[test]
    fn a_form_is_sorted_and_escaped() {
        let mut form = Form::default();
        form.add("value", "two words & more+%");
        form.add("ttl", "100");
        assert_eq!(form.encode(), "ttl=100&value=two+words+%26+more%2B%25");
        assert_eq!(Form::default().encode(), "");
    }
}

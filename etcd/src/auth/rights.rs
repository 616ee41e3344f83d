//! The permissions of a role: patterns of keys, for reading and for writing.
//!
//! A pattern that ends in `*` matches all keys that begin with the part before it; any other pattern matches one key.
//! Keys are compared as they appear in a request's path below `/v2/keys`: `/a/*` matches `/a/`, but neither `/a` nor
//! `/a?recursive=true`. A recursive request needs a pattern with `*` that matches its key.

use std::collections::BTreeSet;

use serde::Serialize;

use super::AuthRefusal;

/// One access to a key, to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access<'a> {
    /// The path below `/v2/keys`, unescaped, with its trailing slash if it has one.
    pub(crate) key: &'a [u8],
    /// Writes or deletes, rather than only reads or watches.
    pub(crate) writes: bool,
    /// Includes everything below the key.
    pub(crate) recursive: bool,
}

/// A list of strings. Go distinguishes an empty list from a missing one, and clients see `[]` or `null`.
pub(crate) type PatternList = Option<Vec<String>>;

/// The key patterns for reading and for writing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct KeyPatterns {
    pub(crate) read: PatternList,
    pub(crate) write: PatternList,
}

/// The permissions of a role. They exist for keys only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Permissions {
    pub(crate) kv: KeyPatterns,
}

impl Permissions {
    /// Permission to read and write everything below `/`.
    pub(crate) fn all() -> Permissions {
        let all = || Some(vec!["/*".to_owned()]);
        Permissions { kv: KeyPatterns { read: all(), write: all() } }
    }

    pub(crate) fn is_empty(&self) -> bool {
        [&self.kv.read, &self.kv.write].into_iter().flatten().all(Vec::is_empty)
    }

    pub(crate) fn allows(&self, access: Access<'_>) -> bool {
        let patterns = if access.writes { &self.kv.write } else { &self.kv.read };
        patterns.iter().flatten().any(|pattern| pattern_covers(pattern.as_bytes(), access))
    }

    /// Adds the patterns of `more`, which must all be new.
    pub(crate) fn granted(&self, more: &Permissions) -> Result<Permissions, AuthRefusal> {
        let read = added(&self.kv.read, &more.kv.read)
            .map_err(|pattern| AuthRefusal::PatternGranted { kind: "read", pattern })?;
        let write = added(&self.kv.write, &more.kv.write)
            .map_err(|pattern| AuthRefusal::PatternGranted { kind: "write", pattern })?;
        Ok(Permissions { kv: KeyPatterns { read: Some(read), write: Some(write) } })
    }

    /// Removes the patterns of `less`; missing ones are ignored.
    pub(crate) fn revoked(&self, less: &Permissions) -> Permissions {
        let without = |all: &PatternList, less: &PatternList| {
            let mut left: BTreeSet<&String> = all.iter().flatten().collect();
            for pattern in less.iter().flatten() {
                left.remove(pattern);
            }
            Some(left.into_iter().cloned().collect())
        };
        let read = without(&self.kv.read, &less.kv.read);
        let write = without(&self.kv.write, &less.kv.write);
        Permissions { kv: KeyPatterns { read, write } }
    }
}

/// Whether a pattern matches an access. An empty pattern matches nothing.
fn pattern_covers(pattern: &[u8], access: Access<'_>) -> bool {
    match pattern.split_last() {
        Some((b'*', start)) => access.key.starts_with(start),
        Some(_) => !access.recursive && access.key == pattern,
        None => false,
    }
}

/// The union of `list` and `more`, sorted. The error is the first element of `more` that is a duplicate.
pub(super) fn added(list: &PatternList, more: &PatternList) -> Result<Vec<String>, String> {
    let mut all: BTreeSet<&String> = list.iter().flatten().collect();
    for new in more.iter().flatten() {
        if !all.insert(new) {
            return Err(new.clone());
        }
    }
    Ok(all.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> PatternList {
        Some(list.iter().map(|pattern| (*pattern).to_owned()).collect())
    }

    fn reading(list: &[&str]) -> Permissions {
        Permissions { kv: KeyPatterns { read: patterns(list), write: None } }
    }

    fn reads(list: &[&str], key: &str, recursive: bool) -> bool {
        reading(list).allows(Access { key: key.as_bytes(), writes: false, recursive })
    }

    #[test]
    fn a_star_at_the_end_stands_for_all_that_begin_so() {
        for key in ["/app/", "/app/x", "/app/x/y", "/app/*"] {
            assert!(reads(&["/app/*"], key, false) && reads(&["/app/*"], key, true), "{key}");
        }
        for key in ["", "/", "/app", "/apple", "/other/app/x", "app/x"] {
            assert!(!reads(&["/app/*"], key, false) && !reads(&["/app/*"], key, true), "{key}");
        }
        assert!(reads(&["/app*"], "/apple", true));
        assert!(reads(&["*"], "", true), "the root without its slash");
        assert!(!reads(&["/*"], "", false));
        assert!(!reads(&["/*/x"], "/a/x", false), "a star elsewhere is a star");
        assert!(reads(&["/*/x"], "/*/x", false));
    }

    #[test]
    fn without_a_star_it_is_one_key_and_nothing_below() {
        assert!(reads(&["/one"], "/one", false));
        for key in ["/one/", "/one/x", "/on", ""] {
            assert!(!reads(&["/one"], key, false), "{key}");
        }
        assert!(!reads(&["/one"], "/one", true));
        assert!(reads(&["/none", "/one", "/o*"], "/one", true), "one pattern is enough");
    }

    #[test]
    fn an_empty_pattern_is_for_nothing() {
        assert!(!reads(&[""], "", false));
        assert!(!reads(&[""], "/a", true));
        assert!(!reads(&[], "/a", false));
    }

    #[test]
    fn reading_and_writing_are_apart() {
        let permissions =
            Permissions { kv: KeyPatterns { read: patterns(&["/r"]), write: patterns(&["/w/*"]) } };
        let may =
            |key: &str, writes| permissions.allows(Access { key: key.as_bytes(), writes, recursive: false });
        assert_eq!((may("/r", false), may("/r", true)), (true, false));
        assert_eq!((may("/w/k", false), may("/w/k", true)), (false, true));
    }

    #[test]
    fn what_is_granted_must_be_new() {
        let granted = reading(&["/b", "/a"]).granted(&reading(&["/c"])).unwrap();
        assert_eq!(granted.kv, KeyPatterns { read: patterns(&["/a", "/b", "/c"]), write: patterns(&[]) });
        let twice = reading(&["/a"]).granted(&reading(&["/x", "/a"])).unwrap_err();
        assert_eq!(twice.to_string(), "auth: Granting duplicate read permission /a");
        assert!(reading(&[]).granted(&reading(&["/x", "/x"])).is_err());
    }

    #[test]
    fn what_is_revoked_need_not_be_there() {
        let left = reading(&["/b", "/a"]).revoked(&reading(&["/a", "/z"]));
        assert_eq!(left.kv, KeyPatterns { read: patterns(&["/b"]), write: patterns(&[]) });
        assert!(left.revoked(&left.clone()).is_empty());
    }
}

//! The store of etcd 0.4, alone or in a snapshot file: read as a whole, since 0.4 held it in memory too.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use shared::legacy;
use shared::store::Store;
use shared::time::UnixNanos;

use super::ledger::SourcePosition;
use super::{ImportNode, NodeContent, SourceItem};

/// The parts of a snapshot to import.
pub(super) struct Snapshot {
    store: Store,
    /// The directories and keys to walk, one after the other.
    starts: Vec<Vec<u8>>,
}

/// The store in a snapshot file.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn state(file: Vec<u8>) -> Result<Vec<u8>, String> {
    legacy::snapshot::decode(file).map(|snapshot| snapshot.state).map_err(|damage| damage.to_string())
}

impl Snapshot {
    /// Reads the store.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn read(json: &[u8]) -> Result<Snapshot, String> {
        let store = Store::recover(json, 1).map_err(|error| {
            let hint = match std::str::from_utf8(&json[..json.len().min(16)]) {
                Ok(_) => "",
                Err(_) => " (a snapshot of 2.x is exported first, by etcd-dump export)",
            };
            format!("{error}{hint}")
        })?;
        Ok(Snapshot { store, starts: vec![b"/".to_vec()] })
    }

    /// Adds hidden keys and directories.
    ///
    /// # Errors
    /// If one does not exist.
    pub(super) fn with_hidden(mut self, hidden: &[OsString]) -> Result<Snapshot, String> {
        for key in hidden {
            let key = key.as_bytes();
            if let Err(error) = self.store.walk(key, false) {
                return Err(format!("{} ({})", error.message(), String::from_utf8_lossy(&error.cause)));
            }
            self.starts.push(key.to_vec());
        }
        Ok(self)
    }

    /// Passes the nodes to `send`, until it returns false. Of the directories only those with a time to live, or with
    /// `dirs` all: the others are created with their keys. `now` decides what has expired.
    pub(super) fn visit(
        &self,
        dirs: bool,
        now: impl Fn() -> UnixNanos,
        send: &mut dyn FnMut(SourceItem) -> bool,
    ) {
        let mut position = SourcePosition::default();
        for start in &self.starts {
            // Their existence was checked before.
            let Ok(mut walk) = self.store.walk(start, false) else { continue };
            // An expired directory, with a slash after it.
            let mut over: Option<Vec<u8>> = None;
            while let Some(node) = walk.step() {
                position.line += 1;
                let is_below = over.as_ref().is_some_and(|above| node.path.starts_with(above));
                if is_below || node.expiration.is_some_and(|at| at <= now()) {
                    if node.is_dir() && !is_below {
                        over = Some([node.path, b"/"].concat());
                    }
                    if !send(SourceItem::Expired(position)) {
                        return;
                    }
                    continue;
                }
                let content = match node.value {
                    Some(value) => NodeContent::Value(value.to_vec()),
                    None => {
                        let path = String::from_utf8_lossy(node.path).into_owned();
                        if !send(SourceItem::Entering(path)) {
                            return;
                        }
                        if node.path == b"/" || (node.expiration.is_none() && !dirs) {
                            continue;
                        }
                        NodeContent::Dir
                    }
                };
                let (key, expiration) = (node.path.to_vec(), node.expiration);
                if !send(SourceItem::Node(ImportNode { key, content, expiration, position })) {
                    return;
                }
            }
        }
        send(SourceItem::End(None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = r#"{"Root":{"Path":"/","ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"","Children":{
        "a":{"Path":"/a","ExpireTime":"0001-01-01T00:00:00Z","Value":"1","Children":null},
        "d":{"Path":"/d","ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
            "e":{"Path":"/d/e","ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}},
            "t":{"Path":"/d/t","ExpireTime":"2030-01-01T00:00:00Z","Value":"","Children":{}}}},
        "o":{"Path":"/o","ExpireTime":"2001-01-01T00:00:00Z","Value":"","Children":{
            "k":{"Path":"/o/k","ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":null}}},
        "oo":{"Path":"/oo","ExpireTime":"2001-01-01T00:00:00Z","Value":"","Children":null},
        "_h":{"Path":"/_h","ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
            "x":{"Path":"/_h/x","ExpireTime":"0001-01-01T00:00:00Z","Value":"hid","Children":null}}}}},
        "CurrentIndex":9,"CurrentVersion":2}"#;
    const NOW: UnixNanos = UnixNanos(1_500_000_000_000_000_000);

    fn visited(hidden: &[&str], dirs: bool) -> Vec<String> {
        let hidden: Vec<OsString> = hidden.iter().map(OsString::from).collect();
        let snapshot = Snapshot::read(STORE.as_bytes()).unwrap().with_hidden(&hidden).unwrap();
        let mut said = Vec::new();
        snapshot.visit(dirs, || NOW, &mut |found| {
            said.push(match found {
                SourceItem::Entering(path) => format!("in {path}"),
                SourceItem::Expired(_) => "over".to_owned(),
                SourceItem::Node(ImportNode { key, content: NodeContent::Dir, .. }) => {
                    format!("dir {}", String::from_utf8_lossy(&key))
                }
                SourceItem::Node(item) => String::from_utf8_lossy(&item.key).into_owned(),
                SourceItem::End(None) => "end".to_owned(),
                other => panic!("{other:?}"),
            });
            true
        });
        said
    }

    #[test]
    fn directories_come_with_their_keys_or_their_time_or_when_asked_for() {
        assert_eq!(
            visited(&[], false),
            ["in /", "/a", "in /d", "in /d/e", "in /d/t", "dir /d/t", "over", "over", "over", "end"]
        );
        let all = visited(&["/_h"], true);
        for expected in ["dir /d", "dir /d/e", "dir /d/t", "in /_h", "dir /_h", "/_h/x"] {
            assert!(all.iter().any(|said| said == expected), "{expected}");
        }
        assert!(!all.contains(&"dir /".to_owned()) && !all.contains(&"dir /o".to_owned()));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let hidden = |key: &str| {
            Snapshot::read(STORE.as_bytes()).unwrap().with_hidden(&[OsString::from(key)]).err().unwrap()
        };
        assert_eq!(hidden("/_nope"), "Key not found (/_nope)");
        assert_eq!(hidden("/a/b"), "Not a directory (/a)");
        let error = Snapshot::read(b"not json").err().unwrap();
        assert_eq!(error, "at byte 0 of the store's JSON: no object");
        assert!(Snapshot::read(b"\x08\xb0\xff").err().unwrap().contains("etcd-dump export"));
    }
}

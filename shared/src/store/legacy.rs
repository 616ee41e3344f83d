//! Functions for the migration of an old store: a snapshot of 0.x as a store of 2.x, nodes with given indexes in an
//! image, and comparisons of whole images.
//!
//! Requests always increase the index. The image of a migrated store has nodes that 0.x kept elsewhere, with the
//! indexes at which 0.x made them, and the index is still that of 0.x.

use std::sync::Arc;

use super::children::{Children, Iter};
use super::history::History;
use super::image::Image;
use super::node::{Child, Dir, Key, Meta};
use super::recover::{RecoverError, expirations, recover, version_0_1};
use super::tree::{FoundNode, Tree};
use super::{INDEX_MAX, Store};
use crate::error::ApiError;
use crate::event::{Action, Event};

/// How many events a snapshot of 0.x holds.
const LEGACY_HISTORY: usize = 1000;

/// The number and size of the nodes below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeCounts {
    /// Keys.
    pub keys: u64,
    /// Directories, without the one at the path.
    pub directories: u64,
    /// Keys and directories that expire.
    pub expiring: u64,
    /// Bytes of the keys' paths relative to the path, each with its leading slash.
    pub path_bytes: u64,
    /// Bytes of the keys' values.
    pub value_bytes: u64,
}

impl Store {
    /// The store in the state of a snapshot of 0.1, 0.2 or 0.4, with its keys below `/1`, the index of 0.x and the
    /// newest `history_length` events (at least 1).
    ///
    /// In snapshots of 0.4 the modified index of each node is its created index. With `mend` it is corrected from the
    /// events in the snapshot.
    ///
    /// # Errors
    /// Where the text is no store, and why.
    pub fn recover_legacy(json: &[u8], history_length: usize, mend: bool) -> Result<Store, RecoverError> {
        let mut store = match version_0_1::is_0_1(json) {
            true => version_0_1::recover(json, LEGACY_HISTORY)?,
            false => recover(json, LEGACY_HISTORY)?,
        };
        if store.index > INDEX_MAX {
            return Err(RecoverError { offset: 0, problem: "a CurrentIndex that no store comes to" });
        }
        let events: Vec<Arc<Event>> =
            (0..LEGACY_HISTORY).filter_map(|slot| store.history.slot(slot).cloned()).collect();
        for event in events.iter().filter(|_| mend) {
            if matches!(event.action, Action::Update | Action::CompareAndSwap) {
                restore_modified(&mut store.tree, event);
            }
        }
        let mut root = triomphe::Arc::unwrap_or_clone(store.tree.root);
        let (meta, children) = (root.meta, std::mem::take(&mut root.children));
        let mut tree = Tree::new(&[b"0"]);
        triomphe::Arc::make_mut(&mut tree.root).children.insert(Child::dir(Dir::new(b"1", meta, children)));
        store.tree = tree;
        if !store.expirations.is_empty() {
            store.expirations = expirations(&store.tree);
        }
        let mut newest: Vec<Arc<Event>> = events;
        newest.sort_unstable_by_key(|event| event.node.meta.modified);
        let from = newest.len().saturating_sub(history_length.max(1));
        let below_1 = |event: &Arc<Event>| {
            Arc::new(Event { key: Arc::from([b"/1", &*event.key].concat()), ..Event::clone(event) })
        };
        store.history = History::with_events(newest[from..].iter().map(below_1).collect(), 0, history_length);
        Ok(store)
    }
}

/// Sets the modified index of a key from an event, if it is still the key of that event.
fn restore_modified(tree: &mut Tree, event: &Event) {
    let after = event.node.meta;
    let Ok(mut path_end) = tree.walk_to(&event.key, 0) else { return };
    let Ok(Child::Key(_, key)) = path_end.existing(0) else { return };
    let meta = key.meta();
    if meta.created == after.created && meta.modified < after.modified {
        let meta = Meta { modified: after.modified, ..meta };
        *key = Key::new(key.name(), key.value(), meta, &mut Vec::new());
    }
}

impl Image {
    /// Puts a key (or, without a value, an empty directory) at a clean path other than `/`, replacing an existing
    /// node. Missing parents get its created index. The image's index stays.
    ///
    /// # Errors
    /// 104 where a key stands in the way.
    pub fn put_node(
        &mut self,
        path: &[u8],
        value: Option<&[u8]>,
        created: u64,
        modified: u64,
    ) -> Result<(), ApiError> {
        let meta = Meta { created, modified, expiration: None };
        let path_end = self.tree.walk_to(path, self.index)?;
        path_end.put(created, |name| match value {
            Some(value) => Child::key(Key::new(name, value, meta, &mut Vec::new())),
            None => Child::dir(Dir::new(name, meta, Children::default())),
        });
        Ok(())
    }

    /// The node at a path, as [`Store::get`] gives it. Counted nowhere.
    ///
    /// # Errors
    /// As of [`Store::get`].
    pub fn get(&self, path: &[u8], recursive: bool) -> Result<Event, ApiError> {
        let store = Store { tree: self.tree.clone(), index: self.index, ..Store::new(1) };
        store.get(path, recursive, false)
    }

    /// Removes a node with everything below it; returns whether there was one. The image's index stays.
    pub fn remove_node(&mut self, path: &[u8]) -> bool {
        let Ok(path_end) = self.tree.walk_to(path, self.index) else { return false };
        let Ok(position) = path_end.position else { return false };
        path_end.dir.children.remove_at(&position);
        true
    }

    /// Whether there is a directory without children at a clean path.
    #[must_use]
    pub fn is_empty_dir(&self, path: &[u8]) -> bool {
        self.dir(path).is_some_and(|dir| dir.children.is_empty())
    }

    /// The created and modified index of the node at a clean path.
    #[must_use]
    pub fn indexes(&self, path: &[u8]) -> Option<(u64, u64)> {
        let meta = match self.tree.get(path, 0).ok()? {
            FoundNode::Root(dir) => dir.meta,
            FoundNode::Child(child) => child.meta(),
        };
        Some((meta.created, meta.modified))
    }

    /// Counts what lies below a clean path, and its bytes. O(nodes).
    #[must_use]
    pub fn count_nodes(&self, path: &[u8]) -> NodeCounts {
        let mut count_nodes = NodeCounts::default();
        // Each with the length of what goes before its names.
        let mut levels: Vec<(Iter<'_>, usize)> = Vec::new();
        levels.extend(self.dir(path).map(|dir| (dir.children.iter(), 1)));
        while let Some((level, length)) = levels.last_mut() {
            let Some(child) = level.next() else {
                levels.pop();
                continue;
            };
            count_nodes.expiring += u64::from(child.meta().expiration.is_some());
            let length = *length + child.name().len();
            match child {
                Child::Key(_, key) => {
                    count_nodes.keys += 1;
                    count_nodes.path_bytes += length as u64;
                    count_nodes.value_bytes += key.value().len() as u64;
                }
                Child::Dir(_, dir) => {
                    count_nodes.directories += 1;
                    levels.push((dir.children.iter(), length + 1));
                }
            }
        }
        count_nodes
    }

    /// The first path below a clean one at which two images differ in anything but a modified index. O(nodes).
    #[must_use]
    pub fn first_difference(&self, other: &Image, path: &[u8]) -> Option<Vec<u8>> {
        let (mine, theirs) = match (self.dir(path), other.dir(path)) {
            (None, None) => return None,
            (Some(mine), Some(theirs)) => (mine, theirs),
            _ => return Some(path.to_vec()),
        };
        let mut at = if path == b"/" { Vec::new() } else { path.to_vec() };
        let mut levels = vec![(mine.children.iter(), theirs.children.iter(), at.len())];
        while let Some((mine, theirs, length)) = levels.last_mut() {
            at.truncate(*length);
            let (mine, theirs) = match (mine.next(), theirs.next()) {
                (None, None) => {
                    levels.pop();
                    continue;
                }
                (Some(only), None) | (None, Some(only)) => {
                    return Some([&at, &b"/"[..], only.name()].concat());
                }
                (Some(mine), Some(theirs)) => (mine, theirs),
            };
            at.push(b'/');
            at.extend_from_slice(mine.name().min(theirs.name()));
            let meta = |child: &Child| (child.meta().created, child.meta().expiration);
            if mine.name() != theirs.name() || meta(mine) != meta(theirs) {
                return Some(at);
            }
            match (mine, theirs) {
                (Child::Key(_, mine), Child::Key(_, theirs)) if mine.value() == theirs.value() => {}
                (Child::Dir(_, mine), Child::Dir(_, theirs)) => {
                    levels.push((mine.children.iter(), theirs.children.iter(), at.len()));
                }
                _ => return Some(at),
            }
        }
        None
    }

    fn dir(&self, path: &[u8]) -> Option<&Dir> {
        match self.tree.get(path, 0).ok()? {
            FoundNode::Root(dir) | FoundNode::Child(Child::Dir(_, dir)) => Some(dir),
            FoundNode::Child(Child::Key(..)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Expiry;
    use crate::time::UnixNanos;

    fn json(image: &Image) -> String {
        let mut out = Vec::new();
        image.write_json(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nodes_are_placed_without_a_step() {
        let mut store = Store::new(1);
        store.set(b"/1/a", false, b"v", Expiry::default(), UnixNanos(0)).unwrap();
        let mut image = store.image();
        image.put_node(b"/0/members/a1/raftAttributes", Some(b"{}"), 7, 9).unwrap();
        image.put_node(b"/0/removed_members", None, 3, 3).unwrap();
        assert!(image.put_node(b"/1/a/b", None, 1, 1).is_err());
        assert_eq!(image.index(), 1);
        assert_eq!(image.indexes(b"/0/members/a1/raftAttributes"), Some((7, 9)));
        assert_eq!(image.indexes(b"/0/members"), Some((7, 7)));
        assert!(image.is_empty_dir(b"/0/removed_members") && !image.is_empty_dir(b"/0/members"));
        let path_bytes = "/members/a1/raftAttributes".len() as u64;
        let count_nodes = NodeCounts { keys: 1, directories: 3, expiring: 0, path_bytes, value_bytes: 2 };
        assert_eq!(image.count_nodes(b"/0"), count_nodes);
        assert!(image.remove_node(b"/0/members") && !image.remove_node(b"/0/members"));
        let mut bare = Vec::new();
        image.write_json_2_0(&mut bare).unwrap();
        let bare = String::from_utf8(bare).unwrap();
        let node = r#"{"Path":"/1/a","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"v","Children":null}"#;
        assert!(bare.contains(node) && bare.ends_with(r#","CurrentIndex":1,"CurrentVersion":2}"#), "{bare}");
        // The store itself has not changed.
        assert_eq!(store.image().indexes(b"/0/removed_members"), None);
        assert!(Store::recover(json(&image).as_bytes(), 1).is_ok());
    }

    #[test]
    fn a_state_of_0_x_comes_below_1_and_gets_its_modified_indexes_back() {
        let node = |path: &str, created: u64, rest: &str| {
            format!(
                "\"{}\":{{\"Path\":\"{path}\",\"CreatedIndex\":{created},\"ModifiedIndex\":{created},{rest}}}",
                &path[1..]
            )
        };
        let never = "\"ExpireTime\":\"0001-01-01T00:00:00Z\",\"ACL\":\"\"";
        let soon = "\"ExpireTime\":\"2030-01-01T00:00:00Z\",\"ACL\":\"\"";
        let state = format!(
            "{{\"Root\":{{\"Path\":\"/\",\"CreatedIndex\":0,\"ModifiedIndex\":0,{never},\"Value\":\"\",\"Children\":{{{},{},{}}}}},\
             \"WatcherHub\":{{\"EventHistory\":{{\"Queue\":{{\"Events\":[{},{},{},null],\"Size\":3,\"Front\":0,\"Back\":3,\"Capacity\":4}},\
             \"StartIndex\":5,\"LastIndex\":7}}}},\"CurrentIndex\":7,\"CurrentVersion\":2}}",
            node("/cas", 3, &format!("{never},\"Value\":\"b\",\"Children\":null")),
            node("/set", 6, &format!("{never},\"Value\":\"c\",\"Children\":null")),
            node("/ttl", 4, &format!("{soon},\"Value\":\"\",\"Children\":{{}}")),
            r#"{"action":"compareAndSwap","node":{"key":"/cas","value":"b","modifiedIndex":5,"createdIndex":3}}"#,
            r#"{"action":"update","node":{"key":"/set","value":"b","modifiedIndex":5,"createdIndex":2}}"#,
            r#"{"action":"set","node":{"key":"/set","value":"c","modifiedIndex":6,"createdIndex":6}}"#,
        );
        // Events in a snapshot ascend; the second has the index of the first only to show that it is no use.
        let state = state.replacen(
            "\"modifiedIndex\":5,\"createdIndex\":2",
            "\"modifiedIndex\":55,\"createdIndex\":2",
            1,
        );
        let state = state.replacen(
            "\"modifiedIndex\":6,\"createdIndex\":6",
            "\"modifiedIndex\":66,\"createdIndex\":6",
            1,
        );
        let mut store = Store::recover_legacy(state.as_bytes(), 1, true).unwrap();
        let image = store.image();
        assert_eq!(image.indexes(b"/1/cas"), Some((3, 5)));
        assert_eq!(image.indexes(b"/1/set"), Some((6, 6)));
        assert_eq!(image.index(), 7);
        assert!(json(&image).contains(r#""key":"/1/set""#), "the newest event");
        assert!(image.indexes(b"/0").is_some());
        let as_it_is = Store::recover_legacy(state.as_bytes(), 1, false).unwrap();
        assert_eq!(as_it_is.image().indexes(b"/1/cas"), Some((3, 3)));
        assert_eq!(store.delete_expired(UnixNanos(i64::MAX), UnixNanos(0)), 1);
        let count_nodes = store.image().count_nodes(b"/1");
        assert_eq!((count_nodes.keys, count_nodes.directories, count_nodes.expiring), (2, 0, 0));
    }

    #[test]
    fn differences_are_found() {
        let store = |value: &[u8], more: bool| {
            let mut store = Store::new(1);
            store.set(b"/1/a/b", false, b"1", Expiry::default(), UnixNanos(0)).unwrap();
            store.set(b"/1/a/c", false, value, Expiry::default(), UnixNanos(0)).unwrap();
            if more {
                store.set(b"/1/a/d", true, b"", Expiry::default(), UnixNanos(0)).unwrap();
            }
            store.image()
        };
        let path = |one: &Image, other: &Image| one.first_difference(other, b"/1");
        assert_eq!(path(&store(b"x", false), &store(b"x", false)), None);
        assert_eq!(path(&store(b"x", false), &store(b"y", false)), Some(b"/1/a/c".to_vec()));
        assert_eq!(path(&store(b"x", true), &store(b"x", false)), Some(b"/1/a/d".to_vec()));
    }
}

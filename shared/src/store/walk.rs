//! Iteration over all nodes of a store.

use super::Store;
use super::children::Iter;
use super::node::{Child, Dir, Meta};
use super::path::clean;
use super::tree::{FoundNode, Tree};
use crate::error::ApiError;
use crate::time::UnixNanos;

/// A node of a [`Walk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkedNode<'a> {
    /// Its path; that of the root is `/`.
    pub path: &'a [u8],
    /// Its value; `None` for a directory.
    pub value: Option<&'a [u8]>,
    /// The store's index at its creation.
    pub created: u64,
    /// The store's index of its last change.
    pub modified: u64,
    /// When it expires.
    pub expiration: Option<UnixNanos>,
}

impl WalkedNode<'_> {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.value.is_none()
    }
}

/// Iterates over a node and everything below it, parents before children, children by name. Made by [`Store::walk`].
///
/// Uses a stack of its own: a tree may be deeper than a thread's stack allows.
pub struct Walk<'a> {
    start: Option<Start<'a>>,
    path: Vec<u8>,
    /// The children that are still to come, each with the length of its directory's path.
    levels: Vec<(Iter<'a>, usize)>,
    hidden: bool,
}

enum Start<'a> {
    Dir(&'a Dir),
    Child(&'a Child),
}

impl Store {
    /// Iterates over the node at a path and everything below it. Without `hidden`, hidden nodes are skipped with
    /// everything below them, except the node at the path itself.
    ///
    /// # Errors
    /// 100 or 104 if there is no node at the path.
    pub fn walk(&self, path: &[u8], hidden: bool) -> Result<Walk<'_>, ApiError> {
        walk(&self.tree, self.index, path, hidden)
    }
}

/// The nodes of a store at one moment, without later writes. Made by [`Store::nodes`].
pub struct Nodes {
    tree: Tree,
    index: u64,
}

impl Store {
    /// The present nodes, for reading while writes continue. O(1); while they are held, a write copies what it shares
    /// with them.
    pub fn nodes(&self) -> Nodes {
        Nodes { tree: self.tree.clone(), index: self.index }
    }
}

impl Nodes {
    /// The store's index at that moment.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// As [`Store::walk`].
    ///
    /// # Errors
    /// 100 or 104 if there is no node at the path.
    pub fn walk(&self, path: &[u8], hidden: bool) -> Result<Walk<'_>, ApiError> {
        walk(&self.tree, self.index, path, hidden)
    }
}

fn walk<'a>(tree: &'a Tree, index: u64, path: &[u8], hidden: bool) -> Result<Walk<'a>, ApiError> {
    let path = clean(path);
    let start = match tree.get(&path, index)? {
        FoundNode::Root(dir) => Start::Dir(dir),
        FoundNode::Child(child) => Start::Child(child),
    };
    Ok(Walk { start: Some(start), path: path.into_owned(), levels: Vec::new(), hidden })
}

impl<'a> Walk<'a> {
    /// The next node; `None` at the end.
    pub fn step(&mut self) -> Option<WalkedNode<'_>> {
        match self.start.take() {
            Some(Start::Dir(dir)) => return Some(self.dir(dir)),
            Some(Start::Child(child)) => return Some(self.child(child)),
            None => {}
        }
        let hidden = self.hidden;
        let child = loop {
            let (children, length) = self.levels.last_mut()?;
            self.path.truncate(*length);
            match children.find(|child| hidden || !child.is_hidden()) {
                Some(child) => break child,
                None => drop(self.levels.pop()),
            }
        };
        if self.path.last() != Some(&b'/') {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(child.name());
        Some(self.child(child))
    }

    /// Skips the nodes below the directory that the last [`step`](Walk::step) returned.
    pub fn pass_over(&mut self) {
        if self.levels.last().is_some_and(|(_, length)| *length == self.path.len()) {
            self.levels.pop();
        }
    }

    fn child(&mut self, child: &'a Child) -> WalkedNode<'_> {
        match child {
            Child::Key(_, key) => visited(&self.path, key.meta(), Some(key.value())),
            Child::Dir(_, dir) => self.dir(dir),
        }
    }

    fn dir(&mut self, dir: &'a Dir) -> WalkedNode<'_> {
        self.levels.push((dir.children.iter(), self.path.len()));
        visited(&self.path, dir.meta, None)
    }
}

fn visited<'a>(path: &'a [u8], meta: Meta, value: Option<&'a [u8]>) -> WalkedNode<'a> {
    let Meta { created, modified, expiration } = meta;
    WalkedNode { path, value, created, modified, expiration }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Expiry;

    fn store() -> Store {
        let mut store = Store::new(10);
        let now = UnixNanos(0);
        for key in ["/b/y", "/b/x/deep", "/a", "/_h/in", "/b/_secret", "/c"] {
            store.create(key.as_bytes(), false, key.as_bytes(), false, Expiry::default(), now).unwrap();
        }
        store.create(b"/empty", true, b"", false, Expiry::default(), now).unwrap();
        store
    }

    fn paths(path: &str, hidden: bool) -> Vec<String> {
        let store = store();
        let mut walk = store.walk(path.as_bytes(), hidden).unwrap();
        let mut paths = Vec::new();
        while let Some(node) = walk.step() {
            let slash = if node.is_dir() { "/" } else { "" };
            paths.push(format!("{}{slash}", String::from_utf8_lossy(node.path)));
        }
        paths
    }

    #[test]
    fn parents_come_before_children_and_all_by_name() {
        let all = ["//", "/0/", "/1/", "/a", "/b/", "/b/x/", "/b/x/deep", "/b/y", "/c", "/empty/"];
        assert_eq!(paths("/", false), all);
        assert!(paths("/", true).contains(&"/_h/in".to_owned()));
        assert!(paths("/", true).contains(&"/b/_secret".to_owned()));
        assert_eq!(paths("b/x", false), ["/b/x/", "/b/x/deep"]);
        assert_eq!(paths("/_h", false), ["/_h/", "/_h/in"]);
        assert_eq!(paths("/a", false), ["/a"]);
        let error = store().walk(b"/b/nope/x", false).err().unwrap();
        assert_eq!((error.code(), error.cause), (100, b"/b/nope".to_vec()));
    }

    #[test]
    fn nodes_show_what_was_there() {
        let mut store = store();
        let nodes = store.nodes();
        store.delete(b"/b", true, true, UnixNanos(0)).unwrap();
        let mut walk = nodes.walk(b"/b", false).unwrap();
        let mut paths = Vec::new();
        while let Some(node) = walk.step() {
            paths.push(String::from_utf8_lossy(node.path).into_owned());
        }
        assert_eq!(paths, ["/b", "/b/x", "/b/x/deep", "/b/y"]);
        assert!(store.walk(b"/b", false).is_err());
    }

    #[test]
    fn a_directory_can_be_passed_over() {
        let store = store();
        let mut walk = store.walk(b"/", true).unwrap();
        let mut seen = Vec::new();
        while let Some(node) = walk.step() {
            let (path, is_b) = (node.path.to_vec(), node.path == b"/b");
            assert!(node.value.is_none_or(|value| value == node.path));
            seen.push(path);
            if is_b {
                walk.pass_over();
            }
        }
        assert!(!seen.iter().any(|path| path.starts_with(b"/b/")));
        assert_eq!(seen.len(), 9);
    }
}

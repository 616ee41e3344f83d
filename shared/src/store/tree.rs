//! The tree, and walks to its nodes.

use triomphe::Arc;

use super::children::{Children, Position};
use super::node::{Child, Dir, Meta};
use super::path::{Names, names};
use crate::error::{ApiError, Code};

/// The tree of all nodes. Cloning takes one reference.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) root: Arc<Dir>,
}

/// The node at a path.
pub(crate) enum FoundNode<'t> {
    Root(&'t Arc<Dir>),
    Child(&'t Child),
}

/// The end of a path in a tree that is being changed: its deepest existing directory, and the rest of the path.
pub(crate) struct PathEnd<'t, 'p> {
    /// That directory; it is not shared.
    pub(crate) dir: &'t mut Dir,
    /// The name after it.
    pub(crate) name: &'p [u8],
    /// The position of that name among its children, or, as an error, where it would be.
    pub(crate) position: Result<Position, Position>,
    /// The names after that one; empty if that one exists.
    pub(crate) rest: Names<'p>,
}

impl Tree {
    /// A tree with these empty directories below its root.
    pub(crate) fn new(names: &[&[u8]]) -> Tree {
        let mut root = Dir::default();
        for name in names {
            root.children.insert(Child::dir(Dir::new(name, Meta::default(), Children::default())));
        }
        Tree { root: Arc::new(root) }
    }

    /// The node at a clean path.
    ///
    /// # Errors
    /// 100 with the first part of the path that is missing, 104 with the key that stands in the way.
    pub(crate) fn get(&self, path: &[u8], index: u64) -> Result<FoundNode<'_>, ApiError> {
        let mut names = names(path);
        let mut found = FoundNode::Root(&self.root);
        loop {
            let above = names.walked();
            let Some(name) = names.next() else { return Ok(found) };
            let dir = match found {
                FoundNode::Root(dir) | FoundNode::Child(Child::Dir(_, dir)) => dir,
                FoundNode::Child(Child::Key(..)) => return Err(ApiError::new(Code::NotDir, above, index)),
            };
            let child = dir.children.get(name);
            found = FoundNode::Child(
                child.ok_or_else(|| ApiError::new(Code::KeyNotFound, names.walked(), index))?,
            );
        }
    }

    /// Walks a clean path other than `/`, to change its node. Copies the shared directories on the path.
    ///
    /// # Errors
    /// 104 with the key that stands in the way.
    pub(crate) fn walk_to<'t, 'p>(
        &'t mut self,
        path: &'p [u8],
        index: u64,
    ) -> Result<PathEnd<'t, 'p>, ApiError> {
        let mut names = names(path);
        let mut dir = Arc::make_mut(&mut self.root);
        loop {
            let name = names.next().unwrap_or_default();
            let position = dir.children.find(name);
            let here = match position {
                Ok(here) if !names.is_done() => here,
                _ => return Ok(PathEnd { dir, name, position, rest: names }),
            };
            match dir.children.at_mut(&here) {
                Child::Dir(_, below) => dir = Arc::make_mut(below),
                Child::Key(..) => return Err(ApiError::new(Code::NotDir, names.walked(), index)),
            }
        }
    }
}

impl PathEnd<'_, '_> {
    /// The node there.
    ///
    /// # Errors
    /// 100 with the first part of the path that is missing.
    pub(crate) fn existing(&mut self, index: u64) -> Result<&mut Child, ApiError> {
        match &self.position {
            Ok(position) => Ok(self.dir.children.at_mut(position)),
            Err(_) => Err(self.missing(index)),
        }
    }

    /// The error that says what is missing.
    pub(crate) fn missing(&self, index: u64) -> ApiError {
        ApiError::new(Code::KeyNotFound, self.rest.walked(), index)
    }

    /// Puts a node there. `make` gets its name. If its parents are missing, they are made at `index` too.
    pub(crate) fn put(self, index: u64, make: impl FnOnce(&[u8]) -> Child) {
        let position = match self.position {
            Ok(position) => {
                *self.dir.children.at_mut(&position) = make(self.name);
                return;
            }
            Err(position) => position,
        };
        // From the node upwards, so that the tree is changed once; without recursion.
        let mut missing: Vec<&[u8]> = std::iter::once(self.name).chain(self.rest).collect();
        let mut child = make(missing.pop().unwrap_or_default());
        while let Some(name) = missing.pop() {
            let meta = Meta { created: index, modified: index, expiration: None };
            child = Child::dir(Dir::new(name, meta, Children::from_sorted(vec![child])));
        }
        self.dir.children.insert_at(&position, child);
    }
}

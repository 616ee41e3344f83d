//! Iterates over a part of a tree.

use std::slice;

use smallvec::SmallVec;

use super::{Child, Leaf, Node, Tree, Weighed, slot_of};

/// Entries in order of their keys.
#[derive(Clone)]
pub(crate) struct Iter<'a, V> {
    above: SmallVec<[slice::Iter<'a, Child<V>>; 6]>,
    leaf: Option<&'a Leaf<V>>,
    /// The next slot of the leaf, and the first that is not in the range.
    next: usize,
    end: usize,
    to: Option<&'a [u8]>,
}

impl<'a, V: Weighed> Iter<'a, V> {
    pub(super) fn new(tree: &'a Tree<V>, from: &[u8], to: Option<&'a [u8]>) -> Iter<'a, V> {
        let mut iter = Iter { above: SmallVec::new(), leaf: None, next: 0, end: 0, to };
        if to.is_some_and(|to| to <= from) {
            return iter;
        }
        let Some(mut node) = tree.root.as_deref() else { return iter };
        loop {
            match node {
                Node::Inner(children) => {
                    let slot = slot_of(children, from);
                    iter.above.push(children[slot + 1..].iter());
                    node = &children[slot].node;
                }
                Node::Leaf(leaf) => {
                    iter.enter(leaf);
                    iter.next = leaf.position(from);
                    return iter;
                }
            }
        }
    }

    fn enter(&mut self, leaf: &'a Leaf<V>) {
        self.leaf = Some(leaf);
        self.next = 0;
        self.end = self.to.map_or(leaf.len(), |to| leaf.position(to));
        if self.end < leaf.len() {
            self.above.clear();
        }
    }
}

impl<'a, V: Weighed> Iterator for Iter<'a, V> {
    type Item = (&'a [u8], &'a V);

    fn next(&mut self) -> Option<(&'a [u8], &'a V)> {
        loop {
            if let Some(leaf) = self.leaf
                && self.next < self.end
            {
                self.next += 1;
                return Some(leaf.entry(self.next - 1));
            }
            let mut node = match self.above.last_mut()?.next() {
                Some(child) => &*child.node,
                None => {
                    self.above.pop();
                    continue;
                }
            };
            loop {
                match node {
                    Node::Inner(children) => {
                        let (first, rest) = children.split_first()?;
                        self.above.push(rest.iter());
                        node = &first.node;
                    }
                    Node::Leaf(leaf) => {
                        self.enter(leaf);
                        break;
                    }
                }
            }
        }
    }
}

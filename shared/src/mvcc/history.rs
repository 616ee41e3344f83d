//! The older versions of a key: an ordered list with structural sharing, that grows at its end and shrinks at its
//! beginning.
//!
//! Most keys have none or a few, so a short list is one small piece of memory. A long one is a tree: to add a version
//! copies a node of each level at most, whoever else holds the list.

use triomphe::Arc;

use super::revision::Version;

/// A node with this many slots is full.
const SLOTS_MAX: usize = 32;

/// The older versions of a key, oldest first. Never empty.
#[derive(Clone)]
pub(crate) struct History(Arc<Node>);

#[derive(Clone)]
enum Node {
    Leaf(Vec<Version>),
    Inner(Vec<Branch>),
}

#[derive(Clone)]
struct Branch {
    /// Not greater than the versions in the node, and greater than those before it.
    from: Version,
    node: Arc<Node>,
}

impl History {
    pub(crate) fn of(version: Version) -> History {
        History(Arc::new(Node::Leaf(vec![version])))
    }

    /// Adds a version, which is newer than all others. O(log n).
    pub(crate) fn push(&mut self, version: Version) {
        if let Some(right) = Arc::make_mut(&mut self.0).push(version) {
            let from = Version { tombstone: false, ..self.oldest() };
            let left = Branch { from, node: self.0.clone() };
            self.0 = Arc::new(Node::Inner(vec![left, Branch { from: version, node: Arc::new(right) }]));
        }
    }

    /// The oldest version. O(log n).
    pub(crate) fn oldest(&self) -> Version {
        let mut node = &*self.0;
        loop {
            match node {
                Node::Leaf(versions) => return versions[0],
                Node::Inner(branches) => node = &branches[0].node,
            }
        }
    }

    /// The newest version whose main revision is at most this. O(log n).
    pub(crate) fn at(&self, main: i64) -> Option<Version> {
        let mut node = &*self.0;
        loop {
            match node {
                Node::Leaf(versions) => {
                    let end = versions.partition_point(|version| version.revision.main <= main);
                    return end.checked_sub(1).map(|last| versions[last]);
                }
                Node::Inner(branches) => {
                    let end = branches[1..].partition_point(|branch| branch.from.revision.main <= main);
                    node = &branches[end].node;
                }
            }
        }
    }

    /// Removes the oldest version. What is left, if anything. O(log n).
    pub(crate) fn without_oldest(mut self) -> Option<History> {
        Arc::make_mut(&mut self.0).pop_front();
        loop {
            let only = match &*self.0 {
                Node::Leaf(versions) => return if versions.is_empty() { None } else { Some(self) },
                Node::Inner(branches) if branches.len() > 1 => return Some(self),
                Node::Inner(branches) => branches.first()?.node.clone(),
            };
            self.0 = only;
        }
    }

    /// All versions, oldest first.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Version> {
        let mut stack = vec![(&*self.0, 0)];
        std::iter::from_fn(move || {
            loop {
                let (node, next) = stack.last_mut()?;
                let at = *next;
                *next += 1;
                match *node {
                    Node::Leaf(versions) if at < versions.len() => return Some(versions[at]),
                    Node::Inner(branches) if at < branches.len() => stack.push((&branches[at].node, 0)),
                    _ => drop(stack.pop()),
                }
            }
        })
    }
}

impl Node {
    /// Adds a version at the end. If the node was full, its new right neighbour.
    fn push(&mut self, version: Version) -> Option<Node> {
        match self {
            Node::Leaf(versions) if versions.len() < SLOTS_MAX => {
                if versions.len() == versions.capacity() {
                    versions.reserve_exact(versions.len().clamp(1, 8));
                }
                versions.push(version);
                None
            }
            Node::Leaf(_) => Some(Node::Leaf(vec![version])),
            Node::Inner(branches) => {
                let last = branches.last_mut()?;
                let right = Arc::make_mut(&mut last.node).push(version)?;
                let branch = Branch { from: version, node: Arc::new(right) };
                if branches.len() < SLOTS_MAX {
                    branches.push(branch);
                    return None;
                }
                Some(Node::Inner(vec![branch]))
            }
        }
    }

    fn pop_front(&mut self) {
        match self {
            Node::Leaf(versions) => {
                if !versions.is_empty() {
                    versions.remove(0);
                }
            }
            Node::Inner(branches) => {
                let Some(first) = branches.first_mut() else { return };
                let node = Arc::make_mut(&mut first.node);
                node.pop_front();
                let empty = match node {
                    Node::Leaf(versions) => versions.is_empty(),
                    Node::Inner(branches) => branches.is_empty(),
                };
                if empty {
                    branches.remove(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::mvcc::revision::Revision;

    fn check(history: Option<&History>, model: &VecDeque<Version>) {
        let Some(history) = history else { return assert!(model.is_empty()) };
        assert!(history.iter().eq(model.iter().copied()));
        assert_eq!(history.oldest(), model[0]);
        let last = model[model.len() - 1].revision.main;
        for main in (0..last + 2).step_by(1 + model.len() / 64) {
            let wanted = model.iter().rfind(|version| version.revision.main <= main);
            assert_eq!(history.at(main), wanted.copied(), "at {main}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_history_is_a_queue(steps in prop::collection::vec((0..400_usize, 0..400_usize), 1..12)) {
            let mut history: Option<History> = None;
            let mut model = VecDeque::new();
            let mut main = 1;
            for (pushes, pops) in steps {
                for number in 0..pushes {
                    // Some main revisions have two versions.
                    main += i64::from(number % 5 != 0);
                    let revision = Revision { main, sub: u32::from(number % 5 == 0) };
                    let version = Version { revision, tombstone: number % 7 == 0 };
                    match &mut history {
                        None => history = Some(History::of(version)),
                        Some(history) => history.push(version),
                    }
                    model.push_back(version);
                }
                let (kept, kept_model) = (history.clone(), model.clone());
                for _ in 0..pops {
                    history = history.and_then(History::without_oldest);
                    model.pop_front();
                }
                check(history.as_ref(), &model);
                check(kept.as_ref(), &kept_model);
            }
        }
    }
}

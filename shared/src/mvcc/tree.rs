//! An ordered map from byte strings, with structural sharing: a B-tree whose leaves hold their keys in one piece of
//! memory.
//!
//! A clone takes one reference. A change copies the nodes on its path only while somebody else holds them, and a leaf
//! is copied as a whole: no counter of each key is touched. Every node knows the [`Weight`] of what is below it, so
//! that whole subtrees can be counted or passed over.

mod iter;
mod leaf;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use smallvec::SmallVec;
use triomphe::Arc;

pub(crate) use self::iter::Iter;
use self::leaf::Leaf;

/// A node with this many slots is full.
const SLOTS_MAX: usize = 32;
/// A node with fewer slots is joined with a neighbour, if there is room.
const SLOTS_FEW: usize = 8;
/// A joined node has at most this many slots, so that it is not split again at once.
const SLOTS_JOINED_MAX: usize = SLOTS_MAX * 3 / 4;
/// A leaf with more bytes of keys takes no other one, so that a copy of a leaf stays cheap.
const KEY_BYTES_MAX: usize = 4096;
/// Leaves grow by this many slots at a time, so that few are reserved in vain.
const SLOTS_GROWTH: usize = 8;

/// What is known of all values below a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// How many values count as present.
    pub(crate) live: u64,
    /// How many values have something to remove.
    pub(crate) spare: u64,
    /// No value has changed after this. After a removal it may be higher than that.
    pub(crate) newest: u64,
}

/// A value that adds to the weight of its tree.
pub(crate) trait Weighed: Clone {
    /// The weight of this value alone.
    fn weight(&self) -> Weight;
}

impl Weight {
    fn add(&mut self, other: Weight) {
        self.live += other.live;
        self.spare += other.spare;
        self.newest = self.newest.max(other.newest);
    }

    fn replace(&mut self, old: Weight, new: Weight) {
        self.live = self.live + new.live - old.live;
        self.spare = self.spare + new.spare - old.spare;
        self.newest = self.newest.max(new.newest);
    }
}

/// An ordered map from byte strings to `V`.
#[derive(Clone)]
pub(crate) struct Tree<V> {
    root: Option<Arc<Node<V>>>,
    len: usize,
}

impl<V> Default for Tree<V> {
    fn default() -> Tree<V> {
        Tree { root: None, len: 0 }
    }
}

#[derive(Clone)]
enum Node<V> {
    Leaf(Leaf<V>),
    /// Never empty; all nodes below are of the same height.
    Inner(Vec<Child<V>>),
}

#[derive(Clone)]
struct Child<V> {
    /// Greater than all keys left of this node and not greater than those in it; of no meaning in the first child.
    /// Only as long as it must be to tell the nodes apart.
    from: Separator,
    node: Arc<Node<V>>,
    weight: Weight,
}

type Separator = SmallVec<[u8; 24]>;

/// How a change ended below a node: by how much the weight differs, and a new right neighbour.
struct Grown<V> {
    old: Weight,
    new: Weight,
    right: Option<Child<V>>,
}

/// Looks at a part of a tree, see [`Tree::visit`].
pub(crate) trait Visitor<V> {
    /// Whether a subtree of this weight is to be passed over. `whole` says that all of it is in the range.
    fn pass_over(&mut self, weight: Weight, whole: bool) -> bool;
    /// An entry in the range, in order of the keys.
    fn entry(&mut self, key: &[u8], value: &V) -> ControlFlow<()>;
}

impl<V: Weighed> Tree<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of a key. O(log n).
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Inner(children) => node = &children[slot_of(children, key)].node,
                Node::Leaf(leaf) => return leaf.find(key).ok().map(|slot| &leaf.slots[slot].value),
            }
        }
    }

    /// Sets the value of a key; if the key has one, `merge` gets it with the new one. O(log n).
    pub(crate) fn upsert(&mut self, key: &[u8], value: V, merge: impl FnOnce(&mut V, V)) {
        let Some(root) = &mut self.root else {
            self.root = Some(Arc::new(Node::Leaf(Leaf::of(key, value))));
            self.len = 1;
            return;
        };
        let length = &mut self.len;
        let grown = Arc::make_mut(root).upsert(key, value, merge, length);
        if let Some(right) = grown.right {
            let left = Child { from: Separator::new(), weight: root.weight(), node: root.clone() };
            *root = Arc::new(Node::Inner(vec![left, right]));
        }
    }

    /// Sets the value of a key. O(log n).
    pub(crate) fn insert(&mut self, key: &[u8], value: V) {
        self.upsert(key, value, |old, new| *old = new);
    }

    /// Changes the value of a key that is present, or removes it if `change` says so. O(log n).
    pub(crate) fn update(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> Keep) {
        if self.get(key).is_none() {
            return;
        }
        let Some(root) = &mut self.root else { return };
        let length = &mut self.len;
        Arc::make_mut(root).update(key, change, length);
        loop {
            let only = match &**root {
                Node::Leaf(leaf) if leaf.slots.is_empty() => {
                    self.root = None;
                    return;
                }
                Node::Inner(children) if children.is_empty() => {
                    self.root = None;
                    return;
                }
                Node::Inner(children) if children.len() == 1 => children[0].node.clone(),
                _ => return,
            };
            *root = only;
        }
    }

    /// Removes a key. O(log n).
    #[cfg(test)]
    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.update(key, |_| Keep::No);
    }

    /// The entries from a key on, up to another one that is not in it, or all of the rest. O(log n) to begin.
    pub(crate) fn range<'a>(&'a self, from: &[u8], to: Option<&'a [u8]>) -> Iter<'a, V> {
        Iter::new(self, from, to)
    }

    /// Shows the visitor what is in `[from, to)`, subtrees first. O(log n) and what it does not pass over.
    pub(crate) fn visit(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visitor: &mut impl Visitor<V>,
    ) -> ControlFlow<()> {
        match &self.root {
            Some(root) if to.is_none_or(|to| from < to) => root.visit(Some(from), to, visitor),
            _ => ControlFlow::Continue(()),
        }
    }

    /// The weight of all values.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> Weight {
        self.root.as_ref().map(|root| root.weight()).unwrap_or_default()
    }
}

/// Whether a value stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
}

impl<V: Weighed> Node<V> {
    fn weight(&self) -> Weight {
        let mut sum = Weight::default();
        match self {
            Node::Leaf(leaf) => leaf.slots.iter().for_each(|slot| sum.add(slot.value.weight())),
            Node::Inner(children) => children.iter().for_each(|child| sum.add(child.weight)),
        }
        sum
    }

    fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.slots.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn upsert(
        &mut self,
        key: &[u8],
        value: V,
        merge: impl FnOnce(&mut V, V),
        length: &mut usize,
    ) -> Grown<V> {
        match self {
            Node::Leaf(leaf) => match leaf.find(key) {
                Ok(slot) => {
                    let present = &mut leaf.slots[slot].value;
                    let old = present.weight();
                    merge(present, value);
                    Grown { old, new: present.weight(), right: None }
                }
                Err(slot) => {
                    *length += 1;
                    let new = value.weight();
                    Grown { old: Weight::default(), new, right: leaf.insert(slot, key, value) }
                }
            },
            Node::Inner(children) => {
                let slot = slot_of(children, key);
                let child = &mut children[slot];
                let mut grown = Arc::make_mut(&mut child.node).upsert(key, value, merge, length);
                match grown.right.take() {
                    None => child.weight.replace(grown.old, grown.new),
                    Some(right) => {
                        child.weight = child.node.weight();
                        grown.right = insert_child(children, slot + 1, right);
                    }
                }
                grown
            }
        }
    }

    /// Changes the value of a key that is present. What the weight was and is.
    fn update(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut V) -> Keep,
        length: &mut usize,
    ) -> (Weight, Weight) {
        match self {
            Node::Leaf(leaf) => {
                let Ok(slot) = leaf.find(key) else { return Default::default() };
                let present = &mut leaf.slots[slot].value;
                let old = present.weight();
                if change(present) == Keep::Yes {
                    return (old, present.weight());
                }
                leaf.remove(slot);
                *length -= 1;
                (old, Weight::default())
            }
            Node::Inner(children) => {
                let slot = slot_of(children, key);
                let child = &mut children[slot];
                let (old, new) = Arc::make_mut(&mut child.node).update(key, change, length);
                child.weight.replace(old, new);
                shrink(children, slot);
                (old, new)
            }
        }
    }

    fn visit(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        visitor: &mut impl Visitor<V>,
    ) -> ControlFlow<()> {
        match self {
            Node::Leaf(leaf) => {
                let first = from.map_or(0, |from| leaf.position(from));
                let end = to.map_or(leaf.slots.len(), |to| leaf.position(to));
                for slot in leaf.slots.get(first..end).unwrap_or_default() {
                    visitor.entry(leaf.key(slot), &slot.value)?;
                }
            }
            Node::Inner(children) => {
                let first = from.map_or(0, |from| slot_of(children, from));
                let last = to.map_or(children.len() - 1, |to| slot_of(children, to));
                for (slot, child) in children.iter().enumerate().take(last + 1).skip(first) {
                    let from = from.filter(|_| slot == first);
                    let to = to.filter(|_| slot == last);
                    if !visitor.pass_over(child.weight, from.is_none() && to.is_none()) {
                        child.node.visit(from, to, visitor)?;
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The child that a key belongs into.
fn slot_of<V>(children: &[Child<V>], key: &[u8]) -> usize {
    children[1..].partition_point(|child| &child.from[..] <= key)
}

/// Puts a child in its place. If the node was full, its new right neighbour.
fn insert_child<V: Weighed>(children: &mut Vec<Child<V>>, slot: usize, child: Child<V>) -> Option<Child<V>> {
    if children.len() < SLOTS_MAX {
        children.insert(slot, child);
        return None;
    }
    let at = if slot == children.len() { slot } else { SLOTS_MAX / 2 };
    let mut right = children.split_off(at);
    if slot > at || right.is_empty() {
        right.insert(slot - at, child);
    } else {
        children.insert(slot, child);
    }
    let from = right.first_mut().map(|first| std::mem::take(&mut first.from)).unwrap_or_default();
    let node = Node::Inner(right);
    Some(Child { from, weight: node.weight(), node: Arc::new(node) })
}

/// Removes a child that got empty, and joins one that got small with a neighbour.
fn shrink<V: Weighed>(children: &mut Vec<Child<V>>, slot: usize) {
    let length = children[slot].node.len();
    if length == 0 {
        children.remove(slot);
        return;
    }
    if length >= SLOTS_FEW {
        return;
    }
    let fits = |left: usize| {
        children.get(left + 1).is_some_and(|right| children[left].node.has_room_for(&right.node))
    };
    let left = match slot.checked_sub(1) {
        _ if fits(slot) => slot,
        Some(left) if fits(left) => left,
        _ => return,
    };
    let Child { from, node, weight } = children.remove(left + 1);
    children[left].weight.add(weight);
    match (Arc::make_mut(&mut children[left].node), &*node) {
        (Node::Leaf(leaf), Node::Leaf(more)) => leaf.append(more),
        (Node::Inner(children), Node::Inner(more)) => {
            let joined = children.len();
            children.extend_from_slice(more);
            children[joined].from = from;
        }
        _ => unreachable!("nodes side by side are of the same height"),
    }
}

impl<V: Weighed> Node<V> {
    fn has_room_for(&self, right: &Node<V>) -> bool {
        let bytes = match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.bytes.len() + right.bytes.len(),
            _ => 0,
        };
        self.len() + right.len() <= SLOTS_JOINED_MAX && bytes <= KEY_BYTES_MAX
    }
}

/// The shortest string that is greater than `left` and not greater than `right`, which comes after it.
fn separator(left: &[u8], right: &[u8]) -> Separator {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    Separator::from_slice(&right[..(common + 1).min(right.len())])
}

//! Leaves of a tree: entries whose keys are in one piece of memory.

use smallvec::SmallVec;
use triomphe::Arc;

use super::{Child, KEY_BYTES_MAX, Node, SLOTS_GROWTH, SLOTS_MAX, Weighed, separator};

/// Never empty but in the middle of a change; sorted by key.
#[derive(Clone)]
pub(super) struct Leaf<V> {
    /// The keys, in any order, and the remains of removed ones.
    pub(super) bytes: Vec<u8>,
    pub(super) slots: Vec<Slot<V>>,
}

#[derive(Clone)]
pub(super) struct Slot<V> {
    at: u32,
    pub(super) len: u32,
    pub(super) value: V,
}

impl<V: Weighed> Leaf<V> {
    pub(super) fn of(key: &[u8], value: V) -> Leaf<V> {
        let mut leaf = Leaf { bytes: Vec::new(), slots: Vec::new() };
        leaf.place(0, key, value);
        leaf
    }

    pub(super) fn key(&self, slot: &Slot<V>) -> &[u8] {
        &self.bytes[slot.at as usize..][..slot.len as usize]
    }

    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.slots.last().map(|slot| self.key(slot))
    }

    /// The first slot whose key is not less than this one.
    pub(super) fn position(&self, key: &[u8]) -> usize {
        self.slots.partition_point(|slot| self.key(slot) < key)
    }

    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.slots.binary_search_by(|slot| self.key(slot).cmp(key))
    }

    /// The number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The entry of a slot.
    pub(super) fn entry(&self, slot: usize) -> (&[u8], &V) {
        let slot = &self.slots[slot];
        (self.key(slot), &slot.value)
    }

    /// Inserts a key. If the leaf was full, its new right neighbour.
    pub(super) fn insert(&mut self, slot: usize, key: &[u8], value: V) -> Option<Child<V>> {
        let full = self.slots.len() >= SLOTS_MAX
            || self.bytes.len() + key.len() > KEY_BYTES_MAX && !self.slots.is_empty();
        if !full {
            self.place(slot, key, value);
            return None;
        }
        // Keys that come in order leave full leaves behind.
        let right = if slot == self.slots.len() {
            self.slots.shrink_to_fit();
            self.bytes.shrink_to_fit();
            Leaf::of(key, value)
        } else {
            let at = self.middle();
            let mut right = self.split_off(at);
            if slot > at {
                right.place(slot - at, key, value);
            } else {
                self.place(slot, key, value);
            }
            right
        };
        let from = separator(self.last_key().unwrap_or_default(), right.key(&right.slots[0]));
        let node = Node::Leaf(right);
        Some(Child { from, weight: node.weight(), node: Arc::new(node) })
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "requests, and so keys, are far below 4 GiB; a leaf too"
    )]
    pub(super) fn place(&mut self, slot: usize, key: &[u8], value: V) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(if self.slots.is_empty() { 1 } else { SLOTS_GROWTH });
        }
        if self.bytes.capacity() - self.bytes.len() < key.len() {
            self.bytes.reserve_exact(if self.bytes.is_empty() {
                key.len()
            } else {
                key.len() * SLOTS_GROWTH
            });
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key);
        self.slots.insert(slot, Slot { at, len: key.len() as u32, value });
    }

    pub(super) fn remove(&mut self, slot: usize) {
        self.slots.remove(slot);
        let used: usize = self.slots.iter().map(|slot| slot.len as usize).sum();
        if used * 2 < self.bytes.len() {
            self.pack();
        }
    }

    /// Where to split: in the middle, or, when long keys have filled the leaf, where the bytes are best divided.
    fn middle(&self) -> usize {
        if self.slots.len() >= SLOTS_MAX {
            return self.slots.len() / 2;
        }
        let mut left = 0;
        let total: usize = self.slots.iter().map(|slot| slot.len as usize).sum();
        let larger_side = |slot: &Slot<V>| {
            let side = left.max(total - left);
            left += slot.len as usize;
            side
        };
        let sides: SmallVec<[usize; SLOTS_MAX]> = self.slots.iter().map(larger_side).collect();
        (1..sides.len()).min_by_key(|slot| sides[*slot]).unwrap_or(0)
    }

    /// Splits the slots off from one on. Both leaves hold their own keys only.
    fn split_off(&mut self, at: usize) -> Leaf<V> {
        let mut right = Leaf { bytes: self.bytes.clone(), slots: self.slots.split_off(at) };
        right.pack();
        self.pack();
        self.slots.shrink_to_fit();
        right
    }

    pub(super) fn append(&mut self, more: &Leaf<V>) {
        for slot in &more.slots {
            self.place(self.slots.len(), more.key(slot), slot.value.clone());
        }
        self.pack();
    }

    /// Drops the remains of removed keys.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "requests, and so keys, are far below 4 GiB; a leaf too"
    )]
    fn pack(&mut self) {
        let used: usize = self.slots.iter().map(|slot| slot.len as usize).sum();
        let mut bytes = Vec::with_capacity(used);
        for slot in &mut self.slots {
            let at = bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[slot.at as usize..][..slot.len as usize]);
            slot.at = at;
        }
        self.bytes = bytes;
    }
}

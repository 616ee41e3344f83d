//! Finds the selections that a key belongs to.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use interavl::IntervalTree;

use super::selection::{End, Selection};

/// Values by selection. A look-up costs O(log n) of the different ranges, and what it finds; single keys cost O(1).
#[derive(Debug)]
pub(super) struct Index<V> {
    keys: HashMap<Arc<[u8]>, V>,
    ranges: IntervalTree<Bound, V>,
    ranges_len: usize,
}

/// A place between keys.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bound {
    /// Before this key.
    At(Arc<[u8]>),
    /// Between this key and the next possible one.
    After(Arc<[u8]>),
    /// After all keys.
    Unbounded,
}

impl Bound {
    fn place(&self) -> (bool, Option<&[u8]>, bool) {
        match self {
            Bound::At(key) => (false, Some(key), false),
            Bound::After(key) => (false, Some(key), true),
            Bound::Unbounded => (true, None, false),
        }
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Bound) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Bound) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn interval(key: &Arc<[u8]>, end: Bound) -> Range<Bound> {
    Bound::At(Arc::clone(key))..end
}

/// The interval of a selection, `None` for a single key.
fn interval_of(selection: &Selection) -> Option<Range<Bound>> {
    match selection.end() {
        End::Key => None,
        End::Before(end) => Some(interval(selection.shared_key(), Bound::At(Arc::clone(end)))),
        End::Unbounded => Some(interval(selection.shared_key(), Bound::Unbounded)),
    }
}

impl<V> Default for Index<V> {
    fn default() -> Index<V> {
        Index { keys: HashMap::new(), ranges: IntervalTree::default(), ranges_len: 0 }
    }
}

impl<V: Copy> Index<V> {
    /// The value of exactly this selection.
    pub(super) fn get(&self, selection: &Selection) -> Option<V> {
        match interval_of(selection) {
            None => self.keys.get(selection.key()).copied(),
            Some(interval) => self.ranges.get(&interval).copied(),
        }
    }

    /// Adds a selection that is not there.
    pub(super) fn insert(&mut self, selection: &Selection, value: V) {
        let replaced = match interval_of(selection) {
            None => self.keys.insert(Arc::clone(selection.shared_key()), value),
            Some(interval) => {
                self.ranges_len += 1;
                self.ranges.insert(interval, value)
            }
        };
        assert!(replaced.is_none(), "a selection has two values");
    }

    pub(super) fn remove(&mut self, selection: &Selection) {
        match interval_of(selection) {
            None => {
                self.keys.remove(selection.key());
                if self.keys.len() * 4 < self.keys.capacity() {
                    self.keys.shrink_to(self.keys.len() * 2);
                }
            }
            Some(interval) => {
                self.ranges_len -= usize::from(self.ranges.remove(&interval).is_some());
            }
        }
    }

    /// Calls `found` with the value of each selection that this key belongs to.
    pub(super) fn matching(&self, key: &[u8], mut found: impl FnMut(V)) {
        if let Some(value) = self.keys.get(key) {
            found(*value);
        }
        if self.ranges_len > 0 {
            let key: Arc<[u8]> = Arc::from(key);
            let point = interval(&key, Bound::After(Arc::clone(&key)));
            for (_, value) in self.ranges.iter_overlaps(&point) {
                found(*value);
            }
        }
    }
}

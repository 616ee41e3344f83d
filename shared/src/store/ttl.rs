//! Which nodes go away when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::node::Meta;
use super::path::is_below;
use crate::time::UnixNanos;

/// The nodes with an expiration, by time and by path.
///
/// Of nodes that expire together, the one that was created first goes first: the order must not depend on
/// how a member came to its store.
#[derive(Default)]
pub(crate) struct Expirations {
    by_time: BTreeSet<(Due, Arc<[u8]>)>,
    by_path: BTreeMap<Arc<[u8]>, Due>,
}

/// When a node expires, and the index at which it was created.
type Due = (UnixNanos, u64);

impl Expirations {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    /// Takes note of a node that was made or changed. `before` is what it replaces.
    pub(crate) fn note(&mut self, path: &Arc<[u8]>, before: Option<Meta>, after: Meta) {
        if before.is_some_and(|before| before.expiration.is_some()) {
            self.forget(path);
        }
        if let Some(expiration) = after.expiration {
            let due = (expiration, after.created);
            self.by_time.insert((due, Arc::clone(path)));
            self.by_path.insert(Arc::clone(path), due);
        }
    }

    /// Takes note that a node went away, if it had an expiration.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        if let Some((path, due)) = self.by_path.remove_entry(path) {
            self.by_time.remove(&(due, path));
        }
    }

    /// Takes note that all below a directory went away. O(log n) for each of them that had an expiration.
    pub(crate) fn forget_below(&mut self, dir: &[u8]) {
        if self.is_empty() {
            return;
        }
        let first = [dir, b"/"].concat();
        let from = (Bound::Included(first.as_slice()), Bound::Unbounded);
        let below = self.by_path.range::<[u8], _>(from).take_while(|(path, _)| is_below(dir, path));
        let paths: Vec<Arc<[u8]>> = below.map(|(path, _)| Arc::clone(path)).collect();
        for path in paths {
            self.forget(&path);
        }
    }

    /// The node that goes first, if it goes at `cutoff` or before.
    pub(crate) fn first_until(&self, cutoff: UnixNanos) -> Option<Arc<[u8]>> {
        let ((expiration, _), path) = self.by_time.first()?;
        (*expiration <= cutoff).then(|| Arc::clone(path))
    }

    #[cfg(test)]
    pub(crate) fn check(&self) -> usize {
        assert_eq!(self.by_time.len(), self.by_path.len());
        assert!(self.by_time.iter().all(|(due, path)| self.by_path.get(path) == Some(due)));
        self.by_time.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(created: u64, expiration: Option<i64>) -> Meta {
        Meta { created, modified: created, expiration: expiration.map(UnixNanos) }
    }

    #[test]
    fn goes_by_time_then_by_age() {
        let mut all = Expirations::default();
        let old = meta(3, Some(50));
        all.note(&b"/c"[..].into(), None, meta(3, Some(50)));
        all.note(&b"/b"[..].into(), None, meta(9, Some(40)));
        all.note(&b"/a"[..].into(), None, meta(4, Some(40)));
        all.note(&b"/c"[..].into(), Some(old), meta(10, Some(60)));
        all.note(&b"/d"[..].into(), None, meta(11, None));
        assert_eq!(all.first_until(UnixNanos(39)), None);
        let mut order = Vec::new();
        while let Some(path) = all.first_until(UnixNanos(60)) {
            all.forget(&path);
            order.push(path);
        }
        assert_eq!(order, [b"/a"[..].into(), b"/b"[..].into(), Arc::<[u8]>::from(&b"/c"[..])]);
        assert_eq!(all.check(), 0);
    }

    #[test]
    fn forgets_what_is_below_and_nothing_beside() {
        let mut all = Expirations::default();
        for path in ["/a", "/a!", "/a/x", "/a/x/y", "/a0", "/b"] {
            all.note(&path.as_bytes().into(), None, meta(1, Some(1)));
        }
        all.forget_below(b"/a");
        let left: Vec<_> = all.by_path.keys().map(|path| std::str::from_utf8(path).unwrap()).collect();
        assert_eq!(left, ["/a", "/a!", "/a0", "/b"]);
        assert_eq!(all.check(), 4);
    }
}

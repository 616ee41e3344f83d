//! The expirations of nodes.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::node::Meta;
use super::path::is_below;
use crate::time::UnixNanos;

/// The nodes with an expiration, by time and by path.
///
/// Of nodes that expire at the same time, the one that was created first is removed first: the order must be the same
/// on every member.
#[derive(Default)]
pub(crate) struct Expirations {
    by_time: BTreeSet<(ExpiryKey, Arc<[u8]>)>,
    /// For the removal of directories with everything below them.
    by_path: BTreeSet<Arc<[u8]>>,
}

/// When a node expires, and the index at which it was created.
type ExpiryKey = (UnixNanos, u64);

fn expiry_key(meta: Meta) -> Option<ExpiryKey> {
    Some((meta.expiration?, meta.created))
}

impl Expirations {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    /// Updates a node that was made, changed or removed, by its metadata before and after.
    pub(crate) fn record(&mut self, path: &Arc<[u8]>, before: Option<Meta>, after: Option<Meta>) {
        let before = before.and_then(expiry_key);
        let after = after.and_then(expiry_key);
        if before == after {
            return;
        }
        if let Some(expiry_key) = before {
            self.by_time.remove(&(expiry_key, Arc::clone(path)));
        }
        if let Some(expiry_key) = after {
            self.by_time.insert((expiry_key, Arc::clone(path)));
        }
        match (before, after) {
            (None, Some(_)) => drop(self.by_path.insert(Arc::clone(path))),
            (Some(_), None) => drop(self.by_path.remove(path)),
            _ => {}
        }
    }

    /// Removes everything below a directory. `meta` returns the metadata of a removed node; it is called only for
    /// nodes with an expiration.
    pub(crate) fn forget_below(&mut self, dir: &[u8], meta: impl Fn(&[u8]) -> Option<Meta>) {
        if self.is_empty() {
            return;
        }
        let first = [dir, b"/"].concat();
        let from = (Bound::Included(first.as_slice()), Bound::Unbounded);
        let below = self.by_path.range::<[u8], _>(from).take_while(|path| is_below(dir, path));
        let paths: Vec<Arc<[u8]>> = below.map(Arc::clone).collect();
        for path in paths {
            self.record(&path, meta(&path), None);
        }
    }

    /// The node that expires first, if at `cutoff` or before.
    pub(crate) fn first_until(&self, cutoff: UnixNanos) -> Option<Arc<[u8]>> {
        let ((expiration, _), path) = self.by_time.first()?;
        (*expiration <= cutoff).then(|| Arc::clone(path))
    }

    #[cfg(test)]
    pub(crate) fn check(&self) -> usize {
        assert_eq!(self.by_time.len(), self.by_path.len());
        assert!(self.by_time.iter().all(|(_, path)| self.by_path.contains(path)));
        self.by_time.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(created: u64, expiration: Option<i64>) -> Meta {
        Meta { created, modified: created, expiration: expiration.map(UnixNanos) }
    }

    fn path(path: &str) -> Arc<[u8]> {
        Arc::from(path.as_bytes())
    }

    #[test]
    fn goes_by_time_then_by_age() {
        let mut all = Expirations::default();
        let old = meta(3, Some(50));
        all.record(&path("/c"), None, Some(old));
        all.record(&path("/b"), None, Some(meta(9, Some(40))));
        all.record(&path("/a"), None, Some(meta(4, Some(40))));
        all.record(&path("/c"), Some(old), Some(meta(10, Some(60))));
        all.record(&path("/d"), None, Some(meta(11, None)));
        assert_eq!(all.first_until(UnixNanos(39)), None);
        let order = [("/a", meta(4, Some(40))), ("/b", meta(9, Some(40))), ("/c", meta(10, Some(60)))];
        for (left, (name, meta)) in (0..3).rev().zip(order) {
            assert_eq!(all.first_until(UnixNanos(60)), Some(path(name)));
            all.record(&path(name), Some(meta), None);
            assert_eq!(all.check(), left);
        }
    }

    #[test]
    fn forgets_what_is_below_and_nothing_beside() {
        let mut all = Expirations::default();
        for name in ["/a", "/a!", "/a/x", "/a/x/y", "/a0", "/b"] {
            all.record(&path(name), None, Some(meta(1, Some(1))));
        }
        all.forget_below(b"/a", |_| Some(meta(1, Some(1))));
        let left: Vec<_> = all.by_path.iter().map(|path| std::str::from_utf8(path).unwrap()).collect();
        assert_eq!(left, ["/a", "/a!", "/a0", "/b"]);
        assert_eq!(all.check(), 4);
    }
}

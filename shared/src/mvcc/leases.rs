//! What the store needs of leases.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The leases that keys can be attached to.
pub trait Leases {
    /// Whether there is that lease.
    fn exists(&self, lease: i64) -> bool;
    /// The key is attached to the lease from now on. Only for leases that exist.
    fn attach(&mut self, lease: i64, key: &Bytes);
    /// The key is not attached to the lease any more: it was deleted, or put again. The lease may be gone.
    fn detach(&mut self, lease: i64, key: &[u8]);
}

/// No leases.
impl Leases for () {
    fn exists(&self, _: i64) -> bool {
        false
    }

    fn attach(&mut self, _: i64, _: &Bytes) {}

    fn detach(&mut self, _: i64, _: &[u8]) {}
}

/// Leases that never end, with their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainLeases(pub BTreeMap<i64, std::collections::BTreeSet<Bytes>>);

impl Leases for PlainLeases {
    fn exists(&self, lease: i64) -> bool {
        self.0.contains_key(&lease)
    }

    fn attach(&mut self, lease: i64, key: &Bytes) {
        if let Some(keys) = self.0.get_mut(&lease) {
            keys.insert(key.clone());
        }
    }

    fn detach(&mut self, lease: i64, key: &[u8]) {
        if let Some(keys) = self.0.get_mut(&lease) {
            keys.remove(key);
        }
    }
}

//! A committed state in memory, for tests, benches and simulations.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use triomphe::Arc;

use super::db::{Batch, Bucket, Committed, Visit};

/// The buckets as ordered maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    buckets: Arc<[BTreeMap<Bytes, Bytes>; Bucket::ALL.len()]>,
}

impl MemoryState {
    /// The state with the changes of a batch. It copies all buckets, if somebody else holds this state.
    #[must_use]
    pub fn with(mut self, batch: &Batch) -> MemoryState {
        let buckets = Arc::make_mut(&mut self.buckets);
        for bucket in Bucket::ALL {
            let map = &mut buckets[bucket as usize];
            for (key, value) in batch.changes(bucket) {
                match value {
                    Some(value) => drop(map.insert(Bytes::copy_from_slice(key), value.clone())),
                    None => drop(map.remove(key)),
                }
            }
        }
        self
    }

    /// All entries of a bucket.
    pub fn bucket(&self, bucket: Bucket) -> &BTreeMap<Bytes, Bytes> {
        &self.buckets[bucket as usize]
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, bucket: Bucket, key: Bytes, value: Bytes) {
        Arc::make_mut(&mut self.buckets)[bucket as usize].insert(key, value);
    }
}

impl Committed for MemoryState {
    type Error = Infallible;

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        Ok(self.bucket(bucket).get(key).cloned())
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Infallible> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.bucket(bucket).range::<[u8], _>((Bound::Included(from), to)) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

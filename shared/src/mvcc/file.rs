//! The database file below the store.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::db::{Batch, Bucket, Committed, Visit};
use crate::bolt::{BoltError, Changes, View};

impl Committed for View {
    type Error = BoltError;

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, BoltError> {
        match self.bucket(bucket.name().as_bytes())? {
            Some(bucket) => bucket.get(key),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), BoltError> {
        let Some(bucket) = self.bucket(bucket.name().as_bytes())? else { return Ok(()) };
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for entry in bucket.range((Bound::Included(from), end)) {
            let (key, value) = entry?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

impl Batch {
    /// The changes as the file takes them.
    #[must_use]
    pub fn to_changes(&self) -> Changes {
        let mut changes = Changes::new();
        for bucket in Bucket::ALL {
            let name = bucket.name().as_bytes();
            for (key, value) in self.changes(bucket) {
                let key = Bytes::copy_from_slice(key);
                match value {
                    Some(value) => changes.put(name, key, value.clone()),
                    None => changes.delete(name, key),
                }
            }
        }
        changes
    }
}

/// The changes that make a new database: all buckets, empty.
#[must_use]
pub fn new_buckets() -> Changes {
    let mut changes = Changes::new();
    for bucket in Bucket::ALL {
        changes.create_bucket(bucket.name());
    }
    changes
}

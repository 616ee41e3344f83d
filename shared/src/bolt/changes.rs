//! What a commit is to change.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::BoltError;

/// The longest key, and the longest name of a bucket, in bytes.
pub const KEY_BYTES_MAX: usize = 32768;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// Changes of keys in buckets, in order. A later change of a key replaces an earlier one.
///
/// Keys and values are kept as they come, without copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    buckets: BTreeMap<Bytes, BTreeMap<Bytes, Option<Bytes>>>,
}

impl Changes {
    /// Without changes.
    #[must_use]
    pub fn new() -> Changes {
        Changes::default()
    }

    /// Makes a bucket if it is missing.
    pub fn create_bucket(&mut self, name: impl Into<Bytes>) {
        self.buckets.entry(name.into()).or_default();
    }

    /// Sets a key. The bucket is made if it is missing.
    pub fn put(&mut self, bucket: &[u8], key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.of(bucket).insert(key.into(), Some(value.into()));
    }

    /// Removes a key, if it is there. The bucket is made if it is missing.
    pub fn delete(&mut self, bucket: &[u8], key: impl Into<Bytes>) {
        self.of(bucket).insert(key.into(), None);
    }

    fn of(&mut self, bucket: &[u8]) -> &mut BTreeMap<Bytes, Option<Bytes>> {
        if !self.buckets.contains_key(bucket) {
            self.buckets.insert(Bytes::copy_from_slice(bucket), BTreeMap::new());
        }
        self.buckets.get_mut(bucket).unwrap_or_else(|| unreachable!("it was made above"))
    }

    /// The changes of a bucket, by key: `None` is a removal.
    #[must_use]
    pub fn bucket(&self, name: &[u8]) -> Option<&BTreeMap<Bytes, Option<Bytes>>> {
        self.buckets.get(name)
    }

    /// All buckets that are to be made or changed, by name.
    #[must_use]
    pub fn buckets(&self) -> &BTreeMap<Bytes, BTreeMap<Bytes, Option<Bytes>>> {
        &self.buckets
    }

    /// Whether there are neither changes nor buckets to make.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The number of changed keys. Costs as much as there are buckets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.values().map(BTreeMap::len).sum()
    }

    /// Checks that the format can hold all of it.
    pub(super) fn check(&self) -> Result<(), BoltError> {
        for (name, changes) in &self.buckets {
            check_key(name)?;
            for (key, value) in changes {
                check_key(key)?;
                if let Some(value) = value.as_ref().filter(|value| value.len() > VALUE_BYTES_MAX) {
                    return Err(BoltError::ValueTooLarge(value.len()));
                }
            }
        }
        Ok(())
    }
}

fn check_key(key: &Bytes) -> Result<(), BoltError> {
    match key.len() {
        0 => Err(BoltError::KeyRequired),
        len if len > KEY_BYTES_MAX => Err(BoltError::KeyTooLarge(len)),
        _ => Ok(()),
    }
}

//! The hash over all versions of all keys up to a revision.

/// A hash over the versions of all keys up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// The revision up to which versions count.
    pub revision: i64,
    /// The compact revision at that time, −1 for none.
    pub compact_revision: i64,
    /// CRC-32C.
    pub hash: u32,
}

//! Revisions, and how they stand as keys in the bucket `key`.

use std::fmt;

/// The place of a change in the history of a store: the revision of its transaction, and its number in there from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The revision of the transaction. Never negative.
    pub main: i64,
    /// Counts the changes of one transaction.
    pub sub: u32,
}

/// The length of a revision in the database.
const PLAIN: usize = 17;
/// The same with the mark of a deletion.
const MARKED: usize = 18;

impl Revision {
    /// The first change of a transaction.
    pub const fn of(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    /// As in the database: u64 big endian, `_`, u64 big endian.
    pub fn to_bytes(self) -> [u8; PLAIN] {
        let mut bytes = [b'_'; PLAIN];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[9..].copy_from_slice(&u64::from(self.sub).to_be_bytes());
        bytes
    }

    /// Out of a key of the bucket `key` or a value of the bucket `meta`; true if it is that of a deletion.
    pub fn parse(bytes: &[u8]) -> Option<(Revision, bool)> {
        let (bytes, deletion) = match bytes.len() {
            PLAIN => (bytes, false),
            MARKED if bytes[PLAIN] == b't' => (&bytes[..PLAIN], true),
            _ => return None,
        };
        let (main, rest) = bytes.split_first_chunk::<8>()?;
        let (b'_', sub) = rest.split_first()? else { return None };
        let main = i64::try_from(u64::from_be_bytes(*main)).ok()?;
        let sub = u32::try_from(u64::from_be_bytes(sub.try_into().ok()?)).ok()?;
        Some((Revision { main, sub }, deletion))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

/// A version of a key: where its record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) revision: Revision,
    /// Whether it is a deletion.
    pub(crate) tombstone: bool,
}

impl Version {
    /// The key of its record in the bucket `key`.
    pub(crate) fn record_key(self) -> RecordKey {
        let mut bytes = [b't'; MARKED];
        bytes[..PLAIN].copy_from_slice(&self.revision.to_bytes());
        RecordKey { bytes, len: if self.tombstone { MARKED } else { PLAIN } }
    }
}

/// A key of the bucket `key`.
#[derive(Clone, Copy)]
pub(crate) struct RecordKey {
    bytes: [u8; MARKED],
    len: usize,
}

impl AsRef<[u8]> for RecordKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

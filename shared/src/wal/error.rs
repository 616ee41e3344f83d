//! Errors of the log.

use std::path::PathBuf;

use crate::disk::DiskError;
use crate::pb::WalSnapshot;

/// What is wrong with the bytes at a position of a log. The texts are those of etcd 2.x where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The checksum of a record does not match its bytes.
    #[error("walpb: crc mismatch")]
    RecordCrc,
    /// The checksum at the start of a segment is not that at the end of the previous one.
    #[error("wal: crc mismatch")]
    ChainCrc,
    /// A segment that is not the last one ends inside a record.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// The length of a record is not possible.
    #[error("wal: {}", length_words(*.0))]
    Length(i64),
    /// A record, or the message in it, is no valid protobuf.
    #[error("wal: invalid {0}")]
    Encoding(&'static str),
    /// A record of a type that etcd 2.x does not write.
    #[error("unexpected block type {0}")]
    BlockType(i64),
    /// A segment does not begin with a crc and a metadata record.
    #[error("wal: no head")]
    Head,
    /// Two metadata records differ.
    #[error("wal: conflicting metadata found")]
    MetadataConflict,
    /// An entry does not follow the one before it.
    #[error("wal: entry {found} follows entry {last}")]
    Gap {
        /// The last index that was read.
        last: u64,
        /// The index of the next entry.
        found: u64,
    },
}

impl Damage {
    /// Whether this is the length of a padded record: 3.x writes those, and 2.x never does.
    #[must_use]
    pub fn is_padded_record(&self) -> bool {
        matches!(self, Damage::Length(length) if padded_length(*length).is_some())
    }
}

/// The length that 3.x has marked as padded: the highest bit, and the number of padding bytes in the lowest three of
/// that byte.
fn padded_length(length: i64) -> Option<i64> {
    let mark = length.cast_unsigned() >> 56;
    let rest = length & (i64::MAX >> 7);
    // Lengths that nobody writes are damage.
    (matches!(mark, 0x81..=0x87) && rest < 1 << 32).then_some(rest)
}

fn length_words(length: i64) -> String {
    match padded_length(length) {
        Some(rest) => format!("a padded record of {rest} bytes: this is the log of etcd 3.x"),
        None => format!("record of {length} bytes"),
    }
}

/// A failure of the write-ahead log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The disk refused an operation; a segment that another process has locked is one of these, see
    /// [`DiskError::is_locked`].
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A log is there already.
    #[error("wal: a log exists in {0}")]
    Exists(PathBuf),
    /// No segment can hold the requested entry, or one is missing.
    #[error("wal: file not found (in {0})")]
    FileNotFound(PathBuf),
    /// A segment is damaged. Nothing was changed.
    #[error("{damage} ({file} at byte {offset})", file = file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the bad record begins.
        offset: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The log has no mark of the snapshot that it is to continue.
    #[error("wal: snapshot not found (index {}, term {})", .0.index, .0.term)]
    SnapshotNotFound(WalSnapshot),
    /// The log has a mark of a snapshot at that index, but of another term.
    #[error("wal: snapshot mismatch (index {}, term {}, the log has term {log_term})", wanted.index, wanted.term)]
    SnapshotMismatch {
        /// The requested snapshot.
        wanted: WalSnapshot,
        /// The term in the log.
        log_term: u64,
    },
    /// The log has no metadata.
    #[error("wal: no metadata found (in {0})")]
    NoMetadata(PathBuf),
    /// The commit index of the last state is beyond the end of the log. Nothing was changed.
    #[error("state.commit {commit} is out of range [{first}, {last}] ({file} at byte {offset})", file = file.display())]
    CommitBeyondEnd {
        /// The commit index of the last state.
        commit: u64,
        /// The index of the snapshot that the log continues.
        first: u64,
        /// The index of the last entry.
        last: u64,
        /// The last segment.
        file: PathBuf,
        /// Where its last good record ends.
        offset: u64,
    },
    /// An earlier write or sync failed: what is on disk is no longer known, so nothing more is written.
    #[error("wal: closed after a failed write")]
    Failed,
}

impl WalError {
    /// Whether another process holds a segment.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, WalError::Disk(error) if error.is_locked())
    }

    /// Whether a segment that is in use is no longer at its path.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        matches!(self, WalError::Disk(error) if error.is_displaced())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_3_x_is_called_that() {
        let padded = Damage::Length(-8_935_141_660_703_064_060);
        assert!(padded.is_padded_record());
        assert_eq!(padded.to_string(), "wal: a padded record of 4 bytes: this is the log of etcd 3.x");
        for length in [-1, i64::MIN, 7, i64::MAX, -8_935_141_660_703_064_060 | 1 << 40] {
            let damage = Damage::Length(length);
            assert!(!damage.is_padded_record());
            assert_eq!(damage.to_string(), format!("wal: record of {length} bytes"));
        }
    }
}

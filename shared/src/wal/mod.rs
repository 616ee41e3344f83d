//! The write-ahead log of etcd, in the forms of 2.x, 3.4 and 3.5: segments `SEQ-INDEX.wal` of framed, checksummed records.
//!
//! [`Wal`] writes it, [`Wal::open`] reads and repairs it, [`inspect`] reads it without changes, [`Stream`] reads it
//! record by record and keeps nothing, [`Reader`] decodes one segment from bytes, [`survey`] finds the readable
//! records of a damaged one. The layout of a record is in `codec`.
//!
//! Invariants of the writer: the checksum chains through all segments; in the form of 2.x a file ends at its last
//! record, without padding (space is reserved beyond the end only), in those of 3.x zeros follow the last record of the
//! last file; a segment gets its name only when it is complete and synced; nothing is written after a failed sync.

mod codec;
mod error;
mod open;
mod purge;
mod reader;
mod search;
mod segment;
mod stream;
mod survey;
mod torn;
mod writer;

pub use codec::EntryRef;
pub use error::{Damage, WalError};
pub use open::{Inspected, Recovered, Repaired, exists, inspect, inspect_any, inspect_damaged, is_padded};
pub use purge::purge;
pub(crate) use purge::purge_suffix;
pub use reader::{FileSource, Frames, ReadError, Reader, Record, SegmentEnd, SegmentSource};
pub use segment::SegmentName;
pub(crate) use segment::hex16;
pub use stream::{Stream, segments, segments_after};
pub use survey::{DamagedRange, RecordSpan, Survey, entry_at, survey};
pub use writer::{Options, SEGMENT_BYTES, Wal};

/// The form of what is written. All are read alike, but for [`Frames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Form {
    /// That of 2.x.
    #[default]
    V2,
    /// That of 3.4: records are padded to a multiple of 8 bytes, and the last segment has its whole length from the
    /// start.
    V3_4,
    /// That of 3.5: the marks of snapshots have the members too.
    V3_5,
}

impl Form {
    /// The frames that a log of this form may have.
    fn frames(self) -> Frames {
        if self == Form::V2 { Frames::V2 } else { Frames::Any }
    }
}

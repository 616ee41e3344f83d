//! The write-ahead log of etcd 2.x: segments `SEQ-INDEX.wal` of framed, checksummed records.
//!
//! [`Wal`] writes it, [`Wal::open`] reads and repairs it, [`inspect`] reads it without changes, [`Stream`] reads it
//! record by record and keeps nothing, [`Reader`] decodes one segment from bytes, [`survey`] finds the readable
//! records of a damaged one. The layout of a record is in `codec`.
//!
//! Invariants of the writer: the checksum chains through all segments; a file ends at its last record, without
//! padding (space is reserved beyond the end only); a segment gets its name only when it is complete and synced;
//! nothing is written after a failed sync.

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
pub use open::{Inspected, Recovered, Repaired, exists, inspect, inspect_any, inspect_damaged};
pub use purge::purge;
pub(crate) use purge::purge_suffix;
pub use reader::{FileSource, Frames, ReadError, Reader, Record, SegmentEnd, SegmentSource};
pub use segment::SegmentName;
pub(crate) use segment::hex16;
pub use stream::{Stream, segments, segments_after};
pub use survey::{DamagedRange, RecordSpan, Survey, entry_at, survey};
pub use writer::{SEGMENT_BYTES, Wal};

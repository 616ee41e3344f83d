//! What the store knows of the past.

use std::error::Error;

use super::event::Event;
use crate::v3::pb::mvccpb::KeyValue;

/// The history of a store, from its compacted revision on.
///
/// A view that does not change will do, as long as it is not older than the last [`notify`](super::WatchHub::notify)
/// when it is passed.
pub trait History {
    /// Why the storage could not be read.
    type Error: Error;

    /// The newest revision.
    fn current_revision(&self) -> i64;

    /// The compacted revision, 0 or less if there was no compaction. Events of this revision and later are kept.
    fn compact_revision(&self) -> i64;

    /// All events from revision `from` on, in their order, as far as `limits` allow; whole revisions only.
    ///
    /// # Errors
    /// [`Compacted`](HistoryError::Compacted) if `from` is before the compacted revision.
    fn events(&self, from: i64, limits: Limits) -> Result<Batch, HistoryError<Self::Error>>;

    /// The version of the key before this event. `None` if there was none, or if it was compacted.
    ///
    /// # Errors
    /// The storage could not be read.
    fn prev_kv(&self, event: &Event) -> Result<Option<KeyValue>, Self::Error>;
}

/// How much history is read at once. One revision is read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most revisions.
    pub revisions: usize,
    /// The most bytes of keys and values, about.
    pub bytes: usize,
}

/// A part of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The events, by revision and in the order of each transaction.
    pub events: Vec<Event>,
    /// The last revision that was read, with or without events. All from `from` on up to it are here. The current
    /// revision if no limit was reached.
    pub last: i64,
}

/// Why history cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError<E: Error> {
    /// It was compacted, maybe since the last look.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The first revision that is kept.
        compact_revision: i64,
    },
    /// The storage could not be read.
    #[error(transparent)]
    Storage(E),
}

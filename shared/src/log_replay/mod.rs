//! Replays a log: the v2 store and the members as a server has them after each entry.
//!
//! For tools that read a directory without a server. Pure; entries on which a server would stop are errors here.

mod members;

use std::collections::BTreeSet;

pub use members::{change, is_of_removed, is_removed, members, publish};

use crate::entry::{ContentError, EntryContent, content};
use crate::error::{ApiError, Code};
use crate::event::Event;
use crate::pb;
use crate::store::{RecoverError, Store};
use crate::time::UnixNanos;
use crate::v2;
use crate::wal::Frames;

/// The time is not used: remaining times are not shown here.
const NOW: UnixNanos = UnixNanos::ZERO;

/// A store and its members at one entry of a log.
pub struct LogReplay {
    store: Store,
    voters: BTreeSet<u64>,
    applied: pb::WalSnapshot,
    frames: Frames,
}

/// The result of applying an entry.
#[derive(Debug)]
pub enum Applied {
    /// The entry is empty.
    Nothing,
    /// A request to the store.
    Request(pb::Request, Result<Event, ApiError>),
    /// A request about a removed member, which servers ignore.
    OfRemoved(pb::Request),
    /// A v3 request. Only those about the membership change the store.
    V3(crate::entry::V3Request),
    /// A change of the members, and whether it was accepted.
    Change(pb::ConfChange, bool),
    /// Several changes of the members, which are not supported.
    Changes,
}

impl LogReplay {
    /// Before the first entry of a log.
    #[must_use]
    pub fn new(frames: Frames) -> LogReplay {
        let applied = pb::WalSnapshot::default();
        LogReplay {
            store: Store::new(crate::store::HISTORY_LENGTH_DEFAULT),
            voters: BTreeSet::new(),
            applied,
            frames,
        }
    }

    /// After a snapshot.
    ///
    /// # Errors
    /// If its body is not a store.
    pub fn from_snapshot(snapshot: &pb::Snapshot, frames: Frames) -> Result<LogReplay, RecoverError> {
        let json = snapshot.data.as_deref().unwrap_or_default();
        let metadata = &snapshot.metadata;
        Ok(LogReplay {
            store: Store::recover(json, crate::store::HISTORY_LENGTH_DEFAULT)?,
            voters: metadata.conf_state.nodes.iter().copied().collect(),
            applied: pb::WalSnapshot { index: metadata.index, term: metadata.term },
            frames,
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The ids of the voters.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<u64> {
        &self.voters
    }

    /// The last entry that was applied, or the snapshot.
    #[must_use]
    pub fn applied(&self) -> pb::WalSnapshot {
        self.applied
    }

    /// Applies the next entry.
    ///
    /// # Errors
    /// If it does not hold what its kind says; then nothing has changed.
    pub fn apply(&mut self, entry: &pb::Entry) -> Result<Applied, ContentError> {
        let content = content(entry, self.frames)?;
        self.applied = pb::WalSnapshot { index: entry.index, term: entry.term };
        Ok(match content {
            EntryContent::Empty => Applied::Nothing,
            EntryContent::Request(request) if is_of_removed(&self.store, &request) => {
                Applied::OfRemoved(request)
            }
            EntryContent::Request(request) => {
                let result = match v2::Request::try_from(request.clone()) {
                    Ok(request) => self.store.apply(&request, NOW),
                    Err(error) => Err(ApiError::new(Code::RaftInternal, error.to_string(), 0)),
                };
                Applied::Request(request, result)
            }
            EntryContent::V3(request) => {
                if let Some(membership) = &request.membership {
                    publish(&mut self.store, membership);
                }
                Applied::V3(request)
            }
            EntryContent::Change(made) => {
                let accepted = change(&mut self.store, &made);
                match made.kind {
                    pb::ADD_NODE if accepted => drop(self.voters.insert(made.node_id)),
                    pb::REMOVE_NODE if accepted => drop(self.voters.remove(&made.node_id)),
                    _ => {}
                }
                Applied::Change(made, accepted)
            }
            EntryContent::Changes => Applied::Changes,
        })
    }
}

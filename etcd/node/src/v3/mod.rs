//! The state of version 3: keys, leases, alarms and watches, as the entries of the log change them.
//!
//! Effects go into the newest layer of the database together with the position of their entry, so that a commit always
//! holds both: an entry that the database has is not applied again ([`V3::apply`]). Who drives the node commits the layers
//! ([`V3::take_batch`]).

mod alarms;
mod apply;
mod leases;
mod members;
mod meta;

pub(crate) use self::apply::is_applied;

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use shared::lease::{self, Lessor};
use shared::mvcc::db::{Batch, Bucket, Committed, Database};
use shared::mvcc::{self, Failure, KeyHash, Reader, Store};
use shared::time::Moment;
pub use shared::v3::Error;
use shared::v3::internal::{InternalRequest, Operation};
use shared::v3::pb::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, LeaseCheckpointRequest, LeaseCheckpointResponse,
    LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutResponse, TxnResponse,
};
use shared::version::Level;
use shared::watch::{self, WatchHub};

pub use self::alarms::{Alarm, Alarms};
use self::leases::Attachments;
pub use self::meta::{OpenError, has_voters, position};
use crate::command::Command;
use crate::machine::Position;

/// Leases that are ended with one look at the time; the lessor has a bound a second too.
const REVOKES_AT_ONCE: usize = 500;

/// What is configured about the state of version 3.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The level of the cluster.
    pub level: Level,
    /// About leases.
    pub leases: lease::Settings,
    /// About watches.
    pub watches: watch::Settings,
}

/// The answer to a request of the log, of the same kind. Headers have the revision alone.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the operations")]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseCheckpoint(LeaseCheckpointResponse),
    Alarm(AlarmResponse),
}

/// The state of version 3; see the module's documentation.
pub struct V3<C: Committed> {
    level: Level,
    store: Store<C>,
    lessor: Lessor,
    watches: WatchHub,
    alarms: Alarms,
    /// The last entry whose effects are in the store.
    position: Position,
    /// The position that the newest layer, or one below, holds.
    marked: Position,
    /// The members as the buckets have them: key and JSON.
    members: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The keys before the last compaction and its revision, until their hash is asked for.
    to_hash: Option<(Reader<C>, i64)>,
    /// Hashes that were asked for, and are not kept yet.
    hashing: usize,
    /// The tasks to wake once the state is readable again.
    wakers: Vec<Waker>,
    /// Why the state cannot be continued.
    failure: Option<StateError>,
}

/// Why a member cannot apply further entries. It has to end: it would differ from the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The database cannot be read.
    #[error("{0}")]
    Database(String),
    /// An entry asks for something that this version does not do.
    #[error("entry {index} of the log is a request that this version does not apply: {name}")]
    NotApplied {
        /// The entry.
        index: u64,
        /// The request.
        name: &'static str,
    },
}

impl<C: Committed> V3<C> {
    /// The state that a database holds.
    ///
    /// # Errors
    /// If the database cannot be read, or holds what this version cannot continue.
    pub fn open(committed: C, settings: Settings) -> Result<V3<C>, OpenError> {
        let position = meta::position(&committed)?;
        let database = Database::new(committed);
        meta::check_auth(&database)?;
        let mut lessor = leases::restore(&database, settings.leases)?;
        let alarms = Alarms::read(&database)?;
        let members = members::read(&database)?;
        let store = Store::open(database, &mut Attachments(&mut lessor)).map_err(OpenError::store)?;
        let watches = WatchHub::new(settings.watches, store.revision());
        Ok(V3 {
            level: settings.level,
            store,
            lessor,
            watches,
            alarms,
            position,
            marked: position,
            members,
            to_hash: None,
            hashing: 0,
            wakers: Vec::new(),
            failure: None,
        })
    }

    /// The last entry whose effects are in the store.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The position in the batch that was taken last, or in the database that was opened.
    pub fn marked(&self) -> Position {
        self.marked
    }

    /// The keys as they are now, for reads elsewhere. O(1).
    pub fn reader(&self) -> Reader<C> {
        self.store.reader()
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// The keys.
    pub fn store(&self) -> &Store<C> {
        &self.store
    }

    /// The leases.
    pub fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// The leases, for what only concerns the time: keep-alives, and who is the primary.
    pub fn lessor_mut(&mut self) -> &mut Lessor {
        &mut self.lessor
    }

    /// The watches. A clone is the same.
    pub fn watches(&self) -> &WatchHub {
        &self.watches
    }

    /// The alarms that are on.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Takes the tasks to wake: those whose watches have events. To be woken once the lock on the state is released.
    pub fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// Why no further entry can be applied, if that is so.
    pub fn failure(&self) -> Option<&StateError> {
        self.failure.as_ref()
    }

    /// How many changes wait for a commit.
    pub fn pending_operations(&self) -> usize {
        self.store.database().pending_operations()
    }

    /// Takes the changes for a commit, with the position that they lead to. `None` if there are none, or the last ones
    /// are not committed yet. With `mark`, a position without other changes is a change too: a snapshot relies on it.
    ///
    /// After a failure there are none: an entry may be carried out in part, and a restart applies it again as a whole.
    pub fn take_batch(&mut self, mark: bool) -> Option<Batch> {
        if self.failure.is_some() {
            return None;
        }
        let is_marked = self.marked == self.position;
        if self.store.database().pending_operations() == 0 && (is_marked || !mark) {
            return None;
        }
        if !is_marked {
            meta::put_position(self.store.database_mut(), self.position, self.level);
            self.marked = self.position;
        }
        self.store.database_mut().take_batch()
    }

    /// The batch that was taken last is committed. Returns it, so that its memory can be freed elsewhere.
    pub fn committed(&mut self, state: C) -> Option<Batch> {
        self.store.database_mut().committed(state)
    }

    /// Whether old versions wait to be removed by [`V3::compact_step`].
    pub fn is_compacting(&self) -> bool {
        self.store.is_compacting()
    }

    /// Removes some versions that a compaction leaves. Returns whether there are more.
    pub fn compact_step(&mut self, budget: usize) -> bool {
        self.store.compact_step(budget) == mvcc::Progress::Unfinished
    }

    /// This member leads from now on, and counts the time of the leases. Each gets its whole time and `extend_by`: no
    /// lease may end before its time because the leader before counted otherwise.
    pub fn promote(&mut self, now: Moment, extend_by: Duration) {
        self.lessor.promote(now, extend_by);
    }

    /// Another member leads.
    pub fn demote(&mut self) {
        self.lessor.demote();
    }

    /// Takes what is to be hashed since the last compaction: the keys before it, and its revision. The hash comes back by
    /// [`V3::keep_hash`].
    pub fn take_to_hash(&mut self) -> Option<(Reader<C>, i64)> {
        let taken = self.to_hash.take()?;
        self.hashing += 1;
        Some(taken)
    }

    /// The hash of a compaction, or `None` if the database could not be read for it.
    pub fn keep_hash(&mut self, hash: Option<KeyHash>) {
        self.hashing = self.hashing.saturating_sub(1);
        if let Some(hash) = hash {
            self.store.keep_hash(hash);
        }
    }

    /// Whether the hash of a compaction is not kept yet.
    pub fn is_hashing(&self) -> bool {
        self.hashing > 0 || self.to_hash.is_some()
    }

    /// What a leader is to propose now: the end of leases whose time is over, and checkpoints of long ones.
    pub(crate) fn due_commands(&mut self, now: Moment) -> Vec<Command> {
        let ended = self.lessor.expired(now, REVOKES_AT_ONCE).into_iter();
        let mut operations: Vec<Operation> =
            ended.map(|id| Operation::LeaseRevoke(LeaseRevokeRequest { id })).collect();
        let checkpoints = self.lessor.checkpoints(now);
        if !checkpoints.is_empty() {
            operations.push(Operation::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints }));
        }
        let command = |operation| Command::V3(Box::new(InternalRequest::new(operation)));
        operations.into_iter().map(command).collect()
    }

    fn database_mut(&mut self) -> &mut Database<C> {
        self.store.database_mut()
    }

    fn fail(&mut self, failure: &Failure<C::Error>) {
        self.failure.get_or_insert_with(|| StateError::Database(failure.to_string()));
    }
}

/// The name of a bucket, for errors.
fn name(bucket: Bucket) -> &'static str {
    bucket.name()
}

//! One member of the cluster as a value: no I/O, no clock, no locks, no tasks.
//!
//! Methods take input in, [`Member::poll`] returns what must be done:
//! - getters: [`Member::status`], [`Member::membership`], [`Member::tail`];
//! - events in: [`Member::step`], [`Member::tick`], [`Member::persisted`], [`Member::installed`],
//!   [`Member::unreachable`], [`Member::peer_is_gone`], [`Member::snapshot_sent`], [`Member::snapshot_saved`];
//! - commands in: [`Member::propose`], [`Member::configure`], [`Member::forget`], [`Member::read_index`],
//!   [`Member::campaign`], [`Member::transfer`], [`Member::set_extended`];
//! - output: [`Member::poll`]; its entries go to [`Member::apply`].
//!
//! Consensus is the `raft` crate. Its types stay inside this module, except within the opaque [`Message`] and
//! [`Committed`].

mod acceptance;
mod apply;
mod bounds;
mod content;
mod convert;
pub mod fuzz;
mod log;
mod membership;
mod message;
mod proposals;
mod request_ids;
mod silence;

use bytes::{Bytes, BytesMut};
use raft::eraftpb::{self, MessageType};
use raft::{RawNode, StateRole};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::planted::{Bug, is_planted};
use shared::store::Store;
use shared::time::UnixNanos;
use shared::wal::EntryRef;

use crate::version::Level;

pub use self::acceptance::Refusal;
use self::bounds::TermBound;
pub use self::bounds::{ENTRIES_MAX, INDEX_MAX, TERM_MAX};
pub use self::content::{ChangeKind, InvalidEntry, MemberChange, check_entry, own_data_set_by};
use self::log::EntryLog;
pub use self::membership::{
    ClusterMismatch, ConfChangeContext, ConfigureError, MemberInfo, Membership, TooFewStarted, VERSION_PATH,
    attributes_path, attributes_value, value,
};
pub use self::message::{Kind, Message, MessageError, MessageHead, encode_entry, entry_len};
use self::proposals::Proposals;
use self::request_ids::RequestIds;
pub use self::silence::{DeadMember, Observation, Silence};
use crate::command::Outcome;

/// Entries below the newest snapshot that stay in memory, for followers that lag a little.
pub const CATCH_UP_ENTRIES: u64 = 5000;

/// Bytes of entries in one message to a follower.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Append messages to one follower without an answer, at most.
const APPENDS_IN_FLIGHT_MAX: usize = 512;

/// Identifies a proposal, and so its client. Never 0.
pub type RequestId = u64;

/// Committed entries, ready for [`Member::apply`].
#[derive(Debug)]
pub struct Committed(Vec<eraftpb::Entry>);

/// Entries and state for the log, and the messages that may be sent only once these are durable.
#[derive(Debug)]
pub struct Batch {
    /// For [`Member::persisted`].
    pub id: BatchId,
    entries: Vec<eraftpb::Entry>,
    /// The member's state after these entries.
    pub state: Option<pb::HardState>,
    /// Whether it must be synced. If not, it may be written together with a later batch, and
    /// [`Member::persisted`] is not called for it.
    pub must_sync: bool,
    /// Votes and acknowledgements: must not be sent before the batch is durable.
    pub then_send: Vec<Message>,
}

impl Batch {
    /// The index of the last entry, if there are entries.
    pub fn last_index(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.index)
    }

    /// The entries, in the form of the log.
    pub fn entries(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.entries.iter().map(convert::entry_from_raft)
    }
}

/// A snapshot from the leader. It replaces the log and the store.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedSnapshot {
    /// Its index, term and voters.
    pub metadata: pb::SnapshotMetadata,
    /// The store as JSON.
    pub data: Bytes,
}

/// The number of a batch. Batches are written in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId(u64);

impl BatchId {
    /// The id with this number, for tests.
    pub fn of(number: u64) -> BatchId {
        BatchId(number)
    }
}

/// What must be done next, in this order.
#[derive(Debug)]
pub enum Output {
    /// Send these messages now.
    Send(Vec<Message>),
    /// Save this snapshot, write its record to the log, and replace the store by it, before anything else; then
    /// call [`Member::installed`].
    Install(ReceivedSnapshot),
    /// Write this batch to the log.
    Persist(Batch),
    /// Pass these entries to [`Member::apply`].
    Apply(Committed),
    /// The answer to [`Member::read_index`]: the read may be answered once `index` is applied.
    ReadReady {
        /// The id that [`Member::read_index`] returned.
        id: RequestId,
        /// The index that must be applied first.
        index: u64,
    },
    /// It is unknown whether these proposals were or will be applied: their clients should not wait longer.
    GivenUp(Vec<RequestId>),
}

/// The effect of an entry.
#[derive(Debug)]
pub enum Applied {
    /// A command was applied, with this outcome.
    Command(RequestId, Outcome),
    /// A change of the members was applied, or refused.
    Configured(RequestId, Result<(), ConfigureError>),
    /// This member was removed from the cluster: it must stop.
    RemovedSelf,
    /// The members' attributes or the cluster's version have changed: [`Member::membership`] is new.
    AttributesChanged,
    /// A member was added, removed, or has other peer URLs: [`Member::membership`] is new.
    MemberChanged {
        /// The kind of change.
        kind: ChangeKind,
        /// The member.
        id: MemberId,
        /// Its peer URLs, empty after a removal.
        peer_urls: Vec<String>,
    },
    /// Keys outside those of clients may have changed: the server's own data.
    OutsideKeys {
        /// Whether users, roles or the auth switch may have changed.
        auth: bool,
    },
    /// A new leader's first entry.
    NewTerm,
    /// An invalid entry. All members skip it.
    Skipped {
        /// Its index.
        index: u64,
        /// Why it is invalid.
        why: InvalidEntry,
    },
}

/// There is no leader for a proposal. The caller may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoLeader;

/// Follower, candidate or leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Appends the entries of a leader, if there is one.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Appends new entries and replicates them.
    Leader,
}

/// A member's view of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The member itself.
    pub id: MemberId,
    /// The leader that it knows; [`MemberId`] 0 for none.
    pub leader: MemberId,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Its vote in that term.
    pub vote: MemberId,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index applied.
    pub applied: u64,
    /// Whether it is the only voter.
    pub alone: bool,
    /// Whether it leads and has applied an entry of its term: then everything committed before its term is
    /// applied.
    pub current: bool,
}

/// The end of a member's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The commit index.
    pub commit: u64,
    /// The index of the last entry.
    pub last_index: u64,
    /// The term of the last entry.
    pub last_term: u64,
}

/// A follower's position in the log, as its leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The follower, or the leader itself.
    pub id: MemberId,
    /// The highest index known to be in its log.
    pub matched: u64,
    /// The next index to send.
    pub next: u64,
    /// `ProgressStateProbe`, `ProgressStateReplicate` or `ProgressStateSnapshot`.
    pub state: &'static str,
}

/// The state from which a member starts.
#[derive(Debug)]
pub struct Start {
    /// The member's id.
    pub id: MemberId,
    /// The id of its cluster.
    pub cluster_id: ClusterId,
    /// Index, term and voters of the snapshot that the store holds; zeros for an empty store.
    pub snapshot: pb::SnapshotMetadata,
    /// The last state written.
    pub state: pb::HardState,
    /// All entries after the snapshot.
    pub entries: Vec<pb::Entry>,
    /// Ticks without a message from a leader before it starts an election, at least; at most twice as many.
    pub election_ticks: usize,
    /// The seed of the random part of the election timeout.
    pub seed: u64,
    /// The time of the start; request ids begin with it.
    pub now: UnixNanos,
    /// The level of the cluster.
    pub level: Level,
}

/// One member of the cluster. See the module's documentation.
pub struct Member {
    raft: RawNode<EntryLog>,
    id: MemberId,
    level: Level,
    membership: Membership,
    ids: RequestIds,
    rng: StdRng,
    election_ticks: usize,
    /// The term and role for which the election timeout was drawn last.
    drawn_for: (u64, StateRole),
    applied: u64,
    applied_term: u64,
    /// The voters, sorted.
    conf_state: Vec<u64>,
    /// A removed voter that raft still has, because it refuses to remove the last one.
    last_voter_removed: Option<u64>,
    /// The state in the log once all batches are written.
    written: pb::HardState,
    /// Proposals; those of one turn go to raft in one message.
    proposals: Proposals,
    encoded: BytesMut,
    /// Outputs of the last `Ready` that `poll` has not returned yet, in reverse order.
    outputs: Vec<Output>,
    /// Its removal is applied: it accepts no more proposals.
    removed_self: bool,
    /// All members support the extensions, see [`Member::set_extended`].
    extended: bool,
    /// The most levels of a key in a forwarded proposal.
    key_levels_max: usize,
    /// Entries below a snapshot that stay in memory.
    catch_up_entries: u64,
    /// A leader's request to take over, kept until all committed entries are applied.
    deferred_takeover: Option<eraftpb::Message>,
    /// The commit index last sent to the followers.
    announced_commit: u64,
    /// The batch after a received snapshot. Raft learns that the snapshot is applied once this batch is
    /// durable.
    installing: Option<BatchId>,
    /// The bound on terms.
    terms: TermBound,
    /// It started from a snapshot and has applied no command since.
    is_first_entry: bool,
}

impl Member {
    /// A member that continues where its log ends. The store holds the state of `start.snapshot`.
    ///
    /// Raft logs elections and the like to `logger`.
    pub fn new(start: Start, store: &Store, logger: &slog::Logger) -> Member {
        let snapshot = (start.snapshot.index, start.snapshot.term);
        let voters = start.snapshot.conf_state.nodes;
        let last = start.entries.last().map_or(snapshot.0, |entry| entry.index);
        let mut state = start.state;
        assert!(
            state.commit <= last,
            "state.commit {} is out of range [{}, {last}]",
            state.commit,
            snapshot.0
        );
        state.commit = state.commit.max(snapshot.0);
        state.term = state.term.max(snapshot.1);
        assert!(state.term <= TERM_MAX, "no election could follow term {}", state.term);
        let entries = start.entries.into_iter().map(convert::entry_from_disk);
        let mut log = EntryLog::new(snapshot, voters.clone(), convert::state_to_raft(state), entries);
        if snapshot.0 > 0 {
            log.set_newest_snapshot(pb::SnapshotMetadata {
                conf_state: pb::ConfState { nodes: voters.clone() },
                index: snapshot.0,
                term: snapshot.1,
            });
        }
        let config = raft::Config {
            id: start.id.0,
            election_tick: start.election_ticks,
            heartbeat_tick: 1,
            applied: snapshot.0,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            // Off until all members are known to support them: see `set_extended`.
            check_quorum: false,
            pre_vote: false,
            // Once in a turn: see `broadcast_commit`.
            skip_bcast_commit: true,
            ..raft::Config::default()
        };
        let raft = match RawNode::new(&config, log, logger) {
            Ok(raft) => raft,
            Err(error) => unreachable!("raft refuses a state that was checked: {error}"),
        };
        Member {
            raft,
            id: start.id,
            level: start.level,
            membership: Membership::from_store(start.cluster_id, store),
            ids: RequestIds::new(start.id, start.now),
            rng: StdRng::seed_from_u64(start.seed),
            election_ticks: start.election_ticks,
            drawn_for: (u64::MAX, StateRole::Follower),
            applied: snapshot.0,
            applied_term: snapshot.1,
            conf_state: voters,
            last_voter_removed: None,
            written: state,
            proposals: Proposals::default(),
            encoded: BytesMut::new(),
            outputs: Vec::new(),
            removed_self: false,
            extended: false,
            key_levels_max: usize::MAX,
            catch_up_entries: CATCH_UP_ENTRIES,
            deferred_takeover: None,
            announced_commit: 0,
            installing: None,
            terms: TermBound::new(state.term, start.now),
            is_first_entry: snapshot.0 > 0,
        }
    }

    /// Its current view of the cluster.
    pub fn status(&self) -> Status {
        let raft = &self.raft.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower,
        };
        Status {
            id: self.id,
            leader: MemberId(raft.leader_id),
            role,
            term: raft.term,
            vote: MemberId(raft.vote),
            commit: raft.raft_log.committed,
            applied: self.applied,
            alone: self.is_alone(),
            current: role == Role::Leader && self.applied_term == raft.term,
        }
    }

    /// The level of its cluster.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The end of its log.
    pub fn log_end(&self) -> LogEnd {
        let log = &self.raft.raft.raft_log;
        LogEnd { commit: log.committed, last_index: log.last_index(), last_term: log.last_term() }
    }

    /// The followers' positions in the log; empty unless it leads.
    pub fn progress(&self) -> Vec<Progress> {
        if self.raft.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let progress = self.raft.raft.prs().iter().map(|(id, progress)| Progress {
            id: MemberId(*id),
            matched: progress.matched,
            next: progress.next_idx,
            state: match progress.state {
                raft::ProgressState::Probe => "ProgressStateProbe",
                raft::ProgressState::Replicate => "ProgressStateReplicate",
                raft::ProgressState::Snapshot => "ProgressStateSnapshot",
            },
        });
        progress.collect()
    }

    /// The members of the cluster as of the last applied entry.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Index and term of the last applied entry, and the voters at it: the metadata of a snapshot taken now.
    pub fn tail(&self) -> pb::SnapshotMetadata {
        pb::SnapshotMetadata {
            conf_state: pb::ConfState { nodes: self.conf_state.clone() },
            index: self.applied,
            term: self.applied_term,
        }
    }

    /// A snapshot was saved: followers that are too far behind get it, and the log in memory drops the entries
    /// that it covers, except [`CATCH_UP_ENTRIES`] or the [set number](Member::set_catch_up_entries). The only
    /// member of a cluster keeps none: a member that is added later starts from the snapshot.
    pub fn snapshot_saved(&mut self, metadata: pb::SnapshotMetadata) {
        let keep = if self.is_alone() { 0 } else { self.catch_up_entries };
        let index = metadata.index;
        let log = self.raft.mut_store();
        log.set_newest_snapshot(metadata);
        log.compact(index.saturating_sub(keep));
    }

    /// Sets the most levels of a key in a forwarded proposal; deeper ones are refused. There is no limit at
    /// first.
    pub fn set_key_levels_max(&mut self, levels: usize) {
        self.key_levels_max = levels;
    }

    /// Sets the number of entries kept below a snapshot, instead of [`CATCH_UP_ENTRIES`]: simulations send
    /// snapshots often.
    pub fn set_catch_up_entries(&mut self, entries: u64) {
        self.catch_up_entries = entries;
    }

    /// Whether it is the only voter.
    fn is_alone(&self) -> bool {
        self.conf_state == [self.id.0]
    }

    /// A fresh id for a request of this member.
    pub fn next_request_id(&mut self) -> RequestId {
        self.ids.next()
    }

    /// Whether there is a leader for proposals.
    pub fn takes_proposals(&self) -> bool {
        self.raft.raft.leader_id != raft::INVALID_ID && !self.removed_self
    }

    /// Whether [`Member::read_index`] works: the member is the only one, or [all members support
    /// it](Member::set_extended). Otherwise reads must go through the log.
    pub fn offers_read_index(&self) -> bool {
        self.extended || self.is_alone()
    }

    /// Requests the current commit index. [`Output::ReadReady`] is the answer; it never comes if a message is
    /// lost or the leader changes, and then the caller must request again. A leader asks its followers whether
    /// it still leads, a follower asks its leader; no entry is written.
    pub fn read_index(&mut self) -> Result<RequestId, NoLeader> {
        let raft = &self.raft.raft;
        let leads_too_early = raft.state == StateRole::Leader && !raft.commit_to_current_term();
        if !self.takes_proposals() || leads_too_early {
            return Err(NoLeader);
        }
        let id = self.ids.next();
        if is_planted(Bug::OldLeaderReads) && raft.state == StateRole::Leader {
            let index = raft.raft_log.committed;
            self.outputs.push(Output::ReadReady { id, index });
            return Ok(id);
        }
        self.raft.read_index(id.to_be_bytes().to_vec());
        Ok(id)
    }

    /// Lets all but one tick of the first election timeout pass: for the members of a new cluster, which has no
    /// leader yet.
    pub fn shorten_first_election(&mut self) {
        for _ in 1..self.election_ticks {
            self.pass_tick();
        }
    }

    /// Starts an election now, without waiting for the timeout. A member that cannot be elected does nothing.
    pub fn campaign(&mut self) {
        if !self.may_campaign() || !self.raft.raft.promotable() {
            return;
        }
        // An error means that an election is impossible now; the next timeout tries again.
        let _ = self.raft.campaign();
    }

    /// Sets whether all members support the extensions: pre-vote, check-quorum and read-index. A Go member of
    /// 2.x would be harmed by the first, locked out by the second, and would not answer the third.
    pub fn set_extended(&mut self, extended: bool) {
        self.extended = extended;
        self.raft.raft.check_quorum = extended;
        self.raft.raft.pre_vote = extended;
    }

    /// The last value of [`Member::set_extended`].
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Hands the leadership to the most advanced follower that `may` lead; it takes over by an election. Until
    /// then proposals are dropped. `None` if there is no such follower, or this member does not lead.
    pub fn transfer(&mut self, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        if self.raft.raft.state != StateRole::Leader {
            return None;
        }
        let followers = self.raft.raft.prs().iter();
        let (to, _) = followers
            .filter(|(id, progress)| **id != self.id.0 && progress.recent_active && may(MemberId(**id)))
            .max_by_key(|(_, progress)| progress.matched)?;
        let to = *to;
        self.raft.transfer_leader(to);
        Some(MemberId(to))
    }

    /// Messages to this member do not arrive.
    pub fn unreachable(&mut self, id: MemberId) {
        self.raft.report_unreachable(id.0);
    }

    /// The process of another member seems to have ended. If that member led, its followers do not wait for the
    /// whole election timeout: each starts an election after a short random time. Only where elections begin
    /// with a pre-vote, which does no harm: a member that still hears the leader refuses it.
    pub fn peer_is_gone(&mut self, id: MemberId) {
        let nearly = self.election_ticks.saturating_sub(1);
        let raft = &mut self.raft.raft;
        if self.extended && raft.state == StateRole::Follower && raft.leader_id == id.0 {
            raft.leader_id = raft::INVALID_ID;
            raft.election_elapsed = raft.election_elapsed.max(nearly);
        }
    }

    /// Whether a snapshot reached its follower.
    pub fn snapshot_sent(&mut self, to: MemberId, arrived: bool) {
        let status = if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raft.report_snapshot(to.0, status);
    }

    /// The received snapshot is durable, and `store` holds its state.
    pub fn installed(&mut self, metadata: &pb::SnapshotMetadata, store: &Store) {
        (self.applied, self.applied_term) = (metadata.index, metadata.term);
        self.conf_state.clone_from(&metadata.conf_state.nodes);
        self.conf_state.sort_unstable();
        self.last_voter_removed = None;
        self.membership = Membership::from_store(self.membership.cluster_id, store);
        self.raft.mut_store().set_newest_snapshot(metadata.clone());
        self.proposals.on_snapshot(metadata.term, self.election_ticks);
    }

    /// One heartbeat interval has passed; the time is `now`. Raft's clock stops while a snapshot is being
    /// installed: until that is durable the log does not reach back to what raft has applied, and no election
    /// can begin.
    pub fn tick(&mut self, now: UnixNanos) {
        self.terms.pass(now);
        self.proposals.tick();
        self.pass_tick();
    }

    fn pass_tick(&mut self) {
        if self.raft.raft.state == StateRole::Leader || self.may_campaign() {
            self.raft.tick();
        }
    }

    /// Whether log and disk allow an election. The only voter becomes leader at once, and the log of a leader
    /// must be durable.
    fn may_campaign(&self) -> bool {
        !self.is_installing() && (self.is_on_disk() || !self.raft.raft.prs().is_singleton())
    }

    /// Whether a snapshot is being installed.
    fn is_installing(&self) -> bool {
        self.installing.is_some() || self.raft.raft.snap().is_some()
    }

    /// Whether all entries of the log are durable on this member's disk.
    fn is_on_disk(&self) -> bool {
        let log = &self.raft.raft.raft_log;
        log.persisted >= log.last_index()
    }

    /// Everything up to this batch is durable.
    pub fn persisted(&mut self, batch: BatchId) {
        self.raft.on_persist_ready(batch.0);
        if self.installing.take_if(|installing| *installing <= batch).is_some() {
            self.raft.advance_apply_to(self.applied);
        }
    }

    /// The next output; call until it returns `None`.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.step_proposals();
            self.broadcast_commit();
            self.draw_election_timeout();
            if self.raft.has_ready() {
                self.take_ready();
            }
            let given_up = self.proposals.take_given_up();
            if !given_up.is_empty() {
                self.outputs.push(Output::GivenUp(given_up));
            }
        }
        self.outputs.pop()
    }

    /// Sends a new commit index to the followers, once a turn, unless it went with entries.
    fn broadcast_commit(&mut self) {
        let raft = &mut self.raft.raft;
        if raft.state == StateRole::Leader && raft.raft_log.committed > self.announced_commit {
            self.announced_commit = raft.raft_log.committed;
            raft.bcast_append();
        }
    }

    /// The crate draws election timeouts from the generator of the thread. Runs repeat only with our own
    /// generator.
    fn draw_election_timeout(&mut self) {
        let raft = &mut self.raft.raft;
        if self.drawn_for != (raft.term, raft.state) {
            self.drawn_for = (raft.term, raft.state);
            let ticks = self.rng.random_range(self.election_ticks..2 * self.election_ticks);
            raft.set_randomized_election_timeout(ticks);
        }
    }

    fn take_ready(&mut self) {
        let mut ready = self.raft.ready();
        let mut messages = to_others(ready.take_messages(), self.id);
        let committed = ready.take_committed_entries();
        let entries = ready.take_entries();
        let reads = ready.take_read_states();
        let mut then_send = to_others(ready.take_persisted_messages(), self.id);
        messages.extend(then_send.extract_if(.., |message| !needs_sync(message)));
        keep_last_answers(&mut then_send);
        let state = self.state_to_write(ready.hs().map(convert::state_from_raft), entries.last());
        let must_sync = ready.must_sync() || !then_send.is_empty();
        let id = BatchId(ready.number());
        let snapshot = convert::snapshot_from_raft(ready.snapshot());
        let received = (snapshot.metadata.index > 0).then(|| {
            self.raft.mut_store().start_after(snapshot.metadata.index, snapshot.metadata.term);
            self.installing = Some(id);
            ReceivedSnapshot { metadata: snapshot.metadata, data: snapshot.data.unwrap_or_default() }
        });
        self.raft.mut_store().append(entries.iter().cloned());
        self.raft.advance_append_async(ready);

        // In reverse order.
        for read in reads {
            if let Ok(context) = read.request_ctx.as_slice().try_into() {
                let id = u64::from_be_bytes(context);
                self.outputs.push(Output::ReadReady { id, index: read.index });
            }
        }
        if !committed.is_empty() {
            self.outputs.push(Output::Apply(Committed(committed)));
        }
        if !entries.is_empty() || state.is_some() || !then_send.is_empty() {
            self.outputs.push(Output::Persist(Batch { id, entries, state, must_sync, then_send }));
        }
        if let Some(received) = received {
            self.outputs.push(Output::Install(received));
        }
        if !messages.is_empty() {
            self.outputs.push(Output::Send(messages));
        }
    }

    /// The state to write after entries up to `last`, if it differs from the state written before.
    ///
    /// If the member is the only one, its entries are committed as soon as they are durable. The state written
    /// with them says so already, as Go writes it: backups and forced starts read it.
    fn state_to_write(
        &mut self,
        state: Option<pb::HardState>,
        last: Option<&eraftpb::Entry>,
    ) -> Option<pb::HardState> {
        let mut state = state.unwrap_or(self.written);
        if let Some(last) = last.filter(|_| self.is_alone() && self.raft.raft.state == StateRole::Leader) {
            state.commit = state.commit.max(last.index);
        }
        state.commit = state.commit.max(self.written.commit);
        let written = std::mem::replace(&mut self.written, state);
        (state != written).then_some(state)
    }
}

/// Drops messages that raft addresses to no member or to this one.
fn to_others(messages: Vec<eraftpb::Message>, id: MemberId) -> Vec<Message> {
    messages.into_iter().filter(|m| m.to != 0 && m.to != id.0).map(Message).collect()
}

/// Whether a message of a follower or candidate must wait until its batch is durable.
///
/// The answer to a heartbeat need not wait: a majority has stored the leader's term since it was elected.
fn needs_sync(message: &Message) -> bool {
    use MessageType as T;
    !matches!(
        message.0.msg_type,
        T::MsgPropose | T::MsgReadIndex | T::MsgTransferLeader | T::MsgHeartbeatResponse
    )
}

/// Of several append answers in a row, keeps the last one.
fn keep_last_answers(messages: &mut Vec<Message>) {
    let accepts = |message: &Message| {
        (message.0.msg_type == MessageType::MsgAppendResponse && !message.0.reject)
            .then_some((message.0.to, message.0.term))
    };
    messages.dedup_by(|later, earlier| {
        let same = accepts(later).is_some() && accepts(later) == accepts(earlier);
        if same && later.0.index >= earlier.0.index {
            std::mem::swap(later, earlier);
        }
        same
    });
}

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod proposal_tests;
#[cfg(test)]
mod tests;

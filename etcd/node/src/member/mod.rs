//! One member of the cluster as a value: no I/O, no clock, no locks, no tasks.
//!
//! Calls bring things in, [`Member::poll`] hands out what is to be done:
//! - getters: [`Member::status`], [`Member::membership`], [`Member::tail`];
//! - events in: [`Member::step`], [`Member::tick`], [`Member::persisted`], [`Member::installed`],
//!   [`Member::unreachable`], [`Member::peer_is_gone`], [`Member::snapshot_sent`], [`Member::snapshot_saved`];
//! - commands in: [`Member::propose`], [`Member::configure`], [`Member::forget`], [`Member::read_index`],
//!   [`Member::campaign`], [`Member::transfer`], [`Member::set_extended`];
//! - out: [`Member::poll`], then [`Member::apply`] with what it gave.
//!
//! Consensus is the `raft` crate. None of its types leaves this module but the opaque [`Message`] and
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

pub use self::acceptance::Refusal;
use self::bounds::TermBound;
pub use self::bounds::{ENTRIES_MAX, INDEX_MAX, TERM_MAX};
pub use self::content::{ChangeKind, InvalidEntry, MemberChange, check_entry, own_data_set_by};
use self::log::EntryLog;
pub use self::membership::{
    ConfChangeContext, ConfigureError, Membership, NotOfCluster, Peer, TooFewStarted, VERSION_PATH,
    attributes_path, attributes_value, value,
};
pub use self::message::{Kind, Message, MessageError, MessageHead, encode_entry, entry_len};
use self::proposals::Proposals;
use self::request_ids::RequestIds;
pub use self::silence::{DeadMember, Observation, Silence};
use crate::command::Outcome;

/// Entries of the log that stay in memory below the newest snapshot, for followers that lag a little.
pub const CATCH_UP_ENTRIES: u64 = 5000;

/// Bytes of entries in one message to a follower.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Unanswered append messages to one follower.
const APPENDS_IN_FLIGHT_MAX: usize = 512;

/// Tells the waiting client of a proposal from all others. Never 0.
pub type RequestId = u64;

/// Committed entries, ready for [`Member::apply`].
#[derive(Debug)]
pub struct Committed(Vec<eraftpb::Entry>);

/// What the log must hold before anybody may rely on it, and the promises that may leave only then.
#[derive(Debug)]
pub struct Batch {
    /// For [`Member::persisted`].
    pub id: BatchId,
    entries: Vec<eraftpb::Entry>,
    /// The member's state after these entries.
    pub state: Option<pb::HardState>,
    /// Whether anything waits for it. If not, it may be written together with a later batch, and
    /// [`Member::persisted`] is not called for it.
    pub must_sync: bool,
    /// Votes and acknowledgements: to be sent once the batch is on disk, not before.
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

/// A snapshot from the leader, that takes the place of log and store.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedSnapshot {
    /// What it stands for.
    pub metadata: pb::SnapshotMetadata,
    /// The store as JSON.
    pub data: Bytes,
}

/// Numbers batches in the order in which they are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId(u64);

impl BatchId {
    /// The batch with this number, for tests of what handles batches.
    pub fn of(number: u64) -> BatchId {
        BatchId(number)
    }
}

/// What is to be done next. In the order given.
#[derive(Debug)]
pub enum Output {
    /// May leave at once.
    Send(Vec<Message>),
    /// To be saved, marked in the log and put in the place of the store, before anything else is done; then
    /// [`Member::installed`] is called.
    Install(ReceivedSnapshot),
    /// To be written to the log.
    Persist(Batch),
    /// To be handed to [`Member::apply`].
    Apply(Committed),
    /// Everything up to the index was committed when the read was asked for; the caller may read once that
    /// much is applied.
    ReadReady {
        /// The read, as given to [`Member::read_index`].
        id: RequestId,
        /// What must be applied first.
        index: u64,
    },
    /// Nobody can say whether these proposals will ever be applied, or whether they were: their clients need not
    /// wait longer.
    GivenUp(Vec<RequestId>),
}

/// What became of a proposal.
#[derive(Debug)]
pub enum Applied {
    /// What a command came to.
    Command(RequestId, Outcome),
    /// The member as it is now, or was; or why the change was refused.
    Configured(RequestId, Result<(), ConfigureError>),
    /// This member is no longer one of the cluster: it must stop.
    RemovedSelf,
    /// The members' attributes or the cluster's version have changed: [`Member::membership`] is new.
    AttributesChanged,
    /// A member was added, removed, or has other peer URLs: [`Member::membership`] is new.
    MemberChanged {
        /// Which of these.
        kind: ChangeKind,
        /// The member.
        id: MemberId,
        /// Its peer URLs, none for one that is gone.
        peer_urls: Vec<String>,
    },
    /// Something outside the clients' keys may have changed: the server's own data.
    OutsideKeys {
        /// Users, roles or the switch may have.
        auth: bool,
    },
    /// A new leader's first entry.
    NewTerm,
    /// An entry that means nothing. All members pass over it.
    PassedOver {
        /// The entry.
        index: u64,
        /// Why it means nothing.
        why: InvalidEntry,
    },
}

/// There is no leader to take a proposal. It may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoLeader;

/// Follower, candidate or leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Takes entries from a leader, if there is one.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Decides what the log holds.
    Leader,
}

/// A member's view of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The member itself.
    pub id: MemberId,
    /// Whom it takes for the leader; [`MemberId`] 0 for nobody.
    pub leader: MemberId,
    /// What it is.
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
    /// Whether it leads and has applied an entry of its own term: then all that was ever committed before
    /// is applied too.
    pub current: bool,
}

/// Where a member's log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The commit index.
    pub commit: u64,
    /// The index of the last entry.
    pub last_index: u64,
    /// The term of the last entry.
    pub last_term: u64,
}

/// A follower's place in the log, as its leader sees it.
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

/// What a member begins with.
#[derive(Debug)]
pub struct Start {
    /// Itself.
    pub id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Index, term and voters of the snapshot that the store holds; zeros for an empty store.
    pub snapshot: pb::SnapshotMetadata,
    /// The last state written.
    pub state: pb::HardState,
    /// All entries after the snapshot.
    pub entries: Vec<pb::Entry>,
    /// Ticks without word from a leader before it asks for votes (up to twice as many).
    pub election_ticks: usize,
    /// For the random part of the election timeout.
    pub seed: u64,
    /// The time of the start; request ids begin with it.
    pub now: UnixNanos,
}

/// One member of the cluster. See the module's documentation.
pub struct Member {
    raft: RawNode<EntryLog>,
    id: MemberId,
    membership: Membership,
    ids: RequestIds,
    rng: StdRng,
    election_ticks: usize,
    /// Term and role for which the election timeout was drawn.
    drawn_for: (u64, StateRole),
    applied: u64,
    applied_term: u64,
    /// The voters, sorted.
    conf_state: Vec<u64>,
    /// A voter that is gone, but that raft was not told of, because it was the last one.
    last_voter_removed: Option<u64>,
    /// The state that the log has, or will have once all batches are written.
    written: pb::HardState,
    /// Those of one turn are stepped together.
    proposals: Proposals,
    encoded: BytesMut,
    /// Outputs of the last ready that are not handed out yet, last one first.
    outputs: Vec<Output>,
    /// Its removal is applied: it takes no more proposals.
    removed_self: bool,
    /// All members are of our kind, see [`Member::set_extended`].
    extended: bool,
    /// How deep a key may be that another member asks this leader to make.
    key_levels_max: usize,
    /// How many entries stay in memory below a snapshot.
    catch_up_entries: u64,
    /// A leader that hands over wants this member to follow it, once all that is committed is applied.
    deferred_takeover: Option<eraftpb::Message>,
    /// The commit index that followers were last told.
    announced_commit: u64,
    /// The batch behind a snapshot that is installed; raft hears of it once that batch is on disk.
    installing: Option<BatchId>,
    /// The terms that can be.
    terms: TermBound,
    /// It began with a snapshot, and has applied no command since.
    is_first_entry: bool,
}

impl Member {
    /// A member that takes up where its log ends. The store holds what `start.snapshot` stands for.
    ///
    /// What raft has to say of elections and such goes to `logger`.
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
            // Until all members are known to understand them: see `set_extended`.
            check_quorum: false,
            pre_vote: false,
            // Once in a turn is enough: see `broadcast_commit`.
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

    /// What it knows of its group now.
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

    /// Where its log ends.
    pub fn log_end(&self) -> LogEnd {
        let log = &self.raft.raft.raft_log;
        LogEnd { commit: log.committed, last_index: log.last_index(), last_term: log.last_term() }
    }

    /// The followers' places in the log, if it leads.
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

    /// Who is in the cluster, as of the last applied entry.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Index and term of the last applied entry and the voters at it: what a snapshot taken now stands for.
    pub fn tail(&self) -> pb::SnapshotMetadata {
        pb::SnapshotMetadata {
            conf_state: pb::ConfState { nodes: self.conf_state.clone() },
            index: self.applied,
            term: self.applied_term,
        }
    }

    /// A snapshot was saved: followers that are too far behind get it, and the entries that it makes
    /// unnecessary are forgotten, but for [`CATCH_UP_ENTRIES`] or as many as [were
    /// wanted](Member::set_catch_up_entries). Alone in its cluster nobody will ask for them:
    /// a member that is added later starts from the snapshot.
    pub fn snapshot_saved(&mut self, metadata: pb::SnapshotMetadata) {
        let keep = if self.is_alone() { 0 } else { self.catch_up_entries };
        let index = metadata.index;
        let log = self.raft.mut_store();
        log.set_newest_snapshot(metadata);
        log.compact(index.saturating_sub(keep));
    }

    /// Refuses what other members ask it to propose if that could make a key of more levels; without a limit at first.
    pub fn set_key_levels_max(&mut self, levels: usize) {
        self.key_levels_max = levels;
    }

    /// Keeps another number of entries below a snapshot than [`CATCH_UP_ENTRIES`]: simulations send snapshots
    /// often.
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

    /// Whether there is a leader to take proposals.
    pub fn takes_proposals(&self) -> bool {
        self.raft.raft.leader_id != raft::INVALID_ID && !self.removed_self
    }

    /// Whether [`Member::read_index`] gives an answer: it leads a cluster of its own or one that
    /// [all members understand](Member::set_extended), or follows in such a one. Else reads are to go
    /// through the log.
    pub fn offers_read_index(&self) -> bool {
        self.extended || self.is_alone()
    }

    /// Asks up to where the log was committed at this moment; [`Output::ReadReady`] answers, or never if a
    /// message is lost or the leader changes: then it is to be asked again. A leader asks its followers
    /// whether it still leads, and a follower asks its leader; no entry is written.
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

    /// Lets nearly all of the time pass after which it asks for votes: for the members of a cluster that is new,
    /// and has no leader yet.
    pub fn shorten_first_election(&mut self) {
        for _ in 1..self.election_ticks {
            self.pass_tick();
        }
    }

    /// Starts an election now, for a member that need not wait for others. One that cannot be elected does not.
    pub fn campaign(&mut self) {
        if !self.may_campaign() || !self.raft.raft.promotable() {
            return;
        }
        // The only error is a state in which the election would be pointless; the next timeout tries again.
        let _ = self.raft.campaign();
    }

    /// Whether all members are of our kind. Then elections begin with a question that disturbs nobody, a
    /// leader that hears from no majority steps down, and reads need no entry. Go members of 2.x would take
    /// harm from the first, be locked out by the second and be silent to the third.
    pub fn set_extended(&mut self, extended: bool) {
        self.extended = extended;
        self.raft.raft.check_quorum = extended;
        self.raft.raft.pre_vote = extended;
    }

    /// As [set](Member::set_extended) last.
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Hands the leadership to the follower that is furthest, of those that `may` lead; it takes over after an
    /// election. While that goes on proposals are dropped. None if there is no such follower, or this member
    /// does not lead.
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

    /// Messages to a member do not arrive.
    pub fn unreachable(&mut self, id: MemberId) {
        self.raft.report_unreachable(id.0);
    }

    /// The program of another member has ended, as far as one can know. If it led, its followers need not wait as
    /// long as a leader may be silent: they ask for votes after a short time, which differs among them. Only where
    /// all ask without harm first: who still hears from the leader keeps to it.
    pub fn peer_is_gone(&mut self, id: MemberId) {
        let nearly = self.election_ticks.saturating_sub(1);
        let raft = &mut self.raft.raft;
        if self.extended && raft.state == StateRole::Follower && raft.leader_id == id.0 {
            raft.leader_id = raft::INVALID_ID;
            raft.election_elapsed = raft.election_elapsed.max(nearly);
        }
    }

    /// Whether a snapshot reached the follower that it was for.
    pub fn snapshot_sent(&mut self, to: MemberId, arrived: bool) {
        let status = if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raft.report_snapshot(to.0, status);
    }

    /// The received snapshot is safe, and `store` is what it holds.
    pub fn installed(&mut self, metadata: &pb::SnapshotMetadata, store: &Store) {
        (self.applied, self.applied_term) = (metadata.index, metadata.term);
        self.conf_state.clone_from(&metadata.conf_state.nodes);
        self.conf_state.sort_unstable();
        self.last_voter_removed = None;
        self.membership = Membership::from_store(self.membership.cluster_id, store);
        self.raft.mut_store().set_newest_snapshot(metadata.clone());
        self.proposals.on_snapshot(metadata.term, self.election_ticks);
    }

    /// One heartbeat interval has passed, and it is `now`. It does not count while a snapshot is being installed:
    /// until that is on disk the log does not reach back to what raft has applied, and no election can begin.
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

    /// Whether the log and the disk allow an election. A candidate that no other member can refuse its vote leads at
    /// once, and a leader's log must be on its disk.
    fn may_campaign(&self) -> bool {
        !self.is_installing() && (self.is_on_disk() || !self.raft.raft.prs().is_singleton())
    }

    /// Whether a snapshot is on its way into the place of the log.
    fn is_installing(&self) -> bool {
        self.installing.is_some() || self.raft.raft.snap().is_some()
    }

    /// Whether all entries of the log are on this member's disk.
    fn is_on_disk(&self) -> bool {
        let log = &self.raft.raft.raft_log;
        log.persisted >= log.last_index()
    }

    /// Everything up to this batch is on disk.
    pub fn persisted(&mut self, batch: BatchId) {
        self.raft.on_persist_ready(batch.0);
        if self.installing.take_if(|installing| *installing <= batch).is_some() {
            self.raft.advance_apply_to(self.applied);
        }
    }

    /// What is to be done next; ask until there is nothing.
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

    /// Tells followers of a new commit index, all answers of a turn together, unless entries have just done so.
    fn broadcast_commit(&mut self) {
        let raft = &mut self.raft.raft;
        if raft.state == StateRole::Leader && raft.raft_log.committed > self.announced_commit {
            self.announced_commit = raft.raft_log.committed;
            raft.bcast_append();
        }
    }

    /// The crate draws election timeouts from the thread's generator; runs repeat only with our own.
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

        // Last one first.
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

    /// The state to write after entries up to `last`, if it is another than the one written before.
    ///
    /// Of a member that is alone all entries are committed as soon as they are durable, and the state behind
    /// them says so already, as Go writes it: a backup and a forced start go by it.
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

/// Drops messages that raft addresses to nobody or to this member.
fn to_others(messages: Vec<eraftpb::Message>, id: MemberId) -> Vec<Message> {
    messages.into_iter().filter(|m| m.to != 0 && m.to != id.0).map(Message).collect()
}

/// Whether a message of a follower or candidate says something that must be on disk before.
///
/// An answer to a heartbeat does not: that a majority has taken the leader's term for its own is on their disks
/// since it was elected.
fn needs_sync(message: &Message) -> bool {
    use MessageType as T;
    !matches!(
        message.0.msg_type,
        T::MsgPropose | T::MsgReadIndex | T::MsgTransferLeader | T::MsgHeartbeatResponse
    )
}

/// Of several answers in a row that say how much is appended, only the last one says anything new.
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

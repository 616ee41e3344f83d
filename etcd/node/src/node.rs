//! A node: the member, who waits for it, and what it does as time passes. No I/O, no clock, no locks, no tasks.
//!
//! Calls bring things in, [`Node::poll`] hands out what is to be done, one [`Action`] after the other until there is
//! nothing. Whoever drives a node (the server, a simulator) carries each action out before it asks for the next one, and
//! says what became of it: [`Action`] tells how.
//!
//! The state machine is not the node's: it is shared with those who read it. Where the node needs it, it is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shared::id::MemberId;
use shared::pb;
use shared::planted::{Bug, is_planted};
use shared::v2;

use crate::command::Command;
use crate::dead_members::DeadMembers;
use crate::machine::StateMachine;
use crate::member::{
    Applied, Batch, BatchId, Committed, Kind, LogEnd, Member, MemberChange, Membership, Message, Output,
    Progress, Received, Refusal, RequestId, Role,
};
use crate::reads::{Read, Reads};
use crate::refusals::Refusals;
use crate::slow::{self, Label, Slow, SlowLine, Stages, Times};
use crate::snapshots::SnapshotPolicy;
use crate::time::{Moment, Now};
use crate::version;

/// How often a leader looks for keys that have expired. An expired key disappears at most this late, and the
/// time for the log later.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// How long a member that was removed goes on, so that the others learn of it.
const REMOVED_REST: Duration = Duration::from_secs(1);

/// How often time passes in the log at least, where there are Go members.
const SYNC_INTERVAL_NANOS: i64 = 450_000_000;

/// How a node behaves.
#[derive(Debug, Clone)]
pub struct Config<M> {
    /// The election timeout.
    pub election: Duration,
    /// How long a client's request may take.
    pub request_timeout: Duration,
    /// Applied entries after which a snapshot is taken.
    pub snapshot_count: u64,
    /// From here on a request is slow; zero for never.
    pub slow_request: Duration,
    /// Members that were silent for as long as this tells are removed (`-remove-dead-members`); `None` for never.
    pub dead_after: Option<fn(&M) -> Duration>,
}

/// What a client asks of a node. `C` is whoever waits for the answer.
#[derive(Debug)]
pub enum Call<C> {
    /// That a command is applied. A [read](Command::is_read) takes no entry where the cluster can do without.
    Propose {
        /// The command.
        command: Command,
        /// When the request came, if that is known; else it came with the call.
        began: Option<Moment>,
        /// Who waits.
        caller: C,
    },
    /// That the members are changed.
    Configure {
        /// How.
        change: MemberChange,
        /// Who waits.
        caller: C,
    },
}

/// What is to be done next.
#[derive(Debug)]
pub enum Action<M, C> {
    /// May leave at once.
    Send(Vec<Message>),
    /// To be written to the log, in this order; then [`Node::written`].
    Persist(Batch),
    /// To be handed to [`Node::apply`], with the state machine.
    Apply(Committed),
    /// To be answered from the state machine as it is now.
    Read(v2::Request, C),
    /// There is no answer.
    Unanswered {
        /// Who waits for it.
        caller: C,
        /// Why.
        why: Unavailable,
        /// Whether it was proposed: then it may still happen, or may have happened.
        proposed: bool,
    },
    /// The state in a snapshot's message is to be read; then [`Node::snapshot_read`]. Other things may happen meanwhile.
    ReadSnapshot(Message),
    /// To be marked in the log behind all batches, and synced; then [`Node::received_marked`], and nothing before.
    MarkReceived(pb::WalSnapshot),
    /// To be saved as a snapshot's file, and synced; then [`Node::received_saved`], and nothing before.
    SaveReceived(Received),
    /// To be [installed](StateMachine::install) in the place of the state machine; then [`Node::installed`].
    Install(Box<M>),
    /// An [image](StateMachine::image) is to be taken now, before anything else, and to be marked in the log behind all
    /// batches; then [`Node::snapshot_marked`].
    TakeSnapshot(pb::SnapshotMetadata),
    /// The image that was taken is to be saved, and synced; then [`Node::snapshot_saved`].
    SaveSnapshot,
    /// A snapshot is safe: what the log holds below this index is no longer needed.
    ReleaseLog(u64),
    /// Somebody should know.
    Tell(Notice),
    /// The node has come to its end. Clients that wait are in [`Node::take_callers`].
    End(End),
}

/// What is worth a line in the server's log.
#[derive(Debug)]
pub enum Notice {
    /// A request took long.
    Slow(SlowLine),
    /// A message that no member sends.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Others since the last such notice.
        others: u64,
    },
    /// A snapshot that cannot be taken over.
    SnapshotRefused {
        /// Its index.
        index: u64,
        /// Who sent it.
        from: MemberId,
        /// Why.
        why: String,
    },
    /// A snapshot is taken over.
    Restoring {
        /// What it stands for.
        at: pb::WalSnapshot,
        /// Where the log ended before.
        before: LogEnd,
        /// What was applied before.
        applied: u64,
    },
    /// It has been.
    Restored {
        /// Its index.
        index: u64,
    },
    /// A snapshot is begun.
    Snapshotting {
        /// Its index.
        applied: u64,
        /// The index of the one before.
        last: u64,
    },
    /// It is safe.
    SnapshotSaved {
        /// Its index.
        index: u64,
    },
    /// A member is removed because nothing is heard of it.
    RemovesDead {
        /// The member.
        id: MemberId,
        /// Its name, empty if it has none.
        name: String,
        /// For how long it was silent.
        silent_for: Duration,
    },
    /// Pre-votes, check-quorum and read-index are used from now on, or no longer.
    Extended(bool),
    /// A leader hands over before it stops.
    HandsOver {
        /// To whom.
        to: MemberId,
    },
}

/// How a node ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// A change of the members took this one out.
    Removed,
    /// The cluster has moved on to this version, which this server does not speak.
    TooOld(String),
}

/// Why the cluster did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No majority answered in time.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The leader was lost while the request was on its way.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderLost,
    /// The member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
}

/// A client that is answered as its entry is applied.
#[derive(Debug)]
pub struct Answered<C> {
    /// Who waited.
    pub caller: C,
    /// For how long.
    pub waited: Duration,
}

/// What became of committed entries, beside what each of them did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Changes {
    /// [`Node::membership`] is another one than before.
    pub membership: bool,
    /// A new leader's first entry was among them.
    pub new_term: bool,
}

/// Who waits for an entry.
#[derive(Debug)]
struct Waiting<C> {
    since: Moment,
    caller: C,
    times: Times,
    label: Label,
}

/// How the node ends, once that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The member was removed; the others are still to hear what it has to say.
    Removed { at: Moment },
    /// The cluster has moved on to a version that this server does not speak.
    TooOld,
    /// It was told to stop, and waits for another leader.
    HandingOver { until: Moment },
}

/// The state in the snapshot that was stepped last, for when raft says that it is to be installed.
#[derive(Debug)]
struct Offered<M> {
    index: u64,
    machine: M,
    /// Where the log ended before.
    before: LogEnd,
}

/// A snapshot on its way into the place of log and state. Each step waits for the one before.
#[derive(Debug)]
enum Installing<M> {
    Marking { received: Received, machine: Box<M> },
    Saving { metadata: pb::SnapshotMetadata, machine: Box<M> },
    Replacing { metadata: pb::SnapshotMetadata },
}

/// See the module's documentation. `M` is the state machine, `C` is whoever waits for an answer.
pub struct Node<M, C> {
    member: Member,
    config: Config<M>,
    /// To be handed out before the member is asked.
    actions: VecDeque<Action<M, C>>,
    /// The last poll had nothing to hand out: the next one begins a turn.
    turn_ended: bool,
    waiting: HashMap<RequestId, Waiting<C>>,
    /// Deadlines in the order in which they fall due.
    deadlines: VecDeque<(Moment, RequestId)>,
    /// Calls that no leader could take yet, with their deadline.
    held: VecDeque<(Moment, Call<C>)>,
    reads: Reads<C>,
    slow: Slow,
    /// Of requests that were applied last, those that may have been slow.
    maybe_slow: Vec<(Times, Label)>,
    applied_at: Moment,
    /// A snapshot's state is being read. Entries that follow it would be refused until that is done, and it would be
    /// sent once more.
    reading_snapshot: bool,
    offered: Option<Offered<M>>,
    installing: Option<Installing<M>>,
    snapshots: SnapshotPolicy,
    last_written: Option<BatchId>,
    leader: MemberId,
    leader_changed: Moment,
    ending: Option<Ending>,
    next_expiry: Moment,
    /// When this member last let time pass in the log, by its own clock in Unix nanoseconds.
    last_sync: i64,
    /// Who is silent, where that matters.
    dead_members: Option<Box<DeadMembers>>,
    refusals: Refusals,
    progress: Vec<Progress>,
}

impl<M: StateMachine, C> Node<M, C> {
    /// A node around a member that has just been made.
    pub fn new(member: Member, config: Config<M>, now: Moment) -> Node<M, C> {
        let dead_members = config.dead_after.is_some();
        let applied = member.status().applied;
        Node {
            actions: VecDeque::new(),
            turn_ended: true,
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
            held: VecDeque::new(),
            reads: Reads::default(),
            slow: Slow::new(config.slow_request),
            maybe_slow: Vec::new(),
            applied_at: now,
            reading_snapshot: false,
            offered: None,
            installing: None,
            snapshots: SnapshotPolicy::new(config.snapshot_count, applied, now),
            last_written: None,
            leader: MemberId(0),
            leader_changed: now,
            ending: None,
            next_expiry: now,
            last_sync: 0,
            dead_members: dead_members.then(|| Box::new(DeadMembers::new(config.election, now))),
            refusals: Refusals::default(),
            progress: Vec::new(),
            member,
            config,
        }
    }

    /// The member, to look at.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Who is in the cluster, as of the last applied entry.
    pub fn membership(&self) -> &Membership {
        self.member.membership()
    }

    /// The followers' places in the log at the last tick, if this member leads.
    pub fn progress(&self) -> &[Progress] {
        &self.progress
    }

    /// Clients that wait for an entry.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Calls that wait for a leader.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether the state in a snapshot's message is being read: messages of the log are dropped meanwhile.
    pub fn is_reading_snapshot(&self) -> bool {
        self.reading_snapshot
    }

    /// All that its log held is applied: a member that is alone becomes the leader without waiting, for nobody else
    /// could. One of a cluster that is new, and that nobody leads yet, waits hardly.
    pub fn begin(&mut self, is_new: bool) {
        if self.member.status().alone {
            self.member.campaign();
        } else if is_new {
            self.member.shorten_first_election();
        }
    }

    // What comes in.

    /// A client's call. It is answered by [`Node::apply`], [`Action::Read`] or [`Action::Unanswered`], once.
    pub fn call(&mut self, call: Call<C>, now: Moment) {
        self.take(call, now + self.config.request_timeout, now);
    }

    /// A message from another member.
    pub fn receive(&mut self, message: Message, now: Moment) {
        if self.reading_snapshot && message.is_of_log() {
            return;
        }
        if message.kind() == Kind::Snapshot {
            self.reading_snapshot = true;
            self.actions.push_back(Action::ReadSnapshot(message));
            return;
        }
        if let Some(dead) = &mut self.dead_members {
            dead.heard(message.from(), now);
        }
        self.step(message, now);
    }

    /// The state in a snapshot's message, or why it is none.
    pub fn snapshot_read(&mut self, message: Message, machine: Result<M, String>, now: Moment) {
        self.reading_snapshot = false;
        let Some(metadata) = message.snapshot() else { return };
        let cluster_id = self.membership().cluster_id;
        let checked = machine.and_then(|machine| {
            let members = Membership::from_store(cluster_id, machine.tree());
            let checked = members.check_voters(&metadata.conf_state.nodes);
            checked.map(|()| machine).map_err(|error| error.to_string())
        });
        let index = metadata.index;
        match checked {
            Ok(machine) => {
                let before = self.member.log_end();
                let earlier = self.offered.replace(Offered { index, machine, before });
                if !self.step(message, now) {
                    self.offered = earlier;
                }
            }
            Err(why) => self.tell(Notice::SnapshotRefused { index, from: message.from(), why }),
        }
    }

    /// Messages to a member do not arrive.
    pub fn unreachable(&mut self, id: MemberId) {
        self.member.unreachable(id);
    }

    /// The program of another member has ended, see [`Member::peer_is_gone`].
    pub fn peer_is_gone(&mut self, id: MemberId) {
        self.member.peer_is_gone(id);
    }

    /// Whether a snapshot reached the follower that it was for.
    pub fn snapshot_sent(&mut self, to: MemberId, arrived: bool) {
        self.member.snapshot_sent(to, arrived);
    }

    /// Whether all members are of our kind, see [`Member::set_extended`].
    pub fn set_extended(&mut self, extended: bool) {
        if self.member.is_extended() != extended {
            self.member.set_extended(extended);
            self.tell(Notice::Extended(extended));
        }
    }

    /// Stands for election now, as after a timeout.
    pub fn campaign(&mut self) {
        self.member.campaign();
    }

    /// A leader hands over to the follower that is furthest of those that `may` lead, see [`Member::transfer`].
    pub fn transfer(&mut self, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        self.member.transfer(may)
    }

    /// Told to stop: a leader leaves the lead to another member first, one that `may` lead, so that nobody has to wait
    /// for a timeout. [`Action::End`] follows.
    pub fn stop(&mut self, may: impl Fn(MemberId) -> bool, now: Moment) {
        if self.ending.is_some() {
            return;
        }
        let until = match self.member.transfer(may) {
            Some(to) => {
                self.tell(Notice::HandsOver { to });
                now + self.config.election
            }
            None => now,
        };
        self.ending = Some(Ending::HandingOver { until });
    }

    /// A batch is in the log, and durable since `at` if it asked for that.
    pub fn written(&mut self, batch: Batch, at: Moment) {
        assert!(self.last_written < Some(batch.id), "batches are written in order");
        self.last_written = Some(batch.id);
        if batch.must_sync {
            self.slow.durable(batch.id, at);
            self.member.persisted(batch.id);
        }
        if !batch.then_send.is_empty() {
            self.actions.push_back(Action::Send(batch.then_send));
        }
    }

    /// One heartbeat interval has passed.
    pub fn tick(&mut self, now: Now, machine: &M) {
        self.member.tick(now.wall);
        self.progress = self.member.progress();
        if self.slow.threshold().is_some() {
            self.slow.set_obstacle(slow::obstacle(&self.member, &self.progress));
        }
        self.expire_calls(now.moment);
        self.slow.tick(now.moment);
        if now.moment >= self.next_expiry {
            self.next_expiry = now.moment + EXPIRY_INTERVAL;
            self.propose_expiry(now, machine);
        }
        self.remove_dead_member(now.moment, machine);
    }

    // What was done.

    /// Applies what [`Action::Apply`] handed out. `each` hears what every entry did, and who waited for it; the callers
    /// are to be answered before this returns, or right after.
    pub fn apply(
        &mut self,
        committed: Committed,
        machine: &mut M,
        now: Now,
        mut each: impl FnMut(Applied, Option<Answered<C>>),
    ) -> Changes {
        let moment = now.moment;
        let mut changes = Changes::default();
        let mut removed = false;
        // Half of it: carrying out comes on top.
        let maybe_slow = self.slow.threshold().map(|threshold| threshold / 2);
        let (waiting, slow) = (&mut self.waiting, &mut self.maybe_slow);
        self.member.apply(committed, machine, now.wall, |applied| {
            let id = match &applied {
                Applied::Command(id, _) | Applied::Configured(id, _) => Some(*id),
                Applied::AttributesChanged | Applied::MemberChanged { .. } => {
                    changes.membership = true;
                    None
                }
                Applied::NewTerm => {
                    changes.new_term = true;
                    None
                }
                Applied::RemovedSelf => {
                    removed = true;
                    None
                }
                Applied::OutsideKeys { .. } | Applied::PassedOver { .. } => None,
            };
            let answered = id.and_then(|id| waiting.remove(&id)).map(|waiting| {
                if maybe_slow.is_some_and(|time| moment - waiting.times.came >= time) {
                    slow.push((waiting.times, waiting.label));
                }
                Answered { caller: waiting.caller, waited: moment - waiting.since }
            });
            each(applied, answered);
        });
        self.applied_at = moment;
        if changes.membership {
            self.check_version();
        }
        if removed {
            // The others are to learn that it is decided, if there are any.
            let rest = if self.membership().members.is_empty() { Duration::ZERO } else { REMOVED_REST };
            self.ending = Some(Ending::Removed { at: moment + rest });
        }
        if changes.new_term {
            // What the leader before was asked nobody will answer; this one can.
            self.reads.retry(moment, Duration::ZERO);
        }
        self.note_leader(moment);
        let tail = self.member.tail();
        if self.snapshots.is_due(tail.index, moment) {
            self.take_snapshot(tail);
        }
        changes
    }

    /// The log holds the mark of a snapshot that was taken.
    pub fn snapshot_marked(&mut self, mark: pb::WalSnapshot, now: Moment) {
        if is_planted(Bug::LogCutEarly) {
            self.actions.push_back(Action::ReleaseLog(mark.index));
        }
        if self.snapshots.marked(mark.index, now) {
            self.actions.push_back(Action::SaveSnapshot);
        }
    }

    /// A snapshot that was taken is safe.
    pub fn snapshot_saved(&mut self, metadata: pb::SnapshotMetadata, now: Moment) {
        let index = metadata.index;
        self.snapshots.saved(index, now);
        self.member.snapshot_saved(metadata);
        self.actions.push_back(Action::ReleaseLog(index));
        self.tell(Notice::SnapshotSaved { index });
    }

    /// A snapshot that was taken cannot even be begun to be saved. Another one is taken with the next entry.
    pub fn snapshot_given_up(&mut self) {
        self.snapshots.given_up();
    }

    /// Somebody has removed or changed the newest snapshot. The log alone does not hold what the member knows: another
    /// one is taken, at once if none is under way.
    pub fn snapshot_lost(&mut self, now: Moment) {
        self.snapshots.lost(now);
        let tail = self.member.tail();
        if self.snapshots.can_replace(tail.index) {
            self.take_snapshot(tail);
        }
    }

    /// The log holds the mark of the snapshot that another member sent.
    pub fn received_marked(&mut self) {
        if let Some(Installing::Marking { received, machine }) = self.installing.take() {
            if is_planted(Bug::InstallBeforeSync) {
                self.installing = Some(Installing::Replacing { metadata: received.metadata.clone() });
                self.actions.extend([Action::Install(machine), Action::SaveReceived(received)]);
                return;
            }
            self.installing = Some(Installing::Saving { metadata: received.metadata.clone(), machine });
            self.actions.push_back(Action::SaveReceived(received));
        }
    }

    /// Its file is safe.
    pub fn received_saved(&mut self) {
        if let Some(Installing::Saving { metadata, machine }) = self.installing.take() {
            self.snapshots.installed(metadata.index);
            self.installing = Some(Installing::Replacing { metadata });
            self.actions.push_back(Action::Install(machine));
        }
    }

    /// Its state has taken the place of the state machine. [`Node::membership`] is new.
    pub fn installed(&mut self, machine: &M, now: Moment) {
        if let Some(Installing::Replacing { metadata }) = self.installing.take() {
            self.member.installed(&metadata, machine.tree());
            self.check_version();
            self.note_leader(now);
            self.tell(Notice::Restored { index: metadata.index });
        }
    }

    // What goes out.

    /// What is to be done next; ask until there is nothing.
    pub fn poll(&mut self, now: Moment) -> Option<Action<M, C>> {
        if self.installing.is_some() {
            return self.actions.pop_front();
        }
        if std::mem::take(&mut self.turn_ended) {
            self.retry_held(now);
            self.ask_reads(now);
        }
        self.tell_slow(now);
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            let Some(output) = self.member.poll() else { break };
            match output {
                Output::Send(messages) => return Some(Action::Send(messages)),
                Output::Persist(batch) => {
                    self.slow.handed(batch.id, batch.last_index(), now);
                    return Some(Action::Persist(batch));
                }
                Output::Apply(committed) => return Some(Action::Apply(committed)),
                Output::Install(received) => self.begin_install(received),
                Output::ReadReady { id, index } => self.reads.ready(id, index, now),
                Output::GivenUp(ids) => ids.iter().for_each(|id| self.give_up(*id, now)),
            }
        }
        self.note_leader(now);
        self.answer_reads(now);
        let action = self.actions.pop_front().or_else(|| self.end(now).map(Action::End));
        self.turn_ended = action.is_none();
        action
    }

    /// All who wait, once the node has come to its end: nobody else will answer them.
    pub fn take_callers(&mut self) -> Vec<C> {
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_unstable_by_key(|(id, _)| *id);
        let unsaid = std::mem::take(&mut self.actions).into_iter().filter_map(|action| match action {
            Action::Read(_, caller) | Action::Unanswered { caller, .. } => Some(caller),
            _ => None,
        });
        let reads = self.reads.take_all().into_iter().map(|read| read.caller);
        let held = std::mem::take(&mut self.held).into_iter().map(|(_, call)| call.into_caller());
        waiting
            .into_iter()
            .map(|(_, waiting)| waiting.caller)
            .chain(reads)
            .chain(held)
            .chain(unsaid)
            .collect()
    }

    // How it is done.

    fn tell(&mut self, notice: Notice) {
        self.actions.push_back(Action::Tell(notice));
    }

    /// Hands a message to the member; whether it is one that members send.
    fn step(&mut self, message: Message, now: Moment) -> bool {
        let stepped = self.member.step(message);
        if let Err(refusal) = stepped {
            if let Some(others) = self.refusals.add(now) {
                self.tell(Notice::Refused { refusal, others });
            }
            return false;
        }
        true
    }

    fn take(&mut self, call: Call<C>, deadline: Moment, now: Moment) {
        if let Some(call) = self.try_take(call, deadline, now) {
            self.held.push_back((deadline, call));
        }
    }

    /// Hands a call to the member; gives it back when there is nobody to take it now.
    fn try_take(&mut self, call: Call<C>, deadline: Moment, now: Moment) -> Option<Call<C>> {
        let call = match call {
            Call::Propose { command: Command::V2(request), caller, .. }
                if request.verb == v2::Verb::QuorumGet
                    && is_planted(Bug::StaleRead)
                    && self.member.status().role == Role::Leader =>
            {
                self.actions.push_back(Action::Read(request, caller));
                return None;
            }
            Call::Propose { command: Command::V2(request), caller, .. }
                if request.verb == v2::Verb::QuorumGet && self.member.offers_read_index() =>
            {
                self.reads.push(Read { request, caller, deadline, asked: None });
                return None;
            }
            call => call,
        };
        if !self.member.takes_proposals() || self.ending.is_some() {
            return Some(call);
        }
        let since = deadline - self.config.request_timeout;
        let times = |came: Option<Moment>| Times { came: came.unwrap_or(since), proposed: now };
        let (id, waiting) = match call {
            Call::Propose { command, began, caller } => {
                let label = self.slow.threshold().map(|_| Label::of(&command)).unwrap_or_default();
                (self.member.propose(command), Waiting { since, caller, times: times(began), label })
            }
            // Raft would swallow a second change; it waits for the first.
            Call::Configure { .. } if self.member.is_configuring() => return Some(call),
            Call::Configure { change, caller } => {
                let label = Label::members();
                (self.member.configure(change), Waiting { since, caller, times: times(None), label })
            }
        };
        self.waiting.insert(id, waiting);
        self.deadlines.push_back((deadline, id));
        None
    }

    fn retry_held(&mut self, now: Moment) {
        for _ in 0..self.held.len() {
            let Some((deadline, call)) = self.held.pop_front() else { break };
            if let Some(call) = self.try_take(call, deadline, now) {
                self.held.push_back((deadline, call));
            }
        }
    }

    /// Asks the cluster for the reads that came in, or writes them to the log where it cannot be asked.
    fn ask_reads(&mut self, now: Moment) {
        if self.member.offers_read_index() {
            self.reads.ask(&mut self.member, now);
            return;
        }
        for Read { request, caller, deadline, .. } in self.reads.take_all() {
            self.take(Call::Propose { command: request.into(), began: None, caller }, deadline, now);
        }
    }

    fn answer_reads(&mut self, now: Moment) {
        let (applied, timeout) = (self.member.status().applied, self.config.request_timeout);
        while let Some(reads) = self.reads.take_applied(applied, now, timeout, &mut self.slow) {
            self.actions.extend(reads.into_iter().map(|read| Action::Read(read.request, read.caller)));
        }
        self.take_slow_lines();
    }

    /// Gives up on calls whose deadline has passed.
    fn expire_calls(&mut self, now: Moment) {
        while let Some((deadline, id)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            self.expire_waiting(id, deadline, now);
        }
        while let Some((deadline, call)) = self.held.pop_front_if(|(deadline, _)| *deadline <= now) {
            if let Call::Propose { command, began, .. } = &call {
                let came = began.unwrap_or(deadline - self.config.request_timeout);
                let stages = Stages { queue: now - came, ..Stages::default() };
                self.slow.tell(&Label::of(command), stages, false, now);
            }
            let (caller, why) = (call.into_caller(), Unavailable::Timeout);
            self.actions.push_back(Action::Unanswered { caller, why, proposed: false });
        }
        let timeout = self.config.request_timeout;
        self.reads.retry(now, self.config.election);
        for read in self.reads.expire(now, timeout, &mut self.slow) {
            let why = self.why_none(read.deadline - timeout);
            self.actions.push_back(Action::Unanswered { caller: read.caller, why, proposed: false });
        }
    }

    fn expire_waiting(&mut self, id: RequestId, deadline: Moment, now: Moment) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        self.member.forget(id);
        let stages = self.slow.stages_so_far(waiting.times, now);
        self.slow.tell(&waiting.label, stages, false, now);
        let why = self.why_none(deadline - self.config.request_timeout);
        self.actions.push_back(Action::Unanswered { caller: waiting.caller, why, proposed: true });
    }

    /// Answers one whose entry may have been lost with a leader, or be covered by a snapshot.
    fn give_up(&mut self, id: RequestId, now: Moment) {
        if let Some(waiting) = self.waiting.get(&id) {
            let deadline = waiting.since + self.config.request_timeout;
            self.expire_waiting(id, deadline, now);
        }
    }

    /// Why a request that came at `came` has no answer.
    fn why_none(&self, came: Moment) -> Unavailable {
        // A leader that was lost within two election timeouts after the request came may have been its end.
        let before = self.leader_changed - 2 * self.config.election;
        if before < came && came < self.leader_changed {
            Unavailable::LeaderLost
        } else {
            Unavailable::Timeout
        }
    }

    fn note_leader(&mut self, now: Moment) {
        let leader = self.member.status().leader;
        if leader != self.leader {
            (self.leader, self.leader_changed) = (leader, now);
        }
    }

    /// Tells of those requests that were slow, of those that were applied last.
    fn tell_slow(&mut self, now: Moment) {
        if self.slow.threshold().is_none() {
            return;
        }
        let index = self.member.status().applied;
        for (times, label) in std::mem::take(&mut self.maybe_slow) {
            let stages = self.slow.stages(times, index, self.applied_at, now);
            self.slow.tell(&label, stages, true, now);
        }
        self.slow.applied(index);
        self.take_slow_lines();
    }

    fn take_slow_lines(&mut self) {
        let lines = self.slow.take_lines();
        self.actions.extend(lines.map(|line| Action::Tell(Notice::Slow(line))));
    }

    /// A leader lets expired keys go by an entry, so that all members lose them at the same point. Go members take
    /// a log that stands still for a cluster that is ill: for them there is an entry twice a second.
    fn propose_expiry(&mut self, now: Now, machine: &M) {
        if self.member.status().role != Role::Leader {
            return;
        }
        let time = now.wall.0;
        let is_watched = !self.member.offers_read_index() && time - self.last_sync >= SYNC_INTERVAL_NANOS;
        if is_watched || machine.has_expired(now.wall) {
            self.last_sync = time;
            self.member.propose_once(Command::expire(time));
        }
    }

    /// A leader removes one that has been silent for as long as the cluster's settings say.
    fn remove_dead_member(&mut self, now: Moment, machine: &M) {
        let (Some(dead), Some(delay)) = (&mut self.dead_members, self.config.dead_after) else { return };
        if self.ending.is_some() {
            return;
        }
        let Some(dead) = dead.find_dead(now, &self.member, || delay(machine)) else { return };
        let name = self.membership().members.get(&dead.id).map(|peer| peer.name.clone()).unwrap_or_default();
        self.tell(Notice::RemovesDead { id: dead.id, name, silent_for: dead.silent_for });
        self.member.configure_once(MemberChange::remove(dead.id));
    }

    fn take_snapshot(&mut self, tail: pb::SnapshotMetadata) {
        self.tell(Notice::Snapshotting { applied: tail.index, last: self.snapshots.last_index() });
        self.snapshots.taken(tail.index);
        // Nothing may be applied in between.
        self.actions.push_front(Action::TakeSnapshot(tail));
    }

    fn begin_install(&mut self, received: Received) {
        let metadata = &received.metadata;
        let at = pb::WalSnapshot { index: metadata.index, term: metadata.term };
        let Some(Offered { machine, before, .. }) =
            self.offered.take_if(|offered| offered.index == metadata.index)
        else {
            // Raft installs what was stepped last, and nothing is stepped without its state.
            unreachable!("raft installs a snapshot at {} that nobody sent", metadata.index);
        };
        let applied = self.member.status().applied;
        self.tell(Notice::Restoring { at, before, applied });
        self.installing = Some(Installing::Marking { received, machine: Box::new(machine) });
        self.actions.push_back(Action::MarkReceived(at));
    }

    fn check_version(&mut self) {
        let version = self.membership().version.as_deref();
        if version.is_some_and(version::is_too_new) && self.ending.is_none() {
            self.ending = Some(Ending::TooOld);
        }
    }

    /// Whether it is time to end.
    fn end(&self, now: Moment) -> Option<End> {
        match self.ending? {
            Ending::Removed { at } => (at <= now).then_some(End::Removed),
            Ending::TooOld => Some(End::TooOld(self.membership().version.clone().unwrap_or_default())),
            Ending::HandingOver { until } => {
                let over = until <= now || self.member.status().role != Role::Leader;
                over.then_some(End::Stopped)
            }
        }
    }
}

impl<C> Call<C> {
    /// Who waits.
    pub fn into_caller(self) -> C {
        match self {
            Call::Propose { caller, .. } | Call::Configure { caller, .. } => caller,
        }
    }
}

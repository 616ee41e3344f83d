//! A node: a member of the cluster, the calls that wait for it, and its deadlines. No I/O, no clock, no locks,
//! no tasks.
//!
//! Methods take input in; [`Node::poll`] returns the next [`Action`], or `None` when there is nothing left to
//! do. The driver of a node (the server or a simulator) carries each action out before it polls again, and then
//! calls the method that [`Action`] names with the result.
//!
//! The node does not own the state machine, which it shares with readers. Methods that need it take it as an
//! argument.

mod calls;
mod publish;
mod snapshots;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shared::id::MemberId;

use self::calls::PendingCall;
use self::snapshots::{Installing, OfferedSnapshot};
use crate::action::{Action, AnsweredCall, Call, Changes, Config, End, Notice};
use crate::command::{Command, Outcome};
use crate::dead_members::DeadMembers;
use crate::machine::StateMachine;
use crate::member::{
    Applied, Batch, BatchId, Committed, Kind, Member, MemberChange, Membership, Message, Output, Progress,
    RequestId, Role,
};
use crate::publication::{ClusterVersion, OwnProposal};
use crate::reads::Reads;
use crate::refusals::Refusals;
use crate::slow::{self, Label, Slow, Times};
use crate::snapshot_policy::SnapshotPolicy;
use crate::time::{Moment, Now};

/// How often a leader looks for expired keys. An expired key disappears at most this much later, plus the time
/// that the entry takes.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// How long a removed member continues to run, so that the other members learn of its removal.
const REMOVED_REST: Duration = Duration::from_secs(1);

/// The longest time between two entries that carry the time, while there are Go members.
const SYNC_INTERVAL_NANOS: i64 = 450_000_000;

/// Why the node is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The member was removed. It continues until `at` to send its last messages to the others.
    Removed { at: Moment },
    /// The cluster's version is too new for this server.
    TooOld,
    /// The node was asked to stop and waits for another member to take over the lead.
    HandingOver { until: Moment },
}

/// See the module's documentation. `M` is the state machine, `C` the caller that waits for an answer.
pub struct Node<M, C> {
    member: Member,
    config: Config<M>,
    /// Actions that `poll` returns before it polls the member.
    actions: VecDeque<Action<M, C>>,
    /// The last poll returned `None`: the next one begins a turn.
    turn_ended: bool,
    waiting: HashMap<RequestId, PendingCall<C>>,
    /// The deadlines of `waiting`, earliest first.
    deadlines: VecDeque<(Moment, RequestId)>,
    /// Calls that wait for a leader, with their deadlines.
    held: VecDeque<(Moment, Call<C>)>,
    reads: Reads<C>,
    slow: Slow,
    /// Requests of the last applied entries that may have been slow.
    maybe_slow: Vec<(Times, Label)>,
    applied_at: Moment,
    /// The state of a received snapshot is being read. Meanwhile entries that follow the snapshot are dropped:
    /// raft would refuse them, and the leader would send the snapshot again.
    reading_snapshot: bool,
    offered: Option<OfferedSnapshot<M>>,
    installing: Option<Installing<M>>,
    snapshots: SnapshotPolicy,
    last_written: Option<BatchId>,
    leader: MemberId,
    leader_changed: Moment,
    /// The state machine knows that this member leads.
    leads: bool,
    ending: Option<Ending>,
    next_expiry: Moment,
    /// When this member last proposed an entry with the time: its own clock, Unix nanoseconds.
    last_sync: i64,
    /// Finds silent members to remove; only with `-remove-dead-members`.
    dead_members: Option<Box<DeadMembers>>,
    refusals: Refusals,
    progress: Vec<Progress>,
    /// The proposal of this member's attributes, until it is applied.
    attributes: Option<OwnProposal>,
    cluster_version: ClusterVersion,
}

impl<M: StateMachine, C> Node<M, C> {
    /// A node around a new member.
    pub fn new(member: Member, mut config: Config<M>, now: Moment) -> Node<M, C> {
        let id = member.status().id;
        let deadline = now + config.request_timeout;
        let attributes = config.attributes.take();
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
            leads: false,
            ending: None,
            next_expiry: now,
            last_sync: 0,
            dead_members: dead_members.then(|| Box::new(DeadMembers::new(config.election, now))),
            refusals: Refusals::default(),
            progress: Vec::new(),
            attributes: attributes.map(|value| OwnProposal::attributes(id, value, deadline)),
            cluster_version: ClusterVersion::new(now),
            member,
            config,
        }
    }

    /// The member, read-only.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// The members of the cluster as of the last applied entry.
    pub fn membership(&self) -> &Membership {
        self.member.membership()
    }

    /// The followers' positions in the log at the last tick; empty unless this member leads.
    pub fn progress(&self) -> &[Progress] {
        &self.progress
    }

    /// The number of calls that wait for an entry.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The number of calls that wait for a leader.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether the state of a received snapshot is being read. Meanwhile append messages and other snapshots
    /// are dropped.
    pub fn is_reading_snapshot(&self) -> bool {
        self.reading_snapshot
    }

    /// Called once the log of the start is applied. The only member of a cluster becomes the leader at once,
    /// since no other member could. In a new cluster without a leader (`is_new`) the first election comes
    /// early.
    pub fn begin(&mut self, is_new: bool) {
        if self.member.status().alone {
            self.member.campaign();
        } else if is_new {
            self.member.shorten_first_election();
        }
    }

    // Input.

    /// A client's call. It is answered exactly once: by [`Node::apply`], [`Action::Read`] or
    /// [`Action::Unanswered`].
    pub fn call(&mut self, call: Call<C>, now: Moment) {
        self.accept(call, now + self.config.request_timeout, now);
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

    /// Messages to this member do not arrive.
    pub fn unreachable(&mut self, id: MemberId) {
        self.member.unreachable(id);
    }

    /// The process of another member has ended, see [`Member::peer_is_gone`].
    pub fn peer_is_gone(&mut self, id: MemberId) {
        self.member.peer_is_gone(id);
    }

    /// Whether a snapshot reached its follower.
    pub fn snapshot_sent(&mut self, to: MemberId, arrived: bool) {
        self.member.snapshot_sent(to, arrived);
    }

    /// Whether all members support the extensions, see [`Member::set_extended`].
    pub fn set_extended(&mut self, extended: bool) {
        if self.member.is_extended() != extended {
            self.member.set_extended(extended);
            self.notify(Notice::Extended(extended));
        }
    }

    /// Starts an election now, as after an election timeout.
    pub fn campaign(&mut self) {
        self.member.campaign();
    }

    /// Hands the leadership over to the most advanced follower that `may` lead, see [`Member::transfer`].
    pub fn transfer(&mut self, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        self.member.transfer(may)
    }

    /// Begins to stop. A leader first hands the leadership over to a member that `may` lead, so that the
    /// cluster does not wait for an election timeout. [`Action::End`] follows.
    pub fn stop(&mut self, may: impl Fn(MemberId) -> bool, now: Moment) {
        if self.ending.is_some() {
            return;
        }
        let until = match self.member.transfer(may) {
            Some(to) => {
                self.notify(Notice::HandsOver { to });
                now + self.config.election
            }
            None => now,
        };
        self.ending = Some(Ending::HandingOver { until });
    }

    /// A batch was written to the log; if it must be synced, it is durable since `at`.
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
    pub fn tick(&mut self, now: Now, machine: &mut M) {
        self.member.tick(now.wall);
        self.progress = self.member.progress();
        if self.slow.threshold().is_some() {
            self.slow.set_obstacle(slow::obstacle(&self.member, &self.progress));
        }
        self.expire_calls(now.moment);
        self.slow.tick(now.moment);
        self.expire_own_proposals(now.moment);
        if now.moment >= self.next_expiry {
            self.next_expiry = now.moment + EXPIRY_INTERVAL;
            self.propose_expiry(now, machine);
        }
        self.lead(now.moment, machine);
        self.remove_dead_member(now.moment, machine);
    }

    // Results of actions.

    /// Applies the entries of [`Action::Apply`]. `each` is called for every entry with its effect and the call
    /// that waited for it; the caller must be answered before this returns, or right after.
    pub fn apply(
        &mut self,
        committed: Committed,
        machine: &mut M,
        now: Now,
        mut each: impl FnMut(Applied, Option<AnsweredCall<C>>),
    ) -> Changes {
        let moment = now.moment;
        let mut changes = Changes::default();
        let (mut new_term, mut removed) = (false, false);
        let (mut published, mut version_raised) = (false, false);
        let (attributes, version) = (&self.attributes, &self.cluster_version.proposal);
        // Half of the threshold: the time to apply is added later.
        let maybe_slow = self.slow.threshold().map(|threshold| threshold / 2);
        let (waiting, slow) = (&mut self.waiting, &mut self.maybe_slow);
        self.member.apply(committed, machine, now, |applied| {
            let id = match &applied {
                Applied::Command(id, _) | Applied::Configured(id, _) => Some(*id),
                Applied::AttributesChanged | Applied::MemberChanged { .. } => {
                    changes.membership = true;
                    None
                }
                Applied::NewTerm => {
                    new_term = true;
                    None
                }
                Applied::RemovedSelf => {
                    removed = true;
                    None
                }
                Applied::OutsideKeys { .. } | Applied::Skipped { .. } => None,
            };
            let is_refused = matches!(&applied, Applied::Command(_, Outcome::V2(Err(_))));
            if let Some(id) = id.filter(|_| !is_refused) {
                published |= attributes.as_ref().is_some_and(|own| own.is_proposed_as(id));
                version_raised |= version.as_ref().is_some_and(|own| own.is_proposed_as(id));
            }
            let answered = id.and_then(|id| waiting.remove(&id)).map(|waiting| {
                if maybe_slow.is_some_and(|time| moment - waiting.times.arrived >= time) {
                    slow.push((waiting.times, waiting.label));
                }
                AnsweredCall { caller: waiting.caller, waited: moment - waiting.since }
            });
            each(applied, answered);
        });
        self.applied_at = moment;
        if published {
            self.attributes = None;
            self.notify(Notice::Published);
        }
        if version_raised {
            self.cluster_version.proposal = None;
        }
        if changes.membership {
            self.check_version();
        }
        if removed {
            // The other members, if any, must learn that the removal is committed.
            let rest = if self.membership().members.is_empty() { Duration::ZERO } else { REMOVED_REST };
            self.ending = Some(Ending::Removed { at: moment + rest });
        }
        if new_term {
            // The previous leader will not answer its read requests; the new leader can.
            self.reads.retry(moment, Duration::ZERO);
            self.cluster_version.check_now(moment);
        }
        self.note_leader(moment);
        let tail = self.member.tail();
        if self.snapshots.is_due(tail.index, moment) {
            self.take_snapshot(tail);
        }
        changes
    }

    // Output.

    /// The next action; call until it returns `None`.
    pub fn poll(&mut self, now: Moment) -> Option<Action<M, C>> {
        if self.installing.is_some() {
            return self.actions.pop_front();
        }
        if std::mem::take(&mut self.turn_ended) {
            self.retry_held(now);
            self.request_read_index(now);
            self.make_own_proposals(now);
        }
        self.report_slow(now);
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

    /// All callers that still wait. Called when the node ends: nothing else answers them.
    pub fn take_callers(&mut self) -> Vec<C> {
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_unstable_by_key(|(id, _)| *id);
        let unanswered = std::mem::take(&mut self.actions).into_iter().filter_map(|action| match action {
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
            .chain(unanswered)
            .collect()
    }

    // Helpers.

    fn notify(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notify(notice));
    }

    /// Passes a message to the member. Returns false if the member refuses it.
    fn step(&mut self, message: Message, now: Moment) -> bool {
        let stepped = self.member.step(message);
        if let Err(refusal) = stepped {
            if let Some(others) = self.refusals.add(now) {
                self.notify(Notice::Refused { refusal, others });
            }
            return false;
        }
        true
    }

    fn note_leader(&mut self, now: Moment) {
        let leader = self.member.status().leader;
        if leader != self.leader {
            (self.leader, self.leader_changed) = (leader, now);
        }
    }

    /// A leader expires keys by an entry, so that all members remove them at the same index. Go members
    /// consider a cluster unhealthy whose log does not grow: for them the leader proposes such an entry twice a
    /// second.
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

    /// Lets the state machine know whether this member leads, and proposes what it wants as the leader's.
    fn lead(&mut self, now: Moment, machine: &mut M) {
        let status = self.member.status();
        let leads = status.role == Role::Leader && status.current;
        if leads != self.leads {
            self.leads = leads;
            machine.set_leading(leads.then_some(self.config.election), now);
        }
        if leads && self.ending.is_none() {
            for command in machine.due_commands(now) {
                self.member.propose_once(command);
            }
        }
    }

    /// As the leader, removes a member that has been silent for longer than the cluster's setting.
    fn remove_dead_member(&mut self, now: Moment, machine: &M) {
        let (Some(dead), Some(delay)) = (&mut self.dead_members, self.config.dead_after) else { return };
        if self.ending.is_some() {
            return;
        }
        let Some(dead) = dead.find_dead(now, &self.member, || delay(machine)) else { return };
        let name = self.membership().members.get(&dead.id).map(|peer| peer.name.clone()).unwrap_or_default();
        self.notify(Notice::RemovesDead { id: dead.id, name, silent_for: dead.silent_for });
        self.member.configure_once(MemberChange::remove(dead.id));
    }

    fn check_version(&mut self) {
        let version = self.membership().version.as_deref();
        if version.is_some_and(|version| self.member.level().is_too_low_for(version)) && self.ending.is_none()
        {
            self.ending = Some(Ending::TooOld);
        }
    }

    /// The reason to end, if the time for it has come.
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

//! A node: the member, who waits for it, and what it does as time passes. No I/O, no clock, no locks, no tasks.
//!
//! Calls bring things in, [`Node::poll`] hands out what is to be done, one [`Action`] after the other until there is
//! nothing. Whoever drives a node (the server, a simulator) carries each action out before it asks for the next one, and
//! says what became of it: [`Action`] tells how.
//!
//! The state machine is not the node's: it is shared with those who read it. Where the node needs it, it is an argument.

mod calls;
mod publish;
mod snapshots;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shared::id::MemberId;

use self::calls::PendingCall;
use self::snapshots::{Installing, OfferedSnapshot};
use crate::action::{Action, AnsweredCall, Call, Changes, Config, End, Notice};
use crate::command::Command;
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
use crate::version;

/// How often a leader looks for keys that have expired. An expired key disappears at most this late, and the
/// time for the log later.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// How long a member that was removed goes on, so that the others learn of it.
const REMOVED_REST: Duration = Duration::from_secs(1);

/// How often time passes in the log at least, where there are Go members.
const SYNC_INTERVAL_NANOS: i64 = 450_000_000;

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

/// See the module's documentation. `M` is the state machine, `C` is whoever waits for an answer.
pub struct Node<M, C> {
    member: Member,
    config: Config<M>,
    /// To be handed out before the member is asked.
    actions: VecDeque<Action<M, C>>,
    /// The last poll had nothing to hand out: the next one begins a turn.
    turn_ended: bool,
    waiting: HashMap<RequestId, PendingCall<C>>,
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
    offered: Option<OfferedSnapshot<M>>,
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
    /// This member's attributes, until the cluster has them.
    attributes: Option<OwnProposal>,
    cluster_version: ClusterVersion,
}

impl<M: StateMachine, C> Node<M, C> {
    /// A node around a member that has just been made.
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
            self.notify(Notice::Extended(extended));
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
                self.notify(Notice::HandsOver { to });
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
        self.expire_own_proposals(now.moment);
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
        mut each: impl FnMut(Applied, Option<AnsweredCall<C>>),
    ) -> Changes {
        let moment = now.moment;
        let mut changes = Changes::default();
        let (mut new_term, mut removed) = (false, false);
        let (mut published, mut version_raised) = (false, false);
        let (attributes, version) = (&self.attributes, &self.cluster_version.proposal);
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
                    new_term = true;
                    None
                }
                Applied::RemovedSelf => {
                    removed = true;
                    None
                }
                Applied::OutsideKeys { .. } | Applied::PassedOver { .. } => None,
            };
            if let Some(id) = id {
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
            // The others are to learn that it is decided, if there are any.
            let rest = if self.membership().members.is_empty() { Duration::ZERO } else { REMOVED_REST };
            self.ending = Some(Ending::Removed { at: moment + rest });
        }
        if new_term {
            // What the leader before was asked nobody will answer; this one can.
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

    // What goes out.

    /// What is to be done next; ask until there is nothing.
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

    /// All who wait, once the node has come to its end: nobody else will answer them.
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

    // How it is done.

    fn notify(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notify(notice));
    }

    /// Hands a message to the member; whether it is one that members send.
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
        self.notify(Notice::RemovesDead { id: dead.id, name, silent_for: dead.silent_for });
        self.member.configure_once(MemberChange::remove(dead.id));
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

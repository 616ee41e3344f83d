//! The task that owns the [`Node`]: it receives requests, messages and the log's outcomes, polls the node, and
//! carries out its actions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use node::member::{Applied, Batch, Committed, Kind, Message, ReceivedSnapshot, Role};
use node::version::SPOKEN;
use node::{Action, End, Notice, Outcome, StateMachine as _, Unavailable};
use shared::disk::Disk;
use shared::event::Event;
use shared::mvcc::Reader;
use shared::net::Dialer;
use shared::pb;
use shared::store::Store;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::clock;
use super::database::{CommitOutcome, Commits, DatabaseView, V3State};
use super::fatal::Fatal;
use super::handle::{Inner, LoopRequest};
use super::log_thread::{Job, LogOutcome, LogThread};
use super::network::Links;
use super::notices::{log_leader, log_member, log_notice, log_version};
use super::publish::Publication;
use super::snapshots::{self, Snapshotter};
use super::versions;
use crate::backend::{ChangeError, SubmitError};
use crate::log;
use crate::metrics::Metrics;
use crate::peers::Inbound;

/// Requests handled in one turn. The member proposes them together and the log syncs them together.
const CALLS_PER_TURN_MAX: usize = 1024;

/// Messages handled in one turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;

/// How often the age of the watch history is recorded.
const AGE_INTERVAL: Duration = Duration::from_millis(250);

/// Why a snapshot of a cluster with version 3 is not installed.
const NO_DATABASE: &str = "the database of version 3 does not come with it: this version cannot send or receive one yet; add \
                           the member anew while the leader still has all entries of its log (-snapshot-count)";

/// Old versions that are removed in one turn. That takes well below a millisecond.
const COMPACTED_AT_ONCE: usize = 1000;

/// Accesses to the store and the loop that belong to one write.
const REQUESTS_OF_ONE_WRITE: u64 = 1;

/// What the log of a server leads to.
pub(super) type ServerMachine = node::Machine<DatabaseView>;

/// The node of a server.
pub(super) type Node = node::Node<ServerMachine, Caller>;

/// The parts that the loop uses to carry out actions.
pub(super) struct LoopParts<D: Disk> {
    pub(super) log: LogThread<D>,
    /// The outcomes of its jobs.
    pub(super) log_outcomes: UnboundedReceiver<LogOutcome>,
    pub(super) snapshotter: Snapshotter<D>,
    /// The commits to the database, where there is one.
    pub(super) commits: Option<Commits>,
    pub(super) links: Links,
    /// Reaches other members' pages.
    pub(super) dialer: Dialer,
}

/// A received snapshot message and its state.
struct ParsedSnapshot {
    message: Message,
    machine: Result<ServerMachine, String>,
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExitReason {
    #[error("stopped")]
    Stopped,
    /// This member was removed from the cluster, or another member says so.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// The cluster's version is too new for this server.
    #[error(
        "cluster cannot be downgraded (current version: {SPOKEN} is lower than determined cluster version: {0})."
    )]
    TooOld(String),
    /// The log or a snapshot cannot be written.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

impl From<End> for ExitReason {
    fn from(end: End) -> ExitReason {
        match end {
            End::Stopped => ExitReason::Stopped,
            End::Removed => ExitReason::Removed,
            End::TooOld(version) => ExitReason::TooOld(version),
        }
    }
}

/// Why a v3 request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum V3Failure {
    /// It was refused, in the same way on every member.
    Refused(node::v3::Error),
    /// There is no result. It may have been carried out, or may still be.
    Unavailable(Unavailable),
}

/// The outcome of a v3 request.
pub(super) type V3Answer = Result<node::v3::Response, V3Failure>;

/// A caller that waits for the node's answer. It may be gone by then.
#[derive(Debug)]
pub(super) enum Caller {
    /// Waits for the outcome of a command.
    Submit(oneshot::Sender<Result<Event, SubmitError>>),
    /// Waits for the outcome of a v3 request.
    V3(oneshot::Sender<V3Answer>),
    /// Waits until everything is applied that was committed when it asked.
    ReadPoint(oneshot::Sender<Result<(), Unavailable>>),
    /// Waits for a change of the members.
    Configure(oneshot::Sender<Result<(), ChangeError>>),
}

impl Caller {
    fn read_point_reached(self) {
        if let Caller::ReadPoint(reply) = self {
            let _ = reply.send(Ok(()));
        }
    }

    fn unavailable(self, why: Unavailable) {
        match self {
            Caller::Submit(reply) => drop(reply.send(Err(why.into()))),
            Caller::V3(reply) => drop(reply.send(Err(V3Failure::Unavailable(why)))),
            Caller::ReadPoint(reply) => drop(reply.send(Err(why))),
            Caller::Configure(reply) => drop(reply.send(Err(why.into()))),
        }
    }
}

/// An answer that is ready to be sent.
enum Answer {
    Submitted(oneshot::Sender<Result<Event, SubmitError>>, Result<Event, SubmitError>),
    Configured(oneshot::Sender<Result<(), ChangeError>>, Result<(), ChangeError>),
    V3(oneshot::Sender<V3Answer>, Box<Result<node::v3::Response, node::v3::Error>>),
}

impl Answer {
    /// Sends it. A caller that has left gets none.
    fn send(self) {
        match self {
            Answer::Submitted(reply, result) => drop(reply.send(result)),
            Answer::Configured(reply, result) => drop(reply.send(result)),
            Answer::V3(reply, result) => drop(reply.send(result.map_err(V3Failure::Refused))),
        }
    }
}

pub(super) struct NodeLoop<D: Disk> {
    node: Node,
    inner: Arc<Inner>,
    heartbeat: Duration,
    log: LogThread<D>,
    snapshotter: Snapshotter<D>,
    commits: Option<Commits>,
    /// A compaction has left versions to remove.
    is_compacting: bool,
    publication: Publication,
    dialer: Dialer,
    /// The answers of the entries that are being applied. Empty between two calls; kept for its memory.
    answers: Vec<Answer>,
    /// Notified once every entry that was acknowledged here is applied.
    ready: Option<oneshot::Sender<()>>,
    metrics: Arc<Metrics>,
    /// When the first unanswered append message arrived, if appends are timed.
    append_received: Option<Instant>,
    next_age: Instant,
    links: Links,
    /// Sends the parsed snapshots to the loop.
    parsed: UnboundedSender<ParsedSnapshot>,
    snapshots_parsed: UnboundedReceiver<ParsedSnapshot>,
    /// The outcomes of the log's thread.
    log_outcomes: UnboundedReceiver<LogOutcome>,
}

/// The outcome of the next commit; never without a database. `None` if its thread has ended.
async fn next_commit(commits: &mut Option<Commits>) -> Option<CommitOutcome> {
    match commits {
        Some(commits) => commits.outcomes.recv().await,
        None => std::future::pending().await,
    }
}

/// Ready at this moment; never without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl<D: Disk> NodeLoop<D> {
    pub(super) fn new(
        node: Node,
        inner: Arc<Inner>,
        heartbeat: Duration,
        parts: LoopParts<D>,
        publication: Publication,
        ready: oneshot::Sender<()>,
        metrics: Arc<Metrics>,
    ) -> NodeLoop<D> {
        let LoopParts { log, log_outcomes, snapshotter, commits, links, dialer } = parts;
        let (parsed, snapshots_parsed) = mpsc::unbounded_channel();
        NodeLoop {
            node,
            inner,
            heartbeat,
            log,
            snapshotter,
            commits,
            is_compacting: false,
            publication,
            dialer,
            answers: Vec::new(),
            ready: Some(ready),
            metrics,
            append_received: None,
            next_age: Instant::now(),
            links,
            parsed,
            snapshots_parsed,
            log_outcomes,
        }
    }

    /// Runs until it is asked to stop, the disk fails or the member is removed. Waiting requests are answered
    /// before it returns. `is_new` says that the cluster has had no leader yet.
    pub(super) async fn run(
        mut self,
        is_new: bool,
        mut requests: Receiver<LoopRequest>,
        mut saved: UnboundedReceiver<snapshots::SavedSnapshot>,
        mut inbound: Receiver<Inbound>,
        mut stop: watch::Receiver<bool>,
    ) -> ExitReason {
        let mut ticks = tokio::time::interval(self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.links.follow(self.node.membership());
        if let Err(exit) = self.begin(is_new).await {
            return self.end(exit).await;
        }
        let mut stopping = false;
        let exit = loop {
            let due = self.commits.as_ref().and_then(|commits| commits.due);
            // Ticks first: time must pass under any load. After each wake-up all queues are drained.
            let handled = tokio::select! {
                biased;
                _ = ticks.tick() => {
                    self.tick();
                    Ok(())
                }
                _ = stop.changed(), if !stopping => {
                    stopping = true;
                    let links = &self.links;
                    self.node.stop(|id| links.is_extended(id), clock::moment());
                    Ok(())
                }
                Some(outcome) = self.log_outcomes.recv() => self.on_log_outcome(outcome),
                Some(inbound) = inbound.recv() => self.on_inbound(inbound),
                Some(request) = requests.recv() => {
                    self.on_request(request);
                    Ok(())
                }
                Some(saved) = saved.recv() => self.snapshot_saved(saved),
                outcome = next_commit(&mut self.commits) => self.on_committed(outcome),
                () = at(due) => {
                    self.with_v3(Commits::commit);
                    Ok(())
                }
                // Last: only while there is nothing else to do.
                () = std::future::ready(()), if self.is_compacting => {
                    self.compact();
                    Ok(())
                }
                Some(ParsedSnapshot { message, machine }) = self.snapshots_parsed.recv() => {
                    self.node.snapshot_read(message, machine, clock::moment());
                    Ok(())
                }
            };
            let drained = handled.and_then(|()| self.drain_queues(&mut inbound, &mut requests));
            let carried_out = match drained {
                Ok(()) => self.carry_out().await,
                Err(exit) => Err(exit),
            };
            if let Err(exit) = carried_out {
                break exit;
            }
        };
        self.end(exit).await
    }

    async fn begin(&mut self, is_new: bool) -> Result<(), ExitReason> {
        self.carry_out().await?;
        self.node.begin(is_new);
        self.carry_out().await
    }

    /// Handles everything else in the queues, so that the node is polled once for all of it.
    fn drain_queues(
        &mut self,
        inbound: &mut Receiver<Inbound>,
        requests: &mut Receiver<LoopRequest>,
    ) -> Result<(), ExitReason> {
        while let Ok(outcome) = self.log_outcomes.try_recv() {
            self.on_log_outcome(outcome)?;
        }
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Ok(inbound) = inbound.try_recv() else { break };
            self.on_inbound(inbound)?;
        }
        for _ in 0..CALLS_PER_TURN_MAX {
            let Ok(request) = requests.try_recv() else { break };
            self.on_request(request);
        }
        Ok(())
    }

    fn on_request(&mut self, request: LoopRequest) {
        match request {
            LoopRequest::Call(call) => self.node.call(call, clock::moment()),
            LoopRequest::LowestVersion(lowest) => self.node.versions_known(lowest, clock::moment()),
            LoopRequest::KeepHash(hash) => {
                self.with_v3(|_, v3| v3.keep_hash(hash));
                self.inner.compacted.send_modify(|rounds| *rounds += 1);
            }
            LoopRequest::Commit(reply) => self.with_v3(|commits, v3| commits.commit_all(v3, reply)),
            LoopRequest::Ping(reply) => drop(reply.send(())),
        }
    }

    /// Handles a message or event of the network. Fails if another member answers that this one was removed.
    fn on_inbound(&mut self, inbound: Inbound) -> Result<(), ExitReason> {
        match inbound {
            Inbound::Message(message) => {
                let is_append = message.kind() == Kind::Append && !self.node.is_reading_snapshot();
                if is_append && self.metrics.timers().is_some() {
                    self.append_received.get_or_insert_with(Instant::now);
                }
                self.node.receive(message, clock::moment());
            }
            Inbound::Unreachable(id) => self.node.unreachable(id),
            Inbound::PeerGone(id) => self.node.peer_is_gone(id),
            Inbound::SnapshotSent { to, ok } => self.node.snapshot_sent(to, ok),
            // The extensions are used while there is no Go member.
            Inbound::PeerChanged => self.node.set_extended(self.links.all_extended()),
            Inbound::RemovedAccordingTo(by) if self.links.may_say_removed(by, self.node.membership()) => {
                return Err(ExitReason::Removed);
            }
            Inbound::RemovedAccordingTo(by) if self.links.doubts_first(by) => log::warning!(
                "etcdserver",
                "{by} says that this member has been removed, but is not a started member of this cluster: ignored"
            ),
            Inbound::RemovedAccordingTo(_) => {}
        }
        Ok(())
    }

    fn on_log_outcome(&mut self, outcome: LogOutcome) -> Result<(), ExitReason> {
        match outcome {
            LogOutcome::Failed(error) => return Err(Fatal::from(error).into()),
            LogOutcome::Written(batch, at) => self.node.written(batch, clock::moment_of(at)),
            LogOutcome::Marked(at) => self.node.snapshot_marked(at, clock::moment()),
            LogOutcome::Released => {}
        }
        self.log.answered();
        Ok(())
    }

    fn snapshot_saved(&mut self, saved: snapshots::SavedSnapshot) -> Result<(), ExitReason> {
        let metadata = saved.0.map_err(Fatal::from)?;
        self.snapshotter.saved(metadata.term, metadata.index);
        self.node.snapshot_saved(metadata, clock::moment());
        Ok(())
    }

    fn tick(&mut self) {
        let now = clock::both();
        self.node.tick(now, &mut self.inner.machine.write());
        self.node.progress().clone_into(&mut self.inner.progress.lock());
        if self.snapshotter.has_lost_newest() {
            self.node.snapshot_lost(now.moment);
        }
        let instant = Instant::now();
        if instant >= self.next_age {
            self.next_age = instant + AGE_INTERVAL;
            self.record_age(instant);
        }
    }

    /// Records when the store reached its index: from that the watch history's age is computed.
    fn record_age(&self, now: Instant) {
        let (index, oldest) = {
            let store = self.inner.tree();
            (store.index(), store.history_reach().1)
        };
        self.inner.ages.lock().record(index, oldest, now.into_std());
    }

    /// Carries out the node's actions until there are none.
    async fn carry_out(&mut self) -> Result<(), ExitReason> {
        let mut acted = false;
        while let Some(action) = self.node.poll(clock::moment()) {
            acted = true;
            match action {
                Action::Send(messages) => self.send(messages),
                Action::Persist(batch) => self.persist(batch)?,
                Action::Apply(committed) => self.apply(committed)?,
                Action::Read(request, caller) => self.read(&request, caller),
                Action::ReadPoint(caller) => caller.read_point_reached(),
                Action::Unanswered { caller, why, proposed } => {
                    if proposed {
                        self.metrics.proposal_failed();
                    }
                    caller.unavailable(why);
                }
                Action::ReadSnapshot(message) => self.parse_snapshot(message),
                Action::MarkReceived(at) => self.mark_received(at).await?,
                Action::SaveReceived(received) => self.save_received(received).await?,
                Action::Install(later) => self.install(*later),
                Action::TakeSnapshot(at) => self.take_snapshot(at),
                Action::SaveSnapshot => {
                    if self.commits.as_mut().is_none_or(Commits::may_save) {
                        self.save_snapshot();
                    }
                }
                Action::AskVersions => self.ask_versions(),
                Action::ReleaseLog(index) => self.log.send(Job::Release(index)),
                Action::Notify(Notice::Published) => {
                    self.publication.log(self.inner.id, self.node.membership());
                }
                Action::Notify(notice) => log_notice(self.inner.id, &notice),
                Action::End(end) => {
                    self.publish_status();
                    return Err(end.into());
                }
            }
        }
        self.metrics.proposals_pending(self.node.waiting());
        self.metrics.queues(self.log.under_way(), self.node.held());
        if acted {
            self.publish_status();
        }
        Ok(())
    }

    /// Asks the other members for their versions in a task of its own: that may take seconds.
    fn ask_versions(&self) {
        let (inner, dialer) = (self.inner.clone(), self.dialer.clone());
        let members = self.node.membership().clone();
        tokio::spawn(async move {
            let lowest = versions::lowest(inner.id, inner.level, &dialer, &members).await;
            // The loop may have ended meanwhile.
            let _ = inner.loop_requests.send(LoopRequest::LowestVersion(lowest)).await;
        });
    }

    fn send(&mut self, messages: Vec<Message>) {
        if let (Some(heard), Some(timers)) = (self.append_received, self.metrics.timers())
            && messages.iter().any(|message| message.kind() == Kind::AppendResponse)
        {
            timers.append_handled(heard.elapsed());
            self.append_received = None;
        }
        self.links.send(messages);
    }

    /// Passes a batch to the log's thread, or writes it here if no other request is waiting.
    fn persist(&mut self, batch: Batch) -> Result<(), Fatal> {
        let others_wait = self.inner.requests_since_write.swap(0, Ordering::Relaxed) > REQUESTS_OF_ONE_WRITE
            || self.node.waiting() > 1;
        let status = self.node.member().status();
        // A leader with followers does not wait for its own disk: its entries must be sent first.
        let may_wait = status.alone || status.role == Role::Follower;
        if batch.must_sync
            && !others_wait
            && may_wait
            && let Some(result) = self.log.write_now(&batch)
        {
            let at = result?;
            self.node.written(batch, clock::moment_of(at));
            return Ok(());
        }
        self.log.send(Job::Write(batch));
        Ok(())
    }

    fn apply(&mut self, committed: Committed) -> Result<(), Fatal> {
        let instant = Instant::now();
        let (mut outside_keys, mut auth_may_differ) = (false, false);
        let auth = &self.inner.auth;
        let mut answers = std::mem::take(&mut self.answers);
        let (changes, wakeups, watchers, to_hash) = {
            let mut machine = self.inner.machine.write();
            let changes = self.node.apply(committed, &mut machine, clock::both(), |applied, answered| {
                let caller = answered.map(|answered| {
                    self.metrics.proposal_committed(answered.waited);
                    answered.caller
                });
                match applied {
                    Applied::Command(_, Outcome::V2(result)) => match caller {
                        Some(Caller::Submit(reply)) => {
                            answers.push(Answer::Submitted(reply, result.map_err(SubmitError::Api)));
                        }
                        Some(caller @ Caller::ReadPoint(_)) => caller.read_point_reached(),
                        _ => {}
                    },
                    Applied::Command(_, Outcome::V3(result)) => {
                        if let Some(Caller::V3(reply)) = caller {
                            answers.push(Answer::V3(reply, result));
                        }
                    }
                    Applied::Configured(_, result) => {
                        if let Some(Caller::Configure(reply)) = caller {
                            answers.push(Answer::Configured(reply, result.map_err(ChangeError::Refused)));
                        }
                    }
                    Applied::MemberChanged { kind, id, peer_urls } => {
                        log_member(&self.inner, kind, id, &peer_urls);
                    }
                    Applied::OutsideKeys { auth: concerned } => {
                        outside_keys = true;
                        if concerned {
                            auth_may_differ = true;
                            // Before the next entry: only watchers that still have the right may get its
                            // events.
                            auth.generation().advance();
                        }
                    }
                    Applied::Skipped { index, why } => log::error!(
                        "etcdserver",
                        "entry {index} of the log is passed over, as by all members: {why}"
                    ),
                    Applied::AttributesChanged | Applied::NewTerm | Applied::RemovedSelf => {}
                }
            });
            if outside_keys {
                self.inner.auth.follow(&machine.tree);
            }
            if auth_may_differ {
                // Once more, for readers that checked before the auth switch was updated.
                self.inner.auth.generation().advance();
                machine.tree.wake_watchers();
            }
            let (mut watchers, mut to_hash) = (Vec::new(), None);
            if let (Some(v3), Some(commits)) = (&mut machine.v3, &mut self.commits) {
                commits.changed(v3);
                self.is_compacting |= v3.is_compacting();
                watchers = v3.take_wakers();
                to_hash = v3.take_to_hash();
                if let Some(failure) = v3.failure() {
                    return Err(Fatal::State(failure.clone()));
                }
            }
            (changes, machine.tree.take_wakeups(), watchers, to_hash)
        };
        if changes.membership {
            self.members_changed();
        }
        // Before the answers: a client on another thread that has its answer must see what it changed, in the store, in the
        // auth switch, among the members and in the status.
        self.publish_status();
        answers.drain(..).for_each(Answer::send);
        if let Some((reader, revision)) = to_hash {
            self.hash(reader, revision);
        }
        self.answers = answers;
        wakeups.wake();
        watchers.into_iter().for_each(Waker::wake);
        self.metrics.applied(instant.elapsed());
        Ok(())
    }

    fn read(&self, request: &shared::v2::Request, caller: Caller) {
        if let Caller::Submit(reply) = caller {
            let event = self.inner.tree().get(&request.path, request.recursive, request.sorted);
            let _ = reply.send(event.map_err(SubmitError::Api));
        }
    }

    /// Parses the store of a received snapshot on the blocking pool. The node refuses an invalid one.
    fn parse_snapshot(&self, message: Message) {
        let parsed = self.parsed.clone();
        let history = self.inner.tree().history_length();
        let level = self.inner.level;
        tokio::task::spawn_blocking(move || {
            let data = message.snapshot_data();
            let store = Store::recover(&data, history).map_err(|error| error.to_string());
            // Without the database the keys of version 3 between the two snapshots would be missing, unnoticed.
            let machine = store.and_then(|tree| match level.has_v3() {
                true => Err(NO_DATABASE.to_owned()),
                false => Ok(ServerMachine { tree, v3: None }),
            });
            // The receiver is gone once the loop has ended.
            let _ = parsed.send(ParsedSnapshot { message, machine });
        });
    }

    // The installation of a received snapshot: it replaces the log and the store. Meanwhile the old store
    // answers reads, and the loop does nothing else.

    async fn mark_received(&mut self, at: pb::WalSnapshot) -> Result<(), Fatal> {
        let (sender, receiver) = oneshot::channel();
        self.log.send_uncounted(Job::MarkReceived(at, sender));
        let Ok(marked) = receiver.await else { return Err(self.log_failure().await) };
        marked?;
        self.node.received_marked();
        Ok(())
    }

    /// The error of the log's thread, which has ended before it finished a job.
    async fn log_failure(&mut self) -> Fatal {
        while let Some(outcome) = self.log_outcomes.recv().await {
            if let LogOutcome::Failed(error) = outcome {
                return error.into();
            }
        }
        Fatal::Panicked("the log's thread")
    }

    async fn save_received(&mut self, received: ReceivedSnapshot) -> Result<(), Fatal> {
        self.snapshotter.save_received(received).await?;
        self.node.received_saved();
        Ok(())
    }

    fn install(&mut self, later: ServerMachine) {
        let (ended, wakeups) = {
            let mut machine = self.inner.machine.write();
            // Before the missed events: only watchers that still have the right may get them.
            self.inner.auth.follow(&later.tree);
            self.inner.auth.generation().advance();
            let ended = machine.install(later);
            machine.tree.wake_watchers();
            (ended, machine.tree.take_wakeups())
        };
        self.node.installed(&self.inner.machine.read(), clock::moment());
        self.members_changed();
        // Before the events are readable: a client that saw a change must see it again.
        self.publish_status();
        wakeups.wake();
        if ended > 0 {
            log::warning!(
                "etcdserver",
                "{ended} watches end: the snapshot's history does not reach back to the events that they missed"
            );
        }
    }

    fn take_snapshot(&mut self, at: pb::SnapshotMetadata) {
        let mark = pb::WalSnapshot { index: at.index, term: at.term };
        let mut machine = self.inner.machine.write();
        let image = machine.tree.image();
        if let (Some(v3), Some(commits)) = (&mut machine.v3, &mut self.commits) {
            commits.prepare_snapshot(at.index, v3);
        }
        drop(machine);
        self.snapshotter.prepare(at, image);
        self.log.send(Job::MarkSnapshot(mark));
    }

    fn save_snapshot(&mut self) {
        if !self.snapshotter.save() {
            self.node.snapshot_given_up();
        }
    }

    /// A commit to the database is done.
    fn on_committed(&mut self, outcome: Option<CommitOutcome>) -> Result<(), ExitReason> {
        let outcome = outcome.ok_or(Fatal::Panicked("the database's thread"))?;
        let view = outcome.map_err(Fatal::from)?;
        let (old, saves) = match (&mut self.inner.machine.write().v3, &mut self.commits) {
            (Some(v3), Some(commits)) => commits.committed(view, v3),
            _ => (None, false),
        };
        // Outside of the lock: it may be large.
        drop(old);
        if saves {
            self.save_snapshot();
        }
        Ok(())
    }

    /// Hashes the keys before a compaction on the blocking pool: members compare such hashes.
    fn hash(&self, reader: Reader<DatabaseView>, revision: i64) {
        let requests = self.inner.loop_requests.clone();
        tokio::task::spawn_blocking(move || {
            let hash = reader.hash_kv(revision).map_err(|failure| {
                log::error!("etcdserver", "cannot hash the keys before a compaction: {failure}");
            });
            drop(reader);
            // The receiver is gone once the loop has ended.
            let _ = requests.blocking_send(LoopRequest::KeepHash(hash.ok()));
        });
    }

    /// Removes some versions that a compaction leaves.
    fn compact(&mut self) {
        let mut is_compacting = false;
        self.with_v3(|commits, v3| {
            is_compacting = v3.compact_step(COMPACTED_AT_ONCE);
            commits.changed(v3);
        });
        self.is_compacting = is_compacting;
        if !is_compacting {
            self.inner.compacted.send_modify(|rounds| *rounds += 1);
        }
    }

    /// Works on the state of version 3, if there is one.
    fn with_v3(&mut self, work: impl FnOnce(&mut Commits, &mut V3State)) {
        if let (Some(v3), Some(commits)) = (&mut self.inner.machine.write().v3, &mut self.commits) {
            work(commits, v3);
        }
    }

    /// The list of members has changed.
    fn members_changed(&mut self) {
        let membership = Arc::new(self.node.membership().clone());
        log_version(&self.inner.membership.load(), &membership);
        self.links.follow(&membership);
        self.node.set_extended(self.links.all_extended());
        self.inner.membership.store(membership);
    }

    fn publish_status(&mut self) {
        let status = self.node.member().status();
        // With several members, none can know what the others have acknowledged.
        if (status.current || !status.alone)
            && let Some(ready) = self.ready.take()
        {
            let _ = ready.send(());
        }
        let before = self.inner.status.load(status.id);
        self.inner.status.store(&status);
        if before.leader != status.leader {
            if status.leader.0 != 0 {
                self.metrics.leader_changed();
            }
            let since = u64::try_from(clock::now().0).unwrap_or(0);
            self.inner.leader_since.store(since, Ordering::Relaxed);
            log_leader(&before, &status);
        }
    }

    /// Answers all waiting calls and closes the log.
    async fn end(mut self, exit: ExitReason) -> ExitReason {
        for caller in self.node.take_callers() {
            caller.unavailable(Unavailable::Stopped);
        }
        self.log.close();
        self.snapshotter.close();
        if let Some(commits) = self.commits {
            commits.finish(&self.inner.machine).await;
        }
        exit
    }
}

//! The task that owns the [`Member`]: takes what is waiting, lets the member think, carries out what it says.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use node::member::{
    Applied, Batch, BatchId, Committed, Kind, LogEnd, Member, Membership, Message, Output, Received,
    RequestId, Role,
};
use node::version::{self, SPOKEN};
use shared::disk::Disk;
use shared::event::Event;
use shared::id::MemberId;
use shared::pb;
use shared::store::Store;
use shared::time::UnixNanos;
use shared::v2;
use shared::wal::WalError;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::clock;
use super::dead_members::DeadMembers;
use super::handle::{Call, Inner};
use super::log_thread::{Done, Job, LogThread};
use super::network::Links;
use super::reads::{self, Read, Reads};
use super::refusals::Refusals;
use super::slow::{Path, Slow, Stages, What, obstacle};
use super::snapshots::{self, Snapshotter};
use crate::backend::{ChangeError, SubmitError, Unavailable};
use crate::http::remove_delay;
use crate::log;
use crate::metrics::Metrics;
use crate::peers::Inbound;

/// Calls taken in one turn. The member steps them together and the log syncs them together.
const CALLS_PER_TURN_MAX: usize = 1024;

/// How often a leader looks for keys that have expired. An expired key disappears at most this late, and the
/// time for the log later.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// Messages taken in one turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;

/// How long a member that was removed goes on, so that the others learn of it.
const REMOVED_REST: Duration = Duration::from_secs(1);

/// How often time passes in the log at least, where there are Go members.
const SYNC_INTERVAL_NANOS: i64 = 450_000_000;

/// Beside twice the election timeout, what a client's request may take.
const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);

/// How often the store and the loop are asked for one write.
const ASKED_BY_A_WRITE: u64 = 1;

/// What the loop is given.
pub(super) struct LoopConfig {
    pub(super) heartbeat: Duration,
    pub(super) election: Duration,
    pub(super) snapshot_count: u64,
    /// From here on a request is slow; zero for never.
    pub(super) slow_request: Duration,
    /// The cluster is new: nobody leads it yet.
    pub(super) is_new: bool,
    /// Members that are silent for long are removed.
    pub(super) remove_dead: bool,
}

/// What the loop works with.
pub(super) struct Hands<D: Disk> {
    pub(super) log: LogThread<D>,
    pub(super) snapshotter: Snapshotter<D>,
    pub(super) links: Links,
}

/// How the loop ends, once that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The member was removed; the others are still to hear what it has to say.
    Removed { at: Instant },
    /// The cluster has moved on to a version that this server does not speak.
    TooOld,
    /// It was told to stop, and waits for another leader.
    HandingOver { until: Instant },
}

/// A snapshot message and the store that it holds.
struct Parsed {
    message: Message,
    store: Result<Store, String>,
}

/// A snapshot that raft knows of.
struct Offered {
    index: u64,
    store: Store,
    /// Where the log ended before.
    before: LogEnd,
}

/// Who hears of what the loop does.
pub(super) struct Listeners {
    pub(super) notices: UnboundedSender<Notice>,
    /// Told once all that was ever acknowledged here is applied.
    pub(super) ready: oneshot::Sender<()>,
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("stopped")]
    Stopped,
    /// A change of the members took this one out.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// Another member says that this one is none any more.
    #[error("{0}")]
    Refused(String),
    /// The cluster has moved on to a version that this server does not speak.
    #[error(
        "cluster cannot be downgraded (current version: {SPOKEN} is lower than determined cluster version: {0})."
    )]
    TooOld(String),
    /// The log or a snapshot cannot be written.
    #[error("{0}")]
    Disk(String),
}

/// What the rest of the server hears from the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// A new leader's first entry is applied here; whether that leader is this member.
    NewTerm { leads: bool },
}

/// A client that waits for its entry.
struct Waiting {
    since: Instant,
    reply: Reply,
    path: Path,
    what: What,
}

enum Reply {
    Submit(oneshot::Sender<Result<Event, SubmitError>>),
    Configure(oneshot::Sender<Result<(), ChangeError>>),
}

impl Reply {
    fn unavailable(self, why: Unavailable) {
        // A client that has gone is not told.
        match self {
            Reply::Submit(reply) => drop(reply.send(Err(why.into()))),
            Reply::Configure(reply) => drop(reply.send(Err(why.into()))),
        }
    }
}

pub(super) struct MemberLoop<D: Disk> {
    member: Member,
    inner: Arc<Inner>,
    config: LoopConfig,
    log: LogThread<D>,
    snapshotter: Snapshotter<D>,
    notices: UnboundedSender<Notice>,
    /// Told once all that was ever acknowledged here is applied.
    ready: Option<oneshot::Sender<()>>,
    metrics: Arc<Metrics>,
    waiting: HashMap<RequestId, Waiting>,
    /// Deadlines in the order in which they fall due, and when each request came.
    deadlines: VecDeque<(Instant, RequestId)>,
    /// Calls that no leader could take yet, with their deadline.
    held: VecDeque<(Instant, Call)>,
    reads: Reads,
    slow: Slow,
    /// The snapshot that was stepped last, for when raft says that it is to be installed.
    received: Option<Offered>,
    /// A snapshot's text is being read. Entries that follow it would be refused until that is done, and it
    /// would be sent once more.
    parsing: bool,
    last_written: Option<BatchId>,
    /// When the first append came that is not answered yet, if appends are timed.
    append_heard: Option<Instant>,
    leader_changed: Instant,
    ending: Option<Ending>,
    next_expiry: Instant,
    /// When this member last let time pass in the log.
    last_sync: UnixNanos,
    links: Links,
    /// Where snapshots go whose text was read.
    parsed: Option<UnboundedSender<Parsed>>,
    /// Who is silent, where that matters.
    dead_members: Option<Box<DeadMembers>>,
    refusals: Refusals,
}

impl<D: Disk> MemberLoop<D> {
    pub(super) fn new(
        member: Member,
        inner: Arc<Inner>,
        config: LoopConfig,
        hands: Hands<D>,
        listeners: Listeners,
        metrics: Arc<Metrics>,
    ) -> MemberLoop<D> {
        let now = Instant::now();
        let Hands { log, snapshotter, links } = hands;
        let dead_members =
            config.remove_dead.then(|| Box::new(DeadMembers::new(config.election, clock::moment())));
        let slow_request = config.slow_request;
        MemberLoop {
            member,
            inner,
            config,
            log,
            snapshotter,
            notices: listeners.notices,
            ready: Some(listeners.ready),
            metrics,
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
            held: VecDeque::new(),
            reads: Reads::default(),
            slow: Slow::new(slow_request),
            received: None,
            parsing: false,
            last_written: None,
            append_heard: None,
            leader_changed: now,
            ending: None,
            next_expiry: now,
            last_sync: UnixNanos(0),
            links,
            parsed: None,
            dead_members,
            refusals: Refusals::default(),
        }
    }

    /// Runs until told to stop, or until the disk fails or the member is removed. Requests that wait then are
    /// answered before it returns.
    pub(super) async fn run(
        mut self,
        mut calls: Receiver<Call>,
        mut written: UnboundedReceiver<Done>,
        mut saved: UnboundedReceiver<snapshots::Saved>,
        mut inbound: Receiver<Inbound>,
        mut stop: watch::Receiver<bool>,
    ) -> Ended {
        let (parsed, mut snapshots_parsed) = mpsc::unbounded_channel();
        self.parsed = Some(parsed);
        let mut ticks = tokio::time::interval(self.config.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.links.follow(self.member.membership());
        let mut begun = self.carry_out().await;
        if begun.is_ok() && self.member.status().alone {
            // Nobody else could be the leader: no timeout needs to pass.
            self.member.campaign();
            begun = self.carry_out().await;
        } else if self.config.is_new {
            self.member.hasten();
        }
        if let Err(error) = begun {
            return self.end(Ended::Disk(error));
        }
        let ended = loop {
            // Time first: it must pass under any load. Whatever wakes the loop, all that waits is taken in.
            let heard = tokio::select! {
                biased;
                _ = ticks.tick() => {
                    self.tick();
                    None
                }
                _ = stop.changed(), if self.ending.is_none() => {
                    self.hand_over();
                    None
                }
                Some(done) = written.recv() => self.log_says(done),
                Some(inbound) = inbound.recv() => self.hear(inbound),
                Some(call) = calls.recv() => {
                    let now = Instant::now();
                    self.take(call, now + self.request_timeout(), now);
                    None
                }
                Some(saved) = saved.recv() => self.snapshot_saved(saved),
                Some(parsed) = snapshots_parsed.recv() => self.step_snapshot(parsed),
            };
            let heard = heard.or_else(|| self.take_in(&mut written, &mut inbound, &mut calls));
            if let Some(ended) = heard {
                break ended;
            }
            if let Err(error) = self.carry_out().await {
                break Ended::Disk(error);
            }
            if let Some(ended) = self.ended() {
                break ended;
            }
        };
        self.end(ended)
    }

    /// Takes what else waits, so that the member thinks about all of it once. The end, if something says so.
    fn take_in(
        &mut self,
        written: &mut UnboundedReceiver<Done>,
        inbound: &mut Receiver<Inbound>,
        calls: &mut Receiver<Call>,
    ) -> Option<Ended> {
        while let Ok(done) = written.try_recv() {
            if let Some(ended) = self.log_says(done) {
                return Some(ended);
            }
        }
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Ok(inbound) = inbound.try_recv() else { break };
            if let Some(ended) = self.hear(inbound) {
                return Some(ended);
            }
        }
        let mut now = None;
        for _ in 0..CALLS_PER_TURN_MAX {
            let Ok(call) = calls.try_recv() else { break };
            let now = *now.get_or_insert_with(Instant::now);
            self.take(call, now + self.request_timeout(), now);
        }
        None
    }

    /// What the network has to say. The end, if another member says that this one is none any more.
    fn hear(&mut self, inbound: Inbound) -> Option<Ended> {
        match inbound {
            Inbound::Message(message) if self.parsing && message.is_of_log() => {}
            Inbound::Message(message) if message.kind() == Kind::Snapshot => self.parse_snapshot(message),
            Inbound::Message(message) => {
                if self.metrics.timers().is_some() && message.kind() == Kind::Append {
                    self.append_heard.get_or_insert_with(Instant::now);
                }
                if let Some(dead) = &mut self.dead_members {
                    dead.heard(message.from(), clock::moment());
                }
                self.step(message);
            }
            Inbound::Unreachable(id) => self.member.unreachable(id),
            Inbound::Gone(id) => self.member.peer_is_gone(id),
            Inbound::SnapshotSent { to, ok } => self.member.snapshot_sent(to, ok),
            Inbound::PeerChanged => self.agree_on_extensions(),
            Inbound::Fatal(why) => return Some(Ended::Refused(why)),
        }
        None
    }

    /// Hands a message to the member; whether it is one that members send.
    fn step(&mut self, message: Message) -> bool {
        let stepped = self.member.step(message);
        if let Err(refusal) = &stepped {
            self.refusals.add(refusal, Instant::now());
        }
        stepped.is_ok()
    }

    /// Reads the store out of a snapshot before raft hears of it, aside: what is no store is not worth a step.
    fn parse_snapshot(&mut self, message: Message) {
        let Some(parsed) = self.parsed.clone() else { return };
        self.parsing = true;
        let history = self.inner.store.read().history_length();
        tokio::task::spawn_blocking(move || {
            let data = message.snapshot_data();
            let store = Store::recover(&data, history).map_err(|error| error.to_string());
            // Nobody listens once the loop has ended.
            let _ = parsed.send(Parsed { message, store });
        });
    }

    fn step_snapshot(&mut self, Parsed { message, store }: Parsed) -> Option<Ended> {
        self.parsing = false;
        let metadata = message.snapshot()?;
        let voters = &metadata.conf_state.nodes;
        let checked = store.and_then(|store| {
            let members = Membership::from_store(self.inner.cluster_id, &store);
            members.check_voters(voters).map(|()| store).map_err(|error| error.to_string())
        });
        match checked {
            Ok(store) => {
                let before = self.member.log_end();
                self.received = Some(Offered { index: metadata.index, store, before });
                if !self.step(message) {
                    self.received = None;
                }
            }
            Err(error) => log::error!(
                "etcdserver",
                "the snapshot at index {} from {} is not taken: {error}",
                metadata.index,
                message.from()
            ),
        }
        None
    }

    /// What Go members do not understand is used as long as there is none among the members.
    fn agree_on_extensions(&mut self) {
        let extended = self.links.all_extended();
        if self.member.is_extended() != extended {
            self.member.set_extended(extended);
            let what = if extended { "on: all members know them" } else { "off: not all members know them" };
            log::info!("raft", "pre-vote, check-quorum and read-index are {what}");
        }
    }

    /// Told to stop: a leader leaves the lead to another member first, so that nobody has to wait for a timeout.
    fn hand_over(&mut self) {
        let now = Instant::now();
        let links = &self.links;
        let until = match self.member.transfer(|id| links.is_extended(id)) {
            Some(to) => {
                log::info!("etcdserver", "leadership goes to {to} before this member stops");
                now + self.config.election
            }
            None => now,
        };
        self.ending = Some(Ending::HandingOver { until });
    }

    /// Whether it is time to end.
    fn ended(&self) -> Option<Ended> {
        match self.ending? {
            Ending::Removed { at } => (at <= Instant::now()).then_some(Ended::Removed),
            Ending::TooOld => {
                let version = self.member.membership().version.clone().unwrap_or_default();
                Some(Ended::TooOld(version))
            }
            Ending::HandingOver { until } => {
                let over = until <= Instant::now() || self.member.status().role != Role::Leader;
                over.then_some(Ended::Stopped)
            }
        }
    }

    fn request_timeout(&self) -> Duration {
        REQUEST_TIMEOUT_BASE + 2 * self.config.election
    }

    /// Answers all that wait and closes the log.
    fn end(mut self, ended: Ended) -> Ended {
        for (_, waiting) in self.waiting.drain() {
            waiting.reply.unavailable(Unavailable::Stopped);
        }
        for read in self.reads.take_all() {
            Reply::Submit(read.reply).unavailable(Unavailable::Stopped);
        }
        self.log.close();
        self.snapshotter.close();
        ended
    }

    fn log_says(&mut self, done: Done) -> Option<Ended> {
        match done {
            Done::Failed(error) => return Some(Ended::Disk(error.to_string())),
            Done::Written(batch, at) => self.written(batch, at.into()),
            Done::Marked(at) => self.snapshotter.save(at),
            Done::Released => {}
        }
        self.log.answered();
        None
    }

    /// A batch is in the log, and durable since `at` if it asked for that.
    fn written(&mut self, mut batch: Batch, at: Instant) {
        assert!(self.last_written < Some(batch.id), "batches are written in order");
        self.last_written = Some(batch.id);
        if batch.must_sync {
            self.slow.durable(batch.id, at);
            self.member.persisted(batch.id);
        }
        if !batch.then_send.is_empty() {
            let messages = std::mem::take(&mut batch.then_send);
            self.send(messages);
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        if let (Some(heard), Some(timers)) = (self.append_heard, self.metrics.timers())
            && messages.iter().any(|message| message.kind() == Kind::AppendResponse)
        {
            timers.append_handled(heard.elapsed());
            self.append_heard = None;
        }
        self.links.send(messages);
    }

    fn take(&mut self, call: Call, deadline: Instant, now: Instant) {
        if let Some(call) = self.try_take(call, deadline, now) {
            self.held.push_back((deadline, call));
        }
    }

    /// Hands a call to the member; gives it back when there is nobody to take it now.
    fn try_take(&mut self, call: Call, deadline: Instant, now: Instant) -> Option<Call> {
        let since = deadline - self.request_timeout();
        let (id, reply, came, what) = match call {
            Call::Turn(reply) => {
                let _ = reply.send(());
                return None;
            }
            Call::Submit(request, _, reply)
                if request.verb == v2::Verb::QuorumGet && self.member.offers_read_index() =>
            {
                self.reads.push(Read { request, reply, deadline, asked: None });
                return None;
            }
            call if !self.member.takes_proposals() || self.ending.is_some() => return Some(call),
            Call::Submit(mut request, began, reply) => {
                let id = self.member.propose_from(&mut request);
                let came = began.map_or(since, Instant::from);
                (id, Reply::Submit(reply), came, What::of(&mut request))
            }
            // Raft would swallow a second change; it waits for the first.
            Call::Configure(change, reply) if self.member.is_configuring() => {
                return Some(Call::Configure(change, reply));
            }
            Call::Configure(change, reply) => {
                (self.member.configure(change), Reply::Configure(reply), since, What::members())
            }
        };
        let path = Path { came, proposed: now };
        self.waiting.insert(id, Waiting { since, reply, path, what });
        self.deadlines.push_back((deadline, id));
        None
    }

    fn tick(&mut self) {
        self.member.tick(clock::now());
        let progress = self.member.progress();
        if self.slow.threshold().is_some() {
            self.slow.set_obstacle(obstacle(&self.member, &progress));
        }
        *self.inner.progress.lock() = progress;
        let now = Instant::now();
        while let Some((deadline, id)) = self.deadlines.front().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_front();
            self.expire_request(id, deadline, now);
        }
        while self.held.front().is_some_and(|(deadline, _)| *deadline <= now) {
            match self.held.pop_front() {
                Some((deadline, Call::Submit(mut request, began, reply))) => {
                    let came = began.map_or(deadline - self.request_timeout(), Instant::from);
                    let stages = Stages { queue: now - came, ..Stages::default() };
                    self.slow.tell(&What::of(&mut request), stages, false, now);
                    Reply::Submit(reply).unavailable(Unavailable::Timeout);
                }
                Some((_, Call::Configure(_, reply))) => {
                    Reply::Configure(reply).unavailable(Unavailable::Timeout);
                }
                Some((_, Call::Turn(_))) => {}
                None => break,
            }
        }
        let timeout = self.request_timeout();
        let mut reads = std::mem::take(&mut self.reads);
        reads.retry(now, self.config.election);
        let mut slow = std::mem::replace(&mut self.slow, Slow::new(Duration::ZERO));
        reads.expire(now, timeout, &mut slow, |deadline| self.why_none(deadline - timeout));
        slow.tick(now);
        (self.reads, self.slow) = (reads, slow);
        if now >= self.next_expiry {
            self.next_expiry = now + EXPIRY_INTERVAL;
            self.note_age(now);
            self.propose_expiry(clock::now());
        }
        self.remove_dead_members();
        self.replace_lost_snapshot();
    }

    /// A leader removes one that has been silent for as long as the cluster's settings say.
    fn remove_dead_members(&mut self) {
        let Some(dead) = &mut self.dead_members else { return };
        if self.ending.is_some() {
            return;
        }
        let inner = &self.inner;
        if let Some(change) = dead.look(clock::moment(), &self.member, || remove_delay(&inner.store.read())) {
            self.member.configure_once(change);
        }
    }

    /// Remembers when the store came to its index: the watch history is to tell how far back it reaches.
    fn note_age(&self, now: Instant) {
        let (index, oldest) = {
            let store = self.inner.store.read();
            (store.index(), store.history_reach().1)
        };
        self.inner.ages.lock().note(index, oldest, now.into_std());
    }

    fn expire_request(&mut self, id: RequestId, deadline: Instant, now: Instant) {
        let why = self.why_none(deadline - self.request_timeout());
        if let Some(waiting) = self.waiting.remove(&id) {
            self.member.forget(id);
            self.metrics.proposal_failed();
            let stages = self.slow.stages_so_far(waiting.path, now);
            self.slow.tell(&waiting.what, stages, false, now);
            waiting.reply.unavailable(why);
        }
    }

    /// Answers those whose entry may have been lost with a leader, or be covered by a snapshot.
    fn give_up(&mut self, ids: &[RequestId]) {
        let now = Instant::now();
        for id in ids {
            let since = self.waiting.get(id).map(|waiting| waiting.since);
            if let Some(since) = since {
                self.expire_request(*id, since + self.request_timeout(), now);
            }
        }
    }

    /// Why a request that came at `came` has no answer.
    fn why_none(&self, came: Instant) -> Unavailable {
        // A leader that was lost within two election timeouts after the request came may have been its end.
        let before = self.leader_changed - 2 * self.config.election;
        if before < came && came < self.leader_changed {
            Unavailable::LeaderLost
        } else {
            Unavailable::Timeout
        }
    }

    /// A leader lets expired keys go by an entry, so that all members lose them at the same point. Go members take
    /// a log that stands still for a cluster that is ill: for them there is an entry twice a second.
    fn propose_expiry(&mut self, now: UnixNanos) {
        if self.member.status().role != Role::Leader {
            return;
        }
        let is_watched = !self.member.offers_read_index() && now.0 - self.last_sync.0 >= SYNC_INTERVAL_NANOS;
        if is_watched || self.inner.store.read().has_expired(now) {
            self.last_sync = now;
            let sync = v2::Request { verb: v2::Verb::Sync, time: now.0, ..v2::Request::default() };
            self.member.propose_once(sync);
        }
    }

    /// Does what the member says until it has nothing more to say.
    async fn carry_out(&mut self) -> Result<(), String> {
        self.retry_held();
        self.ask_reads();
        let mut spoke = false;
        while let Some(output) = self.member.poll() {
            spoke = true;
            match output {
                Output::Send(messages) => self.send(messages),
                Output::Persist(batch) => self.persist(batch).map_err(|error| error.to_string())?,
                Output::Apply(committed) => self.apply(committed),
                Output::Install(received) => self.install(received).await?,
                Output::ReadReady { id, index } => self.reads.ready(id, index, Instant::now()),
                Output::GivenUp(ids) => self.give_up(&ids),
            }
        }
        self.answer_reads();
        self.metrics.proposals_pending(self.waiting.len());
        self.metrics.queues(self.log.under_way(), self.held.len());
        if spoke {
            self.publish_status();
        }
        Ok(())
    }

    /// Hands a batch to the log's thread, or writes it here if nobody else is waiting for anything.
    fn persist(&mut self, batch: Batch) -> Result<(), WalError> {
        self.slow.handed(batch.id, batch.last_index(), Instant::now);
        let others = self.inner.asked.swap(0, Ordering::Relaxed) > ASKED_BY_A_WRITE || self.waiting.len() > 1;
        let status = self.member.status();
        // A leader of others has sent its entries on, and they are to leave before it waits for its own disk.
        let may_wait = status.alone || status.role == Role::Follower;
        if batch.must_sync
            && !others
            && may_wait
            && let Some(result) = self.log.write_now(&batch)
        {
            let at = result?;
            self.written(batch, at.into());
            return Ok(());
        }
        self.log.send(Job::Write(batch));
        Ok(())
    }

    /// Asks the cluster for the reads that came in, or writes them to the log where it cannot be asked.
    fn ask_reads(&mut self) {
        if self.member.offers_read_index() {
            self.reads.ask(&mut self.member, Instant::now());
            return;
        }
        let reads = self.reads.take_all();
        if reads.is_empty() {
            return;
        }
        let now = Instant::now();
        for Read { request, reply, deadline, .. } in reads {
            self.take(Call::Submit(request, None, reply), deadline, now);
        }
    }

    fn retry_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = Instant::now();
        for _ in 0..self.held.len() {
            let Some((deadline, call)) = self.held.pop_front() else { break };
            if let Some(call) = self.try_take(call, deadline, now) {
                self.held.push_back((deadline, call));
            }
        }
    }

    fn apply(&mut self, committed: Committed) {
        let (now, instant) = (clock::now(), Instant::now());
        let mut membership_changed = false;
        let mut new_term = false;
        let mut removed = false;
        let (mut outside_keys, mut auth_may_differ) = (false, false);
        let auth = &self.inner.auth;
        let mut slow: Vec<(Path, What)> = Vec::new();
        let wakeups = {
            let mut store = self.inner.store.write();
            let (waiting, metrics) = (&mut self.waiting, &self.metrics);
            let maybe_slow = self.slow.threshold().map(|threshold| threshold / 2);
            let mut take = |id| {
                let waiting: Waiting = waiting.remove(&id)?;
                metrics.proposal_committed(instant.duration_since(waiting.since));
                // Half of it: carrying out comes on top.
                if maybe_slow.is_some_and(|time| instant.duration_since(waiting.path.came) >= time) {
                    slow.push((waiting.path, waiting.what));
                }
                Some(waiting.reply)
            };
            self.member.apply(committed, &mut store, now, |applied| match applied {
                Applied::Request(id, result) => {
                    if let Some(Reply::Submit(reply)) = take(id) {
                        let _ = reply.send(result.map_err(SubmitError::Api));
                    }
                }
                Applied::Configured(id, result) => {
                    if let Some(Reply::Configure(reply)) = take(id) {
                        let _ = reply.send(result.map_err(ChangeError::Refused));
                    }
                }
                Applied::AttributesChanged => membership_changed = true,
                Applied::MemberChanged { kind, id, peer_urls } => {
                    membership_changed = true;
                    log_member(&self.inner, kind, id, &peer_urls);
                }
                Applied::NewTerm => new_term = true,
                Applied::OutsideKeys { auth: concerned } => {
                    outside_keys = true;
                    if concerned {
                        auth_may_differ = true;
                        // Before the next entry: its events are for those who may still see them.
                        auth.generation().advance();
                    }
                }
                Applied::RemovedSelf => removed = true,
                Applied::PassedOver { index, why } => {
                    log::error!(
                        "etcdserver",
                        "entry {index} of the log is passed over, as by all members: {why}"
                    );
                }
            });
            if outside_keys {
                self.inner.auth.follow(&store);
            }
            if auth_may_differ {
                // Once more, for those who looked before the switch had followed.
                self.inner.auth.generation().advance();
                store.wake_watchers();
            }
            store.take_wakeups()
        };
        if membership_changed {
            self.members_changed();
        }
        // Before the answers can be read: a client that saw its write must see it again.
        self.publish_status();
        wakeups.wake();
        let done = Instant::now();
        self.metrics.applied(done - instant);
        self.tell_slow(&slow, instant, done);
        if removed {
            // The others are to learn that it is decided, if there are any.
            let rest =
                if self.member.membership().members.is_empty() { Duration::ZERO } else { REMOVED_REST };
            self.ending = Some(Ending::Removed { at: instant + rest });
        }
        if new_term {
            let leads = self.member.status().role == Role::Leader;
            let _ = self.notices.send(Notice::NewTerm { leads });
            // What the leader before was asked nobody will answer; this one can.
            self.reads.retry(instant, Duration::ZERO);
        }
        self.snapshot_if_due();
    }

    /// Tells of those requests that were slow, of some that were applied in one go.
    fn tell_slow(&mut self, requests: &[(Path, What)], committed: Instant, done: Instant) {
        if self.slow.threshold().is_none() {
            return;
        }
        let index = self.member.status().applied;
        for (path, what) in requests {
            let stages = self.slow.stages(*path, index, committed, done);
            self.slow.tell(what, stages, true, done);
        }
        self.slow.applied(index);
    }

    /// Puts a snapshot from the leader in the place of log and store. Nothing else happens meanwhile but
    /// answers from the old store.
    async fn install(&mut self, received: Received) -> Result<(), String> {
        let metadata = received.metadata.clone();
        let (store, before) = match self.received.take() {
            Some(Offered { index, store, before }) if index == metadata.index => (store, before),
            _ => return Err(format!("raft installs a snapshot at {} that nobody sent", metadata.index)),
        };
        log::info!(
            "raft",
            "{} [commit: {}, lastindex: {}, lastterm: {}] starts to restore snapshot [index: {}, term: {}]",
            self.inner.id,
            before.commit,
            before.last_index,
            before.last_term,
            metadata.index,
            metadata.term
        );
        log::info!(
            "etcdserver",
            "applying snapshot at index {} over {}",
            metadata.index,
            self.member.status().applied
        );
        let (marked, is_marked) = oneshot::channel();
        self.log.send_uncounted(Job::MarkReceived(
            pb::WalSnapshot { index: metadata.index, term: metadata.term },
            marked,
        ));
        is_marked.await.unwrap_or_else(|_| Err("the log's thread has ended".to_owned()))?;
        self.snapshotter.install(received).await?;
        let (ended, wakeups) = {
            let mut inner = self.inner.store.write();
            // Before the events that were missed: they are for those who may still see them.
            self.inner.auth.follow(&store);
            self.inner.auth.generation().advance();
            let ended = inner.adopt(store);
            inner.wake_watchers();
            (ended, inner.take_wakeups())
        };
        self.member.installed(&metadata, &self.inner.store.read());
        self.members_changed();
        // Before the events can be read: who saw a change must see it again.
        self.publish_status();
        wakeups.wake();
        if ended > 0 {
            log::warning!(
                "etcdserver",
                "{ended} watches end: the snapshot's history does not reach back to the events that they missed"
            );
        }
        log::info!("etcdserver", "finished applying incoming snapshot at index {}", metadata.index);
        Ok(())
    }

    /// The members are others than before.
    fn members_changed(&mut self) {
        let before = self.inner.membership.load().version.clone();
        if let Some(version) = self.member.membership().version.as_deref()
            && before.as_deref() != Some(version)
        {
            log_version(before.as_deref(), version);
            if version::is_too_new(version) && self.ending.is_none() {
                self.ending = Some(Ending::TooOld);
            }
        }
        self.links.follow(self.member.membership());
        self.agree_on_extensions();
        self.inner.membership.store(Arc::new(self.member.membership().clone()));
    }

    fn answer_reads(&mut self) {
        let applied = self.member.status().applied;
        let (inner, timeout) = (&self.inner, self.request_timeout());
        self.reads
            .answer(applied, timeout, &mut self.slow, |request| reads::read(&inner.store.read(), request));
    }

    fn publish_status(&mut self) {
        let status = self.member.status();
        // Of several members none can know what was acknowledged elsewhere.
        if (status.current || !status.alone)
            && let Some(ready) = self.ready.take()
        {
            let _ = ready.send(());
        }
        let before = self.inner.status.load(status.id);
        self.inner.status.store(&status);
        if before.leader != status.leader {
            self.leader_changed = Instant::now();
            if status.leader.0 != 0 {
                self.metrics.leader_changed();
            }
            let since = u64::try_from(clock::now().0).unwrap_or(0);
            self.inner.leader_since.store(since, Ordering::Relaxed);
            log_leader(&before, &status);
        }
    }

    fn snapshot_if_due(&mut self) {
        let tail = self.member.tail();
        if self.snapshotter.is_due(tail.index, self.config.snapshot_count) {
            self.begin_snapshot(tail);
        }
    }

    /// A snapshot that somebody removed is replaced by another one, while the store still holds what was in it.
    fn replace_lost_snapshot(&mut self) {
        if self.snapshotter.has_lost_newest() {
            let tail = self.member.tail();
            // One that is under way takes its place.
            if self.snapshotter.is_due(tail.index, 0) {
                self.begin_snapshot(tail);
            }
        }
    }

    fn begin_snapshot(&mut self, tail: pb::SnapshotMetadata) {
        log::info!(
            "etcdserver",
            "start to snapshot (applied: {}, lastsnap: {})",
            tail.index,
            self.snapshotter.last_index()
        );
        let at = pb::WalSnapshot { index: tail.index, term: tail.term };
        let image = self.inner.store.read().image();
        self.snapshotter.prepare(tail, image);
        self.log.send(Job::MarkSnapshot(at));
    }

    fn snapshot_saved(&mut self, saved: snapshots::Saved) -> Option<Ended> {
        let metadata = match saved.0 {
            Ok(metadata) => metadata,
            Err(error) => return Some(Ended::Disk(error.to_string())),
        };
        let index = metadata.index;
        self.snapshotter.saved(metadata.term, index);
        self.member.snapshot_saved(metadata);
        self.log.send(Job::Release(index));
        log::info!("etcdserver", "saved snapshot at index {index}");
        None
    }
}

fn log_member(inner: &Inner, kind: i32, id: MemberId, peer_urls: &[String]) {
    let (cluster, urls) = (inner.cluster_id, peer_urls.join(" "));
    let local = if id == inner.id { "local " } else { "" };
    match kind {
        pb::ADD_NODE => {
            log::notice!("etcdserver", "added {local}member {id} [{urls}] to cluster {cluster}");
        }
        pb::REMOVE_NODE => log::notice!("etcdserver", "removed {local}member {id} from cluster {cluster}"),
        _ => log::notice!("etcdserver", "update {local}member {id} [{urls}] in cluster {cluster}"),
    }
}

fn log_version(before: Option<&str>, now: &str) {
    let short = |version: &str| version.rsplit_once('.').map_or(version, |(short, _)| short).to_owned();
    match before {
        None => log::notice!("etcdserver", "set the initial cluster version to {}", short(now)),
        Some(before) => {
            log::notice!("etcdserver", "updated the cluster version from {} to {}", short(before), short(now))
        }
    }
}

fn log_leader(before: &node::member::Status, now: &node::member::Status) {
    let (id, term) = (now.id, now.term);
    match (before.leader.0, now.leader.0) {
        (0, _) => {
            log::info!("raft", "raft.node: {id} elected leader {} at term {term}", now.leader);
        }
        (_, 0) => {
            log::info!("raft", "raft.node: {id} lost leader {} at term {term}", before.leader);
        }
        _ => log::info!(
            "raft",
            "raft.node: {id} changed leader from {} to {} at term {term}",
            before.leader,
            now.leader
        ),
    }
}

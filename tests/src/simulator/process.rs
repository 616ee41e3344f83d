//! One run of a member: its node, with the work of the server's loop, its log's thread and its snapshots'
//! thread, one step at a time.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use node::member::{
    Applied, Batch, ChangeKind, Committed, Member, MemberChange, Message, ReceivedSnapshot, Refusal, Start,
    attributes_value,
};
use node::time::{Moment, Now};
use node::version::Level;
use node::{Action, Call, Command, End, Node, Notice, Outcome, StateMachine as _};
use shared::disk::{Disk, DiskOperation, Fault, SimDisk};
use shared::error::ApiError;
use shared::event::Event;
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::snap::Snapshots;
use shared::store::{Image, Store, Watcher};
use shared::wal::{EntryRef, Wal};

use super::oracle::{Entries, Oracle, Violation};
use super::plan::{ELECTION_TICKS, Micros, Plan, TICK};
use super::trace::{hash_bytes, mix};

const WAL: &str = "/d/wal";
const SNAP: &str = "/d/snap";
const CLUSTER: ClusterId = ClusterId(0xc1);
/// Events that a store remembers.
const HISTORY_LENGTH: usize = 16;

/// A waiting request: the client and the number of the request.
pub(super) type Ticket = (usize, u64);

/// The answer to a client.
pub(super) type Answer = Result<Event, ApiError>;

/// What the simulated world must do for a process.
pub(super) enum Effect {
    Send(Message),
    /// Jobs wait for the disk.
    WriteDue,
    /// A snapshot must be saved.
    SaveDue,
    /// The state of a received snapshot must be read.
    ReadDue(Message),
    /// The members must be asked for their versions.
    VersionsDue,
    Answer(Ticket, Answer),
    /// A request has no answer.
    GivenUp(Ticket),
    /// A member was added or removed.
    Changed {
        kind: ChangeKind,
        id: MemberId,
    },
    /// A message was refused.
    Refused(Refusal),
    /// The node has ended.
    Ended(End),
    /// A received snapshot has replaced the store.
    Installed(u64),
}

/// The disk failed: the process stops.
#[derive(Debug)]
pub(super) struct DiskFailed;

/// Why a process stops.
pub(super) enum ProcessError {
    DiskFailed,
    Violation(Violation),
}

impl From<DiskFailed> for ProcessError {
    fn from(_: DiskFailed) -> ProcessError {
        ProcessError::DiskFailed
    }
}

impl From<Violation> for ProcessError {
    fn from(violation: Violation) -> ProcessError {
        ProcessError::Violation(violation)
    }
}

/// Jobs of the log's thread, done in order.
enum Job {
    Write(Batch),
    MarkSnapshot(pb::WalSnapshot),
    MarkReceived(pb::WalSnapshot),
    Release(u64),
}

/// A node with its store and its files.
pub(super) struct Process {
    pub(super) node: Node<Store, Option<Ticket>>,
    pub(super) store: Store,
    disk: SimDisk,
    wal: Wal<SimDisk>,
    snapshots: Snapshots<SimDisk>,
    watcher: Watcher,
    /// The store's index up to which the watcher got all events.
    watched_index: u64,
    entries: Entries,
    /// The hash of the effects of all applied entries.
    chain: u64,
    /// Jobs that wait for the disk.
    jobs: Vec<Job>,
    /// The jobs that the disk works on.
    writing: Option<Vec<Job>>,
    /// A snapshot that was taken, and is not recorded in the log yet.
    prepared: Option<(pb::SnapshotMetadata, Image)>,
    /// The snapshot that is being saved.
    saving: Option<(pb::SnapshotMetadata, Image)>,
    /// A received snapshot that must be saved.
    received: Option<ReceivedSnapshot>,
    /// A snapshot that was saved while a received one was installed.
    saved_meanwhile: Option<pb::SnapshotMetadata>,
    /// A received snapshot that is being installed: nothing else happens meanwhile.
    installing: Option<pb::WalSnapshot>,
}

/// The parameters of a start, beside the content of the disk.
pub(super) struct ProcessStart<'a> {
    pub(super) id: MemberId,
    /// The members that founded the cluster.
    pub(super) founders: &'a [MemberId],
    pub(super) plan: &'a Plan,
    pub(super) seed: u64,
    pub(super) now: Now,
}

/// The members that found a cluster.
pub(super) fn founders(plan: &Plan) -> Vec<MemberId> {
    (1..=plan.members).map(MemberId).collect()
}

fn peer_urls(id: MemberId, version: u64) -> [String; 1] {
    [format!("http://m{}:{version}", id.0)]
}

/// A change of a member, with the peer URLs of this version.
pub(super) fn change(kind: ChangeKind, id: MemberId, version: u64) -> MemberChange {
    let urls = peer_urls(id, version);
    match kind {
        ChangeKind::Add => MemberChange::add(id, &urls),
        ChangeKind::Remove => MemberChange::remove(id),
        ChangeKind::Update => MemberChange::update(id, &urls),
    }
}

/// The first log entries of a new cluster.
fn founding(founders: &[MemberId]) -> (Vec<pb::Entry>, pb::HardState) {
    let entries: Vec<pb::Entry> = (1..)
        .zip(founders)
        .map(|(index, id)| {
            let data = Some(Bytes::from(change(ChangeKind::Add, *id, 1).encode_to_vec()));
            pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term: 1, index, data }
        })
        .collect();
    let commit = entries.len() as u64;
    (entries, pb::HardState { term: 1, vote: 0, commit })
}

impl Process {
    /// Starts a member on its disk, which is empty or holds the files of an earlier run.
    pub(super) fn start(
        disk: &SimDisk,
        setup: &ProcessStart<'_>,
        oracle: &Oracle,
    ) -> Result<Process, Violation> {
        let &ProcessStart { id, founders, plan, seed, now } = setup;
        let broken = |what: &dyn std::fmt::Display| {
            Violation::new(format!("{} does not start: {what}", super::world::name(id)))
        };
        disk.create_dir_all(Path::new(SNAP)).map_err(|error| broken(&error))?;
        let snapshots = Snapshots::new(disk.clone(), Path::new(SNAP));
        let found = snapshots.load_newest().map_err(|error| broken(&error))?;
        let (snapshot, store) = match found {
            Some((snapshot, _)) => {
                let json = snapshot.data.unwrap_or_default();
                let store = Store::recover(&json, HISTORY_LENGTH).map_err(|error| broken(&error))?;
                (snapshot.metadata, store)
            }
            None => (pb::SnapshotMetadata::default(), Store::new(HISTORY_LENGTH)),
        };
        let at = pb::WalSnapshot { index: snapshot.index, term: snapshot.term };
        let wal = Path::new(WAL);
        let exists = shared::wal::exists(disk, wal).map_err(|error| broken(&error))?;
        let (mut wal, mut entries, mut state) = if exists {
            let (wal, found) = Wal::open(disk.clone(), wal, at).map_err(|error| broken(&error))?;
            (wal, found.entries, found.state)
        } else {
            let metadata = pb::Metadata { node_id: id.0, cluster_id: CLUSTER.0 };
            let wal = Wal::create(disk.clone(), wal, metadata).map_err(|error| broken(&error))?;
            (wal, Vec::new(), pb::HardState::default())
        };
        wal.set_segment_bytes(plan.segment_bytes);
        if state.commit == 0 && snapshot.index == 0 && founders.contains(&id) {
            (entries, state) = founding(founders);
            wal.append(entries.iter().map(EntryRef::from), Some(state));
            wal.sync().map_err(|error| broken(&error))?;
        }
        let log = Entries::new(snapshot.index, entries.iter().map(EntryRef::from));
        let chain = oracle.chain_at(snapshot.index);
        let watcher = watch(&store);
        let start = Start {
            id,
            cluster_id: CLUSTER,
            snapshot,
            state,
            entries,
            election_ticks: ELECTION_TICKS,
            seed,
            now: now.wall,
            level: Level::V2_3,
        };
        let mut member = Member::new(start, &store, &slog::Logger::root(slog::Discard, slog::o!()));
        member.set_catch_up_entries(plan.catch_up);
        member.set_extended(plan.extended);
        let config = node::Config {
            election: micros(ELECTION_TICKS as u64 * TICK),
            request_timeout: micros(plan.request_timeout),
            snapshot_count: plan.snapshot_count,
            slow_request: Duration::from_millis(500),
            dead_after: None,
            attributes: Some(attributes_value(&super::world::name(id), &peer_urls(id, 1), String::new())),
        };
        Ok(Process {
            node: Node::new(member, config, now.moment),
            store,
            disk: disk.clone(),
            wal,
            snapshots,
            watched_index: watcher.start_index(),
            watcher,
            entries: log,
            chain,
            jobs: Vec::new(),
            writing: None,
            prepared: None,
            saving: None,
            received: None,
            saved_meanwhile: None,
            installing: None,
        })
    }

    /// Whether a received snapshot is being installed: only the disk works then.
    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Hands a client's command to the node.
    pub(super) fn submit(&mut self, command: impl Into<Command>, ticket: Ticket, now: Moment) {
        let call = Call::Propose { command: command.into(), began: None, caller: Some(ticket) };
        self.node.call(call, now);
    }

    /// One heartbeat interval has passed.
    pub(super) fn tick(&mut self, now: Now) {
        self.node.tick(now, &mut self.store);
    }

    /// Reads the state of a received snapshot.
    pub(super) fn read_snapshot(&mut self, message: Message, now: Moment) {
        let store =
            Store::recover(&message.snapshot_data(), HISTORY_LENGTH).map_err(|error| error.to_string());
        self.node.snapshot_read(message, store, now);
    }

    /// Carries out the node's actions until there are none.
    pub(super) fn turn(
        &mut self,
        now: Now,
        oracle: &mut Oracle,
        out: &mut Vec<Effect>,
    ) -> Result<(), ProcessError> {
        while let Some(action) = self.node.poll(now.moment) {
            match action {
                Action::Send(messages) => out.extend(messages.into_iter().map(Effect::Send)),
                Action::Persist(batch) => {
                    self.entries.append(batch.entries());
                    self.ask(Job::Write(batch), out);
                }
                Action::Apply(committed) => self.apply(committed, now, oracle, out)?,
                Action::Read(request, ticket) => {
                    let answer = self.store.get(&request.path, request.recursive, request.sorted);
                    out.extend(ticket.map(|ticket| Effect::Answer(ticket, answer)));
                }
                Action::ReadPoint(_) => unreachable!("no client of the simulation reads version 3"),
                Action::Unanswered { caller, .. } => out.extend(caller.map(Effect::GivenUp)),
                Action::ReadSnapshot(message) => out.push(Effect::ReadDue(message)),
                Action::MarkReceived(at) => {
                    self.installing = Some(at);
                    self.ask(Job::MarkReceived(at), out);
                }
                Action::SaveReceived(received) => {
                    self.received = Some(received);
                    out.push(Effect::SaveDue);
                }
                Action::Install(store) => self.install(*store, now, oracle, out)?,
                Action::TakeSnapshot(at) => {
                    // Members that get this snapshot are compared with it.
                    oracle.compare(self.node.member().status().id, at.index, &self.store)?;
                    let mark = pb::WalSnapshot { index: at.index, term: at.term };
                    self.prepared = Some((at, self.store.image()));
                    self.ask(Job::MarkSnapshot(mark), out);
                }
                Action::SaveSnapshot => {
                    self.saving = self.prepared.take();
                    out.push(Effect::SaveDue);
                }
                Action::AskVersions => out.push(Effect::VersionsDue),
                Action::ReleaseLog(index) => self.ask(Job::Release(index), out),
                Action::Notify(Notice::Refused { refusal, .. }) => out.push(Effect::Refused(refusal)),
                Action::Notify(Notice::SnapshotRefused { why, .. }) => {
                    return Err(Violation::new(format!("a snapshot of a member is refused: {why}")).into());
                }
                Action::Notify(_) => {}
                Action::End(end) => {
                    out.push(Effect::Ended(end));
                    break;
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, job: Job, out: &mut Vec<Effect>) {
        self.jobs.push(job);
        out.push(Effect::WriteDue);
    }

    /// Replaces the store by a received snapshot, which is recorded in the log and saved.
    fn install(
        &mut self,
        store: Store,
        now: Now,
        oracle: &mut Oracle,
        out: &mut Vec<Effect>,
    ) -> Result<(), ProcessError> {
        let Some(at) = self.installing.take() else {
            return Err(Violation::new("a snapshot is installed that was not marked".to_owned()).into());
        };
        let id = self.node.member().status().id;
        self.store.install(store);
        self.check_events(oracle)?;
        self.node.installed(&self.store, now.moment);
        self.entries.restart_after(at.index);
        self.chain = oracle.chain_at(at.index);
        out.push(Effect::Installed(at.index));
        oracle.state(id, &self.node.member().tail(), self.chain, &self.store)?;
        oracle.compare(id, at.index, &self.store)?;
        if let Some(saved) = self.saved_meanwhile.take() {
            self.node.snapshot_saved(saved, now.moment);
        }
        Ok(())
    }

    /// Begins to write all waiting jobs; false if the disk is busy, or there are none.
    pub(super) fn begin_write(&mut self) -> bool {
        if self.writing.is_some() || self.jobs.is_empty() {
            return false;
        }
        self.writing = Some(std::mem::take(&mut self.jobs));
        true
    }

    /// The disk finishes its jobs.
    pub(super) fn end_write(&mut self, now: Moment, out: &mut Vec<Effect>) -> Result<(), DiskFailed> {
        let mut unsynced = Vec::new();
        for job in self.writing.take().unwrap_or_default() {
            match job {
                Job::Write(batch) => {
                    self.wal.append(batch.entries(), batch.state);
                    unsynced.push(batch);
                }
                Job::MarkSnapshot(at) => {
                    self.sync(&mut unsynced, now)?;
                    self.wal.append_snapshot(at).map_err(|_| DiskFailed)?;
                    self.node.snapshot_marked(at, now);
                }
                Job::MarkReceived(at) => {
                    self.sync(&mut unsynced, now)?;
                    self.wal.append_snapshot(at).map_err(|_| DiskFailed)?;
                    self.node.received_marked();
                }
                Job::Release(index) => {
                    self.wal.release_before(index);
                    let wal = self.wal.dir().to_owned();
                    // The server does this regularly.
                    let newest =
                        shared::snap::newest_index(&self.disk, Path::new(SNAP)).map_err(|_| DiskFailed)?;
                    shared::wal::purge(&self.disk, &wal, 1, newest.unwrap_or(0)).map_err(|_| DiskFailed)?;
                    shared::snap::purge(&self.disk, Path::new(SNAP), 2).map_err(|_| DiskFailed)?;
                }
            }
        }
        self.sync(&mut unsynced, now)?;
        if !self.jobs.is_empty() {
            out.push(Effect::WriteDue);
        }
        Ok(())
    }

    fn sync(&mut self, batches: &mut Vec<Batch>, now: Moment) -> Result<(), DiskFailed> {
        if batches.iter().any(|batch| batch.must_sync) {
            self.wal.sync().map_err(|_| DiskFailed)?;
        }
        for batch in batches.drain(..) {
            self.node.written(batch, now);
        }
        Ok(())
    }

    /// Writes the last commit index, for which no request waits.
    pub(super) fn flush(&mut self) -> Result<(), DiskFailed> {
        self.wal.flush().map_err(|_| DiskFailed)
    }

    /// Kills the process while the disk works, before an operation of this kind: earlier writes are in the
    /// system's cache.
    pub(super) fn die_writing(mut self, disk: &SimDisk, before: DiskOperation) {
        disk.inject(Fault { operation: before, after: 0, kind: std::io::ErrorKind::BrokenPipe });
        // The outcome is lost.
        let _ = self.end_write(Moment::default(), &mut Vec::new());
        disk.forget_faults();
    }

    /// Fails the power after some more operations of the disk.
    pub(super) fn lose_power(mut self, disk: &SimDisk, operations: u64) {
        disk.fail_power_after(operations);
        let _ = self.end_write(Moment::default(), &mut Vec::new());
        drop(self);
        disk.crash();
    }

    fn apply(
        &mut self,
        committed: Committed,
        now: Now,
        oracle: &mut Oracle,
        out: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let before = self.node.member().status().applied;
        let chain = &mut self.chain;
        let _ = self.node.apply(committed, &mut self.store, now, |applied, answered| {
            if let Some(hash) = hash_applied(&applied) {
                *chain = mix(*chain, hash);
            }
            match applied {
                Applied::Command(_, Outcome::V2(answer)) => {
                    let ticket = answered.and_then(|answered| answered.caller);
                    out.extend(ticket.map(|ticket| Effect::Answer(ticket, answer)));
                }
                Applied::MemberChanged { kind, id, .. } => out.push(Effect::Changed { kind, id }),
                _ => {}
            }
        });
        let (id, tail) = (self.node.member().status().id, self.node.member().tail());
        oracle.applied(id, &self.entries, before, tail.index)?;
        self.check_events(oracle)?;
        oracle.state(id, &tail, self.chain, &self.store)
    }

    /// Checks the new events of the watcher: all stores must have the same event at each index.
    fn check_events(&mut self, oracle: &mut Oracle) -> Result<(), Violation> {
        let id = self.node.member().status().id;
        while let Some(event) = self.watcher.try_next() {
            oracle.event(id, &event)?;
            oracle.silent(id, self.watched_index, event.index)?;
            self.watched_index = event.index;
        }
        if self.watcher.is_closed() {
            self.watcher = watch(&self.store);
        } else {
            oracle.silent(id, self.watched_index, self.store.index() + 1)?;
        }
        self.watched_index = self.store.index();
        Ok(())
    }

    /// A snapshot message with the store from its file. `None` if the file does not exist any more.
    pub(super) fn with_snapshot(&self, message: &Message) -> Option<Message> {
        let at = message.snapshot()?;
        let data = self.snapshots.open_data(at.term, at.index).ok()?;
        let mut snapshot = vec![0; usize::try_from(data.len()).ok()?];
        data.read_at(0, &mut snapshot).ok()?;
        let (before, after) = message.encode_around_snapshot(snapshot.len() as u64);
        let bytes = [&before[..], &snapshot, &after].concat();
        Message::decode(bytes.into()).ok()
    }

    /// Saves the snapshot that was taken, or the received one.
    pub(super) fn save(&mut self, now: Moment) -> Result<(), DiskFailed> {
        if let Some((at, image)) = self.saving.take() {
            self.snapshots
                .save(at.term, at.index, &at.conf_state, |out| image.write_json(out))
                .map_err(|_| DiskFailed)?;
            if self.is_installing() {
                self.saved_meanwhile = Some(at);
            } else {
                self.node.snapshot_saved(at, now);
            }
        } else if let Some(ReceivedSnapshot { metadata: at, data }) = self.received.take() {
            self.snapshots
                .save(at.term, at.index, &at.conf_state, |out| out.write_all(&data))
                .map_err(|_| DiskFailed)?;
            self.node.received_saved();
        }
        Ok(())
    }
}

/// A span of simulated time.
pub(super) fn micros(time: Micros) -> Duration {
    Duration::from_micros(time)
}

/// A watch of all keys of clients.
fn watch(store: &Store) -> Watcher {
    match store.watch(b"/1", true, true, 0) {
        Ok(watcher) => watcher,
        Err(error) => unreachable!("a watch from now on needs no history: {error}"),
    }
}

/// A hash of an entry's effect, as far as it must be equal on all members.
fn hash_applied(applied: &Applied) -> Option<u64> {
    Some(match applied {
        Applied::Command(id, Outcome::V2(Ok(event))) => mix(mix(1, *id), hash_event(event)),
        Applied::Command(id, Outcome::V2(Err(error))) => {
            mix(mix(2, *id), mix(mix(error.index, u64::from(error.code())), hash_bytes(&error.cause)))
        }
        Applied::Command(id, Outcome::V3(result)) => {
            mix(mix(9, *id), hash_bytes(format!("{result:?}").as_bytes()))
        }
        Applied::Configured(id, result) => mix(mix(3, *id), u64::from(result.is_ok())),
        Applied::MemberChanged { kind, id, peer_urls } => {
            mix(mix(4, id.0), mix(*kind as u64, hash_bytes(peer_urls.concat().as_bytes())))
        }
        Applied::NewTerm => 5,
        Applied::AttributesChanged => 6,
        Applied::OutsideKeys { .. } => 7,
        Applied::Skipped { index, .. } => mix(8, *index),
        // Only the removed member has this effect.
        Applied::RemovedSelf => return None,
    })
}

/// A hash of an event without its TTL, which depends on the reader's clock.
pub(super) fn hash_event(event: &Event) -> u64 {
    let mut hash = mix(event.index, hash_bytes(event.action.name().as_bytes()));
    hash = mix(hash, hash_bytes(event.key()));
    for node in [Some(event.node()), event.prev()].into_iter().flatten() {
        hash = mix(hash, mix(node.created_index(), node.modified_index()));
        hash = mix(hash, hash_bytes(node.value().unwrap_or_default()));
        hash = mix(hash, node.expiration().map_or(0, |at| at.0.cast_unsigned()));
    }
    hash
}

//! One life of a member: what the server's loop, its log's thread and its snapshots' thread do, one step at a time.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use bytes::Bytes;
use node::member::{Applied, Batch, Committed, Member, Message, Output, Received, RequestId, Role, Start};
use prost::Message as _;
use shared::disk::{Disk, Fault, SimDisk, Verb};
use shared::error::ApiError;
use shared::event::Event;
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::snap::Snapshots;
use shared::store::{Image, Store, Watcher};
use shared::time::UnixNanos;
use shared::v2;
use shared::wal::{EntryRef, Wal};

use super::oracle::{Entries, Oracle, Violation};
use super::plan::{Bug, ELECTION_TICKS, Plan};
use super::trace::{hash_bytes, mix};

const WAL: &str = "/d/wal";
const SNAP: &str = "/d/snap";
const CLUSTER: ClusterId = ClusterId(0xc1);
/// Events that a store remembers.
const HISTORY_LENGTH: usize = 16;

/// Who waits for an answer: a client and the number of its request.
pub(super) type Ticket = (usize, u64);

/// What a client is told.
pub(super) type Answer = Result<Event, ApiError>;

/// What the world around a process has to do for it.
pub(super) enum Effect {
    Send(Message),
    /// Something waits for the disk.
    WriteDue,
    /// A snapshot was taken; it is to be saved.
    SaveDue,
    Answer(Ticket, Answer),
    /// Nobody can say what became of a request.
    GivenUp(Ticket),
    /// A member was added or removed.
    Changed {
        kind: i32,
        id: MemberId,
    },
    /// It was this one that was removed.
    Removed,
    /// A snapshot from the leader has taken the place of the store.
    Installed(u64),
}

/// The disk failed it: it stops.
#[derive(Debug)]
pub(super) struct Stopped;

/// Why a process does not go on.
pub(super) enum Halt {
    Stopped,
    Violated(Violation),
}

impl From<Stopped> for Halt {
    fn from(_: Stopped) -> Halt {
        Halt::Stopped
    }
}

impl From<Violation> for Halt {
    fn from(violation: Violation) -> Halt {
        Halt::Violated(violation)
    }
}

/// Work for the log, in this order.
enum Job {
    Write(Batch),
    MarkSnapshot(pb::WalSnapshot),
    Release(u64),
}

/// A member with its store and its files.
pub(super) struct Process {
    pub(super) member: Member,
    pub(super) store: Store,
    disk: SimDisk,
    wal: Wal<SimDisk>,
    snapshots: Snapshots<SimDisk>,
    watcher: Watcher,
    /// The store's index up to which the watcher was told of everything.
    told: u64,
    entries: Entries,
    /// What all that was applied came to.
    chain: u64,
    /// Waits for the disk.
    jobs: Vec<Job>,
    /// What the disk is at work on.
    writing: Option<Vec<Job>>,
    last_snapshot: u64,
    prepared: Option<(pb::SnapshotMetadata, Image)>,
    saving: Option<(pb::SnapshotMetadata, Image)>,
    snapshot_count: u64,
    waiting: BTreeMap<RequestId, Ticket>,
    reads_asked: BTreeMap<RequestId, (Ticket, Bytes)>,
    reads_ready: VecDeque<(u64, Ticket, Bytes)>,
    bug: Option<Bug>,
}

/// What a process is started with, beside what its disk holds.
pub(super) struct Begin<'a> {
    pub(super) id: MemberId,
    /// The members that the cluster began with.
    pub(super) founders: &'a [MemberId],
    pub(super) plan: &'a Plan,
    pub(super) seed: u64,
    pub(super) now: UnixNanos,
    pub(super) bug: Option<Bug>,
}

/// The members that a cluster begins with.
pub(super) fn founders(plan: &Plan) -> Vec<MemberId> {
    (1..=plan.members).map(MemberId).collect()
}

/// The change that adds a member, or gives it other peer URLs.
pub(super) fn change(kind: i32, id: MemberId, version: u64) -> pb::ConfChange {
    let context = format!(r#"{{"id":{},"peerURLs":["http://m{}:{version}"]}}"#, id.0, id.0);
    let context = (kind != pb::REMOVE_NODE).then(|| Bytes::from(context));
    pb::ConfChange { id: 0, kind, node_id: id.0, context }
}

/// What a new cluster's logs begin with.
fn founding(founders: &[MemberId]) -> (Vec<pb::Entry>, pb::HardState) {
    let entries: Vec<pb::Entry> = (1..)
        .zip(founders)
        .map(|(index, id)| {
            let data = Some(Bytes::from(change(pb::ADD_NODE, *id, 1).encode_to_vec()));
            pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term: 1, index, data }
        })
        .collect();
    let commit = entries.len() as u64;
    (entries, pb::HardState { term: 1, vote: 0, commit })
}

impl Process {
    /// Starts a member on what its disk holds: nothing, or what an earlier life has left.
    pub(super) fn start(disk: &SimDisk, begin: &Begin<'_>, oracle: &Oracle) -> Result<Process, Violation> {
        let &Begin { id, founders, plan, seed, now, bug } = begin;
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
        let last_snapshot = snapshot.index;
        let watcher = watch(&store);
        let start = Start {
            id,
            cluster_id: CLUSTER,
            snapshot,
            state,
            entries,
            election_ticks: ELECTION_TICKS,
            seed,
            now,
        };
        let mut member = Member::new(start, &store, &slog::Logger::root(slog::Discard, slog::o!()));
        member.set_catch_up_entries(plan.catch_up);
        member.set_extended(plan.extended);
        if !exists {
            member.hasten();
        }
        Ok(Process {
            member,
            store,
            disk: disk.clone(),
            wal,
            snapshots,
            told: watcher.start_index(),
            watcher,
            entries: log,
            chain,
            jobs: Vec::new(),
            writing: None,
            last_snapshot,
            prepared: None,
            saving: None,
            snapshot_count: plan.snapshot_count,
            waiting: BTreeMap::new(),
            reads_asked: BTreeMap::new(),
            reads_ready: VecDeque::new(),
            bug,
        })
    }

    /// Hands a write, or a read that takes the way of writes, to the member. False if nobody can take it now.
    pub(super) fn submit(&mut self, request: v2::Request, ticket: Ticket) -> bool {
        if !self.member.takes_proposals() {
            return false;
        }
        let id = self.member.propose(request);
        self.waiting.insert(id, ticket);
        true
    }

    /// Asks for a quorum read without an entry. False if this member cannot do that now.
    pub(super) fn read(&mut self, path: Bytes, ticket: Ticket, out: &mut Vec<Effect>) -> bool {
        if self.bug == Some(Bug::StaleRead) && self.member.status().role == Role::Leader {
            out.push(Effect::Answer(ticket, self.store.get(&path, false, false)));
            return true;
        }
        if !self.member.offers_read_index() {
            return false;
        }
        let Ok(id) = self.member.read_index() else { return false };
        self.reads_asked.insert(id, (ticket, path));
        true
    }

    /// Whether a change of the members can be asked for.
    pub(super) fn takes_changes(&self) -> bool {
        self.member.takes_proposals() && !self.member.is_configuring()
    }

    /// What a leader does every now and then: lets go of keys whose time is up.
    pub(super) fn expire(&mut self, now: UnixNanos) {
        if !self.store.has_expired(now) {
            return;
        }
        if self.bug == Some(Bug::OwnExpiry) {
            self.store.delete_expired(now, now);
        } else if self.member.status().role == Role::Leader {
            self.member.propose_once(v2::Request { verb: v2::Verb::Sync, time: now.0, ..Default::default() });
        }
    }

    /// Does what the member says until it has nothing more to say.
    pub(super) fn turn(
        &mut self,
        now: UnixNanos,
        oracle: &mut Oracle,
        out: &mut Vec<Effect>,
    ) -> Result<(), Halt> {
        while let Some(output) = self.member.poll() {
            match output {
                Output::Send(messages) => out.extend(messages.into_iter().map(Effect::Send)),
                Output::Install(received) => self.install(&received, oracle, out)?,
                Output::Persist(batch) => self.persist(batch, out),
                Output::Apply(committed) => self.apply(committed, now, oracle, out)?,
                Output::ReadReady { id, index } => {
                    if let Some((ticket, path)) = self.reads_asked.remove(&id) {
                        self.reads_ready.push_back((index, ticket, path));
                    }
                }
                Output::GivenUp(ids) => {
                    let tickets = ids.iter().filter_map(|id| self.waiting.remove(id));
                    out.extend(tickets.map(Effect::GivenUp));
                }
            }
        }
        let applied = self.member.status().applied;
        let store = &self.store;
        self.reads_ready.retain(|(index, ticket, path)| {
            let ready = *index <= applied;
            if ready {
                out.push(Effect::Answer(*ticket, store.get(path, false, false)));
            }
            !ready
        });
        Ok(())
    }

    /// Puts a snapshot from the leader in the place of log and store, at once: nothing else goes on meanwhile.
    fn install(
        &mut self,
        received: &Received,
        oracle: &mut Oracle,
        out: &mut Vec<Effect>,
    ) -> Result<(), Halt> {
        let Received { metadata: at, data } = received;
        let id = self.member.status().id;
        // What the log was asked to hold before comes before the mark.
        while self.writing.is_some() || !self.jobs.is_empty() {
            self.end_write(out)?;
            self.begin_write();
        }
        self.wal.append_snapshot(pb::WalSnapshot { index: at.index, term: at.term }).map_err(|_| Stopped)?;
        self.snapshots
            .save(at.term, at.index, &at.conf_state, |out| out.write_all(data))
            .map_err(|_| Stopped)?;
        let store = Store::recover(data, HISTORY_LENGTH)
            .map_err(|error| Violation::new(format!("{id} gets a snapshot that cannot be read: {error}")))?;
        self.store.adopt(store);
        self.tell_events(oracle)?;
        self.member.installed(at, &self.store);
        self.entries.restart_after(at.index);
        self.chain = oracle.chain_at(at.index);
        self.last_snapshot = self.last_snapshot.max(at.index);
        out.push(Effect::Installed(at.index));
        oracle.state(id, &self.member.tail(), self.chain, &self.store)?;
        Ok(oracle.compare(id, at.index, &self.store)?)
    }

    fn persist(&mut self, mut batch: Batch, out: &mut Vec<Effect>) {
        self.entries.append(batch.entries());
        if self.bug == Some(Bug::AckBeforeSync) {
            if batch.must_sync {
                self.member.persisted(batch.id);
            }
            out.extend(batch.then_send.drain(..).map(Effect::Send));
        }
        self.jobs.push(Job::Write(batch));
        out.push(Effect::WriteDue);
    }

    /// Begins to write all that waits; false if the disk is still at work, or nothing waits.
    pub(super) fn begin_write(&mut self) -> bool {
        if self.writing.is_some() || self.jobs.is_empty() {
            return false;
        }
        self.writing = Some(std::mem::take(&mut self.jobs));
        true
    }

    /// The disk has done what it was at work on.
    pub(super) fn end_write(&mut self, out: &mut Vec<Effect>) -> Result<(), Stopped> {
        let mut unsynced = Vec::new();
        for job in self.writing.take().unwrap_or_default() {
            match job {
                Job::Write(batch) => {
                    let mut state = batch.state;
                    if let (Some(state), Some(Bug::LostVote)) = (&mut state, self.bug) {
                        state.vote = 0;
                    }
                    self.wal.append(batch.entries(), state);
                    unsynced.push(batch);
                }
                Job::MarkSnapshot(at) => {
                    self.sync(&mut unsynced, out)?;
                    self.wal.append_snapshot(at).map_err(|_| Stopped)?;
                    self.saving = self.prepared.take();
                    out.push(Effect::SaveDue);
                }
                Job::Release(index) => {
                    self.wal.release_before(index);
                    let wal = self.wal.dir().to_owned();
                    // As the server does now and then.
                    let newest =
                        shared::snap::newest_index(&self.disk, Path::new(SNAP)).map_err(|_| Stopped)?;
                    shared::wal::purge(&self.disk, &wal, 1, newest.unwrap_or(0)).map_err(|_| Stopped)?;
                    shared::snap::purge(&self.disk, Path::new(SNAP), 2).map_err(|_| Stopped)?;
                }
            }
        }
        self.sync(&mut unsynced, out)?;
        if !self.jobs.is_empty() {
            out.push(Effect::WriteDue);
        }
        Ok(())
    }

    fn sync(&mut self, batches: &mut Vec<Batch>, out: &mut Vec<Effect>) -> Result<(), Stopped> {
        if batches.iter().any(|batch| batch.must_sync) {
            self.wal.sync().map_err(|_| Stopped)?;
        }
        for batch in batches.drain(..) {
            if batch.must_sync && self.bug != Some(Bug::AckBeforeSync) {
                self.member.persisted(batch.id);
            }
            out.extend(batch.then_send.into_iter().map(Effect::Send));
        }
        Ok(())
    }

    /// Writes what nobody waits for: the last commit index.
    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        self.wal.flush().map_err(|_| Stopped)
    }

    /// The process is killed while the disk is at work, before such an operation: what is written by then is in
    /// the system's cache.
    pub(super) fn die_writing(mut self, disk: &SimDisk, before: Verb) {
        disk.inject(Fault { verb: before, after: 0, kind: std::io::ErrorKind::BrokenPipe });
        // Whatever it would have said, nobody hears it.
        let _ = self.end_write(&mut Vec::new());
        disk.forget_faults();
    }

    /// The power fails after some more of the operations that the disk is at work on.
    pub(super) fn lose_power(mut self, disk: &SimDisk, operations: u64) {
        disk.fail_power_after(operations);
        let _ = self.end_write(&mut Vec::new());
        drop(self);
        disk.crash();
    }

    fn apply(
        &mut self,
        committed: Committed,
        now: UnixNanos,
        oracle: &mut Oracle,
        out: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let before = self.member.status().applied;
        let (waiting, chain) = (&mut self.waiting, &mut self.chain);
        self.member.apply(committed, &mut self.store, now, |applied| {
            if let Some(hash) = hash_applied(&applied) {
                *chain = mix(*chain, hash);
            }
            match applied {
                Applied::Request(id, answer) => {
                    if let Some(ticket) = waiting.remove(&id) {
                        out.push(Effect::Answer(ticket, answer));
                    }
                }
                Applied::MemberChanged { kind, id, .. } => out.push(Effect::Changed { kind, id }),
                Applied::RemovedSelf => out.push(Effect::Removed),
                _ => {}
            }
        });
        let tail = self.member.tail();
        oracle.applied(self.member.status().id, &self.entries, before, tail.index)?;
        self.tell_events(oracle)?;
        oracle.state(self.member.status().id, &tail, self.chain, &self.store)?;
        self.snapshot_if_due(tail, oracle, out)
    }

    /// All members' stores tell the same of each of their indexes.
    fn tell_events(&mut self, oracle: &mut Oracle) -> Result<(), Violation> {
        let id = self.member.status().id;
        while let Some(event) = self.watcher.try_next() {
            oracle.event(id, &event)?;
            oracle.silent(id, self.told, event.index)?;
            self.told = event.index;
        }
        if self.watcher.is_closed() {
            self.watcher = watch(&self.store);
        } else {
            oracle.silent(id, self.told, self.store.index() + 1)?;
        }
        self.told = self.store.index();
        Ok(())
    }

    fn snapshot_if_due(
        &mut self,
        tail: pb::SnapshotMetadata,
        oracle: &mut Oracle,
        out: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let free = self.prepared.is_none() && self.saving.is_none();
        if !free || tail.index.saturating_sub(self.last_snapshot) <= self.snapshot_count {
            return Ok(());
        }
        // Known from now on to those who get it.
        oracle.compare(self.member.status().id, tail.index, &self.store)?;
        let at = pb::WalSnapshot { index: tail.index, term: tail.term };
        self.prepared = Some((tail, self.store.image()));
        self.jobs.push(Job::MarkSnapshot(at));
        out.push(Effect::WriteDue);
        Ok(())
    }

    /// A message that carries a snapshot, with the store from the file that it speaks of. None if there is no
    /// such file any more.
    pub(super) fn with_snapshot(&self, message: &Message) -> Option<Message> {
        let at = message.snapshot()?;
        let file = Path::new(SNAP).join(shared::snap::file_name(at.term, at.index));
        let snapshot = shared::snap::read(&self.disk, &file).ok()?.encode_to_vec();
        let (before, after) = message.encode_around_snapshot(snapshot.len() as u64);
        let bytes = [&before[..], &snapshot, &after].concat();
        Message::decode(bytes.into()).ok()
    }

    /// Saves the snapshot that was taken.
    pub(super) fn save(&mut self, out: &mut Vec<Effect>) -> Result<(), Stopped> {
        let Some((at, image)) = self.saving.take() else { return Ok(()) };
        self.snapshots
            .save(at.term, at.index, &at.conf_state, |out| image.write_json(out))
            .map_err(|_| Stopped)?;
        self.last_snapshot = self.last_snapshot.max(at.index);
        self.jobs.push(Job::Release(at.index));
        self.member.snapshot_saved(at);
        out.push(Effect::WriteDue);
        Ok(())
    }

    /// Clients that will never be answered by this process.
    pub(super) fn forsaken(&self) -> Vec<Ticket> {
        let reads = self.reads_asked.values().map(|(ticket, _)| ticket);
        let ready = self.reads_ready.iter().map(|(_, ticket, _)| ticket);
        self.waiting.values().chain(reads).chain(ready).copied().collect()
    }
}

/// A watch of all that clients can change.
fn watch(store: &Store) -> Watcher {
    match store.watch(b"/1", true, true, 0) {
        Ok(watcher) => watcher,
        Err(error) => unreachable!("a watch from now on needs no history: {error}"),
    }
}

/// What an entry did, as far as it must be alike everywhere.
fn hash_applied(applied: &Applied) -> Option<u64> {
    Some(match applied {
        Applied::Request(id, Ok(event)) => mix(mix(1, *id), hash_event(event)),
        Applied::Request(id, Err(error)) => {
            mix(mix(2, *id), mix(mix(error.index, u64::from(error.code())), hash_bytes(&error.cause)))
        }
        Applied::Configured(id, result) => mix(mix(3, *id), u64::from(result.is_ok())),
        Applied::MemberChanged { kind, id, peer_urls } => {
            mix(mix(4, id.0), mix(u64::from(kind.unsigned_abs()), hash_bytes(peer_urls.concat().as_bytes())))
        }
        Applied::NewTerm => 5,
        Applied::AttributesChanged => 6,
        Applied::OutsideKeys { .. } => 7,
        Applied::PassedOver { index, .. } => mix(8, *index),
        // The others do not hear of it.
        Applied::RemovedSelf => return None,
    })
}

/// An event without its TTL: that depends on the clock of who looks.
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

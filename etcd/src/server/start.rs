//! Opens the files of a member at its start: of a new member, a restarted one, or one that is forced to
//! continue alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use node::member::{
    ConfChangeContext, INDEX_MAX, MemberInfo, Start, TERM_MAX, VERSION_PATH, check_entry, own_data_set_by,
    value as member_value,
};
use node::v3::V3;
use node::version::{Level, Version};
use prost::Message as _;
use shared::bolt::{Bolt, BoltError};
use shared::disk::Disk;
use shared::id::{ClusterId, MemberId};
use shared::lease;
use shared::pb;
use shared::snap::{SnapError, Snapshots};
use shared::store::Store;
use shared::time::UnixNanos;
use shared::wal::{self, EntryRef, Form, Recovered, Wal, WalError};
use shared::watch;

use super::begin::{BeginError, Beginning, Founding, Joining};
use super::data_dir::Layout;
use super::database;
use super::log_location;
use super::node_loop::ServerMachine;
use crate::config::{ClusterState, Config};
use crate::log::{self, LogLine};

/// A member's open files, and their content.
pub(super) struct Opened<D: Disk> {
    pub(super) wal: Wal<D>,
    pub(super) snapshots: Snapshots<D>,
    pub(super) machine: ServerMachine,
    /// The database below the machine, from the level 3.4 on.
    pub(super) database: Option<Bolt<D>>,
    pub(super) start: Start,
    /// The other members, as a joining member got them from one of them while its log is empty. It can answer
    /// them from the start; the log decides who is a member.
    pub(super) remotes: Vec<MemberInfo>,
}

impl<D: Disk> Opened<D> {
    /// Whether it is a joining member without entries, snapshot or known peers.
    pub(super) fn has_no_peers(&self) -> bool {
        self.remotes.is_empty() && self.start.entries.is_empty() && self.start.snapshot.index == 0
    }
}

/// The state of a member that has joined, and has no entries yet.
const JOINED: pb::HardState = pb::HardState { term: 1, vote: 0, commit: 0 };

/// Why a member cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{0}")]
    Snapshot(#[from] SnapError),
    #[error("{0}")]
    Wal(#[from] WalError),
    #[error("cannot access data directory: {0}")]
    Disk(#[from] shared::disk::DiskError),
    #[error("recovered store from snapshot error: {0}")]
    Store(#[from] shared::store::RecoverError),
    #[error(
        "cluster cannot be downgraded (current version: 2.3.8 is lower than determined cluster version: {0})."
    )]
    Downgrade(String),
    #[error("{0}")]
    Database(#[from] BoltError),
    #[error("{0}")]
    OpenDatabase(#[from] database::OpenForError),
    #[error("{0}")]
    State(#[from] node::v3::OpenError),
    #[error(
        "the database {} has the entries up to {index}, and the log begins after the snapshot at entry {snapshot}: what \
         was acknowledged between them would be lost; the file is from another time, or was put there empty",
        .path.display()
    )]
    DatabaseBehind { path: PathBuf, index: u64, snapshot: u64 },
    #[error(
        "the database is missing: {}: this is the log of etcd 3.x, and there is no {}; put the file back, or remove \
         the member and add it again with an empty directory",
        .wal.display(), .path.display()
    )]
    DatabaseMissing { path: PathBuf, wal: PathBuf },
    #[error(
        "the database {} is of another log: it has the entries up to {index}, and the log {}; entries of a new log would \
         count as applied, and be lost",
        .path.display(),
        .last.map_or("is not there".to_owned(), |last| format!("ends with {last}"))
    )]
    DatabaseForeign { path: PathBuf, index: u64, last: Option<u64> },
    #[error(
        "experimental-v3demo cannot be disabled once it is enabled: {} holds keys of the v3 API, which this \
         version would lose. It is written by etcd 2.3 with that API: start it with the etcd that wrote it. Its v2 \
         keys can be taken out with etcd-dump export",
        .0.display()
    )]
    Demo(PathBuf),
    #[error("{0}")]
    Begin(#[from] BeginError),
    #[error(
        "the {quantity} {number} of the data directory is beyond what any cluster comes to: no election or entry could \
         follow; remove the directory and join anew, or take a backup from another member"
    )]
    Number { quantity: &'static str, number: u64 },
    #[error(
        "{snap} has, or had, a snapshot of entry {known}, but what can be read of it and of the log in {wal} ends with \
         entry {last}: a start would lose what was acknowledged between them",
        snap = snap.display(),
        wal = wal.display()
    )]
    LogTooShort { snap: PathBuf, wal: PathBuf, known: u64, last: u64 },
    #[error(
        "the log in {} was never begun: its first start was cut off, and had other flags than this one; remove it \
         to start anew",
        .0.display()
    )]
    NeverFounded(PathBuf),
}

impl StartError {
    /// The log lines before the process ends with status 1.
    pub(super) fn lines(&self) -> Vec<LogLine> {
        match self {
            StartError::Begin(error) => error.lines(),
            error => {
                let line = |text| LogLine { level: log::Level::Critical, package: "etcdmain", text };
                let advice = self.is_damage().then(|| line(SALVAGE.to_owned()));
                std::iter::once(line(error.to_string())).chain(advice).collect()
            }
        }
    }

    /// Whether files are damaged or missing, so that another start would fail too.
    fn is_damage(&self) -> bool {
        match self {
            StartError::Wal(error) => !matches!(error, WalError::Disk(_) | WalError::Exists(_)),
            StartError::Snapshot(SnapError::Broken { .. })
            | StartError::Store(_)
            | StartError::LogTooShort { .. } => true,
            _ => false,
        }
    }
}

/// The advice for damaged files.
const SALVAGE: &str = "the files are as they were; if this is the only member, etcd-dump salvage DATA_DIR OUT saves \
                       what is readable; a member of a cluster that runs is removed from it, and added again with an \
                       empty directory";

/// Opens the existing files, or creates those that [`begin`](super::begin) has decided on.
pub(super) fn open<D: Disk>(
    disk: &D,
    layout: &Layout,
    config: &Config,
    beginning: Beginning,
    now: UnixNanos,
    seed: u64,
) -> Result<Opened<D>, StartError> {
    disk.create_dir_all(&layout.snap)?;
    let snapshots = Snapshots::new(disk.clone(), &layout.snap);
    let mut opened = match beginning {
        Beginning::Restart => restart(disk, layout, snapshots, config)?,
        Beginning::Found(founding) => found(disk, layout, snapshots, config, founding)?,
        Beginning::Join(joining) => join(disk, layout, snapshots, config, joining)?,
    };
    log_location::write_location(disk, layout)?;
    opened.start.election_ticks = config.election_ticks();
    (opened.start.now, opened.start.seed) = (now, seed);
    Ok(opened)
}

/// Writes the first records of a log.
fn write_first<D: Disk>(
    wal: &mut Wal<D>,
    entries: &[pb::Entry],
    state: pb::HardState,
) -> Result<(), StartError> {
    write_committed(wal, entries, state)
}

/// Writes entries and, once they are durable, the state that commits them. In a single write a power failure
/// could keep the state and lose entries, and the log would count as damaged.
fn write_committed<D: Disk>(
    wal: &mut Wal<D>,
    entries: &[pb::Entry],
    state: pb::HardState,
) -> Result<(), StartError> {
    wal.append(entries.iter().map(EntryRef::from), None);
    wal.sync()?;
    wal.append(std::iter::empty(), Some(state));
    Ok(wal.flush()?)
}

/// The first start in a new cluster.
fn found<D: Disk>(
    disk: &D,
    layout: &Layout,
    snapshots: Snapshots<D>,
    config: &Config,
    founding: Founding,
) -> Result<Opened<D>, StartError> {
    let Founding { id, cluster_id, cluster, entries, state } = founding;
    let level = config.cluster_level;
    log_settings(layout, config);
    config.log_initial_settings(&cluster);
    log::info!("etcdserver", "starting member {id} in cluster {cluster_id}");

    let metadata = pb::Metadata { node_id: id.0, cluster_id: cluster_id.0 };
    let database = new_database(disk, layout, level)?;
    let mut wal = Wal::create_with(disk.clone(), &layout.wal, metadata, wal::Options::of(form_of(level)))?;
    write_first(&mut wal, &entries, state)?;
    let start = Start {
        id,
        cluster_id,
        snapshot: pb::SnapshotMetadata::default(),
        state,
        entries,
        election_ticks: 0,
        seed: 0,
        now: UnixNanos::ZERO,
        level,
    };
    let store = Store::new(config.watch_history);
    let machine = machine_of(store, database.as_ref(), config, level)?;
    Ok(Opened { wal, snapshots, machine, database, start, remotes: Vec::new() })
}

/// The first start in a running cluster: the others send the log.
fn join<D: Disk>(
    disk: &D,
    layout: &Layout,
    snapshots: Snapshots<D>,
    config: &Config,
    joining: Joining,
) -> Result<Opened<D>, StartError> {
    let Joining { id, cluster_id, remotes } = joining;
    let level = config.cluster_level;
    log_settings(layout, config);
    log::info!("etcdserver", "starting member {id} in cluster {cluster_id}");

    let metadata = pb::Metadata { node_id: id.0, cluster_id: cluster_id.0 };
    let database = new_database(disk, layout, level)?;
    let mut wal = Wal::create_with(disk.clone(), &layout.wal, metadata, wal::Options::of(form_of(level)))?;
    write_first(&mut wal, &[], JOINED)?;
    let start = Start {
        id,
        cluster_id,
        snapshot: pb::SnapshotMetadata::default(),
        state: JOINED,
        entries: Vec::new(),
        election_ticks: 0,
        seed: 0,
        now: UnixNanos::ZERO,
        level,
    };
    let store = Store::new(config.watch_history);
    let machine = machine_of(store, database.as_ref(), config, level)?;
    Ok(Opened { wal, snapshots, machine, database, start, remotes })
}

/// Logs the member's name and the location of its files.
fn log_settings(layout: &Layout, config: &Config) {
    log::info!("etcdserver", "name = {}", config.name);
    log::info!("etcdserver", "data dir = {}", layout.data.display());
    log::info!("etcdserver", "member dir = {}", layout.member.display());
    config.log_settings();
}

/// A start on the files of an earlier run, or of a Go etcd. Nothing is changed before everything is checked.
fn restart<D: Disk>(
    disk: &D,
    layout: &Layout,
    snapshots: Snapshots<D>,
    config: &Config,
) -> Result<Opened<D>, StartError> {
    let snapshot = snapshots.load_newest()?;
    let (snapshot, store) = match snapshot {
        Some((snapshot, path)) => {
            log::info!("etcdserver", "recovered store from snapshot at index {}", snapshot.metadata.index);
            log::debug!("etcdserver", "the snapshot is {}", path.display());
            let json = snapshot.data.unwrap_or_default();
            (snapshot.metadata, Store::recover(&json, config.watch_history)?)
        }
        None => (pb::SnapshotMetadata::default(), Store::new(config.watch_history)),
    };
    let at = pb::WalSnapshot { index: snapshot.index, term: snapshot.term };
    let has_database = database::is_there(disk, &layout.snap)?;
    check_forms(disk, layout, &store, snapshot.index, has_database)?;
    let form = if has_database { Form::V3_4 } else { Form::V2 };
    let (mut wal, mut recovered) = Wal::open_with(disk.clone(), &layout.wal, at, wal::Options::of(form))?;
    check_end(disk, layout, &recovered, snapshot.index)?;
    if recovered.state == pb::HardState::default() && snapshot.index == 0 {
        // The first start was interrupted between creating the log and its first entries. Nothing was
        // acknowledged yet.
        let first = redo_first_start(layout, config, &recovered)?;
        write_first(&mut wal, &first.0, first.1)?;
        (recovered.entries, recovered.state) = first;
    }
    check_numbers(&recovered, &snapshot)?;
    log_meaningless(&recovered.entries);
    let database = match has_database {
        true => Some(database::open_for(disk, &layout.snap, snapshot.index)?),
        false => None,
    };
    let level = level_of(&store, &recovered.entries, database.as_ref())?;
    wal.set_form(form_of(level));
    let machine = machine_of(store, database.as_ref(), config, level)?;
    check_database(layout, &machine, snapshot.index)?;
    check_log_has(layout, &machine, &snapshot, &recovered.entries)?;

    let id = MemberId(recovered.metadata.node_id);
    let cluster_id = ClusterId(recovered.metadata.cluster_id);
    log_settings(layout, config);
    let verb = if config.force_new_cluster { "forcing restart of" } else { "restarting" };
    log::info!(
        "etcdserver",
        "{verb} member {id} in cluster {cluster_id} at commit index {}",
        recovered.state.commit
    );
    let mut state = recovered.state;
    if config.force_new_cluster {
        let keeps_all = cluster_id == MIGRATED_CLUSTER && is_untouched(&state, &recovered.entries);
        state = force_alone(&mut wal, id, &snapshot, state, &mut recovered.entries, keeps_all)?;
    }
    let last = recovered.entries.last().map_or(snapshot.index, |entry| entry.index);
    if state.commit > last {
        // 2.0 wrote the state before the entries that it commits; these are missing after a crash.
        log::warning!(
            "etcdserver",
            "the log ends at entry {last}, though entry {} was committed: what is missing was never whole on disk",
            state.commit
        );
        state.commit = last;
    }
    let start = Start {
        id,
        cluster_id,
        snapshot,
        state,
        entries: recovered.entries,
        election_ticks: 0,
        seed: 0,
        now: UnixNanos::ZERO,
        level,
    };
    Ok(Opened { wal, snapshots, machine, database, start, remotes: Vec::new() })
}

/// The database of a member that has no log yet. It is there before the log: a start takes a log without it for one of
/// 2.x.
fn new_database<D: Disk>(disk: &D, layout: &Layout, level: Level) -> Result<Option<Bolt<D>>, StartError> {
    if !level.has_v3() {
        // One without entries, of a start at another level that was cut off: the next start would take the log beside it
        // for one of 3.x. One with entries was refused before.
        if database::is_there(disk, &layout.snap)? {
            disk.remove(&database::path_in(&layout.snap))?;
            disk.sync_dir(&layout.snap)?;
        }
        return Ok(None);
    }
    let bolt = database::open(disk, &layout.snap)?;
    let index = node::v3::position(&bolt.view())?.index;
    if index > 0 {
        return Err(StartError::DatabaseForeign { path: bolt.path().to_owned(), index, last: None });
    }
    Ok(Some(bolt))
}

/// Refuses a log of 3.x without its database, and a database beside a log of 2.x, before the log is opened: that writes to it
/// in the form of the one or the other.
fn check_forms<D: Disk>(
    disk: &D,
    layout: &Layout,
    store: &Store,
    snapshot_index: u64,
    has_database: bool,
) -> Result<(), StartError> {
    let path = database::path_in(&layout.snap);
    match (has_database, wal::is_padded(disk, &layout.wal)?) {
        (true, true) | (false, false) => Ok(()),
        (false, true) => Err(StartError::DatabaseMissing { path, wal: layout.wal.clone() }),
        // A 3.x that has continued a log of 2.x leaves its first records as they are; the version tells.
        (true, false) => match wal::inspect_any(disk, &layout.wal, snapshot_index) {
            Ok((log, _)) if is_of_2_x(store, &log.entries) => Err(StartError::Demo(path)),
            // Damage is a matter for whoever opens the log.
            _ => Ok(()),
        },
    }
}

/// What the log of a member leads to, as far as it is stored.
fn machine_of<D: Disk>(
    tree: Store,
    database: Option<&Bolt<D>>,
    config: &Config,
    level: Level,
) -> Result<ServerMachine, StartError> {
    let settings = node::v3::Settings {
        level,
        leases: lease::Settings { ttl_min: lease::minimum_ttl(config.election()), checkpoints: None },
        watches: watch::Settings {
            seed: std::process::id().into(),
            progress_interval: config.watch_progress_interval,
            ..watch::Settings::default()
        },
    };
    let v3 = database.map(|bolt| V3::open(bolt.view(), settings).map(Box::new)).transpose()?;
    Ok(ServerMachine { tree, v3 })
}

/// The form of the log at a level.
fn form_of(level: Level) -> Form {
    match level {
        Level::V2_3 => Form::V2,
        Level::V3_4 => Form::V3_4,
        Level::V3_5 => Form::V3_5,
    }
}

/// Refuses a database that is older than the snapshot from which the log is read: the entries between them are gone.
fn check_database(layout: &Layout, machine: &ServerMachine, snapshot_index: u64) -> Result<(), StartError> {
    let Some(v3) = &machine.v3 else { return Ok(()) };
    let index = v3.position().index;
    if index < snapshot_index {
        let path = database::path_in(&layout.snap);
        return Err(StartError::DatabaseBehind { path, index, snapshot: snapshot_index });
    }
    Ok(())
}

/// Refuses a log that ends before what the database has, where this member is the only one: the entries to come would
/// count as applied. Others may have committed what this one had not written yet, and send it again.
fn check_log_has(
    layout: &Layout,
    machine: &ServerMachine,
    snapshot: &pb::SnapshotMetadata,
    entries: &[pb::Entry],
) -> Result<(), StartError> {
    let Some(v3) = &machine.v3 else { return Ok(()) };
    let index = v3.position().index;
    let last = entries.last().map_or(snapshot.index, |entry| entry.index);
    if index > last && voters(snapshot, entries).len() <= 1 {
        let path = database::path_in(&layout.snap);
        return Err(StartError::DatabaseForeign { path, index, last: Some(last) });
    }
    Ok(())
}

/// Refuses a log that ends before the entry of a known snapshot: that entry was committed, and may have been
/// acknowledged.
fn check_end<D: Disk>(
    disk: &D,
    layout: &Layout,
    recovered: &Recovered,
    snapshot_index: u64,
) -> Result<(), StartError> {
    let last = recovered.entries.last().map_or(snapshot_index, |entry| entry.index);
    let known = shared::snap::highest_index(disk, &layout.snap)?;
    if known > last {
        let (snap, wal) = (layout.snap.clone(), layout.wal.clone());
        return Err(StartError::LogTooShort { snap, wal, known, last });
    }
    Ok(())
}

/// Refuses terms and indexes that are too high to continue from.
fn check_numbers(recovered: &Recovered, snapshot: &pb::SnapshotMetadata) -> Result<(), StartError> {
    let entries = recovered.entries.iter();
    let terms = entries.clone().map(|entry| entry.term).chain([recovered.state.term, snapshot.term]);
    if let Some(number) = terms.into_iter().find(|term| *term > TERM_MAX) {
        return Err(StartError::Number { quantity: "term", number });
    }
    let indexes = entries.map(|entry| entry.index).chain([snapshot.index]);
    match indexes.into_iter().find(|index| *index > INDEX_MAX) {
        Some(number) => Err(StartError::Number { quantity: "index", number }),
        None => Ok(()),
    }
}

/// Logs the invalid entries, which an earlier version accepted from any client of its peer port. All members
/// skip them.
fn log_meaningless(entries: &[pb::Entry]) {
    for entry in entries {
        if let Err(why) = check_entry(entry) {
            log::error!(
                "etcdserver",
                "entry {} of the log is passed over, as by all members: {why}",
                entry.index
            );
        }
    }
}

/// The entries and state that the interrupted first start would have written.
fn redo_first_start(
    layout: &Layout,
    config: &Config,
    recovered: &Recovered,
) -> Result<(Vec<pb::Entry>, pb::HardState), StartError> {
    if config.initial_cluster_state == ClusterState::Existing && recovered.entries.is_empty() {
        return Ok((Vec::new(), JOINED));
    }
    let never_founded = || StartError::NeverFounded(layout.wal.clone());
    // The answers of discovery or the DNS at that time are not known any more.
    let founding = Founding::new(config, config.initial_cluster.clone()).map_err(|_| never_founded())?;
    let found = (recovered.metadata.node_id, recovered.metadata.cluster_id);
    if found != (founding.id.0, founding.cluster_id.0) {
        if recovered.entries.is_empty() && (!config.peers.is_empty() || config.peers_file.is_some()) {
            return Ok((Vec::new(), JOINED));
        }
        return Err(never_founded());
    }
    Ok((founding.entries, founding.state))
}

/// The id of every cluster that was converted from 0.x.
const MIGRATED_CLUSTER: ClusterId = ClusterId(0x04_add5);

/// Whether there was no vote and no leader since the log was converted from a 0.x log.
fn is_untouched(state: &pb::HardState, entries: &[pb::Entry]) -> bool {
    state.vote == 0 && entries.last().is_some_and(|entry| entry.term == state.term)
}

/// Makes the member the only one of its cluster: drops entries above the commit index, unless `keeps_all`, and
/// adds entries that remove all other members.
fn force_alone<D: Disk>(
    wal: &mut Wal<D>,
    id: MemberId,
    snapshot: &pb::SnapshotMetadata,
    state: pb::HardState,
    entries: &mut Vec<pb::Entry>,
    keeps_all: bool,
) -> Result<pb::HardState, StartError> {
    // All entries of the only member are committed, whatever its last commit index says. And 0.x wrote its
    // commit index only when members changed or it stopped: later acknowledged entries are above it.
    let was_alone = voters(snapshot, entries) == BTreeSet::from([id.0]);
    if !was_alone && !keeps_all {
        let before = entries.len();
        entries.retain(|entry| entry.index <= state.commit);
        if entries.len() < before {
            log::info!("etcdserver", "discarding {} uncommitted WAL entries ", before - entries.len());
        }
    }
    let mut last = entries.last().map_or(snapshot.index, |entry| entry.index);
    let mut added = Vec::new();
    let mut add = |change: pb::ConfChange| {
        last += 1;
        added.push(conf_change_entry(state.term, last, &change));
    };
    let voters = voters(snapshot, entries);
    for other in voters.iter().filter(|voter| **voter != id.0) {
        add(pb::ConfChange { id: 0, kind: pb::REMOVE_NODE, node_id: *other, context: None });
    }
    if !voters.contains(&id.0) {
        let peer_urls = ["http://localhost:7001", "http://localhost:2380"].map(str::to_owned).to_vec();
        let context = ConfChangeContext { id: id.0, peer_urls, ..ConfChangeContext::default() };
        let context = Some(context.encode().into());
        add(pb::ConfChange { id: 0, kind: pb::ADD_NODE, node_id: id.0, context });
    }
    let state = pb::HardState { commit: last, ..state };
    write_committed(wal, &added, state)?;
    entries.append(&mut added);
    Ok(state)
}

/// The voters after all of `entries`.
fn voters(snapshot: &pb::SnapshotMetadata, entries: &[pb::Entry]) -> BTreeSet<u64> {
    let mut voters: BTreeSet<u64> = snapshot.conf_state.nodes.iter().copied().collect();
    for entry in entries.iter().filter(|entry| entry.kind == pb::ENTRY_CONF_CHANGE) {
        // An invalid change is skipped.
        let Ok(change) = pb::ConfChange::decode(entry.data.clone().unwrap_or_default()) else { continue };
        match change.kind {
            pb::ADD_NODE => drop(voters.insert(change.node_id)),
            pb::REMOVE_NODE => drop(voters.remove(&change.node_id)),
            _ => {}
        }
    }
    voters
}

pub(super) fn conf_change_entry(term: u64, index: u64, change: &pb::ConfChange) -> pb::Entry {
    let data = Some(Bytes::from(change.encode_to_vec()));
    pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term, index, data }
}

/// The version of the cluster, as the log has it.
fn cluster_version(store: &Store, entries: &[pb::Entry]) -> Option<Bytes> {
    let set_last = entries.iter().rev().find_map(|entry| own_data_set_by(entry, VERSION_PATH));
    set_last.or_else(|| member_value(store, VERSION_PATH).map(Bytes::from))
}

/// Whether the cluster is one of 2.x. It has no database, but for that of an early form of the v3 API.
fn is_of_2_x(store: &Store, entries: &[pb::Entry]) -> bool {
    cluster_version(store, entries).is_some_and(|version| version.starts_with(b"2."))
}

/// The level of a directory, by its cluster version. Refuses one that is too new for this server.
fn level_of<D: Disk>(
    store: &Store,
    entries: &[pb::Entry],
    database: Option<&Bolt<D>>,
) -> Result<Level, StartError> {
    let Some(version) = cluster_version(store, entries) else {
        return match database {
            None => Ok(Level::V2_3),
            // A new cluster, which has not agreed on a version. Since 3.5 a database has the voters.
            Some(bolt) if node::v3::has_voters(&bolt.view())? => Ok(Level::V3_5),
            Some(_) => Ok(Level::V3_4),
        };
    };
    let version = String::from_utf8_lossy(&version).into_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match (Level::of_cluster(Version { major, minor, patch: 0 }), database) {
        (Some(Level::V2_3), None) if (major, minor) <= (2, 3) => Ok(Level::V2_3),
        (Some(Level::V2_3), Some(bolt)) => Err(StartError::Demo(bolt.path().to_owned())),
        // The same as the original's: at 3.0 members tell apart only by their database.
        (Some(level), Some(bolt)) if level.has_v3() => {
            Ok(if node::v3::has_voters(&bolt.view())? { level.max(Level::V3_5) } else { level })
        }
        _ => Err(StartError::Downgrade(version)),
    }
}

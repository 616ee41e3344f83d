//! From flags and files to a member: a new one, one that was here before, or one that is forced to go on alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use bytes::Bytes;
use prost::Message as _;
use shared::disk::Disk;
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::snap::Snapshots;
use shared::store::Store;
use shared::time::UnixNanos;
use shared::wal::{EntryRef, Wal};

use super::data_dir::Layout;
use crate::config::{BootstrapError, Config};
use crate::log;
use crate::member::{ConfChangeContext, Start, value as member_value};

/// The highest cluster version that this server can be part of.
const VERSION_MAX: (u64, u64) = (2, 3);

/// A member's files, open, and what they hold.
pub(super) struct Opened<D: Disk> {
    pub(super) wal: Wal<D>,
    pub(super) snapshots: Snapshots<D>,
    pub(super) store: Store,
    pub(super) start: Start,
}

/// Why a member cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{0}")]
    Snapshot(#[from] shared::snap::SnapError),
    #[error("{0}")]
    Wal(#[from] shared::wal::WalError),
    #[error("recovered store from snapshot error: {0}")]
    Store(#[from] shared::store::RecoverError),
    #[error(
        "auth is enabled in this data directory, and this version does not check users yet: starting would \
         open every key to everybody"
    )]
    AuthEnabled,
    #[error(
        "cluster cannot be downgraded (current version: 2.3.8 is lower than determined cluster version: {0})."
    )]
    Downgrade(String),
    #[error("{0}")]
    Bootstrap(#[from] BootstrapError),
    #[error("entry {index} of the log holds no {what}: {source}")]
    Entry { index: u64, what: &'static str, source: prost::DecodeError },
    #[error(
        "the log in {} was never begun: its first start was cut off, and had other flags than this one; remove it \
         to start anew",
        .0.display()
    )]
    Unfounded(PathBuf),
    #[error("cannot use 0 as member id")]
    ZeroId,
}

/// Opens what is there, or founds a new cluster.
pub(super) fn open<D: Disk>(
    disk: &D,
    layout: &Layout,
    config: &Config,
    now: UnixNanos,
    seed: u64,
) -> Result<Opened<D>, StartError> {
    let snapshots = Snapshots::new(disk.clone(), &layout.snap);
    let exists = layout.has_log(disk)?;
    let mut opened = if exists {
        restart(disk, layout, snapshots, config)?
    } else {
        bootstrap(disk, layout, snapshots, config)?
    };
    opened.start.election_ticks = config.election_ticks();
    (opened.start.now, opened.start.seed) = (now, seed);
    Ok(opened)
}

/// What the log of a new cluster begins with, on every one of its members alike.
struct Founding {
    id: MemberId,
    cluster_id: ClusterId,
    /// Adds the initial members.
    entries: Vec<pb::Entry>,
    state: pb::HardState,
}

impl Founding {
    fn new(config: &Config) -> Result<Founding, StartError> {
        config.check_bootstrap(first_address)?;
        let token = &config.initial_cluster_token;
        let mut members: Vec<(MemberId, &str, Vec<String>)> = config
            .initial_cluster
            .iter()
            .map(|(name, urls)| {
                let urls = urls.to_strings();
                (MemberId::compute(&urls, token, None), name, urls)
            })
            .collect();
        members.sort();
        let ids: Vec<MemberId> = members.iter().map(|(id, ..)| *id).collect();
        let cluster_id = ClusterId::compute(&ids);
        let Some((id, ..)) = members.iter().find(|(_, name, _)| *name == config.name) else {
            return Err(BootstrapError::NotNamed(config.name.clone()).into());
        };
        let id = *id;
        if id.0 == 0 {
            return Err(StartError::ZeroId);
        }
        let entries: Vec<pb::Entry> = (1..)
            .zip(&members)
            .map(|(index, (id, name, peer_urls))| {
                let context = ConfChangeContext {
                    id: id.0,
                    peer_urls: peer_urls.clone(),
                    name: (*name).to_owned(),
                    client_urls: Vec::new(),
                };
                let change = pb::ConfChange {
                    id: 0,
                    kind: pb::ADD_NODE,
                    node_id: id.0,
                    context: Some(context.encode().into()),
                };
                conf_change_entry(1, index, &change)
            })
            .collect();
        let state = pb::HardState { term: 1, vote: 0, commit: entries.len() as u64 };
        Ok(Founding { id, cluster_id, entries, state })
    }

    fn write<D: Disk>(&self, wal: &mut Wal<D>) -> Result<(), StartError> {
        wal.append(self.entries.iter().map(EntryRef::from), Some(self.state));
        Ok(wal.sync()?)
    }
}

/// The first start.
fn bootstrap<D: Disk>(
    disk: &D,
    layout: &Layout,
    snapshots: Snapshots<D>,
    config: &Config,
) -> Result<Opened<D>, StartError> {
    let founding = Founding::new(config)?;
    let (id, cluster_id) = (founding.id, founding.cluster_id);
    let metadata = pb::Metadata { node_id: id.0, cluster_id: cluster_id.0 };

    for (flag, value) in [
        ("name", config.name.clone()),
        ("data dir", layout.data.display().to_string()),
        ("member dir", layout.member.display().to_string()),
    ] {
        log::info!("etcdserver", "{flag} = {value}");
    }
    config.log_settings();
    config.log_initial_settings();
    log::info!("etcdserver", "starting member {id} in cluster {cluster_id}");

    let mut wal = Wal::create(disk.clone(), &layout.wal, metadata)?;
    founding.write(&mut wal)?;
    let start = Start {
        id,
        cluster_id,
        snapshot: pb::SnapshotMetadata::default(),
        state: founding.state,
        entries: founding.entries,
        election_ticks: 0,
        seed: 0,
        now: UnixNanos::ZERO,
    };
    Ok(Opened { wal, snapshots, store: Store::new(config.watch_history), start })
}

/// A start on what an earlier run, or a Go etcd, has left. Nothing is changed before all of it was checked.
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
    let (mut wal, mut recovered) = Wal::open(disk.clone(), &layout.wal, at)?;
    if recovered.state.commit == 0 && snapshot.index == 0 {
        // The first start was cut off between the log and its first entries. Nobody was answered yet.
        let founding = Founding::new(config)?;
        let found = (recovered.metadata.node_id, recovered.metadata.cluster_id);
        if found != (founding.id.0, founding.cluster_id.0) {
            return Err(StartError::Unfounded(layout.wal.clone()));
        }
        founding.write(&mut wal)?;
        (recovered.entries, recovered.state) = (founding.entries, founding.state);
    }
    check_auth(&store, &recovered.entries)?;
    check_version(&store, &recovered.entries)?;

    let id = MemberId(recovered.metadata.node_id);
    let cluster_id = ClusterId(recovered.metadata.cluster_id);
    log::info!("etcdserver", "name = {}", config.name);
    log::info!("etcdserver", "data dir = {}", layout.data.display());
    log::info!("etcdserver", "member dir = {}", layout.member.display());
    config.log_settings();
    let verb = if config.force_new_cluster { "forcing restart of" } else { "restarting" };
    log::info!(
        "etcdserver",
        "{verb} member {id} in cluster {cluster_id} at commit index {}",
        recovered.state.commit
    );
    let mut state = recovered.state;
    if config.force_new_cluster {
        state = force_alone(&mut wal, id, &snapshot, state, &mut recovered.entries)?;
    }
    let last = recovered.entries.last().map_or(snapshot.index, |entry| entry.index);
    if state.commit > last {
        // 2.0 wrote the state before the entries that it commits; these were torn off.
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
    };
    Ok(Opened { wal, snapshots, store, start })
}

/// Makes the member the only one of its cluster: drops what was not known to be committed, and adds entries
/// that remove all others.
fn force_alone<D: Disk>(
    wal: &mut Wal<D>,
    id: MemberId,
    snapshot: &pb::SnapshotMetadata,
    state: pb::HardState,
    entries: &mut Vec<pb::Entry>,
) -> Result<pb::HardState, StartError> {
    // A member that was alone has decided all that is in its log, whatever its last commit index says.
    let was_alone = voters(snapshot, entries)? == BTreeSet::from([id.0]);
    if !was_alone {
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
    let voters = voters(snapshot, entries)?;
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
    wal.append(added.iter().map(EntryRef::from), Some(state));
    wal.sync()?;
    entries.append(&mut added);
    Ok(state)
}

/// The voters after all of `entries`.
fn voters(snapshot: &pb::SnapshotMetadata, entries: &[pb::Entry]) -> Result<BTreeSet<u64>, StartError> {
    let mut voters: BTreeSet<u64> = snapshot.conf_state.nodes.iter().copied().collect();
    for entry in entries.iter().filter(|entry| entry.kind == pb::ENTRY_CONF_CHANGE) {
        let data = entry.data.clone().unwrap_or_default();
        let change = pb::ConfChange::decode(data).map_err(|source| StartError::Entry {
            index: entry.index,
            what: "change of members",
            source,
        })?;
        match change.kind {
            pb::ADD_NODE => drop(voters.insert(change.node_id)),
            pb::REMOVE_NODE => drop(voters.remove(&change.node_id)),
            _ => {}
        }
    }
    Ok(voters)
}

/// The first address of a host name.
fn first_address(host: &str) -> Option<IpAddr> {
    (host, 0).to_socket_addrs().ok()?.next().map(|address| address.ip())
}

fn conf_change_entry(term: u64, index: u64, change: &pb::ConfChange) -> pb::Entry {
    let data = Some(Bytes::from(change.encode_to_vec()));
    pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term, index, data }
}

/// Refuses a directory whose users expect to be asked for their passwords.
fn check_auth(store: &Store, entries: &[pb::Entry]) -> Result<(), StartError> {
    let enabled = last_value(store, entries, b"/2/enabled")?;
    if enabled.as_deref() == Some(b"true") { Err(StartError::AuthEnabled) } else { Ok(()) }
}

/// Refuses a directory whose cluster has moved on to a version that this server does not know.
fn check_version(store: &Store, entries: &[pb::Entry]) -> Result<(), StartError> {
    let Some(version) = last_value(store, entries, b"/0/version")? else { return Ok(()) };
    let version = String::from_utf8_lossy(&version).into_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found > VERSION_MAX { Err(StartError::Downgrade(version)) } else { Ok(()) }
}

/// What a key will hold once all entries are applied, if they only ever set it.
fn last_value(store: &Store, entries: &[pb::Entry], path: &[u8]) -> Result<Option<Bytes>, StartError> {
    let mut value = member_value(store, path).map(Bytes::from);
    for entry in entries.iter().filter(|entry| entry.kind == pb::ENTRY_NORMAL) {
        let Some(data) = entry.data.clone().filter(|data| !data.is_empty()) else { continue };
        let request = pb::Request::decode(data).map_err(|source| StartError::Entry {
            index: entry.index,
            what: "request",
            source,
        })?;
        if request.path == path && matches!(&request.method[..], b"PUT" | b"POST") {
            value = Some(request.val);
        }
    }
    Ok(value)
}

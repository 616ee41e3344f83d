//! The running server: opens the files, starts the member's loop, the log's thread and the listeners, and stops
//! them in the right order.

mod ages;
mod begin;
mod clock;
#[cfg(test)]
mod crash_tests;
pub(crate) mod data_dir;
mod database;
mod fatal;
mod handle;
pub(crate) mod log_location;
mod log_thread;
mod network;
mod node_loop;
mod notices;
mod publish;
pub(crate) mod signals;
mod snapshots;
mod start;
mod v3;
mod versions;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use node::member::{Member, Message};
use node::version::Level;
use parking_lot::{Mutex, RwLock};
use shared::disk::{Disk, DiskFile, PatientDisk, RealDisk};
use shared::id::MemberId;
use shared::net::{Acceptor, Dialer};
use shared::snap::{SnapshotData, Snapshots};
use shared::url::Urls;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::ages::Ages;
pub use self::clock::now;
pub use self::data_dir::{DataDirError, Layout, Role, role_of};
use self::database::{Commits, DatabaseThread};
pub use self::handle::Handle;
use self::handle::{CALLS_WAITING_MAX, Inner, SharedStatus};
pub use self::log_location::LogLocationError;
use self::log_thread::LogThread;
use self::network::{Links, Network};
use self::node_loop::{ExitReason, LoopParts, Node, NodeLoop, ServerMachine};
use self::publish::Publication;
use self::signals::Signals;
use self::snapshots::Snapshotter;
use self::start::StartError;
use self::v3::V3Handle;
use crate::addresses::{self, addresses};
use crate::api;
use crate::backend::{self, SharedAuthSwitch};
use crate::config::{Config, Fallback};
use crate::connections::{ConnectionSlots, raise_descriptor_limit};
use crate::log::{self, LogControl};
use crate::metrics::{self, Metrics};
use crate::peers::{self, Transport};
use crate::systemd::{ServiceEnvironment, SocketsByUrl, report_status};
use crate::tls::{self, Acceptors};
use crate::transport::{self, ClientThreads};

/// The longest time for a client's request, in addition to twice the election timeout.
const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);

/// How often files that are no longer needed are removed.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

/// How long connections may take to finish their responses once the server stops.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages from other members that wait for the loop. When it is full their connections wait.
const MESSAGES_WAITING_MAX: usize = 512;

/// Why the server has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The member was removed; the server stopped in order: status 0.
    Removed,
    /// The discovery service has enough members, and the settings say to be a proxy then: nothing was written
    /// but an empty data dir.
    ClusterFull,
    /// This signal stopped the server in order: the process ends by raising it again.
    Signal(i32),
    /// An error that was logged: status 1.
    Failed,
}

/// Runs a member until a signal stops it, it is removed, or it fails. Errors are logged.
pub fn run(config: Config, log: LogControl, service: &ServiceEnvironment) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    if config.enable_pprof {
        crate::profiles::enable();
    }
    match runtime.block_on(serve(config, log, service)) {
        Ok(exit) => exit,
        Err(error) => match error.downcast::<StartError>() {
            Ok(error) => {
                log::write_lines(&error.lines());
                Exit::Failed
            }
            Err(error) => fail(&format!("{error:#}")),
        },
    }
}

/// Logs why the process ends with status 1.
pub fn fail(why: &str) -> Exit {
    log::critical!("etcdmain", "{why}");
    Exit::Failed
}

async fn serve(config: Config, log: LogControl, service: &ServiceEnvironment) -> anyhow::Result<Exit> {
    let manager = &service.manager;
    let disk = PatientDisk::new(RealDisk);
    let mut signals = Signals::catch()?;
    let layout = Layout::new(&config.data_dir, config.wal_dir.as_deref());
    data_dir::check_is_dir(&disk, &layout.data)?;
    if layout.has_log(&disk).unwrap_or(false) {
        log::notice!(
            "etcdmain",
            "the server is already initialized as member before, starting as etcd member...",
        );
    }
    let listeners = config.listen_peer_urls.iter().count() + config.listen_client_urls.iter().count();
    let threads = Arc::new(client_threads(&config)?);
    let limit = raise_descriptor_limit().saturating_sub(threads.descriptors());
    let slots = ConnectionSlots::of_member(limit, listeners)?;
    let cluster = tokio::select! {
        cluster = begin::first_members(&disk, &layout, &config) => cluster?,
        signal = signals.next() => return Ok(Exit::Signal(signal)),
    };
    let peer_acceptors = Acceptors::of_peers(&config)?;
    let client_acceptors = Acceptors::of_clients(&config)?;
    let dialer = tls::dialer(&config)?;
    let dialer_of_clients = tls::dialer_of_clients(&config, &dialer);
    let shares =
        service.sockets.assign_to_urls(Some(&config.listen_peer_urls), &config.listen_client_urls).await?;
    let (source, purpose) = (&config.sources.listen_peer_urls, "listening for peers");
    let peer_listeners =
        listen(&config.listen_peer_urls, source, purpose, &peer_acceptors, shares.peers).await?;
    let (source, purpose) = (&config.sources.listen_client_urls, "listening for client requests");
    let client_listeners =
        listen(&config.listen_client_urls, source, purpose, &client_acceptors, shares.clients).await?;
    data_dir::prepare(&disk, &layout)?;
    manager.status("starting: finding out what cluster this member is part of");
    let beginning = tokio::select! {
        beginning = begin::begin(&disk, &layout, &config, cluster.clone(), &dialer) => beginning,
        signal = signals.next() => return Ok(Exit::Signal(signal)),
    };
    let beginning = match beginning {
        Err(StartError::Begin(error)) if error.is_full() && falls_back(&config) => {
            log::notice!("etcdmain", "discovery cluster full, falling back to proxy");
            return Ok(Exit::ClusterFull);
        }
        beginning => beginning?,
    };
    manager.status("starting: reading the log and the snapshots");
    let mut opened = start::open(&disk, &layout, &config, beginning, clock::now(), rand::random())?;
    tokio::select! {
        () = begin::remember_others(&disk, &mut opened, &config, &cluster, &dialer) => {}
        signal = signals.next() => return Ok(Exit::Signal(signal)),
    }

    let metrics = Arc::new(Metrics::new().with_timers(config.trace));
    let (stop, stopping) = watch::channel(false);
    // The peer port is served until the loop has ended: a leader that stops still exchanges messages with the
    // others.
    let (stop_peers, peers_stopping) = watch::channel(false);
    let RunningMember { handle, ready, transport, mut node_loop } =
        start_member(opened, &config, dialer, metrics.clone(), stopping.clone())?;

    let mut tasks = JoinSet::new();
    tasks.spawn(purge(disk.clone(), layout, config.max_snapshots, config.max_wals));

    let mut connections = JoinSet::new();
    let member = Arc::new(handle.clone());
    let watched = handle.clone();
    let informed =
        report_status(manager, handle.summary(), || watched.summary(), async || watched.ping().await);
    tokio::pin!(informed);
    for (listener, acceptor) in peer_listeners {
        let served = peers::serve(
            listener,
            acceptor,
            member.clone(),
            transport.clone(),
            peers_stopping.clone(),
            slots.clone(),
        );
        connections.spawn(served);
    }
    let hub = handle.inner().machine.read().v3.as_ref().map(|v3| v3.watches().clone());
    let v3_handle = V3Handle::new(handle.clone(), v3::Settings::of(&config));
    let context = api::Context::new(handle, &config, metrics, log)?;
    let mut context = context.with_dialer(dialer_of_clients);
    if let Some(hub) = hub {
        tasks.spawn(v3::serve_watches(v3_handle.clone(), hub));
        let settings = api::v3::Settings {
            request_bytes_max: config.entry_bytes_max,
            txn_ops_max: config.txn_ops_max,
            ..api::v3::Settings::default()
        };
        context = context.with_v3(api::v3::Services::new(Arc::new(v3_handle), settings));
    }
    let context = Arc::new(context);
    if let Some(address) = config.graphite.clone() {
        let (context, prefix) = (context.clone(), metrics::legacy::prefix(&config.name));
        tasks.spawn(metrics::graphite::send(address, move || api::graphite(context.clone(), prefix.clone())));
    }
    tokio::pin!(ready);
    let mut waiting = client_listeners;
    let mut exit = Exit::Failed;
    let reason = loop {
        tokio::select! {
            reason = &mut node_loop => break reason?,
            signal = signals.next() => {
                exit = Exit::Signal(signal);
                manager.stopping();
                disk.stop_waiting();
                stop.send_replace(true);
            }
            // Clients are accepted once everything that was ever acknowledged is applied; until then they wait
            // in the listeners' queues.
            Ok(()) = &mut ready, if !waiting.is_empty() => {
                for (listener, acceptor) in waiting.drain(..) {
                    connections.spawn(transport::serve(
                        listener,
                        acceptor,
                        context.clone(),
                        stopping.clone(),
                        slots.clone(),
                        threads.clone(),
                    ));
                }
                manager.ready(&watched.summary());
            }
            never = &mut informed => match never {},
        }
    };
    if !matches!(exit, Exit::Signal(_)) {
        manager.stopping();
    }
    stop.send_replace(true);
    disk.stop_waiting();
    stop_peers.send_replace(true);
    context.stop_logins();
    context.stop_streams();
    tasks.abort_all();
    let closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        log::warning!("etcdmain", "some connections were not finished and are cut off");
    }
    match reason {
        ExitReason::Stopped => Ok(exit),
        ExitReason::Removed => {
            log::error!("etcdserver", "{reason}");
            log::info!("etcdserver", "the data-dir used by this member must be removed.");
            Ok(Exit::Removed)
        }
        ExitReason::Fatal(_) | ExitReason::TooOld(_) => Err(anyhow::anyhow!("{reason}")),
    }
}

fn falls_back(config: &Config) -> bool {
    config.discovery.as_ref().is_some_and(|discovery| discovery.fallback == Fallback::Proxy)
}

/// The threads for clients: as many as the flags say, or as suit the machine.
fn client_threads(config: &Config) -> anyhow::Result<ClientThreads> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let count = config.client_threads.unwrap_or(ClientThreads::suited_to(processors));
    ClientThreads::start(count).map_err(|error| {
        anyhow::anyhow!(
            "cannot start {count} threads for clients: {error}; -client-threads sets their number"
        )
    })
}

/// A member with a running loop.
struct RunningMember {
    handle: Handle,
    ready: oneshot::Receiver<()>,
    transport: Transport,
    node_loop: JoinHandle<ExitReason>,
}

fn start_member<D: Disk>(
    opened: start::Opened<D>,
    config: &Config,
    dialer: Dialer,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<RunningMember> {
    let (loop_sender, loop_requests) = mpsc::channel(CALLS_WAITING_MAX);
    let (log_sender, log_outcomes) = mpsc::unbounded_channel();
    let (saved, snapshots_saved) = mpsc::unbounded_channel();
    let (ready_sender, ready) = oneshot::channel();
    let (inbound_sender, inbound) = mpsc::channel(MESSAGES_WAITING_MAX);

    let started = opened.start.now;
    let from = &opened.start.snapshot;
    let from = shared::pb::WalSnapshot { index: from.index, term: from.term };
    let (id, cluster_id, level) = (opened.start.id, opened.start.cluster_id, opened.start.level);
    let founded = shared::pb::HardState { term: 1, vote: 0, commit: opened.start.entries.len() as u64 };
    let is_new = !opened.start.entries.is_empty() && opened.start.state == founded;
    let tree = &opened.machine.tree;
    let mut member = Member::new(opened.start, tree, &log::raft_logger());
    member.set_key_levels_max(config.key_levels_max);
    warn_of_level(config, level);
    let version = member.membership().version.as_deref().unwrap_or("to_be_decided").to_owned();
    log::info!(
        "etcdserver",
        "starting server... [version: {}, cluster version: {}]",
        level.spoken(),
        version.trim_end_matches(".0")
    );
    let local = peers::LocalMember {
        id,
        cluster_id,
        peer_urls: config.advertise_peer_urls.to_strings(),
        level,
        clock: clock::now,
    };
    let files = Arc::new(SnapshotFiles(opened.snapshots.clone()));
    let transport = Transport::new(local, dialer.clone(), files, inbound_sender, config.election());
    let ages = Ages::since(opened.machine.tree.index(), Instant::now());
    if let Some(timers) = metrics.timers() {
        transport.time(timers.clone());
    }
    let inner = Arc::new(Inner {
        id,
        cluster_id,
        name: config.name.clone(),
        level,
        strict_reconfig: config.strict_reconfig_check,
        membership: ArcSwap::from_pointee(member.membership().clone()),
        auth: SharedAuthSwitch::of(&opened.machine.tree),
        machine: RwLock::new(opened.machine),
        status: SharedStatus::default(),
        progress: Mutex::new(Vec::new()),
        loop_requests: loop_sender,
        requests_since_write: AtomicU64::new(0),
        started,
        leader_since: AtomicU64::new(0),
        ages: Mutex::new(ages),
        compacted: watch::Sender::new(0),
        transport: transport.clone(),
    });
    let handle = Handle::new(inner.clone());
    let position = inner.machine.read().v3.as_ref().map(|v3| v3.position()).unwrap_or_default();
    let commits = match opened.database {
        Some(bolt) => {
            let (outcomes, received) = mpsc::unbounded_channel();
            Some(Commits::new(DatabaseThread::spawn(bolt, outcomes)?, received, position))
        }
        None => None,
    };
    let log = LogThread::spawn(opened.wal, log_sender, metrics.clone())?;
    let snapshotter = Snapshotter::new(opened.snapshots, from, saved, metrics.clone());
    let publication = Publication::of(config);
    let node_config = node::Config {
        election: config.election(),
        request_timeout: REQUEST_TIMEOUT_BASE + 2 * config.election(),
        snapshot_count: config.snapshot_count,
        slow_request: config.slow_request,
        attributes: Some(publication.value()),
        dead_after: config.remove_dead_members.then_some(remove_delay as fn(&ServerMachine) -> Duration),
    };
    let node = Node::new(member, node_config, clock::moment());
    let links = Links::new(id, Arc::new(transport.clone()), &opened.remotes);
    let parts = LoopParts { log, log_outcomes, snapshotter, commits, links, dialer };
    let node_loop = NodeLoop::new(node, inner, config.heartbeat(), parts, publication, ready_sender, metrics);
    let node_loop = tokio::spawn(node_loop.run(is_new, loop_requests, snapshots_saved, inbound, stopping));
    Ok(RunningMember { handle, ready, transport, node_loop })
}

/// Logs which settings have no effect at the level of the cluster, which a member with data keeps.
fn warn_of_level(config: &Config, level: Level) {
    let is_other = config.cluster_level != level;
    for flag in &config.v3_flags {
        match *flag {
            "cluster-level" if is_other => log::warning!(
                "etcdserver",
                "-cluster-level={} has no effect: the data of this member are of a cluster of the level {level}",
                config.cluster_level
            ),
            "cluster-level" => {}
            flag if !level.has_v3() => log::warning!(
                "etcdserver",
                "-{flag} has no effect: this cluster is of the level {level}, which has no third version of the API"
            ),
            _ => {}
        }
    }
}

fn remove_delay(machine: &ServerMachine) -> Duration {
    backend::remove_delay(&machine.tree)
}

/// The member's snapshots, for followers that are far behind.
struct SnapshotFiles<D: Disk>(Snapshots<D>);

impl<D: Disk> peers::SnapshotSource for SnapshotFiles<D> {
    fn open(&self, term: u64, index: u64) -> std::io::Result<Box<dyn peers::SnapshotBytes>> {
        Ok(Box::new(OpenSnapshot(self.0.open_data(term, index)?)))
    }
}

/// An open snapshot, while it is sent.
struct OpenSnapshot<F>(SnapshotData<F>);

impl<F: DiskFile> peers::SnapshotBytes for OpenSnapshot<F> {
    fn length(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

impl Network for Transport {
    fn send(&self, messages: Vec<Message>) {
        Transport::send(self, messages);
    }

    fn add(&self, id: MemberId, urls: &[String]) {
        self.add_peer(id, urls);
    }

    fn update(&self, id: MemberId, urls: &[String]) {
        self.update_peer(id, urls);
    }

    fn remove(&self, id: MemberId) {
        self.remove_peer(id);
    }

    fn lacks_extensions(&self, id: MemberId) -> bool {
        self.active_since(id).is_some() && self.features(id) != peers::Features::OURS
    }
}

/// Removes snapshots and log segments beyond the numbers to keep, at intervals without end.
async fn purge<D: Disk>(disk: D, layout: Layout, snapshots: usize, wals: usize) {
    let mut rounds = tokio::time::interval(PURGE_INTERVAL);
    loop {
        rounds.tick().await;
        let (disk, layout) = (disk.clone(), layout.clone());
        let purged = tokio::task::spawn_blocking(move || {
            let mut purged = shared::snap::purge(&disk, &layout.snap, snapshots)?;
            // A segment is only unneeded if the snapshot that replaces it still exists.
            let newest = shared::snap::newest_index(&disk, &layout.snap)?.unwrap_or(0);
            purged.extend(shared::wal::purge(&disk, &layout.wal, wals, newest)?);
            anyhow::Ok(purged)
        });
        match purged.await {
            Ok(Ok(purged)) => {
                for path in purged {
                    log::info!("fileutil", "purged file {} successfully", path.display());
                }
            }
            Ok(Err(error)) => log::error!("etcdserver", "failed to purge files: {error}"),
            Err(error) => log::error!("etcdserver", "the purge of files panicked: {error}"),
        }
    }
}

/// Opens the listeners of a list of URLs, except those that the service manager opened, so that a port in use
/// is noticed before anything is written.
///
/// # Errors
/// If an address cannot be listened at; the error names the URL and `source`, the flag or variable of the URL.
pub(crate) async fn listen(
    urls: &Urls,
    source: &str,
    purpose: &str,
    acceptors: &Acceptors,
    mut taken: SocketsByUrl,
) -> anyhow::Result<Vec<(TcpListener, Acceptor)>> {
    let mut listeners = Vec::new();
    for url in urls.iter() {
        if let Some(socket) = taken.remove(url.as_str()) {
            log::info!("etcdmain", "{purpose} on {url}");
            listeners.push((TcpListener::from_std(socket)?, acceptors.at(url)));
            continue;
        }
        let listener = match addresses(url).await {
            Ok(addresses) => addresses::listen_at(&addresses),
            Err(why) => Err(why),
        };
        let listener = listener.map_err(|why| anyhow::anyhow!("{why} ({url} of {source})"))?;
        log::info!("etcdmain", "{purpose} on {url}");
        listeners.push((listener, acceptors.at(url)));
    }
    Ok(listeners)
}

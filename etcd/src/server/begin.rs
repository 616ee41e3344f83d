//! How a member without data begins: it founds a cluster with the members of a list, of discovery or of the
//! DNS, or it joins a running cluster.
//!
//! All checks happen here, before anything is written: once its log exists a member keeps its identity, and the
//! settings for the first start are ignored.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use node::member::{ConfChangeContext, MemberInfo};
use node::version::{CLUSTER_MAX, CLUSTER_MIN};
use shared::disk::Disk;
use shared::id::{ClusterId, MemberId};
use shared::net::Dialer;
use shared::pb;
use shared::url::{InitialCluster, Url};

use super::data_dir::Layout;
use super::start::{Opened, StartError, conf_change_entry};
use crate::config::{BootstrapError, ClusterState, Config, Discovery, has_url_twice, located};
use crate::discovery::{self, DiscoveryError, DiscoveryService, SrvClusterError};
use crate::log::{self, Level, LogLine};
use crate::peers::info::{self, InfoError, RemoteCluster};

/// How long another member may take to answer whether this one has started before.
const BOOTSTRAPPED_TIME_MAX: Duration = Duration::from_secs(1);

/// How long another member may take to list the members of the cluster.
const JOIN_TIME_MAX: Duration = Duration::from_secs(10);

/// The text of the error if a running cluster differs from the list.
const UNMATCHED: &str = "unmatched member while checking PeerURLs";

mod peers;

/// How a member begins.
pub(super) enum Beginning {
    /// It has a log, which holds everything.
    Restart,
    /// It founds a new cluster.
    Found(Founding),
    /// It joins a running cluster.
    Join(Joining),
}

/// The first log entries of a new cluster, equal for all its members.
pub(super) struct Founding {
    pub(super) id: MemberId,
    pub(super) cluster_id: ClusterId,
    /// The members, for the log lines.
    pub(super) cluster: InitialCluster,
    /// Adds the members.
    pub(super) entries: Vec<pb::Entry>,
    pub(super) state: pb::HardState,
}

/// The identity of a joining member, and the other members.
pub(super) struct Joining {
    pub(super) id: MemberId,
    pub(super) cluster_id: ClusterId,
    /// All others.
    pub(super) remotes: Vec<MemberInfo>,
}

/// Why a member without data does not begin. The texts are etcd's.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    #[error("{0}")]
    Settings(#[from] BootstrapError),
    #[error("error setting up initial cluster: {0}")]
    Srv(#[from] SrvClusterError),
    #[error("cannot use 0 as member id")]
    ZeroId,
    #[error("member exists with identical ID {0}")]
    SameId(MemberId),
    #[error("member {0} has already been bootstrapped")]
    Bootstrapped(MemberId),
    #[error("failed to join discovery cluster ({})", .0.source)]
    Discovery(Box<DiscoveryFailure>),
    #[error("discovery cluster {0} has duplicate url")]
    DuplicateUrl(InitialCluster),
    #[error("cannot fetch cluster info from peer urls: {0}")]
    NoInfo(#[from] InfoError),
    #[error("error validating peerURLs {cluster}: {why}")]
    OtherMembers { cluster: String, why: String },
    #[error("incomptible with current running cluster")]
    OtherVersion,
    #[error("the file of -peers-file cannot be read: {0}")]
    PeersFile(String),
    #[error(
        "cannot join: none of the peers answers ({0}); start one of them first, or found a cluster without -peers"
    )]
    NoPeer(String),
    #[error(
        "cannot join: the cluster wants a user who may add members, since auth is on; name one before an address \
         of -peers or in the file of -peers-file (root:PASSWORD@ADDRESS), or add this member by etcdctl member add"
    )]
    NoUser,
    #[error(
        "cannot join: the cluster does not let {0:?} add members: the password is another, or the user has not the \
         role root"
    )]
    WrongUser(String),
    #[error("cannot join: the cluster does not add this member: {0}")]
    NotAdded(String),
    #[error(
        "cannot join: member {id} of the cluster is at {urls}; if it was this one and its data is lost, remove it \
         first (etcdctl member remove {id})"
    )]
    UrlsTaken { urls: String, id: MemberId },
}

/// An error of discovery, and its log lines.
#[derive(Debug)]
pub(super) struct DiscoveryFailure {
    pub(super) source: DiscoveryError,
    lines: Vec<LogLine>,
}

impl BeginError {
    /// The log lines before the process ends with status 1.
    pub(super) fn lines(&self) -> Vec<LogLine> {
        match self {
            BeginError::Settings(error) => error.lines(),
            BeginError::Discovery(failed) => failed.lines.clone(),
            error => vec![LogLine { level: Level::Critical, package: "etcdmain", text: error.to_string() }],
        }
    }

    /// Whether the discovery service has enough members: this process may be a proxy for them.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, BeginError::Discovery(failed) if matches!(failed.source, DiscoveryError::Full))
    }
}

/// The first members as far as they are known without asking them: listed, named by a domain, or this one
/// alone. Empty for a member that has a log: it needs no list.
pub(super) async fn first_members<D: Disk>(
    disk: &D,
    layout: &Layout,
    config: &Config,
) -> Result<InitialCluster, StartError> {
    match &config.discovery_srv {
        Some(_) if layout.has_log(disk)? => Ok(InitialCluster::default()),
        Some(domain) => {
            Ok(discovery::cluster_by_srv(config, domain, true).await.map_err(BeginError::from)?)
        }
        None => Ok(config.initial_cluster.clone()),
    }
}

/// Decides how a member begins, from `cluster`, its disk, and the answers of others. Writes nothing but its
/// registration at a discovery service; may wait there until enough others have registered.
pub(super) async fn begin<D: Disk>(
    disk: &D,
    layout: &Layout,
    config: &Config,
    cluster: InitialCluster,
    dialer: &Dialer,
) -> Result<Beginning, StartError> {
    if layout.has_log(disk)? {
        if config.discovery.is_some() {
            log::warning!(
                "etcdserver",
                "discovery token ignored since a cluster has already been initialized. Valid log found at \"{}\"",
                layout.wal.display()
            );
        }
        return Ok(Beginning::Restart);
    }
    let peers = peers::named(disk, config)?;
    if !peers.urls.is_empty() {
        return Ok(peers::join(config, &peers, dialer).await.map(Beginning::Join)?);
    }
    let begun = match config.initial_cluster_state {
        ClusterState::New => found(config, cluster, dialer).await.map(Beginning::Found),
        ClusterState::Existing => join(config, &cluster, dialer).await.map(Beginning::Join),
    };
    Ok(begun?)
}

/// Finds the other members again for a joined member that was stopped before it received anything from them.
pub(super) async fn remember_others<D: Disk>(
    disk: &D,
    opened: &mut Opened<D>,
    config: &Config,
    cluster: &InitialCluster,
    dialer: &Dialer,
) {
    if !opened.has_no_peers() {
        return;
    }
    let mut others = peers::named(disk, config).map(|peers| peers.urls).unwrap_or_else(|error| {
        log::warning!("etcdserver", "{error}");
        Vec::new()
    });
    if others.is_empty() {
        others = urls_of_others(config, cluster);
    }
    let remote = info::members_of(dialer, &others, JOIN_TIME_MAX).await;
    if let Ok(remote) = remote
        && remote.cluster_id == opened.start.cluster_id
    {
        opened.remotes = remote.members.into_iter().filter(|peer| peer.id != opened.start.id).collect();
    }
}

async fn found(config: &Config, cluster: InitialCluster, dialer: &Dialer) -> Result<Founding, BeginError> {
    let addresses = resolve(config, &cluster).await;
    config.check_bootstrap(&cluster, |host| addresses.get(host).copied())?;
    let mut founding = Founding::new(config, cluster)?;
    let others = urls_of_others(config, &founding.cluster);
    if let Some(remote) = info::members_if_there(dialer, &others, BOOTSTRAPPED_TIME_MAX).await {
        // It has had a log, and may have voted: it must not start again with this id.
        let known = remote.members.iter().find(|peer| peer.id == founding.id);
        if known.is_some_and(|peer| !peer.client_urls.is_empty()) {
            return Err(BeginError::Bootstrapped(founding.id));
        }
    }
    if let Some(discovery) = &config.discovery {
        let found = discover(config, discovery, &founding).await.map_err(|source| {
            let lines = source.lines(config, discovery);
            BeginError::Discovery(Box::new(DiscoveryFailure { source, lines }))
        })?;
        if has_url_twice(&found) {
            return Err(BeginError::DuplicateUrl(found));
        }
        founding = Founding::new(config, found)?;
    }
    Ok(founding)
}

async fn discover(
    config: &Config,
    discovery: &Discovery,
    alone: &Founding,
) -> Result<InitialCluster, DiscoveryError> {
    DiscoveryService::new(discovery)?.join(alone.id, &config.initial_cluster).await
}

impl Founding {
    /// The founding of a cluster. Its URLs must be distinct.
    pub(super) fn new(config: &Config, cluster: InitialCluster) -> Result<Founding, BeginError> {
        let token = &config.initial_cluster_token;
        let mut members: Vec<(MemberId, &str, Vec<String>)> = cluster
            .iter()
            .map(|(name, urls)| {
                let urls = urls.to_strings();
                (MemberId::compute(&urls, token, None), name, urls)
            })
            .collect();
        members.sort();
        let ids: Vec<MemberId> = members.iter().map(|(id, ..)| *id).collect();
        if ids.first() == Some(&MemberId(0)) {
            return Err(BeginError::ZeroId);
        }
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(BeginError::SameId(pair[0]));
        }
        let cluster_id = ClusterId::compute(&ids);
        let Some((id, ..)) = members.iter().find(|(_, name, _)| *name == config.name) else {
            return Err(BootstrapError::NotNamed(config.name.clone()).into());
        };
        let id = *id;
        let entries: Vec<pb::Entry> = (1..)
            .zip(members)
            .map(|(index, (id, name, peer_urls))| {
                let name = name.to_owned();
                let context = ConfChangeContext { id: id.0, peer_urls, name, client_urls: Vec::new() };
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
        Ok(Founding { id, cluster_id, cluster, entries, state })
    }
}

async fn join(config: &Config, cluster: &InitialCluster, dialer: &Dialer) -> Result<Joining, BeginError> {
    config.check_bootstrap(cluster, |_| None)?;
    let remote = info::members_of(dialer, &urls_of_others(config, cluster), JOIN_TIME_MAX).await?;
    let addresses = resolve_all(urls_in(cluster).chain(remote_urls(&remote).iter())).await;
    let id = match_members(config, cluster, &remote, |host| addresses.get(host).copied())
        .map_err(|why| BeginError::OtherMembers { cluster: as_go_prints(&remote), why })?;
    if id.0 == 0 {
        return Err(BeginError::ZeroId);
    }
    let cluster_id = remote.cluster_id;
    let remotes: Vec<MemberInfo> = remote.members.into_iter().filter(|peer| peer.id != id).collect();
    if !is_compatible(&remotes, dialer).await {
        return Err(BeginError::OtherVersion);
    }
    Ok(Joining { id, cluster_id, remotes })
}

/// Finds each listed member in the running cluster by its URLs. Both must have the same number of members, with
/// the same URLs. Returns the id of this member.
fn match_members(
    config: &Config,
    cluster: &InitialCluster,
    remote: &RemoteCluster,
    resolve: impl Fn(&str) -> Option<IpAddr>,
) -> Result<MemberId, String> {
    let source = &config.sources.initial_cluster;
    let (listed, there) = (cluster.len(), remote.members.len());
    if there != listed {
        return Err(format!("member count is unequal: {source} lists {listed}, the cluster has {there}"));
    }
    let mut there = BTreeMap::new();
    for peer in &remote.members {
        let urls: Result<Vec<Url>, _> = peer.peer_urls.iter().map(|url| url.parse()).collect();
        let urls =
            urls.map_err(|error| format!("{UNMATCHED}: member {} of the cluster: {error}", peer.id))?;
        there.insert(located(&urls, &resolve), peer.id);
    }
    let mut own = None;
    for (name, urls) in cluster.iter() {
        let id = there.remove(&located(urls, &resolve)).ok_or_else(|| {
            let entry: Vec<String> = urls.iter().map(|url| format!("{name}={url}")).collect();
            let entry = entry.join(",");
            format!("{UNMATCHED}: no member of the cluster has exactly the URLs of {entry} in {source}")
        })?;
        if name == config.name {
            own = Some(id);
        }
    }
    own.ok_or_else(|| format!("{UNMATCHED}: {source} does not list {}", config.name))
}

/// Whether at least one other member reports a supported cluster version, and none reports another one. Members
/// that do not answer are ignored: one may be down when this one joins.
async fn is_compatible(others: &[MemberInfo], dialer: &Dialer) -> bool {
    let mut any_version = false;
    for peer in others {
        let id = peer.id;
        let version = match info::version_of(dialer, &peer.peer_urls, JOIN_TIME_MAX).await {
            Ok(version) => version.cluster,
            Err(error) => {
                log::warning!("etcdserver", "cannot get the version of member {id} ({error})");
                continue;
            }
        };
        match version {
            None => {
                log::error!("etcdserver", "the cluster of member {id} has not decided on its version yet")
            }
            Some(version) if version < CLUSTER_MIN => {
                log::warning!(
                    "etcdserver",
                    "the running cluster version({version}) is lower than the minimal cluster \
                     version({CLUSTER_MIN}) supported"
                );
                return false;
            }
            Some(version) if version > CLUSTER_MAX => {
                log::warning!(
                    "etcdserver",
                    "the running cluster version({version}) is higher than the maximum cluster \
                     version({CLUSTER_MAX}) supported"
                );
                return false;
            }
            Some(_) => any_version = true,
        }
    }
    any_version
}

/// The peer URLs of all listed members but this one, sorted.
fn urls_of_others(config: &Config, cluster: &InitialCluster) -> Vec<String> {
    let others = cluster.iter().filter(|(name, _)| *name != config.name);
    let mut urls: Vec<String> = others.flat_map(|(_, urls)| urls.to_strings()).collect();
    urls.sort_unstable();
    urls
}

fn urls_in(cluster: &InitialCluster) -> impl Iterator<Item = &Url> {
    cluster.iter().flat_map(|(_, urls)| urls)
}

fn remote_urls(remote: &RemoteCluster) -> Vec<Url> {
    let texts = remote.members.iter().flat_map(|peer| &peer.peer_urls);
    texts.filter_map(|url| url.parse().ok()).collect()
}

/// The addresses of the hosts that [`Config::check_bootstrap`] compares.
async fn resolve(config: &Config, cluster: &InitialCluster) -> BTreeMap<String, IpAddr> {
    let listed = cluster.get(&config.name).into_iter().flatten();
    let advertised = config.advertise_peer_urls.iter();
    // Equal texts need no look-up.
    if config.discovery.is_some() { BTreeMap::new() } else { resolve_all(listed.chain(advertised)).await }
}

/// The first address of each host name; names that cannot be resolved are left out.
async fn resolve_all<'a>(urls: impl Iterator<Item = &'a Url>) -> BTreeMap<String, IpAddr> {
    let mut addresses = BTreeMap::new();
    for url in urls {
        let host = url.host();
        if host.is_empty()
            || host == "localhost"
            || host.parse::<IpAddr>().is_ok()
            || addresses.contains_key(host)
        {
            continue;
        }
        let found = tokio::net::lookup_host((host, 0)).await.map(Iterator::collect::<Vec<_>>);
        let found = found.unwrap_or_default();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        match first.map(std::net::SocketAddr::ip) {
            Some(ip) => {
                log::info!("netutil", "resolving {} to {ip}:{}", url.address(), url.port());
                addresses.insert(host.to_owned(), ip);
            }
            None => log::error!("netutil", "could not resolve host {} ({url})", url.address()),
        }
    }
    addresses
}

/// The cluster as in the original's errors.
fn as_go_prints(remote: &RemoteCluster) -> String {
    let mut out = format!("{{ClusterID:{} Members:[", remote.cluster_id);
    for (number, peer) in remote.members.iter().enumerate() {
        let space = if number > 0 { " " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{space}&{{ID:{} RaftAttributes:{{PeerURLs:[{}]}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            peer.id,
            peer.peer_urls.join(" "),
            peer.name,
            peer.client_urls.join(" ")
        );
    }
    out.push_str("] RemovedMemberIDs:[]}");
    out
}

#[cfg(test)]
mod tests;

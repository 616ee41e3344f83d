//! How a member with a 0.x command line joins: `-peers` names some members of a cluster; it asks them for the
//! list of members, adds itself, and continues like any added member.

use std::time::Duration;

use node::member::MemberInfo;
use shared::client::{Client, ClientError, Credentials, Options};
use shared::disk::{Disk, read_file};
use shared::id::MemberId;
use shared::net::Dialer;
use tokio::time::{Instant, sleep};

use super::{BeginError, JOIN_TIME_MAX, Joining, is_compatible};
use crate::config::{Config, PeerList};
use crate::log;
use crate::peers::info::{self, RemoteCluster};

/// The largest file: more than the list of any cluster.
const PEERS_FILE_BYTES_MAX: u64 = 1 << 20;

/// How long to repeat the request to add this member: others may be joining too.
const ADD_TIME_MAX: Duration = Duration::from_secs(60);

/// The pause between two requests.
const ADD_PAUSE: Duration = Duration::from_secs(1);

/// How long one request to add a member may take; the cluster gives up earlier.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// The peers that `-peers` and `-peers-file` name, except this member. Empty if neither is given: then the
/// member founds a cluster.
pub(super) fn named<D: Disk>(disk: &D, config: &Config) -> Result<PeerList, BeginError> {
    let mut list = config.peers.clone();
    if let Some(path) = config.peers_file.as_ref().filter(|_| list.is_empty()) {
        let text = read_file(disk, path, PEERS_FILE_BYTES_MAX)
            .map_err(|error| BeginError::PeersFile(error.to_string()))?;
        list = String::from_utf8_lossy(&text).into_owned();
    }
    let scheme = if config.peer_tls.is_empty() { "http" } else { "https" };
    let own = config.advertise_peer_urls.to_strings();
    let mut peers = PeerList::read(&list, scheme);
    peers.urls.retain(|peer| !own.contains(peer));
    Ok(peers)
}

/// Joins the cluster of the first of `peers` that answers.
pub(super) async fn join(config: &Config, peers: &PeerList, dialer: &Dialer) -> Result<Joining, BeginError> {
    let end = Instant::now() + ADD_TIME_MAX;
    let mut checked = false;
    loop {
        let remote = info::members_of(dialer, &peers.urls, JOIN_TIME_MAX)
            .await
            .map_err(|_| BeginError::NoPeer(peers.urls.join(", ")))?;
        if !checked && !is_compatible(&started(&remote), dialer).await {
            return Err(BeginError::OtherVersion);
        }
        checked = true;
        let error = match id_at_own_urls(config, &remote)? {
            Some(id) => return Ok(joining(id, remote)),
            None => match add(config, &remote, peers.credentials.clone()).await {
                // The list of members is read again: others may have joined meanwhile.
                Ok(()) => continue,
                // A further request would fail too.
                Err(ClientError::UnexpectedStatus(401)) => {
                    return Err(match &peers.credentials {
                        Some(credentials) => BeginError::WrongUser(credentials.user.clone()),
                        None => BeginError::NoUser,
                    });
                }
                Err(error) => error,
            },
        };
        if Instant::now() > end {
            return Err(BeginError::NotAdded(error.detail().unwrap_or_else(|| error.to_string())));
        }
        log::warning!("etcdserver", "the cluster did not add this member, trying again ({error})");
        sleep(ADD_PAUSE).await;
    }
}

/// This member's id in the cluster, if it was added. An error if a member with its URLs has started before.
fn id_at_own_urls(config: &Config, remote: &RemoteCluster) -> Result<Option<MemberId>, BeginError> {
    let own = config.advertise_peer_urls.to_strings();
    let Some(peer) = remote.members.iter().find(|peer| peer.peer_urls.iter().any(|url| own.contains(url)))
    else {
        return Ok(None);
    };
    if !peer.client_urls.is_empty() {
        return Err(BeginError::UrlsTaken { urls: own.join(","), id: peer.id });
    }
    Ok(Some(peer.id))
}

fn joining(id: MemberId, remote: RemoteCluster) -> Joining {
    let remotes = remote.members.into_iter().filter(|peer| peer.id != id).collect();
    Joining { id, cluster_id: remote.cluster_id, remotes }
}

/// The members that have started: only these can report a version.
fn started(remote: &RemoteCluster) -> Vec<MemberInfo> {
    remote.members.iter().filter(|peer| !peer.client_urls.is_empty()).cloned().collect()
}

async fn add(
    config: &Config,
    remote: &RemoteCluster,
    credentials: Option<Credentials>,
) -> Result<(), ClientError> {
    let client = Client::new(Options {
        endpoints: remote.members.iter().flat_map(|peer| &peer.client_urls).cloned().collect(),
        tls: config.client_tls.client_files(),
        header_timeout: Some(REQUEST_TIME_MAX),
        dial_timeout: Some(JOIN_TIME_MAX),
        credentials,
        ..Options::default()
    })?;
    let urls = config.advertise_peer_urls.to_strings();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let member = client.add_member_at(&urls).await?;
    log::info!("etcdserver", "added this member as {} to cluster {}", member.id, remote.cluster_id);
    Ok(())
}

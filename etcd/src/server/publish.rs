//! What a member tells its cluster of itself, through the log as any client would.

use node::member::{attributes_path, attributes_value};
use shared::v2;

use super::handle::Handle;
use crate::backend::{Backend, SubmitError, Unavailable};
use crate::config::Config;
use crate::log;
use crate::peers::Features;

/// Publishes name, client URLs and what this member understands, again and again until the cluster has taken them.
/// `peer_urls` are those that the flags ask for, none if they ask for nothing.
pub(super) async fn attributes(
    handle: Handle,
    name: String,
    client_urls: Vec<String>,
    peer_urls: Option<Vec<String>>,
) {
    let request = v2::Request {
        verb: v2::Verb::Put,
        path: attributes_path(handle.id()).into(),
        val: attributes_value(&name, &client_urls, Features::OURS.to_string()).into(),
        ..v2::Request::default()
    };
    loop {
        match handle.submit(request.clone()).await {
            Ok(_) => {
                log::info!(
                    "etcdserver",
                    "published {{Name:{name} ClientURLs:[{}]}} to cluster {}",
                    client_urls.join(" "),
                    handle.cluster_id()
                );
                // Now all is applied that came before this start.
                if let Some(warning) = peer_urls.and_then(|wanted| kept_peer_urls(&handle, wanted)) {
                    log::warning!("etcdserver", "{warning}");
                }
                return;
            }
            Err(SubmitError::Unavailable(Unavailable::Stopped)) => return,
            Err(error) => log::error!("etcdserver", "publish error: {error}"),
        }
    }
}

/// What to tell if the cluster knows other peer URLs of this member than its flags ask for.
fn kept_peer_urls(member: &impl Backend, mut wanted: Vec<String>) -> Option<String> {
    let (id, members) = (member.status().id, member.members());
    let mut kept = members.members.get(&id)?.peer_urls.clone();
    kept.sort_unstable();
    wanted.sort_unstable();
    if kept == wanted {
        return None;
    }
    let (kept, wanted) = (kept.join(","), wanted.join(","));
    Some(format!(
        "the cluster keeps {kept} as the peer URL of this member, where others look for it, and not {wanted} \
         (-initial-advertise-peer-urls counts at the first start only); to change that: etcdctl member update {id} {wanted}"
    ))
}

/// The peer URLs that the flags ask for; none if they are the default ones.
pub(super) fn peer_urls(config: &Config) -> Option<Vec<String>> {
    (!config.advertise_peer_urls_are_default).then(|| config.advertise_peer_urls.to_strings())
}

/// The URLs under which clients are told to reach this member.
pub(super) fn client_urls(config: &Config) -> Vec<String> {
    config.advertise_client_urls.iter().map(ToString::to_string).collect()
}

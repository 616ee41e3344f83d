//! What a member tells its cluster of itself, through the log as any client would.

use shared::pb;

use super::handle::Handle;
use crate::config::Config;
use crate::http::{Backend, SubmitError, Unavailable};
use crate::log;
use crate::member::{attributes_path, attributes_value};
use crate::peers::Features;

/// Publishes name, client URLs and what this member understands, again and again until the cluster has taken them.
pub(super) async fn attributes(handle: Handle, name: String, client_urls: Vec<String>) {
    let request = pb::Request {
        method: "PUT".into(),
        path: attributes_path(handle.id()).into(),
        val: attributes_value(&name, &client_urls, Features::OURS.to_string()).into(),
        ..pb::Request::default()
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
                return;
            }
            Err(SubmitError::Unavailable(Unavailable::Stopped)) => return,
            Err(error) => log::error!("etcdserver", "publish error: {error}"),
        }
    }
}

/// The URLs under which clients are told to reach this member.
pub(super) fn client_urls(config: &Config) -> Vec<String> {
    config.advertise_client_urls.iter().map(ToString::to_string).collect()
}

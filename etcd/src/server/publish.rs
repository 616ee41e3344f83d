//! What a member tells its cluster of itself, through the log as any client would.

use shared::pb;
use tokio::sync::mpsc::UnboundedReceiver;

use super::handle::Handle;
use super::member_loop::Notice;
use crate::config::Config;
use crate::http::{Backend, SubmitError, Unavailable};
use crate::log;
use crate::member::{VERSION_PATH, attributes_path, attributes_value};

/// The version of the cluster that this server can be part of, as it stands in the store.
const CLUSTER_VERSION: &str = "2.3.0";

/// Publishes name and client URLs, again and again until the cluster has taken them.
pub(super) async fn attributes(handle: Handle, name: String, client_urls: Vec<String>) {
    let request = pb::Request {
        method: "PUT".into(),
        path: attributes_path(handle.id()).into(),
        val: attributes_value(&name, &client_urls).into(),
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

/// Sets the cluster's version when this member leads a cluster that has none yet.
pub(super) async fn version(handle: Handle, mut notices: UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        if notice != (Notice::NewTerm { leads: true }) || handle.members().version.is_some() {
            continue;
        }
        log::info!("etcdserver", "setting up the initial cluster version to 2.3");
        let request = pb::Request {
            method: "PUT".into(),
            path: VERSION_PATH.into(),
            val: CLUSTER_VERSION.into(),
            ..pb::Request::default()
        };
        match handle.submit(request).await {
            Ok(_) => log::notice!("etcdserver", "set the initial cluster version to 2.3"),
            Err(SubmitError::Unavailable(Unavailable::Stopped)) => return,
            Err(error) => log::error!("etcdserver", "error updating cluster version ({error})"),
        }
    }
}

/// The URLs under which clients are told to reach this member.
pub(super) fn client_urls(config: &Config) -> Vec<String> {
    config.advertise_client_urls.iter().map(ToString::to_string).collect()
}

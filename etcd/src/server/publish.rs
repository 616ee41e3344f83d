//! The attributes that a member publishes.

use node::member::{Membership, attributes_value};
use shared::id::MemberId;

use crate::config::Config;
use crate::log;
use crate::peers::Features;

/// A member's attributes, and the peer URLs that its flags ask for.
pub(super) struct Publication {
    name: String,
    client_urls: Vec<String>,
    /// `None` if no flag sets them.
    peer_urls: Option<Vec<String>>,
}

impl Publication {
    pub(super) fn of(config: &Config) -> Publication {
        Publication {
            name: config.name.clone(),
            client_urls: config.advertise_client_urls.iter().map(ToString::to_string).collect(),
            peer_urls: (!config.advertise_peer_urls_are_default)
                .then(|| config.advertise_peer_urls.to_strings()),
        }
    }

    /// The value of the attributes' key.
    pub(super) fn value(&self) -> Vec<u8> {
        attributes_value(&self.name, &self.client_urls, Features::OURS.to_string())
    }

    /// Logs that the attributes of the member `id` are published. Everything committed before its start is
    /// applied by now, so `membership` holds the peer URLs that the cluster keeps.
    pub(super) fn log(&self, id: MemberId, membership: &Membership) {
        log::info!(
            "etcdserver",
            "published {{Name:{} ClientURLs:[{}]}} to cluster {}",
            self.name,
            self.client_urls.join(" "),
            membership.cluster_id
        );
        if let Some(warning) = self.kept_peer_urls(id, membership) {
            log::warning!("etcdserver", "{warning}");
        }
    }

    /// A warning if the cluster keeps other peer URLs of the member than its flags set.
    fn kept_peer_urls(&self, id: MemberId, membership: &Membership) -> Option<String> {
        let mut wanted = self.peer_urls.clone()?;
        let mut kept = membership.members.get(&id)?.peer_urls.clone();
        kept.sort_unstable();
        wanted.sort_unstable();
        if kept == wanted {
            return None;
        }
        let (kept, wanted) = (kept.join(","), wanted.join(","));
        Some(format!(
            "the cluster keeps {kept} as the peer URL of this member, where others look for it, and not {wanted} \
             (-initial-advertise-peer-urls counts at the first start only); to change that: etcdctl member update {id} \
             {wanted}"
        ))
    }
}

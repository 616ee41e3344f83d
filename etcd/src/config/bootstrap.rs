//! Whether the settings can make a new cluster. Asked only when the member has no data: a restart does not look
//! at them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shared::flags::quote;
use shared::url::{Url, Urls};

use crate::log::{Level, Line};

use super::{ClusterState, Config};

/// Why a member without data cannot begin. The texts are etcd's, but for what is not built yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The member is not in its own list.
    #[error("couldn't find local name {} in the initial cluster configuration", quote(.0))]
    NotNamed(String),
    /// The list says that the member is elsewhere than it says itself.
    #[error("--initial-cluster must include {wanted} given --initial-advertise-peer-urls={advertised}")]
    OtherUrls {
        /// What the list should hold.
        wanted: String,
        /// What the member says.
        advertised: String,
        /// What to look at.
        hints: Vec<&'static str>,
    },
    /// Two members, or one twice, at the same URL.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// More than this release can do.
    #[error("-initial-cluster with several members is not supported: clusters come with a later release")]
    SeveralMembers,
    /// More than this release can do.
    #[error("-initial-cluster-state existing is not supported: joining a cluster comes with a later release")]
    Joining,
}

impl BootstrapError {
    /// What the log says before the process ends with status 1.
    pub fn lines(&self) -> Vec<Line> {
        let line = |level, text: String| Line { level, package: "etcdmain", text };
        match self {
            // The original does not call this one critical.
            BootstrapError::OtherUrls { hints, .. } => std::iter::once(self.to_string())
                .chain(hints.iter().map(|hint| (*hint).to_owned()))
                .map(|text| line(Level::Info, text))
                .collect(),
            _ => vec![line(Level::Critical, self.to_string())],
        }
    }
}

impl Config {
    /// Checks that the settings can make a new cluster. `resolve` finds the first address of a host name.
    pub fn check_bootstrap(&self, resolve: impl Fn(&str) -> Option<IpAddr>) -> Result<(), BootstrapError> {
        let listed = self
            .initial_cluster
            .get(&self.name)
            .ok_or_else(|| BootstrapError::NotNamed(self.name.clone()))?;
        let new = self.initial_cluster_state == ClusterState::New;
        if new && located(listed, &resolve) != located(&self.advertise_peer_urls, &resolve) {
            return Err(self.other_urls());
        }
        let mut seen = BTreeSet::new();
        if !self.initial_cluster.iter().flat_map(|(_, urls)| urls).all(|url| seen.insert(url)) {
            return Err(BootstrapError::DuplicateUrl(self.initial_cluster.to_string()));
        }
        if !new {
            return Err(BootstrapError::Joining);
        }
        if self.initial_cluster.len() > 1 {
            return Err(BootstrapError::SeveralMembers);
        }
        Ok(())
    }

    fn other_urls(&self) -> BootstrapError {
        let mut wanted: Vec<String> =
            self.advertise_peer_urls.iter().map(|url| format!("{}={url}", self.name)).collect();
        wanted.sort_unstable();
        let mut hints = Vec::new();
        if self.initial_cluster_is_default {
            hints.push("forgot to set --initial-cluster flag?");
        }
        if self.advertise_peer_urls_are_default {
            hints.push("forgot to set --initial-advertise-peer-urls flag?");
        }
        if self.initial_cluster_is_default {
            hints.push("if you want to use discovery service, please set --discovery flag.");
        }
        BootstrapError::OtherUrls {
            wanted: wanted.join(","),
            advertised: self.advertise_peer_urls.to_string(),
            hints,
        }
    }
}

/// URLs that can be compared: host names, but for `localhost`, become addresses. A name that cannot be resolved
/// stays as it is.
fn located(urls: &Urls, resolve: &impl Fn(&str) -> Option<IpAddr>) -> Vec<String> {
    let mut located: Vec<String> = urls.iter().map(|url| locate(url, resolve)).collect();
    located.sort_unstable();
    located
}

fn locate(url: &Url, resolve: &impl Fn(&str) -> Option<IpAddr>) -> String {
    let host = url.host();
    if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return url.to_string();
    }
    match resolve(host) {
        Some(IpAddr::V4(ip)) => format!("{}://{ip}:{}", url.scheme(), url.port()),
        Some(IpAddr::V6(ip)) => format!("{}://[{ip}]:{}", url.scheme(), url.port()),
        None => url.to_string(),
    }
}

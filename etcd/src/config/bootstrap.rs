//! Whether the settings can make a new cluster. Asked only when the member has no data: a restart does not look
//! at them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shared::quote::quote;
use shared::url::{InitialCluster, Url};

use crate::log::{Level, LogLine};

use super::{ClusterState, Config};

/// Why a member without data cannot begin. The texts are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The member is not in its own list.
    #[error("couldn't find local name {} in the initial cluster configuration", quote(.0))]
    NotNamed(String),
    /// A blank became part of a member's name.
    #[error(
        "the entry {} of {source_name} begins with a blank, or has one before '=', which would be part of the member's \
         name: write no blanks between the entries",
        quote(entry)
    )]
    Blank {
        /// The entry.
        entry: String,
        /// What the list is called.
        source_name: String,
    },
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
    /// A discovery service tells of new clusters only.
    #[error("discovery URL should not be set when joining existing initial cluster")]
    DiscoveryWhileJoining,
}

impl BootstrapError {
    /// What the log says before the process ends with status 1.
    pub fn lines(&self) -> Vec<LogLine> {
        let line = |level, text: String| LogLine { level, package: "etcdmain", text };
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
    /// Checks that a member without data can begin with these first members: those of the settings or, if these
    /// name a domain instead, those found there. `resolve` finds the first address of a host name.
    pub fn check_bootstrap(
        &self,
        cluster: &InitialCluster,
        resolve: impl Fn(&str) -> Option<IpAddr>,
    ) -> Result<(), BootstrapError> {
        let is_blank = |name: &str| name != self.name && name.trim() != name;
        if let Some((name, urls)) = cluster.iter().find(|(name, _)| is_blank(name)) {
            let url = urls.iter().next().map_or("", Url::as_str);
            let source_name = self.sources.initial_cluster.clone();
            return Err(BootstrapError::Blank { entry: format!("{name}={url}"), source_name });
        }
        let listed = cluster.get(&self.name).ok_or_else(|| BootstrapError::NotNamed(self.name.clone()))?;
        let new = self.initial_cluster_state == ClusterState::New;
        // One that joins was announced with its URLs before.
        if new && located(listed, &resolve) != located(&self.advertise_peer_urls, &resolve) {
            return Err(self.other_urls());
        }
        if has_url_twice(cluster) {
            return Err(BootstrapError::DuplicateUrl(cluster.to_string()));
        }
        if !new && self.discovery.is_some() {
            return Err(BootstrapError::DiscoveryWhileJoining);
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
        if self.initial_cluster_is_default && self.discovery.is_none() {
            hints.push("if you want to use discovery service, please set --discovery flag.");
        }
        BootstrapError::OtherUrls {
            wanted: wanted.join(","),
            advertised: self.advertise_peer_urls.to_string(),
            hints,
        }
    }
}

/// Whether two members, or one twice, are at the same URL.
pub(crate) fn has_url_twice(cluster: &InitialCluster) -> bool {
    let mut seen = BTreeSet::new();
    !cluster.iter().flat_map(|(_, urls)| urls).all(|url| seen.insert(url))
}

/// URLs that can be compared: host names, but for `localhost`, become addresses. A name that cannot be resolved
/// stays as it is. Sorted.
pub(crate) fn located<'a>(
    urls: impl IntoIterator<Item = &'a Url>,
    resolve: &impl Fn(&str) -> Option<IpAddr>,
) -> Vec<String> {
    let mut located: Vec<String> = urls.into_iter().map(|url| locate(url, resolve)).collect();
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

//! Checks whether the settings can create a new cluster. Used only if the member has no data: a restart ignores these
//! settings.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shared::quote::quote;
use shared::url::{InitialCluster, Url};

use crate::log::{Level, LogLine};

use super::{ClusterState, Config};

/// Why a member without data cannot start. The texts are the original's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The member is not in the initial cluster.
    #[error("couldn't find local name {} in the initial cluster configuration", quote(.0))]
    NotNamed(String),
    /// A member's name begins or ends with a blank.
    #[error(
        "the entry {} of {source_name} begins with a blank, or has one before '=', which would be part of the member's \
         name: write no blanks between the entries",
        quote(entry)
    )]
    Blank {
        /// The entry of the list.
        entry: String,
        /// The source of the list.
        source_name: String,
    },
    /// The list and the member's own settings give different URLs for the member.
    #[error("--initial-cluster must include {wanted} given --initial-advertise-peer-urls={advertised}")]
    OtherUrls {
        /// The entries that the list should contain.
        wanted: String,
        /// The member's advertised URLs.
        advertised: String,
        /// Hints at possible causes.
        hints: Vec<&'static str>,
    },
    /// The list contains a URL twice.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// Discovery is for new clusters only.
    #[error("discovery URL should not be set when joining existing initial cluster")]
    DiscoveryWhileJoining,
}

impl BootstrapError {
    /// The log lines before the process ends with status 1.
    pub fn lines(&self) -> Vec<LogLine> {
        let line = |level, text: String| LogLine { level, package: "etcdmain", text };
        match self {
            // The original does not log this one as critical.
            BootstrapError::OtherUrls { hints, .. } => std::iter::once(self.to_string())
                .chain(hints.iter().map(|hint| (*hint).to_owned()))
                .map(|text| line(Level::Info, text))
                .collect(),
            _ => vec![line(Level::Critical, self.to_string())],
        }
    }
}

impl Config {
    /// Checks that a member without data can start with this initial cluster: that of the settings, or the result of
    /// SRV discovery. `resolve` returns the first address of a host name.
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
        // A joining member was added with its URLs before.
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

/// Whether the cluster contains a URL twice, for one member or for two.
pub(crate) fn has_url_twice(cluster: &InitialCluster) -> bool {
    let mut seen = BTreeSet::new();
    !cluster.iter().flat_map(|(_, urls)| urls).all(|url| seen.insert(url))
}

/// The URLs in a comparable form: host names except `localhost` are replaced by addresses. A name that cannot be
/// resolved stays. Sorted.
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

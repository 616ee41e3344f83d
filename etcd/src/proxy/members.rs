//! Refreshes the list of members periodically.

use std::sync::Arc;
use std::time::Duration;

use shared::disk::Disk;
use tokio::time::Instant;

use super::cluster_file::ClusterFile;
use super::director::Director;
use super::upstream::Connector;
use crate::log;
use crate::peers::info::{RemoteCluster, members_of};

/// With an interval of at least this length, a proxy without endpoints refreshes more often: its cluster may be
/// starting.
const LONG_INTERVAL: Duration = Duration::from_secs(30);

/// The interval of a proxy without endpoints.
const IMPATIENT_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval: with zero there would be no time for requests.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How long a member may take to return its list, not counting the connect time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Keeps the member list up to date.
pub(super) struct MemberRefresher<D> {
    connector: Connector,
    director: Arc<Director>,
    file: ClusterFile<D>,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    /// Whether the log line about available endpoints has been written.
    logged_available: bool,
}

impl<D: Disk> MemberRefresher<D> {
    /// A refresher that asks the members at these peer URLs.
    pub(super) fn new(
        connector: Connector,
        director: Arc<Director>,
        file: ClusterFile<D>,
        peer_urls: Vec<String>,
    ) -> MemberRefresher<D> {
        MemberRefresher {
            connector,
            director,
            file,
            peer_urls,
            client_urls: Vec::new(),
            logged_available: false,
        }
    }

    /// Asks the members for the list, and updates the director. If no member answers, there are no endpoints: the last
    /// list may be outdated.
    pub(super) async fn refresh(&mut self) {
        let time_max = self.connector.dial_timeout().saturating_add(ANSWER_TIME_MAX);
        match members_of(self.connector.dialer(), &self.peer_urls, time_max).await {
            Ok(cluster) => {
                if !cluster.members.is_empty() {
                    self.update_members(&cluster).await;
                }
                self.director.replace(&self.client_urls);
            }
            Err(error) => {
                log::warning!("etcdmain", "proxy: {error}");
                self.director.replace(&[]);
            }
        }
        let available = self.director.available(Instant::now());
        if !self.logged_available && !available.is_empty() {
            self.logged_available = true;
            log::info!("proxy", "endpoints found {}", quoted(&available));
        }
    }

    async fn update_members(&mut self, cluster: &RemoteCluster) {
        let members = &cluster.members;
        self.client_urls = members.iter().flat_map(|member| member.client_urls.iter().cloned()).collect();
        self.client_urls.sort();
        let mut peer_urls: Vec<String> =
            members.iter().flat_map(|member| member.peer_urls.iter().cloned()).collect();
        peer_urls.sort();

        let (file, urls) = (self.file.clone(), peer_urls.clone());
        let written = tokio::task::spawn_blocking(move || file.write(&urls)).await;
        match written.map_err(|error| error.to_string()).and_then(|wrote| wrote.map_err(|e| e.to_string())) {
            Ok(()) => {
                if peer_urls != self.peer_urls {
                    let before = shown(&self.peer_urls);
                    let after = shown(&peer_urls);
                    log::notice!(
                        "etcdmain",
                        "proxy: updated peer urls in cluster file from {before} to {after}"
                    );
                }
            }
            Err(error) => log::warning!("etcdmain", "proxy: error on writing urls {error}"),
        }
        // The new list is used even if it cannot be saved.
        self.peer_urls = peer_urls;
    }

    /// Refreshes every `interval`, forever.
    pub(super) async fn refresh_forever(mut self, interval: Duration) {
        loop {
            let impatient = interval >= LONG_INTERVAL && self.director.available(Instant::now()).is_empty();
            let pause = if impatient { IMPATIENT_INTERVAL } else { interval.max(INTERVAL_MIN) };
            tokio::time::sleep(pause).await;
            self.refresh().await;
        }
    }
}

/// A list in Go's format.
pub(super) fn shown(list: &[String]) -> String {
    format!("[{}]", list.join(" "))
}

fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| shared::quote::quote(text).to_string()).collect();
    shown(&quoted)
}

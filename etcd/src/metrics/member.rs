//! The metrics of a member's state in its cluster, under etcd 3.x names where they mean the same.

use node::member::{Progress, Role, Status};
use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, float, gauge, labelled};
use super::store::HistoryReach;

/// Values that the member does not count in the registry; read when the metrics are requested.
#[derive(Debug, Clone, Default)]
pub struct MemberFigures {
    /// Calls that the member's loop has not received yet.
    pub calls_waiting: usize,
    /// The reach of the watch history.
    pub history: HistoryReach,
    /// The figures of version 3, where there is one.
    pub v3: Option<V3Figures>,
    /// The metrics of the connections to other members.
    pub peers: Vec<MetricFamily>,
}

/// Figures of keys, watches and database of version 3.
#[derive(Debug, Clone, Copy, Default)]
pub struct V3Figures {
    /// The current revision.
    pub revision: i64,
    /// The revision of the last compaction, -1 for none.
    pub compact_revision: i64,
    /// The size of the database, with free pages, in bytes.
    pub size_bytes: u64,
    /// The same without free pages.
    pub size_in_use_bytes: u64,
    /// Open streams, watches, and watches that are behind.
    pub watches: shared::watch::Counts,
    /// Leases.
    pub leases: usize,
}

impl V3Figures {
    /// The metrics, under the names of 3.5.
    fn families(&self) -> Vec<MetricFamily> {
        let count = |number: usize| float(number as u64);
        let signed = |number: i64| number as f64;
        vec![
            gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "The size of the database file, with free pages.",
                float(self.size_bytes),
            ),
            gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "The size of the database file without free pages.",
                float(self.size_in_use_bytes),
            ),
            gauge("etcd_debugging_mvcc_current_revision", "The current revision.", signed(self.revision)),
            gauge(
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction.",
                signed(self.compact_revision),
            ),
            gauge(
                "etcd_debugging_mvcc_watch_stream_total",
                "Open watch streams.",
                count(self.watches.streams),
            ),
            gauge("etcd_debugging_mvcc_watcher_total", "Watches.", count(self.watches.watches)),
            gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watches that do not have all events yet.",
                count(self.watches.slow_watches),
            ),
            gauge("etcd_rs_leases", "Leases.", count(self.leases)),
        ]
    }
}

/// The state of a member, for its metrics.
#[derive(Debug)]
pub struct MemberState<'a> {
    /// The member's raft status.
    pub status: &'a Status,
    /// The version of the API.
    pub version: &'a str,
    /// The version that the cluster has agreed on.
    pub cluster_version: Option<&'a str>,
    /// On a leader: each member's progress in the log.
    pub progress: &'a [Progress],
    /// The other values.
    pub figures: MemberFigures,
}

impl MemberState<'_> {
    /// The metric families. `pending` and `failed` are the member's counts of proposals.
    pub(super) fn families(self, pending: i64, failed: u64) -> Vec<MetricFamily> {
        let MemberState { status, version, cluster_version, progress, figures } = self;
        let is = |yes: bool| if yes { 1.0 } else { 0.0 };
        let name = |name, help, label, value: String| {
            labelled(name, help, MetricType::GAUGE, [(vec![(label, value)], 1.0)])
        };
        let mut families = vec![
            gauge(
                "etcd_server_has_leader",
                "Whether this member knows a leader: 1 or 0.",
                is(status.leader.0 != 0),
            ),
            gauge(
                "etcd_server_is_leader",
                "Whether this member is the leader: 1 or 0.",
                is(status.role == Role::Leader),
            ),
            gauge(
                "etcd_server_proposals_committed_total",
                "Index of the last committed entry.",
                float(status.commit),
            ),
            gauge(
                "etcd_server_proposals_applied_total",
                "Index of the last applied entry.",
                float(status.applied),
            ),
            gauge("etcd_server_proposals_pending", "Waiting proposals.", pending as f64),
            counter("etcd_server_proposals_failed_total", "Failed proposals.", float(failed)),
            gauge("etcd_rs_raft_term", "The member's current term.", float(status.term)),
            gauge(
                "etcd_rs_calls_waiting",
                "Requests that the member's loop has not received yet.",
                float(figures.calls_waiting as u64),
            ),
        ];
        families.extend(name(
            "etcd_server_id",
            "The member's id, as a label.",
            "server_id",
            status.id.to_string(),
        ));
        families.extend(name(
            "etcd_server_version",
            "The version of the API, as a label.",
            "server_version",
            version.to_owned(),
        ));
        families.extend(name(
            "etcd_rs_build_info",
            "The program's own version, as a label.",
            "version",
            crate::version::OWN.to_owned(),
        ));
        if let Some(version) = cluster_version {
            let version = version.strip_suffix(".0").unwrap_or(version).to_owned();
            let help = "The cluster version, as a label.";
            families.extend(name("etcd_cluster_version", help, "cluster_version", version));
        }
        families.extend(labelled(
            "etcd_rs_follower_lag_entries",
            "At the leader: committed entries that a member is not known to have.",
            MetricType::GAUGE,
            progress.iter().filter(|peer| peer.id != status.id).map(|peer| {
                (vec![("To", peer.id.to_string())], float(status.commit.saturating_sub(peer.matched)))
            }),
        ));
        families.extend(figures.v3.iter().flat_map(V3Figures::families));
        families.extend(figures.history.families());
        families.extend(figures.peers);
        families
    }
}

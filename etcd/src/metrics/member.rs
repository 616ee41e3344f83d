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
    /// The metrics of the connections to other members.
    pub peers: Vec<MetricFamily>,
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
        families.extend(figures.history.families());
        families.extend(figures.peers);
        families
    }
}

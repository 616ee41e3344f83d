//! A member's place in its group, under the names of etcd 3.x where they mean the same.

use node::member::{Progress, Role, Status};
use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, float, gauge, labelled};
use super::store::HistoryReach;

/// What a running member knows of itself and counts nowhere; asked for when somebody looks.
#[derive(Debug, Clone, Default)]
pub struct MemberFigures {
    /// Calls that the member's loop has not taken yet.
    pub calls_waiting: usize,
    /// How far back watches can go.
    pub history: HistoryReach,
    /// What the way to the other members has measured.
    pub peers: Vec<MetricFamily>,
}

/// What a page about a member is made of, beside its counters.
#[derive(Debug)]
pub struct MemberState<'a> {
    /// Its place in the group.
    pub status: &'a Status,
    /// The version of the API that it speaks.
    pub version: &'a str,
    /// The version that the cluster has agreed on.
    pub cluster_version: Option<&'a str>,
    /// Of a leader, the members' places in the log.
    pub progress: &'a [Progress],
    /// What it knows beside.
    pub figures: MemberFigures,
}

impl MemberState<'_> {
    /// The families of the page. `pending` and `failed` proposals are those that the member has counted.
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
                "Whether this member leads: 1 or 0.",
                is(status.role == Role::Leader),
            ),
            gauge("etcd_server_proposals_committed_total", "The last committed entry.", float(status.commit)),
            gauge("etcd_server_proposals_applied_total", "The last applied entry.", float(status.applied)),
            gauge("etcd_server_proposals_pending", "Proposals that wait now.", pending as f64),
            counter("etcd_server_proposals_failed_total", "Proposals that were given up.", float(failed)),
            gauge("etcd_rs_raft_term", "The term that this member is in.", float(status.term)),
            gauge(
                "etcd_rs_calls_waiting",
                "Requests that the member's loop has not taken yet.",
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
            let help = "What the cluster's members have agreed to speak, as a label.";
            families.extend(name("etcd_cluster_version", help, "cluster_version", version));
        }
        families.extend(labelled(
            "etcd_rs_follower_lag_entries",
            "Of a leader: committed entries that a member is not known to have.",
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

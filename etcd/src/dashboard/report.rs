//! `api/member`: a member's report about itself. Other members' dashboards request it.

use std::time::Duration;

use bytes::Bytes;
use node::member::Role;
use serde::{Deserialize, Serialize};
use shared::id::MemberId;
use shared::v2;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::version;

/// The timeout of the quorum read.
const QUORUM_TIME_MAX: Duration = Duration::from_millis(750);

/// A small key that every cluster has: the cluster version.
const PROBE: &[u8] = b"/0/version";

/// A member's report about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The etcd version that it implements.
    pub(crate) version: String,
    /// The program; empty if it is not known.
    pub(crate) program: String,
    /// `leader`, `follower` or `candidate`.
    pub(crate) role: String,
    /// The leader's id; empty without a leader.
    pub(crate) leader: String,
    pub(crate) term: Option<u64>,
    pub(crate) commit: Option<u64>,
    pub(crate) applied: Option<u64>,
    /// `X-Etcd-Index`.
    pub(crate) store_index: Option<u64>,
    /// Whether a quorum read has just succeeded.
    pub(crate) healthy: bool,
    /// Why the member is not healthy.
    pub(crate) problem: String,
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) watchers: Option<u64>,
    pub(crate) sent: TrafficReport,
    pub(crate) received: TrafficReport,
    /// On a leader: the statistics of its followers.
    pub(crate) followers: Vec<FollowerReport>,
}

/// Appends in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct TrafficReport {
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) bytes_per_second: f64,
}

/// A follower, as its leader sees it. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct FollowerReport {
    pub(crate) id: String,
    pub(crate) latency: f64,
    pub(crate) latency_average: f64,
    pub(crate) fail: u64,
    pub(crate) success: u64,
    /// The last log index that it is known to have.
    pub(crate) matched: Option<u64>,
}

/// This member's current report. Does a quorum read, which needs no log entry if all members are ours.
pub(crate) async fn report<B: Backend>(backend: &B) -> Report {
    let problem = problem(backend).await.unwrap_or_default();
    let status = backend.status();
    let traffic = backend.traffic();
    let (store_index, watchers) = {
        let store = backend.store();
        (store.index(), store.watchers())
    };
    let id_text = |id: MemberId| if id.0 == 0 { String::new() } else { id.to_string() };
    let mut followers = Vec::new();
    if status.role == Role::Leader {
        let progress = backend.progress();
        followers.extend(traffic.followers.iter().map(|(id, stats)| FollowerReport {
            id: id.to_string(),
            latency: stats.latency_current,
            latency_average: stats.latency_average,
            fail: stats.fail,
            success: stats.success,
            matched: progress.iter().find(|progress| progress.id == *id).map(|progress| progress.matched),
        }));
    }
    let direction = |traffic: crate::metrics::Traffic| TrafficReport {
        count: traffic.count,
        per_second: traffic.messages_per_second,
        bytes_per_second: traffic.bytes_per_second,
    };
    Report {
        id: status.id.to_string(),
        name: backend.name().to_owned(),
        version: node::version::SPOKEN.to_owned(),
        program: format!("etcd-rs {}", version::OWN),
        role: match status.role {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
        }
        .to_owned(),
        leader: id_text(status.leader),
        term: Some(status.term),
        commit: Some(status.commit),
        applied: Some(status.applied),
        store_index: Some(store_index),
        healthy: problem.is_empty(),
        problem,
        started: backend.started().to_string(),
        watchers: Some(watchers),
        sent: direction(traffic.sent),
        received: direction(traffic.received),
        followers,
    }
}

/// Why this member is not healthy; `None` if it is.
async fn problem<B: Backend>(backend: &B) -> Option<String> {
    if backend.status().leader == MemberId(0) {
        return Some(
            "it knows no leader: an election is in progress, or a majority cannot be reached".to_owned(),
        );
    }
    let read = v2::Request {
        verb: v2::Verb::QuorumGet,
        path: Bytes::from_static(PROBE),
        quorum: true,
        ..v2::Request::default()
    };
    match timeout(QUORUM_TIME_MAX, backend.submit(read)).await {
        Err(_) => Some(format!("no majority answered within {} ms", QUORUM_TIME_MAX.as_millis())),
        Ok(Err(crate::backend::SubmitError::Unavailable(why))) => Some(why.to_string()),
        // A missing key is an answer too.
        Ok(Ok(_) | Err(crate::backend::SubmitError::Api(_))) => None,
    }
}

//! `api/cluster`: the cluster as this member knows it, and the other members' own reports.
//!
//! This member asks the others at their client URLs, since clients use those: all at the same time, with a short
//! timeout. One of our members answers with one report; of a Go member, three pages are read instead. The answer also
//! shows whether the peer connection works: a member may be healthy but unreachable for clients.

use std::time::Duration;

use http::StatusCode;
use node::member::MemberInfo;
use serde::{Deserialize, Serialize};
use shared::net::Dialer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::report::{FollowerReport, Report, TrafficReport};
use crate::backend::Backend;
use crate::peers::info;

/// The timeout for one URL.
const URL_TIME_MAX: Duration = Duration::from_millis(1200);

/// The most URLs of a member that are tried.
const URLS_MAX: usize = 3;

/// The most members that are asked. No working cluster has more.
const MEMBERS_MAX: usize = 64;

/// The path of our members' own report.
const REPORT: &str = "/mod/dashboard/api/member";

/// The report of the cluster.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterReport {
    cluster_id: String,
    /// The cluster version; empty until the first leader has set it.
    version: String,
    /// The member that was asked.
    asked: String,
    /// Whether auth is on.
    auth: bool,
    /// Whether the dashboard may write.
    read_only: bool,
    members: Vec<MemberReport>,
}

/// The report of a member.
#[derive(Debug, Serialize)]
struct MemberReport {
    id: String,
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    /// Whether it is the member that answers this request.
    is_self: bool,
    /// `healthy`, `unhealthy`, `unreachable` or `unstarted`.
    health: &'static str,
    /// The problem, and what to do about it.
    problem: String,
    /// Whether the answering member has a peer connection to it; `None` for itself.
    linked: Option<bool>,
    /// The response time in milliseconds.
    round_trip: Option<f64>,
    report: Option<Report>,
}

/// Asks all members and builds the report.
pub(crate) async fn cluster<B: Backend>(
    backend: &B,
    dialer: &Dialer,
    own: Report,
    read_only: bool,
) -> ClusterReport {
    let membership = backend.members();
    let own_id = backend.status().id;
    let mut asking = JoinSet::new();
    for peer in membership.members.values().filter(|peer| peer.id != own_id).take(MEMBERS_MAX) {
        let (dialer, peer) = (dialer.clone(), peer.clone());
        asking.spawn(async move { (peer.id, ask_member(&dialer, &peer).await) });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer);
    }
    let members = membership.members.values().map(|peer| {
        let is_self = peer.id == own_id;
        let linked = (!is_self).then(|| backend.is_connected(peer.id));
        let answer = match answers.iter().position(|(id, _)| *id == peer.id) {
            Some(at) => answers.swap_remove(at).1,
            None if is_self => Ok((own.clone(), None)),
            None => Err("this member did not ask it".to_owned()),
        };
        MemberReport::new(peer, is_self, linked, answer)
    });
    ClusterReport {
        cluster_id: membership.cluster_id.to_string(),
        version: membership.version.clone().unwrap_or_default(),
        asked: own_id.to_string(),
        auth: backend.auth().is_on(),
        read_only,
        members: members.collect(),
    }
}

/// A report with its response time, or why there is none.
type Answer = Result<(Report, Option<Duration>), String>;

impl MemberReport {
    fn new(peer: &MemberInfo, is_self: bool, linked: Option<bool>, answer: Answer) -> MemberReport {
        let (health, problem, round_trip, report) = match answer {
            Ok((report, took)) => {
                let health = if report.healthy { "healthy" } else { "unhealthy" };
                (health, report.problem.clone(), took, Some(report))
            }
            Err(_) if peer.name.is_empty() && linked != Some(true) => {
                let problem = "it was added and has not started yet: start it with -initial-cluster-state \
                               existing, or remove it";
                ("unstarted", problem.to_owned(), None, None)
            }
            Err(why) if linked == Some(true) => {
                let problem = format!(
                    "{why}; the peer connection to it works: check its -advertise-client-urls, and whether this \
                     member's machine can reach them"
                );
                ("unreachable", problem, None, None)
            }
            Err(why) => ("unreachable", why, None, None),
        };
        MemberReport {
            id: peer.id.to_string(),
            name: peer.name.clone(),
            peer_urls: peer.peer_urls.clone(),
            client_urls: peer.client_urls.clone(),
            is_self,
            health,
            problem,
            linked,
            round_trip: round_trip.map(|took| took.as_secs_f64() * 1000.0),
            report,
        }
    }
}

/// Asks one member, trying its client URLs in order.
async fn ask_member(dialer: &Dialer, peer: &MemberInfo) -> Answer {
    let mut failed = "it advertises no client URL".to_owned();
    for url in peer.client_urls.iter().take(URLS_MAX) {
        let began = Instant::now();
        match info::fetch(dialer, url, REPORT, URL_TIME_MAX).await {
            Err(why) => failed = why,
            Ok(answer) if answer.status() == StatusCode::OK => {
                match serde_json::from_slice::<Report>(answer.body()) {
                    Ok(report) if report.id == peer.id.to_string() => {
                        return Ok((report, Some(began.elapsed())));
                    }
                    Ok(report) => failed = format!("another member answers at {url}: {}", report.id),
                    Err(error) => failed = format!("Get {url}{REPORT}: {error}"),
                }
            }
            Ok(_) => match report_from_stats_pages(dialer, url, peer).await {
                Ok(report) => return Ok((report, Some(began.elapsed()))),
                Err(why) => failed = why,
            },
        }
    }
    Err(failed)
}

/// The fields of `/v2/stats/self` that are used.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct StatsSelf {
    id: String,
    name: String,
    state: String,
    start_time: String,
    leader_info: LeaderInfo,
    send_append_request_cnt: u64,
    send_pkg_rate: f64,
    send_bandwidth_rate: f64,
    recv_append_request_cnt: u64,
    recv_pkg_rate: f64,
    recv_bandwidth_rate: f64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LeaderInfo {
    leader: String,
}

/// The fields of `/v2/stats/leader` that are used.
#[derive(Deserialize, Default)]
#[serde(default)]
struct StatsLeader {
    followers: std::collections::BTreeMap<String, StatsFollower>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StatsFollower {
    latency: StatsLatency,
    counts: StatsCounts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StatsLatency {
    current: f64,
    average: f64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StatsCounts {
    fail: u64,
    success: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Versions {
    etcdserver: String,
}

/// Builds a report from several pages, for a Go member or one of ours without a dashboard.
async fn report_from_stats_pages(dialer: &Dialer, url: &str, peer: &MemberInfo) -> Result<Report, String> {
    let pages =
        ["/v2/stats/self", "/version", "/health"].map(|path| info::fetch(dialer, url, path, URL_TIME_MAX));
    let [stats, version, health] = pages;
    let (stats, version, health) = tokio::join!(stats, version, health);
    let stats = stats?;
    let stats: StatsSelf = serde_json::from_slice(stats.body())
        .map_err(|error| format!("Get {url}/v2/stats/self: {} {error}", stats.status()))?;
    if stats.id != peer.id.to_string() {
        return Err(format!("another member answers at {url}: {}", stats.id));
    }
    let version = version.ok().and_then(|answer| serde_json::from_slice::<Versions>(answer.body()).ok());
    let healthy = health.is_ok_and(|answer| answer.status() == StatusCode::OK);
    let role = match stats.state.as_str() {
        "StateLeader" => "leader",
        "StateCandidate" => "candidate",
        _ => "follower",
    };
    let mut followers = Vec::new();
    if role == "leader"
        && let Ok(answer) = info::fetch(dialer, url, "/v2/stats/leader", URL_TIME_MAX).await
        && let Ok(stats) = serde_json::from_slice::<StatsLeader>(answer.body())
    {
        followers.extend(stats.followers.into_iter().take(MEMBERS_MAX).map(|(id, stats)| FollowerReport {
            id,
            latency: stats.latency.current,
            latency_average: stats.latency.average,
            fail: stats.counts.fail,
            success: stats.counts.success,
            matched: None,
        }));
    }
    Ok(Report {
        id: stats.id,
        name: stats.name,
        version: version.map(|version| version.etcdserver).unwrap_or_default(),
        role: role.to_owned(),
        leader: stats.leader_info.leader,
        healthy,
        problem: if healthy {
            String::new()
        } else {
            "its /health reports that it is not healthy".to_owned()
        },
        started: stats.start_time,
        sent: TrafficReport {
            count: stats.send_append_request_cnt,
            per_second: stats.send_pkg_rate,
            bytes_per_second: stats.send_bandwidth_rate,
        },
        received: TrafficReport {
            count: stats.recv_append_request_cnt,
            per_second: stats.recv_pkg_rate,
            bytes_per_second: stats.recv_bandwidth_rate,
        },
        followers,
        ..Report::default()
    })
}

//! `/v2/stats/*` and `/v1/stats/*`: counters for people and scripts.

use std::collections::BTreeMap;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use node::member::{Membership, Role};
use serde::Serialize;
use shared::id::MemberId;

use crate::admin::machines;
use crate::api::page::Context;
use crate::api::page::PageRequest;
use crate::auth::only_reads;
use crate::backend::Backend;
use crate::go_json::{Number, number};
use crate::metrics::FollowerStats;
use crate::transport::reply::{self, Response};
use crate::transport::text;

#[derive(Serialize)]
struct SelfStats<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    state: &'static str,
    #[serde(rename = "startTime")]
    start_time: String,
    #[serde(rename = "leaderInfo")]
    leader_info: LeaderInfo,
    #[serde(rename = "recvAppendRequestCnt")]
    received_appends: u64,
    #[serde(rename = "recvPkgRate", skip_serializing_if = "Option::is_none")]
    received_rate: Option<Number>,
    #[serde(rename = "recvBandwidthRate", skip_serializing_if = "Option::is_none")]
    received_bandwidth: Option<Number>,
    #[serde(rename = "sendAppendRequestCnt")]
    sent_appends: u64,
    #[serde(rename = "sendPkgRate", skip_serializing_if = "Option::is_none")]
    sent_rate: Option<Number>,
    #[serde(rename = "sendBandwidthRate", skip_serializing_if = "Option::is_none")]
    sent_bandwidth: Option<Number>,
}

/// The statistics of a leader about its followers.
#[derive(Serialize)]
struct LeaderStats {
    leader: String,
    followers: BTreeMap<String, Follower>,
}

#[derive(Serialize)]
struct Follower {
    latency: Latency,
    counts: Counts,
}

/// In milliseconds.
#[derive(Serialize)]
struct Latency {
    current: Number,
    average: Number,
    #[serde(rename = "standardDeviation")]
    standard_deviation: Number,
    minimum: Number,
    maximum: Number,
}

#[derive(Serialize)]
struct Counts {
    fail: u64,
    success: u64,
}

impl From<&FollowerStats> for Follower {
    fn from(stats: &FollowerStats) -> Follower {
        Follower {
            latency: Latency {
                current: number(stats.latency_current),
                average: number(stats.latency_average),
                standard_deviation: number(stats.latency_standard_deviation),
                minimum: number(stats.latency_minimum),
                maximum: number(stats.latency_maximum),
            },
            counts: Counts { fail: stats.fail, success: stats.success },
        }
    }
}

/// A rate; `None` if it is 0.
fn rate(value: f64) -> Option<Number> {
    (value > 0.0).then(|| number(value))
}

#[derive(Serialize)]
struct LeaderInfo {
    leader: String,
    uptime: String,
    #[serde(rename = "startTime")]
    start_time: String,
}

pub(crate) fn answer_self<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if *request.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let status = context.backend.status();
    let leader = if status.leader.0 == 0 { String::new() } else { status.leader.to_string() };
    let stats = self_stats(&context.backend, Some(status.id.to_string()), state_name(status.role), leader);
    // Strings and numbers can always be serialized.
    reply::json(headers, StatusCode::OK, shared::json::to_vec(&stats).unwrap_or_default())
}

/// `/v1/stats/self`: without ids, which members of 0.x did not have.
pub(crate) fn answer_self_v1<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if !only_reads(request.method) {
        return reply::not_found(headers);
    }
    let status = context.backend.status();
    let state = match status.role {
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    let stats = self_stats(&context.backend, None, state, name_of(&context.backend.members(), status.leader));
    // Strings and numbers can always be serialized.
    reply::json(headers, StatusCode::OK, shared::json::to_vec(&stats).unwrap_or_default())
}

/// The name of a member. If several members have the same name, the one in `/_etcd/machines`; its id if it has no
/// name yet; empty if there is no such member.
fn name_of(members: &Membership, id: MemberId) -> String {
    if id.0 == 0 {
        return String::new();
    }
    let Some(peer) = members.members.get(&id).filter(|peer| peer.is_started()) else { return id.to_string() };
    if members.members.values().filter(|other| other.name == peer.name).count() == 1 {
        return peer.name.clone();
    }
    let listed = machines(members).into_iter().find(|(_, listed)| listed.id == id);
    listed.map_or_else(|| id.to_string(), |(name, _)| name)
}

fn self_stats<'a, B: Backend>(
    backend: &'a B,
    id: Option<String>,
    state: &'static str,
    leader: String,
) -> SelfStats<'a> {
    let leader_since = backend.leader_since();
    let traffic = backend.traffic();
    SelfStats {
        name: backend.name(),
        id,
        state,
        start_time: backend.started().to_string(),
        leader_info: LeaderInfo {
            leader,
            uptime: text::duration(backend.clock().0.saturating_sub(leader_since.0)),
            start_time: leader_since.to_string(),
        },
        received_appends: traffic.received.count,
        received_rate: rate(traffic.received.messages_per_second),
        received_bandwidth: rate(traffic.received.bytes_per_second),
        sent_appends: traffic.sent.count,
        sent_rate: rate(traffic.sent.messages_per_second),
        sent_bandwidth: rate(traffic.sent.bytes_per_second),
    }
}

/// The name of a role in Go.
pub(super) fn state_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "StateFollower",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    }
}

pub(crate) fn answer_leader<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if *request.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let status = context.backend.status();
    if status.role != Role::Leader {
        return reply::message(headers, StatusCode::FORBIDDEN, "not current leader");
    }
    leader_stats(context, headers, |id| id.to_string())
}

/// `/v1/stats/leader`: members have their names instead of ids.
pub(crate) fn answer_leader_v1<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    if !only_reads(request.method) {
        return reply::not_found(headers);
    }
    if context.backend.status().role != Role::Leader {
        headers.insert(CONTENT_TYPE, reply::TEXT);
        return reply::answer(headers, StatusCode::FORBIDDEN, "not current leader");
    }
    let members = context.backend.members();
    leader_stats(context, headers, |id| name_of(&members, id))
}

fn leader_stats<B: Backend>(
    context: &Context<B>,
    headers: HeaderMap,
    called: impl Fn(MemberId) -> String,
) -> Response {
    let traffic = context.backend.traffic();
    let followers =
        traffic.followers.iter().map(|(id, follower)| (called(*id), Follower::from(follower))).collect();
    let stats = LeaderStats { leader: called(context.backend.status().id), followers };
    // Strings and numbers can always be serialized.
    reply::json(headers, StatusCode::OK, shared::json::to_vec(&stats).unwrap_or_default())
}

pub(crate) fn answer_store<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if *request.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    store_stats(context, headers)
}

/// `/v1/stats/store`: the same counters.
pub(crate) fn answer_store_v1<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if !only_reads(request.method) {
        return reply::not_found(headers);
    }
    store_stats(context, headers)
}

fn store_stats<B: Backend>(context: &Context<B>, headers: HeaderMap) -> Response {
    let mut body = Vec::with_capacity(512);
    context.backend.store().stats().write_json(&mut body);
    reply::json(headers, StatusCode::OK, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_nothing_is_left_out() {
        assert!(rate(0.0).is_none());
        assert_eq!(rate(0.5).unwrap().get(), "0.5");
    }
}

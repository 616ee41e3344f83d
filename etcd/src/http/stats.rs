//! `/v2/stats/*`: counters for people and scripts.

use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;

use super::Context;
use super::backend::Backend;
use super::exchange::Asked;
use super::reply::{self, Response};
use super::text;
use crate::member::Role;

#[derive(Serialize)]
struct SelfStats<'a> {
    name: &'a str,
    id: String,
    state: &'static str,
    #[serde(rename = "startTime")]
    start_time: String,
    #[serde(rename = "leaderInfo")]
    leader_info: LeaderInfo,
    #[serde(rename = "recvAppendRequestCnt")]
    received_appends: u64,
    #[serde(rename = "sendAppendRequestCnt")]
    sent_appends: u64,
}

#[derive(Serialize)]
struct LeaderInfo {
    leader: String,
    uptime: String,
    #[serde(rename = "startTime")]
    start_time: String,
}

pub(super) fn answer_self<B: Backend>(
    context: &Context<B>,
    asked: &Asked<'_>,
    headers: HeaderMap,
) -> Response {
    if *asked.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let backend = &context.backend;
    let status = backend.status();
    let leader_since = backend.leader_since();
    let stats = SelfStats {
        name: backend.name(),
        id: status.id.to_string(),
        state: state_name(status.role),
        start_time: backend.started().to_string(),
        leader_info: LeaderInfo {
            leader: if status.leader.0 == 0 { String::new() } else { status.leader.to_string() },
            uptime: text::duration(backend.clock().0.saturating_sub(leader_since.0)),
            start_time: leader_since.to_string(),
        },
        // A cluster of one sends itself nothing.
        received_appends: 0,
        sent_appends: 0,
    };
    // Strings and numbers can always be written.
    reply::json(headers, StatusCode::OK, shared::json::to_vec(&stats).unwrap_or_default())
}

/// What Go calls a member's role.
pub(super) fn state_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "StateFollower",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    }
}

pub(super) fn answer_leader<B: Backend>(
    context: &Context<B>,
    asked: &Asked<'_>,
    headers: HeaderMap,
) -> Response {
    if *asked.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let status = context.backend.status();
    if status.role != Role::Leader {
        return reply::message(headers, StatusCode::FORBIDDEN, "not current leader");
    }
    // A leader alone has no followers to tell of.
    let body = format!("{{\"leader\":\"{}\",\"followers\":{{}}}}", status.id);
    reply::json(headers, StatusCode::OK, body.into_bytes())
}

pub(super) fn answer_store<B: Backend>(
    context: &Context<B>,
    asked: &Asked<'_>,
    headers: HeaderMap,
) -> Response {
    if *asked.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let mut body = Vec::with_capacity(512);
    context.backend.store().stats().write_json(&mut body);
    reply::json(headers, StatusCode::OK, body)
}

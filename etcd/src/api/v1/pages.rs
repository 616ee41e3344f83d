//! Pages of 0.x in plain text: the leader, and the client URLs of the members.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use shared::error::{ApiError, Code};

use crate::api::page::Context;
use crate::api::page::PageRequest;
use crate::auth::only_reads;
use crate::backend::Backend;
use crate::transport::reply::{self, Response};

/// The peer URL of the leader.
pub(crate) fn answer_leader<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if !only_reads(request.method) {
        return reply::not_found(headers);
    }
    let membership = context.backend.members();
    let leader = membership.members.get(&context.backend.status().leader);
    match leader.and_then(|leader| leader.peer_urls.first()) {
        Some(url) => text(headers, url.clone()),
        None => {
            let index = context.backend.store().index();
            reply::api_error(headers, &ApiError::new(Code::LeaderElect, "", index))
        }
    }
}

/// The client URLs of all members, those of the leader first.
pub(crate) fn answer_peers<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if !only_reads(request.method) {
        return reply::not_found(headers);
    }
    let membership = context.backend.members();
    let leader = context.backend.status().leader;
    let mut peers: Vec<_> = membership.members.values().collect();
    peers.sort_by(|a, b| (a.id != leader, &a.name).cmp(&(b.id != leader, &b.name)));
    let urls: Vec<&str> = peers.iter().flat_map(|peer| &peer.client_urls).map(String::as_str).collect();
    text(headers, urls.join(", "))
}

/// A page in plain text. No final newline.
pub(super) fn text(mut headers: HeaderMap, body: String) -> Response {
    headers.insert(CONTENT_TYPE, reply::TEXT);
    reply::answer(headers, StatusCode::OK, body)
}

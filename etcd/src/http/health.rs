//! `/health`: whether a write would succeed.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use shared::id::MemberId;
use shared::pb;
use tokio::time::timeout;

use super::Context;
use super::backend::Backend;
use super::exchange::Asked;
use super::reply::{self, Response};

/// How long the log may take to move.
const PATIENCE: Duration = Duration::from_millis(750);

pub(super) async fn answer<B: Backend>(
    context: &Context<B>,
    asked: Asked<'_>,
    mut headers: HeaderMap,
) -> Response {
    if *asked.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    if context.backend.status().leader == MemberId(0) || !log_moves(context).await {
        return reply::text_error(headers, StatusCode::SERVICE_UNAVAILABLE, "{\"health\": \"false\"}\n");
    }
    headers.insert(CONTENT_TYPE, reply::TEXT);
    reply::answer(headers, StatusCode::OK, "{\"health\": \"true\"}")
}

/// Whether an entry that changes nothing gets through: one that expires what had expired in 1970.
async fn log_moves<B: Backend>(context: &Context<B>) -> bool {
    let nothing = pb::Request { method: Bytes::from_static(b"SYNC"), ..pb::Request::default() };
    matches!(timeout(PATIENCE, context.backend.submit(nothing)).await, Ok(Ok(_)))
}

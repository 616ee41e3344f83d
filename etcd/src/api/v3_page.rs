//! The page of the v3 API as JSON, over HTTP/1.

use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::{HeaderMap, HeaderValue};

use super::page::PageRequest;
use super::v3::Services;
use crate::transport::cors;
use crate::transport::reply::{self, Response};

/// Answers a request below `/v3/` or `/v3beta/`. Without v3, and in a cluster whose level has none, there is no page.
pub(super) async fn answer(
    services: Option<&Services>,
    request: PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    let Some(services) = services.filter(|services| services.is_served()) else {
        return reply::not_found(headers);
    };
    let Ok(path) = std::str::from_utf8(request.rest) else { return reply::not_found(headers) };
    // The original allows all origins by default; which of them may send requests was checked before.
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        cors::allow(HeaderValue::from_static("*"), &mut headers);
    }
    let body = request.body.into_bytes();
    let response = services.answer_json(request.method, path, request.authorization, body).await;
    reply::stream(headers, response)
}

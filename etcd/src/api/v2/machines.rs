//! `/v2/machines`: the client URLs of all members, as clients of 0.4 want them.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};

use crate::api::page::Asked;
use crate::api::page::Context;
use crate::backend::Backend;
use crate::transport::reply::{self, Response};

pub(crate) fn answer<B: Backend>(
    context: &Context<B>,
    asked: &Asked<'_>,
    mut headers: HeaderMap,
) -> Response {
    if !matches!(*asked.method, Method::GET | Method::HEAD) {
        return reply::method_not_allowed(headers, "GET,HEAD");
    }
    let membership = context.backend.members();
    let mut urls: Vec<&str> =
        membership.members.values().flat_map(|peer| &peer.client_urls).map(String::as_str).collect();
    urls.sort_unstable();
    headers.insert(CONTENT_TYPE, reply::TEXT);
    reply::answer(headers, StatusCode::OK, urls.join(", "))
}

//! `/version`: whom we speak as, and what the whole cluster can speak.
//!
//! In allow-legacy mode, and only there, a third field names the protocol between members. Standbys of 0.4 ask for it
//! until it is 2 and make room for a proxy then; so do starters that look for what a cluster runs.

use http::{HeaderMap, Method, StatusCode};
use node::version::SPOKEN;
use shared::json;

use crate::api::page::Asked;
use crate::api::page::Context;
use crate::backend::Backend;
use crate::transport::reply::{self, Response};

pub(crate) fn answer<B: Backend>(context: &Context<B>, asked: &Asked<'_>, headers: HeaderMap) -> Response {
    if *asked.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let membership = context.backend.members();
    let mut body = Vec::with_capacity(64);
    body.extend_from_slice(b"{\"etcdserver\":");
    json::write_string(&mut body, SPOKEN.as_bytes());
    body.extend_from_slice(b",\"etcdcluster\":");
    json::write_string(&mut body, membership.version.as_deref().unwrap_or("not_decided").as_bytes());
    if context.internal_version {
        body.extend_from_slice(b",\"internalVersion\":\"2\"");
    }
    body.push(b'}');
    reply::json(headers, StatusCode::OK, body)
}

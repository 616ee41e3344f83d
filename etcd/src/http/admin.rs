//! `/v2/admin` of 0.4 on clients' ports.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};

use super::Context;
use super::auth;
use super::exchange::Asked;
use crate::admin;
use crate::backend::Backend;
use crate::transport::reply::{self, Response};

/// Answers a client. With auth on, what changes the cluster is for `root`.
pub(super) async fn answer<B: Backend>(
    context: &Context<B>,
    asked: Asked<'_>,
    mut headers: HeaderMap,
) -> Response {
    let changes = !matches!(*asked.method, Method::GET | Method::HEAD);
    if changes && let Err(denied) = auth::is_root(context, &asked, "/v2/admin").await {
        return auth::refuse(headers, denied);
    }
    let answer = admin::answer(&context.backend, asked.method, asked.rest, &asked.body).await;
    if !answer.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    reply::answer(headers, answer.status, answer.body)
}

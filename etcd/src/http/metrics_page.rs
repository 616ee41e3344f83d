//! `/metrics`: the counters of the whole process, as Prometheus reads them.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Context;
use super::reply::{self, Response};

const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

pub(super) fn answer<B>(context: &Context<B>, mut headers: HeaderMap) -> Response {
    headers.insert(CONTENT_TYPE, PROMETHEUS);
    reply::answer(headers, StatusCode::OK, (context.hooks.metrics_page)())
}

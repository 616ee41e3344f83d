//! The metrics of the process: `/metrics` for Prometheus, `/debug/metrics` in the form of 0.4.

use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use node::version::SPOKEN;
use prometheus::proto::MetricFamily;

use crate::api::page::Context;
use crate::api::page::PageRequest;
use crate::backend::Backend;
use crate::metrics::{self, MemberState, Process, StoreCounts};
use crate::transport::reply::{self, Response};

const PROMETHEUS: HeaderValue = HeaderValue::from_static(metrics::CONTENT_TYPE);

/// The directory of the clients' keys in the store.
const KEYS: &[u8] = b"/1";

pub(crate) async fn answer<B: Backend>(context: &Context<B>, mut headers: HeaderMap) -> Response {
    count_keys(context).await;
    let page = context.process_metrics.page(measures(context));
    headers.insert(CONTENT_TYPE, PROMETHEUS);
    reply::answer(headers, StatusCode::OK, page)
}

/// `/debug/metrics`, if it is enabled: as JSON, or with `format=text` as lines.
pub(crate) async fn answer_debug<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    if !context.trace {
        return reply::not_found(headers);
    }
    if !matches!(*request.method, Method::GET | Method::HEAD) {
        return reply::method_not_allowed(headers, "GET, HEAD");
    }
    count_keys(context).await;
    let figures = context.process_metrics.legacy_metrics(measures(context));
    if request.query.split('&').any(|pair| pair == "format=text") {
        headers.insert(CONTENT_TYPE, reply::TEXT);
        return reply::answer(headers, StatusCode::OK, figures.text());
    }
    reply::json(headers, StatusCode::OK, figures.json())
}

/// The current metrics in the form of Graphite. `prefix` is put before each name.
pub(crate) async fn graphite<B: Backend>(context: Arc<Context<B>>, prefix: String) -> String {
    count_keys(&context).await;
    let seconds = context.backend.clock().0.div_euclid(1_000_000_000);
    context.process_metrics.legacy_metrics(measures(&context)).graphite(&prefix, seconds)
}

/// Metrics that are not registered as counters: those of the store, the member and the kernel.
pub(super) fn measures<B: Backend>(context: &Context<B>) -> Vec<MetricFamily> {
    let backend = &context.backend;
    let (status, members, progress) = (backend.status(), backend.members(), backend.progress());
    let state = MemberState {
        status: &status,
        version: SPOKEN,
        cluster_version: members.version.as_deref(),
        progress: &progress,
        figures: backend.figures(),
    };
    let mut families = context.process_metrics.member_families(state);
    families.extend(StoreCounts::from(backend.store_for_auth().stats()).families());
    families.extend(Process::read().iter().flat_map(Process::families));
    families
}

/// Counts the clients' keys on the blocking pool, if a count is due. The time grows with their number.
async fn count_keys<B: Backend>(context: &Context<B>) {
    let census = &context.process_metrics.census;
    let began = Instant::now();
    let image = {
        let store = context.backend.store_for_auth();
        census.is_due(store.index(), began).then(|| store.tree_image())
    };
    let Some(image) = image else { return };
    let index = image.index();
    let counted = tokio::task::spawn_blocking(move || image.count_nodes(KEYS)).await;
    if let Ok(counted) = counted {
        census.record(counted, index, Instant::now(), began.elapsed());
    }
}

//! `/metrics`: the counters of the whole process, as Prometheus reads them.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use shared::event::Action;

use super::Context;
use super::backend::Backend;
use super::reply::{self, Response};
use crate::metrics::{self, Process, StoreCounts};

const PROMETHEUS: HeaderValue = HeaderValue::from_static(metrics::CONTENT_TYPE);

pub(super) fn answer<B: Backend>(context: &Context<B>, mut headers: HeaderMap) -> Response {
    let counts = store_counts(&context.backend);
    let page = context.process_metrics.page(&counts, Process::read().as_ref());
    headers.insert(CONTENT_TYPE, PROMETHEUS);
    reply::answer(headers, StatusCode::OK, page)
}

fn store_counts<B: Backend>(backend: &B) -> StoreCounts {
    let store = backend.store();
    let stats = store.stats();
    let [reads, recursive_reads] = stats.reads();
    StoreCounts {
        reads,
        recursive_reads,
        writes: Action::ALL.into_iter().map(|action| (action.name(), stats.writes(action))).collect(),
        expires: stats.expires(),
        watch_requests: stats.watch_requests(),
        watchers: store.watchers(),
    }
}

//! What the HTTP pages show of the process: metrics, and the levels of its log.

use std::sync::Arc;

use shared::event::Action;

use super::Handle;
use crate::config::Config;
use crate::http::{Backend, Context, Cors, Hooks, Limits};
use crate::log::{Level, LogControl};
use crate::metrics::{Metrics, Process, StoreCounts};

/// The pages about a member.
pub(super) fn context(
    handle: Handle,
    config: &Config,
    metrics: Arc<Metrics>,
    log: LogControl,
) -> anyhow::Result<Arc<Context<Handle>>> {
    let registry = metrics.registry().clone();
    let counted = handle.clone();
    let hooks = Hooks {
        metrics_page: Box::new(move || {
            metrics.page(&store_counts(&counted), Process::read().as_ref()).into_bytes()
        }),
        set_log_level: Box::new(move |name| match name.parse::<Level>() {
            Ok(level) => {
                log.set_all(level);
                true
            }
            Err(_) => false,
        }),
    };
    let limits = Limits {
        head_bytes_max: config.request_header_bytes_max,
        body_bytes_max: config.request_body_bytes_max,
    };
    Ok(Arc::new(Context::new(handle, Cors::new(&config.cors), limits, hooks, &registry)?))
}

fn store_counts(handle: &Handle) -> StoreCounts {
    let store = handle.store();
    let stats = store.stats();
    let [reads, recursive_reads] = stats.reads();
    StoreCounts {
        reads,
        recursive_reads,
        writes: Action::ALL.iter().map(|action| (action.name(), stats.writes(*action))).collect(),
        expires: stats.expires(),
        watch_requests: stats.watch_requests(),
        watchers: store.watchers(),
    }
}

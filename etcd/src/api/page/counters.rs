//! Counters of requests for keys. The label values are resolved once, not for each request.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};
use shared::v2::Verb;

/// The kind under which a request is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Get,
    Head,
    QuorumGet,
    Put,
    Post,
    Delete,
}

const KINDS: usize = 6;

impl RequestKind {
    /// The kind of a request from the log.
    pub(crate) fn of(verb: Verb) -> RequestKind {
        match verb {
            Verb::Put => RequestKind::Put,
            Verb::Post => RequestKind::Post,
            Verb::Delete => RequestKind::Delete,
            Verb::QuorumGet | Verb::Sync => RequestKind::QuorumGet,
        }
    }

    fn label(self) -> &'static str {
        match self {
            RequestKind::Get => "GET",
            RequestKind::Head => "HEAD",
            RequestKind::QuorumGet => "QGET",
            RequestKind::Put => "PUT",
            RequestKind::Post => "POST",
            RequestKind::Delete => "DELETE",
        }
    }
}

/// The counters of requests for keys. The page shows no counter that is 0.
pub(crate) struct Metrics {
    received: IntCounterVec,
    received_of: [OnceLock<IntCounter>; KINDS],
    failed: IntCounterVec,
    failed_404_of: [OnceLock<IntCounter>; KINDS],
    succeeded: HistogramVec,
    succeeded_of: [OnceLock<Histogram>; KINDS],
}

impl Metrics {
    /// Registers the counters.
    pub(super) fn new(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let received = IntCounterVec::new(
            Opts::new("etcd_http_received_total", "Valid requests, by method; without watches."),
            &["method"],
        )?;
        let failed = IntCounterVec::new(
            Opts::new(
                "etcd_http_failed_total",
                "Requests that ended in an error, by method and HTTP status.",
            ),
            &["method", "code"],
        )?;
        let succeeded = HistogramVec::new(
            HistogramOpts::new(
                "etcd_http_successful_duration_second",
                "Time from the request to its response (seconds), of requests without an error; without watches.",
            )
            .buckets(prometheus::exponential_buckets(0.0005, 2.0, 13)?),
            &["method"],
        )?;
        registry.register(Box::new(received.clone()))?;
        registry.register(Box::new(failed.clone()))?;
        registry.register(Box::new(succeeded.clone()))?;
        Ok(Metrics {
            received,
            received_of: Default::default(),
            failed,
            failed_404_of: Default::default(),
            succeeded,
            succeeded_of: Default::default(),
        })
    }

    pub(crate) fn received(&self, kind: RequestKind) {
        let child = || self.received.with_label_values(&[kind.label()]);
        self.received_of[kind as usize].get_or_init(child).inc();
    }

    pub(crate) fn failed(&self, kind: RequestKind, status: u16) {
        let child = || self.failed.with_label_values(&[kind.label(), &status.to_string()]);
        if status == 404 {
            // The only error that can be as frequent as reads.
            self.failed_404_of[kind as usize].get_or_init(child).inc();
        } else {
            child().inc();
        }
    }

    pub(crate) fn succeeded(&self, kind: RequestKind, after: Duration) {
        let child = || self.succeeded.with_label_values(&[kind.label()]);
        self.succeeded_of[kind as usize].get_or_init(child).observe(after.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder, TextEncoder};

    #[test]
    fn only_what_happened_is_on_the_page() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.received(RequestKind::Get);
        metrics.received(RequestKind::Get);
        metrics.failed(RequestKind::Get, 404);
        metrics.failed(RequestKind::Put, 412);
        metrics.succeeded(RequestKind::QuorumGet, Duration::from_millis(3));
        let mut page = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for line in [
            "etcd_http_received_total{method=\"GET\"} 2",
            "etcd_http_failed_total{code=\"404\",method=\"GET\"} 1",
            "etcd_http_failed_total{code=\"412\",method=\"PUT\"} 1",
            "etcd_http_successful_duration_second_bucket{method=\"QGET\",le=\"0.002\"} 0",
            "etcd_http_successful_duration_second_bucket{method=\"QGET\",le=\"0.004\"} 1",
            "etcd_http_successful_duration_second_bucket{method=\"QGET\",le=\"2.048\"} 1",
            "etcd_http_successful_duration_second_count{method=\"QGET\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(!page.contains("DELETE"));
    }
}

//! The proxy's metrics, under the original's names.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// The methods with their own label. All others, which clients can invent, share `other`.
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "other"];

/// A method's index in [`METHODS`].
#[derive(Debug, Clone, Copy)]
pub(super) struct MethodIndex(usize);

impl MethodIndex {
    pub(super) fn of(method: &Method) -> MethodIndex {
        let other = METHODS.len() - 1;
        MethodIndex(METHODS[..other].iter().position(|known| *known == method.as_str()).unwrap_or(other))
    }

    fn label(self) -> &'static str {
        METHODS[self.0]
    }
}

/// Why a request got no response from a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropReason {
    /// No endpoint was available.
    ZeroEndpoints,
    /// The attempt at one endpoint failed.
    FailedSendingRequest,
    /// All endpoints failed.
    FailedGettingResponse,
}

impl DropReason {
    fn label(self) -> &'static str {
        match self {
            DropReason::ZeroEndpoints => "zero_endpoints",
            DropReason::FailedSendingRequest => "failed_sending_request",
            DropReason::FailedGettingResponse => "failed_getting_response",
        }
    }
}

/// The statuses that are frequent enough for cached counters.
const FREQUENT: [StatusCode; 3] = [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND];

/// The metrics. Frequent counters are cached, so that a request does not look up labels.
pub(super) struct ProxyMetrics {
    requests: IntCounterVec,
    handled: IntCounterVec,
    dropped: IntCounterVec,
    seconds: HistogramVec,
    by_method: [MethodCounters; METHODS.len()],
}

#[derive(Default)]
struct MethodCounters {
    requests: OnceLock<IntCounter>,
    handled: [OnceLock<IntCounter>; FREQUENT.len()],
    seconds: OnceLock<Histogram>,
}

impl ProxyMetrics {
    /// Registers the metrics.
    pub(super) fn new(registry: &Registry) -> Result<ProxyMetrics, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "etcd_proxy_handling_duration_seconds",
                "Time from a request to the head of a member's response, in seconds.",
            )
            .buckets(prometheus::exponential_buckets(0.0005, 2.0, 13)?),
            &["method"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(ProxyMetrics {
            requests: counter("etcd_proxy_requests_total", "Requests to forward.", &["method"])?,
            handled: counter(
                "etcd_proxy_handled_total",
                "Requests that a member has answered, by status.",
                &["method", "code"],
            )?,
            dropped: counter(
                "etcd_proxy_dropped_total",
                "Requests that no member has answered, and failed attempts at one member.",
                &["method", "proxying_error"],
            )?,
            seconds,
            by_method: Default::default(),
        })
    }

    pub(super) fn requested(&self, method: MethodIndex) {
        let child = || self.requests.with_label_values(&[method.label()]);
        self.by_method[method.0].requests.get_or_init(child).inc();
    }

    pub(super) fn handled(&self, method: MethodIndex, status: StatusCode, after: Duration) {
        let child = || self.handled.with_label_values(&[method.label(), status.as_str()]);
        let counters = &self.by_method[method.0];
        match FREQUENT.iter().position(|frequent| *frequent == status) {
            Some(at) => counters.handled[at].get_or_init(child).inc(),
            None => child().inc(),
        }
        let seconds = || self.seconds.with_label_values(&[method.label()]);
        counters.seconds.get_or_init(seconds).observe(after.as_secs_f64());
    }

    pub(super) fn dropped(&self, method: MethodIndex, why: DropReason) {
        self.dropped.with_label_values(&[method.label(), why.label()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn names_and_labels_are_those_of_the_original() {
        let registry = Registry::new();
        let metrics = ProxyMetrics::new(&registry).unwrap();
        let get = MethodIndex::of(&Method::GET);
        metrics.requested(get);
        metrics.requested(MethodIndex::of(&Method::from_bytes(b"BREW").unwrap()));
        metrics.handled(get, StatusCode::OK, Duration::from_millis(3));
        metrics.handled(get, StatusCode::OK, Duration::from_millis(3));
        metrics.handled(get, StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(3));
        metrics.dropped(MethodIndex::of(&Method::PUT), DropReason::ZeroEndpoints);
        let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "etcd_proxy_requests_total{method=\"GET\"} 1",
            "etcd_proxy_requests_total{method=\"other\"} 1",
            "etcd_proxy_handled_total{code=\"200\",method=\"GET\"} 2",
            "etcd_proxy_handled_total{code=\"504\",method=\"GET\"} 1",
            "etcd_proxy_dropped_total{method=\"PUT\",proxying_error=\"zero_endpoints\"} 1",
            "etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.002\"} 0",
            "etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"0.004\"} 3",
            "etcd_proxy_handling_duration_seconds_bucket{method=\"GET\",le=\"2.048\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}

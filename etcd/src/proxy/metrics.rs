//! What the proxy counts, under the original's names.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// The methods that are counted by name. Clients can think of any number of others.
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "other"];

/// A method's place in [`METHODS`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted(usize);

impl Counted {
    pub(super) fn of(method: &Method) -> Counted {
        let other = METHODS.len() - 1;
        Counted(METHODS[..other].iter().position(|known| *known == method.as_str()).unwrap_or(other))
    }

    fn label(self) -> &'static str {
        METHODS[self.0]
    }
}

/// Why a request got no answer from a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// There was no endpoint to try.
    ZeroEndpoints,
    /// One endpoint failed.
    FailedSendingRequest,
    /// All endpoints failed.
    FailedGettingResponse,
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Dropped::ZeroEndpoints => "zero_endpoints",
            Dropped::FailedSendingRequest => "failed_sending_request",
            Dropped::FailedGettingResponse => "failed_getting_response",
        }
    }
}

/// The statuses that come at the rate of requests.
const FREQUENT: [StatusCode; 3] = [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND];

/// The counters, with those that are needed often at hand: a request looks no label up.
pub(super) struct Metrics {
    requests: IntCounterVec,
    handled: IntCounterVec,
    dropped: IntCounterVec,
    seconds: HistogramVec,
    of: [OfMethod; METHODS.len()],
}

#[derive(Default)]
struct OfMethod {
    requests: OnceLock<IntCounter>,
    handled: [OnceLock<IntCounter>; FREQUENT.len()],
    seconds: OnceLock<Histogram>,
}

impl Metrics {
    /// Registers the counters.
    pub(super) fn new(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "etcd_proxy_handling_duration_seconds",
                "Time from a request to the head of a member's answer (seconds).",
            )
            .buckets(prometheus::exponential_buckets(0.0005, 2.0, 13)?),
            &["method"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Metrics {
            requests: counter("etcd_proxy_requests_total", "Requests to be passed on.", &["method"])?,
            handled: counter(
                "etcd_proxy_handled_total",
                "Requests that a member has answered, by the status of the answer.",
                &["method", "code"],
            )?,
            dropped: counter(
                "etcd_proxy_dropped_total",
                "Requests that no member has answered, and attempts at one member that failed.",
                &["method", "proxying_error"],
            )?,
            seconds,
            of: Default::default(),
        })
    }

    pub(super) fn requested(&self, method: Counted) {
        let child = || self.requests.with_label_values(&[method.label()]);
        self.of[method.0].requests.get_or_init(child).inc();
    }

    pub(super) fn handled(&self, method: Counted, status: StatusCode, after: Duration) {
        let child = || self.handled.with_label_values(&[method.label(), status.as_str()]);
        let of = &self.of[method.0];
        match FREQUENT.iter().position(|frequent| *frequent == status) {
            Some(at) => of.handled[at].get_or_init(child).inc(),
            None => child().inc(),
        }
        let seconds = || self.seconds.with_label_values(&[method.label()]);
        of.seconds.get_or_init(seconds).observe(after.as_secs_f64());
    }

    pub(super) fn dropped(&self, method: Counted, why: Dropped) {
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
        let metrics = Metrics::new(&registry).unwrap();
        let get = Counted::of(&Method::GET);
        metrics.requested(get);
        metrics.requested(Counted::of(&Method::from_bytes(b"BREW").unwrap()));
        metrics.handled(get, StatusCode::OK, Duration::from_millis(3));
        metrics.handled(get, StatusCode::OK, Duration::from_millis(3));
        metrics.handled(get, StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(3));
        metrics.dropped(Counted::of(&Method::PUT), Dropped::ZeroEndpoints);
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

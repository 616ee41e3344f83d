//! `api/stats`: counters for the charts. The page polls them and draws the differences.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::backend::Backend;
use crate::metrics::{Metrics, Process};

/// The metrics in the answer; the others are on `/metrics`.
const FAMILIES: [&str; 6] = [
    "etcd_http_received_total",
    "etcd_http_failed_total",
    "etcd_http_successful_duration_second",
    "etcd_server_proposal_durations_seconds",
    "etcd_server_pending_proposal_total",
    "etcd_wal_fsync_durations_seconds",
];

/// Counters at one point in time.
#[derive(Debug, Serialize)]
pub(crate) struct Statistics {
    /// The member's id: behind a proxy, answers come from different members.
    member: String,
    /// The time, in milliseconds since 1970.
    at: i64,
    /// The store's counters, as on `/v2/stats/store`.
    store: Box<RawValue>,
    /// The process's metrics, by name.
    measures: BTreeMap<String, Vec<Measure>>,
    resident_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    open_descriptors: Option<u64>,
}

/// A counter, or the count and sum of a histogram.
#[derive(Debug, Serialize)]
struct Measure {
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<f64>,
    value: f64,
}

/// The counters now.
pub(crate) fn statistics<B: Backend>(backend: &B, metrics: &Metrics) -> Statistics {
    let mut store = Vec::with_capacity(512);
    backend.store().stats().write_json(&mut store);
    // What the store writes is JSON.
    let store = String::from_utf8(store).ok().and_then(|text| RawValue::from_string(text).ok());
    let process = Process::read();
    let families = metrics.registry().gather();
    let shown = families.iter().filter(|family| FAMILIES.contains(&family.name()));
    Statistics {
        member: backend.status().id.to_string(),
        at: backend.clock().0 / 1_000_000,
        store: store.unwrap_or_else(|| RawValue::NULL.to_owned()),
        measures: shown.map(|family| (family.name().to_owned(), measures(family))).collect(),
        resident_bytes: process.as_ref().map(|process| process.resident_bytes),
        cpu_seconds: process.as_ref().map(|process| process.cpu_seconds),
        open_descriptors: process.as_ref().map(|process| process.open_descriptors),
    }
}

fn measures(family: &MetricFamily) -> Vec<Measure> {
    let measure = |metric: &prometheus::proto::Metric| {
        let labels = metric.get_label().iter();
        let labels = labels.map(|label| (label.name().to_owned(), label.value().to_owned())).collect();
        let (value, sum) = match family.get_field_type() {
            prometheus::proto::MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                (histogram.get_sample_count() as f64, Some(histogram.get_sample_sum()))
            }
            prometheus::proto::MetricType::GAUGE => (metric.get_gauge().get_value(), None),
            _ => (metric.get_counter().get_value(), None),
        };
        Measure { labels, sum, value }
    };
    family.get_metric().iter().map(measure).collect()
}

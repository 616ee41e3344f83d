//! Builds metric families for values that are read when the metrics are requested.

use std::time::Duration;

use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

/// A count as a float, as Prometheus stores it: exact up to 2^53.
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A family with one counter.
pub(crate) fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, vec![counted(&[], value)])
}

/// A family with one gauge.
pub(crate) fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, vec![measured(&[], value)])
}

/// A family with one gauge, in seconds.
pub(crate) fn seconds(name: &str, help: &str, value: Duration) -> MetricFamily {
    gauge(name, help, value.as_secs_f64())
}

/// A family of counters or gauges with labels, which must be sorted by label name. `None` if `measures` is empty: a
/// family must have at least one metric.
pub(crate) fn labelled(
    name: &str,
    help: &str,
    kind: MetricType,
    measures: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
) -> Option<MetricFamily> {
    let make = if kind == MetricType::COUNTER { counted } else { measured };
    let measures: Vec<_> = measures.into_iter().map(|(labels, value)| make(&labels, value)).collect();
    (!measures.is_empty()).then(|| family(name, help, kind, measures))
}

/// Merges families with the same name.
pub(crate) fn merged(families: impl IntoIterator<Item = MetricFamily>) -> Vec<MetricFamily> {
    let mut merged: Vec<MetricFamily> = Vec::new();
    for mut family in families {
        match merged.iter_mut().find(|known| known.name() == family.name()) {
            None => merged.push(family),
            Some(known) => {
                let mut measures = known.take_metric();
                measures.extend(family.take_metric());
                known.set_metric(measures);
            }
        }
    }
    merged
}

/// A copy of the family under another name.
pub(crate) fn renamed(family: &MetricFamily, name: &str) -> MetricFamily {
    let mut family = family.clone();
    family.set_name(name.to_owned());
    family
}

fn labels(pairs: &[(&'static str, String)]) -> Vec<LabelPair> {
    let label = |(name, value): &(&'static str, String)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value(value.clone());
        label
    };
    pairs.iter().map(label).collect()
}

fn measured(pairs: &[(&'static str, String)], value: f64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut measure = proto::Metric::default();
    measure.set_gauge(gauge);
    measure.set_label(labels(pairs));
    measure
}

fn counted(pairs: &[(&'static str, String)], value: f64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut measure = proto::Metric::default();
    measure.set_counter(counter);
    measure.set_label(labels(pairs));
    measure
}

fn family(name: &str, help: &str, kind: MetricType, measures: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(measures);
    family
}

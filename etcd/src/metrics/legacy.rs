//! The metrics in the formats of etcd 0.4: for `/debug/metrics` and Graphite.
//!
//! 0.4 had timers and gauges under dotted names. Its two timers keep their names; all metrics of `/metrics` follow,
//! with the label values appended to the name.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use prometheus::proto::{Histogram, LabelPair, MetricFamily, MetricType};
use serde_json::{Map, Number, Value};

use super::timer::{PERCENTILES, Timer, Timing};

/// The timers of 0.4. Kept only with `-trace=*`.
#[derive(Debug)]
pub struct Timers {
    appends: Timer,
    heartbeats: Timer,
}

impl Timers {
    /// Timers without events.
    pub fn new(now: Instant) -> Timers {
        Timers { appends: Timer::new(now), heartbeats: Timer::new(now) }
    }

    /// Records how long this follower took to answer an append of the leader.
    pub fn append_handled(&self, elapsed: Duration) {
        self.appends.record(elapsed, Instant::now());
    }

    /// Records how long a follower took to answer this leader.
    pub fn heartbeat_answered(&self, elapsed: Duration) {
        self.heartbeats.record(elapsed, Instant::now());
    }

    fn metrics(&self, now: Instant) -> impl Iterator<Item = (String, LegacyMetric)> {
        let timers =
            [("timer.appendentries.handle", &self.appends), ("raft.event.heartbeat", &self.heartbeats)];
        timers
            .into_iter()
            .filter_map(move |(name, timer)| Some((name.to_owned(), LegacyMetric::Timer(timer.timing(now)?))))
    }
}

/// The value of a metric.
#[derive(Debug, Clone, PartialEq)]
enum LegacyMetric {
    /// A count of events.
    Counter(f64),
    /// A current value.
    Gauge(f64),
    /// A distribution, as far as the histogram's buckets show it.
    Distribution(Distribution),
    /// Durations and rates of an event.
    Timer(Timing),
}

/// A distribution of values, in their own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Distribution {
    count: u64,
    mean: f64,
    percentiles: [f64; PERCENTILES.len()],
}

/// All metrics by their dotted names.
pub struct LegacyMetrics(BTreeMap<String, LegacyMetric>);

impl LegacyMetrics {
    /// The metrics of the families and of the timers.
    pub fn new(families: &[MetricFamily], timers: Option<&Timers>, now: Instant) -> LegacyMetrics {
        let mut metrics: BTreeMap<String, LegacyMetric> =
            timers.into_iter().flat_map(|timers| timers.metrics(now)).collect();
        for family in families {
            for measure in family.get_metric() {
                let metric = match family.get_field_type() {
                    MetricType::COUNTER => LegacyMetric::Counter(measure.get_counter().get_value()),
                    MetricType::GAUGE => LegacyMetric::Gauge(measure.get_gauge().get_value()),
                    MetricType::HISTOGRAM => {
                        LegacyMetric::Distribution(distribution(measure.get_histogram()))
                    }
                    MetricType::SUMMARY | MetricType::UNTYPED => continue,
                };
                metrics.insert(dotted(family.name(), measure.get_label()), metric);
            }
        }
        // The closest equivalents of Go's memory statistics.
        for (old, new) in [
            ("runtime.MemStats.Alloc", "process_resident_memory_bytes"),
            ("runtime.MemStats.Sys", "process_virtual_memory_bytes"),
        ] {
            if let Some(metric) = metrics.get(new).cloned() {
                metrics.insert(old.to_owned(), metric);
            }
        }
        LegacyMetrics(metrics)
    }

    /// A JSON object with one object per metric, with the value names of the library that 0.4 used.
    pub fn json(&self) -> Vec<u8> {
        let all: Map<String, Value> = self
            .0
            .iter()
            .map(|(name, metric)| {
                let values = metric.values().into_iter();
                let values =
                    values.map(|(value_names, value)| (value_names.json.to_owned(), json_number(value)));
                (name.clone(), Value::Object(values.collect()))
            })
            .collect();
        // Strings and numbers can always be encoded.
        serde_json::to_vec(&all).unwrap_or_default()
    }

    /// The lines of 0.4's text page.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, metric) in &self.0 {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{} {name}", metric.kind());
            for (value_names, value) in metric.values() {
                let label = format!("{}:", value_names.text);
                let _ = match (value_names.whole && value.fract() == 0.0, metric) {
                    (true, _) => writeln!(text, "  {label:<12} {value:9.0}"),
                    (false, LegacyMetric::Timer(_)) => writeln!(text, "  {label:<12} {value:12.2}"),
                    (false, _) => writeln!(text, "  {label:<12} {value:12.6}"),
                };
            }
        }
        text
    }

    /// The lines for Graphite.
    pub fn graphite(&self, prefix: &str, unix_seconds: i64) -> String {
        let mut text = String::with_capacity(self.0.len() * 96);
        for (name, metric) in &self.0 {
            for (value_names, value) in metric.values() {
                let _ = writeln!(text, "{prefix}.{name}.{} {value} {unix_seconds}", value_names.graphite);
            }
        }
        text
    }
}

/// The names of a value in each format.
struct ValueNames {
    json: &'static str,
    text: &'static str,
    graphite: &'static str,
    /// Whether 0.4's text shows it without decimals.
    whole: bool,
}

const fn value_names(
    json: &'static str,
    text: &'static str,
    graphite: &'static str,
    whole: bool,
) -> ValueNames {
    ValueNames { json, text, graphite, whole }
}

const COUNT: ValueNames = value_names("count", "count", "count", true);
const VALUE: ValueNames = value_names("value", "value", "value", true);
const MIN: ValueNames = value_names("min", "min", "min", true);
const MAX: ValueNames = value_names("max", "max", "max", true);
const MEAN: ValueNames = value_names("mean", "mean", "mean", false);
const DEVIATION: ValueNames = value_names("stddev", "stddev", "std-dev", false);
const MEAN_RATE: ValueNames = value_names("mean.rate", "mean rate", "mean-rate", false);
const OF_PERCENTILES: [ValueNames; PERCENTILES.len()] = [
    value_names("median", "median", "50-percentile", false),
    value_names("75%", "75%", "75-percentile", false),
    value_names("95%", "95%", "95-percentile", false),
    value_names("99%", "99%", "99-percentile", false),
    value_names("99.9%", "99.9%", "999-percentile", false),
];
const OF_RATES: [ValueNames; 3] = [
    value_names("1m.rate", "1-min rate", "one-minute", false),
    value_names("5m.rate", "5-min rate", "five-minute", false),
    value_names("15m.rate", "15-min rate", "fifteen-minute", false),
];

impl LegacyMetric {
    fn kind(&self) -> &'static str {
        match self {
            LegacyMetric::Counter(_) => "counter",
            LegacyMetric::Gauge(_) => "gauge",
            LegacyMetric::Distribution(_) => "histogram",
            LegacyMetric::Timer(_) => "timer",
        }
    }

    fn values(&self) -> Vec<(ValueNames, f64)> {
        match self {
            LegacyMetric::Counter(count) => vec![(COUNT, *count)],
            LegacyMetric::Gauge(value) => vec![(VALUE, *value)],
            LegacyMetric::Distribution(distribution) => {
                let mut values = vec![(COUNT, distribution.count as f64), (MEAN, distribution.mean)];
                values.extend(OF_PERCENTILES.into_iter().zip(distribution.percentiles));
                values
            }
            LegacyMetric::Timer(timing) => {
                let mut values = vec![
                    (COUNT, timing.count as f64),
                    (MIN, timing.min),
                    (MAX, timing.max),
                    (MEAN, timing.mean),
                    (DEVIATION, timing.standard_deviation),
                ];
                values.extend(OF_PERCENTILES.into_iter().zip(timing.percentiles));
                values.extend(OF_RATES.into_iter().zip(timing.rates));
                values.push((MEAN_RATE, timing.mean_rate));
                values
            }
        }
    }
}

/// The family's name and the label values, joined by dots.
fn dotted(name: &str, labels: &[LabelPair]) -> String {
    let mut name = name.to_owned();
    for label in labels {
        name.push('.');
        name.extend(label.value().chars().map(|c| if is_allowed_in_word(c) { c } else { '_' }));
    }
    name
}

/// Whether a character may appear in one part of a Graphite name.
fn is_allowed_in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The prefix of a member's Graphite names. Dots in the member's name are kept.
pub fn prefix(member: &str) -> String {
    let name: String =
        member.chars().map(|c| if is_allowed_in_word(c) || c == '.' { c } else { '_' }).collect();
    format!("etcd.{name}")
}

fn json_number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// The distribution in a histogram. Assumes that values are spread evenly within a bucket.
fn distribution(histogram: &Histogram) -> Distribution {
    let count = histogram.get_sample_count();
    let mean = if count == 0 { 0.0 } else { histogram.get_sample_sum() / count as f64 };
    let percentiles = PERCENTILES.map(|part| {
        let wanted = part * count as f64;
        let (mut before, mut lower) = (0.0, 0.0);
        for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
            let upper = bucket.upper_bound();
            let until = bucket.cumulative_count() as f64;
            if until >= wanted && until > before {
                return lower + (upper - lower) * (wanted - before) / (until - before);
            }
            (before, lower) = (until, upper);
        }
        // Above the last bound, the bound itself is the best known value.
        if count == 0 { 0.0 } else { lower }
    });
    Distribution { count, mean, percentiles }
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector;
    use prometheus::{HistogramOpts, IntCounterVec, Opts};

    use super::super::families::gauge;
    use super::*;

    fn metrics() -> LegacyMetrics {
        let counters = IntCounterVec::new(Opts::new("c_total", "x"), &["a", "b"]).unwrap();
        counters.with_label_values(&["x y", "z"]).inc_by(3);
        let histogram = prometheus::Histogram::with_opts(
            HistogramOpts::new("h_seconds", "x").buckets(vec![0.1, 0.2, 0.4]),
        )
        .unwrap();
        for value in [0.05, 0.15, 0.15, 9.0] {
            histogram.observe(value);
        }
        let mut families = counters.collect();
        families.extend(histogram.collect());
        families.push(gauge("process_resident_memory_bytes", "x", 4096.0));
        families.push(gauge("g", "x", 0.5));
        let now = Instant::now();
        let timers = Timers::new(now);
        timers.append_handled(Duration::from_micros(250));
        LegacyMetrics::new(&families, Some(&timers), now + Duration::from_secs(1))
    }

    #[test]
    fn json_has_the_words_of_0_4_s_library() {
        let json: Value = serde_json::from_slice(&metrics().json()).unwrap();
        assert_eq!(json["c_total.x_y.z"], serde_json::json!({"count": 3}));
        assert_eq!(json["g"], serde_json::json!({"value": 0.5}));
        assert_eq!(json["runtime.MemStats.Alloc"], serde_json::json!({"value": 4096}));
        let timer = json["timer.appendentries.handle"].as_object().unwrap();
        let names: Vec<&str> = timer.keys().map(String::as_str).collect();
        let wanted = [
            "15m.rate",
            "1m.rate",
            "5m.rate",
            "75%",
            "95%",
            "99%",
            "99.9%",
            "count",
            "max",
            "mean",
            "mean.rate",
            "median",
            "min",
            "stddev",
        ];
        assert_eq!(names, wanted);
        assert_eq!((&timer["count"], &timer["median"]), (&Value::from(1), &Value::from(250_000)));
        let distribution = &json["h_seconds"];
        assert_eq!((&distribution["count"], &distribution["mean"]), (&Value::from(4), &Value::from(2.3375)));
        assert!((distribution["median"].as_f64().unwrap() - 0.15).abs() < 1e-9, "{distribution}");
        assert!((distribution["99%"].as_f64().unwrap() - 0.4).abs() < 1e-9, "{distribution}");
        assert!(json.get("raft.event.heartbeat").is_none(), "it never happened");
    }

    #[test]
    fn graphite_gets_a_line_a_value() {
        let text = metrics().graphite(&prefix("my host.1"), 1_795_258_886);
        assert!(text.contains("etcd.my_host.1.c_total.x_y.z.count 3 1795258886\n"), "{text}");
        assert!(text.contains("etcd.my_host.1.timer.appendentries.handle.50-percentile 250000 1795258886\n"));
        assert!(text.lines().all(|line| line.split(' ').count() == 3), "{text}");
    }

    #[test]
    fn the_text_is_that_of_0_4() {
        let text = metrics().text();
        let timer = "timer timer.appendentries.handle\n  count:               1\n  min:            250000\n";
        assert!(text.contains(timer), "{text}");
        assert!(text.contains("\n  median:         250000.00\n"), "{text}");
        assert!(text.contains("gauge process_resident_memory_bytes\n  value:            4096\n"), "{text}");
    }
}

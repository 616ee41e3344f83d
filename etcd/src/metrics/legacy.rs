//! The measures as etcd 0.4 told them: at `/debug/metrics`, and to Graphite.
//!
//! 0.4 had timers and gauges under dotted names. Its two timers are here under their names; all that `/metrics` has
//! follows, with the values of labels behind the name.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use prometheus::proto::{Histogram, LabelPair, MetricFamily, MetricType};
use serde_json::{Map, Number, Value};

use super::timer::{PERCENTILES, Timer, Timing};

/// What 0.4 timed. Kept only while somebody wants to see it (`-trace=*`).
#[derive(Debug)]
pub struct Timers {
    appends: Timer,
    heartbeats: Timer,
}

impl Timers {
    /// Timers that have seen nothing.
    pub fn new(now: Instant) -> Timers {
        Timers { appends: Timer::new(now), heartbeats: Timer::new(now) }
    }

    /// An append of the leader was answered, so long after it came.
    pub fn append_handled(&self, elapsed: Duration) {
        self.appends.record(elapsed, Instant::now());
    }

    /// A follower has answered this leader, so long after it was sent something.
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

/// A measure under its dotted name.
#[derive(Debug, Clone, PartialEq)]
enum LegacyMetric {
    /// How often something happened.
    Counter(f64),
    /// How much there is of something.
    Gauge(f64),
    /// How measures are spread, as far as the buckets tell.
    Distribution(Distribution),
    /// How long something takes, and how often it happens.
    Timer(Timing),
}

/// How measures are spread, in their own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Distribution {
    count: u64,
    mean: f64,
    percentiles: [f64; PERCENTILES.len()],
}

/// All measures by their dotted names.
pub struct LegacyMetrics(BTreeMap<String, LegacyMetric>);

impl LegacyMetrics {
    /// Those of the page and of the timers.
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
        // The nearest to what Go told of its memory.
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

    /// One JSON object with an object for each measure, with the words of the library that 0.4 used.
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
        // Strings and numbers can always be written.
        serde_json::to_vec(&all).unwrap_or_default()
    }

    /// The lines of 0.4's own page.
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

    /// The lines that Graphite takes.
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

/// What a value is called.
struct ValueNames {
    json: &'static str,
    text: &'static str,
    graphite: &'static str,
    /// Without a fraction in 0.4's text.
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

/// The family's name and the values of the labels, with points between.
fn dotted(name: &str, labels: &[LabelPair]) -> String {
    let mut name = name.to_owned();
    for label in labels {
        name.push('.');
        name.extend(label.value().chars().map(|c| if is_allowed_in_word(c) { c } else { '_' }));
    }
    name
}

/// Whether Graphite takes it as a part of a word.
fn is_allowed_in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// A prefix of a name that Graphite takes: points stay.
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

/// What the buckets tell: within a bucket measures are taken to be spread evenly.
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
        // Beyond the last bound nothing is known but that.
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

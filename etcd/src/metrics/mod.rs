//! Counters and durations of the whole process, under the original's names, as Prometheus reads them.
//!
//! What happens often is counted through handles that were made at the start: no look-up of a name or label on
//! the way of a request. What the store and the kernel count anyway is asked for when somebody looks.

mod process;

use std::time::Duration;

use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry, TextEncoder};

use shared::event::Action;
use shared::store::{Counter, Stats};

pub use process::{Process, descriptor_limit};

/// The type of the page.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What this member measures of itself.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    proposal_seconds: Histogram,
    proposals_pending: IntGauge,
    proposals_failed: IntCounter,
    wal_sync_seconds: Histogram,
    wal_last_index: IntGauge,
    snapshot_seconds: Histogram,
    snapshot_encoding_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Measures of a member that has done nothing yet.
    ///
    /// # Panics
    /// If a name is registered twice or malformed: they stand below.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let metrics = register(&registry);
        metrics.unwrap_or_else(|error| panic!("a metric is defined wrongly: {error}"))
    }

    /// Where other parts register measures of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A proposal was committed and applied, so long after it was made.
    pub fn proposal_committed(&self, after: Duration) {
        self.proposal_seconds.observe(after.as_secs_f64());
    }

    /// So many proposals wait now.
    pub fn proposals_pending(&self, count: usize) {
        self.proposals_pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A proposal was given up, from its client's view: it may be committed later.
    pub fn proposal_failed(&self) {
        self.proposals_failed.inc();
    }

    /// The log was synced, which took so long.
    pub fn wal_synced(&self, took: Duration) {
        self.wal_sync_seconds.observe(took.as_secs_f64());
    }

    /// The log holds the entries up to this index.
    pub fn wal_holds(&self, last_index: u64) {
        self.wal_last_index.set(i64::try_from(last_index).unwrap_or(i64::MAX));
    }

    /// A snapshot was encoded and written, which took so long.
    pub fn snapshot_saved(&self, took: Duration) {
        self.snapshot_seconds.observe(took.as_secs_f64());
    }

    /// The encoding of a snapshot alone took so long.
    pub fn snapshot_encoded(&self, took: Duration) {
        self.snapshot_encoding_seconds.observe(took.as_secs_f64());
    }

    /// The page: everything that is registered, what the store counted, and what the kernel says of the process,
    /// if it can be asked.
    pub fn page(&self, store: &StoreCounts, process: Option<&Process>) -> String {
        let mut families = self.registry.gather();
        families.extend(store.families());
        families.extend(process.into_iter().flat_map(Process::families));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        // Only a family without a name or a measure cannot be encoded.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

fn register(registry: &Registry) -> prometheus::Result<Metrics> {
    let histogram = |name: &str, help: &str| -> prometheus::Result<Histogram> {
        let options =
            HistogramOpts::new(name, help).buckets(prometheus::exponential_buckets(0.001, 2.0, 14)?);
        let histogram = Histogram::with_opts(options)?;
        registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    };
    let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::new(name, help)?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    };
    let proposals_failed =
        IntCounter::new("etcd_server_proposal_failed_total", "Proposals that were given up.")?;
    registry.register(Box::new(proposals_failed.clone()))?;
    Ok(Metrics {
        registry: registry.clone(),
        proposal_seconds: histogram(
            "etcd_server_proposal_durations_seconds",
            "Time from a proposal to its being applied.",
        )?,
        proposals_pending: gauge("etcd_server_pending_proposal_total", "Proposals that wait now.")?,
        proposals_failed,
        wal_sync_seconds: histogram(
            "etcd_wal_fsync_durations_seconds",
            "Time that the log's syncs to disk took.",
        )?,
        wal_last_index: gauge("etcd_wal_last_index_saved", "The last entry that the log holds.")?,
        snapshot_seconds: histogram(
            "etcd_snapshot_save_total_durations_seconds",
            "Time that saving snapshots took.",
        )?,
        snapshot_encoding_seconds: histogram(
            "etcd_snapshot_save_marshalling_durations_seconds",
            "Time that encoding snapshots took.",
        )?,
    })
}

/// What the store of this process has counted since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreCounts {
    /// Reads of one node, refused ones too.
    pub reads: u64,
    /// Reads of all below a node, refused ones too.
    pub recursive_reads: u64,
    /// Writes by the name of the action (`set`, `compareAndSwap`), refused ones too.
    pub writes: Vec<(&'static str, u64)>,
    /// Nodes that reached their time.
    pub expires: u64,
    /// Watches that were asked for.
    pub watch_requests: u64,
    /// Watches that are open now.
    pub watchers: u64,
}

impl From<&Stats> for StoreCounts {
    fn from(stats: &Stats) -> StoreCounts {
        let [reads, recursive_reads] = stats.reads();
        StoreCounts {
            reads,
            recursive_reads,
            writes: Action::ALL.map(|action| (action.name(), stats.writes(action))).to_vec(),
            expires: stats.expires(),
            watch_requests: stats.watch_requests(),
            watchers: stats.get(Counter::Watchers),
        }
    }
}

impl StoreCounts {
    fn families(&self) -> Vec<MetricFamily> {
        let happened = |counts: &[(&'static str, u64)]| -> Vec<(&'static str, f64)> {
            counts
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(action, count)| (*action, float(*count)))
                .collect()
        };
        let reads = happened(&[("get", self.reads), ("getRecursive", self.recursive_reads)]);
        let mut writes = happened(&self.writes);
        writes.sort_by_key(|(action, _)| *action);
        let mut families = vec![
            counter("etcd_store_expires_total", "Nodes that expired.", float(self.expires)),
            counter(
                "etcd_store_watch_requests_total",
                "Watches that were asked for.",
                float(self.watch_requests),
            ),
            gauge("etcd_store_watchers", "Watches that are open.", float(self.watchers)),
        ];
        // A family has a measure at least.
        if !reads.is_empty() {
            families.push(counters("etcd_store_reads_total", "Reads from the store of this member.", &reads));
        }
        if !writes.is_empty() {
            families.push(counters("etcd_store_writes_total", "Writes that this member has seen.", &writes));
        }
        families
    }
}

/// A count as Prometheus keeps it: exact up to 2^53.
fn float(count: u64) -> f64 {
    count as f64
}

fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, vec![counted(value)])
}

fn counters(name: &str, help: &str, by_action: &[(&str, f64)]) -> MetricFamily {
    let measures = by_action.iter().map(|(action, value)| {
        let mut label = LabelPair::default();
        label.set_name("action".to_owned());
        label.set_value((*action).to_owned());
        let mut measure = counted(*value);
        measure.set_label(vec![label]);
        measure
    });
    family(name, help, MetricType::COUNTER, measures.collect())
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut measure = proto::Metric::default();
    measure.set_gauge(gauge);
    family(name, help, MetricType::GAUGE, vec![measure])
}

fn counted(value: f64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut measure = proto::Metric::default();
    measure.set_counter(counter);
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

#[cfg(test)]
mod tests;

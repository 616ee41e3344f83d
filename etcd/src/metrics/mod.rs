//! The process's metrics in Prometheus format, under the original's names.
//!
//! Frequent events use handles that are created at the start, so a request needs no look-up of a name or label. Values
//! that the store and the kernel count anyway are read when the metrics are requested.

pub(crate) mod families;
pub mod graphite;
pub mod legacy;
mod member;
mod process;
mod store;
mod timer;
pub(crate) mod traffic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry, TextEncoder};

pub use legacy::Timers;
pub use member::{MemberFigures, MemberState, V3Figures};
pub use process::{Process, descriptor_limit};
pub use store::{HistoryReach, LastCensus, StoreCounts};
pub use traffic::{FollowerStats, PeerStats, Traffic};

/// The content type of `/metrics`.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The last count of the clients' keys.
    pub census: LastCensus,
    timers: Option<Arc<Timers>>,
    proposal_seconds: Histogram,
    proposals_pending: IntGauge,
    proposals_failed: IntCounter,
    wal_sync_seconds: Histogram,
    wal_last_index: IntGauge,
    snapshot_seconds: Histogram,
    snapshot_encoding_seconds: Histogram,
    apply_seconds: Histogram,
    log_queue: IntGauge,
    proposals_held: IntGauge,
    leader_changes: IntCounter,
    health_checks: [IntCounter; 2],
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// The metrics, all zero.
    ///
    /// # Panics
    /// If a metric name is registered twice or malformed: a mistake in this file.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let metrics = register(&registry);
        metrics.unwrap_or_else(|error| panic!("a metric is defined wrongly: {error}"))
    }

    /// Adds the timers of 0.4 if `wanted`.
    #[must_use]
    pub fn with_timers(self, wanted: bool) -> Metrics {
        Metrics { timers: wanted.then(|| Arc::new(Timers::new(Instant::now()))), ..self }
    }

    /// The timers of 0.4, if enabled.
    pub fn timers(&self) -> Option<&Arc<Timers>> {
        self.timers.as_ref()
    }

    /// All metrics under dotted names, as in 0.4.
    pub fn legacy_metrics(&self, others: impl IntoIterator<Item = MetricFamily>) -> legacy::LegacyMetrics {
        legacy::LegacyMetrics::new(&self.gather(others), self.timers.as_deref(), Instant::now())
    }

    /// The registry, in which other parts register their own metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts a proposal that was committed and applied, with the time since it was made.
    pub fn proposal_committed(&self, after: Duration) {
        self.proposal_seconds.observe(after.as_secs_f64());
    }

    /// Sets the number of waiting proposals.
    pub fn proposals_pending(&self, count: usize) {
        self.proposals_pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a proposal that failed for its client; it may still be committed later.
    pub fn proposal_failed(&self) {
        self.proposals_failed.inc();
    }

    /// Records the duration of a log sync.
    pub fn wal_synced(&self, took: Duration) {
        self.wal_sync_seconds.observe(took.as_secs_f64());
    }

    /// Sets the index of the last entry in the log.
    pub fn wal_holds(&self, last_index: u64) {
        self.wal_last_index.set(i64::try_from(last_index).unwrap_or(i64::MAX));
    }

    /// Records the duration of encoding and writing a snapshot.
    pub fn snapshot_saved(&self, took: Duration) {
        self.snapshot_seconds.observe(took.as_secs_f64());
    }

    /// Records the duration of encoding a snapshot.
    pub fn snapshot_encoded(&self, took: Duration) {
        self.snapshot_encoding_seconds.observe(took.as_secs_f64());
    }

    /// Records the duration of applying committed entries to the store.
    pub fn applied(&self, took: Duration) {
        self.apply_seconds.observe(took.as_secs_f64());
    }

    /// Sets the number of batches that wait for the log thread, and of requests that wait for a leader.
    pub fn queues(&self, log_batches: usize, held: usize) {
        self.log_queue.set(i64::try_from(log_batches).unwrap_or(i64::MAX));
        self.proposals_held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// Counts a change of the leader that this member has seen.
    pub fn leader_changed(&self) {
        self.leader_changes.inc();
    }

    /// Counts a health check and its result.
    pub fn health_checked(&self, is_well: bool) {
        self.health_checks[usize::from(is_well)].inc();
    }

    /// All metrics: the registered ones and `others`, sorted by name.
    pub fn gather(&self, others: impl IntoIterator<Item = MetricFamily>) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        let syncs = families.iter().find(|family| family.name() == WAL_SYNCS);
        let syncs = syncs.map(|family| families::renamed(family, "etcd_disk_wal_fsync_duration_seconds"));
        families.extend(syncs);
        families.extend(others);
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    /// The metrics of a member's state in its cluster.
    pub fn member_families(&self, state: MemberState<'_>) -> Vec<MetricFamily> {
        let mut families = state.families(self.proposals_pending.get(), self.proposals_failed.get());
        families.extend(self.census.get().iter().flat_map(store::size_families));
        families
    }

    /// The `/metrics` page: the registered metrics and `others`.
    pub fn page(&self, others: impl IntoIterator<Item = MetricFamily>) -> String {
        // Encoding fails only for a family without a name or without metrics.
        TextEncoder::new().encode_to_string(&self.gather(others)).unwrap_or_default()
    }
}

/// The 2.x name of the log sync histogram; 3.x has another name.
const WAL_SYNCS: &str = "etcd_wal_fsync_durations_seconds";

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
    let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
        let counter = IntCounter::new(name, help)?;
        registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    };
    Ok(Metrics {
        registry: registry.clone(),
        census: LastCensus::default(),
        timers: None,
        proposal_seconds: histogram(
            "etcd_server_proposal_durations_seconds",
            "Time from a proposal until it is applied, in seconds.",
        )?,
        proposals_pending: gauge("etcd_server_pending_proposal_total", "Waiting proposals.")?,
        proposals_failed: counter("etcd_server_proposal_failed_total", "Failed proposals.")?,
        wal_sync_seconds: histogram(WAL_SYNCS, "Duration of the log's syncs to disk, in seconds.")?,
        wal_last_index: gauge("etcd_wal_last_index_saved", "Index of the last entry in the log.")?,
        snapshot_seconds: histogram(
            "etcd_snapshot_save_total_durations_seconds",
            "Duration of saving snapshots, in seconds.",
        )?,
        snapshot_encoding_seconds: histogram(
            "etcd_snapshot_save_marshalling_durations_seconds",
            "Duration of encoding snapshots, in seconds.",
        )?,
        apply_seconds: histogram(
            "etcd_rs_apply_duration_seconds",
            "Duration of applying a batch of committed entries to the store, in seconds.",
        )?,
        log_queue: gauge("etcd_rs_log_queue_batches", "Batches that the log thread has not written yet.")?,
        proposals_held: gauge("etcd_rs_proposals_held", "Requests that wait for a leader.")?,
        leader_changes: counter(
            "etcd_server_leader_changes_seen_total",
            "Changes of the leader that this member has seen.",
        )?,
        health_checks: [
            counter("etcd_server_health_failures", "Requests of /health that found the member unhealthy.")?,
            counter("etcd_server_health_success", "Requests of /health that found the member healthy.")?,
        ],
    })
}

#[cfg(test)]
mod tests;

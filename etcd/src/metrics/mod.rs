//! Counters and durations of the whole process, under the original's names, as Prometheus reads them.
//!
//! What happens often is counted through handles that were made at the start: no look-up of a name or label on
//! the way of a request. What the store and the kernel count anyway is asked for when somebody looks.

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
pub use member::{MemberFigures, MemberState};
pub use process::{Process, descriptor_limit};
pub use store::{HistoryReach, LastCensus, StoreCounts};
pub use traffic::{FollowerStats, PeerStats, Traffic};

/// The type of the page.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What this member measures of itself.
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
    /// Measures of a member that has done nothing yet.
    ///
    /// # Panics
    /// If a name is registered twice or malformed: they stand below.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let metrics = register(&registry);
        metrics.unwrap_or_else(|error| panic!("a metric is defined wrongly: {error}"))
    }

    /// The same, with the timers of 0.4 if they are wanted.
    #[must_use]
    pub fn with_timers(self, wanted: bool) -> Metrics {
        Metrics { timers: wanted.then(|| Arc::new(Timers::new(Instant::now()))), ..self }
    }

    /// The timers of 0.4, if they are wanted.
    pub fn timers(&self) -> Option<&Arc<Timers>> {
        self.timers.as_ref()
    }

    /// All measures under dotted names, as 0.4 had them.
    pub fn legacy_metrics(&self, others: impl IntoIterator<Item = MetricFamily>) -> legacy::LegacyMetrics {
        legacy::LegacyMetrics::new(&self.gather(others), self.timers.as_deref(), Instant::now())
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

    /// Committed entries were applied to the store, which took so long.
    pub fn applied(&self, took: Duration) {
        self.apply_seconds.observe(took.as_secs_f64());
    }

    /// So many batches wait for the log's thread, and so many requests for a leader.
    pub fn queues(&self, log_batches: usize, held: usize) {
        self.log_queue.set(i64::try_from(log_batches).unwrap_or(i64::MAX));
        self.proposals_held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// This member has seen that another leads than before.
    pub fn leader_changed(&self) {
        self.leader_changes.inc();
    }

    /// Somebody asked how the member is.
    pub fn health_checked(&self, is_well: bool) {
        self.health_checks[usize::from(is_well)].inc();
    }

    /// All measures: what is registered, and `others`, in the order of their names.
    pub fn gather(&self, others: impl IntoIterator<Item = MetricFamily>) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        let syncs = families.iter().find(|family| family.name() == WAL_SYNCS);
        let syncs = syncs.map(|family| families::renamed(family, "etcd_disk_wal_fsync_duration_seconds"));
        families.extend(syncs);
        families.extend(others);
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    /// Those of a member in its group.
    pub fn member_families(&self, state: MemberState<'_>) -> Vec<MetricFamily> {
        let mut families = state.families(self.proposals_pending.get(), self.proposals_failed.get());
        families.extend(self.census.get().iter().flat_map(store::size_families));
        families
    }

    /// The page: everything that is registered, and `others`.
    pub fn page(&self, others: impl IntoIterator<Item = MetricFamily>) -> String {
        // Only a family without a name or a measure cannot be encoded.
        TextEncoder::new().encode_to_string(&self.gather(others)).unwrap_or_default()
    }
}

/// The name of 2.x for the syncs of the log; 3.x has another.
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
            "Time from a proposal to its being applied.",
        )?,
        proposals_pending: gauge("etcd_server_pending_proposal_total", "Proposals that wait now.")?,
        proposals_failed: counter("etcd_server_proposal_failed_total", "Proposals that were given up.")?,
        wal_sync_seconds: histogram(WAL_SYNCS, "Time that the log's syncs to disk took.")?,
        wal_last_index: gauge("etcd_wal_last_index_saved", "The last entry that the log holds.")?,
        snapshot_seconds: histogram(
            "etcd_snapshot_save_total_durations_seconds",
            "Time that saving snapshots took.",
        )?,
        snapshot_encoding_seconds: histogram(
            "etcd_snapshot_save_marshalling_durations_seconds",
            "Time that encoding snapshots took.",
        )?,
        apply_seconds: histogram(
            "etcd_rs_apply_duration_seconds",
            "Time that applying committed entries to the store took, a batch at a time.",
        )?,
        log_queue: gauge("etcd_rs_log_queue_batches", "Batches that the log's thread has not written yet.")?,
        proposals_held: gauge("etcd_rs_proposals_held", "Requests that wait for a leader to be sent to.")?,
        leader_changes: counter(
            "etcd_server_leader_changes_seen_total",
            "How often this member saw another leader than before.",
        )?,
        health_checks: [
            counter("etcd_server_health_failures", "Looks at /health that found the member ill.")?,
            counter("etcd_server_health_success", "Looks at /health that found the member well.")?,
        ],
    })
}

#[cfg(test)]
mod tests;

//! The store's counters and size.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::proto::{MetricFamily, MetricType};
use shared::event::Action;
use shared::store::{Counter, NodeCounts, Stats, Store};

use super::families::{counter, float, gauge, labelled, seconds};

/// After a count of the keys, the next one waits this many times the duration of the count.
const PAUSE_FACTOR: u32 = 50;

/// The shortest and the longest wait between two counts.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The store's counters since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreCounts {
    /// Reads of one node, including refused ones.
    pub reads: u64,
    /// Recursive reads, including refused ones.
    pub recursive_reads: u64,
    /// Writes by the name of the action (`set`, `compareAndSwap`), including refused ones.
    pub writes: Vec<(&'static str, u64)>,
    /// Expired nodes.
    pub expires: u64,
    /// Requested watches.
    pub watch_requests: u64,
    /// Currently open watches.
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
    /// The metric families. Actions that never happened have no line.
    pub fn families(&self) -> Vec<MetricFamily> {
        let by_action = |name, help, counts: &[(&'static str, u64)]| {
            let mut counts: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
            counts.sort_by_key(|(action, _)| *action);
            let measures =
                counts.iter().map(|(action, count)| (vec![("action", (*action).to_owned())], float(*count)));
            labelled(name, help, MetricType::COUNTER, measures)
        };
        let reads = [("get", self.reads), ("getRecursive", self.recursive_reads)];
        let mut families = vec![
            counter("etcd_store_expires_total", "Expired nodes.", float(self.expires)),
            counter("etcd_store_watch_requests_total", "Requested watches.", float(self.watch_requests)),
            gauge("etcd_store_watchers", "Open watches.", float(self.watchers)),
        ];
        families.extend(by_action("etcd_store_reads_total", "Reads of this member's store.", &reads));
        families.extend(by_action(
            "etcd_store_writes_total",
            "Writes that this member has applied.",
            &self.writes,
        ));
        families
    }
}

/// The reach of the watch history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryReach {
    /// The number of events in the history.
    pub events: usize,
    /// The capacity of the history.
    pub capacity: usize,
    /// The index of the oldest event; 0 if there is none.
    pub oldest_index: u64,
    /// The minimum age of that event, as far as this process has seen it.
    pub oldest_age: Duration,
    /// The current index of the store.
    pub index: u64,
}

impl HistoryReach {
    /// The reach of a store's history, without the age.
    pub fn of(store: &Store) -> HistoryReach {
        let (events, oldest_index) = store.history_reach();
        let (capacity, index) = (store.history_length(), store.index());
        HistoryReach { events, capacity, oldest_index, oldest_age: Duration::ZERO, index }
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let HistoryReach { events, capacity, oldest_index, oldest_age, index } = *self;
        vec![
            gauge("etcd_rs_store_index", "Changes of the store so far: X-Etcd-Index.", float(index)),
            gauge("etcd_rs_watch_history_events", "Past events kept for watches.", float(events as u64)),
            gauge(
                "etcd_rs_watch_history_events_max",
                "The most past events that can be kept: -watch-history.",
                float(capacity as u64),
            ),
            gauge(
                "etcd_rs_watch_history_oldest_index",
                "Index of the oldest event kept: a watch cannot begin before it.",
                float(oldest_index),
            ),
            seconds(
                "etcd_rs_watch_history_oldest_age_seconds",
                "Minimum age of the oldest event kept; the age of events from before the start of the process counts from the start.",
                oldest_age,
            ),
        ]
    }
}

/// The number of the clients' keys and their size.
pub(super) fn size_families(census: &NodeCounts) -> Vec<MetricFamily> {
    let bytes = census.path_bytes + census.value_bytes;
    let bytes_per_key = if census.keys == 0 { 0.0 } else { float(bytes) / float(census.keys) };
    vec![
        gauge("etcd_rs_store_keys", "Keys of clients.", float(census.keys)),
        gauge("etcd_rs_store_directories", "Directories of clients.", float(census.directories)),
        gauge("etcd_rs_store_expiring", "Keys and directories with a time to live.", float(census.expiring)),
        gauge("etcd_rs_store_key_bytes", "Bytes of the keys of clients.", float(census.path_bytes)),
        gauge("etcd_rs_store_value_bytes", "Bytes of the values of clients.", float(census.value_bytes)),
        gauge("etcd_rs_store_bytes_per_key", "Average bytes of a key and its value.", bytes_per_key),
    ]
}

/// The last count of the keys. Counting takes time proportional to the number of keys.
#[derive(Debug, Default)]
pub struct LastCensus(Mutex<Option<CensusRecord>>);

#[derive(Debug, Clone, Copy)]
struct CensusRecord {
    census: NodeCounts,
    /// The store's index at the time of the count.
    index: u64,
    next_count_after: Instant,
}

impl LastCensus {
    /// Whether the caller should count the store now. After true, other callers get false for a while.
    pub fn is_due(&self, index: u64, now: Instant) -> bool {
        let mut last = self.0.lock();
        match &mut *last {
            None => true,
            Some(last) if last.index == index || now < last.next_count_after => false,
            Some(last) => {
                last.next_count_after = now + PAUSE.1;
                true
            }
        }
    }

    /// Stores a count that has just ended and took `took`.
    pub fn record(&self, census: NodeCounts, index: u64, now: Instant, took: Duration) {
        let next_count_after = now + (PAUSE_FACTOR * took).clamp(PAUSE.0, PAUSE.1);
        *self.0.lock() = Some(CensusRecord { census, index, next_count_after });
    }

    /// The last count.
    pub fn get(&self) -> Option<NodeCounts> {
        self.0.lock().map(|last| last.census)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_store_is_not_counted_all_the_time() {
        let (last, now) = (LastCensus::default(), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        assert!(last.is_due(0, now));
        last.record(NodeCounts { keys: 9, ..NodeCounts::default() }, 7, now, Duration::from_millis(100));
        assert_eq!(last.get().map(|census| census.keys), Some(9));
        assert!(!last.is_due(7, after(100_000)), "nothing has changed");
        assert!(!last.is_due(8, after(4_900)));
        assert!(last.is_due(8, after(5_100)));
        assert!(!last.is_due(8, after(5_200)), "one is counting");
        last.record(NodeCounts::default(), 8, now, Duration::ZERO);
        assert!(!last.is_due(9, after(900)) && last.is_due(9, after(1_100)));
    }

    #[test]
    fn bytes_per_key_are_an_average() {
        let census = NodeCounts { keys: 4, path_bytes: 10, value_bytes: 20, ..NodeCounts::default() };
        let value = |census: &NodeCounts| {
            let families = size_families(census);
            let family = families.iter().find(|family| family.name() == "etcd_rs_store_bytes_per_key");
            family.unwrap().get_metric()[0].get_gauge().get_value()
        };
        assert_eq!(value(&census), 7.5);
        assert_eq!(value(&NodeCounts::default()), 0.0);
    }
}

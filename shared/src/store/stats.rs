//! Counters of requests.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::event::Action;
use crate::json;

/// Counters of requests, as shown by `/v2/stats/store` and kept in snapshots.
///
/// They count as the original does, where some refusals are successes: an update, delete or swap of the
/// root, an update of a directory with a value, and any compare-and-delete of a key that is there.
#[derive(Debug, Default)]
pub struct Stats {
    counters: [AtomicU64; Counter::NAMES.len()],
    reads: [AtomicU64; 2],
    writes: [AtomicU64; Action::ALL.len()],
    expires: AtomicU64,
    watch_requests: AtomicU64,
}

/// One of the counters that snapshots keep; in the order of the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Reads.
    GetSuccess,
    /// Reads that were refused.
    GetFail,
    /// Sets.
    SetSuccess,
    /// Sets that were refused.
    SetFail,
    /// Deletes.
    DeleteSuccess,
    /// Deletes that were refused.
    DeleteFail,
    /// Updates.
    UpdateSuccess,
    /// Updates that were refused.
    UpdateFail,
    /// Creations.
    CreateSuccess,
    /// Creations that were refused.
    CreateFail,
    /// Swaps.
    CompareAndSwapSuccess,
    /// Swaps that were refused.
    CompareAndSwapFail,
    /// Compared deletes.
    CompareAndDeleteSuccess,
    /// Compared deletes that were refused.
    CompareAndDeleteFail,
    /// Expired nodes.
    ExpireCount,
    /// Watchers at the last update.
    Watchers,
}

impl Counter {
    /// The names in the JSON, in the order of the counters.
    pub(crate) const NAMES: [&'static str; 16] = [
        "getsSuccess",
        "getsFail",
        "setsSuccess",
        "setsFail",
        "deleteSuccess",
        "deleteFail",
        "updateSuccess",
        "updateFail",
        "createSuccess",
        "createFail",
        "compareAndSwapSuccess",
        "compareAndSwapFail",
        "compareAndDeleteSuccess",
        "compareAndDeleteFail",
        "expireCount",
        "watchers",
    ];
}

impl Stats {
    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// The number of reads in this process, including refused ones: plain and recursive.
    pub fn reads(&self) -> [u64; 2] {
        array::from_fn(|kind| self.reads[kind].load(Relaxed))
    }

    /// The number of writes of this kind in this process, including refused ones.
    pub fn writes(&self, action: Action) -> u64 {
        self.writes[action as usize].load(Relaxed)
    }

    /// How many nodes expired in this process.
    pub fn expires(&self) -> u64 {
        self.expires.load(Relaxed)
    }

    /// The number of watch requests in this process.
    pub fn watch_requests(&self) -> u64 {
        self.watch_requests.load(Relaxed)
    }

    /// Appends the JSON, without a final newline.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        Counters::of(self).write_json(out);
    }

    pub(crate) fn count_read(&self, recursive: bool, success: bool) {
        self.reads[usize::from(recursive)].fetch_add(1, Relaxed);
        self.add(if success { Counter::GetSuccess } else { Counter::GetFail });
    }

    /// Counts a write that succeeded or failed under one of the two counters.
    pub(crate) fn count_write(&self, action: Action, counter: Counter) {
        self.writes[action as usize].fetch_add(1, Relaxed);
        self.add(counter);
    }

    pub(crate) fn count_expired(&self) {
        self.expires.fetch_add(1, Relaxed);
        self.add(Counter::ExpireCount);
    }

    pub(crate) fn count_watch_request(&self) {
        self.watch_requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_watchers(&self, watchers: u64) {
        self.counters[Counter::Watchers as usize].store(watchers, Relaxed);
    }

    pub(crate) fn set_counters(&self, counters: Counters) {
        for (mine, new) in self.counters.iter().zip(counters.0) {
            mine.store(new, Relaxed);
        }
    }

    fn add(&self, counter: Counter) {
        self.counters[counter as usize].fetch_add(1, Relaxed);
    }
}

/// The counters at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters(pub(crate) [u64; Counter::NAMES.len()]);

impl Counters {
    pub(crate) fn of(stats: &Stats) -> Counters {
        Counters(array::from_fn(|at| stats.counters[at].load(Relaxed)))
    }

    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        for (at, (name, value)) in Counter::NAMES.iter().zip(self.0).enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"" } else { b",\"" });
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            json::write_u64(out, value);
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_original_order() {
        let stats = Stats::default();
        stats.count_write(Action::Set, Counter::SetSuccess);
        stats.count_read(true, false);
        stats.count_expired();
        stats.set_watchers(3);
        let mut json = Vec::new();
        stats.write_json(&mut json);
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"getsSuccess":0,"getsFail":1,"setsSuccess":1,"setsFail":0,"deleteSuccess":0,"deleteFail":0,"updateSuccess":0,"updateFail":0,"createSuccess":0,"createFail":0,"compareAndSwapSuccess":0,"compareAndSwapFail":0,"compareAndDeleteSuccess":0,"compareAndDeleteFail":0,"expireCount":1,"watchers":3}"#
        );
        assert_eq!((stats.reads(), stats.writes(Action::Set), stats.expires()), ([0, 1], 1, 1));
    }
}

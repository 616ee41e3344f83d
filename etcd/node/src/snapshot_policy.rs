//! When a snapshot is taken, and its progress.

use std::time::Duration;

use crate::time::Moment;

/// The pause after a snapshot, in multiples of the time that it took: under a load that reaches the snapshot
/// count many times a second, snapshots would otherwise follow each other without a pause.
const REST_FACTOR: u32 = 20;

/// The longest pause: the log of a large store must not grow without bound while no snapshot is taken.
const REST_MAX: Duration = Duration::from_secs(2);

/// The state of a node's snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotPolicy {
    /// Entries after which the next snapshot is due.
    count: u64,
    /// The index of the last snapshot.
    last: u64,
    /// The index of the snapshot in progress: taken, recorded in the log, or being saved.
    under_way: Option<u64>,
    /// When saving the last snapshot began, and until when the pause after it lasts.
    began: Moment,
    rest_until: Moment,
}

impl SnapshotPolicy {
    /// `last` is the index of the snapshot of the start, 0 for none.
    pub(crate) fn new(count: u64, last: u64, now: Moment) -> SnapshotPolicy {
        SnapshotPolicy { count, last, under_way: None, began: now, rest_until: now }
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.last
    }

    /// Whether more entries than the count were applied since the last snapshot, none is in progress, and the
    /// pause is over.
    pub(crate) fn is_due(&self, applied: u64, now: Moment) -> bool {
        applied.saturating_sub(self.last) > self.count && self.under_way.is_none() && now >= self.rest_until
    }

    /// Whether a lost snapshot can be replaced now: not while one is in progress, which will replace it.
    pub(crate) fn can_replace(&self, applied: u64) -> bool {
        applied > 0 && self.under_way.is_none()
    }

    pub(crate) fn taken(&mut self, index: u64) {
        self.under_way = Some(index);
    }

    /// The log holds the record of the snapshot at `index`. Returns whether it must be saved: not if a received
    /// snapshot has replaced it.
    pub(crate) fn marked(&mut self, index: u64, now: Moment) -> bool {
        self.began = now;
        self.under_way == Some(index)
    }

    pub(crate) fn saved(&mut self, index: u64, now: Moment) {
        self.last = self.last.max(index);
        // A snapshot that a received one replaced may be reported as saved after the next one was taken.
        self.under_way.take_if(|under_way| *under_way == index);
        self.rest_until = now + REST_MAX.min(REST_FACTOR * (now - self.began));
    }

    /// Saving could not begin: the next entry takes another snapshot, and the log keeps what is needed until
    /// then.
    pub(crate) fn given_up(&mut self) {
        self.under_way = None;
    }

    /// A received snapshot is saved. The one in progress is dropped.
    pub(crate) fn installed(&mut self, index: u64) {
        self.last = self.last.max(index);
        self.under_way = None;
    }

    /// The file of the last snapshot is missing or changed.
    pub(crate) fn lost(&mut self, now: Moment) {
        self.last = 0;
        self.rest_until = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Moment {
        Moment::after(Duration::from_millis(ms))
    }

    #[test]
    fn a_snapshot_follows_so_many_entries_and_a_rest() {
        let mut policy = SnapshotPolicy::new(10, 5, at(0));
        assert!(!policy.is_due(15, at(0)));
        assert!(policy.is_due(16, at(0)));
        policy.taken(16);
        assert!(!policy.is_due(100, at(1)));
        assert!(!policy.marked(15, at(1)) && policy.marked(16, at(10)));
        policy.saved(16, at(20));
        assert!(!policy.is_due(100, at(219)), "twenty times as long as it took");
        assert!(policy.is_due(100, at(220)));
        policy.taken(100);
        assert!(policy.marked(100, at(1000)));
        policy.saved(100, at(5000));
        assert!(policy.is_due(200, at(7000)), "and no longer than two seconds");
    }

    #[test]
    fn what_is_told_late_does_not_end_the_next_one() {
        let mut policy = SnapshotPolicy::new(10, 0, at(0));
        policy.taken(11);
        // A received snapshot replaces it, and only then is it reported as saved.
        policy.installed(40);
        policy.taken(51);
        policy.saved(11, at(1));
        assert!(policy.marked(51, at(2)));
        assert_eq!(policy.last_index(), 40);
    }

    #[test]
    fn a_lost_snapshot_is_replaced_at_once_but_not_beside_another() {
        let mut policy = SnapshotPolicy::new(10, 16, at(0));
        policy.saved(16, at(0));
        policy.lost(at(1));
        assert!(policy.can_replace(17));
        assert!(policy.is_due(17, at(1)));
        policy.taken(17);
        policy.lost(at(2));
        assert!(!policy.can_replace(17));
        policy.given_up();
        assert!(policy.can_replace(17));
    }
}

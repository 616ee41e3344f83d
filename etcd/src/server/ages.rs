//! When the store reached which index, to compute the age of the oldest event in the watch history.
//!
//! Events have no time. The member's loop records the store's index a few times a second. The age of an event
//! is that of the first record at or after its index, or a little more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most records. When there are more, every other one is dropped.
const RECORDS_MAX: usize = 512;

/// The time between two records, as a fraction of the time that all of them cover: an age need not be more
/// exact.
const INTERVAL_DIVISOR: u32 = 256;

/// Indexes, and when the store was at them, oldest first.
#[derive(Debug)]
pub(super) struct Ages(VecDeque<(u64, Instant)>);

impl Ages {
    /// For a store at `index`. Earlier events count from now, too.
    pub(super) fn since(index: u64, now: Instant) -> Ages {
        Ages(VecDeque::from([(index, now)]))
    }

    /// Records that the store is at `index`, and its history begins at `oldest`.
    pub(super) fn record(&mut self, index: u64, oldest: u64, now: Instant) {
        // Records before the oldest event are not needed.
        while self.0.front().is_some_and(|(recorded, _)| *recorded < oldest) {
            self.0.pop_front();
        }
        if let (Some((_, first)), Some((last_index, last))) = (self.0.front(), self.0.back())
            && (*last_index == index
                || now.duration_since(*last) < now.duration_since(*first) / INTERVAL_DIVISOR)
        {
            return;
        }
        self.0.push_back((index, now));
        if self.0.len() > RECORDS_MAX {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The least age of the event at `index`; zero if it is newer than the last record, or there is no event.
    pub(super) fn of(&self, index: u64, now: Instant) -> Duration {
        let first = self.0.partition_point(|(recorded, _)| *recorded < index);
        match self.0.get(first) {
            Some((_, recorded)) if index > 0 => now.duration_since(*recorded),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_as_old_as_the_first_note_that_has_it() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut ages = Ages::since(10, start);
        ages.record(20, 1, after(5));
        ages.record(20, 1, after(6));
        ages.record(30, 1, after(9));
        let age = |ages: &Ages, index| ages.of(index, after(100)).as_secs();
        assert_eq!(
            [1, 10, 11, 20, 21, 30, 31, 0].map(|index| age(&ages, index)),
            [100, 100, 95, 95, 91, 91, 0, 0]
        );
        ages.record(40, 25, after(10));
        assert_eq!((age(&ages, 25), ages.0.len()), (91, 2));
        ages.record(41, 25, after(10));
        assert_eq!(age(&ages, 41), 0, "recorded later");
    }

    #[test]
    fn notes_are_bounded_and_ages_stay_about_right() {
        let start = Instant::now();
        let mut ages = Ages::since(0, start);
        for index in 1..=100_000 {
            ages.record(index, 1, start + Duration::from_secs(index));
            assert!(ages.0.len() <= RECORDS_MAX);
        }
        let now = start + Duration::from_secs(100_000);
        let age = ages.of(50_000, now).as_secs();
        assert!((49_000..=50_000).contains(&age), "{age}");
        assert_eq!(ages.of(100_000, now).as_secs(), 0);
    }
}

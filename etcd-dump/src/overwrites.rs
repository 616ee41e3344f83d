//! Which entries of a log still stand, found in one reading and kept in bounded memory.
//!
//! A leader may overwrite what an earlier one left: an entry with the index of an older one takes the place of that
//! one and of all after it. Whether an entry stands is known only when the whole log was read. What must be remembered
//! for it is not the entries but the places where the log was cut back, and of these only the ones whose index is
//! lower than that of every later one.

use std::collections::VecDeque;

/// How many cuts are kept: 16 MiB of them. Logs have one for a change of leader at most; a log made of nothing but cuts
/// is read several times instead.
const OVERWRITES_MAX: usize = 1 << 20;

/// From here on the log goes on as if the entries from an index on had never been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Overwrite {
    /// The number of the record that cuts. Those before it are concerned, not itself.
    at: u64,
    /// Entries of this index and above are gone.
    index: u64,
}

/// The places where a log is cut back.
#[derive(Debug, Clone)]
pub(crate) struct Overwrites {
    /// Their records and their indexes both ascend.
    kept: VecDeque<Overwrite>,
    kept_max: usize,
    /// Only cuts behind this record are looked at.
    from: u64,
    /// Whether there was no room for later ones.
    more: bool,
}

impl Overwrites {
    /// Those behind the record `from`.
    pub(crate) fn new(from: u64) -> Overwrites {
        Overwrites { kept: VecDeque::new(), kept_max: OVERWRITES_MAX, from, more: false }
    }

    /// Takes note that the record `at` replaces the entries from `index` on. Must be called in the order of records.
    pub(crate) fn add(&mut self, at: u64, index: u64) {
        if at <= self.from {
            return;
        }
        while self.kept.back().is_some_and(|cut| cut.index >= index) {
            self.kept.pop_back();
            // What there was no room for has a higher index than all that is kept.
            self.more = false;
        }
        if self.more || self.kept.len() >= self.kept_max {
            self.more = true;
        } else {
            self.kept.push_back(Overwrite { at, index });
        }
    }

    /// The record from which on nothing is known, because there was no room for the cuts behind it; `None` if all is.
    pub(crate) fn known_until(&self) -> Option<u64> {
        self.kept.back().filter(|_| self.more).map(|cut| cut.at)
    }

    /// Whether the entry of this index in the record `at` still stands. Must be asked in the order of records.
    pub(crate) fn is_live(&mut self, at: u64, index: u64) -> bool {
        while self.kept.front().is_some_and(|cut| cut.at <= at) {
            self.kept.pop_front();
        }
        self.kept.front().is_none_or(|cut| index < cut.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands of entries with these indexes, by the rule itself.
    fn standing(log: &[u64]) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        for (at, index) in (0..).zip(log) {
            all.retain(|(_, other)| other < index);
            all.push((at, *index));
        }
        all
    }

    /// The same by [`Overwrites`] that keep at most so many.
    fn found(log: &[u64], kept_max: usize) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        let mut shown = 0;
        loop {
            let mut overwrites = Overwrites { kept_max, ..Overwrites::new(shown) };
            let mut last = 0;
            for (at, index) in (0..).zip(log) {
                if *index <= last {
                    overwrites.add(at, *index);
                }
                last = *index;
            }
            let to = overwrites.known_until();
            for (at, index) in (0..).zip(log) {
                if at >= shown && to.is_none_or(|to| at < to) && overwrites.is_live(at, *index) {
                    all.push((at, *index));
                }
            }
            match to {
                Some(to) => shown = to,
                None => return all,
            }
        }
    }

    #[test]
    fn what_was_overwritten_does_not_stand() {
        let logs: [&[u64]; 8] = [
            &[],
            &[1, 2, 3],
            &[1, 2, 3, 2, 3, 4],
            &[1, 2, 3, 3, 4, 4, 5, 5, 6],
            &[1, 2, 3, 4, 5, 4, 3, 2, 1],
            &[1, 2, 3, 4, 5, 6, 5, 6, 7, 3, 4, 5, 6, 7, 8, 7],
            &[1, 1, 1, 2, 2, 2, 3, 3, 3, 1, 2, 2, 3, 3],
            &[5, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 2, 3, 3, 4, 4, 5, 5],
        ];
        for log in logs {
            for kept_max in [1, 2, 3, 100] {
                assert_eq!(found(log, kept_max), standing(log), "{log:?}, {kept_max} kept");
            }
        }
    }
}

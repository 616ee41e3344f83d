//! Finds the entries of a log that are not overwritten, in one pass and in bounded memory.
//!
//! A leader may overwrite the entries of an earlier one: an entry with the index of an older one replaces that one
//! and all after it. So only a pass over the whole log shows whether an entry is live. It is enough to keep the
//! overwrites instead of the entries, and only those whose index is lower than that of every later overwrite.

use std::collections::VecDeque;

/// How many overwrites are kept (16 MiB). Logs have at most one for each change of leader; a log with more is read
/// several times.
const OVERWRITES_MAX: usize = 1 << 20;

/// A record that overwrites entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Overwrite {
    /// The number of the record that overwrites. Only entries in records before it are overwritten.
    at: u64,
    /// Entries of this index and above are overwritten.
    index: u64,
}

/// The overwrites of a log.
#[derive(Debug, Clone)]
pub(crate) struct Overwrites {
    /// Both their records and their indexes ascend.
    kept: VecDeque<Overwrite>,
    kept_max: usize,
    /// Only overwrites after this record are kept.
    from: u64,
    /// Whether later ones were dropped for lack of room.
    more: bool,
}

impl Overwrites {
    /// Keeps those after the record `from`.
    pub(crate) fn new(from: u64) -> Overwrites {
        Overwrites { kept: VecDeque::new(), kept_max: OVERWRITES_MAX, from, more: false }
    }

    /// Adds that the record `at` replaces the entries from `index` on. Must be called in the order of records.
    pub(crate) fn add(&mut self, at: u64, index: u64) {
        if at <= self.from {
            return;
        }
        while self.kept.back().is_some_and(|cut| cut.index >= index) {
            self.kept.pop_back();
            // The dropped ones have higher indexes than all that are kept, so this one replaces them too.
            self.more = false;
        }
        if self.more || self.kept.len() >= self.kept_max {
            self.more = true;
        } else {
            self.kept.push_back(Overwrite { at, index });
        }
    }

    /// The record after which overwrites were dropped; `None` if all are kept.
    pub(crate) fn known_until(&self) -> Option<u64> {
        self.kept.back().filter(|_| self.more).map(|cut| cut.at)
    }

    /// Whether the entry of this index in the record `at` is not overwritten. Must be called in the order of records.
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

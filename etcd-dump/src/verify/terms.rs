//! The term of every entry, as runs of equal terms.

use std::collections::VecDeque;

/// How many runs are kept (16 MiB), of the newest entries. No cluster has so many elections.
const RUNS_MAX: usize = 1 << 20;

/// The terms of the entries of a log.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// The first index of a run, and its term. Indexes ascend.
    runs: VecDeque<(u64, u64)>,
    last: u64,
}

impl Terms {
    /// Sets the term of the last entry, and removes the entries from this index on. Returns the term of the entry
    /// before it.
    pub(crate) fn set(&mut self, index: u64, term: u64) -> Option<u64> {
        while self.runs.back().is_some_and(|(first, _)| *first >= index) {
            self.runs.pop_back();
        }
        let before = self.runs.back().map(|(_, term)| *term);
        if before != Some(term) {
            self.runs.push_back((index, term));
        }
        if self.runs.len() > RUNS_MAX {
            self.runs.pop_front();
        }
        self.last = index;
        before
    }

    /// Forgets all entries so far.
    pub(crate) fn forget(&mut self) {
        self.runs.clear();
    }

    /// The term of an entry, if it is known.
    pub(crate) fn at(&self, index: u64) -> Option<u64> {
        let runs = self.runs.partition_point(|(first, _)| *first <= index);
        let (_, term) = self.runs.get(runs.checked_sub(1)?)?;
        (index <= self.last).then_some(*term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_its_term() {
        let mut terms = Terms::default();
        for (index, term, before) in [
            (5, 1, None),
            (6, 1, Some(1)),
            (7, 3, Some(1)),
            (8, 3, Some(3)),
            (7, 4, Some(1)),
            (8, 4, Some(4)),
        ] {
            assert_eq!(terms.set(index, term), before, "{index}");
        }
        let all: Vec<_> = (4..10).map(|index| terms.at(index)).collect();
        assert_eq!(all, [None, Some(1), Some(1), Some(4), Some(4), None]);
        terms.forget();
        assert_eq!(terms.at(7), None);
    }
}

//! Which pages are free, as ordered runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Pages that lie one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Run {
    pub(super) fn end(self) -> u64 {
        self.start + self.len
    }
}

/// The pages of a file that its newest state does not use.
///
/// Each call costs the logarithm of the number of runs, a release that of each run.
#[derive(Debug, Default)]
pub(super) struct Free {
    by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
    pages: u64,
    /// Pages that older states may still need, with the first transaction that does not, ascending.
    pending: VecDeque<(u64, Vec<Run>)>,
    pending_pages: u64,
    /// All pages from here on are free.
    end: u64,
}

impl Free {
    /// Nothing is free below `end`.
    pub(super) fn new(end: u64) -> Free {
        Free { end, ..Free::default() }
    }

    /// The end of the last page that is or may be in use.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Pages below the end that the newest state does not use.
    pub(super) fn pages(&self) -> u64 {
        self.pages + self.pending_pages
    }

    /// Takes `len` pages: a single one as far to the front as possible, more from the smallest run that has them, and
    /// new ones at the end if there is none.
    pub(super) fn allocate(&mut self, len: u64) -> Option<Run> {
        let found = if len == 1 {
            self.by_start.first_key_value().map(|(start, len)| Run { start: *start, len: *len })
        } else {
            self.by_len.range((len, 0)..).next().map(|(len, start)| Run { start: *start, len: *len })
        };
        let Some(run) = found else {
            let start = self.end;
            self.end = start.checked_add(len)?;
            return Some(Run { start, len });
        };
        self.remove(run);
        if run.len > len {
            self.insert(Run { start: run.start + len, len: run.len - len });
        }
        Some(Run { start: run.start, len })
    }

    /// Makes pages free at once.
    pub(super) fn release(&mut self, run: Run) {
        let mut run = run;
        if let Some((start, len)) = self.by_start.range(..run.start).next_back() {
            let before = Run { start: *start, len: *len };
            assert!(before.end() <= run.start, "pages from {} on are freed twice", run.start);
            if before.end() == run.start {
                self.remove(before);
                run = Run { start: before.start, len: before.len + run.len };
            }
        }
        if let Some((start, len)) = self.by_start.range(run.start..).next() {
            let after = Run { start: *start, len: *len };
            assert!(run.end() <= after.start, "pages from {} on are freed twice", after.start);
            if run.end() == after.start {
                self.remove(after);
                run.len += after.len;
            }
        }
        assert!(run.end() <= self.end, "pages beyond the end {} are freed: {run:?}", self.end);
        if run.end() == self.end {
            self.end = run.start;
        } else {
            self.insert(run);
        }
    }

    /// Marks pages that states before `txid` may still need.
    pub(super) fn release_later(&mut self, txid: u64, runs: Vec<Run>) {
        if !runs.is_empty() {
            self.pending_pages += runs.iter().map(|run| run.len).sum::<u64>();
            self.pending.push_back((txid, runs));
        }
    }

    /// Makes the pages free that no state from `oldest` on needs.
    pub(super) fn release_before(&mut self, oldest: u64) {
        while let Some((_, runs)) = self.pending.pop_front_if(|(txid, _)| *txid <= oldest) {
            for run in runs {
                self.pending_pages -= run.len;
                self.release(run);
            }
        }
    }

    fn insert(&mut self, run: Run) {
        self.by_start.insert(run.start, run.len);
        self.by_len.insert((run.len, run.start));
        self.pages += run.len;
    }

    fn remove(&mut self, run: Run) {
        self.by_start.remove(&run.start);
        self.by_len.remove(&(run.len, run.start));
        self.pages -= run.len;
    }
}

/// A bit for each page of a file.
#[derive(Debug)]
pub(super) struct PageSet {
    words: Vec<u64>,
    len: u64,
}

impl PageSet {
    /// Without pages, for numbers below `len`, which must be that of pages in a file.
    pub(super) fn new(len: u64) -> PageSet {
        let words = usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX);
        PageSet { words: vec![0; words], len }
    }

    fn place(id: u64) -> (usize, u64) {
        (usize::try_from(id / 64).unwrap_or(usize::MAX), 1 << (id % 64))
    }

    /// Whether it has page `id`.
    pub(super) fn contains(&self, id: u64) -> bool {
        let (word, bit) = PageSet::place(id);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds a page; false if it was there, or is out of bounds.
    pub(super) fn insert(&mut self, id: u64) -> bool {
        let (word, bit) = PageSet::place(id);
        match self.words.get_mut(word) {
            Some(word) if id < self.len && *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// The runs of pages that it lacks, ascending.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Run> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, false)?;
            let end = self.next(start, true).unwrap_or(self.len);
            at = end;
            Some(Run { start, len: end - start })
        })
    }

    /// The first page from `from` on that it has, or lacks.
    fn next(&self, from: u64, has: bool) -> Option<u64> {
        let (mut word, bit) = PageSet::place(from);
        let mut mask = !(bit - 1);
        while let Some(bits) = self.words.get(word) {
            let found = (if has { *bits } else { !*bits }) & mask;
            if found != 0 {
                let id = word as u64 * 64 + u64::from(found.trailing_zeros());
                return (id < self.len).then_some(id);
            }
            mask = u64::MAX;
            word += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, len: u64) -> Run {
        Run { start, len }
    }

    #[test]
    fn runs_are_joined_split_and_cut_off_at_the_end() {
        let mut free = Free::new(100);
        free.release(run(10, 2));
        free.release(run(14, 1));
        free.release(run(12, 2));
        assert_eq!(free.by_start.iter().collect::<Vec<_>>(), [(&10, &5)]);
        free.release(run(50, 3));
        assert_eq!(free.allocate(1), Some(run(10, 1)));
        assert_eq!(free.allocate(3), Some(run(50, 3)), "the smallest that fits");
        assert_eq!(free.allocate(4), Some(run(11, 4)));
        assert_eq!(free.pages(), 0);
        assert_eq!(free.allocate(7), Some(run(100, 7)));
        free.release(run(100, 6));
        assert_eq!(free.end(), 107);
        free.release(run(106, 1));
        assert_eq!((free.end(), free.pages()), (100, 0));
        assert_eq!(free.by_start.len() + free.by_len.len(), 0);
        free.end = u64::MAX - 2;
        assert_eq!(free.allocate(5), None);
    }

    #[test]
    fn pages_wait_until_no_state_needs_them() {
        let mut free = Free::new(100);
        free.release_later(5, vec![run(20, 2), run(30, 1)]);
        free.release_later(7, vec![run(99, 1)]);
        free.release_before(4);
        assert_eq!((free.pages, free.pages()), (0, 4));
        free.release_before(6);
        assert_eq!((free.pages, free.pages(), free.end()), (3, 4, 100));
        free.release_before(7);
        assert_eq!((free.pages, free.pages(), free.end()), (3, 3, 99));
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_page_that_is_freed_twice_is_noticed() {
        let mut free = Free::new(100);
        free.release(run(10, 5));
        free.release(run(12, 1));
    }

    #[test]
    fn a_set_tells_its_gaps() {
        let mut set = PageSet::new(200);
        for id in (0..3).chain(63..130).chain(198..199) {
            assert!(set.insert(id) && !set.insert(id) && set.contains(id));
        }
        assert!(!set.insert(200) && !set.contains(3) && !set.contains(100_000));
        assert_eq!(set.gaps().collect::<Vec<_>>(), [run(3, 60), run(130, 68), run(199, 1)]);
        assert_eq!(PageSet::new(0).gaps().count(), 0);
    }
}

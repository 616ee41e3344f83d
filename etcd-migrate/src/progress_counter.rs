//! Reports the progress of a pass over the log at intervals.

use crate::Progress;

/// Entries between two reports.
const ENTRIES: u64 = 2048;

/// Entries and bytes since the last report.
pub(crate) struct ProgressCounter<'a> {
    progress: &'a mut dyn Progress,
    entries: u64,
    offset: u64,
}

impl<'a> ProgressCounter<'a> {
    pub(crate) fn new(progress: &'a mut dyn Progress) -> ProgressCounter<'a> {
        ProgressCounter { progress, entries: 0, offset: 0 }
    }

    /// Counts an entry; the next one begins at `offset`.
    pub(crate) fn entry(&mut self, offset: u64) {
        self.entries += 1;
        if self.entries >= ENTRIES {
            self.report(offset);
        }
    }

    /// Reports what was counted since the last report.
    pub(crate) fn report(&mut self, offset: u64) {
        self.progress.advance(self.entries, offset.saturating_sub(self.offset));
        (self.entries, self.offset) = (0, offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_told_once() {
        #[derive(Default)]
        struct Sum(u64, u64, u64);

        impl Progress for Sum {
            fn begin(&mut self, _entries: u64, _bytes: u64) {}
            fn advance(&mut self, entries: u64, bytes: u64) {
                *self = Sum(self.0 + entries, self.1 + bytes, self.2 + 1);
            }
            fn end(&mut self) {}
        }

        let mut sum = Sum::default();
        let mut counter = ProgressCounter::new(&mut sum);
        for entry in 1..=5000 {
            counter.entry(entry * 10);
        }
        counter.report(50_000);
        assert_eq!((sum.0, sum.1, sum.2), (5000, 50_000, 3));
    }
}

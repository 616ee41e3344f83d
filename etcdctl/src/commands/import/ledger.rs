//! The result of each node, in the order of the source.
//!
//! Several nodes are written at a time and end in another order than they began. The progress, which is stored for
//! `--resume`, is the part of the source before the first node that is not done yet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many nodes after an unfinished one may be done; then no more are begun.
const DONE_AHEAD_MAX: usize = 4096;

/// The result of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A key is written.
    Key,
    /// A directory is created, or already existed.
    Dir,
    /// It had expired.
    Expired,
    /// It already existed, and existing nodes are kept.
    Kept,
    /// It could not be written.
    Failed,
}

/// The progress of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ImportProgress {
    /// Finished lines; of a snapshot, nodes.
    pub(super) lines: u64,
    /// The byte after them.
    pub(super) offset: u64,
    pub(super) keys: u64,
    pub(super) dirs: u64,
    pub(super) expired: u64,
    pub(super) kept: u64,
    pub(super) failed: u64,
}

impl ImportProgress {
    /// The number of finished nodes.
    pub(super) fn nodes(&self) -> u64 {
        self.keys + self.dirs + self.expired + self.kept + self.failed
    }

    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Key => &mut self.keys,
            Outcome::Dir => &mut self.dirs,
            Outcome::Expired => &mut self.expired,
            Outcome::Kept => &mut self.kept,
            Outcome::Failed => &mut self.failed,
        };
        *counter += 1;
    }
}

/// The position of a node in its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SourcePosition {
    /// Its line, from 1 on; in a snapshot, its number.
    pub(super) line: u64,
    /// The byte after its line.
    pub(super) end: u64,
}

/// The results of one run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    settled: ImportProgress,
    /// By line: the byte after it, and its result if it is done.
    open: BTreeMap<u64, (u64, Option<Outcome>)>,
}

impl Ledger {
    /// Continues from earlier progress.
    pub(super) fn new(settled: ImportProgress) -> Ledger {
        Ledger { settled, open: BTreeMap::new() }
    }

    /// The progress up to the first node that is not done.
    pub(super) fn settled(&self) -> ImportProgress {
        self.settled
    }

    /// Whether to wait before more nodes are begun.
    pub(super) fn is_crowded(&self) -> bool {
        self.open.len() >= DONE_AHEAD_MAX
    }

    /// Records that a node is being written. Must be called in the order of the source.
    pub(super) fn begin(&mut self, position: SourcePosition) {
        self.open.insert(position.line, (position.end, None));
    }

    /// Records the result of a node that was begun.
    pub(super) fn done(&mut self, position: SourcePosition, outcome: Outcome) {
        if let Some((_, is_done)) = self.open.get_mut(&position.line) {
            *is_done = Some(outcome);
        }
        while let Some(first) = self.open.first_entry() {
            let (line, (end, Some(outcome))) = (*first.key(), *first.get()) else { break };
            first.remove();
            self.settled.lines = line;
            self.settled.offset = end;
            self.settled.count(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(line: u64) -> SourcePosition {
        SourcePosition { line, end: line * 10 }
    }

    #[test]
    fn what_is_done_counts_up_to_the_first_that_is_not() {
        let mut ledger =
            Ledger::new(ImportProgress { lines: 4, offset: 40, keys: 4, ..ImportProgress::default() });
        for line in 5..=8 {
            ledger.begin(position(line));
        }
        ledger.done(position(6), Outcome::Failed);
        ledger.done(position(8), Outcome::Key);
        assert_eq!((ledger.settled().lines, ledger.settled().failed), (4, 0));
        ledger.done(position(5), Outcome::Dir);
        let settled = ledger.settled();
        assert_eq!((settled.lines, settled.offset, settled.dirs, settled.failed), (6, 60, 1, 1));
        ledger.done(position(7), Outcome::Expired);
        let settled = ledger.settled();
        assert_eq!((settled.lines, settled.offset, settled.keys, settled.nodes()), (8, 80, 5, 8));
    }

    #[test]
    fn one_slow_node_does_not_let_the_books_grow_for_ever() {
        let mut ledger = Ledger::default();
        ledger.begin(position(1));
        let mut line = 1;
        while !ledger.is_crowded() {
            line += 1;
            ledger.begin(position(line));
            ledger.done(position(line), Outcome::Kept);
        }
        assert!(line <= 5000);
        ledger.done(position(1), Outcome::Key);
        assert!(!ledger.is_crowded());
        assert_eq!(ledger.settled().lines, line);
    }
}

//! The tail of the raft log in memory: for raft, and for slow followers.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use shared::pb;

use super::convert;

/// The entries after a snapshot: raft's storage. They need not be durable yet; the member tells raft separately
/// up to where they are.
#[derive(Debug, Default)]
pub(crate) struct EntryLog {
    /// Index and term of the entry before the first one.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    /// The state with which raft starts. Later states go to the disk only.
    initial: RaftState,
    /// The newest durable snapshot, for followers that are behind `before`.
    newest_snapshot: Option<pb::SnapshotMetadata>,
}

impl EntryLog {
    /// A log that starts after the snapshot at `(index, term)`.
    pub(crate) fn new(
        snapshot: (u64, u64),
        voters: Vec<u64>,
        state: HardState,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Self {
        let conf_state = ConfState { voters, ..ConfState::default() };
        let mut log = EntryLog {
            before: snapshot,
            entries: VecDeque::new(),
            initial: RaftState::new(state, conf_state),
            newest_snapshot: None,
        };
        log.append(entries);
        log
    }

    /// Appends entries; an entry with an existing index replaces it and all later ones.
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            let next = self.last() + 1;
            assert!(entry.index <= next, "gap in the log: last {}, got {}", next - 1, entry.index);
            assert!(entry.index > self.before.0, "entry {} is before the log's start", entry.index);
            if entry.index < next {
                self.entries.truncate(position(entry.index, self.before.0));
            }
            self.entries.push_back(entry);
        }
    }

    /// Drops entries up to and including `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        if index <= self.before.0 {
            return;
        }
        let count = position(index + 1, self.before.0).min(self.entries.len());
        if let Some(last) = self.entries.drain(..count).next_back() {
            self.before = (last.index, last.term);
        }
        self.entries.shrink_to(self.entries.len() * 2);
    }

    /// Drops all entries: a snapshot at `(index, term)` replaces them.
    pub(crate) fn start_after(&mut self, index: u64, term: u64) {
        self.before = (index, term);
        self.entries = VecDeque::new();
    }

    /// Sets the durable snapshot for followers. The log holds all entries after it.
    pub(crate) fn set_newest_snapshot(&mut self, metadata: pb::SnapshotMetadata) {
        // A snapshot that was begun before another was received may be saved after it.
        if self.newest_snapshot.as_ref().is_none_or(|newest| newest.index < metadata.index) {
            self.newest_snapshot = Some(metadata);
        }
    }

    fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }
}

/// The position of entry `index` in a log whose first entry is `before + 1`.
fn position(index: u64, before: u64) -> usize {
    usize::try_from(index - before - 1).unwrap_or(usize::MAX)
}

impl Storage for EntryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} wanted, last is {}", self.last());
        let range = position(low, self.before.0)..position(high, self.before.0);
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            // At least one entry is returned, of any size.
            let first = bytes == 0;
            bytes += entry.data.len() as u64 + ENTRY_HEAD_BYTES;
            first || bytes <= bytes_max
        };
        Ok(self.entries.range(range).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        if index < self.before.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        match self.entries.get(position(index, self.before.0)) {
            Some(entry) => Ok(entry.term),
            None => Err(raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// The metadata only: the data are sent from the file.
    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        let Some(metadata) = &self.newest_snapshot else {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(convert::metadata_to_raft(metadata.clone()));
        Ok(snapshot)
    }
}

/// The most bytes that an entry's type, term and index take, for size limits only.
const ENTRY_HEAD_BYTES: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![0; 100].into(), ..Entry::default() }
    }

    fn log(entries: &[(u64, u64)]) -> EntryLog {
        let entries = entries.iter().map(|(index, term)| entry(*index, *term));
        EntryLog::new((4, 1), vec![1], HardState::default(), entries)
    }

    fn get(log: &EntryLog, low: u64, high: u64, max: Option<u64>) -> Vec<u64> {
        let entries = log.entries(low, high, max, GetEntriesContext::empty(false)).unwrap();
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn a_later_entry_of_the_same_index_cuts_the_rest() {
        let mut log = log(&[(5, 1), (6, 1), (7, 1)]);
        log.append([entry(6, 2)]);
        assert_eq!(log.last_index().unwrap(), 6);
        assert_eq!(log.term(6).unwrap(), 2);
        assert!(log.term(7).is_err());
    }

    #[test]
    fn compaction_keeps_the_term_before_the_first_entry() {
        let mut log = log(&[(5, 1), (6, 2), (7, 2)]);
        log.compact(6);
        assert_eq!((log.first_index().unwrap(), log.term(6).unwrap()), (7, 2));
        assert!(log.term(5).is_err());
        log.compact(3);
        assert_eq!(log.first_index().unwrap(), 7);
        log.compact(7);
        assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (8, 7));
    }

    #[test]
    fn a_size_limit_still_gives_one_entry() {
        let log = log(&[(5, 1), (6, 1), (7, 1)]);
        assert_eq!(get(&log, 5, 8, None), [5, 6, 7]);
        assert_eq!(get(&log, 5, 8, Some(0)), [5]);
        assert_eq!(get(&log, 5, 8, Some(260)), [5, 6]);
        assert!(log.entries(4, 6, None, GetEntriesContext::empty(false)).is_err());
    }
}

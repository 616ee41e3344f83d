//! The readable part of a log: its entries in runs without gaps, its metadata, and its damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::disk::{Disk, DiskError, DiskFile as _, Open};
use shared::pb;
use shared::wal::{self, FileSource, Frames, Record, RecordSpan, SegmentEnd, SegmentName, Survey};

/// No log has more entries; a greater index is damage.
pub(super) const INDEX_MAX: u64 = u64::MAX / 2;

/// All segments of a log.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) segments: Vec<Segment>,
    /// The readable entries, in the order of their indexes. Between two runs entries are missing.
    pub(super) runs: Vec<EntryRun>,
    /// The ids of the member and the cluster, if any head is readable.
    pub(super) metadata: Option<pb::Metadata>,
    /// The highest term and commit index of all states.
    pub(super) state: pb::HardState,
    /// The marks of all snapshots in the log.
    pub(super) marks: Vec<pb::WalSnapshot>,
    /// Whether the log has padded records, which only 3.x writes.
    pub(super) padded: bool,
}

/// A segment, as far as it is readable.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) records: u64,
    /// The lowest and the highest index of an entry in it.
    pub(super) entries: Option<(u64, u64)>,
    pub(super) state: SegmentState,
    /// Whether segments between the one before it and this one are missing.
    pub(super) after_gap: bool,
}

impl Segment {
    /// Whether the head is missing. A segment has a head before it gets its name, so its contents are lost.
    pub(super) fn is_headless(&self) -> bool {
        matches!(&self.state, SegmentState::Surveyed(survey) if survey.damaged_ranges.is_empty())
            && self.records < 2
    }
}

/// The result of reading a segment.
#[derive(Debug)]
pub(super) enum SegmentState {
    Surveyed(Survey),
    /// Not all of its bytes could be read.
    Unreadable(DiskError),
}

/// Consecutive entries.
#[derive(Debug, Clone)]
pub(super) struct EntryRun {
    /// The index of the first.
    pub(super) first: u64,
    /// Not empty.
    pub(super) entries: Vec<EntryLocation>,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryLocation {
    pub(super) term: u64,
    /// An index into [`Log::segments`].
    pub(super) segment: usize,
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Whether a checksum proves that it is as it was written.
    pub(super) proven: bool,
    /// Whether damage comes right before it.
    pub(super) behind_damage: bool,
}

impl EntryRun {
    pub(super) fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    fn last_term(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.term)
    }

    /// The entry of an index.
    pub(super) fn entry(&self, index: u64) -> Option<&EntryLocation> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The entries from an index on.
    pub(super) fn from(&self, index: u64) -> &[EntryLocation] {
        let skip = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.get(skip..).unwrap_or_default()
    }
}

impl Log {
    /// The run with the entry `index`.
    pub(super) fn run_with(&self, index: u64) -> Option<&EntryRun> {
        self.runs.iter().find(|run| run.entry(index).is_some())
    }
}

/// Reads all segments in `dir`.
///
/// # Errors
/// If the folder cannot be listed. The result says what cannot be read of a segment.
pub(super) fn read<D: Disk>(disk: &D, dir: &Path) -> Result<Log, wal::WalError> {
    let mut reader = LogReader::default();
    let mut before: Option<SegmentName> = None;
    // The checksum starts at 0 in the first segment of a log.
    let mut sum = Some(0);
    for name in wal::segments(disk, dir)? {
        let expected = before.map_or(Some(0), |before| before.seq.checked_add(1));
        let after_gap = expected != Some(name.seq);
        if after_gap {
            sum = None;
        }
        sum = reader.segment(disk, dir, name, sum, after_gap && before.is_some());
        before = Some(name);
    }
    Ok(reader.log)
}

/// Whether a server holds the log in `dir`: it locks the segments that it may still need.
pub(super) fn is_in_use<D: Disk>(disk: &D, dir: &Path) -> bool {
    let last = wal::segments(disk, dir).ok().and_then(|names| names.last().copied());
    let locked = last.map(|name| disk.open(&dir.join(name.to_string()), Open::Read)?.lock());
    matches!(locked, Some(Err(error)) if error.is_locked())
}

#[derive(Default)]
struct LogReader {
    log: Log,
    /// Whether there is damage between the last entry and the next one.
    damaged: bool,
    /// Whether a checksum proves the ids.
    metadata_proven: bool,
}

impl LogReader {
    /// Reads a segment; returns the checksum after it.
    fn segment<D: Disk>(
        &mut self,
        disk: &D,
        dir: &Path,
        name: SegmentName,
        sum: Option<u32>,
        after_gap: bool,
    ) -> Option<u32> {
        let path = dir.join(name.to_string());
        let number = self.log.segments.len();
        let (mut bytes, mut records, mut entries) = (0, 0, None);
        let mut expected = 0;
        self.damaged |= after_gap;
        let result = disk.open(&path, Open::Read).and_then(|file| {
            bytes = file.len()?;
            wal::survey(FileSource::new(Arc::new(file))?, sum, Frames::Any, &mut |location, record| {
                records += 1;
                self.damaged |= location.offset != expected || !location.proven;
                expected = location.end;
                if let Record::Entry(entry) = &record {
                    let (low, high) = entries.unwrap_or((entry.index, entry.index));
                    entries = Some((low.min(entry.index), high.max(entry.index)));
                }
                self.record(number, location, record);
            })
        });
        let (sum, state) = match result {
            Ok(survey) => {
                self.log.padded |= survey.padded;
                let whole = survey.end != SegmentEnd::Torn && survey.end_offset == expected;
                self.damaged |= !whole || survey.damaged_ranges.iter().any(|flaw| !flaw.kept);
                (survey.sum.filter(|_| whole), SegmentState::Surveyed(survey))
            }
            Err(error) => {
                self.damaged = true;
                (None, SegmentState::Unreadable(error))
            }
        };
        self.log.segments.push(Segment { path, bytes, records, entries, state, after_gap });
        sum
    }

    fn record(&mut self, segment: usize, location: RecordSpan, record: Record) {
        match record {
            Record::Metadata(metadata) => {
                if self.log.metadata.is_none() || (location.proven && !self.metadata_proven) {
                    self.log.metadata = Some(metadata);
                    self.metadata_proven = location.proven;
                }
            }
            Record::State(state) if location.proven => {
                self.log.state.term = self.log.state.term.max(state.term);
                self.log.state.commit = self.log.state.commit.max(state.commit.min(INDEX_MAX));
            }
            Record::Snapshot(at) => self.mark(at, location.proven),
            Record::Entry(entry) => {
                let location = EntryLocation {
                    term: entry.term,
                    segment,
                    offset: location.offset,
                    end: location.end,
                    proven: location.proven,
                    behind_damage: std::mem::take(&mut self.damaged),
                };
                self.entry(&entry, location);
            }
            Record::State(_) | Record::Crc(_) => {}
        }
    }

    /// A snapshot from a leader replaces the log, unless the log has the snapshot's last entry.
    fn mark(&mut self, at: pb::WalSnapshot, proven: bool) {
        if !proven || at.index > INDEX_MAX {
            return;
        }
        self.log.marks.push(at);
        let other = |entry: &EntryLocation| entry.term != at.term;
        if self.log.run_with(at.index).and_then(|run| run.entry(at.index)).is_some_and(other) {
            self.cut_from(at.index);
        }
    }

    /// Removes the entries from an index on, which later ones replace.
    fn cut_from(&mut self, index: u64) {
        self.log.runs.retain(|run| run.first < index);
        if let Some(run) = self.log.runs.last_mut() {
            run.entries.truncate(usize::try_from(index - run.first).unwrap_or(usize::MAX));
        }
    }

    fn entry(&mut self, entry: &pb::Entry, location: EntryLocation) {
        // Converted 0.4 logs begin with an entry of index 0.
        if entry.index == 0 || entry.index > INDEX_MAX {
            self.damaged |= entry.index > 0;
            return;
        }
        // An unproven entry must not replace proven ones.
        if !location.proven && self.log.runs.last().is_some_and(|run| entry.index <= run.last()) {
            self.damaged = true;
            return;
        }
        self.cut_from(entry.index);
        let is_first_of_term = entry.data.as_ref().is_none_or(|data| data.is_empty());
        match self.log.runs.last_mut() {
            Some(run) if run.last() + 1 == entry.index && follows(run, location, is_first_of_term) => {
                run.entries.push(location);
            }
            _ => self.log.runs.push(EntryRun { first: entry.index, entries: vec![location] }),
        }
    }
}

/// Whether an entry of the next index continues a run.
///
/// After damage it may belong to another history, whose earlier entries are lost: a term begins with an empty entry,
/// so an entry of a new term that is not empty is not the first of its term.
fn follows(run: &EntryRun, location: EntryLocation, is_first_of_term: bool) -> bool {
    let last_term = run.last_term();
    location.term == last_term || location.term > last_term && (!location.behind_damage || is_first_of_term)
}

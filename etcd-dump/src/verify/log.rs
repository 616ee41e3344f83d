//! Checks the segments of a log.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::disk::RealDisk;
use shared::entry::content;
use shared::pb;
use shared::wal::{self, Frames, Record, SegmentEnd, SegmentName, Stream, WalError};

use super::snapshots::GoodSnapshot;
use super::terms::Terms;
use super::{Check, VerifyReport};

/// Reads all segments in a folder, and compares them with the good snapshots, oldest first.
pub(crate) fn check(
    dir: &Path,
    snapshots: &[GoodSnapshot],
    findings: &mut VerifyReport<'_, impl Write>,
) -> Result<()> {
    let names = match wal::segments(&RealDisk, dir) {
        Ok(names) if names.is_empty() => {
            return findings.flaw(Check::Files, dir, None, "there are no segments".to_owned());
        }
        Ok(names) => names,
        Err(error) => return findings.flaw(Check::Files, dir, None, error.to_string()),
    };
    let mut log = LogCheck::new(snapshots, findings);
    for (i, name) in names.iter().enumerate() {
        log.segment(dir, *name, i.checked_sub(1).map(|before| names[before]))?;
    }
    log.check_end(&names)
}

struct LogCheck<'a, 'b, W> {
    findings: &'a mut VerifyReport<'b, W>,
    snapshots: &'a [GoodSnapshot],
    /// For each snapshot, whether the log has a mark of it.
    marked: Vec<bool>,
    /// The segment that is being read, and the offset of the last record in it.
    file: PathBuf,
    offset: u64,
    metadata: Option<pb::Metadata>,
    /// The checksum at the end of the previous segment, if that was read to its end.
    crc: Option<u32>,
    state: pb::HardState,
    /// The first index of the last run of entries without a gap.
    first: Option<u64>,
    /// `None` where the next entry may have any index.
    last: Option<u64>,
    terms: Terms,
    /// Whether the entries end at damage.
    is_lost: bool,
    /// The newest mark.
    mark: pb::WalSnapshot,
    end: SegmentEnd,
}

/// What was counted in a segment.
#[derive(Default)]
struct Counts {
    records: u64,
    entries: u64,
    from: u64,
    to: u64,
}

impl<'a, 'b, W: Write> LogCheck<'a, 'b, W> {
    fn new(snapshots: &'a [GoodSnapshot], findings: &'a mut VerifyReport<'b, W>) -> LogCheck<'a, 'b, W> {
        LogCheck {
            findings,
            snapshots,
            marked: vec![false; snapshots.len()],
            file: PathBuf::new(),
            offset: 0,
            metadata: None,
            crc: Some(0),
            state: pb::HardState::default(),
            first: None,
            last: None,
            terms: Terms::default(),
            is_lost: false,
            mark: pb::WalSnapshot::default(),
            end: SegmentEnd::Clean,
        }
    }

    fn flaw(&mut self, check: Check, flaw: String) -> Result<()> {
        self.findings.flaw(check, &self.file, Some(self.offset), flaw)
    }

    /// Reads the good part of a segment.
    fn segment(&mut self, dir: &Path, name: SegmentName, before: Option<SegmentName>) -> Result<()> {
        self.file = dir.join(name.to_string());
        self.offset = 0;
        self.findings.count_check(Check::Chain);
        match before {
            Some(before) if before.seq.checked_add(1) != Some(name.seq) => {
                self.flaw(Check::Chain, format!("a segment is missing between {before} and this one"))?;
                self.lose_track();
            }
            // The checksum at the head of the first segment cannot be compared if those before it were purged.
            None if name.seq > 0 => self.crc = None,
            _ => {}
        }
        let mut stream = Stream::of(RealDisk, dir, [name], Frames::Any);
        let mut counts = Counts::default();
        let read = loop {
            match stream.next_record() {
                Ok(Some(record)) => {
                    self.offset = stream.offset();
                    self.findings.count_check(Check::Sums);
                    counts.records += 1;
                    self.record(record, &mut counts)?;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let (end, end_offset) = stream.end();
        self.end = end;
        self.crc = Some(stream.crc());
        self.offset = if read.is_ok() { end_offset } else { stream.offset() };
        match read {
            Ok(()) if stream.headless().is_some() => {
                self.offset = 0;
                self.flaw(Check::Files, "the segment holds no record: what was in it is lost".to_owned())?;
                self.lose_track();
            }
            Ok(()) if end == SegmentEnd::Clean => {}
            // 3.x fills its segments with zeros in advance.
            Ok(()) if end == SegmentEnd::Zeros && stream.is_padded() => {}
            Ok(()) => {
                let what = if end == SegmentEnd::Torn { "a part of a record" } else { "zero bytes" };
                self.flaw(Check::Files, format!("the segment ends in {what}"))?;
            }
            Err(WalError::Damaged { damage, .. }) => {
                self.flaw(Check::Sums, damage.to_string())?;
                self.lose_track();
            }
            Err(error) => {
                self.flaw(Check::Files, error.to_string())?;
                self.lose_track();
            }
        }
        let about = [
            ("records", counts.records),
            ("entries", counts.entries),
            ("from", counts.from),
            ("to", counts.to),
            ("bytes", end_offset),
        ];
        self.findings.file("segment", &self.file, &about)
    }

    /// The next record does not continue the records so far.
    fn lose_track(&mut self) {
        self.crc = None;
        self.last = None;
        self.is_lost = true;
        self.terms.forget();
    }

    fn record(&mut self, record: Record, counts: &mut Counts) -> Result<()> {
        match record {
            Record::Crc(sum) => {
                if let Some(wanted) = self.crc.filter(|wanted| *wanted != sum) {
                    let flaw =
                        format!("begins with the sum {sum:08x}, the segment before ends with {wanted:08x}");
                    self.flaw(Check::Chain, flaw)?;
                }
                Ok(())
            }
            Record::Metadata(metadata) => self.metadata(metadata),
            Record::State(state) => self.state(state),
            Record::Snapshot(mark) => self.mark(mark),
            Record::Entry(entry) => {
                counts.entries += 1;
                counts.to = entry.index;
                if counts.entries == 1 {
                    counts.from = entry.index;
                }
                self.entry(&entry)
            }
        }
    }

    fn metadata(&mut self, metadata: pb::Metadata) -> Result<()> {
        self.findings.count_check(Check::Metadata);
        let first = *self.metadata.get_or_insert(metadata);
        if first == metadata {
            return Ok(());
        }
        let flaw = format!(
            "member {:x} of cluster {:x}; the segments before are of member {:x} of cluster {:x}",
            metadata.node_id, metadata.cluster_id, first.node_id, first.cluster_id
        );
        self.flaw(Check::Metadata, flaw)
    }

    fn state(&mut self, state: pb::HardState) -> Result<()> {
        self.findings.count_check(Check::States);
        if state.term < self.state.term {
            let (from, to) = (self.state.term, state.term);
            self.flaw(Check::States, format!("the term of the state falls from {from} to {to}"))?;
        }
        if state.commit < self.state.commit {
            let (from, to) = (self.state.commit, state.commit);
            self.flaw(Check::States, format!("the commit index falls from {from} to {to}"))?;
        }
        self.state = state;
        Ok(())
    }

    fn mark(&mut self, mark: pb::WalSnapshot) -> Result<()> {
        self.findings.count_check(Check::Snapshots);
        for (known, marked) in self.snapshots.iter().zip(&mut self.marked) {
            *marked |= known.at == mark;
        }
        if let Some(term) = self.terms.at(mark.index).filter(|term| *term != mark.term) {
            let pb::WalSnapshot { index, term: wanted } = mark;
            let flaw =
                format!("marks a snapshot at index {index}, term {wanted}; that entry has term {term}");
            self.flaw(Check::Snapshots, flaw)?;
        }
        if mark.index >= self.mark.index {
            self.mark = mark;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &pb::Entry) -> Result<()> {
        let pb::Entry { index, term, .. } = *entry;
        // Converted 0.4 logs begin with an entry of index 0, which does not count.
        if index == 0 && self.first.is_none() {
            return Ok(());
        }
        self.findings.count_check(Check::Indexes);
        match self.last {
            Some(last) if index <= last && index <= self.state.commit => {
                let commit = self.state.commit;
                self.flaw(
                    Check::Indexes,
                    format!("entry {index} comes again, though {commit} was committed"),
                )?;
            }
            Some(last) if index > last + 1 && index != self.mark.index.saturating_add(1) => {
                self.flaw(Check::Indexes, format!("entry {index} follows entry {last}"))?;
                self.terms.forget();
            }
            Some(last) if index > last + 1 => {
                self.first = Some(index);
                self.terms.forget();
            }
            Some(_) => {}
            None => self.first = Some(index),
        }
        if self.first.is_some_and(|first| first > index) {
            self.first = Some(index);
        }
        self.last = Some(index);
        self.is_lost = false;
        self.findings.count_check(Check::Terms);
        if let Some(before) = self.terms.set(index, term).filter(|before| *before > term) {
            self.flaw(Check::Terms, format!("entry {index} has term {term}, the one before it {before}"))?;
        }
        self.findings.count_check(Check::Entries);
        if let Err(error) = content(entry, Frames::Any) {
            self.flaw(Check::Entries, error.to_string())?;
        }
        Ok(())
    }

    /// Checks what depends on the whole log.
    fn check_end(mut self, names: &[SegmentName]) -> Result<()> {
        let newest = self.snapshots.last().map(|known| known.at).unwrap_or_default();
        let last = self.last.unwrap_or(newest.index).max(newest.index);
        let pb::HardState { term, commit, .. } = self.state;
        if commit > last && !self.is_lost {
            let flaw = format!("the state commits entry {commit}, the log ends at {last}");
            self.flaw(Check::States, flaw)?;
        }
        // If the log is torn, the state after the last entry may be lost too.
        let last_term =
            self.last.and_then(|last| self.terms.at(last)).filter(|_| self.end == SegmentEnd::Clean);
        if let Some(last_term) = last_term.filter(|last| *last > term) {
            self.flaw(Check::States, format!("the state has term {term}, the last entry {last_term}"))?;
        }
        if let Some(first) = self.first.filter(|first| *first > newest.index + 1) {
            let missing = format!("entries {} to {} are missing", newest.index + 1, first - 1);
            self.flaw(Check::Indexes, format!("{missing}: no snapshot stands for them"))?;
        }
        self.known(names)?;
        if self.mark.index > newest.index {
            let pb::WalSnapshot { index, term } = self.mark;
            let note = format!(
                "a snapshot was taken at index {index}, term {term} and is not there: an older one has to do"
            );
            self.findings.note(&self.file, note)?;
        }
        Ok(())
    }

    /// Checks that the log has a mark of each snapshot, as far as it goes back.
    fn known(&mut self, names: &[SegmentName]) -> Result<()> {
        let from = names.first().map_or(0, |name| name.index);
        let newest = self.snapshots.len().saturating_sub(1);
        for (i, known) in self.snapshots.iter().enumerate() {
            let must = i == newest || known.at.index >= from;
            if must && !self.marked[i] {
                let flaw = "the log does not know this snapshot".to_owned();
                self.findings.flaw(Check::Snapshots, &known.file, None, flaw)?;
            }
        }
        Ok(())
    }
}

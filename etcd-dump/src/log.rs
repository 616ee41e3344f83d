//! The log of a member of 2.x or 3.x, read twice and never held in memory: once for its outline, once for its
//! entries.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use shared::disk::{Disk, DiskFile, Open, RealDisk};
use shared::pb;
use shared::wal::{self, Damage, Frames, Record, SegmentEnd, SegmentName, Stream, WalError};

use crate::overwrites::Overwrites;
use crate::paths::headless_segment;

/// Which entries of a log to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EntrySelection {
    /// Those after an index, without a gap, as a server reads them.
    After(u64),
    /// All present entries after an index. The log may begin later, and may have a gap where a leader's snapshot
    /// replaced entries.
    Remaining(u64),
}

impl EntrySelection {
    /// Entries up to this index are left out.
    fn floor(self) -> u64 {
        match self {
            EntrySelection::After(index) | EntrySelection::Remaining(index) => index,
        }
    }
}

/// A log, and its outline from the first pass.
pub(crate) struct Log {
    dir: PathBuf,
    segments: Vec<SegmentName>,
    /// What is missing before these segments.
    gap: Option<String>,
    selection: EntrySelection,
    /// The ids of the member and the cluster.
    pub(crate) metadata: Option<pb::Metadata>,
    /// The last hard state; all zero if there is none.
    pub(crate) state: pb::HardState,
    /// The index of the last entry; without entries, that of [`EntrySelection`].
    pub(crate) last: u64,
    /// The damage at which the pass ended.
    pub(crate) damage: Option<WalError>,
    /// How many records are good.
    records: u64,
    overwrites: Overwrites,
    /// Whether the log has the mark of the snapshot that it is to continue.
    is_mark_known: bool,
    end: SegmentEnd,
    end_offset: u64,
    /// Whether the log has padded records, which only 3.x writes.
    is_padded: bool,
    last_file: PathBuf,
    /// The first segment without a head, if there is one.
    headless: Option<PathBuf>,
}

/// An item of a log.
pub(crate) enum LogItem {
    /// An entry that is not overwritten.
    Entry(pb::Entry),
    /// The mark of a snapshot that was taken or received.
    Mark(pb::WalSnapshot),
}

impl Log {
    /// Reads the log in a folder once. If it is damaged, the outline is that of the records before the damage.
    ///
    /// # Errors
    /// If segments that hold the selected entries are missing.
    pub(crate) fn read(dir: &Path, selection: EntrySelection, mark: Option<pb::WalSnapshot>) -> Result<Log> {
        let all = wal::segments(&RealDisk, dir).context("the log cannot be read")?;
        let (segments, gap) = match selection {
            EntrySelection::After(index) => {
                (wal::segments_after(&all, dir, index).context("the log cannot be read")?, None)
            }
            EntrySelection::Remaining(index) => remaining_segments(&all, dir, index)?,
        };
        let mut log = Log {
            dir: dir.to_owned(),
            segments,
            gap,
            selection,
            metadata: None,
            state: pb::HardState::default(),
            last: selection.floor(),
            damage: None,
            records: u64::MAX,
            overwrites: Overwrites::new(0),
            is_mark_known: false,
            end: SegmentEnd::Clean,
            end_offset: 0,
            is_padded: false,
            last_file: dir.to_owned(),
            headless: None,
        };
        log.outline(mark);
        Ok(log)
    }

    fn outline(&mut self, mark: Option<pb::WalSnapshot>) {
        let mut stream = self.stream();
        let mut order = EntryOrder::new(self.selection);
        let mut records = 0;
        let read = loop {
            match stream.next_record() {
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
                Ok(Some(Record::Metadata(metadata))) => self.metadata = Some(metadata),
                Ok(Some(Record::State(state))) => self.state = state,
                Ok(Some(Record::Crc(_))) => {}
                Ok(Some(Record::Snapshot(at))) => {
                    self.is_mark_known |= mark == Some(at);
                    if order.mark(at) {
                        self.overwrites.add(records, 0);
                    }
                }
                Ok(Some(Record::Entry(entry))) => match order.entry(&entry) {
                    Ok(Some(index)) => self.overwrites.add(records, index),
                    Ok(None) => {}
                    Err(damage) => break Err(stream.damaged(damage)),
                },
            }
            records += 1;
        };
        self.records = records;
        self.last = order.last.unwrap_or(self.selection.floor());
        self.damage = read.err();
        (self.end, self.end_offset) = stream.end();
        self.is_padded = stream.is_padded();
        self.last_file = stream.file().to_owned();
        self.headless = stream.headless().map(Path::to_owned);
    }

    fn stream(&self) -> Stream<RealDisk> {
        Stream::of(RealDisk, &self.dir, self.segments.iter().copied(), Frames::Any)
    }

    /// Reads the log again and passes its live items to `each`, in order, until `each` returns an error.
    pub(crate) fn each(&self, mut each: impl FnMut(LogItem) -> Result<()>) -> Result<()> {
        let mut overwrites = self.overwrites.clone();
        let mut from = 0;
        loop {
            let to = overwrites.known_until();
            self.each_of(from, to.unwrap_or(self.records), &mut overwrites, &mut each)?;
            let Some(to) = to else { return Ok(()) };
            from = to;
            overwrites = self.overwrites_from(to)?;
        }
    }

    /// Passes the live items of the records from `from` to before `to` to `each`.
    fn each_of(
        &self,
        from: u64,
        to: u64,
        overwrites: &mut Overwrites,
        each: &mut impl FnMut(LogItem) -> Result<()>,
    ) -> Result<()> {
        let mut stream = self.stream();
        for at in 0..to {
            // The records were good in the first pass, so they are there unless the file was changed.
            let Some(record) = stream.next_record()? else {
                bail!("the log became shorter while it was read")
            };
            match record {
                Record::Entry(entry)
                    if at >= from
                        && entry.index > self.selection.floor()
                        && overwrites.is_live(at, entry.index) =>
                {
                    each(LogItem::Entry(entry))?;
                }
                Record::Snapshot(mark) if at >= from => each(LogItem::Mark(mark))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The overwrites after a record.
    fn overwrites_from(&self, from: u64) -> Result<Overwrites> {
        let mut stream = self.stream();
        let mut order = EntryOrder::new(self.selection);
        let mut overwrites = Overwrites::new(from);
        for at in 0..self.records {
            match stream.next_record()? {
                Some(Record::Snapshot(mark)) if order.mark(mark) => overwrites.add(at, 0),
                Some(Record::Entry(entry)) => {
                    if let Some(index) = order.entry(&entry).map_err(|damage| stream.damaged(damage))? {
                        overwrites.add(at, index);
                    }
                }
                _ => {}
            }
        }
        Ok(overwrites)
    }

    /// Reports what a server would not accept of a log that is to continue the snapshot `mark`.
    pub(crate) fn check(self, mark: Option<pb::WalSnapshot>) -> Result<()> {
        let tail = if self.damage.is_none() { self.tail()? } else { None };
        match tail {
            Some(tail) => bail!(tail),
            None => self.check_whole(mark),
        }
    }

    /// As [`check`](Log::check), except for what a crash leaves at the end of a log, which a server cuts off.
    pub(crate) fn check_whole(self, mark: Option<pb::WalSnapshot>) -> Result<()> {
        if let Some(damage) = self.damage {
            return Err(damage).context("the log is damaged, its entries end here");
        }
        if let Some(gap) = self.gap {
            bail!(gap);
        }
        if self.metadata.is_none() {
            bail!("no metadata found in {}", self.last_file.display());
        }
        if let Some(file) = self.headless {
            bail!(headless_segment(&RealDisk, &file));
        }
        match mark {
            Some(at) if !self.is_mark_known => {
                bail!("the log has no record of the snapshot (index {}, term {})", at.index, at.term)
            }
            _ => Ok(()),
        }
    }

    /// Describes the bytes after the last record, if there are any.
    pub(crate) fn tail(&self) -> Result<Option<String>> {
        let (file, offset) = (self.last_file.display(), self.end_offset);
        Ok(match self.end {
            _ if self.headless.is_some() => None,
            SegmentEnd::Clean => None,
            SegmentEnd::Torn => {
                let len = RealDisk.open(&self.last_file, Open::Read)?.len()?;
                Some(format!("{file} ends in a part of a record, bytes {offset} to {len}"))
            }
            // 3.x fills its segments with zeros in advance.
            SegmentEnd::Zeros if self.is_padded => None,
            SegmentEnd::Zeros => Some(format!("{file} ends in zero bytes, from byte {offset} on")),
        })
    }
}

/// The consecutive segments up to the last one that may hold entries after `index`; and what is missing before them,
/// if there are earlier segments.
fn remaining_segments(
    all: &[SegmentName],
    dir: &Path,
    index: u64,
) -> Result<(Vec<SegmentName>, Option<String>)> {
    let mut first = all.len().saturating_sub(1);
    while first > 0 && all[first].index > index && all[first - 1].seq.checked_add(1) == Some(all[first].seq) {
        first -= 1;
    }
    let Some(name) = all.get(first) else { bail!("there is no log in {}", dir.display()) };
    let before = first.checked_sub(1).filter(|_| name.index > index);
    let gap = before.map(|before| {
        let (before, dir) = (all[before], dir.display());
        format!("a segment is missing between {before} and {name} in {dir}: what is before it was not shown")
    });
    Ok((all[first..].to_vec(), gap))
}

/// Checks the order of entries in a log.
struct EntryOrder {
    selection: EntrySelection,
    /// The index of the last entry. `None` if the next one may have any.
    last: Option<u64>,
    /// The greatest index of a snapshot.
    mark: u64,
    /// The term of the entry right before the first selected one, as far as the log was read.
    term_before: Option<u64>,
}

impl EntryOrder {
    fn new(selection: EntrySelection) -> EntryOrder {
        let mut order = EntryOrder { selection, last: None, mark: 0, term_before: None };
        order.reset();
        order
    }

    /// Records an entry. `Some` if it replaces the entries from this index on.
    fn entry(&mut self, entry: &pb::Entry) -> Result<Option<u64>, Damage> {
        let (index, floor) = (entry.index, self.selection.floor());
        // Converted 0.4 logs begin with an entry of index 0.
        if index <= floor {
            self.reset();
            self.term_before = (index == floor).then_some(entry.term);
            return Ok(Some(0));
        }
        let last = self.last.replace(index);
        match last {
            Some(last) if index <= last => Ok(Some(index)),
            Some(last) if index - 1 > last && !self.may_jump(index) => {
                self.last = Some(last);
                Err(Damage::Gap { last, found: index })
            }
            _ => Ok(None),
        }
    }

    /// Whether the entries before this one may be missing, because a leader's snapshot replaced them.
    fn may_jump(&self, index: u64) -> bool {
        matches!(self.selection, EntrySelection::Remaining(_)) && index - 1 == self.mark
    }

    /// Records the mark of a snapshot; returns whether it replaces all entries so far.
    ///
    /// A snapshot from a leader replaces the whole log, unless the log has the snapshot's last entry. The log of a
    /// backup begins after its snapshot, and has the mark only after its entries.
    fn mark(&mut self, at: pb::WalSnapshot) -> bool {
        self.mark = self.mark.max(at.index);
        let replaces =
            at.index == self.selection.floor() && self.term_before.is_some_and(|term| term != at.term);
        if replaces {
            self.reset();
        }
        replaces
    }

    /// The next records of the log replace all entries so far.
    fn reset(&mut self) {
        self.last = match self.selection {
            EntrySelection::After(index) => Some(index),
            EntrySelection::Remaining(_) => None,
        };
    }
}

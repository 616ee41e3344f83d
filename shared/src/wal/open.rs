//! Reads a log from its segments, and repairs its tail.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::{FileSource, Frame, ReadError};
use super::segment::{self, SegmentName};
use super::writer::{LogTail, Wal};
use super::{Damage, Form, Frames, Options, Reader, Record, SegmentEnd, WalError};
use crate::disk::{Disk, DiskError, DiskFile, Kind, Open, copy, is_full, parent_of, remove_ends_with};
use crate::pb;
use crate::planted::{Bug, is_planted};

/// Bytes written again at once.
const WRITTEN_AGAIN_AT_ONCE: usize = 256 * 1024;

/// How much of the log's end is written again when it is opened. A failed sync loses what was written since the
/// previous one: a batch, which is rarely a hundredth of this.
const WRITTEN_AGAIN_BYTES: u64 = 32 * 1024 * 1024;

/// The contents of a log, from [`Wal::open`].
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// The ids of the member and the cluster.
    pub metadata: pb::Metadata,
    /// The last hard state; all zero if there is none.
    pub state: pb::HardState,
    /// The entries after the snapshot, without gaps and without overwritten ones.
    pub entries: Vec<pb::Entry>,
    /// What was cut off at the end, if anything.
    pub repaired: Option<Repaired>,
}

/// The tail of a log that was cut off when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The segment.
    pub file: PathBuf,
    /// Its length now.
    pub kept_bytes: u64,
    /// How many bytes were cut off.
    pub cut_bytes: u64,
    /// The copy of the segment as it was; `None` if only zeros were cut off.
    pub copy: Option<PathBuf>,
}

/// The contents of a log, from [`inspect`].
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// The ids of the member and the cluster.
    pub metadata: Option<pb::Metadata>,
    /// The last hard state; all zero if there is none.
    pub state: pb::HardState,
    /// The entries after the requested index.
    pub entries: Vec<pb::Entry>,
    /// The marks of snapshots in these segments, in order.
    pub snapshots: Vec<pb::WalSnapshot>,
    /// How the last segment ends.
    pub end: SegmentEnd,
    /// The last segment.
    pub last_file: PathBuf,
    /// Where its last good record ends.
    pub end_offset: u64,
    /// Whether it has padded records, which only 3.x writes, see [`inspect_any`].
    pub padded: bool,
}

/// Whether a log is in `dir`.
///
/// As in etcd 2.x any file name counts, so that a damaged log is not taken for a fresh start; except the temporary
/// name of a first segment whose creation a crash interrupted, and what a fresh file system holds.
pub fn exists<D: Disk>(disk: &D, dir: &Path) -> Result<bool, WalError> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| {
            *name != *format!("{}.tmp", SegmentName { seq: 0, index: 0 }) && name != "lost+found"
        })),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The bytes at the beginning of a segment in which [`is_padded`] looks for padded records.
const PADDED_LOOK_BYTES: usize = 4096;

/// Whether the log in `dir` was written by 3.x, by the first records of its last and first segments: those of 3.x are
/// padded, and a few of them never all have lengths that need none. Damage is not looked for.
///
/// # Errors
/// Those of the disk.
pub fn is_padded<D: Disk>(disk: &D, dir: &Path) -> Result<bool, WalError> {
    let names = segment::list(disk, dir)?;
    for name in names.iter().last().into_iter().chain(names.first()) {
        let file = disk.open(&dir.join(name.to_string()), Open::Read)?;
        let mut start = vec![0; PADDED_LOOK_BYTES];
        let got = file.read_at(0, &mut start)?;
        let mut rest = &start[..got];
        while let Some((length, _)) = rest.split_first_chunk() {
            let Some(frame) = Frame::parse(*length, Frames::Any).filter(|frame| frame.record_len > 0) else {
                break;
            };
            if frame.pad_len > 0 {
                return Ok(true);
            }
            let Some(after) = usize::try_from(frame.len()).ok().and_then(|len| rest.get(len..)) else {
                break;
            };
            rest = after;
        }
    }
    Ok(false)
}

/// Reads a log without locking, repairing or writing anything; entries up to index `after` are left out.
///
/// It may belong to a running server. A torn tail is not an error, but reported in [`Inspected::end`].
pub fn inspect<D: Disk>(disk: &D, dir: &Path, after: u64) -> Result<Inspected, WalError> {
    let (inspected, damage) = inspect_damaged(disk, dir, after)?;
    damage.map_or(Ok(inspected), Err)
}

/// As [`inspect`], but for a damaged log it returns the records before the damage, and the damage.
pub fn inspect_damaged<D: Disk>(
    disk: &D,
    dir: &Path,
    after: u64,
) -> Result<(Inspected, Option<WalError>), WalError> {
    inspect_frames(disk, dir, after, Frames::V2)
}

/// As [`inspect_damaged`], but it reads logs of 3.x too. A server does not open those.
///
/// # Errors
/// If the segments cannot be listed or opened, or none can hold the entry `after`.
pub fn inspect_any<D: Disk>(
    disk: &D,
    dir: &Path,
    after: u64,
) -> Result<(Inspected, Option<WalError>), WalError> {
    inspect_frames(disk, dir, after, Frames::Any)
}

fn inspect_frames<D: Disk>(
    disk: &D,
    dir: &Path,
    after: u64,
    frames: Frames,
) -> Result<(Inspected, Option<WalError>), WalError> {
    let names = segment::select(&segment::list(disk, dir)?, dir, after)?;
    let open = |name: &SegmentName| disk.open(&dir.join(name.to_string()), Open::Read).map(Arc::new);
    let files = names.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut scan = Scan::new(after, frames);
    let damage = scan.read(&files, after).err();
    let inspected = Inspected {
        metadata: scan.metadata,
        state: scan.state,
        entries: scan.entries,
        snapshots: scan.snapshots,
        end: scan.end,
        last_file: files.last().map(|file| file.path().to_owned()).unwrap_or_default(),
        end_offset: scan.end_offset,
        padded: scan.padded,
    };
    Ok((inspected, damage))
}

/// The position of a segment among those that are read.
#[derive(Debug, Clone, Copy)]
struct SegmentPosition {
    is_first: bool,
    is_last: bool,
    name: Option<SegmentName>,
}

fn name_of<F: DiskFile>(file: &F) -> Option<SegmentName> {
    file.path().file_name().and_then(SegmentName::parse)
}

/// The state after reading the records of some segments.
struct Scan {
    metadata: Option<pb::Metadata>,
    /// The term of the entry right before the first requested one, as far as the log was read.
    term_before: Option<u64>,
    state: pb::HardState,
    entries: Vec<pb::Entry>,
    snapshots: Vec<pb::WalSnapshot>,
    /// The greatest index of a snapshot.
    snapshot_index: u64,
    /// The index of the last entry, or of a snapshot beyond it.
    last_index: u64,
    crc: u32,
    end: SegmentEnd,
    end_offset: u64,
    /// The last segment has no complete head, and nothing is in it.
    headless: bool,
    /// The last segment tells the state.
    has_state: bool,
    frames: Frames,
    padded: bool,
}

impl Scan {
    fn new(after: u64, frames: Frames) -> Scan {
        Scan {
            metadata: None,
            term_before: None,
            state: pb::HardState::default(),
            entries: Vec::new(),
            snapshots: Vec::new(),
            snapshot_index: 0,
            last_index: after,
            crc: 0,
            end: SegmentEnd::Clean,
            end_offset: 0,
            headless: false,
            has_state: false,
            frames,
            padded: false,
        }
    }

    /// Reads consecutive segments; after an error the state is that before the bad record.
    fn read<F: DiskFile>(&mut self, files: &[Arc<F>], after: u64) -> Result<(), WalError> {
        for (i, file) in files.iter().enumerate() {
            let reader = Reader::of(FileSource::new(Arc::clone(file))?, self.crc, self.frames);
            let mut reader = reader.following(self.last_index);
            let number =
                SegmentPosition { is_first: i == 0, is_last: i + 1 == files.len(), name: name_of(&**file) };
            let result = self.read_segment(&mut reader, after, number);
            self.padded |= reader.is_padded();
            result.map_err(|(offset, error)| match error {
                ReadError::Disk(error) => WalError::Disk(error),
                ReadError::Damage(damage) => {
                    WalError::Damaged { file: file.path().to_owned(), offset, damage }
                }
            })?;
            self.crc = reader.crc();
            self.end_offset = reader.offset();
        }
        Ok(())
    }

    /// Reads all records of a segment; an error has the offset of the bad one.
    fn read_segment<F: DiskFile>(
        &mut self,
        reader: &mut Reader<FileSource<F>>,
        after: u64,
        position: SegmentPosition,
    ) -> Result<(), (u64, ReadError)> {
        self.has_state = false;
        let mut number = 0u64;
        loop {
            let offset = reader.offset();
            let Some(record) = reader.next_record().map_err(|error| (offset, error))? else { break };
            self.record(number, record, after).map_err(|damage| (offset, damage.into()))?;
            number += 1;
        }
        self.end = reader.end().unwrap_or(SegmentEnd::Clean);
        let offset = reader.offset();
        // Zeros at the end of an earlier segment lose nothing: the next one begins with the checksum over all before
        // it.
        if self.end == SegmentEnd::Torn && !position.is_last {
            return Err((offset, reader.torn_damage().into()));
        }
        if number >= 2 {
            return Ok(());
        }
        // The head is missing. A crash of 2.0 to 2.2 may leave such a segment when it was just begun, without
        // contents. But a segment of only zeros had a head and entries before. If the log has no other segment, its
        // metadata are missing, which is checked later.
        let is_begun = position.name.is_some_and(|name| name.is_after(self.last_index));
        let is_empty = !reader.has_record_after(offset).map_err(|error| (offset, error.into()))?;
        let was_wiped = self.end == SegmentEnd::Zeros && number == 0;
        self.headless = position.is_last && !position.is_first && is_begun && is_empty && !was_wiped;
        let is_only = position.is_first && position.is_last;
        if self.headless || is_only { Ok(()) } else { Err((0, Damage::Head.into())) }
    }

    /// Takes a record over that is the `number`th of its segment.
    fn record(&mut self, number: u64, record: Record, after: u64) -> Result<(), Damage> {
        // The checksum does not cover a record's type. These two are at the head of every segment, in this order, so
        // neither can be taken for another type.
        let good = match number {
            0 => matches!(record, Record::Crc(_)),
            1 => matches!(record, Record::Metadata(_)),
            _ => true,
        };
        if !good {
            return Err(Damage::Head);
        }
        match record {
            Record::Metadata(metadata) => match self.metadata {
                Some(known) if known != metadata => return Err(Damage::MetadataConflict),
                _ => self.metadata = Some(metadata),
            },
            Record::Entry(entry) => self.entry(entry, after)?,
            Record::State(state) => (self.state, self.has_state) = (state, true),
            Record::Crc(_) => {}
            Record::Snapshot(at) => {
                self.snapshot_index = self.snapshot_index.max(at.index);
                self.last_index = self.last_index.max(at.index);
                self.snapshots.push(at);
                // A snapshot from a leader replaced the whole log, unless the log had the snapshot's last entry. The
                // log of a backup begins after its snapshot, and has the mark only after its entries.
                if at.index == after && self.term_before.is_some_and(|term| term != at.term) {
                    self.forget(after);
                }
            }
        }
        Ok(())
    }

    /// Adds an entry; it replaces the entry of the same index and all after it.
    fn entry(&mut self, entry: pb::Entry, after: u64) -> Result<(), Damage> {
        // Converted 0.4 logs begin with an entry of index 0.
        let Some(number) = after.checked_add(1).and_then(|first| entry.index.checked_sub(first)) else {
            self.forget(after);
            self.term_before = (entry.index == after).then_some(entry.term);
            return Ok(());
        };
        let last = after.saturating_add(self.entries.len() as u64);
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if number > self.entries.len() {
            return Err(Damage::Gap { last, found: entry.index });
        }
        self.entries.truncate(number);
        self.last_index = entry.index.max(self.snapshot_index);
        self.entries.push(entry);
        Ok(())
    }

    /// The next records of the log replace all entries so far.
    fn forget(&mut self, after: u64) {
        self.entries.clear();
        self.last_index = after.max(self.snapshot_index);
    }
}

impl<D: Disk> Wal<D> {
    /// Opens the log in `dir` to continue it after the snapshot `at`; `{0, 0}` for its beginning.
    ///
    /// Locks the segments it reads; what they hold is durable on return. What a crash left of a new segment is
    /// removed. What it left at the end is cut off (a torn record is kept in a copy `….wal.broken`), but only when
    /// all before it is good: after an error nothing has been changed.
    pub fn open(disk: D, dir: &Path, at: pb::WalSnapshot) -> Result<(Wal<D>, Recovered), WalError> {
        Wal::open_with(disk, dir, at, Options::default())
    }

    /// As [`Wal::open`], with options. With a form of 3.x, logs of all forms are opened.
    pub fn open_with(
        disk: D,
        dir: &Path,
        at: pb::WalSnapshot,
        options: Options,
    ) -> Result<(Wal<D>, Recovered), WalError> {
        let names = segment::select(&segment::list(&disk, dir)?, dir, at.index)?;
        let mut files = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            let how = if i + 1 == names.len() { Open::Append } else { Open::Read };
            let mut file = disk.open(&dir.join(name.to_string()), how)?;
            file.lock()?;
            files.push(Arc::new(file));
        }
        let mut scan = Scan::new(at.index, options.frames());
        scan.read(&files, at.index)?;
        let held: Vec<_> = names.into_iter().zip(files.into_iter().filter_map(Arc::into_inner)).collect();
        let metadata = scan.check(at, dir, &held)?;
        let found = LogTail {
            metadata,
            state: scan.state,
            snapshot_index: at.index,
            last_index: scan.last_index,
            crc: scan.crc,
            tail_len: scan.end_offset,
        };
        let mut wal = Wal::resume(disk, dir, held, found, options);
        let repaired = if scan.headless {
            Some(wal.begin_last_again(scan.end)?)
        } else {
            wal.repair(scan.end, scan.end_offset)?
        };
        let end_offset = wal.tail_len();
        // A killed process may have written the tail without syncing it, and the reader relies on it. After a failed
        // sync the system may show bytes that it will never write, so they are written again.
        write_again(wal.tail_mut(), end_offset)?;
        wal.tail_mut().sync()?;
        wal.disk().sync_dir(dir)?;
        remove_ends_with(wal.disk(), dir, &[".wal.tmp", ".wal.broken.tmp"])?;
        wal.reserve()?;
        if !scan.has_state && !scan.headless && scan.state != pb::HardState::default() {
            // When the segments before this one are removed, no other record has the term and the vote.
            wal.repeat_state(scan.state)?;
        }
        Ok((wal, Recovered { metadata, state: scan.state, entries: scan.entries, repaired }))
    }

    /// Cuts off the bytes after the last good record.
    fn repair(&mut self, end: SegmentEnd, end_offset: u64) -> Result<Option<Repaired>, WalError> {
        let (disk, form) = (self.disk().clone(), self.form());
        let file = self.tail_mut();
        let path = file.path().to_owned();
        let len = file.len()?;
        // In the forms of 3.x the zeros are the rest of the segment's length.
        if end == SegmentEnd::Clean || end == SegmentEnd::Zeros && form != Form::V2 {
            return Ok(None);
        }
        if end == SegmentEnd::Torn && is_planted(Bug::TornTailKept)
            || end == SegmentEnd::Zeros && is_planted(Bug::ZeroTailKept)
        {
            self.keep_tail(len);
            return Ok(None);
        }
        let copy = match end {
            SegmentEnd::Torn => {
                tracing::info!(target: "wal", "repairing {}", path.display());
                set_aside(&disk, file, end_offset)?
            }
            SegmentEnd::Zeros | SegmentEnd::Clean => None,
        };
        file.truncate(end_offset)?;
        file.sync()?;
        Ok(Some(Repaired { file: path, kept_bytes: end_offset, cut_bytes: len - end_offset, copy }))
    }
}

impl<D: Disk> Wal<D> {
    /// Replaces the last segment, which has no head and no contents, with a correctly begun one.
    fn begin_last_again(&mut self, end: SegmentEnd) -> Result<Repaired, WalError> {
        let disk = self.disk().clone();
        let file = self.tail_mut();
        let (path, len) = (file.path().to_owned(), file.len()?);
        tracing::warn!(
            target: "wal",
            "repairing {}, which has no head: unless a crash left it so, the entries that were in it are lost",
            path.display()
        );
        let copy = if end == SegmentEnd::Torn { set_aside(&disk, file, 0)? } else { None };
        self.replace_tail()?;
        Ok(Repaired { file: path, kept_bytes: self.tail_len(), cut_bytes: len, copy })
    }
}

/// Writes the end of a segment again as it is, so that the next sync makes it durable even if the last one failed.
fn write_again<F: DiskFile>(file: &mut F, end_offset: u64) -> Result<(), DiskError> {
    let mut at = end_offset.saturating_sub(WRITTEN_AGAIN_BYTES);
    let mut buffer = vec![0; WRITTEN_AGAIN_AT_ONCE];
    while at < end_offset {
        let wanted = usize::try_from(end_offset - at).unwrap_or(usize::MAX).min(WRITTEN_AGAIN_AT_ONCE);
        let got = file.read_at(at, &mut buffer[..wanted])?;
        if got == 0 {
            break;
        }
        file.write_at(at, &buffer[..got])?;
        at += got as u64;
    }
    Ok(())
}

impl Scan {
    /// Checks what must hold before the log may be continued.
    fn check<F: DiskFile>(
        &self,
        at: pb::WalSnapshot,
        dir: &Path,
        held: &[(SegmentName, F)],
    ) -> Result<pb::Metadata, WalError> {
        let metadata = self.metadata.ok_or_else(|| WalError::NoMetadata(dir.to_owned()))?;
        if !self.snapshots.contains(&at) {
            return Err(match self.snapshots.iter().find(|known| known.index == at.index) {
                Some(known) => WalError::SnapshotMismatch { wanted: at, log_term: known.term },
                None => WalError::SnapshotNotFound(at),
            });
        }
        let last = at.index.saturating_add(self.entries.len() as u64);
        if self.state.commit > last {
            // etcd 2.0 wrote the state before its entries. It is not known whether those were acknowledged.
            let file = held.last().map(|(_, file)| file.path().to_owned()).unwrap_or_default();
            let (commit, first, offset) = (self.state.commit, at.index, self.end_offset);
            return Err(WalError::CommitBeyondEnd { commit, first, last, file, offset });
        }
        Ok(metadata)
    }
}

/// Keeps a torn segment in a durable copy `….broken`, or `….broken.1` and so on if there are copies already. If there
/// is no space for all of it, keeps only the part from `cut_from` on; `None` if there is no space for that.
fn set_aside<D: Disk>(disk: &D, file: &D::File, cut_from: u64) -> Result<Option<PathBuf>, DiskError> {
    let name = |suffix: &str| {
        let mut path = file.path().as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let mut path = name(".broken");
    for number in 1.. {
        if disk.kind(&path)?.is_none() {
            break;
        }
        // An interrupted start has made it.
        if is_copy(disk, file, &path)? {
            return Ok(Some(path));
        }
        path = name(&format!(".broken.{number}"));
    }
    let temporary = name(".broken.tmp");
    for from in [0, cut_from] {
        let copied = copy(disk, file, from, &temporary)
            .and_then(|()| disk.rename(&temporary, &path))
            .and_then(|()| disk.sync_dir(parent_of(&path)));
        match copied {
            Ok(()) => return Ok(Some(path)),
            Err(error) if is_full(error.kind()) => {
                tracing::warn!(target: "wal", "no room for a copy of {}: {error}", file.path().display());
                // It may not exist.
                let _ = disk.remove(&temporary);
            }
            Err(error) => return Err(error),
        }
    }
    tracing::warn!(target: "wal", "what is cut off of {} is not kept", file.path().display());
    Ok(None)
}

/// Whether a file holds the same bytes as an open one.
fn is_copy<D: Disk>(disk: &D, file: &D::File, path: &Path) -> Result<bool, DiskError> {
    if disk.kind(path)? != Some(Kind::File) {
        return Ok(false);
    }
    let other = disk.open(path, Open::Read)?;
    if other.len()? != file.len()? {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; WRITTEN_AGAIN_AT_ONCE], vec![0; WRITTEN_AGAIN_AT_ONCE]);
    let mut at = 0;
    loop {
        let got = file.read_at(at, &mut ours)?;
        if other.read_at(at, &mut theirs)? != got || ours[..got] != theirs[..got] {
            return Ok(false);
        }
        if got == 0 {
            return Ok(true);
        }
        at += got as u64;
    }
}

//! Appends to a log.

use std::path::{Path, PathBuf};

use super::codec::{Encoder, EntryRef};
use super::segment::SegmentName;
use super::{Form, Frames, WalError, exists};
use crate::disk::{Disk, DiskError, DiskFile, Kind, Open, copy, is_full};
use crate::pb;
use crate::planted::{Bug, is_planted};

/// A segment that has reached this length is closed and the next one begun, as in etcd 2.3.
pub const SEGMENT_BYTES: u64 = 64_000_000;
/// States that only raise the commit index wait in the buffer for the next sync, up to this many bytes.
const UNSYNCED_BYTES_MAX: usize = 64 * 1024;
/// A buffer that a big batch has made larger than this is freed.
const BUFFER_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// How many segments one write checks at their paths, at most: the last one, and in turn those before it that a start
/// needs. There are rarely more than two. A check takes about a microsecond.
const LOOKED_FOR_PER_WRITE_MAX: usize = 64;

/// A log that is open for appending.
///
/// [`Wal::append`] only encodes; [`Wal::sync`] writes and makes durable. Entries count only after the sync: it fails
/// also if the segment is no longer at its path, or was cut off, as the next start would not find the entries.
/// It holds the locks of all segments that may still be needed, see [`Wal::release_before`].
#[derive(Debug)]
pub struct Wal<D: Disk> {
    disk: D,
    dir: PathBuf,
    /// The locked segments, oldest first; the last one is being written. Never empty.
    held: Vec<(SegmentName, D::File)>,
    /// The index of the snapshot that the next start continues from, as far as this log knows.
    snapshot_index: u64,
    /// The older segment that the next write checks first.
    next_looked_for: usize,
    tail_len: u64,
    options: Options,
    encoder: Encoder,
    metadata: pb::Metadata,
    /// The last state encoded.
    state: pb::HardState,
    last_index: u64,
    /// Whether the buffer holds records that must not be lost.
    must_sync: bool,
    failed: bool,
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The form of what is written. It also says which forms are read.
    pub form: Form,
    /// The length at which a segment is closed and the next one begun.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { form: Form::V2, segment_bytes: SEGMENT_BYTES }
    }
}

impl Options {
    /// A log of this form, with segments of the usual length.
    #[must_use]
    pub fn of(form: Form) -> Options {
        Options { form, ..Options::default() }
    }

    pub(super) fn frames(self) -> Frames {
        self.form.frames()
    }
}

/// The end of a log, from which it is continued.
pub(super) struct LogTail {
    pub(super) metadata: pb::Metadata,
    pub(super) state: pb::HardState,
    /// The index of the snapshot after which the log was opened.
    pub(super) snapshot_index: u64,
    /// The index of the last entry, or of a later snapshot.
    pub(super) last_index: u64,
    /// The checksum over all records.
    pub(super) crc: u32,
    /// Where the last good record ends.
    pub(super) tail_len: u64,
}

impl<D: Disk> Wal<D> {
    /// Makes a new log in `dir`, and the folder if it is missing; both are durable on return.
    ///
    /// The first segment gets its name only when it is complete: until then [`exists`] is false.
    pub fn create(disk: D, dir: &Path, metadata: pb::Metadata) -> Result<Wal<D>, WalError> {
        Wal::create_with(disk, dir, metadata, Options::default())
    }

    /// As [`Wal::create`], with options.
    pub fn create_with(
        disk: D,
        dir: &Path,
        metadata: pb::Metadata,
        options: Options,
    ) -> Result<Wal<D>, WalError> {
        if exists(&disk, dir)? {
            return Err(WalError::Exists(dir.to_owned()));
        }
        disk.create_dir_all(dir)?;
        let mut encoder = Encoder::new(0, options.form);
        encoder.crc_record();
        encoder.metadata(&metadata);
        encoder.snapshot(&pb::WalSnapshot::default(), &[]);
        let name = SegmentName { seq: 0, index: 0 };
        let mut file = create_segment(&disk, dir, name, &encoder.buffer)?;
        reserve(&mut file, options)?;
        let tail_len = encoder.buffer.len() as u64;
        encoder.buffer.clear();
        Ok(Wal {
            disk,
            dir: dir.to_owned(),
            held: vec![(name, file)],
            snapshot_index: 0,
            next_looked_for: 0,
            tail_len,
            options,
            encoder,
            metadata,
            state: pb::HardState::default(),
            last_index: 0,
            must_sync: false,
            failed: false,
        })
    }

    /// A log whose segments have been read, to be continued after `found`.
    pub(super) fn resume(
        disk: D,
        dir: &Path,
        held: Vec<(SegmentName, D::File)>,
        found: LogTail,
        options: Options,
    ) -> Wal<D> {
        assert!(!held.is_empty(), "a log without segments");
        Wal {
            disk,
            dir: dir.to_owned(),
            held,
            snapshot_index: found.snapshot_index,
            next_looked_for: 0,
            tail_len: found.tail_len,
            options,
            encoder: Encoder::new(found.crc, options.form),
            metadata: found.metadata,
            state: found.state,
            last_index: found.last_index,
            must_sync: false,
            failed: false,
        }
    }

    /// Sets another length of segments than [`SEGMENT_BYTES`], for simulations.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.options.segment_bytes = bytes;
    }

    /// Continues in another form of 3.x, as the level of the cluster says, which the log tells when it is read.
    pub fn set_form(&mut self, form: Form) {
        self.options.form = form;
        self.encoder.set_form(form);
    }

    /// Makes the next entry the one after `index`: the entries before it are in a snapshot that is marked later.
    pub fn skip_to(&mut self, index: u64) {
        self.last_index = index;
    }

    /// The folder it is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ids of the member and the cluster.
    pub fn metadata(&self) -> pb::Metadata {
        self.metadata
    }

    /// The index of the last entry or snapshot that was appended or read.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Whether a [`Wal::sync`] after `bytes` more bytes begins a segment. That opens files, which may take long.
    pub fn ends_segment_after(&self, bytes: usize) -> bool {
        self.tail_len + (self.encoder.buffer.len() + bytes) as u64 >= self.options.segment_bytes
    }

    /// Encodes entries and then the state. Nothing is written before [`Wal::sync`].
    ///
    /// # Panics
    /// If an entry would leave a gap: such a log could not be read again.
    pub fn append<'a>(&mut self, entries: impl Iterator<Item = EntryRef<'a>>, state: Option<pb::HardState>) {
        for entry in entries {
            let (index, last) = (entry.index, self.last_index);
            assert!(index <= last + 1, "gap in the log: entry {index} after {last}");
            self.encoder.entry(&entry);
            self.last_index = index;
            self.must_sync = true;
        }
        if let Some(state) = state.filter(|state| *state != pb::HardState::default()) {
            self.must_sync |= (state.term, state.vote) != (self.state.term, self.state.vote);
            let state =
                pb::HardState { vote: if is_planted(Bug::VoteNotSaved) { 0 } else { state.vote }, ..state };
            self.encoder.state(&state);
            self.state = state;
        }
    }

    /// Makes everything appended durable, even if it is just a higher commit index.
    pub fn flush(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| if wal.encoder.buffer.is_empty() { Ok(()) } else { wal.write_and_sync() })
    }

    /// Makes what was appended durable, in one write and one sync.
    ///
    /// A higher commit index alone may stay in the buffer: a member that starts without it learns it again. After an
    /// error the log refuses everything else.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            if !wal.must_sync {
                return if wal.encoder.buffer.len() > UNSYNCED_BYTES_MAX { wal.write() } else { Ok(()) };
            }
            wal.write_and_sync()?;
            if wal.tail_len >= wal.options.segment_bytes { wal.cut() } else { Ok(()) }
        })
    }

    /// Writes what was appended without syncing, for a log that counts only when it is complete. Closed segments are
    /// synced.
    pub fn write_out(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.write()?;
            if wal.tail_len < wal.options.segment_bytes {
                return Ok(());
            }
            wal.write_and_sync()?;
            wal.cut()
        })
    }

    /// Marks durably that a snapshot was or is about to be stored, after everything that was appended before.
    pub fn append_snapshot(&mut self, at: pb::WalSnapshot) -> Result<(), WalError> {
        self.append_snapshot_of(at, &[])
    }

    /// As [`Wal::append_snapshot`], with the voters at its index, which the forms before 3.5 leave out.
    pub fn append_snapshot_of(&mut self, at: pb::WalSnapshot, voters: &[u64]) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.encoder.snapshot(&at, voters);
            wal.last_index = wal.last_index.max(at.index);
            wal.write_and_sync()?;
            wal.look_for_all()
        })
    }

    /// Unlocks the segments that cannot hold entries after `index`, so that [`super::purge`] may remove them.
    ///
    /// As in etcd 2.x one segment more than needed stays locked.
    pub fn release_before(&mut self, index: u64) {
        let released = match self.held.iter().position(|(name, _)| name.index >= index) {
            Some(i) => i.saturating_sub(1),
            None => self.held.len() - 1,
        };
        self.held.drain(..released);
        self.snapshot_index = self.snapshot_index.max(index);
    }

    /// Checks that all segments that the next start needs are at their paths. Each sync checks the last one.
    ///
    /// # Errors
    /// If one is not. Then the log refuses everything else.
    pub fn check_in_place(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| wal.look_for_all())
    }

    /// Writes copies of segments that were removed or renamed, under their names: they hold acknowledged entries that
    /// would be lost with this process. Returns the restored ones.
    ///
    /// Nothing is replaced: a segment whose path is in use is left out, and so are all if the folder is missing.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_back(&self) -> Result<Vec<PathBuf>, WalError> {
        let mut written = Vec::new();
        if self.disk.kind(&self.dir)? != Some(Kind::Dir) {
            return Ok(written);
        }
        for (_, file) in &self.held[self.first_needed()..] {
            let path = file.path();
            if self.disk.kind(path)?.is_none() {
                // Not a name that a start removes: until the segment is complete, this is the only copy.
                let mut temporary = path.as_os_str().to_owned();
                temporary.push(".restored");
                let temporary = PathBuf::from(temporary);
                copy(&self.disk, file, 0, &temporary)?;
                self.disk.rename(&temporary, path)?;
                self.disk.sync_dir(&self.dir)?;
                written.push(path.to_owned());
            }
        }
        Ok(written)
    }

    /// Writes the rest of the buffer and closes the log.
    pub fn close(mut self) -> Result<(), WalError> {
        self.guarded(Wal::write_and_sync)
    }

    pub(super) fn form(&self) -> Form {
        self.options.form
    }

    pub(super) fn disk(&self) -> &D {
        &self.disk
    }

    pub(super) fn tail_mut(&mut self) -> &mut D::File {
        let last = self.held.len() - 1;
        &mut self.held[last].1
    }

    /// Continues after `len` bytes of the last segment, whatever they are.
    pub(super) fn keep_tail(&mut self, len: u64) {
        self.tail_len = len;
    }

    /// The length of the last segment.
    pub(super) fn tail_len(&self) -> u64 {
        self.tail_len
    }

    /// Begins the last segment again, replacing its file.
    pub(super) fn replace_tail(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            // The old file's lock is kept until the new one has its own.
            let old = wal.held.pop();
            let result = wal.cut();
            drop(old);
            result
        })
    }

    /// Writes the known state again.
    pub(super) fn repeat_state(&mut self, state: pb::HardState) -> Result<(), WalError> {
        self.encoder.state(&state);
        self.guarded(Wal::write_and_sync)
    }

    /// Reserves space for the segment.
    pub(super) fn reserve(&mut self) -> Result<(), WalError> {
        let options = self.options;
        Ok(reserve(self.tail_mut(), options)?)
    }

    /// Runs `work` unless an earlier one failed; records a failure.
    fn guarded(&mut self, work: impl FnOnce(&mut Wal<D>) -> Result<(), DiskError>) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        let result = work(self);
        self.failed = result.is_err();
        Ok(result?)
    }

    fn write(&mut self) -> Result<(), DiskError> {
        if self.encoder.buffer.is_empty() {
            return Ok(());
        }
        // Before the write, which would hide that the file was cut off. After the sync the check would cost a tenth
        // of a write with one client. A segment that loses its name in between is noticed by the next write, or
        // within a second, and written back.
        self.look_for_some()?;
        let (last, at) = (self.held.len() - 1, self.tail_len);
        self.held[last].1.write_at(at, &self.encoder.buffer)?;
        self.tail_len += self.encoder.buffer.len() as u64;
        self.encoder.buffer.clear();
        self.encoder.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    fn write_and_sync(&mut self) -> Result<(), DiskError> {
        self.write()?;
        if !is_planted(Bug::AckBeforeSync) {
            self.tail_mut().sync()?;
        }
        self.must_sync = false;
        Ok(())
    }

    /// The position of the first segment that a start after the last snapshot reads.
    fn first_needed(&self) -> usize {
        self.held.iter().rposition(|(name, _)| name.index <= self.snapshot_index).unwrap_or(0)
    }

    /// Checks the last segment, and some of those before it.
    fn look_for_some(&mut self) -> Result<(), DiskError> {
        let last = self.held.len() - 1;
        self.held[last].1.check_in_place()?;
        let older = &self.held[self.first_needed()..last];
        for _ in 0..older.len().min(LOOKED_FOR_PER_WRITE_MAX - 1) {
            self.next_looked_for = (self.next_looked_for + 1) % older.len();
            older[self.next_looked_for].1.check_in_place()?;
        }
        Ok(())
    }

    fn look_for_all(&self) -> Result<(), DiskError> {
        self.held[self.first_needed()..].iter().try_for_each(|(_, file)| file.check_in_place())
    }

    /// Begins the next segment. The one before it is complete and synced.
    fn cut(&mut self) -> Result<(), DiskError> {
        self.look_for_all()?;
        if self.options.form != Form::V2 {
            // The segment is closed: the zeros behind its last record go.
            let len = self.tail_len;
            let tail = self.tail_mut();
            tail.truncate(len)?;
            tail.sync()?;
        }
        let (last, _) = self.held[self.held.len() - 1];
        let name = SegmentName { seq: last.seq + 1, index: self.last_index + 1 };
        self.encoder.crc_record();
        self.encoder.metadata(&self.metadata);
        if self.state != pb::HardState::default() {
            self.encoder.state(&self.state);
        }
        let mut file = create_segment(&self.disk, &self.dir, name, &self.encoder.buffer)?;
        reserve(&mut file, self.options)?;
        tracing::info!(target: "wal", "segmented wal file {} is created", file.path().display());
        self.tail_len = self.encoder.buffer.len() as u64;
        self.encoder.buffer.clear();
        self.held.push((name, file));
        Ok(())
    }
}

/// Reserves space for a whole segment, so that a sync need not write where the blocks are. In the forms of 3.x the file
/// has that length, so that a sync need not write the length either. A disk without that much room may still have
/// enough for what comes.
fn reserve<F: DiskFile>(file: &mut F, options: Options) -> Result<(), DiskError> {
    let result = match options.form {
        Form::V2 => file.allocate(SEGMENT_BYTES),
        Form::V3_4 | Form::V3_5 => file.extend(options.segment_bytes).and_then(|()| file.sync()),
    };
    match result {
        Err(error) if is_full(error.kind()) => {
            tracing::warn!(target: "wal", "the log goes on without reserved space: {error}");
            Ok(())
        }
        result => result,
    }
}

/// Makes a segment under a temporary name and gives it its own when `head` is durable in it. It is locked.
fn create_segment<D: Disk>(
    disk: &D,
    dir: &Path,
    name: SegmentName,
    head: &[u8],
) -> Result<D::File, DiskError> {
    let path = dir.join(name.to_string());
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = disk.open(&temporary, Open::Create)?;
    file.append(head)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, &path)?;
    if !is_planted(Bug::NoFolderSync) {
        disk.sync_dir(dir)?;
    }
    let mut file = disk.open(&path, Open::Append)?;
    file.lock()?;
    Ok(file)
}

//! Reads a log record by record without keeping it: a log of any length takes the same memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::{FileSource, ReadError};
use super::segment::{self, SegmentName};
use super::{Damage, Frames, Reader, Record, SegmentEnd, WalError};
use crate::disk::{Disk, Open};
use crate::pb;

/// The number of records at the head of each segment: the checksum and the metadata.
const HEAD_RECORDS: u64 = 2;

/// The segments in a folder, in order. Other names are ignored, with a warning.
///
/// # Errors
/// If the folder cannot be listed.
pub fn segments<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<SegmentName>, WalError> {
    segment::list(disk, dir)
}

/// The last of `names` that may hold the entry after `index`, and all that follow it.
///
/// # Errors
/// [`WalError::FileNotFound`] if there is none, or one of those that follow is missing.
pub fn segments_after(names: &[SegmentName], dir: &Path, index: u64) -> Result<Vec<SegmentName>, WalError> {
    segment::select(names, dir, index)
}

/// The records of consecutive segments.
///
/// Nothing is locked, repaired or written, so the log may belong to a running server. The heads of the segments are
/// checked, and that all belong to one log; the contents of entries are not.
pub struct Stream<D: Disk> {
    disk: D,
    dir: PathBuf,
    frames: Frames,
    /// Whether a padded record was read.
    padded: bool,
    waiting: VecDeque<SegmentName>,
    reader: Option<Reader<FileSource<D::File>>>,
    /// The segment that is being read, or was read last.
    file: PathBuf,
    name: Option<SegmentName>,
    /// The number of records read of it.
    record_number: u64,
    /// Where the last record, or the bad one, begins.
    offset: u64,
    /// The checksum over all segments before this one.
    crc: u32,
    metadata: Option<pb::Metadata>,
    /// The index of the last entry or mark that was read.
    last_index: u64,
    /// Whether a segment was read to its end.
    follows: bool,
    end: SegmentEnd,
    end_offset: u64,
    /// The first segment that ended before its head did.
    headless: Option<PathBuf>,
}

impl<D: Disk> Stream<D> {
    /// A stream of the records in these segments of a folder.
    pub fn new(disk: D, dir: &Path, segments: impl IntoIterator<Item = SegmentName>) -> Stream<D> {
        Stream::of(disk, dir, segments, Frames::V2)
    }

    /// As [`new`](Self::new), for the records of the given releases.
    pub fn of(
        disk: D,
        dir: &Path,
        segments: impl IntoIterator<Item = SegmentName>,
        frames: Frames,
    ) -> Stream<D> {
        Stream {
            disk,
            dir: dir.to_owned(),
            frames,
            padded: false,
            waiting: segments.into_iter().collect(),
            reader: None,
            file: dir.to_owned(),
            name: None,
            record_number: 0,
            offset: 0,
            crc: 0,
            metadata: None,
            last_index: 0,
            follows: false,
            end: SegmentEnd::Clean,
            end_offset: 0,
            headless: None,
        }
    }

    /// The segment that is being read, or was read last.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where the last record begins; after an error, the bad one.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The checksum over all records so far.
    pub fn crc(&self) -> u32 {
        self.reader.as_ref().map_or(self.crc, Reader::crc)
    }

    /// Whether a padded record was read; only 3.x writes these.
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// How the last completely read segment ends, and where its good records end.
    pub fn end(&self) -> (SegmentEnd, u64) {
        (self.end, self.end_offset)
    }

    /// The first segment read so far without a complete head: one of 0 bytes, or of zeros. A segment gets its name
    /// only when its head is synced, so the contents of this one are lost.
    pub fn headless(&self) -> Option<&Path> {
        self.headless.as_deref()
    }

    /// Converts damage of the last record to an error with file and offset.
    pub fn damaged(&self, damage: Damage) -> WalError {
        WalError::Damaged { file: self.file.clone(), offset: self.offset, damage }
    }

    /// The next record; `None` if there are no more. A torn tail of the last segment is not an error, but reported by
    /// [`Stream::end`].
    ///
    /// # Errors
    /// For a segment that cannot be read, or is damaged. After that there are no more records.
    pub fn next_record(&mut self) -> Result<Option<Record>, WalError> {
        let next = self.read();
        if next.is_err() {
            self.waiting.clear();
            self.reader = None;
        }
        next
    }

    fn read(&mut self) -> Result<Option<Record>, WalError> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some(name) = self.waiting.pop_front() else { return Ok(None) };
                self.file = self.dir.join(name.to_string());
                (self.record_number, self.offset) = (0, 0);
                let file = self.disk.open(&self.file, Open::Read)?;
                let reader = Reader::of(FileSource::new(Arc::new(file))?, self.crc, self.frames);
                self.reader = Some(reader.following(self.last_index));
                self.name = Some(name);
                continue;
            };
            self.offset = reader.offset();
            let next = reader.next_record();
            self.padded |= reader.is_padded();
            match next {
                Ok(Some(record)) => {
                    self.check(&record).map_err(|damage| self.damaged(damage))?;
                    self.record_number += 1;
                    match &record {
                        Record::Entry(entry) => self.last_index = entry.index,
                        Record::Snapshot(at) => self.last_index = self.last_index.max(at.index),
                        _ => {}
                    }
                    return Ok(Some(record));
                }
                Ok(None) => {
                    self.end = reader.end().unwrap_or(SegmentEnd::Clean);
                    self.end_offset = reader.offset();
                    self.crc = reader.crc();
                    let torn = reader.torn_damage();
                    let is_empty =
                        self.record_number < HEAD_RECORDS && !reader.has_record_after(self.end_offset)?;
                    self.reader = None;
                    if self.record_number < HEAD_RECORDS {
                        self.headless.get_or_insert_with(|| self.file.clone());
                    }
                    let is_last = self.waiting.is_empty();
                    // Zeros at the end of an earlier segment lose nothing: the next one begins with the checksum over
                    // all before it.
                    if self.end == SegmentEnd::Torn && !is_last {
                        return Err(self.damaged(torn));
                    }
                    let follows = std::mem::replace(&mut self.follows, true);
                    let is_next = self.name.is_some_and(|name| name.is_after(self.last_index));
                    // A crash may leave a segment that was just begun.
                    let was_wiped = self.end == SegmentEnd::Zeros && self.record_number == 0;
                    let was_begun = is_empty && is_last && follows && is_next && !was_wiped;
                    if self.record_number < HEAD_RECORDS && !was_begun {
                        self.offset = 0;
                        return Err(self.damaged(Damage::Head));
                    }
                }
                Err(ReadError::Disk(error)) => return Err(error.into()),
                Err(ReadError::Damage(damage)) => return Err(self.damaged(damage)),
            }
        }
    }

    /// Checks the head of a segment. The checksum does not cover a record's type; these two records are at the head
    /// of every segment, in this order, so neither can be taken for another type.
    fn check(&mut self, record: &Record) -> Result<(), Damage> {
        let good = match self.record_number {
            0 => matches!(record, Record::Crc(_)),
            1 => matches!(record, Record::Metadata(_)),
            _ => true,
        };
        if !good {
            return Err(Damage::Head);
        }
        let Record::Metadata(metadata) = record else { return Ok(()) };
        if *self.metadata.get_or_insert(*metadata) == *metadata {
            Ok(())
        } else {
            Err(Damage::MetadataConflict)
        }
    }
}

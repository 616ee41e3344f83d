//! Decodes the records of one segment from any source of bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::Damage;
use super::codec::{self, LENGTH_BYTES, RawRecord};
use super::torn::TailKind;
use crate::disk::{DiskError, DiskFile};
use crate::pb;

/// Bytes read from a file at once. A kept entry keeps a whole chunk in memory.
const CHUNK_BYTES: usize = 256 * 1024;
/// Enough bytes of a record to decode its type, its checksum and the length of its data.
const START_BYTES: usize = 32;

/// The releases whose records are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// 2.x only: the logs that a server opens.
    V2,
    /// Also 3.x, for tools that only read: its records are padded to a multiple of 8 bytes, and zeros end a segment
    /// whatever follows them. A log may begin with one kind and continue with the other.
    Any,
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The ids of the member and the cluster.
    Metadata(pb::Metadata),
    /// An entry of the raft log.
    Entry(pb::Entry),
    /// The newest hard state.
    State(pb::HardState),
    /// The checksum over all records before this segment.
    Crc(u32),
    /// A snapshot was taken.
    Snapshot(pb::WalSnapshot),
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentEnd {
    /// The last record ends with the file.
    Clean,
    /// Only zero bytes follow.
    Zeros,
    /// A part of one more record follows: its write was interrupted.
    Torn,
}

/// The bytes of a segment.
pub trait SegmentSource {
    /// Their number.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At least `want` bytes from `offset` on, or all bytes up to the end if there are fewer.
    fn window(&mut self, offset: u64, want: usize) -> Result<Bytes, DiskError>;
}

impl SegmentSource for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn window(&mut self, offset: u64, _want: usize) -> Result<Bytes, DiskError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(Bytes::len(self));
        Ok(self.slice(from..))
    }
}

/// A segment that is read in chunks, of 256 KiB or of the size of a record that is larger.
pub struct FileSource<F> {
    file: Arc<F>,
    len: u64,
    chunk: Bytes,
    chunk_offset: u64,
}

impl<F: DiskFile> FileSource<F> {
    /// Reads from `file` up to its present length: later additions are not read.
    ///
    /// # Errors
    /// If its length cannot be read.
    pub fn new(file: Arc<F>) -> Result<FileSource<F>, DiskError> {
        let len = file.len()?;
        Ok(FileSource { file, len, chunk: Bytes::new(), chunk_offset: 0 })
    }
}

impl<F: DiskFile> SegmentSource for FileSource<F> {
    fn len(&self) -> u64 {
        self.len
    }

    fn window(&mut self, offset: u64, want: usize) -> Result<Bytes, DiskError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = want.min(left);
        if let Some(skip) = offset.checked_sub(self.chunk_offset).and_then(|n| usize::try_from(n).ok())
            && skip <= self.chunk.len()
            && self.chunk.len() - skip >= want
        {
            return Ok(self.chunk.slice(skip..));
        }
        let mut chunk = vec![0; want.max(CHUNK_BYTES).min(left)];
        let got = self.file.read_at(offset, &mut chunk)?;
        chunk.truncate(got);
        self.chunk = Bytes::from(chunk);
        self.chunk_offset = offset;
        Ok(self.chunk.clone())
    }
}

/// Why the next record of a segment cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The bytes could not be read.
    Disk(DiskError),
    /// They are damaged; the bad record begins at [`Reader::offset`].
    Damage(Damage),
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> ReadError {
        ReadError::Disk(error)
    }
}

impl From<Damage> for ReadError {
    fn from(damage: Damage) -> ReadError {
        ReadError::Damage(damage)
    }
}

/// Reads the records of one segment in order. Entries borrow their bytes from the source's buffers.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    frames: Frames,
    offset: u64,
    crc: u32,
    padded: bool,
    /// The index of the last entry, in this segment or before it, if known.
    last_index: u64,
    /// The damage of a torn end if other records followed it; for [`SegmentEnd::Torn`] only.
    torn: Damage,
    end: Option<SegmentEnd>,
}

impl<S: SegmentSource> Reader<S> {
    /// A reader that begins with the checksum `crc` of the previous segment; 0 for the first segment that is read.
    pub fn new(source: S, crc: u32) -> Reader<S> {
        Reader::of(source, crc, Frames::V2)
    }

    /// As [`new`](Self::new), for the records of the given releases.
    pub fn of(source: S, crc: u32, frames: Frames) -> Reader<S> {
        let torn = Damage::UnexpectedEof;
        Reader { source, frames, offset: 0, crc, padded: false, last_index: 0, torn, end: None }
    }

    /// Sets the index of the last entry before this segment. It decides about a torn tail: a state after it that
    /// commits later entries shows that it is damage instead.
    #[must_use]
    pub fn following(mut self, last_index: u64) -> Reader<S> {
        self.last_index = last_index;
        self
    }

    /// The index of the last entry in this segment or before it.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The damage of a torn segment that is not the last one.
    pub fn torn_damage(&self) -> Damage {
        self.torn.clone()
    }

    /// Whether a padded record was read; only 3.x writes these.
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// Where the next record begins; after an error, the bad one; at the end, where the good ones end.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The source of its bytes.
    pub(super) fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// Continues at another offset, where the checksum is `crc`.
    pub(super) fn seek(&mut self, offset: u64, crc: u32) {
        (self.offset, self.crc, self.end) = (offset, crc, None);
    }

    /// The checksum over all records so far.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// How the records end; `None` until [`Reader::next_record`] has returned `None`.
    pub fn end(&self) -> Option<SegmentEnd> {
        self.end
    }

    /// The next record, `None` when there are no more.
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let left = self.source.len() - self.offset;
        if left == 0 {
            return Ok(self.ends(SegmentEnd::Clean));
        }
        let start = self.source.window(self.offset, LENGTH_BYTES + START_BYTES)?;
        let Some((length, start)) = start.split_first_chunk::<LENGTH_BYTES>() else {
            let zeros = start.iter().all(|b| *b == 0);
            return Ok(self.ends(if zeros { SegmentEnd::Zeros } else { SegmentEnd::Torn }));
        };
        let claimed = i64::from_le_bytes(*length);
        let frame = Frame::parse(*length, self.frames);
        if frame.is_some_and(|frame| frame.record_len == 0 && frame.pad_len == 0) {
            match self.last_nonzero(self.offset)? {
                None => return Ok(self.ends(SegmentEnd::Zeros)),
                // 3.x fills its segments with zeros in advance, and an interrupted write may have begun after some.
                Some(_) if self.padded => return Ok(self.ends(SegmentEnd::Torn)),
                Some(_) => {}
            }
        }
        let room = left - LENGTH_BYTES as u64;
        let record_at =
            frame.filter(|frame| frame.record_len > 0 && frame.record_len + frame.pad_len <= room);
        let damage = match record_at {
            Some(frame) => {
                let record_size = usize::try_from(frame.record_len).unwrap_or(usize::MAX);
                match self.decode(record_size)? {
                    Ok((record, crc)) => {
                        self.crc = crc;
                        self.padded |= frame.pad_len > 0;
                        self.offset += frame.len();
                        if let Record::Entry(entry) = &record {
                            self.last_index = entry.index;
                        }
                        return Ok(Some(record));
                    }
                    Err(damage) => damage,
                }
            }
            None => Damage::Length(frame.map_or(claimed, |frame| frame.record_len.cast_signed())),
        };
        // No torn write of 2.x looks like this: from here on 3.x has written.
        if frame.is_none() && damage.is_padded_record() {
            return Err(damage.into());
        }
        let start = &start[..start.len().min(START_BYTES)];
        let start = Bytes::copy_from_slice(start);
        match self.tail_kind(frame, &start)? {
            TailKind::None => Err(damage.into()),
            TailKind::CutOff => Ok(self.ends(SegmentEnd::Torn)),
            TailKind::Lost => {
                self.torn = damage;
                Ok(self.ends(SegmentEnd::Torn))
            }
        }
    }

    fn ends(&mut self, end: SegmentEnd) -> Option<Record> {
        self.end = Some(end);
        None
    }

    /// Decodes the record at the offset, which is complete; returns it with the checksum after it.
    fn decode(&mut self, size: usize) -> Result<Result<(Record, u32), Damage>, DiskError> {
        let window = self.source.window(self.offset, LENGTH_BYTES + size)?;
        if window.len() < LENGTH_BYTES + size {
            // The file became shorter while it was read.
            return Ok(Err(Damage::UnexpectedEof));
        }
        Ok(decode_record(window.slice(LENGTH_BYTES..LENGTH_BYTES + size), self.crc, self.frames))
    }

    /// The offset of the last non-zero byte from `from` on.
    pub(super) fn last_nonzero(&mut self, from: u64) -> Result<Option<u64>, DiskError> {
        let mut last = None;
        let mut at = from;
        while at < self.source.len() {
            let window = self.source.window(at, CHUNK_BYTES)?;
            if window.is_empty() {
                break;
            }
            if let Some(i) = window.iter().rposition(|b| *b != 0) {
                last = Some(at + i as u64);
            }
            at += window.len() as u64;
        }
        Ok(last)
    }
}

/// The length field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) record_len: u64,
    /// Zeros after the record.
    pub(super) pad_len: u64,
}

impl Frame {
    /// `None` for an impossible length. 3.x marks a padded record in the top byte: the highest bit, and the length of
    /// the padding in the lowest three bits.
    pub(super) fn parse(length: [u8; LENGTH_BYTES], frames: Frames) -> Option<Frame> {
        let top = length[LENGTH_BYTES - 1];
        let value = u64::from_le_bytes(length);
        if top & 0x80 == 0 {
            return Some(Frame { record_len: value, pad_len: 0 });
        }
        let pad_len = u64::from(top & 0x07);
        let good = frames == Frames::Any && top & 0x78 == 0 && pad_len > 0;
        good.then_some(Frame { record_len: value & (u64::MAX >> 8), pad_len })
    }

    /// The length of the whole record, including the length field.
    pub(super) fn len(self) -> u64 {
        LENGTH_BYTES as u64 + self.record_len + self.pad_len
    }
}

/// Decodes a record; `crc` is the checksum before it. Returns it with the checksum after it.
pub(super) fn decode_record(bytes: Bytes, crc: u32, frames: Frames) -> Result<(Record, u32), Damage> {
    let raw: RawRecord = codec::message(bytes, "record")?;
    if raw.kind == codec::CRC {
        return match crc {
            _ if raw.data.is_some() => Err(Damage::Encoding("record")),
            // The first record that is read: it has the checksum to begin with.
            0 => Ok((Record::Crc(raw.crc), raw.crc)),
            crc if crc == raw.crc => Ok((Record::Crc(raw.crc), raw.crc)),
            _ => Err(Damage::ChainCrc),
        };
    }
    let data = raw.data.unwrap_or_default();
    let crc = crc32c::crc32c_append(crc, &data);
    if crc != raw.crc {
        return Err(Damage::RecordCrc);
    }
    let record = typed(raw.kind, data, frames)?;
    Ok((record, crc))
}

/// Decodes the data of a record by its type.
pub(super) fn typed(kind: i64, data: Bytes, frames: Frames) -> Result<Record, Damage> {
    Ok(match kind {
        codec::METADATA => Record::Metadata(codec::message(data, "metadata")?),
        codec::ENTRY => Record::Entry(codec::entry(data, frames)?),
        codec::STATE => Record::State(codec::state(data)?),
        codec::SNAPSHOT => Record::Snapshot(codec::snapshot(data, frames)?),
        kind => return Err(Damage::BlockType(kind)),
    })
}

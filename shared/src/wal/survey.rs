//! Finds the readable records of a segment, also after damage.
//!
//! The checksum chains through all records, so a record is good if it fits the checksum before it. After a damaged
//! record the checksum stored in it (or computed from its data) shows whether the next one is good. If the length of
//! a record is damaged, the next record is searched byte by byte: it is one that is followed by a fitting record or
//! ends the file.

use prost::Message as _;

use super::codec::{self, LENGTH_BYTES, RawRecord};
use super::reader::{decode_record, typed};
use super::search::CompleteRecord;
use super::{Damage, Frames, ReadError, Reader, Record, SegmentEnd, SegmentSource};
use crate::disk::DiskError;
use crate::pb;

/// The position of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    /// The offset of its first byte, that of its length, in the segment.
    pub offset: u64,
    /// The offset of the first byte after it.
    pub end: u64,
    /// Whether a checksum proves that it is as it was written. If not, it is at least a message of its type.
    pub proven: bool,
}

/// A damaged range of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// Where it begins.
    pub from: u64,
    /// The first readable byte after it, or the end of the file.
    pub to: u64,
    /// What is wrong with its first byte.
    pub damage: Damage,
    /// Whether the record there could be read nevertheless: its length, its checksum or its type was damaged, and the
    /// other fields determine it.
    pub kept: bool,
}

/// The result of surveying a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The damaged ranges, in order. A torn end does not count.
    pub damaged_ranges: Vec<DamagedRange>,
    /// How it ends after its last record.
    pub end: SegmentEnd,
    /// Where its last record ends.
    pub end_offset: u64,
    /// The checksum after its last record; `None` if not known.
    pub sum: Option<u32>,
    /// Whether a padded record was read; only 3.x writes these.
    pub padded: bool,
}

/// Passes all readable records of a segment to `found`, in order.
///
/// `sum` is the checksum of the previous segment: 0 for the first segment of a log, `None` if not known.
///
/// # Errors
/// If the bytes cannot be read.
pub fn survey<S: SegmentSource>(
    source: S,
    sum: Option<u32>,
    frames: Frames,
    found: &mut dyn FnMut(RecordSpan, Record),
) -> Result<Survey, DiskError> {
    let reader = Reader::of(source, 0, frames);
    let mut surveyor = Surveyor { reader, frames, at: 0, sum, count: 0, found, damaged_ranges: Vec::new() };
    let end = surveyor.run()?;
    let Surveyor { reader, at, sum, damaged_ranges, .. } = surveyor;
    Ok(Survey { damaged_ranges, end, end_offset: at, sum, padded: reader.is_padded() })
}

/// Reads the entry of a record again that [`survey`] has passed to `found`; `None` if it is not there any more.
///
/// # Errors
/// If the bytes cannot be read.
pub fn entry_at<S: SegmentSource>(
    source: &mut S,
    offset: u64,
    end: u64,
    frames: Frames,
) -> Result<Option<pb::Entry>, DiskError> {
    let size = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
    let window = source.window(offset, size)?;
    if window.len() < size || size < LENGTH_BYTES {
        return Ok(None);
    }
    // The length may be damaged, so the length of the padding is not known. A wrong one does not give a valid record.
    let entry = pads(frames).filter_map(|pad| size.checked_sub(pad)).find_map(|end| {
        let record = window.slice(LENGTH_BYTES.min(end)..end);
        let data = RawRecord::decode(record).ok()?.data?;
        codec::entry(data, frames).ok()
    });
    Ok(entry)
}

/// The possible lengths of the padding.
fn pads(frames: Frames) -> std::ops::Range<usize> {
    match frames {
        Frames::V2 => 0..1,
        Frames::Any => 0..8,
    }
}

struct Surveyor<'a, S> {
    reader: Reader<S>,
    frames: Frames,
    /// The offset after all records so far.
    at: u64,
    /// The checksum at that offset, if known.
    sum: Option<u32>,
    /// The number of records so far, readable or not.
    count: u64,
    found: &'a mut dyn FnMut(RecordSpan, Record),
    damaged_ranges: Vec<DamagedRange>,
}

impl<S: SegmentSource> Surveyor<'_, S> {
    fn run(&mut self) -> Result<SegmentEnd, DiskError> {
        loop {
            let damage = match self.next() {
                Ok(Some((record, end, sum))) => {
                    self.give(record, end, sum, self.sum.is_some());
                    continue;
                }
                Ok(None) => match self.reader.end().unwrap_or(SegmentEnd::Clean) {
                    // Usually nothing follows. But a damaged length may point behind the end.
                    SegmentEnd::Torn => match self.reader.find_record(self.frames, self.at + 1)? {
                        Some(_) => Damage::UnexpectedEof,
                        None => return Ok(SegmentEnd::Torn),
                    },
                    end => return Ok(end),
                },
                Err(ReadError::Disk(error)) => return Err(error),
                Err(ReadError::Damage(damage)) => damage,
            };
            if !self.recover(damage)? {
                return Ok(SegmentEnd::Clean);
            }
        }
    }

    /// The record at the present offset, its end and the checksum after it.
    fn next(&mut self) -> Result<Option<(Record, u64, u32)>, ReadError> {
        self.reader.seek(self.at, self.sum.unwrap_or(0));
        if self.sum.is_none()
            && let Some(record_at) = self.reader.record_at(self.frames, self.at)?
            && record_at.raw.kind != codec::CRC
        {
            // The previous checksum is unknown: trust the one in this record.
            let record = self.check_position(typed(record_at.raw.kind, record_at.data(), self.frames)?)?;
            return Ok(Some((record, record_at.end, record_at.raw.crc)));
        }
        let Some(record) = self.reader.next_record()? else { return Ok(None) };
        Ok(Some((self.check_position(record)?, self.reader.offset(), self.reader.crc())))
    }

    /// Checks that a record is at a possible position. The checksum does not cover the type, and messages of
    /// different types look alike: only the first record has the checksum, and only the second the ids.
    fn check_position(&self, record: Record) -> Result<Record, Damage> {
        let wanted = match &record {
            // After a gap the number of this record is not known.
            _ if self.sum.is_none() => true,
            Record::Crc(_) => self.count == 0,
            Record::Metadata(_) => self.count == 1,
            _ => self.count > 1,
        };
        if wanted { Ok(record) } else { Err(Damage::Head) }
    }

    fn give(&mut self, record: Record, end: u64, sum: u32, proven: bool) {
        let place = RecordSpan { offset: self.at, end, proven };
        self.pass(end, Some(sum));
        (self.found)(place, record);
    }

    fn pass(&mut self, end: u64, sum: Option<u32>) {
        (self.at, self.sum) = (end, sum);
        self.count += 1;
    }

    /// Continues after a bad record. False if nothing readable follows.
    fn recover(&mut self, damage: Damage) -> Result<bool, DiskError> {
        let from = self.at;
        let Some(record_at) = self.reader.record_at(self.frames, from)? else { return self.search(damage) };
        let own = self.sum.map(|sum| record_at.sum_after(sum));
        let fits = own == Some(record_at.raw.crc);
        let proven = match own {
            Some(own) => fits || self.reader.fits(self.frames, record_at.end, own)?,
            None => false,
        };
        if let Some(own) = own.filter(|_| proven)
            && let Some(record) = self.read_as_other_type(&record_at)
        {
            // Its checksum or its type is damaged, but not its data.
            self.damaged_ranges.push(DamagedRange { from, to: record_at.end, damage, kept: true });
            self.give(record, record_at.end, own, true);
            return Ok(true);
        }
        if self.reader.record_at(self.frames, record_at.end)?.is_none() {
            return self.search(damage);
        }
        // The checksum in it shows whether the next one is good.
        self.damaged_ranges.push(DamagedRange { from, to: record_at.end, damage, kept: false });
        self.pass(
            record_at.end,
            Some(if proven { own.unwrap_or(record_at.raw.crc) } else { record_at.raw.crc }),
        );
        Ok(true)
    }

    /// Searches for the next record, when the length of this one is wrong.
    fn search(&mut self, damage: Damage) -> Result<bool, DiskError> {
        let from = self.at;
        let Some(next) = self.reader.find_record(self.frames, from + 1)? else {
            let to = self.reader.source().len();
            self.damaged_ranges.push(DamagedRange { from, to, damage, kept: false });
            // Without another record, the rest of the file is not a part of the log.
            return Ok(false);
        };
        // If only its length was damaged, the record fills the space up to the next one.
        let kept = match self.sum {
            Some(sum) => self.between(from, next, sum)?,
            None => None,
        };
        self.damaged_ranges.push(DamagedRange { from, to: next, damage, kept: kept.is_some() });
        match kept {
            Some((record, sum)) => self.give(record, next, sum, true),
            None => {
                self.pass(next, None);
                self.count = self.count.max(2);
            }
        }
        Ok(true)
    }

    /// The record that fills the space between two offsets, if there is one.
    fn between(&mut self, from: u64, next: u64, sum: u32) -> Result<Option<(Record, u32)>, DiskError> {
        let Some(space) = (next - from).checked_sub(LENGTH_BYTES as u64) else { return Ok(None) };
        let Ok(space) = usize::try_from(space) else { return Ok(None) };
        let window = self.reader.source().window(from, LENGTH_BYTES + space)?;
        for size in pads(self.frames).filter_map(|pad| space.checked_sub(pad)) {
            let Some(record) = window.get(LENGTH_BYTES..LENGTH_BYTES + size) else { break };
            let record = decode_record(window.slice_ref(record), sum, self.frames);
            if let Ok((record, sum)) = record
                && let Ok(record) = self.check_position(record)
            {
                return Ok(Some((record, sum)));
            }
        }
        Ok(None)
    }

    /// Decodes a record whose data are proven, but perhaps not its type.
    fn read_as_other_type(&self, record_at: &CompleteRecord) -> Option<Record> {
        if self.count == 0 && record_at.raw.data.is_none() {
            return Some(Record::Crc(record_at.raw.crc));
        }
        let as_it_says = typed(record_at.raw.kind, record_at.data(), self.frames)
            .and_then(|record| self.check_position(record));
        as_it_says.ok().or_else(|| match self.count {
            1 => codec::message(record_at.data(), "metadata").ok().map(Record::Metadata),
            // No other message has as many fields as an entry with data.
            _ => codec::entry(record_at.data(), self.frames)
                .ok()
                .filter(|entry| entry.data.is_some())
                .map(Record::Entry),
        })
    }
}

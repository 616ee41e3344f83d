//! Finds what is readable of a segment, also behind damage.
//!
//! The sum runs through all records, so a record is good if it fits the sum before it. Behind a damaged record the sum
//! that stands in it (or that its data give) tells whether the next one is good. Where the length of a record is
//! damaged, the next record is searched byte by byte: it is one that another fits behind, or that ends the file.

use prost::Message as _;

use super::codec::{self, LENGTH_BYTES, RawRecord};
use super::reader::{decode_record, typed};
use super::search::CompleteRecord;
use super::{Damage, Frames, ReadError, Reader, Record, SegmentEnd, SegmentSource};
use crate::disk::DiskError;
use crate::pb;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    /// Its first byte, that of its length, in the segment.
    pub offset: u64,
    /// The first byte behind it.
    pub end: u64,
    /// Whether a sum proves that it is as it was written. If not, it is at least a message of its type.
    pub proven: bool,
}

/// Bytes of a segment that are damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// Where they begin.
    pub from: u64,
    /// The first readable byte behind them, or the end of the file.
    pub to: u64,
    /// What is wrong with the first of them.
    pub damage: Damage,
    /// Whether the record there could be read all the same: its length, its sum or its type was damaged, and the
    /// others tell what it was.
    pub kept: bool,
}

/// What was found in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The damaged places, in their order. A torn end is none.
    pub damaged_ranges: Vec<DamagedRange>,
    /// How it ends behind its last record.
    pub end: SegmentEnd,
    /// Where its last record ends.
    pub end_offset: u64,
    /// The sum behind its last record; `None` if that is not known.
    pub sum: Option<u32>,
    /// Whether a padded record has come: only 3.x writes such.
    pub padded: bool,
}

/// Hands all readable records of a segment to `found`, in their order.
///
/// `sum` is that of the segment before: 0 for the first segment of a log, `None` if it is not known.
///
/// # Errors
/// If the system does not give the bytes.
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

/// Reads the entry of a record again that [`survey`] has handed out; `None` if it is not there any more.
///
/// # Errors
/// If the system does not give the bytes.
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
    // The length may be what is damaged, so it does not tell how long the padding is. A record that is cut too long or
    // too short is none.
    let entry = pads(frames).filter_map(|pad| size.checked_sub(pad)).find_map(|end| {
        let record = window.slice(LENGTH_BYTES.min(end)..end);
        let data = RawRecord::decode(record).ok()?.data?;
        codec::entry(data, frames).ok()
    });
    Ok(entry)
}

/// How many bytes of padding there may be.
fn pads(frames: Frames) -> std::ops::Range<usize> {
    match frames {
        Frames::V2 => 0..1,
        Frames::Any => 0..8,
    }
}

struct Surveyor<'a, S> {
    reader: Reader<S>,
    frames: Frames,
    /// Behind all that was dealt with.
    at: u64,
    /// The sum there, if it is known.
    sum: Option<u32>,
    /// How many records, readable or not, have come.
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
                    // Usually nothing follows. But a length that is damaged may point behind the end.
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

    /// The record there, its end and the sum behind it.
    fn next(&mut self) -> Result<Option<(Record, u64, u32)>, ReadError> {
        self.reader.seek(self.at, self.sum.unwrap_or(0));
        if self.sum.is_none()
            && let Some(record_at) = self.reader.record_at(self.frames, self.at)?
            && record_at.raw.kind != codec::CRC
        {
            // Nobody knows the sum before this record: it is believed what it says.
            let record = self.check_position(typed(record_at.raw.kind, record_at.data(), self.frames)?)?;
            return Ok(Some((record, record_at.end, record_at.raw.crc)));
        }
        let Some(record) = self.reader.next_record()? else { return Ok(None) };
        Ok(Some((self.check_position(record)?, self.reader.offset(), self.reader.crc())))
    }

    /// The sum does not cover the type, and messages pass for one another: the first record has the sum and the second
    /// the ids, no other.
    fn check_position(&self, record: Record) -> Result<Record, Damage> {
        let wanted = match &record {
            // Behind a hole nobody knows which this is.
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

    /// Goes on behind a record that is not good. False if nothing readable follows.
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
            // Its sum or its type is damaged, its data are not.
            self.damaged_ranges.push(DamagedRange { from, to: record_at.end, damage, kept: true });
            self.give(record, record_at.end, own, true);
            return Ok(true);
        }
        if self.reader.record_at(self.frames, record_at.end)?.is_none() {
            return self.search(damage);
        }
        // The sum that stands in it tells whether the next one is good.
        self.damaged_ranges.push(DamagedRange { from, to: record_at.end, damage, kept: false });
        self.pass(
            record_at.end,
            Some(if proven { own.unwrap_or(record_at.raw.crc) } else { record_at.raw.crc }),
        );
        Ok(true)
    }

    /// Searches the next record, where the length of this one says nothing.
    fn search(&mut self, damage: Damage) -> Result<bool, DiskError> {
        let from = self.at;
        let Some(next) = self.reader.find_record(self.frames, from + 1)? else {
            let to = self.reader.source().len();
            self.damaged_ranges.push(DamagedRange { from, to, damage, kept: false });
            // What a record of unknown length leaves behind is no part of the log.
            return Ok(false);
        };
        // If only its length was damaged, the record is all that stands between.
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

    /// The record that fills the space between two places, if one does.
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

    /// What is in a record whose data are proven, though perhaps not its type.
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

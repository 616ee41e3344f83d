//! Tells the torn tail of a log from damage.
//!
//! Records that were synced are good, all of them. What a power failure may leave behind them is one write that
//! reached the disk in part: a prefix of it, or some of its sectors, with zeros in the place of the others, or what
//! the file system makes of a length that it wrote before the data. Damage of synced records looks otherwise:
//!
//! - good records follow it, unless it is the last one;
//! - the record is there in full, and no sector of it is zero.
//!
//! The two can look alike in one case only: a sector is zero, and records of the same write follow. They do not prove
//! that the write was synced; a state that commits entries beyond those before the gap does. (A server writes such a
//! state within milliseconds of an acknowledgement, also if no other write follows.)

use bytes::Bytes;

use super::codec::{self, LENGTH_BYTES, RecordLength};
use super::reader::Frame;
use super::{Frames, Reader, Record, SegmentSource};
use crate::disk::DiskError;

/// What a disk writes whole: a lost write leaves zeros from such a boundary on.
const SECTOR_BYTES: u64 = 512;
/// A record that a server writes ends in fewer zeros than this: a request and a state end in a number, one byte of which
/// may be zero.
const LOST_BYTES_MIN: u64 = 2;

/// What a record that is not good may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TailKind {
    /// Damage.
    None,
    /// The first part of the last record.
    CutOff,
    /// Of the last write only parts are there.
    Lost,
}

impl<S: SegmentSource> Reader<S> {
    /// What the record at the offset is, which is not good: `frame` is what its length field says, if that can be,
    /// and `start` are its first bytes.
    pub(super) fn tail_kind(&mut self, frame: Option<Frame>, start: &Bytes) -> Result<TailKind, DiskError> {
        let (offset, len) = (self.offset(), self.source().len());
        let frame = frame.filter(|frame| frame.record_len > 0);
        let end = frame.and_then(|frame| {
            let record_len = frame.record_len.checked_add(frame.pad_len)?;
            offset.checked_add(LENGTH_BYTES as u64)?.checked_add(record_len)
        });
        let is_beyond = end.is_none_or(|end| end > len);
        if is_beyond && frame.is_some_and(|frame| codec::fits_length(start, frame.record_len)) {
            return Ok(TailKind::CutOff);
        }
        if let Some(end) = end
            && self.ends_in_zeros(end)?
        {
            return Ok(TailKind::Lost);
        }
        if self.has_gap(end)? {
            return Ok(if self.is_synced(offset + 1)? { TailKind::None } else { TailKind::Lost });
        }
        // A length that cannot be true: that of a good record, damaged, or what was never written as one.
        if is_beyond && !self.is_good(start)? && !self.has_record_after(offset)? {
            return Ok(TailKind::Lost);
        }
        Ok(TailKind::None)
    }

    /// Whether the record at the offset is good but for its length.
    fn is_good(&mut self, start: &Bytes) -> Result<bool, DiskError> {
        let RecordLength::Is(own) = codec::record_length(start) else { return Ok(false) };
        let Some(size) = usize::try_from(own).ok().and_then(|own| own.checked_add(LENGTH_BYTES)) else {
            return Ok(false);
        };
        let sum = self.crc();
        let offset = self.offset();
        let window = self.source().window(offset, size)?;
        let Some(record) = window.get(LENGTH_BYTES..size) else { return Ok(false) };
        let record = window.slice_ref(record);
        Ok(super::reader::decode_record(record, sum, Frames::Any).is_ok())
    }

    /// Whether zeros take the place of the end of a record that is to end at `end`, up to the end of the file.
    fn ends_in_zeros(&mut self, end: u64) -> Result<bool, DiskError> {
        let (offset, len) = (self.offset(), self.source().len());
        let zeros_from = self.last_nonzero(offset)?.map_or(offset, |last| last + 1);
        let there = end.min(len);
        if zeros_from >= there {
            return Ok(false);
        }
        // A single one may belong there.
        let is_empty = zeros_from <= offset + LENGTH_BYTES as u64;
        Ok(is_empty
            || zeros_from.next_multiple_of(SECTOR_BYTES) < there
            || there - zeros_from >= LOST_BYTES_MIN
            || len > end)
    }

    /// Whether a sector of the record is zero that is not the last of the file. Of the sector in which the record
    /// begins only what is behind that counts: what is before it was written earlier.
    fn has_gap(&mut self, end: Option<u64>) -> Result<bool, DiskError> {
        let (offset, len) = (self.offset(), self.source().len());
        let end = end.unwrap_or(offset + LENGTH_BYTES as u64).min(len);
        let mut from = offset;
        while from < end {
            let to = (from + 1).next_multiple_of(SECTOR_BYTES);
            if to > len {
                break;
            }
            let size = usize::try_from(to - from).unwrap_or(usize::MAX);
            let window = self.source().window(from, size)?;
            if window.iter().take(size).all(|byte| *byte == 0) {
                return Ok(true);
            }
            from = to;
        }
        Ok(false)
    }

    /// Whether records from `from` on show that what is before them was synced.
    fn is_synced(&mut self, from: u64) -> Result<bool, DiskError> {
        let mut at = from;
        while let Some(found) = self.find_record(Frames::Any, at)? {
            at = found;
            while let Some(record_at) = self.record_at(Frames::Any, at)? {
                match super::reader::typed(record_at.raw.kind, record_at.data(), Frames::Any) {
                    Ok(Record::State(state)) if state.commit > self.last_index() => return Ok(true),
                    Ok(Record::State(_) | Record::Entry(_)) => {}
                    // A mark is synced apart from what is before it; the others stand at the head of a segment.
                    _ => return Ok(true),
                }
                at = record_at.end;
                if !self.fits(Frames::Any, at, record_at.raw.crc)? {
                    break;
                }
            }
        }
        Ok(false)
    }

    /// Whether there is a record that begins behind `offset`.
    pub(super) fn has_record_after(&mut self, offset: u64) -> Result<bool, DiskError> {
        Ok(self.find_record(Frames::Any, offset + 1)?.is_some())
    }
}

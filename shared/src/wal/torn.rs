//! Distinguishes the torn tail of a log from damage.
//!
//! All synced records are good. A power failure may leave one partial write after them: a prefix of it, or some of
//! its sectors with zeros instead of the others, or a longer file without the data. Damage of synced records looks
//! different:
//!
//! - good records follow it, unless it is the last one;
//! - the record is complete, and no sector of it is zero.
//!
//! The two look alike in one case only: a sector is zero, and records of the same write follow. They do not prove
//! that the write was synced; a state that commits entries beyond those before the gap does. (A server writes such a
//! state within milliseconds after an acknowledgement, even if no other write follows.)

use bytes::Bytes;

use super::codec::{self, LENGTH_BYTES, RecordLength};
use super::reader::Frame;
use super::{Frames, Reader, Record, SegmentSource};
use crate::disk::DiskError;

/// The unit that a disk writes as a whole: a lost write leaves zeros from a multiple of it on.
const SECTOR_BYTES: u64 = 512;
/// A record that a server writes ends in fewer zeros than this: a request and a state end in a number, one byte of
/// which may be zero.
const LOST_BYTES_MIN: u64 = 2;

/// What a bad record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TailKind {
    /// Damage.
    None,
    /// The first part of the last record of the log.
    CutOff,
    /// A part of the last write, other parts of which are lost.
    Lost,
}

impl<S: SegmentSource> Reader<S> {
    /// What the bad record at the offset is. `frame` is its length field, if that is possible, and `start` has its
    /// first bytes.
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
        // An impossible length: the damaged length of a good record, or bytes that were never written as one.
        if is_beyond && !self.is_good(start)? && !self.has_record_after(offset)? {
            return Ok(TailKind::Lost);
        }
        Ok(TailKind::None)
    }

    /// Whether the record at the offset is good except for its length.
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

    /// Whether the end of a record that should end at `end` is zeros, up to the end of the file.
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

    /// Whether a sector of the record, other than the last of the file, is zero. Of the sector in which the record
    /// begins only the part after its start counts: the rest was written earlier.
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

    /// Whether records from `from` on show that the bytes before them were synced.
    fn is_synced(&mut self, from: u64) -> Result<bool, DiskError> {
        let mut at = from;
        while let Some(found) = self.find_record(Frames::Any, at)? {
            at = found;
            while let Some(record_at) = self.record_at(Frames::Any, at)? {
                match super::reader::typed(record_at.raw.kind, record_at.data(), Frames::Any) {
                    Ok(Record::State(state)) if state.commit > self.last_index() => return Ok(true),
                    Ok(Record::State(_) | Record::Entry(_)) => {}
                    // A mark is synced separately after the records before it; the others are at the head of a
                    // segment.
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

    /// Whether there is a record that begins after `offset`.
    pub(super) fn has_record_after(&mut self, offset: u64) -> Result<bool, DiskError> {
        Ok(self.find_record(Frames::Any, offset + 1)?.is_some())
    }
}

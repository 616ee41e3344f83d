//! Finds records after damage, where their start is not known.

use bytes::Bytes;
use memchr::memchr_iter;
use prost::Message as _;

use super::codec::{self, LENGTH_BYTES, RawRecord};
use super::reader::{Frame, typed};
use super::{Frames, Reader, SegmentSource};
use crate::disk::DiskError;

/// How many bytes are searched at once.
const SEARCH_BYTES: usize = 256 * 1024;
/// The shortest start of a record: both tags, the type, and a byte of the checksum.
const START_BYTES: usize = 4;
/// The longest start of a record up to its data, length field included.
const START_BYTES_MAX: usize = 40;

/// A complete record, with any checksum.
pub(super) struct CompleteRecord {
    pub(super) raw: RawRecord,
    pub(super) end: u64,
}

impl CompleteRecord {
    pub(super) fn data(&self) -> Bytes {
        self.raw.data.clone().unwrap_or_default()
    }

    /// The checksum after it, if `sum` is the one before it.
    pub(super) fn sum_after(&self, sum: u32) -> u32 {
        if self.raw.kind == codec::CRC { sum } else { crc32c::crc32c_append(sum, &self.data()) }
    }
}

impl<S: SegmentSource> Reader<S> {
    /// The record at an offset, if it is complete and its length is right.
    pub(super) fn record_at(&mut self, frames: Frames, at: u64) -> Result<Option<CompleteRecord>, DiskError> {
        let left = self.source().len().saturating_sub(at);
        let start = self.source().window(at, START_BYTES_MAX)?;
        let Some((length, start)) = start.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let Some(frame) = Frame::parse(*length, frames) else { return Ok(None) };
        let start = &start[..start.len().min(START_BYTES_MAX - LENGTH_BYTES)];
        let room = left - LENGTH_BYTES as u64;
        let there = frame.record_len.checked_add(frame.pad_len).is_some_and(|len| len <= room);
        let (Ok(size), true) = (usize::try_from(frame.record_len), there && frame.record_len > 0) else {
            return Ok(None);
        };
        let first = &start[..start.len().min(size)];
        if !codec::fits_length(first, frame.record_len) {
            return Ok(None);
        }
        let window = self.source().window(at, LENGTH_BYTES + size)?;
        if window.len() < LENGTH_BYTES + size {
            return Ok(None);
        }
        let raw = RawRecord::decode(window.slice(LENGTH_BYTES..LENGTH_BYTES + size));
        Ok(raw.ok().map(|raw| CompleteRecord { raw, end: at + frame.len() }))
    }

    /// Whether the record at an offset fits the checksum `sum` before it.
    pub(super) fn fits(&mut self, frames: Frames, at: u64, sum: u32) -> Result<bool, DiskError> {
        let record_at = self.record_at(frames, at)?;
        Ok(record_at.is_some_and(|record_at| record_at.raw.crc == record_at.sum_after(sum)))
    }

    /// The first offset from `from` on with a record: one that is followed by another, or by zeros only.
    pub(super) fn find_record(&mut self, frames: Frames, from: u64) -> Result<Option<u64>, DiskError> {
        let len = self.source().len();
        let mut at = from;
        while at + ((LENGTH_BYTES + START_BYTES) as u64) <= len {
            let window = self.source().window(at, SEARCH_BYTES)?;
            let Some(last) = window.len().checked_sub(LENGTH_BYTES + START_BYTES) else { break };
            // The tag of the type, which follows the length.
            let searched = &window[LENGTH_BYTES..=LENGTH_BYTES + last];
            for i in memchr_iter(0x08, searched) {
                let start = &window[LENGTH_BYTES + i..];
                if matches!(start, [_, 1..=5, 0x10, ..]) && self.is_record(frames, at + i as u64, len)? {
                    return Ok(Some(at + i as u64));
                }
            }
            at += last as u64 + 1;
        }
        Ok(None)
    }

    fn is_record(&mut self, frames: Frames, at: u64, len: u64) -> Result<bool, DiskError> {
        let Some(record_at) = self.record_at(frames, at)? else { return Ok(false) };
        if record_at.end == len || self.last_nonzero(record_at.end)?.is_none() {
            let crc_alone = record_at.raw.kind == codec::CRC && record_at.raw.data.is_none();
            return Ok(crc_alone || typed(record_at.raw.kind, record_at.data(), frames).is_ok());
        }
        self.fits(frames, record_at.end, record_at.raw.crc)
    }
}

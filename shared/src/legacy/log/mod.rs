//! The log: one file, entry after entry, without a checksum.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | length `n` of what follows the newline, hexadecimal, padded with blanks on the left |
//! | 1 | newline |
//! | n | protobuf: 1 index, 2 term (varints), 3 name of the command, 4 its text (absent in `raft:nop`) |
//!
//! etcd 0.x cuts the file off at the first entry that it cannot read. Here only an entry that is cut short by the end
//! of the file (or replaced by zeros up to the end) counts as torn; anything else is damage, and the entries after it
//! are not dropped silently.

mod frame;
mod problem;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

pub use frame::{HEAD_BYTES, encode};
pub use problem::{EntryProblem, LogError};

use frame::{RawEntry, START_BYTES, fits_length, parse_length, starts_length};

use crate::disk::{DiskError, DiskFile};
use crate::wal::{FileSource, SegmentSource};

/// The smallest entry: a head, two short numbers and the shortest name.
const ENTRY_BYTES_MIN: u64 = HEAD_BYTES as u64 + 2 + 2 + 2 + 8;
/// No log comes to such indexes or terms; sums with them cannot overflow.
pub(super) const NUMBER_MAX: u64 = 1 << 62;
/// How many bytes a search for the next good entry reads at once.
const SEARCH_BYTES: usize = 256 * 1024;

/// An entry of the log. Its bytes are shared with the reader's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its index in the raft log.
    pub index: u64,
    /// The term in which a leader made it; 0.x begins at 0.
    pub term: u64,
    /// The name of its command, such as `etcd:set`.
    pub name: Bytes,
    /// The text of its command, empty for `raft:nop`.
    pub command: Bytes,
    /// Where it begins in the file.
    pub offset: u64,
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEnd {
    /// The last entry ends with the file.
    Clean,
    /// The last entry was never written in full. 0.x drops it when it starts, so it was never acknowledged after a
    /// restart.
    Torn {
        /// Where the torn entry begins.
        offset: u64,
        /// How many bytes are left there.
        bytes: u64,
        /// Which part of the entry is there.
        rest: TornPart,
    },
}

/// The present part of a torn entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TornPart {
    /// A part of its length.
    Length,
    /// A part of its body.
    Body {
        /// The length that stands before it.
        wanted: u64,
    },
    /// Zeros up to the end of the file, as file systems leave them after a crash.
    Zeros,
}

/// A piece of the log that [`Reader::skip_damage`] passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedRange {
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// The index after which entries are missing.
    pub after: u64,
    /// The index of the next good entry; `None` if there is none.
    pub next: Option<u64>,
}

/// Reads a log from its start, entry by entry, in bounded memory.
///
/// Indexes must be consecutive; the first may be any, as snapshots shorten the log from its start.
pub struct Reader<F> {
    source: FileSource<F>,
    file: PathBuf,
    offset: u64,
    last: Option<(u64, u64)>,
    end: LogEnd,
    ended: bool,
    /// The end of the last good entry, if entries may be missing before the next one.
    gap_from: Option<u64>,
}

impl<F: DiskFile> Reader<F> {
    /// A reader of an open file.
    ///
    /// # Errors
    /// If the file's length cannot be read.
    pub fn new(file: F) -> Result<Reader<F>, DiskError> {
        let path = file.path().to_owned();
        let source = FileSource::new(Arc::new(file))?;
        Ok(Reader {
            source,
            file: path,
            offset: 0,
            last: None,
            end: LogEnd::Clean,
            ended: false,
            gap_from: None,
        })
    }

    /// Where the next entry begins; after an error, where the bad one does.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The length of the file when it was opened, in bytes.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the entries end, once [`Reader::next_entry`] has said that there are no more.
    pub fn end(&self) -> LogEnd {
        self.end
    }

    /// The next entry, `None` when there are no more. After an error it gives the same error again.
    ///
    /// # Errors
    /// If bytes cannot be read or are damaged.
    pub fn next_entry(&mut self) -> Result<Option<LogEntry>, LogError> {
        if self.ended {
            return Ok(None);
        }
        match self.read_entry()? {
            Ok(Some((entry, bytes))) => {
                self.offset += bytes;
                self.last = Some((entry.index, entry.term));
                self.gap_from = None;
                Ok(Some(entry))
            }
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(problem) => Err(LogError::Damaged { file: self.file.clone(), offset: self.offset, problem }),
        }
    }

    /// After damage: goes on to the next good entry with a higher index, or to the end of the file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn skip_damage(&mut self) -> Result<SkippedRange, DiskError> {
        let from = self.offset;
        let after = self.last.map_or(0, |(index, _)| index);
        self.gap_from.get_or_insert(from);
        let mut at = from + 1;
        while at < self.len() {
            let window = self.source.window(at, SEARCH_BYTES)?;
            if window.is_empty() {
                break;
            }
            // Every entry's body begins with the tag of its index, after a newline.
            let Some(newline) = memchr::memmem::find(&window, b"\n\x08") else {
                at += (window.len() - 1).max(1) as u64;
                continue;
            };
            let body = at + newline as u64 + 1;
            at = body;
            let Some(start) = body.checked_sub(HEAD_BYTES as u64).filter(|start| *start > from) else {
                continue;
            };
            self.offset = start;
            if let Ok(Some((entry, _))) = self.read_entry()? {
                return Ok(SkippedRange { from, to: start, after, next: Some(entry.index) });
            }
        }
        self.offset = self.len();
        self.ended = true;
        Ok(SkippedRange { from, to: self.offset, after, next: None })
    }

    fn torn(&mut self, rest: TornPart) -> Option<(LogEntry, u64)> {
        self.end = LogEnd::Torn { offset: self.offset, bytes: self.len() - self.offset, rest };
        None
    }

    /// Reads the entry at the offset; with it, how many bytes it takes.
    fn read_entry(&mut self) -> Result<Result<Option<(LogEntry, u64)>, EntryProblem>, DiskError> {
        let left = self.len() - self.offset;
        if left == 0 {
            self.end = LogEnd::Clean;
            return Ok(Ok(None));
        }
        let head = self.source.window(self.offset, HEAD_BYTES + START_BYTES)?;
        let Some((length, start)) = head.split_first_chunk::<HEAD_BYTES>() else {
            if left >= HEAD_BYTES as u64 {
                return Ok(Err(EntryProblem::Shorter));
            }
            if starts_length(&head) {
                return Ok(Ok(self.torn(TornPart::Length)));
            }
            if self.zeros_within(&head)? {
                return Ok(Ok(self.torn(TornPart::Zeros)));
            }
            let mut found = [0; HEAD_BYTES];
            found[..head.len()].copy_from_slice(&head);
            return Ok(Err(EntryProblem::Length(found)));
        };
        let Some(size) = parse_length(length) else {
            if self.zeros_within(length)? {
                return Ok(Ok(self.torn(TornPart::Zeros)));
            }
            return Ok(Err(EntryProblem::Length(*length)));
        };
        let wanted = u64::from(size);
        let room = left - HEAD_BYTES as u64;
        if wanted > room {
            let start = &start[..start.len().min(START_BYTES)];
            if self.only_zeros_from(self.offset + HEAD_BYTES as u64)? {
                return Ok(Ok(self.torn(TornPart::Zeros)));
            }
            return Ok(if fits_length(start, wanted) {
                Ok(self.torn(TornPart::Body { wanted }))
            } else {
                Err(EntryProblem::Fields { length: wanted })
            });
        }
        self.decode(size, wanted)
    }

    /// Decodes the body of the entry at the offset, which is there in full.
    fn decode(
        &mut self,
        size: u32,
        wanted: u64,
    ) -> Result<Result<Option<(LogEntry, u64)>, EntryProblem>, DiskError> {
        let size = HEAD_BYTES + size as usize;
        let window = self.source.window(self.offset, size)?;
        if window.len() < size {
            return Ok(Err(EntryProblem::Shorter));
        }
        let body = window.slice(HEAD_BYTES..size);
        let ends_in_zero = body.last() == Some(&0);
        if ends_in_zero && self.only_zeros_from(self.offset + size as u64)? {
            // Neither a text (it ends with a newline) nor a name ends in zeros: the end was never written.
            return Ok(Ok(self.torn(TornPart::Zeros)));
        }
        let Ok(raw) = RawEntry::decode(body) else { return Ok(Err(EntryProblem::Encoding)) };
        let numbers = 1..=NUMBER_MAX;
        let good = numbers.contains(&raw.index) && raw.term <= NUMBER_MAX && !raw.name.is_empty();
        if raw.encoded_len() as u64 != wanted || !good {
            return Ok(Err(EntryProblem::Encoding));
        }
        if let Some((index, term)) = self.last {
            // The most entries that fit into the gap.
            let missing = self.gap_from.map_or(0, |from| (self.offset - from) / ENTRY_BYTES_MIN);
            if raw.index <= index || raw.index > index + 1 + missing {
                return Ok(Err(EntryProblem::Index { wanted: index + 1, found: raw.index }));
            }
            if raw.term < term {
                return Ok(Err(EntryProblem::Term { before: term, found: raw.term }));
            }
        }
        let entry = LogEntry {
            index: raw.index,
            term: raw.term,
            name: raw.name,
            command: raw.command.unwrap_or_default(),
            offset: self.offset,
        };
        Ok(Ok(Some((entry, size as u64))))
    }

    /// Whether a length and everything after it are zeros, from its first byte or a later one on.
    fn zeros_within(&mut self, length: &[u8]) -> Result<bool, DiskError> {
        let Some(zero) = length.iter().position(|byte| *byte == 0) else { return Ok(false) };
        Ok(starts_length(&length[..zero]) && self.only_zeros_from(self.offset + zero as u64)?)
    }

    fn only_zeros_from(&mut self, offset: u64) -> Result<bool, DiskError> {
        let mut at = offset;
        while at < self.len() {
            let window = self.source.window(at, 1)?;
            if window.is_empty() || window.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += window.len() as u64;
        }
        Ok(true)
    }
}

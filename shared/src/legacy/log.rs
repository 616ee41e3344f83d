//! The log: one file, entry after entry, without a checksum.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | length `n` of what follows the newline, hexadecimal, padded with blanks on the left |
//! | 1 | newline |
//! | n | protobuf: 1 index, 2 term (varints), 3 name of the command, 4 its text (absent in `raft:nop`) |
//!
//! etcd 0.x cuts the file off at the first entry that it cannot read. Here only an entry that the end of the file
//! cuts short (or that zeros take the place of, up to the end) counts as torn; anything else is damage, and what
//! follows it is not given up in silence.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::disk::{DiskError, DiskFile};
use crate::wal::{FileSource, Source};

/// Bytes of the length and the newline before each entry.
pub const HEAD_BYTES: usize = 9;
/// Enough of an entry to see where its text begins: three short fields and a name.
const START_BYTES: usize = 96;
/// No entry takes fewer bytes: a head, two short numbers and the shortest name.
const ENTRY_BYTES_MIN: u64 = HEAD_BYTES as u64 + 2 + 2 + 2 + 8;
/// No log comes to such indexes or terms; sums with them cannot overflow.
pub(super) const NUMBER_MAX: u64 = 1 << 62;
/// How far a search for the next good entry looks at once.
const SEARCH_BYTES: usize = 256 * 1024;

/// An entry of the log. Its bytes are shared with the reader's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the raft log.
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

/// How the entries end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the file.
    Clean,
    /// With an entry that was never written in full. 0.x drops it when it starts, and so it was never
    /// acknowledged after a restart.
    Torn {
        /// Where the rest begins.
        offset: u64,
        /// How many bytes are left there.
        bytes: u64,
        /// What of the entry is there.
        rest: Rest,
    },
}

/// What is there of a torn entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// A part of its length.
    Length,
    /// A part of its body, which should have had so many bytes.
    Body {
        /// The length that stands before it.
        wanted: u64,
    },
    /// Zeros up to the end of the file, as file systems leave them after a crash.
    Zeros,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// There is no length.
    Length([u8; HEAD_BYTES]),
    /// The length and the fields contradict each other.
    Fields {
        /// The length that stands before them.
        length: u64,
    },
    /// Not the fields of an entry.
    Encoding,
    /// Not the index that follows the one before.
    Index {
        /// The index that must come.
        wanted: u64,
        /// The index that stands there.
        found: u64,
    },
    /// A lower term than that of the entry before.
    Term {
        /// The term of the entry before.
        before: u64,
        /// The term that stands there.
        found: u64,
    },
    /// The bytes end too early: the file has become shorter.
    Shorter,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Length(found) => write!(
                f,
                "expected the length of an entry (8 hexadecimal digits and a newline), found \"{}\"",
                found.escape_ascii()
            ),
            Problem::Fields { length } => {
                write!(
                    f,
                    "expected an entry of {length} bytes, as it says, but its fields have another length"
                )
            }
            Problem::Encoding => {
                write!(f, "expected an entry (index, term, name and text of a command), found other bytes")
            }
            Problem::Index { wanted, found } => write!(f, "expected entry {wanted}, found entry {found}"),
            Problem::Term { before, found } => {
                write!(f, "expected an entry of term {before} or later, found one of term {found}")
            }
            Problem::Shorter => {
                write!(f, "expected more bytes: the file has become shorter while it was read")
            }
        }
    }
}

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system did not give the bytes.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// They are damaged.
    #[error("{} is damaged at byte {offset}: {problem}", file.display())]
    Damaged {
        /// The log.
        file: PathBuf,
        /// Where the bad entry begins.
        offset: u64,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// A piece of the log that [`Reader::skip_damage`] passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// The index after which entries are missing.
    pub after: u64,
    /// The index of the next good entry; `None` if there is none.
    pub next: Option<u64>,
}

/// A message of the log as goraft writes it: the first three fields always.
#[derive(Clone, PartialEq, Message)]
struct RawEntry {
    #[prost(uint64, required, tag = "1")]
    index: u64,
    #[prost(uint64, required, tag = "2")]
    term: u64,
    #[prost(bytes = "bytes", required, tag = "3")]
    name: Bytes,
    #[prost(bytes = "bytes", optional, tag = "4")]
    command: Option<Bytes>,
}

/// Reads a log from its start, entry by entry, in bounded memory.
///
/// Indexes must follow one another; the first may be any, for snapshots shorten the log from its start.
pub struct Reader<F> {
    source: FileSource<F>,
    file: PathBuf,
    offset: u64,
    last: Option<(u64, u64)>,
    end: End,
    ended: bool,
    /// Where the last good entry ends, if entries may be missing before the next one.
    gap_from: Option<u64>,
}

impl<F: DiskFile> Reader<F> {
    /// A reader of an open file.
    ///
    /// # Errors
    /// Where the file's length cannot be had.
    pub fn new(file: F) -> Result<Reader<F>, DiskError> {
        let path = file.path().to_owned();
        let source = FileSource::new(Arc::new(file))?;
        Ok(Reader {
            source,
            file: path,
            offset: 0,
            last: None,
            end: End::Clean,
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
    pub fn end(&self) -> End {
        self.end
    }

    /// The next entry, `None` when there are no more. After an error it gives the same error again.
    ///
    /// # Errors
    /// Where bytes cannot be had or are damaged.
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
    pub fn skip_damage(&mut self) -> Result<Skipped, DiskError> {
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
                return Ok(Skipped { from, to: start, after, next: Some(entry.index) });
            }
        }
        self.offset = self.len();
        self.ended = true;
        Ok(Skipped { from, to: self.offset, after, next: None })
    }

    fn torn(&mut self, rest: Rest) -> Option<(LogEntry, u64)> {
        self.end = End::Torn { offset: self.offset, bytes: self.len() - self.offset, rest };
        None
    }

    /// Reads the entry at the offset; with it, how many bytes it takes.
    fn read_entry(&mut self) -> Result<Result<Option<(LogEntry, u64)>, Problem>, DiskError> {
        let left = self.len() - self.offset;
        if left == 0 {
            self.end = End::Clean;
            return Ok(Ok(None));
        }
        let head = self.source.window(self.offset, HEAD_BYTES + START_BYTES)?;
        let Some((length, start)) = head.split_first_chunk::<HEAD_BYTES>() else {
            if left >= HEAD_BYTES as u64 {
                return Ok(Err(Problem::Shorter));
            }
            if starts_length(&head) {
                return Ok(Ok(self.torn(Rest::Length)));
            }
            if self.zeros_within(&head)? {
                return Ok(Ok(self.torn(Rest::Zeros)));
            }
            let mut found = [0; HEAD_BYTES];
            found[..head.len()].copy_from_slice(&head);
            return Ok(Err(Problem::Length(found)));
        };
        let Some(size) = parse_length(length) else {
            if self.zeros_within(length)? {
                return Ok(Ok(self.torn(Rest::Zeros)));
            }
            return Ok(Err(Problem::Length(*length)));
        };
        let wanted = u64::from(size);
        let room = left - HEAD_BYTES as u64;
        if wanted > room {
            let start = &start[..start.len().min(START_BYTES)];
            if self.only_zeros_from(self.offset + HEAD_BYTES as u64)? {
                return Ok(Ok(self.torn(Rest::Zeros)));
            }
            return Ok(if fits_length(start, wanted) {
                Ok(self.torn(Rest::Body { wanted }))
            } else {
                Err(Problem::Fields { length: wanted })
            });
        }
        self.decode(size, wanted)
    }

    /// Decodes the body of the entry at the offset, which is there in full.
    fn decode(
        &mut self,
        size: u32,
        wanted: u64,
    ) -> Result<Result<Option<(LogEntry, u64)>, Problem>, DiskError> {
        let size = HEAD_BYTES + size as usize;
        let window = self.source.window(self.offset, size)?;
        if window.len() < size {
            return Ok(Err(Problem::Shorter));
        }
        let body = window.slice(HEAD_BYTES..size);
        let ends_in_zero = body.last() == Some(&0);
        if ends_in_zero && self.only_zeros_from(self.offset + size as u64)? {
            // Neither a text (it ends with a newline) nor a name ends so: the end was never written.
            return Ok(Ok(self.torn(Rest::Zeros)));
        }
        let Ok(raw) = RawEntry::decode(body) else { return Ok(Err(Problem::Encoding)) };
        let numbers = 1..=NUMBER_MAX;
        let good = numbers.contains(&raw.index) && raw.term <= NUMBER_MAX && !raw.name.is_empty();
        if raw.encoded_len() as u64 != wanted || !good {
            return Ok(Err(Problem::Encoding));
        }
        if let Some((index, term)) = self.last {
            // A gap has room for so many entries.
            let missing = self.gap_from.map_or(0, |from| (self.offset - from) / ENTRY_BYTES_MIN);
            if raw.index <= index || raw.index > index + 1 + missing {
                return Ok(Err(Problem::Index { wanted: index + 1, found: raw.index }));
            }
            if raw.term < term {
                return Ok(Err(Problem::Term { before: term, found: raw.term }));
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

    /// Whether zeros take the place of a length and of all after it, from its first byte or a later one on.
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

/// The length before an entry.
fn parse_length(head: &[u8; HEAD_BYTES]) -> Option<u32> {
    let (digits, newline) = head.split_at(HEAD_BYTES - 1);
    let digits = digits.trim_ascii_start();
    let good = newline == b"\n" && digits.iter().all(u8::is_ascii_hexdigit) && !digits.is_empty();
    good.then(|| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

/// Whether these bytes, fewer than a whole one, can be the start of a length.
fn starts_length(bytes: &[u8]) -> bool {
    let digits = bytes.trim_ascii_start();
    let blanks = &bytes[..bytes.len() - digits.len()];
    bytes.len() < HEAD_BYTES
        && blanks.iter().all(|byte| *byte == b' ')
        && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Whether these bytes can be the start of an entry of just that length: its last field says how long it is.
fn fits_length(start: &[u8], length: u64) -> bool {
    let mut rest = start;
    for tag in [0x08, 0x10] {
        match field(&mut rest, tag) {
            Field::Value(_) => {}
            Field::CutOff => return true,
            Field::Other => return false,
        }
    }
    for (tag, last) in [(0x1a, false), (0x22, true)] {
        let Field::Value(bytes) = (match field(&mut rest, tag) {
            Field::CutOff => return true,
            Field::Other => return false,
            found => found,
        }) else {
            return false;
        };
        let used = (start.len() - rest.len()) as u64;
        let Some(end) = used.checked_add(bytes) else { return false };
        if end > length || last {
            return end == length;
        }
        match rest.get(usize::try_from(bytes).unwrap_or(usize::MAX)..) {
            Some(after) => rest = after,
            // A name may be cut off; one that is longer than any command's is none.
            None => return bytes < START_BYTES as u64,
        }
    }
    true
}

enum Field {
    Value(u64),
    CutOff,
    Other,
}

/// Takes a tag and the varint after it from the front.
fn field(rest: &mut &[u8], tag: u8) -> Field {
    let Some((first, tail)) = rest.split_first() else { return Field::CutOff };
    if *first != tag {
        return Field::Other;
    }
    let mut value = 0_u64;
    for (at, byte) in tail.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).wrapping_shl(7 * u32::try_from(at).unwrap_or(0));
        if byte & 0x80 == 0 {
            *rest = &tail[at + 1..];
            return Field::Value(value);
        }
    }
    if tail.len() < 10 { Field::CutOff } else { Field::Other }
}

/// Appends an entry in the form of the file; for tests and generators of old directories.
pub fn encode(index: u64, term: u64, name: &str, command: Option<&[u8]>, out: &mut Vec<u8>) {
    let raw = RawEntry {
        index,
        term,
        name: Bytes::copy_from_slice(name.as_bytes()),
        command: command.map(Bytes::copy_from_slice),
    };
    out.extend_from_slice(format!("{:8x}\n", raw.encoded_len()).as_bytes());
    out.extend_from_slice(&raw.encode_to_vec());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, Open, SimDisk, SimFile};

    fn reader(bytes: &[u8]) -> Reader<SimFile> {
        let disk = SimDisk::new(0);
        disk.plant(Path::new("/log"), bytes).unwrap();
        Reader::new(disk.open(Path::new("/log"), Open::Read).unwrap()).unwrap()
    }

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(7, 0, "raft:nop", None, &mut bytes);
        encode(8, 0, "etcd:delete", Some(b"{\"key\":\"/a\"}\n"), &mut bytes);
        encode(9, 1, "etcd:delete", Some(b"{\"key\":\"/b\"}\n"), &mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<u64>, Result<End, String>) {
        let mut reader = reader(bytes);
        let mut found = Vec::new();
        loop {
            match reader.next_entry() {
                Ok(Some(entry)) => found.push(entry.index),
                Ok(None) => return (found, Ok(reader.end())),
                Err(error) => return (found, Err(error.to_string())),
            }
        }
    }

    #[test]
    fn reads_what_goraft_writes() {
        let bytes = b"       e\n\x08\x02\x10\x00\x1a\x08raft:nop      22\n\x08\x03\x10\x00\x1a\x0betcd:delete\"\x0f{\"key\":\"/abc\"}\n";
        let mut reader = reader(bytes);
        let entry = reader.next_entry().unwrap().unwrap();
        assert_eq!((entry.index, entry.term, &*entry.name), (2, 0, &b"raft:nop"[..]));
        assert!(entry.command.is_empty());
        let entry = reader.next_entry().unwrap().unwrap();
        assert_eq!((entry.index, &*entry.command, entry.offset), (3, &b"{\"key\":\"/abc\"}\n"[..], 23));
        assert!(reader.next_entry().unwrap().is_none());
        assert_eq!(reader.end(), End::Clean);
    }

    #[test]
    fn any_cut_is_a_torn_entry() {
        let bytes = three();
        let starts: Vec<usize> = {
            let mut reader = reader(&bytes);
            let mut starts = Vec::new();
            while let Some(entry) = reader.next_entry().unwrap() {
                starts.push(usize::try_from(entry.offset).unwrap());
            }
            starts
        };
        for cut in 0..bytes.len() {
            let whole = starts.iter().filter(|start| **start <= cut).count().saturating_sub(1);
            let (found, end) = read(&bytes[..cut]);
            assert_eq!(found.len(), whole, "cut at {cut}");
            let end = end.unwrap();
            if starts.contains(&cut) {
                assert_eq!(end, End::Clean, "cut at {cut}");
            } else {
                let End::Torn { offset, bytes: left, .. } = end else { panic!("cut at {cut}: {end:?}") };
                assert_eq!(offset + left, cut as u64);
            }
            // Zeros in the place of what is missing.
            let mut zeros = bytes[..cut].to_vec();
            zeros.resize(bytes.len() + 50, 0);
            let (found, end) = read(&zeros);
            assert_eq!(found.len(), whole, "zeros from {cut}");
            assert!(matches!(end, Ok(End::Torn { rest: Rest::Zeros, .. })), "zeros from {cut}: {end:?}");
        }
    }

    #[test]
    fn a_wrong_length_is_damage_and_not_a_torn_end() {
        let mut bytes = three();
        bytes[..8].copy_from_slice(b"1000000e");
        let (found, end) = read(&bytes);
        assert!(found.is_empty());
        assert!(
            end.unwrap_err().contains("/log is damaged at byte 0: expected an entry of"),
            "a long length"
        );
        let mut bytes = three();
        bytes[3] = b'z';
        let error = read(&bytes).1.unwrap_err();
        assert!(error.contains("expected the length of an entry") && error.contains("z"), "{error}");
    }

    #[test]
    fn indexes_and_terms_must_follow() {
        let mut bytes = three();
        encode(11, 1, "raft:nop", None, &mut bytes);
        assert!(read(&bytes).1.unwrap_err().contains("expected entry 10, found entry 11"));
        let mut bytes = three();
        encode(10, 0, "raft:nop", None, &mut bytes);
        assert!(read(&bytes).1.unwrap_err().contains("term 1 or later, found one of term 0"));
    }

    #[test]
    fn damage_can_be_passed_over() {
        let mut bytes = three();
        let start = bytes.len();
        encode(10, 1, "raft:nop", None, &mut bytes);
        encode(11, 1, "etcd:delete", Some(b"{\"key\":\"/c\"}\n"), &mut bytes);
        bytes[start + 2] = b'?';
        let mut reader = reader(&bytes);
        for _ in 0..3 {
            reader.next_entry().unwrap().unwrap();
        }
        reader.next_entry().unwrap_err();
        let skipped = reader.skip_damage().unwrap();
        assert_eq!((skipped.after, skipped.next, skipped.from), (9, Some(11), start as u64));
        assert_eq!(reader.next_entry().unwrap().unwrap().index, 11);
        assert!(reader.next_entry().unwrap().is_none());
        // More than the gap has room for cannot be missing.
        let mut far = bytes[..start].to_vec();
        far.extend_from_slice(b"garbage that takes the place of two\n");
        encode(1000, 1, "raft:nop", None, &mut far);
        encode(11, 1, "raft:nop", None, &mut far);
        let mut reader = self::reader(&far);
        while let Ok(Some(_)) = reader.next_entry() {}
        assert_eq!(reader.skip_damage().unwrap().next, Some(11));
        // Nothing good after it.
        let mut reader = self::reader(b"garbage that is no log at all");
        reader.next_entry().unwrap_err();
        assert_eq!(reader.skip_damage().unwrap().next, None);
        assert!(reader.next_entry().unwrap().is_none());
    }
}

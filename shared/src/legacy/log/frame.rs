//! Bytes of one entry: its length, its fields, and whether a cut one can be what its length says.

use bytes::Bytes;
use prost::Message;

/// Bytes of the length and the newline before each entry.
pub const HEAD_BYTES: usize = 9;
/// Enough bytes of an entry to find where its text begins: three short fields and a name.
pub(super) const START_BYTES: usize = 96;

/// A message of the log as goraft writes it: the first three fields always.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RawEntry {
    #[prost(uint64, required, tag = "1")]
    pub(super) index: u64,
    #[prost(uint64, required, tag = "2")]
    pub(super) term: u64,
    #[prost(bytes = "bytes", required, tag = "3")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) command: Option<Bytes>,
}

/// The length before an entry.
pub(super) fn parse_length(head: &[u8; HEAD_BYTES]) -> Option<u32> {
    let (digits, newline) = head.split_at(HEAD_BYTES - 1);
    let digits = digits.trim_ascii_start();
    let good = newline == b"\n" && digits.iter().all(u8::is_ascii_hexdigit) && !digits.is_empty();
    good.then(|| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

/// Whether these bytes, fewer than a whole one, can be the start of a length.
pub(super) fn starts_length(bytes: &[u8]) -> bool {
    let digits = bytes.trim_ascii_start();
    let blanks = &bytes[..bytes.len() - digits.len()];
    bytes.len() < HEAD_BYTES
        && blanks.iter().all(|byte| *byte == b' ')
        && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Whether these bytes can be the start of an entry of just that length: its last field says how long it is.
pub(super) fn fits_length(start: &[u8], length: u64) -> bool {
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
            // A name may be cut off; one that is longer than any command's is not valid.
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

//! Bytes of records.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | length `n` of the record, signed, little endian |
//! | n | protobuf: 1 type (varint), 2 crc (varint), 3 data (bytes; absent in a crc record) |
//!
//! The crc is CRC-32C over the data of this and of all records before it, through all segments. A crc record is at
//! the head of each segment, is not part of the sum and repeats the value so far.

use bytes::Bytes;
use prost::Message;

use super::{Damage, Form, Frames};
use crate::pb;

pub(crate) const METADATA: i64 = 1;
pub(crate) const ENTRY: i64 = 2;
pub(crate) const STATE: i64 = 3;
pub(crate) const CRC: i64 = 4;
pub(crate) const SNAPSHOT: i64 = 5;

/// Bytes of the length before each record.
pub(crate) const LENGTH_BYTES: usize = 8;

/// `walpb.Record`, as it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RawRecord {
    #[prost(int64, required, tag = "1")]
    pub kind: i64,
    #[prost(uint32, required, tag = "2")]
    pub crc: u32,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub data: Option<Bytes>,
}

/// An entry to write; it borrows its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// [`pb::ENTRY_NORMAL`] or [`pb::ENTRY_CONF_CHANGE`].
    pub kind: i32,
    /// The term in which a leader made it.
    pub term: u64,
    /// Its index in the raft log.
    pub index: u64,
    /// Its data; on disk, `None` is not the same as empty.
    pub data: Option<&'a [u8]>,
}

impl<'a> From<&'a pb::Entry> for EntryRef<'a> {
    fn from(entry: &'a pb::Entry) -> EntryRef<'a> {
        EntryRef { kind: entry.kind, term: entry.term, index: entry.index, data: entry.data.as_deref() }
    }
}

/// A small buffer without an allocation, for the fields of an entry before its data.
struct HeadBytes {
    bytes: [u8; 48],
    len: usize,
}

impl HeadBytes {
    fn new() -> HeadBytes {
        HeadBytes { bytes: [0; 48], len: 0 }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn field(&mut self, tag: u8, value: u64) {
        self.byte(tag);
        self.varint(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.byte(value.to_le_bytes()[0]);
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Encodes records one after the other into one buffer and keeps the running sum.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Encoded records that are not written yet.
    pub buffer: Vec<u8>,
    crc: u32,
    form: Form,
}

impl Encoder {
    pub(crate) fn new(crc: u32, form: Form) -> Encoder {
        Encoder { buffer: Vec::new(), crc, form }
    }

    pub(crate) fn set_form(&mut self, form: Form) {
        self.form = form;
    }

    /// The first record of a segment.
    pub(crate) fn crc_record(&mut self) {
        let mut head = HeadBytes::new();
        head.field(0x08, CRC.unsigned_abs());
        head.field(0x10, u64::from(self.crc));
        let pad = self.length(head.len);
        self.buffer.extend_from_slice(head.as_slice());
        self.pad(pad);
    }

    /// Writes the length of a record, and returns how many bytes of padding follow it.
    fn length(&mut self, record_len: usize) -> usize {
        let pad = if self.form == Form::V2 { 0 } else { record_len.wrapping_neg() % LENGTH_BYTES };
        let mark = if pad == 0 { 0 } else { (0x80 | pad as u64) << 56 };
        self.buffer.extend_from_slice(&(record_len as u64 | mark).to_le_bytes());
        pad
    }

    fn pad(&mut self, pad: usize) {
        self.buffer.resize(self.buffer.len() + pad, 0);
    }

    pub(crate) fn metadata(&mut self, metadata: &pb::Metadata) {
        let mut data = HeadBytes::new();
        data.field(0x08, metadata.node_id);
        data.field(0x10, metadata.cluster_id);
        self.record(METADATA, data.as_slice(), &[]);
    }

    pub(crate) fn state(&mut self, state: &pb::HardState) {
        let mut data = HeadBytes::new();
        data.field(0x08, state.term);
        data.field(0x10, state.vote);
        data.field(0x18, state.commit);
        self.record(STATE, data.as_slice(), &[]);
    }

    /// The mark of a snapshot, with the members at its index; the mark of an empty log has none.
    pub(crate) fn snapshot(&mut self, at: &pb::WalSnapshot, voters: &[u64]) {
        let mut data = HeadBytes::new();
        data.field(0x08, at.index);
        data.field(0x10, at.term);
        let mut members = Vec::new();
        if self.form >= Form::V3_5 && at.index > 0 {
            let state = ConfState35 { voters: voters.to_vec(), ..ConfState35::default() };
            prost::encoding::message::encode(3, &state, &mut members);
        }
        self.record(SNAPSHOT, data.as_slice(), &members);
    }

    pub(crate) fn entry(&mut self, entry: &EntryRef<'_>) {
        let mut head = HeadBytes::new();
        // A negative enum value is written in ten bytes, as protobuf has it.
        head.field(0x08, i64::from(entry.kind).cast_unsigned());
        head.field(0x10, entry.term);
        head.field(0x18, entry.index);
        if let Some(data) = entry.data {
            head.field(0x22, data.len() as u64);
        }
        self.record(ENTRY, head.as_slice(), entry.data.unwrap_or_default());
    }

    /// Encodes a record whose data are in two parts.
    fn record(&mut self, kind: i64, first: &[u8], second: &[u8]) {
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, first), second);
        let data_len = first.len() + second.len();
        let mut head = HeadBytes::new();
        head.field(0x08, kind.unsigned_abs());
        head.field(0x10, u64::from(self.crc));
        head.field(0x1a, data_len as u64);
        self.buffer.reserve(2 * LENGTH_BYTES + head.len + data_len);
        let pad = self.length(head.len + data_len);
        self.buffer.extend_from_slice(head.as_slice());
        self.buffer.extend_from_slice(first);
        self.buffer.extend_from_slice(second);
        self.pad(pad);
    }
}

/// Distinguishes a record that was cut off from one whose length is wrong.
///
/// `start` has the first bytes of a record whose length field says `record_len`. True if they can be the start of a
/// record of exactly that length.
pub(crate) fn fits_length(start: &[u8], record_len: u64) -> bool {
    match record_length(start) {
        RecordLength::Is(own) => own == record_len,
        RecordLength::CutOff => true,
        RecordLength::None => false,
    }
}

/// The length of a record according to its own fields, without the length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordLength {
    /// This many bytes.
    Is(u64),
    /// Not all of its fields are there; the present ones can be those of a record.
    CutOff,
    /// It is not the start of a record.
    None,
}

/// Reads the first fields of a record, of which `start` are the first bytes.
pub(crate) fn record_length(start: &[u8]) -> RecordLength {
    let mut rest = start;
    let mut used = 0u64;
    let mut kind = None;
    for tag in [0x08u8, 0x10] {
        match field(&mut rest, tag, &mut used) {
            Field::Value(value) if kind.is_none() => kind = Some(value),
            Field::Value(_) => {}
            Field::CutOff => return RecordLength::CutOff,
            Field::Other => return RecordLength::None,
        }
    }
    if kind == Some(CRC.unsigned_abs()) {
        return RecordLength::Is(used);
    }
    match field(&mut rest, 0x1a, &mut used) {
        Field::Value(data_len) => used.checked_add(data_len).map_or(RecordLength::None, RecordLength::Is),
        Field::CutOff => RecordLength::CutOff,
        Field::Other => RecordLength::None,
    }
}

enum Field {
    Value(u64),
    CutOff,
    Other,
}

/// Takes a tag and the varint after it from the front of `rest`.
fn field(rest: &mut &[u8], tag: u8, used: &mut u64) -> Field {
    let Some((first, tail)) = rest.split_first() else { return Field::CutOff };
    if *first != tag {
        return Field::Other;
    }
    let mut value = 0u64;
    for (i, byte) in tail.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i).min(63);
        if byte & 0x80 == 0 {
            *rest = &tail[i + 1..];
            *used += 2 + i as u64;
            return Field::Value(value);
        }
    }
    if tail.len() < 10 { Field::CutOff } else { Field::Other }
}

/// Decodes a message of the log; errors name it.
///
/// The checksum does not cover a record's type, so a message must not be taken for one of another type: unknown
/// fields are refused. (Missing fields are not: other writers leave zeros out.)
pub(crate) fn message<M: Message + Default>(bytes: Bytes, what: &'static str) -> Result<M, Damage> {
    let len = bytes.len();
    let message = M::decode(bytes).map_err(|_| Damage::Encoding(what))?;
    // Known fields, encoded in full, take at least as many bytes as they took here.
    if message.encoded_len() < len { Err(Damage::Encoding(what)) } else { Ok(message) }
}

/// Decodes a hard state. One of term 0 is never written: it would be an empty entry with the wrong type.
pub(crate) fn state(bytes: Bytes) -> Result<pb::HardState, Damage> {
    let state: pb::HardState = message(bytes, "state")?;
    if state.term == 0 { Err(Damage::Encoding("state")) } else { Ok(state) }
}

/// Decodes an entry, of the kinds that etcd knows (two in 2.x, a third one in 3.x); a state would be one of another
/// kind, or empty.
pub(crate) fn entry(bytes: Bytes, frames: Frames) -> Result<pb::Entry, Damage> {
    let entry: pb::Entry = message(bytes, "entry")?;
    match entry.kind {
        pb::ENTRY_NORMAL => Ok(entry),
        pb::ENTRY_CONF_CHANGE if entry.data.is_some() => Ok(entry),
        // A joint change without data ends the change before it.
        pb::ENTRY_CONF_CHANGE_V2 if frames == Frames::Any => Ok(entry),
        _ => Err(Damage::Encoding("entry")),
    }
}

/// The mark of a snapshot in 3.5, which has the members too.
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotWithMembers {
    #[prost(uint64, required, tag = "1")]
    index: u64,
    #[prost(uint64, required, tag = "2")]
    term: u64,
    #[prost(message, optional, tag = "3")]
    members: Option<ConfState35>,
}

/// `raftpb.ConfState` of 3.5.
#[derive(Clone, PartialEq, prost::Message)]
struct ConfState35 {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    learners: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    learners_next: Vec<u64>,
    #[prost(bool, required, tag = "5")]
    auto_leave: bool,
}

/// Decodes the mark of a snapshot.
pub(crate) fn snapshot(bytes: Bytes, frames: Frames) -> Result<pb::WalSnapshot, Damage> {
    match frames {
        Frames::V2 => message(bytes, "snapshot"),
        Frames::Any => {
            let SnapshotWithMembers { index, term, .. } = message(bytes, "snapshot")?;
            Ok(pb::WalSnapshot { index, term })
        }
    }
}

//! Messages between members, and their bytes: `raftpb.Message`, as Go writes it.
//!
//! Bytes from outside are decoded by our own types, and only then converted to those of the `raft` crate.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use raft::eraftpb::{self, EntryType, MessageType};
use shared::id::MemberId;
use shared::pb;
use shared::wal::EntryRef;

use super::content::{self, Content, InvalidEntry, Proposal};
use super::{bounds, convert};
use crate::version::Level;

/// A message to or from another member.
///
/// A message from another member is checked as far as that needs no knowledge of the log: its proposals are
/// encoded again by this program, and its appended entries are valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(pub(super) eraftpb::Message);

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Entries that a follower passes on to the leader.
    Propose,
    /// Entries from the leader, or a new commit index.
    Append,
    /// The answer to `Append` or `Snapshot`.
    AppendResponse,
    /// A candidate asks for a vote.
    Vote,
    /// The answer to it.
    VoteResponse,
    /// A snapshot of the store, for a follower that is too far behind.
    Snapshot,
    /// A leader's sign of life.
    Heartbeat,
    /// The answer to it.
    HeartbeatResponse,
    /// An extension of 2.3 that Go members do not know.
    Extension,
    /// Local to a member: never sent.
    Local,
}

impl Kind {
    pub(super) fn of(kind: MessageType) -> Kind {
        match kind {
            MessageType::MsgPropose => Kind::Propose,
            MessageType::MsgAppend => Kind::Append,
            MessageType::MsgAppendResponse => Kind::AppendResponse,
            MessageType::MsgRequestVote => Kind::Vote,
            MessageType::MsgRequestVoteResponse => Kind::VoteResponse,
            MessageType::MsgSnapshot => Kind::Snapshot,
            MessageType::MsgHeartbeat => Kind::Heartbeat,
            MessageType::MsgHeartbeatResponse => Kind::HeartbeatResponse,
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum => Kind::Local,
            MessageType::MsgTransferLeader
            | MessageType::MsgTimeoutNow
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse => Kind::Extension,
        }
    }
}

/// Why bytes are not a valid message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes are not protobuf, or hold values that etcd does not write.
    #[error("{0}")]
    Malformed(String),
    /// One of its entries is invalid.
    #[error("{0}")]
    InvalidEntry(#[from] InvalidEntry),
    /// The kind belongs to a later version. The message is ignored.
    #[error("messages of kind {0} are not known")]
    UnknownKind(i32),
}

/// The kind and snapshot index of a message, for receivers that ignore the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHead {
    /// The number of the kind.
    pub kind: i32,
    /// The index of its snapshot, if it has one.
    pub snapshot_index: Option<u64>,
}

impl MessageHead {
    /// Parses the bytes of a message.
    ///
    /// # Errors
    /// If they are not a valid message.
    pub fn decode(bytes: Bytes) -> Result<MessageHead, MessageError> {
        bounds::check_sizes(&bytes).map_err(MessageError::Malformed)?;
        let message =
            pb::Message::decode(bytes).map_err(|error| MessageError::Malformed(error.to_string()))?;
        let is_snapshot = message.kind == MessageType::MsgSnapshot as i32;
        let snapshot_index = is_snapshot.then_some(message.snapshot.metadata.index);
        Ok(MessageHead { kind: message.kind, snapshot_index })
    }
}

impl Message {
    /// Parses one message. Its data share `bytes`.
    ///
    /// # Errors
    /// If it is malformed, an entry is invalid, or a number is out of bounds.
    pub fn decode(bytes: Bytes) -> Result<Message, MessageError> {
        bounds::check_sizes(&bytes).map_err(MessageError::Malformed)?;
        let message =
            pb::Message::decode(bytes).map_err(|error| MessageError::Malformed(error.to_string()))?;
        let Some(kind) = kind_from_number(message.kind) else {
            return Err(MessageError::UnknownKind(message.kind));
        };
        let entries = entries(kind, message.entries)?;
        let mut raft = eraftpb::Message {
            msg_type: kind,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: entries.into(),
            commit: message.commit,
            commit_term: message.commit_term,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context.unwrap_or_default(),
            ..eraftpb::Message::default()
        };
        if kind == MessageType::MsgSnapshot {
            raft.set_snapshot(convert::snapshot_to_raft(message.snapshot));
        }
        Message::checked(raft)
    }

    /// An append message, built from the parts of a stream. Its entries have one term, which is also that of
    /// the entry at `index`.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn append(
        from: MemberId,
        to: MemberId,
        term: u64,
        index: u64,
        commit: u64,
        entries: Vec<pb::Entry>,
    ) -> Result<Message, MessageError> {
        Message::checked(eraftpb::Message {
            msg_type: MessageType::MsgAppend,
            from: from.0,
            to: to.0,
            term,
            log_term: term,
            index,
            commit,
            entries: self::entries(MessageType::MsgAppend, entries)?.into(),
            ..eraftpb::Message::default()
        })
    }

    /// Checks that members of a cluster of this level may have sent it.
    ///
    /// # Errors
    /// If an entry is a request that the level does not have.
    pub fn check_level(&self, level: Level) -> Result<(), MessageError> {
        content::check_levels(&self.0.entries, level).map_err(MessageError::from)
    }

    fn checked(message: eraftpb::Message) -> Result<Message, MessageError> {
        bounds::check(&message).map_err(MessageError::Malformed)?;
        Ok(Message(message))
    }

    /// Appends the message's bytes to `out`. For a snapshot message these do not contain the store: see
    /// [`Message::encode_around_snapshot`].
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_before_snapshot(out);
        let snapshot = convert::snapshot_from_raft(self.0.get_snapshot());
        prost::encoding::message::encode(9, &snapshot, out);
        self.encode_after_snapshot(out);
    }

    /// The most bytes that [`Message::encode`] writes.
    pub fn encoded_len_max(&self) -> usize {
        let entries: usize = self.0.entries.iter().map(|entry| entry.data.len() + ENTRY_BYTES_MAX).sum();
        entries + self.0.context.len() + HEAD_BYTES_MAX + self.0.get_snapshot().data.len()
    }

    /// The bytes before and after the snapshot (`raftpb.Snapshot`, `snapshot_len` bytes), which can be sent
    /// unchanged from its file.
    pub fn encode_around_snapshot(&self, snapshot_len: u64) -> (Bytes, Bytes) {
        let (mut before, mut after) = (BytesMut::new(), BytesMut::new());
        self.encode_before_snapshot(&mut before);
        encode_key(9, WireType::LengthDelimited, &mut before);
        encode_varint(snapshot_len, &mut before);
        self.encode_after_snapshot(&mut after);
        (before.freeze(), after.freeze())
    }

    fn encode_before_snapshot(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len_max());
        let message = &self.0;
        for (tag, value) in [
            (1, message.msg_type as u64),
            (2, message.to),
            (3, message.from),
            (4, message.term),
            (5, message.log_term),
            (6, message.index),
        ] {
            number(tag, value, out);
        }
        for entry in message.entries.iter() {
            let entry = convert::entry_from_raft(entry);
            encode_key(7, WireType::LengthDelimited, out);
            encode_varint(entry_len(&entry) as u64, out);
            encode_entry(&entry, out);
        }
        number(8, message.commit, out);
    }

    fn encode_after_snapshot(&self, out: &mut BytesMut) {
        let message = &self.0;
        number(10, u64::from(message.reject), out);
        number(11, message.reject_hint, out);
        if !message.context.is_empty() {
            encode_key(12, WireType::LengthDelimited, out);
            encode_varint(message.context.len() as u64, out);
            out.put_slice(&message.context);
        }
        if message.commit_term != 0 {
            number(15, message.commit_term, out);
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        Kind::of(self.0.msg_type)
    }

    /// Whether it carries entries or a snapshot.
    pub fn is_of_log(&self) -> bool {
        matches!(self.kind(), Kind::Append | Kind::Snapshot)
    }

    /// Whether it is local to a member: dropped when it comes from the network.
    pub fn is_local(&self) -> bool {
        self.kind() == Kind::Local
    }

    /// The sender.
    pub fn from(&self) -> MemberId {
        MemberId(self.0.from)
    }

    /// The receiver.
    pub fn to(&self) -> MemberId {
        MemberId(self.0.to)
    }

    /// The sender's term.
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// The term of the entry at [`Message::index`].
    pub fn log_term(&self) -> u64 {
        self.0.log_term
    }

    /// The index of the entry before the first one appended, or the index that an answer confirms or rejects.
    pub fn index(&self) -> u64 {
        self.0.index
    }

    /// The sender's commit index.
    pub fn commit(&self) -> u64 {
        self.0.commit
    }

    /// The entries that it appends or proposes.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = EntryRef<'_>> {
        self.0.entries.iter().map(convert::entry_from_raft)
    }

    /// The store as JSON, in a received snapshot.
    pub fn snapshot_data(&self) -> Bytes {
        self.0.get_snapshot().data.clone()
    }

    /// The metadata of its snapshot, if it has one. A snapshot that this member sends has no data here: they
    /// are in the file.
    pub fn snapshot(&self) -> Option<pb::SnapshotMetadata> {
        let is_one = self.0.msg_type == MessageType::MsgSnapshot;
        is_one.then(|| convert::snapshot_from_raft(self.0.get_snapshot()).metadata)
    }
}

/// Converts the entries of a message. Kinds that have no entries lose them.
fn entries(kind: MessageType, entries: Vec<pb::Entry>) -> Result<Vec<eraftpb::Entry>, MessageError> {
    match kind {
        MessageType::MsgPropose => {
            entries.into_iter().map(|entry| Ok(Proposal::parse(entry)?.to_entry())).collect()
        }
        MessageType::MsgAppend => {
            let parsed = |entry: pb::Entry| {
                let data = entry.data.clone().unwrap_or_default();
                // No leader writes one, and the log has no form for it: the member could not start again.
                if entry.kind == pb::ENTRY_CONF_CHANGE && data.is_empty() {
                    return Err(InvalidEntry::Empty.into());
                }
                match Content::parse(entry.kind, data) {
                    Ok(content) => content.check_appended()?,
                    // A client of a Go leader can cause the first, and a Go leader accepts the second: its log
                    // holds them, and all members skip them.
                    Err(InvalidEntry::NoMember | InvalidEntry::Verb(_)) => {}
                    Err(why) => return Err(why.into()),
                }
                Ok(convert::entry_to_raft(entry))
            };
            entries.into_iter().map(parsed).collect()
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            let read =
                |entry: pb::Entry| convert::proposal(EntryType::EntryNormal, entry.data.unwrap_or_default());
            Ok(entries.into_iter().map(read).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// The number of bytes that [`encode_entry`] writes for this entry.
pub fn entry_len(entry: &EntryRef<'_>) -> usize {
    let data = entry.data.map_or(0, |data| key_len(4) + encoded_len_varint(data.len() as u64) + data.len());
    3 * key_len(1)
        + encoded_len_varint(i64::from(entry.kind).cast_unsigned())
        + encoded_len_varint(entry.term)
        + encoded_len_varint(entry.index)
        + data
}

/// Appends the bytes of a `raftpb.Entry`.
pub fn encode_entry(entry: &EntryRef<'_>, out: &mut BytesMut) {
    number(1, i64::from(entry.kind).cast_unsigned(), out);
    number(2, entry.term, out);
    number(3, entry.index, out);
    if let Some(data) = entry.data {
        encode_key(4, WireType::LengthDelimited, out);
        encode_varint(data.len() as u64, out);
        out.put_slice(data);
    }
}

fn number(tag: u32, value: u64, out: &mut BytesMut) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

/// The most bytes of an entry beside its data: its own fields and its field in the message.
const ENTRY_BYTES_MAX: usize = 64;

/// The most bytes of a message beside entries and snapshot data, for a cluster of the usual size.
const HEAD_BYTES_MAX: usize = 256;

fn kind_from_number(number: i32) -> Option<MessageType> {
    use MessageType as T;
    let kinds = [
        T::MsgHup,
        T::MsgBeat,
        T::MsgPropose,
        T::MsgAppend,
        T::MsgAppendResponse,
        T::MsgRequestVote,
        T::MsgRequestVoteResponse,
        T::MsgSnapshot,
        T::MsgHeartbeat,
        T::MsgHeartbeatResponse,
        T::MsgUnreachable,
        T::MsgSnapStatus,
        T::MsgCheckQuorum,
        T::MsgTransferLeader,
        T::MsgTimeoutNow,
        T::MsgReadIndex,
        T::MsgReadIndexResp,
        T::MsgRequestPreVote,
        T::MsgRequestPreVoteResponse,
    ];
    let kind = *kinds.get(usize::try_from(number).ok()?)?;
    debug_assert!(kind as i32 == number, "the list is in the order of the numbers");
    Some(kind)
}

#[cfg(test)]
mod tests {
    use shared::v2;

    use super::*;

    fn bytes(hex: &str) -> Bytes {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn put(path: &str) -> Vec<u8> {
        let path = path.to_owned().into();
        v2::Request { verb: v2::Verb::Put, path, ..Default::default() }.encode_to_vec()
    }

    fn encoded(message: &Message) -> Bytes {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        out.freeze()
    }

    #[test]
    fn a_captured_answer_to_a_candidate_is_read_and_written_alike() {
        let captured = bytes(
            "0806 10a2a4b48fb4b4929b64 18b596bbbfd1bad9d94f 2002 2800 3000 4000 4a08 12060a0010001800 5000 5800",
        );
        let message = Message::decode(captured.clone()).unwrap();
        assert_eq!(message.kind(), Kind::VoteResponse);
        assert_eq!(message.from().to_string(), "4fb365d517eecb35");
        assert_eq!(message.to().to_string(), "643649a341ed1222");
        assert_eq!(encoded(&message), captured);
    }

    #[test]
    fn entries_come_back_as_they_went() {
        let entries = vec![
            pb::Entry { kind: 0, term: 3, index: 8, data: Some(put("/1/a").into()) },
            pb::Entry { kind: 0, term: 3, index: 9, data: None },
        ];
        let message = Message::append(MemberId(1), MemberId(2), 3, 7, 6, entries.clone()).unwrap();
        let got = Message::decode(encoded(&message)).unwrap();
        assert_eq!(got, message);
        assert_eq!(got.entries().collect::<Vec<_>>(), entries.iter().map(EntryRef::from).collect::<Vec<_>>());
        let by_prost = pb::Message {
            kind: 3,
            to: 2,
            from: 1,
            term: 3,
            log_term: 3,
            index: 7,
            commit: 6,
            entries,
            ..pb::Message::default()
        };
        // The one field that prost leaves out when it is zero, as in proto3, is zero here.
        assert_eq!(encoded(&message), by_prost.encode_to_vec());
    }

    #[test]
    fn a_snapshot_is_whole_with_what_stands_around_it() {
        let metadata =
            pb::SnapshotMetadata { conf_state: pb::ConfState { nodes: vec![1, 300] }, index: 5, term: 2 };
        let snapshot = pb::Snapshot { data: Some("{}".into()), metadata: metadata.clone() };
        let whole = pb::Message { kind: 7, to: 2, from: 1, term: 2, snapshot, ..pb::Message::default() };
        let message = Message::decode(whole.encode_to_vec().into()).unwrap();
        assert_eq!(message.snapshot(), Some(metadata));
        let body = whole.snapshot.encode_to_vec();
        let (before, after) = message.encode_around_snapshot(body.len() as u64);
        assert_eq!([&before[..], &body, &after].concat(), whole.encode_to_vec());
    }

    #[test]
    fn what_no_etcd_writes_is_refused() {
        assert_eq!(Message::decode(bytes("0863")), Err(MessageError::UnknownKind(99)));
        assert_eq!(Message::decode(bytes("0803 3a02 0802")), Err(InvalidEntry::Kind(2).into()));
        assert!(matches!(Message::decode(bytes("08")), Err(MessageError::Malformed(_))));
        assert!(Message::decode(Bytes::new()).unwrap().is_local());
    }
}

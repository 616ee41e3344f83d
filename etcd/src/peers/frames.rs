//! The frames of both streams.
//!
//! The `message` stream carries whole messages:
//!
//! ```text
//! length (8 bytes, big endian) | raftpb.Message
//! ```
//!
//! The `msgapp` stream ("v2") carries appends. The usual one omits what the receiver knows:
//!
//! ```text
//! 0                                                              the link is alive
//! 1 | count (8) | count × ( length (8) | Entry ) | commit (8)    entries that follow the last ones
//! 2 | length (8) | Message                                       a whole message
//! ```
//!
//! Numbers are big endian. Both sides remember a term and an index, (0, 0) on a new connection. A whole message
//! sets them to its term and its last entry; what follows in the same term needs neither.
//!
//! Everything here is a function of bytes. Input is untrusted: lengths are checked before memory is reserved for
//! them, and an incomplete frame reserves nothing.

use bytes::{Buf, BufMut, BytesMut};
use node::member::{ENTRIES_MAX, Kind, Message, MessageError, MessageHead, encode_entry, entry_len};
use prost::Message as _;
use shared::id::MemberId;
use shared::pb;

/// The longest frame that is accepted. A leader sends 1 MiB of entries at once, unless a single one is larger (a
/// client's value has at most 10 MiB). A follower may forward several proposals in one message.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;

/// The bytes of a length.
pub(super) const LENGTH_BYTES: usize = 8;

/// A heartbeat from member 0 to member 0, as Go writes it: it keeps the link alive.
pub(super) const LINK_HEARTBEAT: [u8; 36] = [
    0, 0, 0, 0, 0, 0, 0, 28, 0x08, 8, 0x10, 0, 0x18, 0, 0x20, 0, 0x28, 0, 0x30, 0, 0x40, 0, 0x4a, 8, 0x12, 6,
    0x0a, 0, 0x10, 0, 0x18, 0, 0x50, 0, 0x58, 0,
];

/// Which stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// Carries appends only, in a form that omits what the receiver knows.
    Append,
    /// Carries all messages.
    Message,
}

impl StreamKind {
    /// The path without its last part, which is the member's id.
    pub(super) fn path(self) -> &'static str {
        match self {
            StreamKind::Append => "/raft/stream/msgapp",
            StreamKind::Message => "/raft/stream/message",
        }
    }

    /// The name in log lines.
    pub(super) fn name(self) -> &'static str {
        match self {
            StreamKind::Append => "stream MsgApp v2",
            StreamKind::Message => "stream Message",
        }
    }
}

/// A frame that was read from a stream.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// A message, and its size in bytes.
    Message(Message, usize),
    /// A keep-alive frame, or a message of a kind that this version does not know.
    Ignored,
}

/// Why a stream cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// The length is too large: the peer is broken, or does not speak this protocol.
    #[error("a frame of {0} bytes; at most {FRAME_BYTES_MAX} are taken")]
    TooLong(u64),
    /// More entries than a leader sends at once.
    #[error("{0} entries in one frame")]
    TooMany(u64),
    /// An unknown frame type.
    #[error("failed to parse type {0} in msgappv2 stream")]
    Type(u8),
    /// A stream of appends carried another message.
    #[error("a message of kind {0:?} in msgappv2 stream")]
    Kind(Kind),
    /// Entries came before the whole message that says where they belong.
    #[error("entries in msgappv2 stream before a whole message")]
    Unannounced,
    /// Not a valid message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Not a valid entry.
    #[error("a broken entry: {0}")]
    Entry(String),
    /// An entry that does not follow the previous one.
    #[error("entry {found} where entry {wanted} is due")]
    Gap {
        /// The expected index.
        wanted: u64,
        /// The index that was received.
        found: u64,
    },
}

/// Reads one stream. Each connection needs a new reader.
#[derive(Debug)]
pub(super) enum FrameReader {
    /// The `msgapp` stream.
    Append(AppendReader),
    /// The `message` stream, which has no state.
    Message,
}

impl FrameReader {
    /// Takes the next frame off the front of `body`; `None` while it is incomplete.
    ///
    /// After an error the stream cannot be used any more.
    pub(super) fn next(&mut self, body: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match self {
            FrameReader::Append(reader) => reader.next(body),
            FrameReader::Message => {
                let Some((message, bytes)) = next_message(body)? else { return Ok(None) };
                Ok(Some(message.map_or(Frame::Ignored, |message| {
                    if is_link_heartbeat(&message) { Frame::Ignored } else { Frame::Message(message, bytes) }
                })))
            }
        }
    }
}

/// Writes a message with its length in front.
pub(super) fn write_message(message: &Message, out: &mut BytesMut) {
    let start = out.len();
    out.put_u64(0);
    message.encode(out);
    let length = (out.len() - start - LENGTH_BYTES) as u64;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Takes a message and its length off the front of `body`, and returns its size. The message is `None` if its kind is
/// unknown.
pub(super) fn next_message(body: &mut BytesMut) -> Result<Option<(Option<Message>, usize)>, FrameError> {
    let Some(length) = next_length(body)? else { return Ok(None) };
    body.advance(LENGTH_BYTES);
    let message = match Message::decode(body.split_to(length).freeze()) {
        Ok(message) => Some(message),
        Err(MessageError::UnknownKind(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Some((message, length + LENGTH_BYTES)))
}

/// Takes only the head of a message that will be rejected.
pub(super) fn next_head(body: &mut BytesMut) -> Result<Option<MessageHead>, FrameError> {
    let Some(length) = next_length(body)? else { return Ok(None) };
    body.advance(LENGTH_BYTES);
    Ok(Some(MessageHead::decode(body.split_to(length).freeze())?))
}

/// The length at the front of `body`, if that many bytes are there.
pub(super) fn next_length(body: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(announced) = body.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let announced = u64::from_be_bytes(*announced);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(announced));
    }
    Ok((body.len() - LENGTH_BYTES >= length).then_some(length))
}

/// The index after `index`. Fails for the largest one.
pub(super) fn next_index(index: u64) -> Result<u64, FrameError> {
    index.checked_add(1).ok_or(FrameError::Gap { wanted: index, found: 0 })
}

fn is_link_heartbeat(message: &Message) -> bool {
    message.kind() == Kind::Heartbeat && message.from().0 == 0 && message.to().0 == 0
}

const ALIVE: u8 = 0;
const ENTRIES: u8 = 1;
const WHOLE: u8 = 2;

/// The frame that keeps the `msgapp` stream alive.
pub(super) const APPEND_LINK_HEARTBEAT: [u8; 1] = [ALIVE];

/// Entries for which space is reserved before they arrive, whatever count the peer announces.
const ENTRIES_TRUSTED: usize = 256;

/// What the sender knows about the receiver's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct AppendWriter {
    term: u64,
    index: u64,
}

impl AppendWriter {
    /// Writes one append.
    pub(super) fn write(&mut self, message: &Message, out: &mut BytesMut) {
        let follows = self.index == message.index()
            && self.term == message.log_term()
            && message.log_term() == message.term();
        if follows {
            let entries = message.entries();
            let count = entries.len() as u64;
            out.reserve(message.encoded_len_max() + 3 * LENGTH_BYTES);
            out.put_u8(ENTRIES);
            out.put_u64(count);
            for entry in entries {
                out.put_u64(entry_len(&entry) as u64);
                encode_entry(&entry, out);
            }
            out.put_u64(message.commit());
            self.index += count;
        } else {
            out.put_u8(WHOLE);
            write_message(message, out);
            *self = AppendWriter::after(message);
        }
    }

    fn after(message: &Message) -> AppendWriter {
        let index = message.entries().last().map_or(message.index(), |entry| entry.index);
        AppendWriter { term: message.term(), index }
    }
}

/// The state of the receiver.
#[derive(Debug)]
pub(super) struct AppendReader {
    from: MemberId,
    to: MemberId,
    known: AppendWriter,
    /// A frame of entries that is incomplete.
    open: Option<OpenFrame>,
}

#[derive(Debug)]
struct OpenFrame {
    /// Entries that are still missing.
    rest: u64,
    entries: Vec<pb::Entry>,
    /// Bytes read so far.
    bytes: usize,
}

impl AppendReader {
    /// A reader for a connection from `from` to this member, `to`.
    pub(super) fn new(from: MemberId, to: MemberId) -> AppendReader {
        AppendReader { from, to, known: AppendWriter::default(), open: None }
    }

    /// See [`FrameReader::next`](FrameReader::next).
    pub(super) fn next(&mut self, body: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if self.open.is_none() {
            match body.first() {
                None => return Ok(None),
                Some(&ALIVE) => {
                    body.advance(1);
                    return Ok(Some(Frame::Ignored));
                }
                Some(&WHOLE) => return self.next_whole(body),
                Some(&ENTRIES) if body.len() <= LENGTH_BYTES => return Ok(None),
                Some(&ENTRIES) => {
                    body.advance(1);
                    let rest = body.get_u64();
                    if self.known.term == 0 {
                        return Err(FrameError::Unannounced);
                    }
                    if rest > ENTRIES_MAX {
                        return Err(FrameError::TooMany(rest));
                    }
                    let room = usize::try_from(rest).unwrap_or(usize::MAX).min(ENTRIES_TRUSTED);
                    let entries = Vec::with_capacity(room);
                    self.open = Some(OpenFrame { rest, entries, bytes: 1 + LENGTH_BYTES });
                }
                Some(&other) => return Err(FrameError::Type(other)),
            }
        }
        self.next_entries(body)
    }

    fn next_whole(&mut self, body: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if next_length(&body[1..])?.is_none() {
            return Ok(None);
        }
        body.advance(1);
        let Some((Some(message), bytes)) = next_message(body)? else { return Ok(Some(Frame::Ignored)) };
        if message.kind() != Kind::Append {
            return Err(FrameError::Kind(message.kind()));
        }
        self.known = AppendWriter::after(&message);
        Ok(Some(Frame::Message(message, bytes + 1)))
    }

    fn next_entries(&mut self, body: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        while open.rest > 0 {
            let Some(length) = next_length(body)? else { return Ok(None) };
            body.advance(LENGTH_BYTES);
            open.bytes += LENGTH_BYTES + length;
            if open.bytes > FRAME_BYTES_MAX {
                return Err(FrameError::TooLong(open.bytes as u64));
            }
            let entry = read_entry(body.split_to(length))?;
            let wanted = next_index(self.known.index)?;
            if entry.index != wanted {
                return Err(FrameError::Gap { wanted, found: entry.index });
            }
            self.known.index = wanted;
            open.entries.push(entry);
            open.rest -= 1;
        }
        if body.len() < LENGTH_BYTES {
            return Ok(None);
        }
        let commit = body.get_u64();
        let Some(OpenFrame { entries, bytes, .. }) = self.open.take() else { return Ok(None) };
        let index = self.known.index.wrapping_sub(entries.len() as u64);
        let message = Message::append(self.from, self.to, self.known.term, index, commit, entries)?;
        Ok(Some(Frame::Message(message, bytes + LENGTH_BYTES)))
    }
}

fn read_entry(bytes: BytesMut) -> Result<pb::Entry, FrameError> {
    pb::Entry::decode(bytes.freeze()).map_err(|error| FrameError::Entry(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> BytesMut {
        let hex: String = hex.split_whitespace().collect();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        BytesMut::from_iter((0..hex.len()).step_by(2).map(byte))
    }

    const CAPTURED: &str =
        "000000000000002c 0806 10a2a4b48fb4b4929b64 18b596bbbfd1bad9d94f 2002 2800 3000 4000
         4a08 12060a0010001800 5000 5800";

    #[test]
    fn a_captured_message_is_read_and_written_alike() {
        let mut body = bytes(CAPTURED);
        let whole = body.clone();
        let Some(Frame::Message(message, taken)) = FrameReader::Message.next(&mut body).unwrap() else {
            panic!("no message");
        };
        assert_eq!((taken, body.len()), (whole.len(), 0));
        assert_eq!(message.kind(), Kind::VoteResponse);
        let mut out = BytesMut::new();
        write_message(&message, &mut out);
        assert_eq!(out, whole);
    }

    #[test]
    fn a_part_of_a_frame_waits_for_the_rest() {
        let whole = bytes(CAPTURED);
        for length in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..length]);
            assert_eq!(FrameReader::Message.next(&mut part).unwrap(), None, "{length}");
            assert_eq!(part.len(), length);
        }
    }

    #[test]
    fn heartbeats_of_the_link_and_unknown_kinds_say_nothing() {
        let mut body = BytesMut::from(&LINK_HEARTBEAT[..]);
        body.extend_from_slice(&bytes("0000000000000002 0863"));
        assert_eq!(FrameReader::Message.next(&mut body).unwrap(), Some(Frame::Ignored));
        assert_eq!(FrameReader::Message.next(&mut body).unwrap(), Some(Frame::Ignored));
        assert!(body.is_empty());
        let written = Message::decode(BytesMut::from(&LINK_HEARTBEAT[LENGTH_BYTES..]).freeze()).unwrap();
        let mut out = BytesMut::new();
        write_message(&written, &mut out);
        assert_eq!(out, LINK_HEARTBEAT[..]);
    }

    #[test]
    fn a_length_beyond_reason_is_refused_at_once() {
        let mut body = bytes("ffffffffffffffff");
        assert_eq!(FrameReader::Message.next(&mut body), Err(FrameError::TooLong(u64::MAX)));
    }

    #[test]
    fn entries_out_of_order_are_refused() {
        let entry = |index| pb::Entry { kind: 0, term: 1, index, data: None };
        let append = |entries| Message::append(MemberId(1), MemberId(2), 1, 4, 4, entries);
        assert!(append(vec![entry(5), entry(6)]).is_ok());
        assert!(append(vec![entry(5), entry(7)]).is_err());
    }

    const FROM: MemberId = MemberId(0x6436_49a3_41ed_1222);
    const TO: MemberId = MemberId(0x9abb_bc3d_d05a_233a);

    fn reader() -> FrameReader {
        FrameReader::Append(AppendReader::new(FROM, TO))
    }

    fn entry(term: u64, index: u64, val: &str) -> pb::Entry {
        // Like the recorded entries: without a method.
        let request = pb::Request { val: val.to_owned().into(), ..pb::Request::default() };
        pb::Entry { kind: 0, term, index, data: Some(request.encode_to_vec().into()) }
    }

    fn append(term: u64, index: u64, commit: u64, entries: Vec<pb::Entry>) -> Message {
        Message::append(FROM, TO, term, index, commit, entries).unwrap()
    }

    fn read_all(mut body: BytesMut, piece: usize) -> Vec<Frame> {
        let (mut reader, mut part, mut got) = (reader(), BytesMut::new(), Vec::new());
        while !body.is_empty() {
            part.extend_from_slice(&body.split_to(piece.min(body.len())));
            while let Some(received) = reader.next(&mut part).unwrap() {
                got.push(received);
            }
        }
        assert!(part.is_empty());
        got
    }

    /// Sent by a leader of 2.3.8; the data of the entries are replaced.
    #[test]
    fn a_captured_sequence_is_read() {
        let body = bytes(
            "02 0000000000000035 0803 10bac6e882dd87efdd9a01 18a2a4b48fb4b4929b64 2002 2801 3003
             3a06 080010021804 4003 4a08 12060a0010001800 5000 5800
             01 0000000000000002 000000000000000a 08001002180522020801 000000000000000a 08001002180622020802
             0000000000000004
             01 0000000000000000 0000000000000006 00",
        );
        for piece in [1, 7, body.len()] {
            let got = read_all(body.clone(), piece);
            let Frame::Message(first, 62) = &got[0] else { panic!("{:?}", got[0]) };
            assert_eq!((first.from(), first.to(), first.log_term()), (FROM, TO, 1));
            let with_id = |index, id| pb::Entry { data: Some(vec![8, id].into()), ..entry(2, index, "") };
            let second = append(2, 4, 4, vec![with_id(5, 1), with_id(6, 2)]);
            assert_eq!(got[1], Frame::Message(second, 1 + 8 + 2 * 18 + 8));
            assert_eq!(got[2], Frame::Message(append(2, 6, 6, Vec::new()), 17));
            assert_eq!(got[3], Frame::Ignored);
        }
    }

    #[test]
    fn what_is_written_is_read_and_short_where_it_can_be() {
        let messages = [
            append(2, 4, 3, vec![entry(2, 5, "a")]),
            append(2, 5, 5, vec![entry(2, 6, &"b".repeat(3000)), entry(2, 7, "")]),
            append(2, 7, 7, Vec::new()),
            append(2, 5, 7, vec![entry(2, 6, "again")]),
            append(3, 6, 7, vec![entry(3, 7, "other")]),
        ];
        let (mut writer, mut out, mut types) = (AppendWriter::default(), BytesMut::new(), Vec::new());
        for message in &messages {
            let at = out.len();
            writer.write(message, &mut out);
            types.push(out[at]);
        }
        assert_eq!(types, [WHOLE, ENTRIES, ENTRIES, WHOLE, WHOLE]);
        for piece in [1, 13, 4096] {
            let got = read_all(out.clone(), piece);
            assert_eq!(got.len(), messages.len());
            for (got, sent) in got.iter().zip(&messages) {
                let Frame::Message(got, _) = got else { panic!("{got:?}") };
                // Absent and empty data are equal in memory.
                assert_eq!(got, sent);
            }
        }
    }

    #[test]
    fn an_append_of_a_former_term_is_whole() {
        // Term 3 sends an entry of term 2: the short form needs one term for all.
        let mut body = BytesMut::new();
        let message = Message::decode(bytes("0803 1001 1802 2003 2802 3004").freeze()).unwrap();
        let mut writer = AppendWriter { term: 2, index: 4 };
        writer.write(&message, &mut body);
        assert_eq!(body[0], WHOLE);
        assert_eq!(writer, AppendWriter { term: 3, index: 4 });
    }

    #[test]
    fn nonsense_is_refused_without_making_room_for_it() {
        let refused = |hex: &str| {
            let mut reader = reader();
            let mut body = BytesMut::new();
            AppendWriter::default().write(&append(2, 4, 3, Vec::new()), &mut body);
            reader.next(&mut body).unwrap().unwrap();
            reader.next(&mut bytes(hex)).unwrap_err()
        };
        assert_eq!(refused("03"), FrameError::Type(3));
        assert_eq!(refused("01 ffffffffffffffff"), FrameError::TooMany(u64::MAX));
        assert!(matches!(refused("01 0000000000000001 7fffffffffffffff"), FrameError::TooLong(_)));
        assert!(matches!(refused("02 7fffffffffffffff"), FrameError::TooLong(_)));
        assert!(matches!(refused("02 0000000000000001 08"), FrameError::Message(_)));
        let frame = |entry: &str| format!("01 0000000000000001 {:016x} {entry} {:016x}", entry.len() / 2, 0);
        assert_eq!(refused(&frame("080010021804")), FrameError::Gap { wanted: 5, found: 4 });
        // An unknown kind of entry, another term than the stream's, not a request, and an unknown kind of change.
        for entry in
            ["080210021805", "080010011805", "080010031805", "080010021805220161", "08011002180522021003"]
        {
            assert!(matches!(refused(&frame(entry)), FrameError::Message(_)), "{entry}");
        }
    }

    /// Only a whole append says where entries belong.
    #[test]
    fn a_stream_begins_with_an_append() {
        let entries = "01 0000000000000001 0000000000000006 080010021801 0000000000000000";
        assert_eq!(reader().next(&mut bytes(entries)).unwrap_err(), FrameError::Unannounced);
        let heartbeat = "02 0000000000000008 0808 1001 1802 2002";
        assert_eq!(reader().next(&mut bytes(heartbeat)).unwrap_err(), FrameError::Kind(Kind::Heartbeat));
    }

    proptest::proptest! {
        /// Changed, cut or random bytes: errors and messages, but no panic and no endless loop.
        #[test]
        fn any_bytes_end(changes in proptest::collection::vec((0..400_usize, 0..=255_u8), 0..8), cut in 0..400_usize) {
            let (mut writer, mut out) = (AppendWriter::default(), BytesMut::new());
            writer.write(&append(2, 4, 3, vec![entry(2, 5, "a"), entry(2, 6, "bcd")]), &mut out);
            writer.write(&append(2, 6, 6, vec![entry(2, 7, "a"), entry(2, 8, "bcd")]), &mut out);
            writer.write(&append(2, 8, 8, Vec::new()), &mut out);
            for (at, byte) in changes {
                if let Some(place) = out.get_mut(at) {
                    *place = byte;
                }
            }
            out.truncate(cut);
            for mut reader in [reader(), FrameReader::Message] {
                let mut body = out.clone();
                while let Ok(Some(_)) = reader.next(&mut body) {}
            }
        }
    }
}

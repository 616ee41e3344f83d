//! The frames of the `message` stream, and what is common to both streams.
//!
//! ```text
//! length (8 bytes, big endian) | raftpb.Message
//! ```
//!
//! Everything here is a function of bytes. Input is untrusted: lengths are bounded before anything is set
//! aside for them, and a frame that is not all there yet costs nothing.

use bytes::{Buf, BufMut, BytesMut};
use node::member::{Kind, Message, MessageError, MessageHead};

use super::appends::AppendReader;

/// The longest frame that is taken. A leader sends 1 MiB of entries at once, unless a single one is larger (a
/// client's value has 10 MiB at most); proposals that a follower forwards may stand together.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;

/// Bytes of a length.
pub(super) const LENGTH: usize = 8;

/// A heartbeat from nobody to nobody, as Go writes it: it tells that the link is alive.
pub(super) const LINK_HEARTBEAT: [u8; 36] = [
    0, 0, 0, 0, 0, 0, 0, 28, 0x08, 8, 0x10, 0, 0x18, 0, 0x20, 0, 0x28, 0, 0x30, 0, 0x40, 0, 0x4a, 8, 0x12, 6,
    0x0a, 0, 0x10, 0, 0x18, 0, 0x50, 0, 0x58, 0,
];

/// Which stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// Appends only, in a form that leaves out what the other side knows.
    Append,
    /// All messages.
    Message,
}

impl StreamKind {
    /// The last but one part of its path.
    pub(super) fn path(self) -> &'static str {
        match self {
            StreamKind::Append => "/raft/stream/msgapp",
            StreamKind::Message => "/raft/stream/message",
        }
    }

    /// As the log calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            StreamKind::Append => "stream MsgApp v2",
            StreamKind::Message => "stream Message",
        }
    }
}

/// What a stream brought.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// A message, and how many bytes it took.
    Message(Message, usize),
    /// The link is alive, or the message is of a kind from a later time.
    Nothing,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// A length beyond all reason: the other side is broken, or does not speak this protocol.
    #[error("a frame of {0} bytes; at most {FRAME_BYTES_MAX} are taken")]
    TooLong(u64),
    /// More entries than any leader puts together.
    #[error("{0} entries in one frame")]
    TooMany(u64),
    /// Not a type of frame.
    #[error("failed to parse type {0} in msgappv2 stream")]
    Type(u8),
    /// A stream of appends brought something else.
    #[error("a message of kind {0:?} in msgappv2 stream")]
    Kind(Kind),
    /// Entries before the message that says where they belong.
    #[error("entries in msgappv2 stream before a whole message")]
    Unannounced,
    /// Not a message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Not an entry.
    #[error("a broken entry: {0}")]
    Entry(String),
    /// An entry that does not follow the one before it.
    #[error("entry {found} where entry {wanted} is due")]
    Gap {
        /// The index that comes next.
        wanted: u64,
        /// What came.
        found: u64,
    },
}

/// Reads one stream. A new connection needs a new one.
#[derive(Debug)]
pub(super) enum FrameReader {
    /// Of the `msgapp` stream.
    Append(AppendReader),
    /// Of the `message` stream, which has no state.
    Message,
}

impl FrameReader {
    /// The next frame of `body`, taken off its front; `None` while it is not all there.
    ///
    /// After an error the stream is of no further use.
    pub(super) fn next(&mut self, body: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        match self {
            FrameReader::Append(reader) => reader.next(body),
            FrameReader::Message => {
                let Some((message, bytes)) = next_message(body)? else { return Ok(None) };
                Ok(Some(message.map_or(Received::Nothing, |message| {
                    if is_link_heartbeat(&message) {
                        Received::Nothing
                    } else {
                        Received::Message(message, bytes)
                    }
                })))
            }
        }
    }
}

/// Writes one message with its length.
pub(super) fn write_message(message: &Message, out: &mut BytesMut) {
    let start = out.len();
    out.put_u64(0);
    message.encode(out);
    let length = (out.len() - start - LENGTH) as u64;
    out[start..start + LENGTH].copy_from_slice(&length.to_be_bytes());
}

/// A message with its length, and how many bytes they are. No message when it is of an unknown kind.
pub(super) fn next_message(body: &mut BytesMut) -> Result<Option<(Option<Message>, usize)>, FrameError> {
    let Some(length) = next_length(body)? else { return Ok(None) };
    body.advance(LENGTH);
    let message = match Message::decode(body.split_to(length).freeze()) {
        Ok(message) => Some(message),
        Err(MessageError::UnknownKind(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Some((message, length + LENGTH)))
}

/// What a message that is not to be taken says of itself.
pub(super) fn next_head(body: &mut BytesMut) -> Result<Option<MessageHead>, FrameError> {
    let Some(length) = next_length(body)? else { return Ok(None) };
    body.advance(LENGTH);
    Ok(Some(MessageHead::decode(body.split_to(length).freeze())?))
}

/// The length at the front of `body`, if all that it announces is there too.
pub(super) fn next_length(body: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(announced) = body.first_chunk::<LENGTH>() else { return Ok(None) };
    let announced = u64::from_be_bytes(*announced);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(announced));
    }
    Ok((body.len() - LENGTH >= length).then_some(length))
}

/// The index after `index`. The last one there is has none.
pub(super) fn after(index: u64) -> Result<u64, FrameError> {
    index.checked_add(1).ok_or(FrameError::Gap { wanted: index, found: 0 })
}

fn is_link_heartbeat(message: &Message) -> bool {
    message.kind() == Kind::Heartbeat && message.from().0 == 0 && message.to().0 == 0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn bytes(hex: &str) -> BytesMut {
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
        let Some(Received::Message(message, taken)) = FrameReader::Message.next(&mut body).unwrap() else {
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
        assert_eq!(FrameReader::Message.next(&mut body).unwrap(), Some(Received::Nothing));
        assert_eq!(FrameReader::Message.next(&mut body).unwrap(), Some(Received::Nothing));
        assert!(body.is_empty());
        let written = Message::decode(BytesMut::from(&LINK_HEARTBEAT[LENGTH..]).freeze()).unwrap();
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
        use shared::id::MemberId;
        let entry = |index| shared::pb::Entry { kind: 0, term: 1, index, data: None };
        let append = |entries| Message::append(MemberId(1), MemberId(2), 1, 4, 4, entries);
        assert!(append(vec![entry(5), entry(6)]).is_ok());
        assert!(append(vec![entry(5), entry(7)]).is_err());
    }
}

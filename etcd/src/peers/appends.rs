//! The frames of the `msgapp` stream ("v2"): appends, of which the usual one says only what is new.
//!
//! ```text
//! 0                                                              the link is alive
//! 1 | count (8) | count × ( length (8) | Entry ) | commit (8)    entries that follow the last ones
//! 2 | length (8) | Message                                       a whole message
//! ```
//!
//! Numbers are big endian. Both sides remember a term and an index, (0, 0) on a new connection. A whole message
//! sets them to its term and its last entry; what follows in the same term needs neither.

use bytes::{Buf, BufMut, BytesMut};
use node::member::{ENTRIES_MAX, Kind, Message, encode_entry, entry_len};
use prost::Message as _;
use shared::id::MemberId;
use shared::pb;

use super::frames::{
    FRAME_BYTES_MAX, FrameError, LENGTH, Received, after, next_length, next_message, write_message,
};

const ALIVE: u8 = 0;
const ENTRIES: u8 = 1;
const WHOLE: u8 = 2;

/// The frame that says the link is alive.
pub(super) const LINK_HEARTBEAT: [u8; 1] = [ALIVE];

/// Room for entries that is made on the word of the other side alone.
const ENTRIES_TRUSTED: usize = 256;

/// What the sender knows the receiver to know.
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
            out.reserve(message.encoded_len_max() + 3 * LENGTH);
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

/// What the receiver knows.
#[derive(Debug)]
pub(super) struct AppendReader {
    from: MemberId,
    to: MemberId,
    known: AppendWriter,
    /// A frame of entries of which not all have come.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Entries still to come.
    rest: u64,
    entries: Vec<pb::Entry>,
    /// Bytes taken so far.
    bytes: usize,
}

impl AppendReader {
    /// For a connection to `from`, by which `to` is told.
    pub(super) fn new(from: MemberId, to: MemberId) -> AppendReader {
        AppendReader { from, to, known: AppendWriter::default(), open: None }
    }

    /// See [`FrameReader::next`](super::frames::FrameReader::next).
    pub(super) fn next(&mut self, body: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        if self.open.is_none() {
            match body.first() {
                None => return Ok(None),
                Some(&ALIVE) => {
                    body.advance(1);
                    return Ok(Some(Received::Nothing));
                }
                Some(&WHOLE) => return self.next_whole(body),
                Some(&ENTRIES) if body.len() <= LENGTH => return Ok(None),
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
                    self.open = Some(Open { rest, entries, bytes: 1 + LENGTH });
                }
                Some(&other) => return Err(FrameError::Type(other)),
            }
        }
        self.next_entries(body)
    }

    fn next_whole(&mut self, body: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        if next_length(&body[1..])?.is_none() {
            return Ok(None);
        }
        body.advance(1);
        let Some((Some(message), bytes)) = next_message(body)? else { return Ok(Some(Received::Nothing)) };
        if message.kind() != Kind::Append {
            return Err(FrameError::Kind(message.kind()));
        }
        self.known = AppendWriter::after(&message);
        Ok(Some(Received::Message(message, bytes + 1)))
    }

    fn next_entries(&mut self, body: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        while open.rest > 0 {
            let Some(length) = next_length(body)? else { return Ok(None) };
            body.advance(LENGTH);
            open.bytes += LENGTH + length;
            if open.bytes > FRAME_BYTES_MAX {
                return Err(FrameError::TooLong(open.bytes as u64));
            }
            let entry = read_entry(body.split_to(length))?;
            let wanted = after(self.known.index)?;
            if entry.index != wanted {
                return Err(FrameError::Gap { wanted, found: entry.index });
            }
            self.known.index = wanted;
            open.entries.push(entry);
            open.rest -= 1;
        }
        if body.len() < LENGTH {
            return Ok(None);
        }
        let commit = body.get_u64();
        let Some(Open { entries, bytes, .. }) = self.open.take() else { return Ok(None) };
        let index = self.known.index.wrapping_sub(entries.len() as u64);
        let message = Message::append(self.from, self.to, self.known.term, index, commit, entries)?;
        Ok(Some(Received::Message(message, bytes + LENGTH)))
    }
}

fn read_entry(bytes: BytesMut) -> Result<pb::Entry, FrameError> {
    pb::Entry::decode(bytes.freeze()).map_err(|error| FrameError::Entry(error.to_string()))
}

#[cfg(test)]
mod tests {

    use super::super::frames::{FrameReader, tests::bytes};
    use super::*;

    const FROM: MemberId = MemberId(0x6436_49a3_41ed_1222);
    const TO: MemberId = MemberId(0x9abb_bc3d_d05a_233a);

    fn reader() -> FrameReader {
        FrameReader::Append(AppendReader::new(FROM, TO))
    }

    fn entry(term: u64, index: u64, val: &str) -> pb::Entry {
        // As the recorded entries, without a verb.
        let request = pb::Request { val: val.to_owned().into(), ..pb::Request::default() };
        pb::Entry { kind: 0, term, index, data: Some(request.encode_to_vec().into()) }
    }

    fn append(term: u64, index: u64, commit: u64, entries: Vec<pb::Entry>) -> Message {
        Message::append(FROM, TO, term, index, commit, entries).unwrap()
    }

    fn read_all(mut body: BytesMut, piece: usize) -> Vec<Received> {
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

    /// What a leader of 2.3.8 sent, the data of its entries replaced.
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
            let Received::Message(first, 62) = &got[0] else { panic!("{:?}", got[0]) };
            assert_eq!((first.from(), first.to(), first.log_term()), (FROM, TO, 1));
            let with_id = |index, id| pb::Entry { data: Some(vec![8, id].into()), ..entry(2, index, "") };
            let second = append(2, 4, 4, vec![with_id(5, 1), with_id(6, 2)]);
            assert_eq!(got[1], Received::Message(second, 1 + 8 + 2 * 18 + 8));
            assert_eq!(got[2], Received::Message(append(2, 6, 6, Vec::new()), 17));
            assert_eq!(got[3], Received::Nothing);
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
                let Received::Message(got, _) = got else { panic!("{got:?}") };
                // What is nil and what is empty is one in memory.
                assert_eq!(got, sent);
            }
        }
    }

    #[test]
    fn an_append_of_a_former_term_is_whole() {
        // Term 3 sends an entry of term 2: the rule of the short form wants one term for all.
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
        // Of no known kind, of another term than the stream's, no request, and a change of no known kind.
        for entry in
            ["080210021805", "080010011805", "080010031805", "080010021805220161", "08011002180522021003"]
        {
            assert!(matches!(refused(&frame(entry)), FrameError::Message(_)), "{entry}");
        }
    }

    /// Nothing but a whole append says where entries belong.
    #[test]
    fn a_stream_begins_with_an_append() {
        let entries = "01 0000000000000001 0000000000000006 080010021801 0000000000000000";
        assert_eq!(reader().next(&mut bytes(entries)).unwrap_err(), FrameError::Unannounced);
        let heartbeat = "02 0000000000000008 0808 1001 1802 2002";
        assert_eq!(reader().next(&mut bytes(heartbeat)).unwrap_err(), FrameError::Kind(Kind::Heartbeat));
    }

    proptest::proptest! {
        /// Bytes changed, cut or made up: errors and messages, but no panic and no endless loop.
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

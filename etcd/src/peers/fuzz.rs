//! A body for fuzzers: sends peer streams and heads of posted snapshots to running members.

use bytes::{BufMut, BytesMut};
use node::member::fuzz::{Attack, Choices};
use prost::Message as _;
use shared::id::MemberId;

use super::frames::{AppendReader, Frame, FrameReader, next_head};

/// The most frames on one stream.
const FRAMES_MAX: usize = 40;

const VICTIM: u64 = 2;

/// Reads `input` as choices of what a peer sends on a stream, and delivers the messages that are decoded.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_streams(input: &[u8]) {
    let mut choices = Choices(input);
    let mut attack = Attack::new(choices.below(2) == 1, choices.below(4) > 0);
    let mut reader = match choices.below(3) {
        0 => FrameReader::Message,
        _ => FrameReader::Append(AppendReader::new(MemberId(1), MemberId(VICTIM))),
    };
    let mut body = BytesMut::new();
    for _ in 0..FRAMES_MAX {
        if choices.0.is_empty() {
            break;
        }
        let message = attack.hostile(VICTIM, &mut choices);
        let mut head = BytesMut::new();
        put_message(&message, &mut head);
        let _ = next_head(&mut head);
        match choices.below(4) {
            0 => body.put_u8(0),
            1 => {
                body.put_u8(1);
                body.put_u64(message.entries.len() as u64);
                for entry in &message.entries {
                    body.put_u64(entry.encoded_len() as u64);
                    body.extend_from_slice(&entry.encode_to_vec());
                }
                body.put_u64(message.commit);
            }
            2 => {
                body.put_u8(2);
                put_message(&message, &mut body);
            }
            _ => put_message(&message, &mut body),
        }
        loop {
            match reader.next(&mut body) {
                Ok(Some(Frame::Message(message, _))) => attack.step(VICTIM, message),
                Ok(Some(Frame::Ignored)) => {}
                Ok(None) => break,
                // The stream ends; a new one begins.
                Err(_) => {
                    body.clear();
                    reader = FrameReader::Append(AppendReader::new(MemberId(1), MemberId(VICTIM)));
                    break;
                }
            }
        }
    }
    attack.check_that_all_go_on();
}

fn put_message(message: &shared::pb::Message, out: &mut BytesMut) {
    out.put_u64(message.encoded_len() as u64);
    out.extend_from_slice(&message.encode_to_vec());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_streams(input in prop::collection::vec(any::<u8>(), 0..2000)) {
            fuzz_streams(&input);
        }
    }
}

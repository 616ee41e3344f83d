//! Bounds on the numbers and sizes in messages.
//!
//! The `raft` crate trusts its peers: it uses any number that they send, and panics where it does not fit.
//! These checks need no knowledge of this member's log; the others are in `acceptance`.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use raft::eraftpb::{self, MessageType};
use shared::time::UnixNanos;

/// The highest index. A log with a million entries a second reaches it in two thousand years.
pub const INDEX_MAX: u64 = 1 << 56;

/// The highest term with which a member starts: elections can still raise it.
pub const TERM_MAX: u64 = u64::MAX - (1 << 33);

/// The highest index of an accepted snapshot: entries can follow it.
const SNAPSHOT_INDEX_MAX: u64 = INDEX_MAX / 2;

/// Entries in one message. Even empty ones take 14 bytes of the 1 MiB that a leader sends at once.
pub const ENTRIES_MAX: u64 = 1 << 18;

/// Voters in a snapshot. A cluster has a handful; this many could not even connect to each other.
const VOTERS_MAX: usize = 256;

/// The longest context of a read or of a handed-over election. Ours have 8 and 16 bytes.
const CONTEXT_BYTES_MAX: usize = 64;

/// Terms that may have passed by [`FIRST_ELECTION`], also where the clock is wrong: more than a century of
/// elections by timeout.
const TERMS_BEFORE: u64 = 1 << 32;

/// When the first etcd was released: 2013-07-01.
const FIRST_ELECTION: UnixNanos = UnixNanos(1_372_636_800_000_000_000);

/// The shortest term in nanoseconds: the shortest useful election timeout is five times as long.
const TERM_NANOS_MIN: i64 = 10_000_000;

/// How far apart the terms of members may be that are all beyond the bound: an earlier version let one message
/// raise a term so far, and those members must still work with each other.
const TERMS_ASIDE: u64 = 1 << 16;

/// The highest term that a member accepts. A term lasts at least as long as an election, so the time bounds the
/// number of terms in any cluster: a message with a higher one is invalid.
///
/// It does not depend on the member's own term. So members that were offline, or are new, accept the terms of
/// the others, and no message can drive a cluster to a term that a new member would refuse.
#[derive(Debug, Clone, Copy)]
pub(super) struct TermBound {
    max: u64,
    /// Added for a member whose own term is beyond the bound.
    aside: u64,
}

impl TermBound {
    /// For a member that starts at `term`.
    pub(super) fn new(term: u64, now: UnixNanos) -> TermBound {
        let max = terms_until(now);
        let aside = if term > max { (term - max).saturating_add(TERMS_ASIDE) } else { 0 };
        TermBound { max: max.saturating_add(aside).min(TERM_MAX + TERMS_BEFORE), aside }
    }

    /// Raises the bound with the time; it never falls, even if the clock does.
    pub(super) fn pass(&mut self, now: UnixNanos) {
        let max = terms_until(now).saturating_add(self.aside).min(TERM_MAX + TERMS_BEFORE);
        self.max = self.max.max(max);
    }

    /// The highest term that is accepted.
    pub(super) fn max(self) -> u64 {
        self.max
    }
}

fn terms_until(now: UnixNanos) -> u64 {
    let passed = now.0.saturating_sub(FIRST_ELECTION.0).max(0) / TERM_NANOS_MIN;
    TERMS_BEFORE + passed.cast_unsigned()
}

/// Checks, before a message is decoded, how much memory it would take: an entry of a few bytes can announce a
/// large size.
pub(super) fn check_sizes(bytes: &Bytes) -> Result<(), String> {
    const ENTRIES: u32 = 7;
    const SNAPSHOT: u32 = 9;
    const METADATA: u32 = 2;
    const CONF_STATE: u32 = 1;
    let mut entries = 0;
    let mut voter_bytes = 0;
    fields(&mut &bytes[..], |field, snapshot| {
        entries += u64::from(field == ENTRIES);
        if field != SNAPSHOT {
            return Ok(());
        }
        fields(&mut &*snapshot, |field, metadata| {
            if field != METADATA {
                return Ok(());
            }
            fields(&mut &*metadata, |field, conf_state| {
                voter_bytes += if field == CONF_STATE { conf_state.len() } else { 0 };
                Ok(())
            })
        })
    })?;
    if entries > ENTRIES_MAX {
        return Err(format!("{entries} entries; at most {ENTRIES_MAX} are taken"));
    }
    // A number takes one byte for its key and at most ten for itself.
    if voter_bytes > VOTERS_MAX * 11 {
        return Err(format!("a list of voters of {voter_bytes} bytes"));
    }
    Ok(())
}

/// Calls `each` for every length-delimited field of a message.
fn fields(bytes: &mut &[u8], mut each: impl FnMut(u32, &[u8]) -> Result<(), String>) -> Result<(), String> {
    let broken = |error: prost::DecodeError| error.to_string();
    while bytes.has_remaining() {
        let (field, wire_type) = decode_key(bytes).map_err(broken)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, bytes, DecodeContext::default()).map_err(broken)?;
            continue;
        }
        let length = usize::try_from(decode_varint(bytes).map_err(broken)?).unwrap_or(usize::MAX);
        let content = bytes.get(..length).ok_or("a field that is longer than the message")?;
        each(field, content)?;
        bytes.advance(length);
    }
    Ok(())
}

/// Checks what any member could send, independent of its log.
///
/// # Errors
/// If the message is invalid.
pub(super) fn check(message: &eraftpb::Message) -> Result<(), String> {
    let numbers = [message.index, message.commit, message.reject_hint];
    if let Some(number) = numbers.into_iter().find(|number| *number > INDEX_MAX) {
        return Err(format!("an index of {number}"));
    }
    if message.context.len() > CONTEXT_BYTES_MAX {
        return Err(format!("a context of {} bytes", message.context.len()));
    }
    match message.msg_type {
        MessageType::MsgAppend => check_append(message),
        MessageType::MsgSnapshot => check_snapshot(message),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => check_read(message),
        _ => Ok(()),
    }
}

/// Entries must be consecutive after the one at `index`, with terms between its term and the leader's.
fn check_append(message: &eraftpb::Message) -> Result<(), String> {
    let (mut index, mut term) = (message.index, message.log_term);
    // Only index 0, before the first entry, has no term.
    if (index == 0) != (term == 0) {
        return Err(format!("an entry at index {index} of term {term}"));
    }
    for entry in message.entries.iter() {
        if entry.index != index + 1 {
            return Err(format!("entry {} where entry {} is due", entry.index, index + 1));
        }
        if entry.term < term || entry.term == 0 {
            return Err(format!("entry {} of term {} behind one of term {term}", entry.index, entry.term));
        }
        (index, term) = (entry.index, entry.term);
    }
    if term > message.term {
        return Err(format!("an entry of term {term} from a leader of term {}", message.term));
    }
    if index > INDEX_MAX {
        return Err(format!("an entry at index {index}"));
    }
    Ok(())
}

fn check_snapshot(message: &eraftpb::Message) -> Result<(), String> {
    let metadata = message.get_snapshot().get_metadata();
    let (index, term) = (metadata.index, metadata.term);
    if index == 0 || index > SNAPSHOT_INDEX_MAX {
        return Err(format!("a snapshot at index {index}"));
    }
    if term == 0 || term > message.term {
        return Err(format!("a snapshot of term {term} from a leader of term {}", message.term));
    }
    let mut voters = metadata.get_conf_state().voters.clone();
    voters.sort_unstable();
    let twice = voters.windows(2).any(|pair| pair[0] == pair[1]);
    if voters.first().is_none_or(|first| *first == 0) || twice || voters.len() > VOTERS_MAX {
        return Err(format!(
            "a snapshot with {} voters, of which each is one of a cluster's once",
            voters.len()
        ));
    }
    Ok(())
}

/// A read is identified by the data of its only entry.
fn check_read(message: &eraftpb::Message) -> Result<(), String> {
    match message.entries.first() {
        Some(entry) if message.entries.len() == 1 && entry.data.len() <= CONTEXT_BYTES_MAX => Ok(()),
        _ => Err(format!("a read with {} entries", message.entries.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: UnixNanos = UnixNanos(1_800_000_000_000_000_000);

    #[test]
    fn terms_are_bounded_by_the_time_that_there_was_for_elections() {
        let fresh = TermBound::new(1, TODAY).max();
        assert!((1 << 33..1 << 40).contains(&fresh), "{fresh}");
        assert_eq!(TermBound::new(fresh, TODAY).max(), fresh, "one that has come far believes in no more");
        assert_eq!(TermBound::new(1, UnixNanos(0)).max(), TERMS_BEFORE, "a clock that was never set");
        assert_eq!(TermBound::new(1, UnixNanos(i64::MIN)).max(), TERMS_BEFORE);
        assert!(TermBound::new(1, UnixNanos(i64::MAX)).max() < 1 << 45);
        let mut bound = TermBound::new(1, TODAY);
        bound.pass(UnixNanos(TODAY.0 + 10 * TERM_NANOS_MIN));
        assert_eq!(bound.max(), fresh + 10);
        bound.pass(UnixNanos(0));
        assert_eq!(bound.max(), fresh + 10);
    }

    #[test]
    fn members_whose_term_cannot_be_go_on_with_each_other() {
        let term = (1 << 63) - 1;
        let bound = TermBound::new(term, TODAY).max();
        assert!(bound > term + 1000 && bound < term + (1 << 20));
        assert!(TermBound::new(TERM_MAX, TODAY).max() > TERM_MAX);
    }
}

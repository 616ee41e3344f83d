//! A body for fuzzers: well-formed messages with fields that no member sends, against running members.
//!
//! The fuzzer's bytes choose which member gets which message, how its fields contradict the member's own
//! numbers, when the disk syncs and when time passes. Any client of the peer port can do all of this.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::store::Store;
use shared::time::UnixNanos;
use shared::v2;

use super::{BatchId, INDEX_MAX, LogEnd, Member, Message, Output, Start, Status};
use crate::time::{Moment, Now};
use crate::version::Level;

/// The most steps of a run.
const STEPS_MAX: usize = 60;

const MEMBERS: u64 = 3;
const HISTORY: usize = 16;
/// The time of all runs.
const NOW: UnixNanos = UnixNanos(1_800_000_000_000_000_000);
const BOTH: Now = Now { moment: Moment::after(Duration::ZERO), wall: NOW };

/// Reads `input` as choices and carries them out against three members.
///
/// # Panics
/// If an invariant is broken: that is a finding.
pub fn fuzz_messages(input: &[u8]) {
    let mut choices = Choices(input);
    let mut attack = Attack::new(choices.below(2) == 1, choices.below(2) == 1);
    for _ in 0..STEPS_MAX {
        if choices.0.is_empty() {
            break;
        }
        let victim = 1 + choices.below(MEMBERS);
        match choices.below(10) {
            0..=5 => {
                let message = attack.hostile(victim, &mut choices);
                attack.deliver(victim, message.encode_to_vec().into());
            }
            6 => attack.tick(victim, choices.below(25)),
            7 => attack.settle(choices.below(2) == 1),
            8 => attack.propose(victim),
            _ => attack.turn(victim, choices.below(2) == 1),
        }
    }
    attack.check_that_all_go_on();
}

/// The fuzzer's choices; zeros once there are no more.
pub struct Choices<'i>(
    /// The remaining bytes.
    pub &'i [u8],
);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `count`, which is at most 256.
    pub fn below(&mut self, count: u64) -> u64 {
        u64::from(self.byte()) % count
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::from(self.byte()) % all.len().max(1)).copied()
    }

    /// A number near one of `near`, or far from all.
    fn number(&mut self, near: &[u64]) -> u64 {
        let edges = [0, 1, 1 << 32, 1 << 36, 1 << 48, INDEX_MAX, 1 << 62, (1 << 63) - 1, u64::MAX];
        let near = self.of(near).unwrap_or(0);
        match self.below(16) {
            0..=5 => near,
            6..=8 => near.wrapping_add(1),
            9 | 10 => near.wrapping_sub(1),
            11 => near.wrapping_add(u64::from(self.byte())),
            12 => u64::from(self.byte()),
            _ => self.of(&edges).unwrap_or(0),
        }
    }

    fn request(&mut self) -> pb::Request {
        let methods = [&b"PUT"[..], b"POST", b"DELETE", b"QGET", b"SYNC", b"", b"GET"];
        let paths = [
            &b"/1/a"[..],
            b"/1",
            b"/",
            b"",
            b"/0/version",
            b"/0/members",
            b"/0/members/2",
            b"/0/members/02/attributes",
            b"/0/members/2/attributes",
            b"/0/members/9/attributes",
            b"/0/members/9/raftAttributes",
            b"/0/removed_members",
            b"/0/removed_members/3",
            b"/1/../0/members/7/x",
            b"/2/users/u",
        ];
        let values = [&b"v"[..], b"", b"{", b"{\"peerURLs\":[]}", b"9.9.9"];
        let times = [0, 1, -1, i64::MAX, i64::MIN];
        let bytes = |choice: Option<&'static [u8]>| Bytes::from_static(choice.unwrap_or_default());
        pb::Request {
            id: self.number(&[1]),
            method: bytes(self.of(&methods)),
            path: bytes(self.of(&paths)),
            val: bytes(self.of(&values)),
            dir: self.below(4) == 0,
            prev_index: self.below(3),
            prev_exist: [None, None, Some(true), Some(false)][usize::from(self.byte() % 4)],
            expiration: self.of(&times).unwrap_or(0),
            recursive: self.below(2) == 0,
            time: self.of(&times).unwrap_or(0),
            ..pb::Request::default()
        }
    }

    fn change(&mut self) -> pb::ConfChange {
        let node_id = self.number(&[1, 2, 3, 9]);
        let described = format!("{{\"id\":{node_id},\"peerURLs\":[\"http://m:{}\"]}}", self.byte());
        let context = match self.below(4) {
            0 => None,
            1 => Some(Bytes::from_static(b"{\"id\":")),
            _ => Some(described.into()),
        };
        let kind = self.of(&[0, 0, 1, 2, 3, -1, i32::MAX]).unwrap_or(0);
        pb::ConfChange { id: self.number(&[1]), kind, node_id, context }
    }

    fn data(&mut self) -> Option<Bytes> {
        match self.below(8) {
            0 => None,
            1 => Some(Bytes::new()),
            2 => Some(Bytes::copy_from_slice(self.0.get(..4).unwrap_or(b"\xff"))),
            // Nested groups, which can exhaust a decoder's stack.
            3 => Some(vec![0x0b; 4000].into()),
            4 => Some(self.change().encode_to_vec().into()),
            _ => Some(self.request().encode_to_vec().into()),
        }
    }
}

/// A member with its store, and the work of its disk.
struct Living {
    member: Member,
    store: Store,
    unsynced: VecDeque<(Option<BatchId>, Vec<Message>)>,
    /// The highest values so far: they must never fall.
    before: (Status, LogEnd),
    elections: u64,
}

/// Running members, one of them the leader, some of which get hostile messages.
pub struct Attack {
    members: BTreeMap<u64, Living>,
    wire: VecDeque<Message>,
}

fn start(id: u64) -> Living {
    let entries: Vec<pb::Entry> = (1..=MEMBERS)
        .map(|id| {
            let context = format!("{{\"id\":{id},\"peerURLs\":[\"http://m{id}:1\"]}}");
            let change = pb::ConfChange { node_id: id, context: Some(context.into()), ..Default::default() };
            let data = Some(change.encode_to_vec().into());
            pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term: 1, index: id, data }
        })
        .collect();
    let store = Store::new(HISTORY);
    let start = Start {
        id: MemberId(id),
        cluster_id: ClusterId(9),
        snapshot: pb::SnapshotMetadata::default(),
        state: pb::HardState { term: 1, vote: 0, commit: MEMBERS },
        entries,
        election_ticks: 10,
        seed: id,
        now: NOW,
        level: Level::V2_3,
    };
    let member = Member::new(start, &store, &slog::Logger::root(slog::Discard, slog::o!()));
    let before = (member.status(), member.log_end());
    Living { member, store, unsynced: VecDeque::new(), before, elections: 0 }
}

impl Attack {
    /// Three members of one cluster; member 1 leads if `elected`.
    pub fn new(extended: bool, elected: bool) -> Attack {
        let members = (1..=MEMBERS).map(|id| (id, start(id))).collect();
        let mut attack = Attack { members, wire: VecDeque::new() };
        attack.settle(true);
        for living in attack.members.values_mut() {
            living.member.set_extended(extended);
        }
        if elected {
            attack.with(1, |living| living.member.campaign());
            attack.settle(true);
            attack.propose(1);
            attack.settle(true);
        }
        attack
    }

    fn with<T>(&mut self, id: u64, act: impl FnOnce(&mut Living) -> T) -> Option<T> {
        self.members.get_mut(&id).map(act)
    }

    /// A message with fields near the numbers of the victim.
    pub fn hostile(&self, victim: u64, choices: &mut Choices<'_>) -> pb::Message {
        let Some(living) = self.members.get(&victim) else { return pb::Message::default() };
        let (status, end) = (living.member.status(), living.member.log_end());
        let indexes = [end.last_index, end.commit, status.applied, 0];
        let terms = [status.term, status.term, end.last_term];
        let index = choices.number(&indexes);
        let mut entries = Vec::new();
        for at in 0..choices.below(5) {
            entries.push(pb::Entry {
                kind: choices.of(&[0, 0, 0, 1, 1, 2, -1]).unwrap_or(0),
                term: choices.number(&terms),
                index: choices.number(&[index.wrapping_add(at).wrapping_add(1); 3]),
                data: choices.data(),
            });
        }
        let nodes = (0..choices.below(5)).map(|_| choices.number(&[1, 2, 3, 9])).collect();
        let metadata = pb::SnapshotMetadata {
            conf_state: pb::ConfState { nodes },
            index: choices.number(&indexes),
            term: choices.number(&terms),
        };
        let mut image = Vec::new();
        if choices.below(4) > 0 && living.store.image().write_json(&mut image).is_err() {
            image.clear();
        }
        let context = vec![b'c'; choices.of(&[0, 8, 16, 65, 5000]).unwrap_or(0)];
        pb::Message {
            kind: i32::from(choices.byte() % 21),
            to: if choices.below(16) == 0 { choices.number(&[victim]) } else { victim },
            from: choices.number(&[1, 2, 3, 2, 3, 9]),
            term: choices.number(&terms),
            log_term: choices.number(&terms),
            index,
            entries,
            commit: choices.number(&indexes),
            snapshot: pb::Snapshot { data: Some(image.into()), metadata },
            reject: choices.below(2) == 1,
            reject_hint: choices.number(&indexes),
            context: Some(context.into()),
            commit_term: choices.number(&terms),
        }
    }

    /// Bytes of a message reach the victim.
    pub fn deliver(&mut self, victim: u64, bytes: Bytes) {
        if let Ok(message) = Message::decode(bytes) {
            self.step(victim, message);
        }
    }

    /// A message reaches the victim, as from its loop.
    pub fn step(&mut self, victim: u64, message: Message) {
        let is_store =
            message.snapshot().is_none() || Store::recover(&message.snapshot_data(), HISTORY).is_ok();
        self.with(victim, |living| {
            let before = (living.member.status(), living.member.log_end(), living.member.tail());
            if is_store && living.member.step(message).is_err() {
                let after = (living.member.status(), living.member.log_end(), living.member.tail());
                assert_eq!(after, before, "what is refused changes nothing");
            }
            living.check();
        });
    }

    fn tick(&mut self, id: u64, times: u64) {
        self.with(id, |living| {
            living.elections += times;
            (0..times).for_each(|_| living.member.tick(NOW));
            living.check();
        });
    }

    fn propose(&mut self, id: u64) {
        let request = v2::Request {
            verb: v2::Verb::Put,
            path: "/1/good".into(),
            val: "v".into(),
            ..v2::Request::default()
        };
        self.with(id, |living| {
            if living.member.takes_proposals() {
                living.member.propose(request);
            }
        });
    }

    fn turn(&mut self, id: u64, sync: bool) {
        let wire = &mut self.wire;
        if let Some(living) = self.members.get_mut(&id) {
            living.turn(sync, wire);
        }
    }

    /// Delivers messages until there are none, or until a limit. With `all`, disks sync too.
    fn settle(&mut self, all: bool) {
        for _ in 0..200 {
            for id in 1..=MEMBERS {
                self.turn(id, all);
            }
            if self.wire.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.wire) {
                if message.snapshot().is_some() {
                    let to = message.to();
                    self.with(message.from().0, |living| living.member.snapshot_sent(to, false));
                    continue;
                }
                let mut bytes = BytesMut::new();
                message.encode(&mut bytes);
                let Ok(read) = Message::decode(bytes.freeze()) else {
                    panic!("a member sends what members refuse: {message:?}")
                };
                self.step(message.to().0, read);
            }
        }
        self.wire.clear();
    }

    /// Checks that each member appends and applies an entry of a valid leader.
    pub fn check_that_all_go_on(&mut self) {
        self.settle(true);
        self.wire.clear();
        for id in 1..=MEMBERS {
            self.turn(id, true);
            let Some(living) = self.members.get(&id) else { continue };
            let (term, end) = (living.member.status().term + 1, living.member.log_end());
            let request = v2::Request { path: "/1/last".into(), verb: v2::Verb::Put, ..Default::default() };
            let data = Some(request.encode_to_vec().into());
            let index = end.last_index + 1;
            let message = pb::Message {
                kind: 3,
                to: id,
                from: 1 + id % MEMBERS,
                term,
                log_term: end.last_term,
                index: end.last_index,
                entries: vec![pb::Entry { kind: 0, term, index, data }],
                commit: index,
                ..pb::Message::default()
            };
            if term >= living.member.terms.max() || index > INDEX_MAX {
                continue;
            }
            self.deliver(id, message.encode_to_vec().into());
            self.turn(id, true);
            let answer =
                self.wire.iter().rev().find(|answer| answer.from().0 == id && answer.index() == index);
            assert!(answer.is_some(), "member {id} does not answer a leader: {:?}", self.wire);
            let status = self.members.get(&id).map(|living| living.member.status());
            assert_eq!(status.map(|status| (status.commit, status.applied)), Some((index, index)));
        }
    }
}

impl Living {
    /// Carries out the member's outputs; the disk syncs if `sync`.
    fn turn(&mut self, sync: bool, wire: &mut VecDeque<Message>) {
        loop {
            while let Some(output) = self.member.poll() {
                self.carry_out(output, wire);
            }
            if !sync || self.unsynced.is_empty() {
                break;
            }
            for (batch, messages) in std::mem::take(&mut self.unsynced) {
                if let Some(batch) = batch {
                    self.member.persisted(batch);
                }
                wire.extend(messages);
            }
        }
        self.check();
    }

    fn carry_out(&mut self, output: Output, wire: &mut VecDeque<Message>) {
        match output {
            Output::Send(messages) => wire.extend(messages),
            Output::Persist(batch) => {
                // As the log writes them.
                assert!(batch.entries().all(|entry| entry.term > 0 && entry.index <= INDEX_MAX));
                // The reader of the log refuses a change without data.
                assert!(
                    batch.entries().all(|entry| entry.kind == pb::ENTRY_NORMAL || entry.data.is_some()),
                    "{batch:?}"
                );
                self.unsynced.push_back((batch.must_sync.then_some(batch.id), batch.then_send));
            }
            Output::Install(received) => {
                if let Ok(store) = Store::recover(&received.data, HISTORY) {
                    self.store.adopt(store);
                }
                self.member.installed(&received.metadata, &self.store);
            }
            Output::Apply(committed) => self.member.apply(committed, &mut self.store, BOTH, |_| {}),
            Output::ReadReady { .. } | Output::GivenUp(_) => {}
        }
    }

    /// The invariants.
    fn check(&mut self) {
        let (status, end) = (self.member.status(), self.member.log_end());
        let (former, former_end) = &self.before;
        assert!(status.term >= former.term, "the term went back from {} to {}", former.term, status.term);
        assert!(status.term <= self.member.terms.max() + self.elections + 8, "term {}", status.term);
        assert!(end.commit >= former_end.commit, "the commit index went back");
        assert!(end.commit <= end.last_index, "{end:?}");
        assert!(end.last_index <= INDEX_MAX + 8, "{end:?}");
        assert!(status.applied <= end.commit, "{status:?}");
        assert!(end.last_term <= status.term, "{end:?}, {status:?}");
        let same_term = former.term == status.term && former.vote.0 != 0;
        assert!(!same_term || former.vote == status.vote, "one vote a term");
        self.before = (status, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_messages(input in prop::collection::vec(any::<u8>(), 0..3000)) {
            fuzz_messages(&input);
        }
    }
}

//! Several members whose messages all arrive, with instant disks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::store::Store;
use shared::time::UnixNanos;

use super::tests::{NOW, change, change_entry, put};
use super::{Applied, Kind, Member, Message, Output, RequestId, Role, Start};
use crate::version::Level;

const HISTORY: usize = 100;

pub(super) struct Node {
    pub(super) member: Member,
    pub(super) store: Store,
    pub(super) done: BTreeSet<RequestId>,
    readable: Vec<(RequestId, u64)>,
    pub(super) given_up: Vec<RequestId>,
    /// The body of the newest snapshot.
    saved: Option<(u64, Vec<u8>)>,
    installed: u32,
    /// Its disk does not sync after a snapshot was installed.
    slow: bool,
    /// Invalid entries.
    pub(super) passed_over: Vec<u64>,
}

/// A cluster in one thread: messages arrive in the order in which they are sent.
pub(super) struct Group {
    pub(super) nodes: BTreeMap<MemberId, Node>,
    wire: VecDeque<Message>,
    /// Members that neither receive nor send.
    pub(super) cut_off: BTreeSet<MemberId>,
    /// Forwarded proposals are not delivered, but kept in `late`.
    pub(super) keeps_proposals: bool,
    pub(super) late: Vec<Message>,
    /// A member has accepted a forged message, and sends what the others refuse.
    pub(super) lied_to: bool,
}

fn image(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.image().write_json(&mut bytes).unwrap();
    bytes
}

fn node(id: MemberId, entries: Vec<pb::Entry>) -> Node {
    let state = pb::HardState { term: 1, vote: 0, commit: entries.len() as u64 };
    node_of(id, entries, state)
}

pub(super) fn node_of(id: MemberId, entries: Vec<pb::Entry>, state: pb::HardState) -> Node {
    let store = Store::new(HISTORY);
    let start = Start {
        id,
        cluster_id: ClusterId(9),
        snapshot: pb::SnapshotMetadata::default(),
        state,
        entries,
        election_ticks: 10,
        seed: id.0,
        now: UnixNanos(1),
        level: Level::V2_3,
    };
    let member = Member::new(start, &store, &slog::Logger::root(slog::Discard, slog::o!()));
    Node {
        member,
        store,
        done: BTreeSet::new(),
        readable: Vec::new(),
        given_up: Vec::new(),
        saved: None,
        installed: 0,
        slow: false,
        passed_over: Vec::new(),
    }
}

impl Node {
    /// Carries out the member's outputs; its messages go to `wire`.
    fn turn(&mut self, wire: &mut VecDeque<Message>) {
        while let Some(output) = self.member.poll() {
            match output {
                Output::Send(messages) => wire.extend(messages),
                Output::Persist(batch) => {
                    if self.slow && self.installed > 0 {
                        continue;
                    }
                    if batch.must_sync {
                        self.member.persisted(batch.id);
                    }
                    wire.extend(batch.then_send);
                }
                Output::Install(received) => {
                    self.store.adopt(Store::recover(&received.data, HISTORY).unwrap());
                    self.member.installed(&received.metadata, &self.store);
                    self.saved = Some((received.metadata.index, received.data.to_vec()));
                    self.installed += 1;
                }
                Output::Apply(committed) => {
                    let (done, passed_over) = (&mut self.done, &mut self.passed_over);
                    self.member.apply(committed, &mut self.store, NOW, |applied| match applied {
                        Applied::Command(id, _) | Applied::Configured(id, _) => drop(done.insert(id)),
                        Applied::Skipped { index, .. } => passed_over.push(index),
                        _ => {}
                    });
                }
                Output::ReadReady { id, index } => self.readable.push((id, index)),
                Output::GivenUp(ids) => self.given_up.extend(ids),
            }
        }
    }
}

impl Group {
    pub(super) fn of(count: u64) -> Group {
        let ids = 1..=count;
        let entries: Vec<pb::Entry> = ids
            .clone()
            .map(|id| change_entry(id, &change(pb::ADD_NODE, MemberId(id), &format!("http://m{id}:1"))))
            .collect();
        let nodes = ids.map(|id| (MemberId(id), node(MemberId(id), entries.clone()))).collect();
        Group {
            nodes,
            wire: VecDeque::new(),
            cut_off: BTreeSet::new(),
            keeps_proposals: false,
            late: Vec::new(),
            lied_to: false,
        }
    }

    /// With member 1 as the leader.
    pub(super) fn led(count: u64) -> Group {
        let mut group = Group::of(count);
        group.settle();
        group.at(1).member.campaign();
        group.settle();
        assert_eq!(group.at(1).member.status().role, Role::Leader);
        group
    }

    pub(super) fn at(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&MemberId(id)).unwrap()
    }

    /// Delivers messages until there are none. They travel as bytes, snapshots with the sender's file.
    pub(super) fn settle(&mut self) {
        loop {
            for node in self.nodes.values_mut() {
                node.turn(&mut self.wire);
            }
            let Some(message) = self.wire.pop_front() else { return };
            if self.keeps_proposals && message.kind() == Kind::Propose {
                self.late.push(message);
                continue;
            }
            if self.cut_off.contains(&message.from()) || self.cut_off.contains(&message.to()) {
                continue;
            }
            let to = message.to();
            self.deliver(&message, to);
            if message.snapshot().is_some() {
                let to = message.to();
                self.nodes.get_mut(&message.from()).unwrap().member.snapshot_sent(to, true);
            }
        }
    }

    /// Delivers a message to a member, as from the network.
    pub(super) fn deliver(&mut self, message: &Message, to: MemberId) {
        let received = Message::decode(self.bytes(message).freeze()).unwrap();
        if let Some(node) = self.nodes.get_mut(&to) {
            let stepped = node.member.step(received);
            assert!(stepped.is_ok() || self.lied_to, "{stepped:?}");
        }
    }

    fn bytes(&self, message: &Message) -> BytesMut {
        let mut bytes = BytesMut::new();
        let Some(metadata) = message.snapshot() else {
            message.encode(&mut bytes);
            return bytes;
        };
        let (index, body) = self.nodes[&message.from()].saved.clone().unwrap();
        assert_eq!(index, metadata.index, "the newest file is sent");
        let snapshot = prost::Message::encode_to_vec(&pb::Snapshot { data: Some(body.into()), metadata });
        let (before, after) = message.encode_around_snapshot(snapshot.len() as u64);
        for part in [&before[..], &snapshot, &after] {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    pub(super) fn tick(&mut self, times: usize) {
        for _ in 0..times {
            for (id, node) in &mut self.nodes {
                if !self.cut_off.contains(id) {
                    node.member.tick(UnixNanos(1));
                }
            }
            self.settle();
        }
    }

    pub(super) fn put(&mut self, at: u64, key: &str, value: &str) {
        let node = self.at(at);
        let id = node.member.propose(put(&format!("/1/{key}"), value));
        self.settle();
        assert!(self.at(at).done.contains(&id), "{key} is not written");
    }

    pub(super) fn configure(&mut self, at: u64, change: pb::ConfChange) {
        let id = self.at(at).member.configure(change.try_into().unwrap());
        self.settle();
        assert!(self.at(at).done.contains(&id));
    }

    pub(super) fn save_snapshot(&mut self, at: u64) {
        let node = self.at(at);
        let tail = node.member.tail();
        node.saved = Some((tail.index, image(&node.store)));
        node.member.snapshot_saved(tail);
    }

    pub(super) fn assert_alike(&mut self) {
        let stores: Vec<Vec<u8>> = self.nodes.values().map(|node| without_stats(&node.store)).collect();
        assert!(stores.windows(2).all(|pair| pair[0] == pair[1]), "the stores differ");
    }
}

/// Without the counters of watches and reads, which differ between members.
fn without_stats(store: &Store) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(&image(store)).unwrap();
    json.as_object_mut().unwrap().remove("Stats");
    json.to_string().into_bytes()
}

#[test]
fn a_write_at_any_member_is_everywhere() {
    let mut group = Group::led(3);
    for at in 1..=3 {
        group.put(at, &format!("k{at}"), "v");
    }
    group.assert_alike();
    group.cut_off.insert(MemberId(1));
    group.tick(40);
    let leader = (2..=3).find(|id| group.at(*id).member.status().role == Role::Leader).unwrap();
    group.put(5 - leader, "after", "v");
    group.cut_off.clear();
    group.tick(3);
    assert_eq!(group.at(1).member.status().role, Role::Follower);
    group.assert_alike();
}

#[test]
fn who_was_away_for_too_long_gets_a_snapshot() {
    let mut group = Group::led(3);
    group.cut_off.insert(MemberId(3));
    for n in 0..super::CATCH_UP_ENTRIES + 100 {
        group.put(1, "k", &n.to_string());
    }
    group.save_snapshot(1);
    group.put(1, "later", "v");
    group.cut_off.clear();
    group.tick(4);
    assert_eq!(group.at(3).installed, 1);
    group.put(3, "from behind", "v");
    group.assert_alike();
    assert_eq!(group.at(3).member.tail().conf_state.nodes, [1, 2, 3]);
}

#[test]
fn a_snapshot_older_than_the_member_that_gets_it_is_taken() {
    let mut group = Group::led(1);
    for n in 0..100 {
        group.put(1, "k", &n.to_string());
    }
    group.save_snapshot(1);
    group.configure(1, change(pb::ADD_NODE, MemberId(2), "http://m2:1"));
    group.nodes.insert(MemberId(2), node(MemberId(2), Vec::new()));
    group.tick(4);
    assert_eq!(group.at(2).installed, 1);
    assert_eq!(group.at(2).member.tail().conf_state.nodes, [1, 2]);
    assert!(!group.at(2).member.status().alone);
    group.put(2, "by the new one", "v");
    group.assert_alike();
}

#[test]
fn a_follower_asks_the_leader_how_far_it_must_read() {
    let mut group = Group::led(3);
    group.put(1, "k", "v");
    assert!(!group.at(2).member.offers_read_index());
    for id in 1..=3 {
        group.at(id).member.set_extended(true);
    }
    for id in 1..=3 {
        let read = group.at(id).member.read_index().unwrap();
        group.settle();
        let commit = group.at(1).member.status().commit;
        assert_eq!(group.at(id).readable.pop(), Some((read, commit)), "member {id}");
    }
}

#[test]
fn a_leader_hands_over_to_whom_it_may() {
    let mut group = Group::led(3);
    assert_eq!(group.at(2).member.transfer(|_| true), None);
    assert_eq!(group.at(1).member.transfer(|_| false), None);
    assert_eq!(group.at(1).member.transfer(|id| id == MemberId(3)), Some(MemberId(3)));
    group.settle();
    assert_eq!(group.at(3).member.status().role, Role::Leader);
    group.put(1, "k", "v");
    group.assert_alike();
}

#[test]
fn what_no_member_sends_does_no_harm() {
    let mut group = Group::led(3);
    group.put(1, "k", "v");
    let last = group.at(1).member.status().commit;
    let from_nobody = |kind: i32| pb::Message { kind, from: 2, to: 1, term: 2, ..Default::default() };
    let entry = |index: u64, term: u64| pb::Entry { kind: 0, term, index, data: None };
    for message in [
        pb::Message { term: u64::MAX, ..from_nobody(8) },
        pb::Message { commit: 1 << 40, term: 3, ..from_nobody(8) },
        pb::Message { index: 1 << 40, ..from_nobody(4) },
        pb::Message { entries: vec![entry(90, 2)], index: 3, term: 3, ..from_nobody(3) },
        pb::Message { entries: vec![entry(last, 9)], index: last - 1, term: 9, ..from_nobody(3) },
        pb::Message { from: 0, ..from_nobody(3) },
        from_nobody(2),
        from_nobody(7),
        from_nobody(15),
        from_nobody(16),
        from_nobody(0),
    ] {
        let bytes = prost::Message::encode_to_vec(&message);
        if let Ok(message) = Message::decode(bytes.into()) {
            let _ = group.at(1).member.step(message);
        }
        group.settle();
    }
    group.tick(40);
    let leader = (1..=3).find(|id| group.at(*id).member.status().role == Role::Leader).unwrap();
    group.put(leader, "k", "still");
    group.assert_alike();
}

#[test]
fn a_leader_that_removes_itself_leaves_the_lead_to_another() {
    for extended in [false, true] {
        let mut group = Group::led(3);
        for id in 1..=3 {
            group.at(id).member.set_extended(extended);
        }
        group.configure(1, change(pb::REMOVE_NODE, MemberId(1), "http://m1:1"));
        // The disk finishes the last batches.
        group.tick(2);
        assert_eq!(group.at(1).member.status().role, Role::Follower);
        assert_eq!(group.at(2).member.tail().conf_state.nodes, [2, 3]);
        let led = |group: &mut Group| (2..=3).find(|id| group.at(*id).member.status().role == Role::Leader);
        assert_eq!(led(&mut group).is_some(), extended, "nobody waits for a timeout");
        group.tick(40);
        let leader = led(&mut group).unwrap();
        group.put(leader, "k", "v");
    }
}

#[test]
fn nobody_stands_for_election_while_it_installs_a_snapshot() {
    let mut group = Group::led(3);
    group.cut_off.insert(MemberId(3));
    group.at(1).member.set_catch_up_entries(0);
    for n in 0..10 {
        group.put(1, "k", &n.to_string());
    }
    group.save_snapshot(1);
    group.cut_off.clear();
    group.at(3).slow = true;
    group.tick(4);
    assert_eq!(group.at(3).installed, 1);
    group.cut_off.extend([MemberId(1), MemberId(2)]);
    group.tick(50);
    group.at(3).member.campaign();
    group.settle();
    assert_eq!(group.at(3).member.status().role, Role::Follower);
}

#[test]
fn who_has_no_vote_does_not_stand_for_election() {
    let mut lonely = node(MemberId(7), Vec::new());
    lonely.member.campaign();
    lonely.turn(&mut VecDeque::new());
    assert_eq!(lonely.member.status().role, Role::Follower);
}

#[test]
fn entries_that_are_forgotten_already_are_answered() {
    let mut group = Group::led(3);
    group.at(3).member.set_catch_up_entries(0);
    for n in 0..10 {
        group.put(1, "k", &n.to_string());
    }
    group.save_snapshot(3);
    let commit = group.at(3).member.status().commit;
    let entries = vec![pb::Entry { kind: pb::ENTRY_NORMAL, term: 2, index: 5, data: None }];
    let late = Message::append(MemberId(1), MemberId(3), 2, 4, commit, entries).unwrap();
    let node = group.at(3);
    node.member.step(late).unwrap();
    let mut sent = VecDeque::new();
    node.turn(&mut sent);
    let answers: Vec<(Kind, u64)> = sent.iter().map(|message| (message.kind(), message.index())).collect();
    assert_eq!(answers, [(Kind::AppendResponse, commit)]);
}

#[test]
fn who_does_not_know_yet_that_all_are_of_one_kind_is_not_locked_out() {
    let mut group = Group::led(3);
    group.at(1).member.set_extended(true);
    group.at(2).member.set_extended(true);
    group.cut_off.insert(MemberId(3));
    for _ in 0..40 {
        group.at(3).member.tick(UnixNanos(1));
        group.settle();
    }
    assert!(group.at(3).member.status().term > group.at(1).member.status().term);
    group.put(1, "k", "meanwhile");
    group.cut_off.clear();
    group.tick(60);
    group.put(3, "k", "v");
    group.assert_alike();
}

#[test]
fn a_leader_whose_program_has_ended_is_followed_at_once() {
    let mut group = Group::led(3);
    for id in 1..=3 {
        group.at(id).member.set_extended(true);
    }
    group.tick(2);
    group.cut_off.insert(MemberId(1));
    for id in 2..=3 {
        group.at(id).member.peer_is_gone(MemberId(1));
    }
    // Followers wait ten to twenty ticks for a silent leader.
    let mut ticks = 0;
    while ![2, 3].map(|id| group.at(id).member.status().role).contains(&Role::Leader) {
        group.tick(1);
        ticks += 1;
        assert!(ticks < 10, "no leader after {ticks} ticks");
    }
}

#[test]
fn wrong_news_of_a_leader_s_end_does_not_depose_it() {
    let mut group = Group::led(3);
    let term = group.at(1).member.status().term;
    for id in 1..=3 {
        group.at(id).member.set_extended(true);
    }
    for _ in 0..5 {
        group.tick(3);
        group.at(2).member.peer_is_gone(MemberId(1));
        group.at(2).member.campaign();
        group.tick(3);
    }
    assert_eq!((group.at(1).member.status().role, group.at(1).member.status().term), (Role::Leader, term));
    group.put(2, "k", "v");
    group.assert_alike();
}

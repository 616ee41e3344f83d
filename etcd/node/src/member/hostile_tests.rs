//! Hostile messages of clients of the peer port, against running members. Each case once stopped a member, or a
//! cluster.

use bytes::Bytes;
use prost::Message as _;
use shared::id::MemberId;
use shared::pb;
use shared::v2::{self, UnknownVerb};

use super::group_tests::{Group, node_of};
use super::tests::{change, change_entry, put};
use super::{InvalidEntry, Message, MessageError, Refusal, Role};
use crate::version::Level;

const PROPOSE: i32 = 2;
const APPEND: i32 = 3;
const SNAPSHOT: i32 = 7;
const HEARTBEAT: i32 = 8;
const TIMEOUT_NOW: i32 = 14;

fn decoded(message: &pb::Message) -> Result<Message, MessageError> {
    let message = Message::decode(message.encode_to_vec().into())?;
    message.check_level(Level::V2_3)?;
    Ok(message)
}

fn normal(data: impl Into<Bytes>) -> pb::Entry {
    pb::Entry { kind: pb::ENTRY_NORMAL, term: 0, index: 0, data: Some(data.into()) }
}

fn changing(data: impl Into<Bytes>) -> pb::Entry {
    pb::Entry { kind: pb::ENTRY_CONF_CHANGE, ..normal(data) }
}

fn proposal(entries: Vec<pb::Entry>) -> pb::Message {
    pb::Message { kind: PROPOSE, from: 2, to: 1, entries, ..Default::default() }
}

fn image() -> Bytes {
    let mut bytes = Vec::new();
    shared::store::Store::new(9).image().write_json(&mut bytes).unwrap();
    bytes.into()
}

fn snapshot(nodes: Vec<u64>, index: u64, term: u64, of_message: u64) -> pb::Message {
    let metadata = pb::SnapshotMetadata { conf_state: pb::ConfState { nodes }, index, term };
    let snapshot = pb::Snapshot { data: Some(image()), metadata };
    pb::Message { kind: SNAPSHOT, from: 2, to: 1, term: of_message, snapshot, ..Default::default() }
}

/// Data that are neither a request nor a change.
fn rubbish() -> Vec<Vec<u8>> {
    let described = |kind: i32| change(kind, MemberId(9), "http://m9:1");
    let mut all = vec![
        b"\xff".to_vec(),
        b"rubbish".to_vec(),
        // Nested groups: a decoder that follows them without limit exhausts its stack.
        vec![0x0b; 60_000],
        [&[0x0b].repeat(40_000)[..], &[0x0c].repeat(40_000)].concat(),
    ];
    all.extend([3, 4, -1, i32::MAX].map(|kind| described(kind).encode_to_vec()));
    all
}

#[test]
fn proposals_and_appends_that_mean_nothing_are_no_messages() {
    for data in rubbish() {
        for entry in [normal(data.clone()), changing(data.clone())] {
            // Changes of unknown kinds can be decoded as requests.
            let alone = decoded(&proposal(vec![entry.clone()]));
            assert!(matches!(alone, Err(MessageError::InvalidEntry(_))), "{alone:?}");
            let behind = proposal(vec![normal(put("/1/a", "v").encode_to_vec()), entry.clone()]);
            assert!(decoded(&behind).is_err());
        }
        let entries = vec![pb::Entry { term: 2, index: 5, ..changing(data) }];
        let (log_term, index) = (2, 4);
        let append = pb::Message {
            kind: APPEND,
            from: 1,
            to: 2,
            term: 2,
            log_term,
            index,
            entries,
            ..Default::default()
        };
        assert!(matches!(decoded(&append), Err(MessageError::InvalidEntry(_))));
    }
    // A client of a Go leader can request a change of member 0: the leader appends it, but servers here do not
    // propose it.
    let of_nobody = pb::ConfChange { node_id: 0, ..change(pb::REMOVE_NODE, MemberId(9), "") }.encode_to_vec();
    assert_eq!(decoded(&proposal(vec![changing(of_nobody.clone())])), Err(InvalidEntry::NoMember.into()));
    let entries = vec![pb::Entry { term: 2, index: 5, ..changing(of_nobody) }];
    let (log_term, index) = (2, 4);
    let append =
        pb::Message { kind: APPEND, from: 1, to: 2, term: 2, log_term, index, entries, ..Default::default() };
    assert!(decoded(&append).is_ok());
    // The log has no form for a change without data, and no leader writes one.
    for data in [None, Some(bytes::Bytes::new())] {
        let entries = vec![pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term: 2, index: 5, data }];
        let append = pb::Message {
            kind: APPEND,
            from: 1,
            to: 2,
            term: 2,
            log_term,
            index,
            entries,
            ..Default::default()
        };
        assert_eq!(decoded(&append), Err(InvalidEntry::Empty.into()));
    }
    let odd = |method: &'static str, path: &str| {
        decoded(&proposal(vec![normal(
            pb::Request { method: method.into(), ..put(path, "v").into() }.encode_to_vec(),
        )]))
    };
    assert!(odd("PUT", "/1/a").is_ok() && odd("SYNC", "").is_ok() && odd("QGET", "/0/version").is_ok());
    assert!(odd("PUT", "/2/enabled").is_ok() && odd("PUT", "/0/members/2/attributes").is_ok());
    assert_eq!(odd("GET", "/1/a"), Err(InvalidEntry::Verb(UnknownVerb("GET".into())).into()));
    for path in [
        "/0/members/9/raftAttributes",
        "/0/members/9",
        "/0/members",
        "/0/removed_members/2",
        "/0/members/09/attributes",
        "/0",
        "/",
        "",
        "/10/a",
        "/1/../0/members/9",
        "/0//version",
    ] {
        assert_eq!(odd("PUT", path), Err(InvalidEntry::Path(path.to_owned()).into()), "{path}");
    }
    for method in ["DELETE", "POST"] {
        assert!(odd(method, "/0/members/2/attributes").is_err() && odd(method, "/0/version").is_err());
    }
    for (version, fine) in [("2.3.0", true), ("2.2.0", true), ("3.0.0", false), ("9", false), ("", false)] {
        let request = put("/0/version", version).encode_to_vec();
        assert_eq!(decoded(&proposal(vec![normal(request.clone())])).is_ok(), fine, "{version}");
        // A leader does not raise the version above those of its members.
        let entries = vec![pb::Entry { term: 2, index: 5, ..normal(request) }];
        let (log_term, index) = (2, 4);
        let append = pb::Message {
            kind: APPEND,
            from: 1,
            to: 2,
            term: 2,
            log_term,
            index,
            entries,
            ..Default::default()
        };
        assert_eq!(decoded(&append).is_ok(), fine, "{version}");
        for method in ["POST", "DELETE"] {
            let request = pb::Request { method: method.into(), ..put("/0/version", version).into() };
            let entries = vec![pb::Entry { term: 2, index: 5, ..normal(request.encode_to_vec()) }];
            let append = pb::Message { entries, ..append.clone() };
            assert_eq!(decoded(&append).is_ok(), fine, "{method} {version}");
        }
    }
    let expiring = v2::Request { expiration: 1, ..put("/0/members/2/attributes", "{}") };
    assert!(decoded(&proposal(vec![normal(expiring.encode_to_vec())])).is_err());
    assert!(decoded(&proposal(vec![normal("")])).is_err());
    let nobody = pb::ConfChange { context: None, ..change(pb::ADD_NODE, MemberId(9), "") };
    assert!(decoded(&proposal(vec![changing(nobody.encode_to_vec())])).is_err());
    let other = pb::ConfChange { node_id: 8, ..change(pb::UPDATE_NODE, MemberId(9), "") };
    assert!(decoded(&proposal(vec![changing(other.encode_to_vec())])).is_err());
}

/// A member that had such an entry in its log would have to end, now and at every start.
#[test]
fn requests_of_version_3_that_are_not_applied_stay_out() {
    use shared::v3::internal::{InternalRequest, Operation};
    use shared::v3::pb::etcdserverpb::{AuthEnableRequest, PutRequest};
    let bytes = |operation| InternalRequest::new(operation).encode_to_vec();
    for (operation, fine) in [
        (Operation::Put(PutRequest { key: "k".into(), ..PutRequest::default() }), true),
        (Operation::AuthEnable(AuthEnableRequest {}), false),
    ] {
        let entry = normal(bytes(operation));
        let appended = pb::Entry { term: 2, index: 5, ..entry.clone() };
        let append = pb::Message {
            kind: APPEND,
            from: 1,
            to: 2,
            term: 2,
            log_term: 2,
            index: 4,
            entries: vec![appended],
            ..Default::default()
        };
        for message in [proposal(vec![entry]), append] {
            let decoded = Message::decode(message.encode_to_vec().into());
            assert_eq!(decoded.is_ok(), fine, "{decoded:?}");
            // At the level 2.3 none of them is let in.
            assert!(decoded.is_err() || decoded.unwrap().check_level(Level::V2_3).is_err());
        }
    }
}

/// The crate decodes a change that it proposes: it sees only bytes that this program wrote.
#[test]
fn what_is_proposed_is_written_anew() {
    let wanted = change(pb::ADD_NODE, MemberId(9), "http://m9:1");
    let mut odd = wanted.encode_to_vec();
    // A field that no version knows, as an empty group and as bytes.
    odd.extend_from_slice(&[0xfb, 1, 0xfc, 1, 0xfa, 1, 2, 0x0b, 0x0b]);
    let message = decoded(&proposal(vec![changing(odd)])).unwrap();
    let entries: Vec<&[u8]> = message.entries().map(|entry| entry.data.unwrap()).collect();
    assert_eq!(entries, [&wanted.encode_to_vec()[..]]);
}

#[test]
fn a_message_with_a_hundred_million_entries_costs_no_memory() {
    let mut bytes =
        pb::Message { kind: HEARTBEAT, from: 2, to: 1, term: 2, ..Default::default() }.encode_to_vec();
    bytes.extend([0x3a, 0].repeat(300_000));
    assert!(matches!(Message::decode(bytes.into()), Err(MessageError::Malformed(_))));
    let many = snapshot((1..100_000).collect(), 5, 2, 2);
    assert!(matches!(decoded(&many), Err(MessageError::Malformed(_))));
}

#[test]
fn keys_beyond_the_limit_on_levels_are_refused() {
    let mut group = Group::led(3);
    group.at(1).member.set_key_levels_max(10);
    let mut stepped = |request: v2::Request| {
        let message = decoded(&proposal(vec![normal(request.encode_to_vec())])).unwrap();
        group.at(1).member.step(message)
    };
    let deep = |levels: usize| put(&format!("/1{}", "/d".repeat(levels)), &"/".repeat(100));
    assert_eq!(stepped(deep(10)), Ok(()));
    assert!(matches!(stepped(deep(11)), Err(Refusal::Nonsense { .. })));
    assert!(matches!(stepped(deep(15_000)), Err(Refusal::Nonsense { .. })));
    // Existing keys can be changed and deleted.
    assert_eq!(stepped(v2::Request { prev_exist: Some(true), ..deep(11) }), Ok(()));
    assert_eq!(stepped(v2::Request { verb: v2::Verb::Delete, ..deep(11) }), Ok(()));
}

#[test]
fn proposals_of_strangers_are_refused() {
    let mut group = Group::led(3);
    let entry = normal(put("/1/evil", "v").encode_to_vec());
    for from in [4, 0x1234, u64::MAX] {
        let message = pb::Message { from, ..proposal(vec![entry.clone()]) };
        let refused = group.at(1).member.step(decoded(&message).unwrap());
        assert!(matches!(refused, Err(Refusal::Stranger { .. })), "{refused:?}");
    }
    for from in [0, 1] {
        let message = pb::Message { from, ..proposal(vec![entry.clone()]) };
        group.at(1).member.step(decoded(&message).unwrap()).unwrap();
    }
    group.settle();
    assert!(group.at(1).store.get(b"/1/evil", false, false).is_err());
    // A member's proposals are accepted, and other messages of the turn do not cost its batch.
    group.at(1).member.step(decoded(&proposal(vec![entry])).unwrap()).unwrap();
    group.put(1, "k", "v");
    assert!(group.at(1).store.get(b"/1/evil", false, false).is_ok());
    group.assert_alike();
}

/// Every message that once stopped a member, to a leader and to followers, of both kinds of clusters.
#[test]
fn indexes_and_terms_that_do_not_fit_end_nobody() {
    for extended in [false, true] {
        let mut group = Group::led(3);
        for id in 1..=3 {
            group.at(id).member.set_extended(extended);
        }
        group.put(1, "k", "v");
        for victim in 1..=3 {
            for message in misfits(&mut group, victim) {
                let to = victim;
                let from = if message.from == victim { 1 + victim % 3 } else { message.from };
                if let Ok(message) = decoded(&pb::Message { to, from, ..message }) {
                    let _ = group.at(victim).member.step(message);
                }
                group.settle();
            }
        }
        group.tick(40);
        let leader = (1..=3).find(|id| group.at(*id).member.status().role == Role::Leader).unwrap();
        group.put(leader, "k", "still");
        group.assert_alike();
        let term = group.at(leader).member.status().term;
        assert!(term < 100, "no message has made term {term}");
    }
}

fn misfits(group: &mut Group, victim: u64) -> Vec<pb::Message> {
    let status = group.at(victim).member.status();
    let end = group.at(victim).member.log_end();
    let (term, last) = (status.term, end.last_index);
    let of = |kind: i32| pb::Message { kind, from: 2, term, ..Default::default() };
    let entry = |index: u64, term: u64| pb::Entry { term, index, ..normal(put("/1/x", "y").encode_to_vec()) };
    let append = |index, log_term, entries| pb::Message { index, log_term, entries, ..of(APPEND) };
    let mut all = vec![
        // After a missing entry, with term 0.
        append(last + 1000, 0, vec![]),
        append(last + 1000, 0, vec![entry(last + 1001, term)]),
        append(0, 0, vec![entry(1, 0)]),
        append(last, end.last_term, vec![entry(last + 1, term + 9)]),
        append(last, end.last_term, vec![entry(last + 1, 0)]),
        append(last, end.last_term, vec![entry(last + 2, term)]),
        append(u64::MAX, term, vec![entry(0, term)]),
        append(u64::MAX - 1, term, vec![entry(u64::MAX, term)]),
        pb::Message { commit: u64::MAX, ..append(last + 1, term, vec![]) },
        // A commit index beyond all entries.
        pb::Message { commit: last + 1000, ..of(HEARTBEAT) },
        pb::Message { commit: u64::MAX, ..of(HEARTBEAT) },
        snapshot(vec![], last + 5, term, term),
        snapshot(vec![0], last + 5, term, term),
        snapshot(vec![0, 1, 2], last + 5, term, term),
        snapshot(vec![1, 1, 2], last + 5, term, term),
        snapshot((1..2000).collect(), last + 5, term, term),
        snapshot(vec![1, 2, 3], u64::MAX, term, term),
        snapshot(vec![1, 2, 3], 1 << 60, term, term),
        snapshot(vec![1, 2, 3], 0, term, term),
        snapshot(vec![1, 2, 3], last + 5, 0, term),
        snapshot(vec![1, 2, 3], last + 5, term + 1, term),
        pb::Message { index: last + 1000, ..of(4) },
        pb::Message { index: last, reject: true, reject_hint: u64::MAX, ..of(4) },
        pb::Message { index: u64::MAX, reject: true, reject_hint: u64::MAX, log_term: 1, ..of(4) },
        pb::Message { context: Some(vec![0; 100_000].into()), ..of(HEARTBEAT) },
    ];
    // Without a term raft would treat them as local; and these kinds must not have one.
    all.extend((0..20).map(|kind| pb::Message { term: 0, index: last, ..of(kind) }));
    all.extend((0..20).map(|kind| pb::Message {
        entries: vec![entry(0, 0)],
        term: 0,
        index: last + 50,
        ..of(kind)
    }));
    all.extend([2, 13, 15, 16].map(|kind| pb::Message {
        entries: vec![entry(0, 0)],
        index: last + 50,
        ..of(kind)
    }));
    all.extend([PROPOSE, 15, 16].map(of));
    all
}

#[test]
fn a_term_that_no_cluster_has_come_to_is_refused_in_every_message() {
    let mut group = Group::led(3);
    group.tick(1);
    let before = group.at(1).member.status();
    for term in [u64::MAX, u64::MAX >> 1, 1 << 62, 1 << 50, 1 << 40] {
        for kind in (0..20).filter(|kind| !matches!(kind, 2 | 15)) {
            for to in 1..=3 {
                let from = 1 + to % 3;
                let entries = if kind == 16 { vec![normal("12345678")] } else { Vec::new() };
                let message = pb::Message { kind, from, to, term, entries, ..Default::default() };
                if let Ok(message) = decoded(&message) {
                    let local = message.is_local();
                    let refused = group.at(to).member.step(message);
                    assert_eq!(refused.is_err(), !local, "{kind} of term {term}: {refused:?}");
                }
                let message = snapshot(vec![1, 2, 3], 90, 2, term);
                let refused =
                    group.at(to).member.step(decoded(&pb::Message { from, to, ..message }).unwrap());
                assert!(matches!(refused, Err(Refusal::Term { .. })));
            }
        }
    }
    group.settle();
    assert_eq!(group.at(1).member.status(), before, "the leader still leads");
    group.put(2, "k", "v");
    group.assert_alike();
}

/// An earlier version let one message do this to all three.
#[test]
fn members_of_a_term_that_cannot_be_elect_a_leader_again() {
    let mut group = Group::of(3);
    let entries: Vec<pb::Entry> = (1..=3)
        .map(|id| change_entry(id, &change(pb::ADD_NODE, MemberId(id), &format!("http://m{id}:1"))))
        .collect();
    for id in 1..=3 {
        let state = pb::HardState { term: (1 << 63) - 1, vote: 0, commit: 3 };
        group.nodes.insert(MemberId(id), node_of(MemberId(id), entries.clone(), state));
    }
    group.settle();
    group.tick(60);
    let leader = (1..=3).find(|id| group.at(*id).member.status().role == Role::Leader).unwrap();
    group.put(leader, "k", "v");
    group.assert_alike();
}

/// A log that an earlier version let be poisoned: all members skip the same entries, and a new member accepts
/// the whole log from them.
#[test]
fn entries_that_mean_nothing_are_passed_over_by_all() {
    let mut entries: Vec<pb::Entry> = (1..=3)
        .map(|id| change_entry(id, &change(pb::ADD_NODE, MemberId(id), &format!("http://m{id}:1"))))
        .collect();
    let add = |entry: pb::Entry, entries: &mut Vec<pb::Entry>| {
        let index = entries.len() as u64 + 1;
        entries.push(pb::Entry { term: 1, index, ..entry });
    };
    for data in rubbish() {
        add(normal(data.clone()), &mut entries);
        add(changing(data), &mut entries);
    }
    // The server's own data about members, changed by requests; then changes of those members.
    for (method, path) in [
        ("PUT", "/0/members/9"),
        ("PUT", "/0/members/8/raftAttributes"),
        ("PUT", "/0/members/7/attributes"),
        ("PUT", "/0/members/002/attributes"),
        ("PUT", "/0/removed_members"),
        ("DELETE", "/0/members/3/raftAttributes"),
        ("PUT", "/1/../0/members/6"),
        ("POST", "/0/members"),
    ] {
        add(
            normal(pb::Request { method: method.into(), ..put(path, "x").into() }.encode_to_vec()),
            &mut entries,
        );
    }
    for (kind, id) in [(pb::ADD_NODE, 9), (pb::REMOVE_NODE, 9), (pb::UPDATE_NODE, 8), (pb::REMOVE_NODE, 7)] {
        add(changing(change(kind, MemberId(id), "http://m9:1").encode_to_vec()), &mut entries);
    }
    add(normal(put("/1/after", "v").encode_to_vec()), &mut entries);
    let commit = entries.len() as u64;
    let mut group = Group::of(3);
    for id in 1..=3 {
        // The third member has none of these entries yet.
        let known = if id == 3 { entries[..3].to_vec() } else { entries.clone() };
        let state = pb::HardState { term: 1, vote: 0, commit: if id == 3 { 3 } else { commit } };
        group.nodes.insert(MemberId(id), node_of(MemberId(id), known, state));
    }
    group.settle();
    group.at(1).member.campaign();
    group.settle();
    group.put(1, "more", "v");
    group.assert_alike();
    let members: Vec<u64> = group.at(3).member.membership().members.keys().map(|id| id.0).collect();
    assert_eq!(members, [1, 2, 3], "9 was added and removed");
    assert!(group.at(3).store.get(b"/1/after", false, false).is_ok());
    assert!(!group.at(2).passed_over.is_empty());
}

/// Unrequested votes and hand-overs, before the log is durable.
#[test]
fn forged_votes_make_no_leader_of_a_log_that_is_not_on_disk() {
    let mut group = Group::led(3);
    group.lied_to = true;
    let status = group.at(2).member.status();
    let end = group.at(2).member.log_end();
    let term = status.term;
    let entries =
        vec![pb::Entry { term, index: end.last_index + 1, ..normal(put("/1/x", "y").encode_to_vec()) }];
    let append = pb::Message {
        kind: APPEND,
        from: 1,
        to: 2,
        term,
        index: end.last_index,
        log_term: end.last_term,
        entries,
        ..Default::default()
    };
    let now = pb::Message { kind: TIMEOUT_NOW, from: 1, to: 2, term, ..Default::default() };
    let votes = [1, 3].map(|from| pb::Message { kind: 6, from, to: 2, term: term + 1, ..Default::default() });
    for message in [append, now].into_iter().chain(votes) {
        let _ = group.at(2).member.step(decoded(&message).unwrap());
    }
    assert_ne!(group.at(2).member.status().role, Role::Leader);
    group.settle();
    group.tick(60);
    let leader = (1..=3).find(|id| group.at(*id).member.status().role == Role::Leader).unwrap();
    group.put(leader, "k", "v");
}

/// Another member could lead only with the vote of the only member, so no entry of a stranger gets into its log.
#[test]
fn the_only_member_refuses_every_message_of_a_stranger() {
    let mut group = Group::led(1);
    let end = group.at(1).member.log_end();
    let before = group.at(1).member.status();
    let term = before.term + 1;
    let entries =
        vec![pb::Entry { term, index: end.last_index + 1, ..normal(put("/1/x", "y").encode_to_vec()) }];
    let (index, log_term) = (end.last_index, end.last_term);
    let append =
        pb::Message { kind: APPEND, from: 7, to: 1, term, index, log_term, entries, ..Default::default() };
    let vote = pb::Message { kind: 5, entries: Vec::new(), ..append.clone() };
    let heartbeat = pb::Message { kind: HEARTBEAT, ..vote.clone() };
    let snapshot = pb::Message { from: 7, ..snapshot(vec![1, 7], end.last_index + 9, term, term) };
    for message in [append, vote, heartbeat, snapshot] {
        let refused = group.at(1).member.step(decoded(&message).unwrap());
        assert!(matches!(refused, Err(Refusal::Stranger { .. })), "{message:?}: {refused:?}");
    }
    group.settle();
    assert_eq!(group.at(1).member.status(), before);
    group.put(1, "k", "v");
}

#[test]
fn only_the_leader_hands_over() {
    let mut group = Group::led(3);
    for id in 1..=3 {
        group.at(id).member.set_extended(true);
    }
    let term = group.at(2).member.status().term;
    for (from, term) in [(3, term), (9, term), (1, term - 1), (3, term + 1)] {
        let now = pb::Message { kind: TIMEOUT_NOW, from, to: 2, term, ..Default::default() };
        let _ = group.at(2).member.step(decoded(&now).unwrap());
        group.settle();
    }
    group.tick(20);
    assert_eq!(group.at(1).member.status().role, Role::Leader);
}

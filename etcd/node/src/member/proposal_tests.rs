//! Proposals across changes of the leader: each is applied once, or its client gets an answer.

use bytes::Bytes;
use shared::id::MemberId;
use shared::pb;
use shared::v2;

use super::group_tests::Group;
use super::tests::{change, put};
use super::{RequestId, Role};

/// Long enough for a silent leader to be replaced.
const ELECTION: usize = 45;

fn led(extended: bool) -> Group {
    let mut group = Group::led(3);
    for id in 1..=3 {
        group.at(id).member.set_extended(extended);
    }
    group
}

/// Adds a value to the queue each time it is applied.
fn post(value: &str) -> v2::Request {
    v2::Request {
        verb: v2::Verb::Post,
        path: "/1/queue".into(),
        val: Bytes::from(value.to_owned()),
        ..v2::Request::default()
    }
}

/// The number of values in the queue, equal at all members.
fn queued(group: &mut Group) -> usize {
    group.assert_alike();
    let store = &group.at(2).store;
    store.get(b"/1/queue", false, false).map_or(0, |event| event.node().children().count())
}

fn leader(group: &mut Group, of: &[u64]) -> u64 {
    let leads = |id: &&u64| group.at(**id).member.status().role == Role::Leader;
    *of.iter().find(leads).expect("nobody leads")
}

fn is_done(group: &mut Group, at: u64, id: RequestId) -> bool {
    group.at(at).done.contains(&id)
}

/// Disconnects member 1, the leader, until another one leads.
fn depose(group: &mut Group) -> u64 {
    group.cut_off.insert(MemberId(1));
    for _ in 0..ELECTION {
        group.tick(1);
        if [2, 3].map(|id| group.at(id).member.status().role).contains(&Role::Leader) {
            break;
        }
    }
    let new = leader(group, &[2, 3]);
    group.cut_off.clear();
    group.tick(3);
    new
}

#[test]
fn what_was_lost_with_a_leader_is_proposed_again() {
    let mut group = led(true);
    group.cut_off.insert(MemberId(1));
    let ids = [2, 3].map(|at| group.at(at).member.propose(post("v")));
    group.settle();
    assert_eq!(queued(&mut group), 0);
    depose(&mut group);
    for (at, id) in [2, 3].into_iter().zip(ids) {
        assert!(is_done(&mut group, at, id), "member {at}");
    }
    assert_eq!(queued(&mut group), 2);
}

#[test]
fn a_proposal_that_comes_late_does_not_happen_twice() {
    let mut group = led(true);
    group.keeps_proposals = true;
    let id = group.at(2).member.propose(post("v"));
    group.settle();
    let message = group.late.pop().expect("it was forwarded");
    group.keeps_proposals = false;
    depose(&mut group);
    assert!(is_done(&mut group, 2, id));
    // At the old leader, which does not forward it, at the new one, and at one that leads again later.
    for to in [1, 2, 3] {
        group.deliver(&message, MemberId(to));
        group.settle();
    }
    group.at(1).member.campaign();
    group.tick(ELECTION);
    let now = leader(&mut group, &[1, 2, 3]);
    assert!(group.at(now).member.transfer(|id| id == MemberId(1)).is_some() || now == 1);
    group.tick(3);
    assert_eq!(leader(&mut group, &[1, 2, 3]), 1);
    group.deliver(&message, MemberId(1));
    group.settle();
    assert_eq!(queued(&mut group), 1);
}

#[test]
fn what_a_leader_appended_and_nobody_got_is_proposed_again() {
    // It was never sent as a proposal, so that holds with members of any kind.
    for extended in [true, false] {
        let mut group = led(extended);
        group.cut_off.insert(MemberId(1));
        let id = group.at(1).member.propose(post("v"));
        group.settle();
        depose(&mut group);
        assert!(is_done(&mut group, 1, id));
        assert_eq!(queued(&mut group), 1);
    }
}

#[test]
fn what_the_next_leader_has_in_its_log_is_not_proposed_again() {
    let mut group = led(true);
    // Member 3 has the entry, and no member knows that it is committed.
    group.cut_off.insert(MemberId(2));
    let id = group.at(1).member.propose(post("v"));
    group.settle();
    assert!(is_done(&mut group, 1, id));
    let late = group.at(2).member.propose(post("late"));
    group.settle();
    group.cut_off = [MemberId(1)].into();
    group.tick(ELECTION);
    assert_eq!(leader(&mut group, &[2, 3]), 3);
    assert!(is_done(&mut group, 2, late));
    group.cut_off.clear();
    group.tick(3);
    assert_eq!(queued(&mut group), 2);
}

#[test]
fn proposals_wait_while_a_leader_hands_over() {
    let mut group = led(true);
    // The successor is behind, so that handing over takes a while.
    group.cut_off.insert(MemberId(3));
    group.put(1, "k", "v");
    assert!(group.at(1).member.transfer(|id| id == MemberId(3)).is_some());
    let own = group.at(1).member.propose(post("own"));
    let forwarded = group.at(2).member.propose(post("forwarded"));
    group.settle();
    assert!(!is_done(&mut group, 1, own) && !is_done(&mut group, 2, forwarded));
    group.cut_off.clear();
    group.tick(ELECTION);
    assert!(is_done(&mut group, 1, own) && is_done(&mut group, 2, forwarded));
    assert_eq!(queued(&mut group), 2);
}

#[test]
fn nothing_is_proposed_again_that_a_member_of_2_3_may_still_append() {
    let mut group = led(false);
    group.keeps_proposals = true;
    let id = group.at(2).member.propose(post("v"));
    group.settle();
    let message = group.late.pop().expect("it was forwarded");
    group.keeps_proposals = false;
    depose(&mut group);
    assert_eq!(queued(&mut group), 0);
    group.tick(ELECTION);
    assert_eq!(group.at(2).given_up, [id], "its client has an answer");
    group.deliver(&message, MemberId(1));
    group.settle();
    assert_eq!(queued(&mut group), 1, "it came late, passed on by the old leader");
}

#[test]
fn one_that_comes_late_after_all_is_answered() {
    let mut group = led(false);
    group.keeps_proposals = true;
    let id = group.at(2).member.propose(post("v"));
    group.settle();
    let message = group.late.pop().expect("it was forwarded");
    group.keeps_proposals = false;
    depose(&mut group);
    group.deliver(&message, MemberId(1));
    group.settle();
    assert!(is_done(&mut group, 2, id));
    group.tick(ELECTION);
    assert!(group.at(2).given_up.is_empty());
}

#[test]
fn a_read_through_the_log_is_proposed_again_with_members_of_any_kind() {
    let mut group = led(false);
    group.put(1, "k", "v");
    group.cut_off.insert(MemberId(1));
    let read = v2::Request { verb: v2::Verb::QuorumGet, path: "/1/k".into(), ..v2::Request::default() };
    let id = group.at(2).member.propose(read);
    group.settle();
    depose(&mut group);
    assert!(is_done(&mut group, 2, id));
}

#[test]
fn what_a_snapshot_may_cover_is_given_up_soon() {
    let mut group = led(true);
    group.at(1).member.set_catch_up_entries(0);
    // It arrives, but its member receives nothing until there is a snapshot.
    group.keeps_proposals = true;
    let covered = group.at(3).member.propose(post("covered"));
    let read = v2::Request { verb: v2::Verb::QuorumGet, path: "/1".into(), ..v2::Request::default() };
    let read = group.at(3).member.propose(read);
    group.settle();
    group.keeps_proposals = false;
    group.cut_off.insert(MemberId(3));
    for message in std::mem::take(&mut group.late) {
        group.deliver(&message, MemberId(1));
    }
    group.settle();
    for n in 0..10 {
        group.put(1, "k", &n.to_string());
    }
    group.save_snapshot(1);
    group.cut_off.clear();
    group.tick(4);
    assert_eq!(group.at(3).member.tail().index, group.at(1).member.tail().index);
    assert!(!is_done(&mut group, 3, covered) && is_done(&mut group, 3, read));
    group.tick(ELECTION);
    assert_eq!(group.at(3).given_up, [covered]);
    assert_eq!(queued(&mut group), 1);
}

#[test]
fn what_nobody_waits_for_is_not_proposed_again() {
    let mut group = led(true);
    group.cut_off.insert(MemberId(1));
    let id = group.at(2).member.propose(post("v"));
    group.at(2).member.propose_once(post("once"));
    group.settle();
    group.at(2).member.forget(id);
    depose(&mut group);
    assert_eq!(queued(&mut group), 0);
}

#[test]
fn changes_of_the_members_are_proposed_again_and_follow_each_other() {
    let mut group = led(true);
    group.cut_off.insert(MemberId(1));
    let ids = [(2, 3), (2, 2), (3, 1)].map(|(at, changed)| {
        let url = format!("http://m{changed}:2");
        (
            at,
            group
                .at(at)
                .member
                .configure(change(pb::UPDATE_NODE, MemberId(changed), &url).try_into().unwrap()),
        )
    });
    group.settle();
    depose(&mut group);
    for (at, id) in ids {
        assert!(is_done(&mut group, at, id), "a change asked for at member {at}");
    }
    group.assert_alike();
    assert_eq!(group.at(1).member.membership().members[&MemberId(3)].peer_urls, ["http://m3:2"]);
}

#[test]
fn order_among_the_writes_of_a_member_is_kept() {
    let mut group = led(true);
    group.cut_off.insert(MemberId(1));
    for n in 0..5 {
        group.at(2).member.propose(put("/1/k", &n.to_string()));
        group.settle();
    }
    depose(&mut group);
    group.assert_alike();
    let event = group.at(2).store.get(b"/1/k", false, false).unwrap();
    assert_eq!(event.node().value(), Some(&b"4"[..]));
}

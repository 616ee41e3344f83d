//! Differences between the `raft` crate and Go's raft, and how the member handles them; and that nothing is
//! promised before it is durable.

use prost::Message as _;
use shared::v2;

use super::*;
use crate::time::{Moment, Now};

pub(super) const NOW: Now = Now { moment: Moment::after(std::time::Duration::ZERO), wall: UnixNanos(2) };

/// A member with its store and a disk that syncs on request.
struct SingleMember {
    member: Member,
    store: Store,
    unsynced: Vec<BatchId>,
    synced_entries: u64,
    waiting_entries: u64,
    applied: Vec<Applied>,
}

const ID: MemberId = MemberId(0xabc);
const OTHER: MemberId = MemberId(0xdef);

pub(super) fn change_entry(index: u64, change: &pb::ConfChange) -> pb::Entry {
    let data = Some(change.encode_to_vec().into());
    pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term: 1, index, data }
}

pub(super) fn change(kind: i32, id: MemberId, url: &str) -> pb::ConfChange {
    let context = ConfChangeContext { id: id.0, peer_urls: vec![url.to_owned()], ..Default::default() };
    pb::ConfChange { id: 0, kind, node_id: id.0, context: Some(context.encode().into()) }
}

pub(super) fn put(path: &str, value: &str) -> v2::Request {
    v2::Request {
        verb: v2::Verb::Put,
        path: path.to_owned().into(),
        val: value.to_owned().into(),
        ..v2::Request::default()
    }
}

impl SingleMember {
    /// Freshly bootstrapped, nothing applied yet.
    fn bootstrapped() -> SingleMember {
        let store = Store::new(1000);
        let start = Start {
            id: ID,
            cluster_id: ClusterId(1),
            snapshot: pb::SnapshotMetadata::default(),
            state: pb::HardState { term: 1, vote: 0, commit: 1 },
            entries: vec![change_entry(1, &change(pb::ADD_NODE, ID, "http://a:1"))],
            election_ticks: 10,
            seed: 1,
            now: UnixNanos(1),
            level: Level::V2_3,
        };
        let member = Member::new(start, &store, &slog::Logger::root(slog::Discard, slog::o!()));
        SingleMember {
            member,
            store,
            unsynced: Vec::new(),
            synced_entries: 0,
            waiting_entries: 0,
            applied: Vec::new(),
        }
    }

    /// Elected, with its first entry applied.
    fn leading() -> SingleMember {
        let mut lone = SingleMember::bootstrapped();
        lone.turn();
        lone.member.campaign();
        lone.settle();
        assert!(lone.member.status().current);
        lone.applied.clear();
        lone
    }

    /// Carries out the member's outputs, but does not sync the disk.
    fn turn(&mut self) {
        while let Some(output) = self.member.poll() {
            match output {
                Output::Persist(batch) => {
                    self.waiting_entries += batch.entries().count() as u64;
                    if batch.must_sync {
                        self.unsynced.push(batch.id);
                    }
                }
                Output::Apply(committed) => {
                    let applied = &mut self.applied;
                    self.member.apply(committed, &mut self.store, NOW, |a| applied.push(a));
                }
                Output::Send(_) | Output::Install(_) | Output::ReadReady { .. } | Output::GivenUp(_) => {}
            }
        }
    }

    fn sync(&mut self) {
        self.synced_entries += std::mem::take(&mut self.waiting_entries);
        if let Some(last) = self.unsynced.drain(..).next_back() {
            self.member.persisted(last);
        }
    }

    fn settle(&mut self) {
        self.turn();
        while !self.unsynced.is_empty() {
            self.sync();
            self.turn();
        }
    }

    fn configure(&mut self, change: pb::ConfChange) -> Result<(), ConfigureError> {
        let id = self.member.configure(change.try_into().unwrap());
        self.settle();
        let result = self.applied.iter().find_map(|applied| match applied {
            Applied::Configured(done, result) if *done == id => Some(*result),
            _ => None,
        });
        result.expect("the change is applied")
    }

    fn voters(&self) -> Vec<u64> {
        self.member.tail().conf_state.nodes
    }
}

#[test]
fn a_member_alone_leads_after_one_election() {
    let mut lone = SingleMember::bootstrapped();
    assert!(!lone.member.takes_proposals());
    lone.turn();
    assert_eq!(lone.voters(), [ID.0]);
    lone.member.campaign();
    lone.settle();
    let status = lone.member.status();
    assert_eq!((status.leader, status.role, status.term, status.applied), (ID, Role::Leader, 2, 2));
    assert_eq!(lone.member.membership().members[&ID].peer_urls, ["http://a:1"]);
}

#[test]
fn nothing_is_answered_before_it_is_synced() {
    let mut lone = SingleMember::leading();
    let id = lone.member.propose(put("/1/a", "1"));
    lone.turn();
    assert!(lone.applied.is_empty(), "answered before the sync: {:?}", lone.applied);
    assert!(lone.store.get(b"/1/a", false, false).is_err());
    lone.sync();
    lone.turn();
    assert!(matches!(&lone.applied[..], [Applied::Command(done, Outcome::V2(Ok(_)))] if *done == id));
}

#[test]
fn later_batches_do_not_wait_for_the_sync_of_earlier_ones() {
    let mut lone = SingleMember::leading();
    let first = lone.member.propose(put("/1/a", "1"));
    lone.turn();
    let second = lone.member.propose(put("/1/a", "2"));
    lone.turn();
    assert_eq!(lone.unsynced.len(), 2);
    lone.member.persisted(lone.unsynced[0]);
    lone.turn();
    assert!(matches!(&lone.applied[..], [Applied::Command(done, Outcome::V2(Ok(_)))] if *done == first));
    lone.settle();
    assert!(matches!(&lone.applied[1..], [Applied::Command(done, Outcome::V2(Ok(_)))] if *done == second));
}

#[test]
fn other_peer_urls_do_not_make_a_voter_a_learner() {
    let mut lone = SingleMember::leading();
    lone.configure(change(pb::UPDATE_NODE, ID, "http://a:2")).unwrap();
    assert_eq!(lone.voters(), [ID.0]);
    assert_eq!(lone.member.membership().members[&ID].peer_urls, ["http://a:2"]);
    lone.member.propose(put("/1/a", "1"));
    lone.settle();
    assert!(lone.store.get(b"/1/a", false, false).is_ok());
}

#[test]
fn a_refused_change_leaves_voters_and_store_alone() {
    let mut lone = SingleMember::leading();
    let index = lone.store.index();
    let refused = lone.configure(change(pb::ADD_NODE, OTHER, "http://a:1"));
    assert_eq!(refused, Err(ConfigureError::PeerUrlExists));
    assert_eq!(lone.configure(change(pb::REMOVE_NODE, OTHER, "")), Err(ConfigureError::IdNotFound));
    assert_eq!(lone.configure(change(pb::ADD_NODE, ID, "http://b:1")), Err(ConfigureError::IdExists));
    assert_eq!((lone.voters(), lone.store.index()), (vec![ID.0], index));
    assert!(!lone.member.is_configuring());
}

#[test]
fn a_member_that_never_comes_costs_the_quorum() {
    let mut lone = SingleMember::leading();
    lone.configure(change(pb::ADD_NODE, OTHER, "http://b:1")).unwrap();
    assert_eq!(lone.voters(), [ID.0, OTHER.0]);
    lone.applied.clear();
    lone.member.propose(put("/1/a", "1"));
    lone.settle();
    assert!(lone.applied.is_empty());
    assert!(!lone.member.status().alone);
}

#[test]
fn a_second_change_would_be_swallowed_while_one_is_under_way() {
    let mut lone = SingleMember::leading();
    lone.member.configure(change(pb::ADD_NODE, OTHER, "http://b:1").try_into().unwrap());
    assert!(lone.member.is_configuring());
    lone.turn();
    assert!(lone.member.is_configuring());
    lone.settle();
    assert!(!lone.member.is_configuring());
}

#[test]
fn the_last_voter_may_remove_itself() {
    let mut lone = SingleMember::leading();
    lone.configure(pb::ConfChange { kind: pb::REMOVE_NODE, node_id: ID.0, ..Default::default() }).unwrap();
    assert!(matches!(lone.applied.last(), Some(Applied::RemovedSelf)));
    assert!(!lone.member.takes_proposals());
    assert!(lone.member.membership().removed.contains(&ID));
}

#[test]
fn a_forced_start_replaces_the_only_voter() {
    let mut lone = SingleMember::bootstrapped();
    lone.turn();
    let mut start = |kind, id| {
        let change =
            MemberChange::try_from(pb::ConfChange { kind, node_id: id, ..Default::default() }).unwrap();
        lone.member.change_voters(&change).unwrap();
    };
    start(pb::REMOVE_NODE, ID.0);
    start(pb::ADD_NODE, OTHER.0);
    assert_eq!(lone.voters(), [OTHER.0]);
    assert_eq!(lone.member.raft.raft.prs().conf().to_conf_state().voters, [OTHER.0]);
}

#[test]
fn a_read_index_is_known_at_once_to_who_is_alone() {
    let mut lone = SingleMember::leading();
    lone.member.propose(put("/1/a", "1"));
    lone.settle();
    let id = lone.member.read_index().unwrap();
    let applied = lone.member.status().applied;
    let ready = std::iter::from_fn(|| lone.member.poll()).find_map(|output| match output {
        Output::ReadReady { id: ready, index } => Some((ready, index)),
        _ => None,
    });
    assert_eq!(ready, Some((id, applied)));
}

#[test]
fn a_read_index_never_comes_without_a_quorum() {
    let mut lone = SingleMember::leading();
    lone.configure(change(pb::ADD_NODE, OTHER, "http://b:1")).unwrap();
    lone.member.read_index().unwrap();
    for _ in 0..100 {
        lone.member.tick(UnixNanos(1));
        while let Some(output) = lone.member.poll() {
            assert!(!matches!(output, Output::ReadReady { .. }));
        }
    }
}

#[test]
fn the_log_says_what_go_would_write() {
    let mut lone = SingleMember::bootstrapped();
    lone.turn();
    lone.member.campaign();
    let mut records = Vec::new();
    while let Some(output) = lone.member.poll() {
        if let Output::Persist(batch) = output {
            records.extend(batch.entries().map(|e| (e.kind, e.term, e.index, e.data.map(<[u8]>::to_vec))));
            records.extend(batch.state.map(|s| (-1, s.term, s.commit, None)));
        }
    }
    // A new leader's first entry has no data at all; the state after it says that it is committed.
    assert_eq!(records, [(pb::ENTRY_NORMAL, 2, 2, None), (-1, 2, 2, None)]);
}

#[test]
fn the_same_seed_draws_the_same_election_timeouts() {
    let timeouts = || {
        let mut lone = SingleMember::bootstrapped();
        lone.turn();
        lone.member.raft.raft.randomized_election_timeout()
    };
    assert_eq!(timeouts(), timeouts());
}

//! Random grants, keep-alives, promotions and clocks: no lease goes early, all go in time, and what the log decides
//! is the same on all members.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::time::Moment;
use crate::v3::pb::etcdserverpb::LeaseCheckpoint;

const ELECTION: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum Step {
    Grant(LeaseId, i64),
    Revoke(LeaseId),
    Put(u8, LeaseId),
    Delete(u8),
    KeepAlive(LeaseId),
    Wait(u64),
    Promote(usize),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..12_i64;
    prop_oneof![
        4 => (id(), -1..90_i64).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => id().prop_map(Step::Revoke),
        4 => (0..8_u8, 0..12_i64).prop_map(|(key, id)| Step::Put(key, id)),
        1 => (0..8_u8).prop_map(Step::Delete),
        4 => id().prop_map(Step::KeepAlive),
        8 => (0..20_000_u64).prop_map(Step::Wait),
        1 => (0..3_usize).prop_map(Step::Promote),
        1 => (0..3_usize).prop_map(Step::Restart),
    ]
}

/// Three members, of which one leads; their log is applied at once.
struct Cluster {
    members: Vec<Lessor>,
    leader: usize,
    now: Moment,
    /// What has to hold: the TTL, and the earliest and the latest moment of the revocation.
    leases: BTreeMap<LeaseId, (i64, Moment, Moment)>,
    /// What the keys are attached to.
    keys: BTreeMap<Bytes, LeaseId>,
}

/// The leases are looked at every 500 ms, here every 250 ms.
const LATE: Duration = Duration::from_millis(500 + 250);

fn settings() -> Settings {
    let checkpoints = Checkpointing { interval: INTERVAL, persist: true };
    Settings { ttl_min: 2, checkpoints: Some(checkpoints) }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap())
}

impl Cluster {
    fn new() -> Cluster {
        let mut members: Vec<Lessor> = (0..3).map(|_| Lessor::new(settings())).collect();
        members[0].promote(Moment::default(), ELECTION);
        let now = Moment::default();
        Cluster { members, leader: 0, now, leases: BTreeMap::new(), keys: BTreeMap::new() }
    }

    fn revoke(&mut self, id: LeaseId) {
        let expected: Vec<Bytes> =
            self.keys.iter().filter(|(_, lease)| **lease == id).map(|(key, _)| key.clone()).collect();
        for member in &mut self.members {
            assert_eq!(member.revoke(id).as_ref(), Ok(&expected));
        }
        self.keys.retain(|_, lease| *lease != id);
        self.leases.remove(&id).unwrap();
    }

    /// What the leader's loop does.
    fn tick(&mut self) {
        let now = self.now;
        for checkpoint in self.members[self.leader].checkpoints(now) {
            self.checkpoint(&checkpoint);
        }
        for id in self.members[self.leader].expired(now, 100) {
            let (_, earliest, _) = self.leases[&id];
            assert!(now >= earliest, "lease {id} at {now:?} instead of {earliest:?}");
            self.revoke(id);
        }
        for (id, (_, _, latest)) in &self.leases {
            assert!(now <= *latest + LATE, "lease {id} is still there at {now:?}, latest {latest:?}");
        }
    }

    fn checkpoint(&mut self, checkpoint: &LeaseCheckpoint) {
        for member in &mut self.members {
            let record = member.checkpoint(checkpoint).unwrap().unwrap();
            assert_eq!(record.remaining_ttl, checkpoint.remaining_ttl);
        }
    }

    fn promote(&mut self, member: usize) {
        self.members[self.leader].demote();
        self.leader = member;
        self.members[member].promote(self.now, ELECTION);
        for (ttl, earliest, latest) in self.leases.values_mut() {
            // Never before the time that the last leader had promised, at the latest after the full TTL.
            *latest = self.now + seconds(*ttl) + ELECTION;
            *earliest = (*earliest).min(*latest);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Grant(id, ttl) => {
                let now = self.now;
                let known = self.leases.contains_key(&id);
                for member in &mut self.members {
                    let grant = member.grant(id, ttl, now);
                    assert_eq!(grant.map(|grant| grant.ttl).ok(), (!known).then_some(ttl.max(2)));
                }
                let expiry = now + seconds(ttl.max(2));
                self.leases.entry(id).or_insert((ttl.max(2), expiry, expiry));
            }
            Step::Revoke(id) => {
                if self.leases.contains_key(&id) {
                    self.revoke(id);
                }
            }
            Step::Put(number, id) => {
                let key = Bytes::from(vec![number]);
                let known = id == NO_LEASE || self.leases.contains_key(&id);
                for member in &mut self.members {
                    assert_eq!(member.attach(key.clone(), id).is_ok(), known);
                }
                if known {
                    self.keys.insert(key, id);
                }
            }
            Step::Delete(number) => {
                let lease = self.keys.remove(&[number][..]).unwrap_or(NO_LEASE);
                for member in &mut self.members {
                    assert_eq!(member.detach(&[number]), lease);
                }
            }
            Step::KeepAlive(id) => {
                let now = self.now;
                match self.members[self.leader].keep_alive(id, now) {
                    Ok(kept) => {
                        let lease = self.leases.get_mut(&id).unwrap();
                        assert_eq!(kept.ttl, lease.0);
                        (lease.1, lease.2) = (now + seconds(kept.ttl), now + seconds(kept.ttl));
                        kept.checkpoint.iter().for_each(|checkpoint| self.checkpoint(checkpoint));
                    }
                    Err(error) => assert!(
                        error == LeaseError::NotFound && !self.leases.contains_key(&id)
                            || error == LeaseError::Expired && self.leases[&id].1 <= now
                    ),
                }
            }
            Step::Wait(millis) => {
                let until = self.now + Duration::from_millis(millis);
                while self.now < until {
                    self.now = self.now + Duration::from_millis(250);
                    self.tick();
                }
            }
            Step::Promote(member) => self.promote(member),
            Step::Restart(member) => {
                let records: Vec<_> = self.leases.keys().map(|id| self.members[member].record(*id)).collect();
                let records = records.into_iter().map(|record| decode_again(&record.unwrap()));
                let attached = self.keys.iter().filter(|(_, id)| **id != NO_LEASE);
                let attached = attached.map(|(key, id)| (key.clone(), *id));
                let restored = Lessor::restore(settings(), records, attached);
                assert!(restored.orphans.is_empty());
                self.members[member] = restored.lessor;
                if member == self.leader {
                    self.promote((member + 1) % 3);
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        for member in &self.members {
            member.check();
            assert_eq!(member.len(), self.leases.len());
            for id in self.leases.keys() {
                assert_eq!(member.record(*id), self.members[0].record(*id));
            }
            for (key, id) in &self.keys {
                assert_eq!(member.lease_of(key), *id);
            }
        }
    }
}

fn decode_again(record: &crate::v3::pb::leasepb::Lease) -> crate::v3::pb::leasepb::Lease {
    decode(&record_key(record.id), &encode(record)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn leases_go_in_time_and_never_early(steps in proptest::collection::vec(step(), 1..150)) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.step(step);
        }
        cluster.step(Step::Wait(95_000));
        prop_assert!(cluster.leases.is_empty(), "all are gone at the end");
    }
}

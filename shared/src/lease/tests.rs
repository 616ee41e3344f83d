//! The rules of leases, one by one.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::time::Moment;
use crate::v3::pb::etcdserverpb::LeaseCheckpoint;
use crate::v3::pb::leasepb;

const ELECTION: Duration = Duration::from_secs(1);
const MINUTE: i64 = 60;
const NONE: [LeaseId; 0] = [];

fn at(seconds: u64) -> Moment {
    Moment::after(Duration::from_secs(seconds))
}

fn at_millis(millis: u64) -> Moment {
    Moment::after(Duration::from_millis(millis))
}

fn settings() -> Settings {
    Settings { ttl_min: 2, checkpoints: None }
}

fn with_checkpoints() -> Settings {
    let checkpoints = Checkpointing { interval: Duration::from_secs(300), persist: true };
    Settings { ttl_min: 2, checkpoints: Some(checkpoints) }
}

fn primary(settings: Settings) -> Lessor {
    let mut lessor = Lessor::new(settings);
    lessor.promote(at(0), ELECTION);
    lessor
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn keys(lessor: &Lessor, id: LeaseId) -> Vec<Bytes> {
    lessor.keys(id).cloned().collect()
}

#[test]
fn the_least_ttl_outlives_an_election() {
    assert_eq!(minimum_ttl(Duration::from_secs(1)), 2);
    assert_eq!(minimum_ttl(Duration::from_millis(100)), 1);
    assert_eq!(minimum_ttl(Duration::from_secs(2)), 3);
    assert_eq!(minimum_ttl(Duration::from_secs(50)), 75);
    assert_eq!(minimum_ttl(Duration::MAX), TTL_MAX);
}

#[test]
fn a_grant_answers_the_ttl_in_force() {
    let mut lessor = primary(settings());
    let granted = |lessor: &mut Lessor, id, ttl| lessor.grant(id, ttl, at(0)).map(|grant| grant.ttl);
    assert_eq!(granted(&mut lessor, 777, 100), Ok(100));
    assert_eq!(granted(&mut lessor, 777, 5), Err(LeaseError::Exists));
    assert_eq!(granted(&mut lessor, 5, 0), Ok(2));
    assert_eq!(granted(&mut lessor, 6, -3), Ok(2));
    assert_eq!(granted(&mut lessor, -9, 10), Ok(10));
    assert_eq!(granted(&mut lessor, 8, 9_000_000_000), Ok(9_000_000_000));
    assert_eq!(granted(&mut lessor, 9, 9_000_000_001), Err(LeaseError::TtlTooLarge));
    assert_eq!(granted(&mut lessor, 0, 10), Err(LeaseError::NotFound));
    assert_eq!(lessor.record(777), Some(leasepb::Lease { id: 777, ttl: 100, remaining_ttl: 0 }));
    assert_eq!(lessor.leases(), [5, 6, -9, 777, 8], "by expiry, then by the order of their grants");
    lessor.check();
}

#[test]
fn errors_have_the_texts_of_etcd() {
    assert_eq!(LeaseError::NotFound.to_string(), "etcdserver: requested lease not found");
    assert_eq!(LeaseError::Exists.to_string(), "etcdserver: lease already exists");
    assert_eq!(LeaseError::TtlTooLarge.to_string(), "etcdserver: too large lease TTL");
}

#[test]
fn a_key_has_one_lease() {
    let mut lessor = primary(settings());
    lessor.grant(1, 10, at(0)).unwrap();
    lessor.grant(2, 10, at(0)).unwrap();
    for name in ["l2", "l1", "l3"] {
        lessor.attach(key(name), 1).unwrap();
    }
    lessor.attach(key("l1"), 1).unwrap();
    assert_eq!(keys(&lessor, 1), [key("l1"), key("l2"), key("l3")]);
    lessor.attach(key("l2"), 2).unwrap();
    assert_eq!(lessor.lease_of(b"l2"), 2);
    assert_eq!(lessor.attach(key("l3"), 99), Err(LeaseError::NotFound));
    assert_eq!(lessor.lease_of(b"l3"), 1, "as before");
    lessor.attach(key("l3"), NO_LEASE).unwrap();
    assert_eq!(lessor.lease_of(b"l3"), NO_LEASE);
    assert_eq!((lessor.detach(b"l1"), lessor.detach(b"l1")), (1, NO_LEASE));
    assert_eq!((keys(&lessor, 1), keys(&lessor, 2)), (vec![], vec![key("l2")]));
    lessor.check();
}

#[test]
fn a_revocation_returns_the_keys_in_their_order() {
    let mut lessor = primary(settings());
    lessor.grant(-7, 10, at(0)).unwrap();
    lessor.grant(7, 10, at(0)).unwrap();
    for name in ["b", "c", "a"] {
        lessor.attach(key(name), -7).unwrap();
    }
    lessor.attach(key("aa"), 7).unwrap();
    assert_eq!(lessor.revoke(-7), Ok(vec![key("a"), key("b"), key("c")]));
    assert_eq!(lessor.revoke(-7), Err(LeaseError::NotFound));
    assert_eq!((lessor.len(), lessor.attached_keys(), lessor.lease_of(b"b")), (1, 1, NO_LEASE));
    lessor.check();
}

#[test]
fn attached_keys_share_their_bytes() {
    let mut lessor = primary(settings());
    lessor.grant(1, 10, at(0)).unwrap();
    let shared = Bytes::from(vec![b'k'; 100]);
    lessor.attach(shared.clone(), 1).unwrap();
    assert!(lessor.keys(1).all(|kept| kept.as_ptr() == shared.as_ptr()));
}

#[test]
fn a_lease_expires_at_its_ttl_and_not_before() {
    let mut lessor = primary(settings());
    lessor.grant(1, 10, at(5)).unwrap();
    assert_eq!(lessor.next_deadline(), Some(at(15)));
    assert_eq!(lessor.expired(at_millis(14_999), 100), NONE);
    assert_eq!(lessor.expired(at(15), 100), [1]);
    assert_eq!(lessor.time_to_live(1, at(16)), Ok(TimeToLive { granted: 10, remaining: 0 }));
    assert_eq!(lessor.keep_alive(1, at(16)), Err(LeaseError::Expired), "its revocation is on its way");
    lessor.revoke(1).unwrap();
    assert_eq!(lessor.keep_alive(1, at(16)), Err(LeaseError::NotFound));
    assert_eq!(lessor.next_deadline(), None);
}

#[test]
fn a_lease_that_nobody_revoked_yet_is_not_revived() {
    let mut lessor = primary(settings());
    lessor.grant(1, 10, at(0)).unwrap();
    assert_eq!(lessor.keep_alive(1, at(10)), Err(LeaseError::Expired));
    assert_eq!(lessor.expired(at(10), 100), [1]);
}

#[test]
fn a_keep_alive_begins_the_ttl_anew() {
    let mut lessor = primary(settings());
    lessor.grant(1, 10, at(0)).unwrap();
    assert_eq!(lessor.keep_alive(1, at(9)), Ok(KeepAlive { ttl: 10, checkpoint: None }));
    assert_eq!(lessor.time_to_live(1, at_millis(10_500)).unwrap().remaining, 8);
    assert_eq!(lessor.expired(at(18), 100), NONE);
    assert_eq!(lessor.expired(at(19), 100), [1]);
}

#[test]
fn a_revocation_that_was_not_applied_is_tried_again() {
    let mut lessor = primary(settings());
    lessor.grant(1, 2, at(0)).unwrap();
    assert_eq!(lessor.expired(at(2), 100), [1]);
    assert_eq!(lessor.next_deadline(), Some(at(5)));
    assert_eq!(lessor.expired(at_millis(4_999), 100), NONE);
    assert_eq!(lessor.expired(at(5), 100), [1]);
    assert_eq!(lessor.leases(), [1]);
    lessor.check();
}

#[test]
fn a_thousand_leases_expire_in_a_second() {
    let mut lessor = primary(settings());
    for id in 1..=1200 {
        lessor.grant(id, 2, at(0)).unwrap();
    }
    let mut revoked = 0;
    for (millis, count) in [(2_000, 500), (2_499, 0), (2_500, 500), (2_600, 0), (3_000, 200)] {
        let expired = lessor.expired(at_millis(millis), usize::MAX);
        assert_eq!(expired.len(), count, "at {millis} ms");
        for id in expired {
            lessor.revoke(id).unwrap();
            revoked += 1;
        }
    }
    assert_eq!((revoked, lessor.len()), (1200, 0));
    lessor.grant(1, 2, at(10)).unwrap();
    lessor.grant(2, 2, at(10)).unwrap();
    assert_eq!(lessor.expired(at(12), 1), [1], "no more than the caller can use");
    assert_eq!(lessor.expired(at(13), 1), [2]);
}

#[test]
fn a_secondary_lessor_does_not_know_the_time() {
    let mut lessor = Lessor::new(settings());
    lessor.grant(2, 10, at(0)).unwrap();
    lessor.grant(1, 20, at(0)).unwrap();
    assert_eq!(lessor.keep_alive(1, at(1)), Err(LeaseError::NotPrimary));
    assert_eq!(lessor.time_to_live(1, at(1)), Err(LeaseError::NotPrimary));
    assert_eq!(lessor.expired(at(1000), 100), NONE);
    assert_eq!((lessor.leases(), lessor.next_deadline()), (vec![1, 2], None));
    lessor.check();
}

#[test]
fn a_new_leader_gives_the_full_ttl_and_an_election_timeout() {
    let mut lessor = Lessor::new(settings());
    lessor.grant(1, 10, at(0)).unwrap();
    lessor.promote(at(100), ELECTION);
    assert_eq!(lessor.expired(at_millis(110_999), 100), NONE);
    assert_eq!(lessor.expired(at(111), 100), [1]);
    lessor.demote();
    assert_eq!(lessor.expired(at(200), 100), NONE, "a deposed leader expires nothing");
    lessor.promote(at(200), ELECTION);
    assert_eq!(lessor.next_deadline(), Some(at(211)));
    lessor.check();
}

#[test]
fn expiries_after_a_promotion_are_spread_and_never_early() {
    let mut lessor = Lessor::new(settings());
    for id in 1..=3000 {
        lessor.grant(id, 10 + (id % 2), at(0)).unwrap();
    }
    lessor.promote(at(0), ELECTION);
    let expiries: Vec<u64> = lessor
        .leases()
        .iter()
        .map(|id| {
            let left = lessor.time_to_live(*id, at(0)).unwrap();
            assert!(left.remaining > left.granted, "an election timeout more");
            u64::try_from(left.remaining).unwrap()
        })
        .collect();
    for second in 11..=15 {
        assert!(expiries.iter().filter(|expiry| **expiry == second).count() <= 750);
    }
    assert_eq!(expiries.last(), Some(&14), "3000 leases take four seconds");
}

#[test]
fn long_leases_have_checkpoints() {
    let mut lessor = primary(with_checkpoints());
    lessor.grant(1, 20 * MINUTE, at(0)).unwrap();
    lessor.grant(2, 5 * MINUTE, at(0)).unwrap();
    assert_eq!(lessor.checkpoints(at(299)), []);
    let due = lessor.checkpoints(at(300));
    assert_eq!(due, [LeaseCheckpoint { id: 1, remaining_ttl: 15 * MINUTE }]);
    let record = lessor.checkpoint(&due[0]).unwrap();
    assert_eq!(record, Some(leasepb::Lease { id: 1, ttl: 20 * MINUTE, remaining_ttl: 15 * MINUTE }));
    assert_eq!(lessor.checkpoints(at(599)), []);
    assert_eq!(lessor.checkpoints(at(600)).len(), 1, "also if the last one was lost");
    // The next leader goes on from there.
    lessor.demote();
    lessor.promote(at(1000), ELECTION);
    assert_eq!(lessor.time_to_live(1, at(1000)).unwrap().remaining, 15 * MINUTE + 1);
    // A keep-alive makes the checkpoint wrong.
    let kept = lessor.keep_alive(1, at(1001)).unwrap();
    assert_eq!(kept.checkpoint, Some(LeaseCheckpoint { id: 1, remaining_ttl: 0 }));
    lessor.checkpoint(&kept.checkpoint.unwrap()).unwrap();
    assert_eq!(lessor.keep_alive(1, at(1002)).unwrap().checkpoint, None);
    let gone = LeaseCheckpoint { id: 9, remaining_ttl: 1 };
    assert_eq!(lessor.checkpoint(&gone), Err(LeaseError::NotFound));
    lessor.check();
}

#[test]
fn checkpoints_are_off_and_kept_in_memory_unless_configured() {
    let mut lessor = primary(settings());
    lessor.grant(1, 20 * MINUTE, at(0)).unwrap();
    assert_eq!(lessor.checkpoints(at(600)), []);
    // Another leader has them on: the entry has its effect, the database does not keep it.
    assert_eq!(lessor.checkpoint(&LeaseCheckpoint { id: 1, remaining_ttl: 70 }), Ok(None));
    assert_eq!(lessor.record(1).unwrap().remaining_ttl, 70);
}

#[test]
fn a_thousand_checkpoints_fit_into_an_entry() {
    let mut lessor = primary(with_checkpoints());
    for id in 1..=1500 {
        lessor.grant(id, 20 * MINUTE, at(0)).unwrap();
    }
    assert_eq!(lessor.checkpoints(at(300)).len(), 1000);
    assert_eq!(lessor.checkpoints(at_millis(300_499)).len(), 0);
    assert_eq!(lessor.checkpoints(at_millis(300_500)).len(), 500);
}

#[test]
fn records_are_those_of_the_bucket() {
    let lease = leasepb::Lease { id: 0x0102_0304_0506_0708, ttl: 100, remaining_ttl: 0 };
    assert_eq!(record_key(lease.id), [1, 2, 3, 4, 5, 6, 7, 8]);
    let value = encode(&lease);
    assert_eq!(value, [&[8, 0x88, 0x8e, 0x98, 0xa8, 0xc0, 0xe0, 0x80, 0x81, 1][..], &[16, 100]].concat());
    assert_eq!(decode(&record_key(lease.id), &value), Ok(lease));
    let negative = leasepb::Lease { id: -9, ttl: 100, remaining_ttl: 7 };
    assert_eq!(decode(&record_key(-9), &encode(&negative)), Ok(negative));
    assert_eq!(decode(b"123", &value), Err(RecordError::KeyLength(3)));
    assert_eq!(
        decode(&record_key(1), &value),
        Err(RecordError::WrongId { key: 1, value: 0x0102_0304_0506_0708 })
    );
    assert!(matches!(decode(&record_key(1), &[8]), Err(RecordError::Message { id: 1, .. })));
}

#[test]
fn a_restart_has_all_leases_and_keys() {
    let records = [
        leasepb::Lease { id: 1, ttl: 100, remaining_ttl: 40 },
        leasepb::Lease { id: 2, ttl: 1, remaining_ttl: 0 },
    ];
    let attached = [(key("a"), 1), (key("b"), 3), (key("c"), 2)];
    let Restored { mut lessor, orphans } = Lessor::restore(settings(), records, attached);
    assert_eq!(orphans, [(key("b"), 3)]);
    assert_eq!((keys(&lessor, 1), keys(&lessor, 2)), (vec![key("a")], vec![key("c")]));
    lessor.promote(at(0), ELECTION);
    assert_eq!(lessor.time_to_live(1, at(0)), Ok(TimeToLive { granted: 100, remaining: 41 }));
    assert_eq!(lessor.time_to_live(2, at(0)), Ok(TimeToLive { granted: 2, remaining: 3 }));
    lessor.check();
}

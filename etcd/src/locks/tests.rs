//! Requests that share, lose and give up entries, with a member that has no log.

use std::sync::Arc;
use std::time::Duration;

use shared::time::UnixNanos;
use shared::v2;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::lock::{AcquireRequest, EntrySelector, LockError, acquire, holder, release, renew};
use super::position::Cleanup;
use super::queue::{LockEntry, local_queue};
use super::{LockPath, MemberHandle};
use crate::backend::Backend as _;
use crate::backend::stand_in::StandIn;

const NOW: i64 = 1_795_258_886_000_000_000;

/// The longest wait of any test.
const PATIENCE: Duration = Duration::from_secs(10);

impl MemberHandle for Arc<StandIn> {
    type Member = StandIn;

    fn member(&self) -> &StandIn {
        self
    }
}

struct Lock {
    member: Arc<StandIn>,
    path: LockPath,
}

type Won = JoinHandle<Result<u64, LockError>>;

impl Lock {
    fn new() -> Lock {
        let member = StandIn::new("m", "http://127.0.0.1:1", "http://127.0.0.1:2", || UnixNanos(NOW));
        Lock { member: Arc::new(member), path: LockPath::new(b"/foo").unwrap() }
    }

    fn wants(&self, value: &str, ttl_seconds: u64) -> Won {
        let request = AcquireRequest { value: value.into(), ttl_seconds, wait_max: None };
        tokio::spawn(acquire(self.member.clone(), self.path.clone(), request))
    }

    fn queue(&self) -> Vec<LockEntry> {
        local_queue(&self.member, &self.path)
    }

    async fn queue_is(&self, length: usize) {
        let reached = async {
            while self.queue().len() != length {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{:?}", self.queue()));
    }

    async fn releases(&self, index: u64) {
        let selector = EntrySelector::Index(index.to_string().into_bytes());
        release(&self.member, &self.path, &selector).await.unwrap();
    }

    /// Lets the given number of seconds pass: keys with a shorter time to live expire.
    fn passes(&self, seconds: i64) {
        let time = NOW + seconds * 1_000_000_000;
        let request = v2::Request { verb: v2::Verb::Sync, time, ..v2::Request::default() };
        self.member.apply(&request).unwrap();
    }
}

async fn won(wanted: Won) -> u64 {
    timeout(PATIENCE, wanted).await.expect("it is not won").unwrap().unwrap()
}

#[tokio::test]
async fn one_value_has_one_place_also_when_asked_for_twice_at_once() {
    let lock = Lock::new();
    let held = won(lock.wants("", 60)).await;
    let wanted: Vec<Won> = (0..4).map(|_| lock.wants("v", 60)).collect();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(lock.queue().len(), 2);
    lock.releases(held).await;
    let mut indexes = Vec::new();
    for wanted in wanted {
        indexes.push(won(wanted).await);
    }
    indexes.dedup();
    assert_eq!(indexes, [lock.queue()[0].index]);
}

#[tokio::test]
async fn who_leaves_takes_its_place_along_unless_another_one_has_it_too() {
    let lock = Lock::new();
    let held = won(lock.wants("", 60)).await;
    let alone = lock.wants("alone", 60);
    lock.queue_is(2).await;
    let first = lock.wants("shared", 3);
    lock.queue_is(3).await;
    let before = lock.queue()[2].modified;
    let second = lock.wants("shared", 3);
    while lock.queue()[2].modified == before {
        sleep(Duration::from_millis(2)).await;
    }
    alone.abort();
    first.abort();
    lock.queue_is(2).await;
    // Longer than the time after which an unshared entry is cleaned up.
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(lock.queue().len(), 2);
    second.abort();
    lock.queue_is(1).await;
    assert_eq!(lock.queue()[0].index, held);
}

#[tokio::test]
async fn a_place_that_is_won_does_not_go_with_the_request() {
    let lock = Lock::new();
    let held = won(lock.wants("v", 60)).await;
    // The owner requests the lock again and disconnects before the response.
    let gate = lock.member.gate.write().await;
    let again = lock.wants("v", 60);
    sleep(Duration::from_millis(20)).await;
    again.abort();
    drop(gate);
    sleep(Duration::from_millis(50)).await;
    let found = holder(&lock.member, &lock.path).await.unwrap();
    assert_eq!(found, Some((held, b"v".to_vec())));
}

#[tokio::test]
async fn a_place_that_expired_is_taken_again_at_the_end_and_never_won() {
    let lock = Lock::new();
    won(lock.wants("", 60)).await;
    let early = lock.wants("early", 5);
    lock.queue_is(2).await;
    let old = lock.queue()[1].index;
    let late = lock.wants("late", 60);
    lock.queue_is(3).await;
    lock.passes(10);
    let gone = async {
        while lock.queue().iter().any(|entry| entry.index == old) || lock.queue().len() != 3 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    let values: Vec<Vec<u8>> = lock.queue().into_iter().map(|entry| entry.value).collect();
    assert_eq!(values, [b"-".to_vec(), b"late".to_vec(), b"early".to_vec()]);
    lock.releases(lock.queue()[0].index).await;
    let second = won(late).await;
    lock.releases(second).await;
    assert!(won(early).await > second);
}

#[tokio::test]
async fn a_renewal_wants_the_value_that_the_index_has() {
    let lock = Lock::new();
    let held = won(lock.wants("v", 60)).await;
    let both = |value: &str| EntrySelector::Both(held.to_string().into_bytes(), value.into());
    renew(&lock.member, &lock.path, &both("v"), 60).await.unwrap();
    let why = renew(&lock.member, &lock.path, &both("w"), 60).await.unwrap_err();
    assert_eq!(why.to_string(), "101: Compare failed ([w != v]) [0]");
    assert_eq!(lock.queue()[0].value, b"v");
}

#[tokio::test]
async fn a_place_whose_making_nobody_answered_is_found_and_removed() {
    let lock = Lock::new();
    won(lock.wants("", 60)).await;
    let mark = UnixNanos(NOW + 60_000_000_123);
    let cleanup =
        Cleanup::after_unanswered_create(lock.member.clone(), lock.path.clone(), b"v".to_vec(), 60, mark);
    let cleanup = tokio::spawn(cleanup.run());
    sleep(Duration::from_millis(20)).await;
    let others = UnixNanos(mark.0 + 1);
    for expiration in [mark, others] {
        let request = v2::Request {
            verb: v2::Verb::Post,
            path: lock.path.as_bytes().to_vec().into(),
            val: "v".into(),
            expiration: expiration.0,
            ..v2::Request::default()
        };
        lock.member.submit(request).await.unwrap();
    }
    timeout(PATIENCE, cleanup).await.unwrap().unwrap();
    let left: Vec<_> = lock.queue().into_iter().skip(1).map(|entry| entry.expiration).collect();
    assert_eq!(left, [Some(others)]);
}

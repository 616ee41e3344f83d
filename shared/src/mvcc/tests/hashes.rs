//! Hashes as the original gives them.

use bytes::Bytes;

use super::rules::{bytes, put, store};
use crate::mvcc::db::Database;
use crate::mvcc::{Error, Failure, KeyHash, MemoryState, Progress, Store};
use crate::v3::pb::etcdserverpb::DeleteRangeRequest;

fn compact(store: &mut Store<MemoryState>, revision: i64) {
    let before = store.reader();
    store.compact(revision).expect("a kept revision");
    while store.compact_step(2) == Progress::Unfinished {}
    store.keep_hash(before.hash_kv(revision).expect("memory can be read"));
}

fn hash(store: &Store<MemoryState>, revision: i64) -> (u32, i64) {
    let KeyHash { hash, compact_revision, .. } = store.reader().hash_kv(revision).expect("a kept revision");
    (hash, compact_revision)
}

/// The values were recorded from 3.5.30.
#[test]
fn hashes_are_the_recorded_ones() {
    let mut store = store();
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "1")] {
        put(&mut store, key, value);
    }
    let delete = DeleteRangeRequest { key: bytes("b"), ..DeleteRangeRequest::default() };
    store.delete_range(&delete, &mut ()).expect("a deletion");
    for (key, value) in [("a", "3"), ("c", "1")] {
        put(&mut store, key, value);
    }
    assert_eq!(hash(&store, 0), (3_244_153_413, -1));
    assert_eq!(hash(&store, 4), (1_662_700_350, -1));
    compact(&mut store, 4);
    assert_eq!(hash(&store, 0), (3_923_448_691, 4));
    assert_eq!(hash(&store, 4), (1_662_700_350, -1));
    assert_eq!(hash(&store, 5), (1_702_593_555, 4));
    let refused = |revision: i64| match store.reader().hash_kv(revision) {
        Err(Failure::Refused(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(3), Error::Compacted(4));
    assert_eq!(refused(100), Error::FutureRevision(7));
    compact(&mut store, 7);
    assert_eq!(hash(&store, 0), (2_919_583_588, 7));
    put(&mut store, "d", "1");
    compact(&mut store, 8);
    assert_eq!(hash(&store, 8), (2_255_986_152, 7));
    let restarted = Store::open(Database::clone(store.database()), &mut ()).expect("the same database");
    assert_eq!(hash(&restarted, 0), (2_255_986_152, 8));
}

#[test]
fn an_unfinished_compaction_does_not_change_a_hash() {
    for finish in [0, 1, 3, 5, 9, 100] {
        let mut store = store();
        for round in 0..4 {
            for key in ["a", "b", "c", "d"] {
                put(&mut store, key, &format!("{round}"));
            }
        }
        let delete = DeleteRangeRequest { key: Bytes::from_static(b"c"), ..DeleteRangeRequest::default() };
        store.delete_range(&delete, &mut ()).expect("a deletion");
        put(&mut store, "e", "1");
        store.compact(13).expect("a kept revision");
        let wanted = (hash(&store, 0), hash(&store, 15));
        for _ in 0..finish {
            store.compact_step(1);
        }
        assert_eq!((hash(&store, 0), hash(&store, 15)), wanted, "after {finish} steps");
    }
}

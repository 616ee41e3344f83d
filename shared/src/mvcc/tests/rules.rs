//! The rules of reads and writes, one by one.

use bytes::Bytes;

use crate::mvcc::db::Database;
use crate::mvcc::{Error, EventKind, Failure, MemoryState, PlainLeases, Progress, Store};
use crate::v3::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse};

pub(super) fn store() -> Store<MemoryState> {
    Store::open(Database::new(MemoryState::default()), &mut ()).expect("an empty database")
}

pub(super) fn put(store: &mut Store<MemoryState>, key: &str, value: &str) -> i64 {
    let request = PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() };
    let applied = store.put(&request, &mut ()).expect("a plain put");
    applied.response.header.expect("a header").revision
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn all_at(
    store: &Store<MemoryState>,
    revision: i64,
) -> Result<RangeResponse, Failure<std::convert::Infallible>> {
    store.range(&RangeRequest {
        key: bytes("\0"),
        range_end: bytes("\0"),
        revision,
        ..RangeRequest::default()
    })
}

#[test]
fn the_first_write_is_revision_2() {
    let mut store = store();
    assert_eq!((store.revision(), store.compact_revision()), (1, -1));
    assert_eq!(put(&mut store, "a", "1"), 2);
    assert_eq!(store.revision(), 2);
}

#[test]
fn a_deletion_of_nothing_makes_no_revision() {
    let mut store = store();
    put(&mut store, "a", "1");
    let nothing = DeleteRangeRequest { key: bytes("b"), range_end: bytes("z"), prev_kv: true };
    let applied = store.delete_range(&nothing, &mut ()).expect("a deletion");
    assert_eq!(applied.response.deleted, 0);
    assert_eq!(applied.response.header.expect("a header").revision, 2);
    assert!(applied.events.is_empty());
}

#[test]
fn a_deletion_ends_a_generation() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    let delete = DeleteRangeRequest { key: bytes("a"), ..DeleteRangeRequest::default() };
    let applied = store.delete_range(&delete, &mut ()).expect("a deletion");
    assert_eq!(applied.events[0].kind, EventKind::Delete);
    put(&mut store, "a", "3");
    let versions = |revision| {
        let kvs = all_at(&store, revision).expect("a kept revision").kvs;
        kvs.iter().map(|kv| (kv.create_revision, kv.mod_revision, kv.version)).collect::<Vec<_>>()
    };
    assert_eq!(versions(3), [(2, 3, 2)]);
    assert_eq!(versions(4), []);
    assert_eq!(versions(5), [(5, 5, 1)]);
}

#[test]
fn compacted_revisions_cannot_be_read() {
    let mut store = store();
    for value in ["1", "2", "3"] {
        put(&mut store, "a", value);
    }
    store.compact(3).expect("a kept revision");
    while store.compact_step(1) == Progress::Unfinished {}
    assert!(matches!(all_at(&store, 2), Err(Failure::Refused(Error::Compacted(3)))));
    assert_eq!(all_at(&store, 3).expect("the compacted one itself").kvs[0].value, "2");
    assert!(matches!(all_at(&store, 5), Err(Failure::Refused(Error::FutureRevision(4)))));
    assert_eq!(store.compact(3), Err(Error::Compacted(3)));
    assert_eq!(store.compact(5), Err(Error::FutureRevision(4)));
}

#[test]
fn a_put_needs_its_lease() {
    let mut store = store();
    let mut leases = PlainLeases::default();
    let request = PutRequest { key: bytes("a"), lease: 7, ..PutRequest::default() };
    let refused = store.put(&request, &mut leases);
    assert!(matches!(refused, Err(Failure::Refused(Error::LeaseNotFound))));
    assert_eq!(store.revision(), 1);
    leases.0.insert(7, Default::default());
    store.put(&request, &mut leases).expect("the lease is there");
    assert!(leases.0[&7].contains(&b"a"[..]));
    let plain = PutRequest { key: bytes("a"), ..PutRequest::default() };
    store.put(&plain, &mut leases).expect("a plain put");
    assert!(leases.0[&7].is_empty());
}

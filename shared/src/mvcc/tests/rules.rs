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

#[test]
fn revision_0_can_be_compacted_once() {
    let mut store = store();
    assert_eq!(store.compact(-1), Err(Error::Compacted(-1)));
    assert_eq!(store.compact(0), Ok(()));
    assert_eq!(store.compact(0), Err(Error::Compacted(0)));
}

#[test]
fn a_store_whose_last_revision_was_compacted_away_keeps_its_number() {
    let mut store = store();
    put(&mut store, "a", "1");
    let delete = DeleteRangeRequest { key: bytes("a"), ..DeleteRangeRequest::default() };
    store.delete_range(&delete, &mut ()).expect("a deletion");
    put(&mut store, "b", "1");
    let delete = DeleteRangeRequest { key: bytes("b"), ..DeleteRangeRequest::default() };
    store.delete_range(&delete, &mut ()).expect("a deletion");
    for revision in [4, 5] {
        store.compact(revision).expect("a kept revision");
        while store.compact_step(1) == Progress::Unfinished {}
        let opened = Store::open(store.database().clone(), &mut ()).expect("the same database");
        assert_eq!((opened.revision(), opened.compact_revision()), (5, revision));
    }
}

#[test]
fn a_damaged_database_is_refused() {
    let open = |key: &'static [u8], value: &'static [u8]| {
        let mut state = MemoryState::default();
        state.insert(crate::mvcc::db::Bucket::Key, Bytes::from_static(key), Bytes::from_static(value));
        Store::open(Database::new(state), &mut ()).map(|_| ()).map_err(|failure| failure.to_string())
    };
    let key = b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0";
    assert_eq!(open(key, b"\x0a\x01a\x10\x02\x18\x02\x20\x01"), Ok(()));
    assert_eq!(open(key, b"\x0a\x09a"), Err("the record of revision 2.0 is missing or damaged".into()));
    assert_eq!(
        open(key, b"\x0a\x01a\x10\x02\x18\x03\x20\x01"),
        Err("the record of revision 2.0 is missing or damaged".into()),
        "another revision"
    );
    assert_eq!(open(b"short", b""), Err("bucket key: [115, 104, 111, 114, 116] is not a revision".into()));
}

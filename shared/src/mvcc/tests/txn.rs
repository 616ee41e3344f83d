//! The rules of transactions, one by one.

use bytes::Bytes;

use super::rules::{bytes, put, store};
use crate::mvcc::{Applied, Error, Failure, MemoryState, PlainLeases, Store, check_txn};
use crate::v3::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::v3::pb::etcdserverpb::request_op::Request;
use crate::v3::pb::etcdserverpb::response_op::Response;
use crate::v3::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    operation(Request::RequestPut(PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }))
}

fn delete_op(key: &str, end: &str) -> RequestOp {
    let delete = DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false };
    operation(Request::RequestDeleteRange(delete))
}

fn range_op(key: &str, revision: i64) -> RequestOp {
    operation(Request::RequestRange(RangeRequest { key: bytes(key), revision, ..RangeRequest::default() }))
}

fn txn_op(txn: TxnRequest) -> RequestOp {
    operation(Request::RequestTxn(txn))
}

fn success(operations: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success: operations, ..TxnRequest::default() }
}

fn try_run(store: &mut Store<MemoryState>, txn: &TxnRequest) -> Result<Applied<TxnResponse>, Error> {
    let mut leases = PlainLeases::default();
    store.txn(txn, &mut leases).map_err(|failure| match failure {
        Failure::Refused(error) => error,
        other => panic!("{other}"),
    })
}

fn run(store: &mut Store<MemoryState>, txn: &TxnRequest) -> TxnResponse {
    try_run(store, txn).expect("a transaction that is not refused").response
}

fn compare(key: &str, end: &str, target: i32, result: i32, union: Option<TargetUnion>) -> Compare {
    Compare { result, target, key: bytes(key), range_end: bytes(end), target_union: union }
}

/// Whether a compare holds in a store with a = 1 (revision 2, version 1) and b = 2 (revision 4, version 2).
fn holds(compare: Compare) -> bool {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "b", "2");
    run(&mut store, &TxnRequest { compare: vec![compare], ..TxnRequest::default() }).succeeded
}

const EQUAL: i32 = CompareResult::Equal as i32;
const GREATER: i32 = CompareResult::Greater as i32;
const NOT_EQUAL: i32 = CompareResult::NotEqual as i32;
const VERSION: i32 = CompareTarget::Version as i32;
const CREATE: i32 = CompareTarget::Create as i32;
const MOD: i32 = CompareTarget::Mod as i32;
const VALUE: i32 = CompareTarget::Value as i32;
const LEASE: i32 = CompareTarget::Lease as i32;

#[test]
fn compares_of_a_key() {
    assert!(holds(compare("b", "", VERSION, EQUAL, Some(TargetUnion::Version(2)))));
    assert!(holds(compare("b", "", CREATE, EQUAL, Some(TargetUnion::CreateRevision(3)))));
    assert!(holds(compare("b", "", MOD, GREATER, Some(TargetUnion::ModRevision(3)))));
    assert!(holds(compare("b", "", VALUE, GREATER, Some(TargetUnion::Value(bytes("1"))))));
    assert!(holds(compare("b", "", LEASE, EQUAL, None)));
    assert!(!holds(compare("b", "", VERSION, EQUAL, None)), "without a number: 0");
    assert!(
        !holds(compare("b", "", VERSION, EQUAL, Some(TargetUnion::ModRevision(2)))),
        "of another target: 0"
    );
}

#[test]
fn compares_of_a_missing_key() {
    for target in [VERSION, CREATE, MOD, LEASE] {
        assert!(holds(compare("x", "", target, EQUAL, None)));
        assert!(holds(compare("x", "z", target, EQUAL, None)), "an empty range is like a missing key");
    }
    for result in 0..5 {
        assert!(!holds(compare("x", "", VALUE, result, Some(TargetUnion::Value(bytes("1"))))));
    }
}

#[test]
fn all_keys_of_a_range_must_satisfy_a_compare() {
    assert!(holds(compare("a", "c", VERSION, GREATER, None)));
    assert!(!holds(compare("a", "c", VERSION, GREATER, Some(TargetUnion::Version(1)))));
    assert!(holds(compare("b", "\0", VERSION, GREATER, Some(TargetUnion::Version(1)))));
}

#[test]
fn unknown_numbers_of_a_compare() {
    assert!(holds(compare("a", "", VERSION, 9, None)), "an unknown result is true");
    assert!(holds(compare("a", "", 9, EQUAL, None)), "an unknown target is equal to anything");
    assert!(!holds(compare("a", "", 9, GREATER, None)));
    assert!(!holds(compare("a", "", 9, NOT_EQUAL, None)));
}

#[test]
fn operations_see_earlier_writes_and_nested_compares_do_not() {
    let mut store = store();
    put(&mut store, "a", "1");
    let is_missing = vec![compare("b", "", VERSION, EQUAL, None)];
    let nested =
        TxnRequest { compare: is_missing, success: vec![range_op("b", 0)], failure: vec![put_op("bad", "")] };
    let response =
        run(&mut store, &success(vec![range_op("a", 0), put_op("b", "2"), txn_op(nested), range_op("b", 2)]));
    let header = |revision| Some(ResponseHeader { revision, ..ResponseHeader::default() });
    assert_eq!(response.header, header(3));
    let answers: Vec<Response> =
        response.responses.into_iter().filter_map(|answer| answer.response).collect();
    let [
        Response::ResponseRange(before),
        Response::ResponsePut(put),
        Response::ResponseTxn(nested),
        Response::ResponseRange(old),
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!((before.header, put.header, old.header), (header(2), header(3), header(3)));
    assert_eq!((nested.header, nested.succeeded), (header(0), true));
    let Some(Response::ResponseRange(inner)) = &nested.responses[0].response else { panic!("{nested:?}") };
    assert_eq!((inner.header, &inner.kvs[0].value), (header(3), &bytes("2")));
    assert_eq!(old.count, 0, "the old state");
}

#[test]
fn what_is_refused_has_no_effect() {
    let mut store = store();
    put(&mut store, "a", "1");
    let keep_value = |key: &str| {
        let keep = PutRequest { key: bytes(key), ignore_value: true, lease: 0, ..PutRequest::default() };
        operation(Request::RequestPut(keep))
    };
    let leased = |key: &str| {
        operation(Request::RequestPut(PutRequest { key: bytes(key), lease: 7, ..PutRequest::default() }))
    };
    let refused = [
        (vec![put_op("b", ""), range_op("a", 9), keep_value("x")], Error::KeyNotFound),
        (vec![put_op("b", ""), range_op("a", 9)], Error::FutureRevision(2)),
        (vec![put_op("b", ""), range_op("b", 3)], Error::FutureRevision(2)),
        (vec![put_op("b", ""), leased("c")], Error::LeaseNotFound),
        (vec![put_op("b", ""), txn_op(success(vec![leased("c")]))], Error::LeaseNotFound),
        (vec![put_op("b", ""), range_op("a", -2)], Error::Compacted(-1)),
        // The checks before proposing let this pass, see there.
        (vec![put_op("b", ""), delete_op("a", "\0"), keep_value("a")], Error::KeyNotFound),
    ];
    for (operations, error) in refused {
        assert_eq!(try_run(&mut store, &success(operations)), Err(error));
        assert_eq!(store.revision(), 2);
        let all = RangeRequest { key: bytes("\0"), range_end: bytes("\0"), ..RangeRequest::default() };
        assert_eq!(store.range(&all).expect("memory can be read").count, 1);
    }
    // What does not run is not checked.
    let other = TxnRequest { failure: vec![leased("c"), range_op("a", 9)], ..TxnRequest::default() };
    assert!(run(&mut store, &other).succeeded);
}

#[test]
fn a_negative_revision_is_now_until_something_was_compacted() {
    let mut store = store();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    assert!(run(&mut store, &success(vec![range_op("a", -1)])).succeeded);
    store.compact(2).expect("a kept revision");
    assert_eq!(try_run(&mut store, &success(vec![range_op("a", -1)])), Err(Error::Compacted(2)));
    let plain = RangeRequest { key: bytes("a"), revision: -1, ..RangeRequest::default() };
    assert_eq!(store.range(&plain).expect("now").kvs[0].value, "2");
}

#[test]
fn a_key_may_be_deleted_and_put_in_one_revision() {
    let mut store = store();
    put(&mut store, "n", "1");
    put(&mut store, "n", "2");
    let txn = success(vec![delete_op("m", "\0"), put_op("n", "3")]);
    assert_eq!(check_txn(&txn, 128), Ok(()));
    let applied = try_run(&mut store, &txn).expect("a transaction");
    assert_eq!(applied.events.len(), 2);
    let range = RangeRequest { key: Bytes::from_static(b"n"), ..RangeRequest::default() };
    let kv = store.range(&range).expect("memory can be read").kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (4, 4, 1));
}

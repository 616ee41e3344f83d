//! Random requests over a few keys, so that they meet.

use bytes::Bytes;
use proptest::prelude::*;

use crate::v3::pb::etcdserverpb::compare::TargetUnion;
use crate::v3::pb::etcdserverpb::request_op::Request;
use crate::v3::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "aa", "b", "b\0", "c", "d", "dd", "e", "\u{ff}"])
        .prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(b"\0")),
        2 => key(),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "1", "2", "longer"]).prop_map(|value| Bytes::from_static(value.as_bytes()))
}

/// Half of the leases exist.
fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => 1..=4_i64]
}

pub(super) fn put() -> impl Strategy<Value = PutRequest> {
    let rarely = || prop::bool::weighted(0.15);
    (key(), value(), lease(), any::<bool>(), rarely(), rarely()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

pub(super) fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => 1..30_i64]
}

pub(super) fn range() -> impl Strategy<Value = RangeRequest> {
    let revision = prop_oneof![3 => Just(0), 3 => -2..40_i64];
    let first = (key(), end(), 0..4_i64, revision, 0..4_i32, 0..5_i32);
    let flag = || prop::bool::weighted(0.2);
    (first, flag(), flag(), [bound(), bound(), bound(), bound()]).prop_map(
        |((key, range_end, limit, revision, sort_order, sort_target), keys_only, count_only, bounds)| {
            RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: false,
                keys_only,
                count_only,
                min_mod_revision: bounds[0],
                max_mod_revision: bounds[1],
                min_create_revision: bounds[2],
                max_create_revision: bounds[3],
            }
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let number = || 0..20_i64;
    let union = prop_oneof![
        Just(None),
        number().prop_map(|number| Some(TargetUnion::Version(number))),
        number().prop_map(|number| Some(TargetUnion::CreateRevision(number))),
        number().prop_map(|number| Some(TargetUnion::ModRevision(number))),
        value().prop_map(|value| Some(TargetUnion::Value(value))),
        (0..4_i64).prop_map(|lease| Some(TargetUnion::Lease(lease))),
    ];
    (0..5_i32, 0..6_i32, key(), end(), union).prop_map(|(result, target, key, range_end, target_union)| {
        Compare { result, target, key, range_end, target_union }
    })
}

pub(super) fn txn() -> impl Strategy<Value = TxnRequest> {
    let operation = |request| RequestOp { request: Some(request) };
    let leaf = prop_oneof![
        3 => put().prop_map(Request::RequestPut),
        1 => delete().prop_map(Request::RequestDeleteRange),
        2 => range().prop_map(Request::RequestRange),
    ]
    .prop_map(operation);
    let tree = leaf.prop_recursive(3, 12, 3, move |inner| {
        txn_of(inner).prop_map(move |txn| operation(Request::RequestTxn(txn))).boxed()
    });
    txn_of(tree)
}

fn txn_of(operation: impl Strategy<Value = RequestOp> + Clone) -> impl Strategy<Value = TxnRequest> {
    let operations = || prop::collection::vec(operation.clone(), 0..4);
    (prop::collection::vec(compare(), 0..3), operations(), operations())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

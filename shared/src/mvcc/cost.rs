//! What a request may add to the database, as the quota counts it: bytes, roughly.

use crate::v3::pb::etcdserverpb::request_op::Request;
use crate::v3::pb::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// What is counted for a key in addition to its bytes and those of its value.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// The cost of a lease.
pub const LEASE_COST_BYTES: u64 = 64;

/// The cost of a put.
pub fn put_cost_bytes(request: &PutRequest) -> u64 {
    PUT_OVERHEAD_BYTES + request.key.len() as u64 + request.value.len() as u64
}

/// The cost of a transaction: that of the dearer branch. Nested ones count alike (the original does not count them).
pub fn txn_cost_bytes(request: &TxnRequest) -> u64 {
    branch_cost_bytes(&request.success).max(branch_cost_bytes(&request.failure))
}

fn branch_cost_bytes(operations: &[RequestOp]) -> u64 {
    operations
        .iter()
        .map(|operation| match &operation.request {
            Some(Request::RequestPut(put)) => put_cost_bytes(put),
            Some(Request::RequestTxn(nested)) => txn_cost_bytes(nested),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_dearer_branch_counts() {
        let put = |value: usize| {
            let value = Bytes::from(vec![b'v'; value]);
            let put = PutRequest { key: Bytes::from_static(b"key"), value, ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let inner =
            TxnRequest { success: vec![put(1), put(2)], failure: vec![put(4)], ..TxnRequest::default() };
        assert_eq!(txn_cost_bytes(&inner), 2 * (256 + 3) + 3);
        let nested = RequestOp { request: Some(Request::RequestTxn(inner)) };
        let outer = TxnRequest { success: vec![put(10)], failure: vec![nested], ..TxnRequest::default() };
        assert_eq!(txn_cost_bytes(&outer), 2 * (256 + 3) + 3);
        assert_eq!(txn_cost_bytes(&TxnRequest::default()), 0);
    }
}

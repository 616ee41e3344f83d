//! What is wrong with a request whatever the store holds: found before anything is proposed.

use std::collections::BTreeSet;

use shared::v3::Error;
use shared::v3::pb::etcdserverpb::range_request::SortTarget;
use shared::v3::pb::etcdserverpb::request_op::Request;
use shared::v3::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// Checks a range.
pub(super) fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::KeyNotProvided);
    }
    if SortTarget::try_from(request.sort_target).is_err() {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
pub(super) fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::KeyNotProvided);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
pub(super) fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::KeyNotProvided) } else { Ok(()) }
}

/// Checks a transaction of at most `ops_max` operations, in the original's order.
pub(super) fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    operations(request, ops_max)?;
    overlaps(&request.success)?;
    overlaps(&request.failure)?;
    Ok(())
}

/// Whether a transaction writes nothing, whichever branch runs. One with a nested transaction counts as writing.
pub(super) fn is_read_only(request: &TxnRequest) -> bool {
    branches(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a transaction that writes nothing reads what this member has, without asking the others.
pub(super) fn is_serializable(request: &TxnRequest) -> bool {
    branches(request).all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

fn branches(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// The depth is bounded by that of the messages that are decoded.
fn operations(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = ops_max.checked_sub(ops).ok_or(Error::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::KeyNotProvided);
    }
    branches(request).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => operations(request, left),
        None => Err(Error::KeyNotFound),
    })
}

/// The keys that operations put, and the ranges that they delete.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Writes<'a> {
    fn deletes_key(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|(first, end)| match *end {
            b"" => key == *first,
            b"\0" => key >= *first,
            end => key >= *first && key < end,
        })
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes_key(key) || !self.puts.insert(key) { Err(Error::DuplicateKey) } else { Ok(()) }
    }
}

/// Finds a key that is written twice. The branches of one nested transaction exclude each other: both may write it.
fn overlaps(ops: &[RequestOp]) -> Result<Writes<'_>, Error> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            writes.deletes.push((&request.key, &request.range_end));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(request)) = &op.request else { continue };
        let (success, failure) = (overlaps(&request.success)?, overlaps(&request.failure)?);
        for key in success.puts.union(&failure.puts) {
            writes.add_put(key)?;
        }
        writes.deletes.extend(success.deletes);
        writes.deletes.extend(failure.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            writes.add_put(&request.key)?;
        }
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use shared::v3::pb::etcdserverpb::Compare;

    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn puts(key: &'static str) -> RequestOp {
        op(Request::RequestPut(PutRequest { key: key.into(), ..PutRequest::default() }))
    }

    fn deletes(key: &'static str, end: &'static str) -> RequestOp {
        let (key, range_end) = (key.into(), end.into());
        op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
    }

    fn reads(serializable: bool) -> RequestOp {
        op(Request::RequestRange(RangeRequest { key: "k".into(), serializable, ..RangeRequest::default() }))
    }

    fn of(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { compare: Vec::new(), success, failure }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(of(success, failure)))
    }

    fn checked(success: Vec<RequestOp>) -> Result<(), Error> {
        txn(&of(success, Vec::new()), 128)
    }

    #[test]
    fn a_key_is_written_once() {
        let twice = Err(Error::DuplicateKey);
        assert_eq!(checked(vec![puts("a"), puts("b")]), Ok(()));
        assert_eq!(checked(vec![puts("a"), puts("a")]), twice);
        assert_eq!(txn(&of(vec![puts("a")], vec![puts("a")]), 128), Ok(()), "one of them runs");
        assert_eq!(txn(&of(Vec::new(), vec![puts("a"), puts("a")]), 128), twice);
        assert_eq!(checked(vec![puts("b"), deletes("a", "c")]), twice);
        assert_eq!(checked(vec![puts("c"), deletes("a", "c")]), Ok(()));
        assert_eq!(checked(vec![puts("c"), deletes("a", "\0")]), twice);
        assert_eq!(checked(vec![puts("a"), deletes("a", "")]), twice);
        assert_eq!(checked(vec![deletes("a", "c"), deletes("b", "d")]), Ok(()), "deletions may overlap");
        assert_eq!(checked(vec![puts("a"), nested(vec![puts("a")], Vec::new())]), twice);
        assert_eq!(checked(vec![nested(vec![puts("a")], vec![puts("a")])]), Ok(()), "one of them runs");
        assert_eq!(checked(vec![nested(vec![puts("a")], vec![]), nested(vec![], vec![puts("a")])]), twice);
        assert_eq!(checked(vec![deletes("a", ""), nested(vec![puts("a")], Vec::new())]), twice);
        assert_eq!(checked(vec![nested(vec![deletes("a", "")], Vec::new()), puts("a")]), twice);
    }

    #[test]
    fn operations_are_counted_at_each_level() {
        let many = |count| (0..count).map(|_| reads(false)).collect::<Vec<_>>();
        assert_eq!(checked(many(128)), Ok(()));
        assert_eq!(checked(many(129)), Err(Error::TooManyOps));
        // 128 operations leave nothing for those of a nested transaction.
        let full = [many(127), vec![nested(many(1), Vec::new())]].concat();
        assert_eq!(checked(full), Err(Error::TooManyOps));
        let room = [many(126), vec![nested(many(1), Vec::new())]].concat();
        assert_eq!(checked(room), Ok(()));
        assert_eq!(checked(vec![RequestOp { request: None }]), Err(Error::KeyNotFound));
        let unnamed = TxnRequest { compare: vec![Compare::default()], ..of(vec![puts("a"); 2], Vec::new()) };
        assert_eq!(txn(&unnamed, 128), Err(Error::KeyNotProvided), "before overlaps");
    }

    #[test]
    fn reads_alone_need_no_entry() {
        assert!(is_read_only(&of(vec![reads(false)], vec![reads(true)])));
        assert!(!is_serializable(&of(vec![reads(false)], vec![reads(true)])));
        assert!(is_serializable(&of(vec![reads(true)], Vec::new())));
        assert!(!is_read_only(&of(vec![reads(false)], vec![puts("a")])));
        assert!(!is_read_only(&of(vec![nested(Vec::new(), Vec::new())], Vec::new())));
    }
}

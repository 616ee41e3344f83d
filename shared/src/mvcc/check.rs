//! The checks of a request before it is proposed, in the original's order. They need no store.
//!
//! A transaction may be nested as deep as its budget of operations allows, and not deeper than [`DEPTH_MAX`]. The
//! decoder of messages ends at 100 levels, which are 50 transactions in each other, so only code can build deeper
//! ones.

use std::collections::{BTreeMap, HashSet};
use std::mem;

use super::error::Error;
use crate::v3::pb::etcdserverpb::range_request::SortTarget;
use crate::v3::pb::etcdserverpb::request_op::Request;
use crate::v3::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// Transactions that are nested deeper are refused: whatever walks over them may do so by recursion.
pub const DEPTH_MAX: usize = 64;

/// How many operations a transaction may have, unless the operator says otherwise.
pub const TXN_OPERATIONS_MAX_DEFAULT: usize = 128;

/// Checks a range.
///
/// # Errors
/// [`Error::EmptyKey`] or [`Error::InvalidSortOption`].
pub fn check_range(request: &RangeRequest) -> Result<(), Error> {
    check_key(&request.key)?;
    check_sort(request)
}

/// Whether the range can be sorted as it says. An order of unknown number is none.
pub(super) fn check_sort(request: &RangeRequest) -> Result<(), Error> {
    SortTarget::try_from(request.sort_target).map_or(Err(Error::InvalidSortOption), |_| Ok(()))
}

/// Checks a put.
///
/// # Errors
/// [`Error::EmptyKey`], [`Error::ValueProvided`] or [`Error::LeaseProvided`].
pub fn check_put(request: &PutRequest) -> Result<(), Error> {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
/// [`Error::EmptyKey`].
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    check_key(&request.key)
}

/// Checks a transaction and all that are nested in it. O(n log n).
///
/// # Errors
/// [`Error::TooManyOperations`]; those of its operations, and [`Error::KeyNotFound`] for one that says nothing;
/// [`Error::DuplicateKey`].
pub fn check_txn(request: &TxnRequest, operations_max: usize) -> Result<(), Error> {
    check_operations(request, operations_max, DEPTH_MAX)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// Whether a transaction has ranges only, in both branches: it need not be in the log. One with another transaction
/// in it does not count as such.
pub fn is_read_only(request: &TxnRequest) -> bool {
    let is_range = |operation: &RequestOp| matches!(operation.request, Some(Request::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(is_range)
}

/// Whether all ranges of a read-only transaction are serializable: it can be answered without the other members.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let is_serializable = |operation: &RequestOp| matches!(&operation.request, Some(Request::RequestRange(range)) if range.serializable);
    request.success.iter().chain(&request.failure).all(is_serializable)
}

/// Whether a transaction puts anything in any branch, nested ones included: it may need space.
pub fn has_puts(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => has_puts(nested),
        _ => false,
    })
}

fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

fn check_operations(request: &TxnRequest, operations_max: usize, depth_max: usize) -> Result<(), Error> {
    let operations = request.compare.len().max(request.success.len()).max(request.failure.len());
    if operations > operations_max || depth_max == 0 {
        return Err(Error::TooManyOperations);
    }
    for compare in &request.compare {
        check_key(&compare.key)?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete_range(delete)?,
            Some(Request::RequestTxn(nested)) => {
                check_operations(nested, operations_max - operations, depth_max - 1)?;
            }
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that a branch may put, and the ranges that it may delete.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Ranges<'a>,
}

impl<'a> Writes<'a> {
    /// The writes of a branch, if none of them puts a key twice, or one that another deletes. The deletions of this
    /// level count from the beginning, those of nested transactions from the next operation on.
    fn of(operations: &'a [RequestOp]) -> Result<Writes<'a>, Error> {
        let mut writes = Writes::default();
        for operation in operations {
            if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
                writes.deletes.insert(&delete.key, &delete.range_end);
            }
        }
        for operation in operations {
            if let Some(Request::RequestTxn(nested)) = &operation.request {
                let success = Writes::of(&nested.success)?;
                let failure = Writes::of(&nested.failure)?;
                writes.add_branches(success, failure)?;
            }
        }
        for operation in operations {
            if let Some(Request::RequestPut(put)) = &operation.request {
                writes.put(&put.key)?;
            }
        }
        Ok(writes)
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contain(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Adds what a nested transaction writes. Only one of its branches runs, so both may put the same key.
    fn add_branches(&mut self, success: Writes<'a>, mut failure: Writes<'a>) -> Result<(), Error> {
        failure.puts.retain(|key| !success.puts.contains(key));
        for key in success.puts.into_iter().chain(failure.puts) {
            self.put(key)?;
        }
        self.deletes.add(success.deletes);
        self.deletes.add(failure.deletes);
        Ok(())
    }
}

/// A set of keys, as ranges that do not overlap. As in the original, the deletion of all keys from one on counts as
/// one of nothing: its end comes before its beginning.
#[derive(Default)]
struct Ranges<'a>(BTreeMap<&'a [u8], End<'a>>);

/// The end of a range of keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End<'a> {
    /// The range is this key alone.
    With(&'a [u8]),
    /// The first key behind the range.
    Before(&'a [u8]),
}

impl<'a> End<'a> {
    /// Whether a key that is not before the range lies in it.
    fn takes_in(self, key: &[u8]) -> bool {
        match self {
            End::With(last) => key <= last,
            End::Before(end) => key < end,
        }
    }

    /// Whether the range ends further on than another one.
    fn is_after(self, other: End<'_>) -> bool {
        match (self, other) {
            (End::With(a), End::With(b)) => a > b,
            (End::Before(a), End::Before(b)) => a > b,
            (End::With(a), End::Before(b)) => a >= b,
            (End::Before(a), End::With(b)) => a > b,
        }
    }
}

impl<'a> Ranges<'a> {
    fn insert(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        match range_end {
            b"" => self.insert_range(key, End::With(key)),
            end if end > key => self.insert_range(key, End::Before(end)),
            _ => {}
        }
    }

    fn insert_range(&mut self, mut from: &'a [u8], mut end: End<'a>) {
        if let Some((&before, &its_end)) = self.0.range(..=from).next_back()
            && its_end.takes_in(from)
        {
            if !end.is_after(its_end) {
                return;
            }
            from = before;
        }
        while let Some((&next, &its_end)) = self.0.range(from..).next()
            && end.takes_in(next)
        {
            if its_end.is_after(end) {
                end = its_end;
            }
            self.0.remove(next);
        }
        self.0.insert(from, end);
    }

    fn contain(&self, key: &[u8]) -> bool {
        self.0.range(..=key).next_back().is_some_and(|(_, end)| end.takes_in(key))
    }

    fn add(&mut self, mut other: Ranges<'a>) {
        if other.0.len() > self.0.len() {
            mem::swap(self, &mut other);
        }
        for (from, end) in other.0 {
            self.insert_range(from, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn range_op(op: Request) -> RequestOp {
        RequestOp { request: Some(op) }
    }

    fn put(key: &'static str) -> RequestOp {
        range_op(Request::RequestPut(PutRequest {
            key: Bytes::from_static(key.as_bytes()),
            ..Default::default()
        }))
    }

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        range_op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            prev_kv: false,
        }))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        range_op(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure }))
    }

    fn check(success: Vec<RequestOp>) -> Result<(), Error> {
        check_txn(&TxnRequest { success, ..TxnRequest::default() }, TXN_OPERATIONS_MAX_DEFAULT)
    }

    #[test]
    fn overlaps_are_refused() {
        let duplicate = Err(Error::DuplicateKey);
        assert_eq!(check(vec![put("a"), put("b"), delete("c", "d"), delete("c", "")]), Ok(()));
        assert_eq!(check(vec![put("a"), put("a")]), duplicate);
        assert_eq!(check(vec![put("b"), delete("a", "c")]), duplicate);
        assert_eq!(check(vec![put("c"), delete("a", "c")]), Ok(()));
        assert_eq!(check(vec![put("a"), nested(vec![put("a")], vec![])]), duplicate);
        assert_eq!(check(vec![nested(vec![put("a")], vec![put("a")])]), Ok(()));
        assert_eq!(check(vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])]), duplicate);
        assert_eq!(check(vec![nested(vec![], vec![put("b")]), delete("a", "c")]), duplicate);
        assert_eq!(check(vec![put("b"), nested(vec![], vec![delete("a", "c")])]), duplicate);
        assert_eq!(check(vec![nested(vec![put("b")], vec![delete("a", "c")])]), Ok(()));
        // As in the original: deletions of an earlier nested transaction count, those of a later one do not.
        let (putting, deleting) =
            (|| nested(vec![put("b")], vec![]), || nested(vec![delete("b", "")], vec![]));
        assert_eq!(check(vec![putting(), deleting()]), Ok(()));
        assert_eq!(check(vec![deleting(), putting()]), duplicate);
        assert_eq!(check(vec![delete("a", "\0"), put("b")]), Ok(()));
        assert_eq!(check(vec![delete("c", "b"), put("c")]), Ok(()));
    }

    #[test]
    fn a_nested_transaction_has_the_rest_of_the_budget() {
        let wide = |count: usize| (0..count).map(|_| delete("d", "")).collect::<Vec<_>>();
        assert_eq!(check(wide(128)), Ok(()));
        assert_eq!(check(wide(129)), Err(Error::TooManyOperations));
        let with_nested = |outer: usize, inner: usize| {
            let mut operations = wide(outer - 1);
            operations.push(nested(wide(inner), vec![]));
            operations
        };
        assert_eq!(check(with_nested(100, 28)), Ok(()));
        assert_eq!(check(with_nested(100, 29)), Err(Error::TooManyOperations));
        assert_eq!(check(with_nested(128, 0)), Ok(()));
        assert_eq!(check(with_nested(128, 1)), Err(Error::TooManyOperations));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| (0..depth).fold(vec![put("a")], |inner, _| vec![nested(inner, vec![])]);
        assert_eq!(check(deep(DEPTH_MAX - 1)), Ok(()));
        assert_eq!(check(deep(DEPTH_MAX)), Err(Error::TooManyOperations));
    }

    #[test]
    fn an_operation_without_content() {
        assert_eq!(check(vec![RequestOp { request: None }]), Err(Error::KeyNotFound));
        assert_eq!(check(vec![put("")]), Err(Error::EmptyKey));
    }

    proptest! {
        #[test]
        fn ranges_contain_what_was_inserted(
            ranges in prop::collection::vec(("[a-c]{0,3}", "[a-c]{0,3}"), 0..12),
            split in 0..12_usize,
            key in "[a-c]{0,4}",
        ) {
            let contains = |from: &str, end: &str| match end {
                "" => key == from,
                end => *key >= *from && *key < *end,
            };
            let wanted = ranges.iter().any(|(from, end)| contains(from, end));
            let (left, right) = ranges.split_at(split.min(ranges.len()));
            let mut sets = [left, right].map(|ranges| {
                let mut set = Ranges::default();
                ranges.iter().for_each(|(from, end)| set.insert(from.as_bytes(), end.as_bytes()));
                set
            });
            let other = mem::take(&mut sets[1]);
            sets[0].add(other);
            prop_assert_eq!(sets[0].contain(key.as_bytes()), wanted);
        }
    }
}

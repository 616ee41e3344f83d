//! Transactions: compares decide which branches run, then what these need is checked, and only then is written.

use std::cmp::Ordering;

use super::db::Committed;
use super::error::{Error, Failure};
use super::leases::Leases;
use super::reader::{Keys, Reader};
use super::store::{Applied, Store, Write};
use super::versions::Versions;
use crate::v3::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::v3::pb::etcdserverpb::request_op::Request;
use crate::v3::pb::etcdserverpb::response_op::Response;
use crate::v3::pb::etcdserverpb::{Compare, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse};
use crate::v3::pb::mvccpb::KeyValue;

/// The branches that run, of a transaction and of those nested in it.
struct Plan<'a> {
    succeeded: bool,
    operations: &'a [RequestOp],
    /// The nested transactions, in order.
    nested: Vec<Plan<'a>>,
}

impl Plan<'_> {
    /// Whether a put may need a key that the transaction itself has deleted before. The checks before proposing let
    /// some of these pass, and the original ends there.
    fn may_fail(&self) -> bool {
        self.any(
            |request| matches!(request, Request::RequestPut(put) if put.ignore_value || put.ignore_lease),
        ) && self.any(|request| matches!(request, Request::RequestDeleteRange(_)))
    }

    fn any(&self, wanted: fn(&Request) -> bool) -> bool {
        self.operations.iter().filter_map(|operation| operation.request.as_ref()).any(wanted)
            || self.nested.iter().any(|plan| plan.any(wanted))
    }
}

impl<C: Committed> Store<C> {
    /// Runs a transaction. It has effects only if it succeeds as a whole.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], [`Error::KeyNotFound`], [`Error::Compacted`], [`Error::FutureRevision`],
    /// [`Error::InvalidSortOption`]; or the database fails.
    pub fn txn<L: Leases + ?Sized>(
        &mut self,
        request: &TxnRequest,
        leases: &mut L,
    ) -> Result<Applied<TxnResponse>, Failure<C::Error>> {
        let plan = self.state.plan(request)?;
        self.state.check_puts(&plan, leases)?;
        self.state.check_ranges(&plan)?;
        let before = plan.may_fail().then(|| self.state.clone());
        let mut write = Write::new(self, leases);
        match write.run(&plan) {
            Ok(mut response) => {
                response.header = write.header();
                Ok(write.finish(response))
            }
            Err(failure) => {
                if let (Failure::Refused(_), Some(before)) = (&failure, before) {
                    self.state = before;
                }
                Err(failure)
            }
        }
    }
}

impl<C: Committed> Reader<C> {
    /// Runs a transaction without writes, see [`super::is_read_only`].
    ///
    /// # Errors
    /// As [`Store::txn`].
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Failure<C::Error>> {
        let mut store = Store { state: self.clone(), compaction: None };
        Ok(store.txn(request, &mut ())?.response)
    }

    fn plan<'a>(&self, request: &'a TxnRequest) -> Result<Plan<'a>, Failure<C::Error>> {
        let mut succeeded = true;
        for compare in &request.compare {
            if !self.compare(compare)? {
                succeeded = false;
                break;
            }
        }
        let operations = if succeeded { &request.success } else { &request.failure };
        let nested = operations
            .iter()
            .filter_map(|operation| match &operation.request {
                Some(Request::RequestTxn(nested)) => Some(self.plan(nested)),
                _ => None,
            })
            .collect::<Result<_, _>>()?;
        Ok(Plan { succeeded, operations, nested })
    }

    /// Whether all keys of the compare satisfy it.
    fn compare(&self, compare: &Compare) -> Result<bool, Failure<C::Error>> {
        let mut found = false;
        match Keys::new(&compare.key, &compare.range_end) {
            Keys::One(key) => {
                if let Some(versions) = self.index.get(key).filter(|versions| versions.live().is_some()) {
                    found = true;
                    if !self.compare_key(compare, versions)? {
                        return Ok(false);
                    }
                }
            }
            Keys::Range(from, to) => {
                for (_, versions) in self.index.range(from, to) {
                    if versions.live().is_none() {
                        continue;
                    }
                    found = true;
                    if !self.compare_key(compare, versions)? {
                        return Ok(false);
                    }
                }
            }
        }
        // A value compared with that of a missing key: not equal and not different.
        Ok(found || compare.target != CompareTarget::Value as i32 && matches(compare, &KeyValue::default()))
    }

    /// Compares one key. The index knows all but value and lease.
    fn compare_key(&self, compare: &Compare, versions: &Versions) -> Result<bool, Failure<C::Error>> {
        let kv = match CompareTarget::try_from(compare.target) {
            Ok(CompareTarget::Value) => self.record(versions.newest())?,
            Ok(CompareTarget::Lease) if versions.leased() => self.record(versions.newest())?,
            _ => KeyValue {
                create_revision: versions.created(),
                mod_revision: versions.newest().revision.main,
                version: versions.number(),
                ..KeyValue::default()
            },
        };
        Ok(matches(compare, &kv))
    }

    fn check_puts<L: Leases + ?Sized>(&self, plan: &Plan<'_>, leases: &L) -> Result<(), Error> {
        let mut nested = plan.nested.iter();
        for operation in plan.operations {
            match &operation.request {
                Some(Request::RequestPut(put)) => {
                    let exists =
                        || self.index.get(&put.key).is_some_and(|versions| versions.live().is_some());
                    if (put.ignore_value || put.ignore_lease) && !exists() {
                        return Err(Error::KeyNotFound);
                    }
                    if put.lease != 0 && !leases.exists(put.lease) {
                        return Err(Error::LeaseNotFound);
                    }
                }
                Some(Request::RequestTxn(_)) => {
                    if let Some(plan) = nested.next() {
                        self.check_puts(plan, leases)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_ranges(&self, plan: &Plan<'_>) -> Result<(), Error> {
        let mut nested = plan.nested.iter();
        for operation in plan.operations {
            match &operation.request {
                Some(Request::RequestRange(range)) => {
                    super::check::check_sort(range)?;
                    if range.revision > self.current {
                        return Err(Error::FutureRevision(self.current));
                    }
                    if range.revision != 0 && range.revision < self.compacted {
                        return Err(Error::Compacted(self.compacted));
                    }
                }
                Some(Request::RequestTxn(_)) => {
                    if let Some(plan) = nested.next() {
                        self.check_ranges(plan)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a key satisfies a compare. A target without a number of ours is equal to anything.
fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => match union {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value[..].cmp(b""),
        },
        Ok(CompareTarget::Version) => kv.version.cmp(&match union {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&match union {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&match union {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&match union {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

impl<C: Committed, L: Leases + ?Sized> Write<'_, C, L> {
    fn run(&mut self, plan: &Plan<'_>) -> Result<TxnResponse, Failure<C::Error>> {
        let mut nested = plan.nested.iter();
        let mut responses = Vec::with_capacity(plan.operations.len());
        for operation in plan.operations {
            let response = match &operation.request {
                Some(Request::RequestRange(range)) => {
                    Some(Response::ResponseRange(self.store.state.range(range)?))
                }
                Some(Request::RequestPut(put)) => Some(Response::ResponsePut(self.put(put)?)),
                Some(Request::RequestDeleteRange(delete)) => {
                    Some(Response::ResponseDeleteRange(self.delete_range(delete)?))
                }
                Some(Request::RequestTxn(_)) => match nested.next() {
                    Some(plan) => Some(Response::ResponseTxn(self.run(plan)?)),
                    None => None,
                },
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: plan.succeeded, responses })
    }
}

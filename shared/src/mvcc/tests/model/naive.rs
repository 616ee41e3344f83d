//! The store as a plain list of all versions that there ever were: slow, and simple enough to be right.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::mvcc::{Error, Event, EventKind};
use crate::v3::pb::etcdserverpb::compare::TargetUnion;
use crate::v3::pb::etcdserverpb::request_op::Request;
use crate::v3::pb::etcdserverpb::response_op::Response;
use crate::v3::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::v3::pb::mvccpb::KeyValue;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) main: i64,
    pub(super) sub: usize,
    pub(super) event: Event,
}

#[derive(Clone, Debug)]
pub(super) struct Naive {
    pub(super) records: Vec<Record>,
    pub(super) current: i64,
    pub(super) compacted: i64,
    pub(super) leases: BTreeSet<i64>,
    /// How many records the write in progress has made.
    written: usize,
}

impl Default for Naive {
    fn default() -> Naive {
        Naive {
            records: Vec::new(),
            current: 1,
            compacted: -1,
            leases: BTreeSet::from([1, 2, 3]),
            written: 0,
        }
    }
}

fn within(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => key == from,
        b"\0" => key >= from,
        end => key >= from && key < end,
    }
}

impl Naive {
    /// The keys that are there at a revision.
    pub(super) fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut keys = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.main <= revision) {
            let kv = &record.event.kv;
            match record.event.kind {
                EventKind::Put => drop(keys.insert(kv.key.clone(), kv.clone())),
                EventKind::Delete => drop(keys.remove(&kv.key)),
            }
        }
        keys
    }

    fn now(&self, from: &[u8], end: &[u8]) -> Vec<KeyValue> {
        self.at(self.current).into_values().filter(|kv| within(&kv.key, from, end)).collect()
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.current, ..ResponseHeader::default() })
    }

    fn write(&mut self, kind: EventKind, kv: KeyValue) {
        if self.written == 0 {
            self.current += 1;
        }
        let kv = KeyValue { mod_revision: self.current, ..kv };
        self.records.push(Record { main: self.current, sub: self.written, event: Event { kind, kv } });
        self.written += 1;
    }

    /// Runs a write as a whole or not at all. What it answers, and its events.
    pub(super) fn apply<R>(
        &mut self,
        write: impl FnOnce(&mut Naive) -> Result<R, Error>,
    ) -> Result<(R, Vec<Event>), Error> {
        let before = self.clone();
        self.written = 0;
        match write(self) {
            Ok(response) => {
                let new = &self.records[before.records.len()..];
                Ok((response, new.iter().map(|record| record.event.clone()).collect()))
            }
            Err(error) => {
                *self = before;
                Err(error)
            }
        }
    }

    pub(super) fn put(&mut self, put: &PutRequest) -> Result<PutResponse, Error> {
        if put.lease != 0 && !self.leases.contains(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        let previous = self.now(&put.key, b"").pop();
        if (put.ignore_value || put.ignore_lease) && previous.is_none() {
            return Err(Error::KeyNotFound);
        }
        let old = previous.clone().unwrap_or_default();
        self.write(
            EventKind::Put,
            KeyValue {
                key: put.key.clone(),
                value: if put.ignore_value { old.value } else { put.value.clone() },
                lease: if put.ignore_lease { old.lease } else { put.lease },
                version: old.version + 1,
                create_revision: old.create_revision,
                mod_revision: 0,
            },
        );
        if let Some(last) = self.records.last_mut()
            && last.event.kv.create_revision == 0
        {
            last.event.kv.create_revision = last.main;
        }
        Ok(PutResponse { header: self.header(), prev_kv: previous.filter(|_| put.prev_kv) })
    }

    pub(super) fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        let found = self.now(&delete.key, &delete.range_end);
        for kv in &found {
            self.write(EventKind::Delete, KeyValue { key: kv.key.clone(), ..KeyValue::default() });
        }
        let deleted = i64::try_from(found.len()).expect("a few");
        let prev_kvs = if delete.prev_kv { found } else { Vec::new() };
        Ok(DeleteRangeResponse { header: self.header(), deleted, prev_kvs })
    }

    pub(super) fn revoke(&mut self, lease: i64) -> Result<(), Error> {
        for kv in self.now(b"", b"\0") {
            if kv.lease == lease {
                self.write(EventKind::Delete, KeyValue { key: kv.key, ..KeyValue::default() });
            }
        }
        self.leases.remove(&lease);
        Ok(())
    }

    pub(super) fn attached(&self) -> BTreeMap<i64, BTreeSet<Bytes>> {
        let mut leases: BTreeMap<i64, BTreeSet<Bytes>> =
            self.leases.iter().map(|lease| (*lease, BTreeSet::new())).collect();
        for kv in self.now(b"", b"\0") {
            if kv.lease != 0 {
                leases.entry(kv.lease).or_default().insert(kv.key);
            }
        }
        leases
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted(self.compacted));
        }
        if revision > self.current {
            return Err(Error::FutureRevision(self.current));
        }
        self.compacted = revision;
        Ok(())
    }

    /// Where the records are that a finished compaction leaves.
    pub(super) fn left(&self) -> Vec<(i64, usize)> {
        let old = self.records.iter().filter(|record| record.main <= self.compacted);
        let mut newest: BTreeMap<&Bytes, &Record> = BTreeMap::new();
        for record in old {
            newest.insert(&record.event.kv.key, record);
        }
        let kept = newest
            .into_values()
            .filter(|record| record.event.kind == EventKind::Put || record.main == self.compacted);
        let new = self.records.iter().filter(|record| record.main > self.compacted);
        let mut left: Vec<(i64, usize)> = kept.chain(new).map(|record| (record.main, record.sub)).collect();
        left.sort_unstable();
        left
    }

    pub(super) fn range(&self, range: &RangeRequest) -> Result<RangeResponse, Error> {
        if range.revision > self.current {
            return Err(Error::FutureRevision(self.current));
        }
        let revision = if range.revision <= 0 { self.current } else { range.revision };
        if revision < self.compacted {
            return Err(Error::Compacted(self.compacted));
        }
        let mut kvs: Vec<KeyValue> = self
            .at(revision)
            .into_values()
            .filter(|kv| within(&kv.key, &range.key, &range.range_end))
            .collect();
        let count = i64::try_from(kvs.len()).expect("a few");
        let header = self.header();
        if range.count_only {
            return Ok(RangeResponse { header, count, ..RangeResponse::default() });
        }
        let bounds = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ];
        let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0);
        if let Some(limit) = limit
            && range.sort_order == 0
            && bounds == [0; 4]
        {
            kvs.truncate(limit + 1);
        }
        let [min_mod, max_mod, min_create, max_create] = bounds;
        kvs.retain(|kv| min_mod == 0 || kv.mod_revision >= min_mod);
        kvs.retain(|kv| max_mod == 0 || kv.mod_revision <= max_mod);
        kvs.retain(|kv| min_create == 0 || kv.create_revision >= min_create);
        kvs.retain(|kv| max_create == 0 || kv.create_revision <= max_create);
        let order = |kv: &KeyValue| match range.sort_target {
            1 => (kv.version, Bytes::new()),
            2 => (kv.create_revision, Bytes::new()),
            3 => (kv.mod_revision, Bytes::new()),
            4 => (0, kv.value.clone()),
            _ => (0, kv.key.clone()),
        };
        match range.sort_order {
            0 | 1 => kvs.sort_by_key(order),
            2 => kvs.sort_by_key(|kv| Reverse(order(kv))),
            _ => {}
        }
        let more = limit.is_some_and(|limit| kvs.len() > limit);
        kvs.truncate(limit.unwrap_or(usize::MAX));
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(RangeResponse { header, kvs, more, count })
    }

    pub(super) fn txn(&mut self, txn: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut branches = Vec::new();
        self.decide(txn, &mut branches);
        self.check(txn, &mut branches.iter(), true)?;
        self.check(txn, &mut branches.iter(), false)?;
        let mut response = self.run(txn, &mut branches.iter())?;
        response.header = self.header();
        Ok(response)
    }

    fn decide(&self, txn: &TxnRequest, branches: &mut Vec<bool>) {
        let succeeded = txn.compare.iter().all(|compare| self.compare(compare));
        branches.push(succeeded);
        for operation in branch(txn, succeeded) {
            if let Some(Request::RequestTxn(nested)) = &operation.request {
                self.decide(nested, branches);
            }
        }
    }

    fn compare(&self, compare: &Compare) -> bool {
        let kvs = self.now(&compare.key, &compare.range_end);
        let holds = |kv: &KeyValue| {
            let number = match (compare.target, &compare.target_union) {
                (0, Some(TargetUnion::Version(number)))
                | (1, Some(TargetUnion::CreateRevision(number)))
                | (2, Some(TargetUnion::ModRevision(number)))
                | (4, Some(TargetUnion::Lease(number))) => *number,
                _ => 0,
            };
            let ordering = match compare.target {
                0 => kv.version.cmp(&number),
                1 => kv.create_revision.cmp(&number),
                2 => kv.mod_revision.cmp(&number),
                3 => kv.value[..].cmp(match &compare.target_union {
                    Some(TargetUnion::Value(value)) => &value[..],
                    _ => b"".as_slice(),
                }),
                4 => kv.lease.cmp(&number),
                _ => std::cmp::Ordering::Equal,
            };
            match compare.result {
                0 => ordering.is_eq(),
                1 => ordering.is_gt(),
                2 => ordering.is_lt(),
                3 => ordering.is_ne(),
                _ => true,
            }
        };
        if kvs.is_empty() {
            compare.target != 3 && holds(&KeyValue::default())
        } else {
            kvs.iter().all(holds)
        }
    }

    fn check<'a>(
        &self,
        txn: &TxnRequest,
        branches: &mut impl Iterator<Item = &'a bool>,
        puts: bool,
    ) -> Result<(), Error> {
        for operation in branch(txn, *branches.next().expect("decided")) {
            match &operation.request {
                Some(Request::RequestTxn(nested)) => self.check(nested, branches, puts)?,
                Some(Request::RequestPut(put)) if puts => {
                    let missing = self.now(&put.key, b"").is_empty();
                    if (put.ignore_value || put.ignore_lease) && missing {
                        return Err(Error::KeyNotFound);
                    }
                    if put.lease != 0 && !self.leases.contains(&put.lease) {
                        return Err(Error::LeaseNotFound);
                    }
                }
                Some(Request::RequestRange(range)) if !puts && range.revision != 0 => {
                    if range.revision > self.current {
                        return Err(Error::FutureRevision(self.current));
                    }
                    if range.revision < self.compacted {
                        return Err(Error::Compacted(self.compacted));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn run<'a>(
        &mut self,
        txn: &TxnRequest,
        branches: &mut impl Iterator<Item = &'a bool>,
    ) -> Result<TxnResponse, Error> {
        let succeeded = *branches.next().expect("decided");
        let mut responses = Vec::new();
        for operation in branch(txn, succeeded) {
            let response = match &operation.request {
                Some(Request::RequestRange(range)) => Some(Response::ResponseRange(self.range(range)?)),
                Some(Request::RequestPut(put)) => Some(Response::ResponsePut(self.put(put)?)),
                Some(Request::RequestDeleteRange(delete)) => {
                    Some(Response::ResponseDeleteRange(self.delete_range(delete)?))
                }
                Some(Request::RequestTxn(nested)) => Some(Response::ResponseTxn(self.run(nested, branches)?)),
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
    }
}

fn branch(txn: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

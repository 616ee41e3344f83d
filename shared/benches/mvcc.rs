//! What one request costs the key-value store of version 3, in a store of 1,000,000 keys; and the memory of its index.
//!
//! The committed state is computed, not stored: so its own costs, which are those of the file, are not in here.

use std::convert::Infallible;
use std::hint::black_box;
use std::ops::ControlFlow;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;
use shared::mvcc::db::{Bucket, Committed, Database, Visit};
use shared::mvcc::{Progress, Revision, Store};
use shared::v3::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use shared::v3::pb::etcdserverpb::request_op::Request;
use shared::v3::pb::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use shared::v3::pb::mvccpb::KeyValue;

const KEYS: u64 = 1_000_000;
const VALUE: &[u8] = &[b'v'; 256];
/// As many changes are committed together.
const BATCH: usize = 10_000;

/// Keys that were put once each, either in their order or far from it.
#[derive(Clone, Copy)]
struct Computed {
    keys: u64,
    in_order: bool,
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/pods/{number:08}"))
}

/// Keys in an order in which neighbours are far from each other.
fn scrambled(number: u64) -> u64 {
    number.wrapping_mul(2_654_435_761) % KEYS
}

impl Computed {
    fn record(self, revision: i64) -> Option<Bytes> {
        let number = u64::try_from(revision - 2).ok().filter(|number| *number < self.keys)?;
        let key = key(if self.in_order { number } else { scrambled(number) });
        let value = Bytes::from_static(VALUE);
        let kv =
            KeyValue { key, value, create_revision: revision, mod_revision: revision, version: 1, lease: 0 };
        Some(Bytes::from(kv.encode_to_vec()))
    }
}

impl Committed for Computed {
    type Error = Infallible;

    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        let revision = Revision::parse(key).filter(|_| bucket == Bucket::Key);
        Ok(revision.and_then(|(revision, _)| self.record(revision.main)))
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Infallible> {
        if bucket != Bucket::Key {
            return Ok(());
        }
        let mut main = Revision::parse(from).map_or(2, |(revision, _)| revision.main);
        while let Some(record) = self.record(main) {
            let key = Revision::of(main).to_bytes();
            if to.is_some_and(|to| &key[..] >= to) || visit(&key, &record) == ControlFlow::Break(()) {
                break;
            }
            main += 1;
        }
        Ok(())
    }
}

fn open(keys: u64, in_order: bool) -> Store<Computed> {
    Store::open(Database::new(Computed { keys, in_order }), &mut ()).expect("computed records")
}

fn put(number: u64) -> PutRequest {
    PutRequest { key: key(number), value: Bytes::from_static(VALUE), ..PutRequest::default() }
}

/// Commits as often as a server does.
fn commit(store: &mut Store<Computed>) {
    if store.database().pending_operations() >= BATCH {
        let state = *store.database().view().committed();
        let batch = store.database_mut().take_batch();
        store.database_mut().committed(state);
        drop(batch);
    }
}

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn memory(_: &mut Criterion) {
    for (name, in_order) in [("in order", true), ("in any order", false)] {
        let before = resident_bytes();
        let store = open(KEYS, in_order);
        let bytes = resident_bytes().saturating_sub(before);
        println!("memory of {KEYS} keys of {} bytes, put {name}: {} bytes a key", key(0).len(), bytes / KEYS);
        drop(black_box(store));
    }
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("mvcc writes");
    let requests: Vec<PutRequest> = (0..200_000).map(|number| put(scrambled(number * 5))).collect();
    for (name, reader) in [("put an existing key", false), ("put while readers come and go", true)] {
        let mut store = open(KEYS, false);
        let mut next = requests.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                commit(&mut store);
                let held = reader.then(|| store.reader());
                let applied = store.put(next.next().expect("an endless cycle"), &mut ());
                drop(held);
                applied
            });
        });
    }
    let mut store = open(KEYS, false);
    let mut number = 0;
    group.bench_function("put a new key", |b| {
        b.iter(|| {
            commit(&mut store);
            number += 1;
            store.put(&put(KEYS + number), &mut ())
        });
    });
    let mut store = open(KEYS, false);
    let mut next = requests.iter().cycle();
    group.bench_function("transaction: compare the revision and put", |b| {
        b.iter(|| {
            commit(&mut store);
            store.txn(&compare_and_put(next.next().expect("an endless cycle")), &mut ())
        });
    });
    let mut store = open(KEYS, false);
    let mut next = requests.iter().cycle();
    group.bench_function("overwrite and compact, a version", |b| {
        b.iter(|| {
            commit(&mut store);
            let applied = store.put(next.next().expect("an endless cycle"), &mut ());
            if store.revision() % 10_000 == 0 {
                store.compact(store.revision() - 1).expect("a new revision");
            }
            (applied, store.compact_step(2) == Progress::Finished)
        });
    });
    group.finish();
}

fn compare_and_put(put: &PutRequest) -> TxnRequest {
    let compare = Compare {
        target: CompareTarget::Mod as i32,
        key: put.key.clone(),
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Compare::default()
    };
    let put = vec![RequestOp { request: Some(Request::RequestPut(put.clone())) }];
    // Only the keys that were never put have revision 0: the other branch runs.
    TxnRequest { compare: vec![compare], success: Vec::new(), failure: put }
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("mvcc reads");
    let store = open(KEYS, true);
    let mut number = 0;
    let mut next = || {
        number += 1;
        scrambled(number)
    };
    let one = |number: u64| RangeRequest { key: key(number), ..RangeRequest::default() };
    group.bench_function("compute the record of a key", |b| {
        let committed = *store.database().view().committed();
        b.iter(|| committed.record(i64::try_from(next() + 2).expect("a small number")));
    });
    group.bench_function("range of one key", |b| b.iter(|| store.range(&one(next()))));
    group.bench_function("count of one key", |b| {
        b.iter(|| store.range(&RangeRequest { count_only: true, ..one(next()) }));
    });
    group.bench_function("range of 1000 keys", |b| {
        b.iter(|| {
            let limit = RangeRequest { range_end: "\0".into(), limit: 1000, ..one(next() / 2) };
            store.range(&limit)
        });
    });
    group.bench_function("compute the records of 1000 keys", |b| {
        let committed = *store.database().view().committed();
        b.iter(|| (2..1002).map(|revision| committed.record(revision)).collect::<Vec<_>>());
    });
    group.bench_function("count of all keys", |b| {
        let all = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        b.iter(|| store.range(&all));
    });
    group.bench_function("take a reader", |b| b.iter(|| store.reader()));
    group.finish();
    let mut group = c.benchmark_group("mvcc");
    group.sample_size(10);
    group.bench_function("open 1,000,000 keys", |b| b.iter(|| open(KEYS, true)));
    group.finish();
}

criterion_group!(benches, memory, writes, reads);
criterion_main!(benches);

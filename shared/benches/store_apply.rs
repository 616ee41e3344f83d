//! What one request costs the store: writes, reads and their JSON, in a store of 200,000 keys.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use shared::store::{HISTORY_LENGTH_DEFAULT, Store};
use shared::time::UnixNanos;
use shared::v2::{Request, Verb};

const NOW: UnixNanos = UnixNanos(1_704_067_200_000_000_000);
const KEYS: u64 = 200_000;

fn put(path: String, value: &Bytes) -> Request {
    Request { verb: Verb::Put, path: path.into(), val: value.clone(), ..Request::default() }
}

/// Keys in an order in which neighbours are far from each other.
fn scrambled(number: u64) -> u64 {
    number.wrapping_mul(2_654_435_761) % KEYS
}

fn filled(wide: bool) -> (Store, Vec<Request>) {
    let path = |key: u64| {
        if wide {
            format!("/1/bench/{key:08}")
        } else {
            format!("/1/bench/{:04}/{:04}", key / 100, key % 100)
        }
    };
    let mut store = Store::new(HISTORY_LENGTH_DEFAULT);
    // One value for all: that of a real request comes fresh from the log, not from cold memory.
    let value = Bytes::from(vec![b'v'; 256]);
    let requests: Vec<Request> = (0..KEYS).map(|number| put(path(scrambled(number)), &value)).collect();
    for request in &requests {
        store.apply(request, NOW).expect("a plain set");
    }
    (store, requests)
}

fn apply(c: &mut Criterion) {
    for (name, wide) in [("one wide directory", true), ("2000 directories", false)] {
        let mut group = c.benchmark_group(name);
        let (mut store, requests) = filled(wide);
        let mut next = requests.iter().cycle();
        let mut request = || next.next().expect("an endless cycle");
        group.bench_function("set an existing key", |b| b.iter(|| store.apply(request(), NOW)));
        group.bench_function("get a key", |b| b.iter(|| store.get(&request().path, false, false)));
        let mut out = Vec::new();
        group.bench_function("set and write the answer", |b| {
            b.iter(|| {
                out.clear();
                store.apply(request(), NOW).expect("a plain set").write_json(&mut out, NOW);
                black_box(out.len())
            });
        });
        group.bench_function("get and write the answer", |b| {
            b.iter(|| {
                out.clear();
                let event = store.get(&request().path, false, false).expect("a key");
                event.write_json(&mut out, NOW);
                black_box(out.len())
            });
        });
        group.bench_function("set with an expiration", |b| {
            let mut expiration = NOW.0;
            b.iter(|| {
                expiration += 1_000;
                store.apply(&Request { expiration, ..request().clone() }, NOW)
            });
        });
        group.bench_function("create and delete a key", |b| {
            let create = put("/1/bench/00100000x".into(), &Bytes::from_static(b"v"));
            let delete = Request { verb: Verb::Delete, ..create.clone() };
            b.iter(|| {
                let made = store.apply(&create, NOW);
                (made, store.apply(&delete, NOW))
            });
        });
        group.bench_function("set while an image is held", |b| {
            let image = store.image();
            b.iter(|| store.apply(request(), NOW));
            drop(image);
        });
        group.bench_function("take an image", |b| b.iter(|| store.image()));
        group.finish();
    }
}

fn snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("snapshot of 200,000 keys");
    group.sample_size(10);
    let (store, _) = filled(true);
    let mut json = Vec::new();
    group.bench_function("write", |b| {
        b.iter(|| {
            json.clear();
            store.image().write_json(&mut json).expect("a vector takes all");
        });
    });
    group.bench_function("recover", |b| b.iter(|| Store::recover(&json, HISTORY_LENGTH_DEFAULT)));
    group.finish();
}

criterion_group!(benches, apply, snapshot);
criterion_main!(benches);

//! What a put costs with many watches of the v3 API: of other keys and ranges, and of its own key. And the memory of a watch
//! and of a lease.

use std::convert::Infallible;
use std::hint::black_box;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use shared::lease::{Lessor, Settings as LeaseSettings};
use shared::time::Moment;
use shared::v3::pb::mvccpb::KeyValue;
use shared::watch::{
    Batch, Create, Event, History, HistoryError, Limits, Origin, Settings, WatchHub, WatchStream,
};

const NOW: Moment = Moment::after(Duration::ZERO);

/// One key with a version at each revision.
struct OneKey(i64);

impl History for OneKey {
    type Error = Infallible;

    fn current_revision(&self) -> i64 {
        self.0
    }

    fn compact_revision(&self) -> i64 {
        0
    }

    fn events(&self, from: i64, limits: Limits) -> Result<Batch, HistoryError<Infallible>> {
        let revisions = i64::try_from(limits.revisions).unwrap_or(i64::MAX);
        let last = self.0.min(from.saturating_add(revisions) - 1);
        Ok(Batch { events: (from..=last).map(|revision| put("key", revision)).collect(), last })
    }

    fn prev_kv(&self, _: &Event) -> Result<Option<KeyValue>, Infallible> {
        Ok(None)
    }
}

fn put(key: &str, revision: i64) -> Event {
    Event::put(KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(&[b'v'; 64]),
        create_revision: 2,
        mod_revision: revision,
        version: revision,
        lease: 0,
    })
}

/// Streams with this many watches each; the number of the watch gives its key and the end of its range.
fn streams(
    hub: &WatchHub,
    count: usize,
    watches: usize,
    keys: impl Fn(usize) -> (String, String),
) -> Vec<WatchStream> {
    (0..count)
        .map(|stream| {
            let opened = hub.open(false);
            for watch in 0..watches {
                let (key, end) = keys(stream * watches + watch);
                opened.create(key.as_bytes(), end.as_bytes(), &Create::default(), NOW);
            }
            while opened.try_next().is_some() {}
            opened
        })
        .collect()
}

fn other_key(number: usize) -> (String, String) {
    (format!("other/{number:08}"), String::new())
}

fn other_range(number: usize) -> (String, String) {
    (format!("other/{number:08}/"), format!("other/{number:08}0"))
}

fn same_key(_: usize) -> (String, String) {
    ("key".to_owned(), String::new())
}

fn notify(c: &mut Criterion) {
    let mut group = c.benchmark_group("notify");
    let mut wakers: Vec<Waker> = Vec::new();
    type Keys = fn(usize) -> (String, String);
    for (name, keys) in [("keys", other_key as Keys), ("ranges", other_range)] {
        for watches in [1, 100] {
            let hub = WatchHub::new(Settings::default(), 1);
            let open = streams(&hub, 100, watches, keys);
            let mut revision = 1;
            group.bench_function(format!("{} watches of other {name}", 100 * watches), |b| {
                b.iter(|| {
                    revision += 1;
                    hub.notify(revision, &[put("key", revision)], &mut wakers);
                });
            });
            assert!(open.iter().all(|stream| stream.try_next().is_none()));
        }
    }
    let history = OneKey(1);
    for (count, watches) in [(1000, 1), (10, 100)] {
        let hub = WatchHub::new(Settings::default(), 1);
        let open = streams(&hub, count, watches, same_key);
        let mut revision = 1;
        let mut buffer = Vec::new();
        group.bench_function(format!("1000 watches of the key in {count} streams, read and encoded"), |b| {
            b.iter(|| {
                revision += 1;
                hub.notify(revision, &[put("key", revision)], &mut wakers);
                for stream in &open {
                    while let Some(response) = stream.try_next() {
                        buffer.clear();
                        let messages = response.encode(&Origin::default(), &history, 2 << 20);
                        messages.unwrap_or_else(|never| match never {})[0].write_to(&mut buffer);
                        black_box(&buffer);
                    }
                }
            });
        });
        assert_eq!(hub.counts().slow_watches, 0);
    }
    group.finish();
}

fn catch_up(c: &mut Criterion) {
    let history = OneKey(1000);
    c.bench_function("500 watches of one key read 1000 revisions in a round", |b| {
        b.iter(|| {
            let hub = WatchHub::new(Settings::default(), 1000);
            let stream = hub.open(false);
            let start = Create { start_revision: 2, ..Create::default() };
            for _ in 0..500 {
                stream.create(b"key", b"", &start, NOW);
            }
            let done = hub.catch_up(&history, &mut Vec::new()).unwrap_or_else(|never| match never {});
            assert_eq!(done.advanced, 500);
        });
    });
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Prints what is resident more for each of `count` after `make`. What it returns has to stay until the last
/// measurement: freed memory would be used again.
fn memory<T>(name: &str, count: usize, make: impl FnOnce() -> T) -> T {
    let before = resident_bytes();
    let made = make();
    println!("memory: {name}: {} bytes", resident_bytes().saturating_sub(before) / count);
    made
}

fn memories(_: &mut Criterion) {
    const COUNT: usize = 200_000;
    let hub = WatchHub::new(Settings::default(), 1);
    let own_keys = memory("a watch of its own key", COUNT, || streams(&hub, 100, COUNT / 100, other_key));
    let hub = WatchHub::new(Settings::default(), 1);
    let own_ranges =
        memory("a watch of its own range", COUNT, || streams(&hub, 100, COUNT / 100, other_range));
    let hub = WatchHub::new(Settings::default(), 1);
    let one_key = memory("one of many watches of a key", COUNT, || streams(&hub, 100, COUNT / 100, same_key));
    let mut lessor = Lessor::new(LeaseSettings { ttl_min: 2, checkpoints: None });
    lessor.promote(NOW, Duration::from_secs(1));
    memory("a lease", COUNT, || {
        (1..=COUNT).for_each(|id| drop(lessor.grant(i64::try_from(id).unwrap_or(0), 60, NOW)));
    });
    let keys: Vec<Bytes> = (0..COUNT).map(|number| Bytes::from(format!("key{number}"))).collect();
    memory("an attached key", COUNT, || {
        for (lease, key) in (1..).zip(&keys) {
            assert!(lessor.attach(key.clone(), lease).is_ok());
        }
    });
    black_box((own_keys, own_ranges, one_key, lessor, keys));
}

criterion_group!(benches, memories, notify, catch_up);
criterion_main!(benches);

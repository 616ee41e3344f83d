//! What it costs to tell watchers of a write: many on one key, and many on other keys.

use std::hint::black_box;
use std::task::{Context, Waker};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use shared::store::{HISTORY_LENGTH_DEFAULT, Store, Watcher};
use shared::time::UnixNanos;
use shared::v2::{Request, Verb};

const NOW: UnixNanos = UnixNanos(1_704_067_200_000_000_000);

fn put(path: &str) -> Request {
    Request {
        verb: Verb::Put,
        path: path.to_owned().into(),
        val: vec![b'v'; 64].into(),
        ..Request::default()
    }
}

fn watch(store: &Store, path: &str, stream: bool) -> Watcher {
    store.watch(path.as_bytes(), false, stream, 0).expect("a watch of the next event")
}

fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("notify");
    for watchers in [1, 1_000, 10_000] {
        let mut store = Store::new(HISTORY_LENGTH_DEFAULT);
        let mut streams: Vec<Watcher> = (0..watchers).map(|_| watch(&store, "/1/key", true)).collect();
        let request = put("/1/key");
        let mut context = Context::from_waker(Waker::noop());
        group.bench_function(format!("{watchers} streams on the key, each reads and renders"), |b| {
            b.iter(|| {
                store.apply(&request, NOW).expect("a plain set");
                for stream in &mut streams {
                    let event = stream.try_next().expect("the event");
                    black_box(event.rendered(NOW));
                    assert!(stream.poll_next(&mut context).is_pending());
                }
            });
        });
    }
    let mut store = Store::new(HISTORY_LENGTH_DEFAULT);
    let others: Vec<Watcher> =
        (0..10_000).map(|number| watch(&store, &format!("/1/other/{number}"), true)).collect();
    let request = put("/1/a/b/c");
    group.bench_function("10000 watchers of other keys", |b| b.iter(|| store.apply(&request, NOW)));
    drop(others);
    group.bench_function("10000 watches begin and end", |b| {
        b.iter_batched_ref(
            Vec::new,
            |watchers| watchers.extend((0..10_000).map(|_| watch(&store, "/1/key", true))),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, fanout);
criterion_main!(benches);

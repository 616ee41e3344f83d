use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::store::{WATCHER_QUEUE_MAX, Watcher};

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Alarm {
    fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The indexes of the events that are there.
fn indexes(watcher: &mut Watcher) -> Vec<u64> {
    std::iter::from_fn(|| watcher.try_next()).map(|event| event.node().modified_index()).collect()
}

#[test]
fn a_watch_is_over_after_its_first_event() {
    let mut store = Store::new(100);
    let mut watcher = store.watch(b"/1/a", false, false, 0).unwrap();
    assert_eq!((watcher.start_index(), store.watchers()), (0, 1));
    set(&mut store, "/1/b", "");
    set(&mut store, "/1/a/x", "");
    assert_eq!(store.watchers(), 1);
    store.delete(b"/1/a", false, true, NOW).unwrap();
    assert_eq!(store.watchers(), 0);
    set(&mut store, "/1/a", "");
    assert_eq!(indexes(&mut watcher), [3]);
    assert!(watcher.poll_next(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_stream_goes_on_until_it_is_dropped() {
    let mut store = Store::new(100);
    let mut watcher = store.watch(b"/1", true, true, 0).unwrap();
    for _ in 0..3 {
        set(&mut store, "/1/a", "");
    }
    assert_eq!(indexes(&mut watcher), [1, 2, 3]);
    drop(watcher);
    assert_eq!(store.watchers(), 0);
}

#[test]
fn sleepers_are_woken_once() {
    let mut store = Store::new(100);
    let mut watcher = store.watch(b"/1/a", false, true, 0).unwrap();
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    let mut context = Context::from_waker(&waker);
    assert!(watcher.poll_next(&mut context).is_pending());
    store.apply_quietly(&request("PUT", "/1/a", "1"), NOW).unwrap();
    store.apply_quietly(&request("PUT", "/1/a", "2"), NOW).unwrap();
    assert_eq!(alarm.rings(), 0, "not before the caller has let go of its locks");
    store.take_wakeups().wake();
    assert_eq!(alarm.rings(), 1);
    assert_eq!(indexes(&mut watcher), [1, 2]);
    assert!(watcher.poll_next(&mut context).is_pending());
    store.apply(&request("PUT", "/1/a", "3"), NOW).unwrap();
    assert_eq!(alarm.rings(), 2);
    match watcher.poll_next(&mut context) {
        Poll::Ready(Some(event)) => assert_eq!(event.index, 3),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reader_that_falls_behind_loses_its_watch() {
    let mut store = Store::new(1000);
    let mut watcher = store.watch(b"/1", true, true, 0).unwrap();
    for _ in 0..WATCHER_QUEUE_MAX {
        set(&mut store, "/1/a", "");
    }
    assert!(!watcher.is_closed());
    set(&mut store, "/1/a", "");
    assert!(watcher.is_closed());
    assert_eq!(store.watchers(), 0);
    set(&mut store, "/1/a", "");
    let mut context = Context::from_waker(Waker::noop());
    for index in 1..=WATCHER_QUEUE_MAX as u64 {
        match watcher.poll_next(&mut context) {
            Poll::Ready(Some(event)) => assert_eq!(event.index, index),
            other => panic!("{index}: {other:?}"),
        }
    }
    assert!(matches!(watcher.poll_next(&mut context), Poll::Ready(None)));
}

#[test]
fn the_history_serves_the_past() {
    let mut store = Store::new(100);
    for path in ["/1/a", "/1/b", "/1/a", "/1/a/x", "/1/_h", "/1/b"] {
        let _ = store.set(path.as_bytes(), false, b"", NEVER, NOW);
    }
    // The write below a key was refused.
    assert_eq!(store.index(), 5);
    let watch = |path: &str, recursive, since| {
        let mut watcher = store.watch(path.as_bytes(), recursive, false, since).unwrap();
        assert_eq!(watcher.start_index(), 5);
        indexes(&mut watcher)
    };
    assert_eq!(watch("/1/a", false, 1), [1]);
    assert_eq!(watch("/1/a", false, 2), [3]);
    assert_eq!(watch("/1/a", true, 2), [3], "the original overlooks it");
    assert_eq!(watch("/1", true, 2), [2]);
    assert_eq!(watch("/1", true, 4), [4], "hidden, but in the history");
    assert_eq!(watch("/1/a", false, 4), [] as [u64; 0]);
    assert_eq!(watch("/1/b", false, 6), [] as [u64; 0]);
    assert_eq!(store.watchers(), 0, "all were dropped");
}

#[test]
fn a_stream_from_the_past_has_no_gap() {
    let mut store = Store::new(1000);
    for number in 1..=300 {
        set(&mut store, if number % 3 == 0 { "/1/other" } else { "/1/a" }, "");
    }
    let mut watcher = store.watch(b"/1/a", false, true, 2).unwrap();
    for _ in 0..50 {
        set(&mut store, "/1/a", "");
    }
    let want: Vec<u64> = (2..=350).filter(|index| *index > 300 || index % 3 != 0).collect();
    assert_eq!(indexes(&mut watcher), want);
    set(&mut store, "/1/a", "");
    assert_eq!(indexes(&mut watcher), [351]);
}

#[test]
fn what_is_too_old_is_refused() {
    let mut store = Store::new(5);
    for _ in 0..8 {
        set(&mut store, "/1/a", "");
    }
    let error = store.watch(b"/1/a", false, true, 3).map(drop).unwrap_err();
    assert_eq!(
        String::from_utf8(error.to_json()).unwrap(),
        r#"{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [4/3]","index":8}"#
    );
    assert_eq!(indexes(&mut store.watch(b"/1/a", false, false, 4).unwrap()), [4]);
    assert_eq!(store.stats().watch_requests(), 2);
}

#[test]
fn a_future_index_is_waited_for() {
    let mut store = Store::new(100);
    let mut one = store.watch(b"/1/a", false, false, 3).unwrap();
    let mut never = store.watch(b"/1/a", false, false, u64::MAX).unwrap();
    for _ in 0..4 {
        set(&mut store, "/1/a", "");
    }
    assert_eq!(indexes(&mut one), [3]);
    assert!(indexes(&mut never).is_empty());
    assert_eq!(store.watchers(), 1);
}

#[test]
fn a_removal_reaches_all_that_was_there() {
    let mut store = Store::new(100);
    for path in ["/1/d/k", "/1/d/s/k", "/1/d/_h", "/1/dd"] {
        set(&mut store, path, "");
    }
    let watch = |path: &str, recursive| store.watch(path.as_bytes(), recursive, true, 0).unwrap();
    let mut told =
        [watch("/1/d/k", false), watch("/1/d/s", true), watch("/1/d/_h", false), watch("/1", true)];
    let mut twice = [watch("/1/d", false), watch("/1/d", true)];
    let mut quiet =
        [watch("/1/d/none", false), watch("/1/dd", true), watch("/1", false), watch("/1/d/k/x", true)];
    store.delete(b"/1/d", false, true, NOW).unwrap();
    for watcher in &mut told {
        assert_eq!(indexes(watcher), [5]);
    }
    for watcher in &mut twice {
        assert_eq!(indexes(watcher), [5, 5], "as the original");
    }
    for watcher in &mut quiet {
        assert!(indexes(watcher).is_empty());
    }
}

#[test]
fn hidden_nodes_are_not_told_to_those_above() {
    let mut store = Store::new(100);
    let mut above = store.watch(b"/1", true, true, 0).unwrap();
    let mut within = store.watch(b"/1/_h", true, true, 0).unwrap();
    let mut itself = store.watch(b"/1/_h/_k", false, true, 0).unwrap();
    set(&mut store, "/1/_h/k", "");
    set(&mut store, "/1/_h/_k", "");
    store.delete(b"/1/_h", false, true, NOW).unwrap();
    assert!(indexes(&mut above).is_empty());
    assert_eq!(indexes(&mut within), [1, 3, 3]);
    assert_eq!(indexes(&mut itself), [2, 3]);
}

#[test]
fn many_watchers_share_one_event() {
    let mut store = Store::new(100);
    let mut watchers: Vec<_> = (0..1_000).map(|_| store.watch(b"/1/a", false, true, 0).unwrap()).collect();
    set(&mut store, "/1/a", "v");
    let events: Vec<_> = watchers.iter_mut().map(|watcher| watcher.try_next().unwrap()).collect();
    assert!(events.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    let texts: Vec<_> = events.iter().map(|event| event.rendered(NOW)).collect();
    assert!(texts.windows(2).all(|pair| pair[0].as_ptr() == pair[1].as_ptr()), "rendered once");
    assert_eq!(
        texts[0],
        "{\"action\":\"set\",\"node\":{\"key\":\"/a\",\"value\":\"v\",\"modifiedIndex\":1,\"createdIndex\":1}}\n"
    );
    // Old events do not keep their text.
    for _ in 0..100 {
        set(&mut store, "/1/b", "");
    }
    assert!(events[0].rendering.lock().is_none());
    // Leaving in any order leaves the others alone.
    for at in (0..watchers.len()).rev().step_by(3) {
        watchers.remove(at);
    }
    assert_eq!(store.watchers(), watchers.len() as u64);
    set(&mut store, "/1/a", "w");
    assert!(watchers.iter_mut().all(|watcher| indexes(watcher).len() == 1));
    watchers.clear();
    assert_eq!(store.watchers(), 0);
}

#[test]
fn watchers_outlive_the_store_and_its_restoration() {
    let mut store = Store::new(100);
    set(&mut store, "/1/a", "");
    let mut other = Store::new(100);
    for _ in 0..5 {
        set(&mut other, "/1/b", "");
    }
    let mut watcher = store.watch(b"/1", true, true, 0).unwrap();
    store.restore(&image(&other)).unwrap();
    assert!(store.get(b"/1/a", false, false).is_err());
    set(&mut store, "/1/b", "");
    assert_eq!(indexes(&mut watcher), [2, 3, 4, 5, 6]);
    assert!(store.restore(b"{}").is_err());
    assert_eq!(store.index(), 6, "a failed restoration changes nothing");
    drop(store);
    drop(watcher);
}

/// A store that a follower has, and the same one later, as a snapshot of the leader has it.
fn later(history_length: usize, changes: impl Fn(&mut Store)) -> (Store, Vec<u8>) {
    let mut leader = Store::new(history_length);
    set(&mut leader, "/1/d/k", "old");
    let follower = Store::recover(&image(&leader), history_length).unwrap();
    changes(&mut leader);
    (follower, image(&leader))
}

#[test]
fn a_snapshot_tells_watchers_what_its_history_knows() {
    let (mut store, snapshot) = later(1000, |leader| {
        for n in 2..=400 {
            set(leader, if n % 2 == 0 { "/1/a" } else { "/1/b/x" }, "");
        }
        set(leader, "/1/b/_h", "hidden");
        leader.set(b"/1/a", false, b"", Expiry { refresh: true, ..after(5) }, NOW).unwrap();
        leader.delete(b"/1/d", false, true, NOW).unwrap();
    });
    let watch = |path: &str, recursive, stream, since| {
        store.watch(path.as_bytes(), recursive, stream, since).unwrap()
    };
    let mut all = watch("/1", true, true, 0);
    let mut key = watch("/1/a", false, true, 0);
    let mut once = watch("/1/b", true, false, 0);
    let mut future = watch("/1/a", false, false, 301);
    let mut far = watch("/1/a", false, true, 405);
    let mut below_removed = watch("/1/d/k", false, true, 0);
    let mut beside = watch("/1/dd", false, true, 0);
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    for watcher in [&mut all, &mut beside] {
        assert!(watcher.poll_next(&mut Context::from_waker(&waker)).is_pending());
    }
    store.restore(&snapshot).unwrap();
    store.take_wakeups().wake();
    assert_eq!(alarm.rings(), 1, "nothing woke the one beside");
    assert_eq!(indexes(&mut all), (2..=400).chain([403]).collect::<Vec<_>>());
    assert_eq!(indexes(&mut key), (1..=200).map(|n| 2 * n).collect::<Vec<_>>());
    assert_eq!(indexes(&mut once), [3]);
    assert!(once.is_closed() && !once.has_gap());
    assert_eq!(indexes(&mut future), [302]);
    assert_eq!(indexes(&mut below_removed), [403]);
    assert_eq!(store.watchers(), 5);
    // They go on, also after more events at one go than wait for a watcher otherwise.
    for n in 404..=406 {
        set(&mut store, "/1/a", &n.to_string());
    }
    assert_eq!(indexes(&mut all), [404, 405, 406]);
    assert_eq!(indexes(&mut far), [405, 406]);
    assert!(indexes(&mut beside).is_empty() && !beside.is_closed());
}

#[test]
fn watches_end_where_a_snapshot_s_history_has_a_gap() {
    let (mut store, snapshot) = later(10, |leader| {
        for _ in 2..=30 {
            set(leader, "/1/a", "");
        }
    });
    // The history begins with event 21.
    let watch = |stream, since| store.watch(b"/1/a", false, stream, since).unwrap();
    let mut ended = [watch(true, 0), watch(false, 0), watch(true, 20)];
    let mut covered = [watch(true, 21), watch(false, 25), watch(true, 31)];
    let mut other_key = store.watch(b"/1/other", false, true, 0).unwrap();
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    for watcher in &mut ended {
        assert!(watcher.poll_next(&mut Context::from_waker(&waker)).is_pending());
    }
    store.restore(&snapshot).unwrap();
    store.take_wakeups().wake();
    assert_eq!(alarm.rings(), 3);
    for watcher in &mut ended {
        assert!(matches!(watcher.poll_next(&mut Context::from_waker(&waker)), Poll::Ready(None)));
        assert!(watcher.is_closed() && watcher.has_gap());
    }
    // Whether its key changed, nobody knows.
    assert!(other_key.try_next().is_none() && other_key.has_gap());
    let got: Vec<_> = covered.iter_mut().map(indexes).collect();
    assert_eq!(got, [(21..=30).collect::<Vec<_>>(), vec![25], vec![]]);
    assert_eq!(store.watchers(), 2);
    set(&mut store, "/1/a", "");
    assert_eq!(indexes(&mut covered[2]), [31]);
}

#[test]
fn a_history_with_holes_does_not_count_as_whole() {
    let (mut store, snapshot) = later(100, |leader| {
        for _ in 2..=9 {
            set(leader, "/1/a", "");
        }
    });
    let text = String::from_utf8(snapshot).unwrap();
    // As if event 5 had never been one: the history knows 6 to 9.
    let text = text.replace("\"modifiedIndex\":5,", "\"modifiedIndex\":4,");
    let mut unaware = store.watch(b"/1/a", false, true, 0).unwrap();
    let mut aware = store.watch(b"/1/a", false, true, 6).unwrap();
    store.restore(text.as_bytes()).unwrap();
    assert!(unaware.has_gap() && indexes(&mut unaware).is_empty());
    assert_eq!(indexes(&mut aware), [6, 7, 8, 9]);
}

#[test]
fn what_waits_for_a_watcher_stays_bounded_over_snapshots() {
    let mut leader = Store::new(1000);
    let mut follower = Store::new(1000);
    let mut watcher = follower.watch(b"/1", true, true, 0).unwrap();
    for _ in 0..5 {
        for _ in 0..900 {
            set(&mut leader, "/1/a", "");
        }
        follower.restore(&image(&leader)).unwrap();
    }
    // The client reads nothing: its watch ends as that of any slow reader, with what it has.
    assert!(watcher.is_closed() && !watcher.has_gap());
    assert_eq!(indexes(&mut watcher), (1..=WATCHER_QUEUE_MAX as u64 + 1000).collect::<Vec<_>>());
}

#[test]
fn a_store_without_a_history_does_not_pass_over_the_past() {
    let mut leader = Store::new(10);
    for _ in 0..7 {
        set(&mut leader, "/1/a", "");
    }
    let mut json: serde_json::Value = serde_json::from_slice(&image(&leader)).unwrap();
    json.as_object_mut().unwrap().remove("WatcherHub");
    let store = Store::recover(json.to_string().as_bytes(), 10).unwrap();
    let error = store.watch(b"/1/a", false, true, 7).map(drop).unwrap_err();
    assert_eq!(String::from_utf8_lossy(&error.cause), "the requested history has been cleared [8/7]");
    assert!(store.watch(b"/1/a", false, true, 8).is_ok());
}

#[test]
fn a_snapshot_of_the_same_index_changes_nothing_for_watchers() {
    let (mut store, snapshot) = later(10, |_| {});
    let mut watcher = store.watch(b"/1", true, true, 0).unwrap();
    store.restore(&snapshot).unwrap();
    assert!(!watcher.is_closed());
    set(&mut store, "/1/a", "");
    assert_eq!(indexes(&mut watcher), [2]);
}

#[test]
fn all_can_be_woken_without_an_event() {
    let mut store = Store::new(100);
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    let mut watchers: Vec<Watcher> = [("/1/a", false), ("/1/a", true), ("/1/b/c", true)]
        .map(|(path, recursive)| store.watch(path.as_bytes(), recursive, true, 0).unwrap())
        .into();
    for watcher in &mut watchers {
        assert!(watcher.poll_next(&mut Context::from_waker(&waker)).is_pending());
    }
    store.wake_watchers();
    assert_eq!(alarm.rings(), 0, "not before the store's locks are given back");
    store.take_wakeups().wake();
    assert_eq!(alarm.rings(), 3);
    // Only who waits is woken.
    store.wake_watchers();
    store.take_wakeups().wake();
    assert_eq!(alarm.rings(), 3);
    assert_eq!((store.watchers(), watchers.iter().any(Watcher::is_closed)), (3, false));
}

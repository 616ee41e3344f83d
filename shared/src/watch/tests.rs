//! The rules of watches, one by one, as they were recorded.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::model_tests::{Model, Write, key};
use super::*;
use crate::time::Moment;
use crate::v3::pb::etcdserverpb::WatchResponse;
use crate::v3::pb::mvccpb::KeyValue;

const ORIGIN: Origin = Origin { cluster_id: 7, member_id: 8, raft_term: 9 };
const A: &[u8] = b"a";

fn at(seconds: u64) -> Moment {
    Moment::after(Duration::from_secs(seconds))
}

fn world() -> (Model, WatchHub) {
    Model::new(Settings::default())
}

fn create(stream: &WatchStream, key: &[u8], end: &[u8], create: &Create) -> Option<i64> {
    stream.create(key, end, create, at(0))
}

fn from(start_revision: i64) -> Create {
    Create { start_revision, ..Create::default() }
}

/// What is queued, in short.
fn read(stream: &WatchStream) -> Vec<String> {
    std::iter::from_fn(|| stream.try_next().map(|response| short(&response))).collect()
}

fn short(response: &Response) -> String {
    let what = match &response.content {
        Content::Created => "created".to_owned(),
        Content::Refused(reason) => format!("refused: {reason}"),
        Content::Canceled { compact_revision, reason } => {
            format!("canceled {compact_revision}{reason}")
        }
        Content::Events { events, .. } => {
            let event = |event: &Event| {
                let key = String::from_utf8_lossy(&event.kv.key);
                format!("{:?} {key}@{}", event.kind, event.revision())
            };
            events.list().iter().map(event).collect::<Vec<_>>().join(", ")
        }
        Content::Progress => "progress".to_owned(),
    };
    format!("{} rev={} {what}", response.watch_id, response.revision)
}

fn put(model: &Model, number: u8) {
    model.write(&[Write::Put(number, 1)]);
}

#[test]
fn one_key_and_its_history() {
    let (model, hub) = world();
    let stream = hub.open(false);
    create(&stream, A, b"", &Create::default());
    put(&model, 0);
    put(&model, 1);
    put(&model, 0);
    model.write(&[Write::Delete(0)]);
    model.write(&[Write::Delete(0)]);
    let events = ["0 rev=1 created", "0 rev=2 Put a@2", "0 rev=4 Put a@4", "0 rev=5 Delete a@5"];
    assert_eq!(read(&stream), events);

    let stream = hub.open(false);
    create(&stream, A, b"", &from(1));
    assert_eq!(read(&stream), ["0 rev=5 created"]);
    model.catch_up_all(&hub);
    assert_eq!(read(&stream), ["0 rev=5 Put a@2, Put a@4, Delete a@5"]);
    put(&model, 0);
    assert_eq!(read(&stream), ["0 rev=6 Put a@6"]);
}

#[test]
fn ranges_and_transactions() {
    let (model, hub) = world();
    let stream = hub.open(false);
    create(&stream, b"b", b"d", &Create::default());
    create(&stream, b"c", b"\0", &Create::default());
    create(&stream, b"\0", b"\0", &Create::default());
    create(&stream, b"", b"", &Create::default());
    assert_eq!(read(&stream).len(), 4);
    model.write(&[Write::Put(0, 1), Write::Put(1, 1), Write::Put(2, 1), Write::Put(4, 1)]);
    let mut events = read(&stream);
    events.sort();
    let expected = [
        "0 rev=2 Put b@2, Put c@2",
        "1 rev=2 Put c@2, Put e@2",
        "2 rev=2 Put a@2, Put b@2, Put c@2, Put e@2",
    ];
    assert_eq!(events, expected);
    put(&model, 0);
    assert_eq!(read(&stream), ["2 rev=3 Put a@3"]);
}

#[test]
fn an_empty_key_is_the_first_one() {
    let (_, hub) = world();
    let stream = hub.open(false);
    create(&stream, b"", b"", &Create::default());
    assert_eq!(read(&stream), ["0 rev=1 created"]);
    let mut wakers = Vec::new();
    let kv = KeyValue { key: Bytes::from_static(b"\0"), mod_revision: 2, version: 1, ..KeyValue::default() };
    hub.notify(2, &[Event::put(kv)], &mut wakers);
    assert_eq!(read(&stream), ["0 rev=2 Put \0@2"]);
}

#[test]
fn ids_count_up_and_are_not_used_again() {
    let (_, hub) = world();
    let stream = hub.open(false);
    let chosen = |watch_id| Create { watch_id, ..Create::default() };
    assert_eq!(create(&stream, A, b"", &chosen(1)), Some(1));
    assert_eq!(create(&stream, A, b"", &chosen(0)), Some(0));
    assert_eq!(create(&stream, A, b"", &chosen(0)), Some(2));
    assert_eq!(create(&stream, A, b"", &chosen(-5)), Some(-5));
    assert!(stream.cancel(0));
    assert_eq!(create(&stream, A, b"", &chosen(0)), Some(3));
    let keys: Vec<i64> = stream.watches().into_iter().map(|(id, _)| id).collect();
    assert_eq!(keys, [-5, 1, 2, 3]);
}

#[test]
fn refusals_have_the_texts_of_etcd() {
    let (_, hub) = world();
    let stream = hub.open(false);
    create(&stream, A, b"", &Create { watch_id: 7, ..Create::default() });
    create(&stream, b"b", b"", &Create { watch_id: 7, ..Create::default() });
    create(&stream, b"b", A, &from(-1));
    create(&stream, b"b", b"b", &Create::default());
    create(&stream, A, b"", &from(-1));
    stream.refuse("rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    let expected = [
        "7 rev=1 created",
        "-1 rev=1 refused: mvcc: duplicate watch ID provided on the WatchStream",
        "-1 rev=1 refused: mvcc: watcher range is empty",
        "-1 rev=1 refused: mvcc: watcher range is empty",
        "-1 rev=1 refused: etcdserver: mvcc: required revision has been compacted",
        "-1 rev=1 refused: rpc error: code = PermissionDenied desc = etcdserver: permission denied",
    ];
    assert_eq!(read(&stream), expected);
    assert_eq!(hub.counts(), Counts { streams: 1, watches: 1, slow_watches: 0 });
}

#[test]
fn a_refusal_on_the_wire() {
    let (model, hub) = world();
    let stream = hub.open(false);
    create(&stream, b"b", b"b", &Create::default());
    let response = stream.try_next().unwrap();
    let message = &response.to_pb(&ORIGIN, &model, 1 << 20).unwrap()[0];
    assert!(message.created && message.canceled);
    assert_eq!((message.watch_id, message.cancel_reason.as_str()), (-1, "mvcc: watcher range is empty"));
    let header = message.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.raft_term, header.revision), (7, 8, 9, 1));
}

#[test]
fn a_cancel_ends_one_watch() {
    let (model, hub) = world();
    let stream = hub.open(false);
    create(&stream, A, b"", &Create::default());
    create(&stream, A, b"", &Create::default());
    assert!(!stream.cancel(5), "unknown ids are ignored");
    put(&model, 0);
    assert!(stream.cancel(0));
    put(&model, 0);
    assert!(stream.cancel_because(1, "because"));
    let expected = [
        "0 rev=1 created",
        "1 rev=1 created",
        "0 rev=2 Put a@2",
        "1 rev=2 Put a@2",
        "0 rev=2 canceled 0",
        "1 rev=3 Put a@3",
        "1 rev=3 canceled 0because",
    ];
    assert_eq!(read(&stream), expected);
}

#[test]
fn a_watch_of_compacted_history_ends() {
    let (model, hub) = world();
    (0..5).for_each(|_| put(&model, 0));
    model.compact(4);
    let stream = hub.open(false);
    create(&stream, A, b"", &from(1));
    create(&stream, A, b"", &from(4));
    create(&stream, A, b"", &from(6));
    model.catch_up_all(&hub);
    let expected = [
        "0 rev=6 created",
        "1 rev=6 created",
        "2 rev=6 created",
        "0 rev=0 canceled 4",
        "1 rev=6 Put a@4, Put a@5, Put a@6",
        "2 rev=6 Put a@6",
    ];
    assert_eq!(read(&stream), expected);
}

#[test]
fn a_watch_of_the_future_begins_there() {
    let (model, hub) = world();
    let stream = hub.open(false);
    create(&stream, A, b"", &from(4));
    stream.request_progress();
    (0..2).for_each(|_| put(&model, 0));
    assert_eq!(read(&stream), ["0 rev=1 created", "-1 rev=3 progress"], "a client goes on after it");
    put(&model, 0);
    assert_eq!(read(&stream), ["0 rev=4 Put a@4"]);
}

#[test]
fn filters_leave_events_out() {
    let (model, hub) = world();
    let stream = hub.open(false);
    let none = Create { no_put: true, no_delete: true, ..Create::default() };
    create(&stream, A, b"", &Create { no_put: true, ..Create::default() });
    create(&stream, A, b"", &Create { no_delete: true, ..Create::default() });
    create(&stream, A, b"", &none);
    assert_eq!(read(&stream).len(), 3);
    put(&model, 0);
    model.write(&[Write::Delete(0)]);
    assert_eq!(read(&stream), ["1 rev=2 Put a@2", "0 rev=3 Delete a@3"]);
}

#[test]
fn previous_versions_come_if_they_are_kept() {
    let (model, hub) = world();
    let stream = hub.open(false);
    create(&stream, A, b"", &Create { prev_kv: true, ..Create::default() });
    put(&model, 0);
    model.write(&[Write::Put(0, 2)]);
    model.write(&[Write::Delete(0)]);
    let mut previous = Vec::new();
    while let Some(response) = stream.try_next() {
        let messages = response.encode(&ORIGIN, &model, 1 << 20).unwrap();
        let mut bytes = Vec::new();
        messages[0].write_to(&mut bytes);
        let message = WatchResponse::decode(bytes.as_slice()).unwrap();
        assert_eq!(vec![message.clone()], response.to_pb(&ORIGIN, &model, 1 << 20).unwrap());
        let revision = |kv: KeyValue| kv.mod_revision;
        previous.extend(message.events.into_iter().map(|event| event.prev_kv.map(revision)));
    }
    assert_eq!(previous, [None, Some(2), Some(3)]);
}

#[test]
fn equal_watches_share_their_events_and_their_bytes() {
    let (model, hub) = world();
    let streams: Vec<WatchStream> = (0..3).map(|_| hub.open(false)).collect();
    for stream in &streams {
        create(stream, A, b"", &Create::default());
        create(stream, b"\0", b"\0", &Create::default());
        assert_eq!(read(stream).len(), 2);
    }
    put(&model, 0);
    let mut lists: Vec<Arc<Events>> = Vec::new();
    for response in streams.iter().flat_map(|stream| std::iter::from_fn(|| stream.try_next())) {
        let Content::Events { events, .. } = &response.content else { panic!("{response:?}") };
        lists.push(Arc::clone(events));
    }
    assert_eq!(lists.len(), 6);
    assert!(lists.iter().all(|list| Arc::ptr_eq(list, &lists[0])));
    let bytes = |list: &Arc<Events>| list.encoded(&model).unwrap().as_ptr();
    assert_eq!(bytes(&lists[0]), bytes(&lists[5]));
}

#[test]
fn long_responses_come_in_parts_if_the_client_allows_it() {
    let (model, hub) = world();
    let stream = hub.open(false);
    create(&stream, b"\0", b"\0", &Create { fragment: true, ..Create::default() });
    create(&stream, b"\0", b"\0", &Create::default());
    assert_eq!(read(&stream).len(), 2);
    model.write(&[Write::Put(0, 100), Write::Put(1, 100), Write::Put(2, 100)]);
    for parts in [2, 1] {
        let response = stream.try_next().unwrap();
        let messages = response.encode(&ORIGIN, &model, 300).unwrap();
        assert_eq!(messages.len(), parts);
        let decoded: Vec<WatchResponse> = messages
            .iter()
            .map(|message| {
                let mut bytes = Vec::new();
                message.write_to(&mut bytes);
                WatchResponse::decode(bytes.as_slice()).unwrap()
            })
            .collect();
        let fragments: Vec<bool> = decoded.iter().map(|message| message.fragment).collect();
        assert_eq!(fragments, [true, false][2 - parts..]);
        assert!(decoded.iter().all(|message| message.header.unwrap().revision == 2));
        assert_eq!(decoded.iter().map(|message| message.events.len()).sum::<usize>(), 3);
        assert_eq!(decoded, response.to_pb(&ORIGIN, &model, 300).unwrap());
    }
}

#[test]
fn progress_is_answered_when_all_watches_have_everything() {
    let (model, hub) = world();
    put(&model, 0);
    let stream = hub.open(false);
    stream.request_progress();
    create(&stream, A, b"", &from(1));
    stream.request_progress();
    stream.request_progress();
    assert_eq!(read(&stream), ["-1 rev=2 progress", "0 rev=2 created"]);
    model.catch_up_all(&hub);
    assert_eq!(read(&stream), ["0 rev=2 Put a@2", "-1 rev=2 progress"]);
    create(&stream, A, b"", &from(1));
    stream.request_progress();
    assert!(stream.cancel(1));
    let expected = ["1 rev=2 created", "1 rev=2 canceled 0", "-1 rev=2 progress"];
    assert_eq!(read(&stream), expected, "the other one had everything");
}

#[test]
fn idle_watches_get_notices() {
    let (model, hub) = world();
    let stream = hub.open(false);
    assert_eq!(hub.next_notices(), None);
    create(&stream, A, b"", &Create { progress_notify: true, ..Create::default() });
    create(&stream, b"b", b"", &Create { progress_notify: true, ..Create::default() });
    create(&stream, b"c", b"", &Create::default());
    assert_eq!(read(&stream).len(), 3);
    let due = hub.next_notices().unwrap();
    assert!(due >= at(600) && due <= at(660));
    let mut wakers = Vec::new();
    hub.send_notices(at(599), &mut wakers);
    assert_eq!(read(&stream), [""; 0]);
    put(&model, 0);
    assert_eq!(read(&stream), ["0 rev=2 Put a@2"]);
    hub.send_notices(due, &mut wakers);
    assert_eq!(read(&stream), ["1 rev=2 progress"], "the other one was not idle");
    hub.send_notices(hub.next_notices().unwrap(), &mut wakers);
    assert_eq!(read(&stream), ["0 rev=2 progress", "1 rev=2 progress"]);
    stream.cancel(0);
    stream.cancel(1);
    assert_eq!(hub.next_notices(), None);
}

#[test]
fn the_interval_of_notices_has_a_minimum() {
    let hub = WatchHub::new(Settings { progress_interval: Duration::ZERO, ..Settings::default() }, 1);
    let stream = hub.open(false);
    create(&stream, A, b"", &Create { progress_notify: true, ..Create::default() });
    assert!(hub.next_notices().unwrap() >= Moment::after(Settings::PROGRESS_INTERVAL_MIN));
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_slow_reader_falls_behind_and_catches_up() {
    let (model, hub) = world();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let stream = hub.open(false);
    create(&stream, A, b"", &Create::default());
    assert!(hub.poll_catch_up(&mut context).is_pending());
    (0..1000).for_each(|_| put(&model, 0));
    let queued = stream.queue_len();
    assert_eq!(queued, 129, "128 and one for the watch");
    assert_eq!(hub.counts().slow_watches, 1);
    assert!(hub.poll_catch_up(&mut context).is_pending(), "there is no room yet");
    assert!(!hub.catch_up(&model, &mut Vec::new()).unwrap().more);
    assert_eq!(stream.queue_len(), queued);
    let before = (0..65).filter(|_| stream.try_next().is_some()).count();
    assert_eq!((before, count.0.load(Relaxed)), (65, 1));
    assert!(hub.poll_catch_up(&mut context).is_ready());
    model.catch_up_all(&hub);
    assert_eq!(hub.counts().slow_watches, 0);
    assert!(hub.poll_catch_up(&mut context).is_pending());
    put(&model, 0);
    let mut revisions = Vec::new();
    while let Some(response) = stream.try_next() {
        let Content::Events { events, .. } = &response.content else { panic!("{response:?}") };
        revisions.extend(events.list().iter().map(Event::revision));
    }
    assert_eq!(revisions, (66..=1002).collect::<Vec<i64>>());
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let settings = Settings { queue_bytes_max: 1000, ..Settings::default() };
    let (model, hub) = Model::new(settings);
    let stream = hub.open(false);
    create(&stream, A, b"", &Create::default());
    (0..100).for_each(|_| model.write(&[Write::Put(0, 200)]));
    assert!(stream.queue_len() <= 6, "{}", stream.queue_len());
    assert_eq!(hub.counts().slow_watches, 1);
}

#[test]
fn an_event_for_all_watches_of_a_stream_fits() {
    let (model, hub) = world();
    let stream = hub.open(false);
    for _ in 0..1000 {
        create(&stream, A, b"", &Create::default());
    }
    assert_eq!(read(&stream).len(), 1000);
    put(&model, 0);
    assert_eq!((stream.queue_len(), hub.counts().slow_watches), (1000, 0));
}

#[test]
fn a_full_queue_stops_requests() {
    let (_, hub) = world();
    let stream = hub.open(false);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut requests = 0;
    while stream.poll_room(&mut context).is_ready() {
        stream.refuse("no");
        requests += 1;
    }
    assert_eq!(requests, 128);
    assert!(stream.try_next().is_some());
    assert_eq!(count.0.load(Relaxed), 1);
    assert!(stream.poll_room(&mut context).is_ready());
}

#[test]
fn readers_are_woken_once_and_by_the_caller() {
    let (_, hub) = world();
    let stream = hub.open(false);
    create(&stream, A, b"", &Create::default());
    create(&stream, A, b"", &Create::default());
    read(&stream);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert!(stream.poll_next(&mut Context::from_waker(&waker)).is_pending());
    let mut wakers = Vec::new();
    hub.notify(2, &[Event::delete(key(0), 2)], &mut wakers);
    hub.notify(3, &[Event::delete(key(1), 3)], &mut wakers);
    assert_eq!((wakers.len(), count.0.load(Relaxed)), (1, 0));
    wakers.into_iter().for_each(Waker::wake);
    assert_eq!(count.0.load(Relaxed), 1);
}

#[test]
fn a_lost_leader_ends_the_streams_that_want_to_know() {
    let (model, hub) = world();
    let (with, without) = (hub.open(true), hub.open(false));
    create(&with, A, b"", &Create { progress_notify: true, ..Create::default() });
    create(&without, A, b"", &Create::default());
    let mut context = Context::from_waker(Waker::noop());
    let mut wakers = Vec::new();
    hub.lose_leader(&mut wakers);
    put(&model, 0);
    assert!(matches!(with.poll_next(&mut context), Poll::Ready(Err(Ended::NoLeader))));
    assert_eq!(Ended::NoLeader.to_string(), "etcdserver: no leader");
    assert_eq!(create(&with, A, b"", &Create::default()), None);
    assert_eq!(read(&without), ["0 rev=1 created", "0 rev=2 Put a@2"]);
    assert_eq!(hub.counts(), Counts { streams: 2, watches: 1, slow_watches: 0 });
    hub.stop(&mut wakers);
    assert!(matches!(without.poll_next(&mut context), Poll::Ready(Err(Ended::Stopped))));
    assert!(matches!(with.poll_next(&mut context), Poll::Ready(Err(Ended::NoLeader))));
    drop((with, without));
    assert_eq!(hub.counts(), Counts::default());
}

/// Replaces a watch by another one while history is read.
struct Interrupted<'a> {
    model: &'a Model,
    stream: &'a WatchStream,
}

impl History for Interrupted<'_> {
    type Error = Infallible;

    fn current_revision(&self) -> i64 {
        self.model.current_revision()
    }

    fn compact_revision(&self) -> i64 {
        self.model.compact_revision()
    }

    fn events(&self, from: i64, limits: Limits) -> Result<Batch, HistoryError<Infallible>> {
        let batch = self.model.events(from, limits);
        self.stream.cancel(0);
        create(self.stream, b"b", b"", &self::from(2));
        batch
    }

    fn prev_kv(&self, event: &Event) -> Result<Option<KeyValue>, Infallible> {
        self.model.prev_kv(event)
    }
}

#[test]
fn a_round_does_not_confuse_a_watch_with_the_one_before() {
    let (model, hub) = world();
    model.write(&[Write::Put(0, 1), Write::Put(1, 1)]);
    let stream = hub.open(false);
    create(&stream, A, b"", &from(2));
    let _ = hub.catch_up(&Interrupted { model: &model, stream: &stream }, &mut Vec::new()).unwrap();
    let expected = ["0 rev=2 created", "0 rev=2 canceled 0", "1 rev=2 created"];
    assert_eq!(read(&stream), expected);
    model.catch_up_all(&hub);
    assert_eq!(read(&stream), ["1 rev=2 Put b@2"]);
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is gone")]
struct Gone;

struct Broken;

impl History for Broken {
    type Error = Gone;

    fn current_revision(&self) -> i64 {
        2
    }

    fn compact_revision(&self) -> i64 {
        0
    }

    fn events(&self, _: i64, _: Limits) -> Result<Batch, HistoryError<Gone>> {
        Err(HistoryError::Storage(Gone))
    }

    fn prev_kv(&self, _: &Event) -> Result<Option<KeyValue>, Gone> {
        Err(Gone)
    }
}

#[test]
fn an_error_of_the_storage_loses_nothing() {
    let (model, hub) = world();
    put(&model, 0);
    let stream = hub.open(false);
    create(&stream, A, b"", &from(2));
    assert!(hub.catch_up(&Broken, &mut Vec::new()).is_err());
    put(&model, 0);
    model.catch_up_all(&hub);
    assert_eq!(read(&stream), ["0 rev=2 created", "0 rev=3 Put a@2, Put a@3"]);
}

//! Random writes, watches, slow readers, compactions and snapshots: each watch gets exactly the filtered history.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::task::Waker;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::time::Moment;
use crate::v3::pb::etcdserverpb::WatchResponse;
use crate::v3::pb::mvccpb::{self, KeyValue};

/// A store that keeps every event, and answers as if it had compacted them.
#[derive(Default)]
pub(super) struct Model {
    state: RefCell<ModelState>,
    /// Written while the next batch of history is read: before it, and after it.
    pub(super) before_read: RefCell<Vec<Vec<Write>>>,
    pub(super) after_read: RefCell<Vec<Vec<Write>>>,
    hub: RefCell<Option<WatchHub>>,
}

#[derive(Default)]
struct ModelState {
    log: Vec<Event>,
    live: BTreeMap<Bytes, KeyValue>,
    revision: i64,
    compact_revision: i64,
}

/// A change of one of a few keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Write {
    Put(u8, u8),
    Delete(u8),
}

pub(super) fn key(number: u8) -> Bytes {
    Bytes::from(vec![b'a' + number])
}

impl Model {
    pub(super) fn new(settings: Settings) -> (Model, WatchHub) {
        let model = Model::default();
        model.state.borrow_mut().revision = 1;
        let hub = WatchHub::new(settings, 1);
        *model.hub.borrow_mut() = Some(hub.clone());
        (model, hub)
    }

    /// A transaction; returns its events if it has an effect.
    fn apply(&self, writes: &[Write]) -> Option<(i64, Vec<Event>)> {
        let mut state = self.state.borrow_mut();
        let revision = state.revision + 1;
        let mut events = Vec::new();
        for write in writes {
            match *write {
                Write::Put(number, value) => {
                    let key = key(number);
                    let before = state.live.get(&key);
                    let kv = KeyValue {
                        create_revision: before.map_or(revision, |kv| kv.create_revision),
                        version: before.map_or(1, |kv| kv.version + 1),
                        mod_revision: revision,
                        value: Bytes::from(vec![b'v'; usize::from(value)]),
                        key: key.clone(),
                        lease: 0,
                    };
                    state.live.insert(key, kv.clone());
                    events.push(Event::put(kv));
                }
                Write::Delete(number) => {
                    if state.live.remove(&key(number)).is_some() {
                        events.push(Event::delete(key(number), revision));
                    }
                }
            }
        }
        if events.is_empty() {
            return None;
        }
        state.revision = revision;
        state.log.extend(events.iter().cloned());
        Some((revision, events))
    }

    pub(super) fn write(&self, writes: &[Write]) {
        if let Some((revision, events)) = self.apply(writes) {
            let mut wakers: Vec<Waker> = Vec::new();
            self.hub.borrow().as_ref().unwrap().notify(revision, &events, &mut wakers);
        }
    }

    /// Writes that this member gets as a snapshot.
    fn adopt(&self, writes: &[Write]) {
        writes.iter().for_each(|write| drop(self.apply(&[*write])));
        self.hub.borrow().as_ref().unwrap().restore(self.current_revision(), &mut Vec::new());
    }

    pub(super) fn compact(&self, revision: i64) {
        let mut state = self.state.borrow_mut();
        state.compact_revision = state.compact_revision.max(revision.min(state.revision));
    }

    pub(super) fn catch_up_all(&self, hub: &WatchHub) {
        let mut rounds = 0;
        while hub.catch_up(self, &mut Vec::new()).unwrap().more {
            rounds += 1;
            assert!(rounds < 10_000, "watches do not catch up");
        }
    }

    fn previous(&self, event: &Event) -> Option<KeyValue> {
        let state = self.state.borrow();
        // The versions before this transaction: of one key there is one event in each.
        let earlier = state.log.iter().rev().filter(|earlier| earlier.revision() < event.revision());
        let last = earlier.clone().find(|earlier| earlier.kv.key == event.kv.key)?;
        (last.kind == EventKind::Put).then(|| last.kv.clone())
    }
}

impl History for Model {
    type Error = Infallible;

    fn current_revision(&self) -> i64 {
        self.state.borrow().revision
    }

    fn compact_revision(&self) -> i64 {
        self.state.borrow().compact_revision
    }

    fn events(&self, from: i64, limits: Limits) -> Result<Batch, HistoryError<Infallible>> {
        let writes = std::mem::take(&mut *self.before_read.borrow_mut());
        writes.iter().for_each(|writes| self.write(writes));
        let batch = {
            let state = self.state.borrow();
            if from < state.compact_revision {
                return Err(HistoryError::Compacted { compact_revision: state.compact_revision });
            }
            let mut batch = Batch { events: Vec::new(), last: from - 1 };
            let mut bytes = 0;
            while batch.last < state.revision
                && (batch.last < from
                    || batch.last - from + 1 < i64::try_from(limits.revisions).unwrap()
                        && bytes < limits.bytes)
            {
                batch.last += 1;
                let events = state.log.iter().filter(|event| event.revision() == batch.last);
                bytes += events.clone().map(|event| event.kv.value.len()).sum::<usize>();
                batch.events.extend(events.cloned());
            }
            batch
        };
        let writes = std::mem::take(&mut *self.after_read.borrow_mut());
        writes.iter().for_each(|writes| self.write(writes));
        Ok(batch)
    }

    fn prev_kv(&self, event: &Event) -> Result<Option<KeyValue>, Infallible> {
        let previous = self.previous(event);
        Ok(previous.filter(|_| event.revision() > self.state.borrow().compact_revision))
    }
}

/// What a client knows of its watch.
struct ClientWatch {
    id: i64,
    selection: Selection,
    create: Create,
    from: i64,
    created: bool,
    /// As messages, without previous versions.
    received: Vec<Event>,
    last_revision: i64,
    /// Whether `canceled` was sent, and received.
    cancel_sent: bool,
    canceled: bool,
}

struct Client {
    stream: WatchStream,
    watches: Vec<ClientWatch>,
}

impl ClientWatch {
    fn expected(&self, model: &Model, until: i64) -> Vec<Event> {
        let state = model.state.borrow();
        let wanted = |event: &&Event| {
            (self.from..=until).contains(&event.revision())
                && self.selection.contains(&event.kv.key)
                && !(self.create.no_put && event.kind == EventKind::Put)
                && !(self.create.no_delete && event.kind == EventKind::Delete)
        };
        state.log.iter().filter(wanted).cloned().collect()
    }
}

const MESSAGE_BYTES_MAX: usize = 90;

/// Encoded and as messages it is the same.
fn messages(model: &Model, response: &Response) -> Vec<WatchResponse> {
    let origin = Origin { cluster_id: 1, member_id: 2, raft_term: 3 };
    let messages = response.to_pb(&origin, model, MESSAGE_BYTES_MAX).unwrap();
    let encoded = response.encode(&origin, model, MESSAGE_BYTES_MAX).unwrap();
    let decoded: Vec<WatchResponse> = encoded
        .iter()
        .map(|message| {
            let mut bytes = Vec::new();
            message.write_to(&mut bytes);
            assert_eq!(bytes.len(), message.len());
            WatchResponse::decode(bytes.as_slice()).unwrap()
        })
        .collect();
    // Events are encoded once: versions that were compacted since then are still there.
    let without_previous = |messages: &[WatchResponse]| {
        let mut messages = messages.to_vec();
        let events = messages.iter_mut().flat_map(|message| &mut message.events);
        events.for_each(|event| event.prev_kv = None);
        messages
    };
    if messages.len() == 1 && decoded.len() == 1 {
        assert_eq!(without_previous(&decoded), without_previous(&messages));
    }
    for (number, message) in decoded.iter().enumerate() {
        assert_eq!(message.fragment, number + 1 < decoded.len());
        let short = message.encoded_len() <= MESSAGE_BYTES_MAX + 2;
        assert!(short || message.events.len() <= 1 || decoded.len() == 1);
    }
    decoded
}

impl Client {
    fn read(&mut self, model: &Model) -> bool {
        let Some(response) = self.stream.try_next() else { return false };
        let progressed = |watch: &ClientWatch, until: i64| {
            assert_eq!(watch.received, watch.expected(model, until), "watch {}", watch.id);
        };
        if matches!(response.content, Content::Progress) && response.watch_id == NO_WATCH {
            let watches =
                self.watches.iter().filter(|watch| watch.created && !watch.cancel_sent && !watch.canceled);
            watches.for_each(|watch| progressed(watch, response.revision));
            return true;
        }
        let watches = self.watches.iter_mut().rev();
        let watch = watches.into_iter().find(|watch| watch.id == response.watch_id).unwrap();
        assert!(!watch.canceled, "a response after the last one");
        match &response.content {
            Content::Created => watch.created = true,
            Content::Refused(reason) => panic!("refused: {reason}"),
            Content::Canceled { compact_revision, reason } => {
                assert!(watch.created && reason.is_empty());
                watch.canceled = true;
                if !watch.cancel_sent {
                    assert!(*compact_revision > watch.last_revision && *compact_revision > watch.from);
                    assert_eq!(response.revision, 0);
                }
            }
            Content::Progress => progressed(watch, response.revision),
            Content::Events { events, fragment } => {
                assert!(watch.created);
                assert_eq!(*fragment, watch.create.fragment);
                let messages = messages(model, &response);
                let events_pb = messages.iter().flat_map(|message| &message.events);
                for (event, message) in events.list().iter().zip(events_pb) {
                    check_event(model, watch, event, message);
                }
                assert!(events.list()[0].revision() > watch.last_revision, "doubled or out of order");
                watch.received.extend_from_slice(events.list());
                watch.last_revision = events.list().last().unwrap().revision();
                assert!(response.revision >= watch.last_revision);
                // Whole revisions: nothing of the last one is missing.
                progressed(watch, watch.last_revision);
            }
        }
        true
    }
}

fn check_event(model: &Model, watch: &ClientWatch, event: &Event, message: &mvccpb::Event) {
    assert_eq!(message.kv.as_ref(), Some(&event.kv));
    match &message.prev_kv {
        Some(previous) => {
            assert!(watch.create.prev_kv);
            assert_eq!(Some(previous), model.previous(event).as_ref());
        }
        None => {
            let kept = event.revision() > model.state.borrow().compact_revision;
            assert!(!watch.create.prev_kv || !kept || model.previous(event).is_none());
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Write>),
    Open,
    Create { stream: usize, key: u8, end: u8, start: Start, flags: u8 },
    Read { stream: usize, count: usize },
    CatchUp,
    CatchUpDuring { before: Vec<Write>, after: Vec<Write> },
    Cancel { stream: usize, watch: usize },
    Progress { stream: usize },
    Notices,
    Compact(u8),
    Adopt(Vec<Write>),
    Close { stream: usize },
}

#[derive(Debug, Clone, Copy)]
enum Start {
    Now,
    Past(u8),
    Future(u8),
}

const KEYS: u8 = 5;

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (0..KEYS, 0..60_u8).prop_map(|(key, length)| Write::Put(key, length)),
        1 => (0..KEYS).prop_map(Write::Delete),
    ]
}

/// A transaction writes each key once.
fn transaction() -> impl Strategy<Value = Vec<Write>> {
    proptest::collection::vec(write(), 1..4).prop_map(|writes| {
        let by_key = writes.into_iter().map(|write| match write {
            Write::Put(key, _) | Write::Delete(key) => (key, write),
        });
        by_key.collect::<BTreeMap<u8, Write>>().into_values().collect()
    })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Now), any::<u8>().prop_map(Start::Past), (1..6_u8).prop_map(Start::Future)]
}

fn step() -> impl Strategy<Value = Step> {
    let streams = 0..4_usize;
    prop_oneof![
        12 => transaction().prop_map(Step::Write),
        1 => Just(Step::Open),
        6 => (streams.clone(), 0..KEYS, 0..KEYS + 2, start(), any::<u8>())
            .prop_map(|(stream, key, end, start, flags)| Step::Create { stream, key, end, start, flags }),
        6 => (streams.clone(), 1..8_usize).prop_map(|(stream, count)| Step::Read { stream, count }),
        3 => Just(Step::CatchUp),
        3 => (transaction(), transaction())
            .prop_map(|(before, after)| Step::CatchUpDuring { before, after }),
        1 => (streams.clone(), 0..4_usize).prop_map(|(stream, watch)| Step::Cancel { stream, watch }),
        2 => streams.clone().prop_map(|stream| Step::Progress { stream }),
        1 => Just(Step::Notices),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => transaction().prop_map(Step::Adopt),
        1 => streams.prop_map(|stream| Step::Close { stream }),
    ]
}

fn settings() -> Settings {
    Settings {
        queue_responses_max: 3,
        queue_bytes_max: 300,
        round_watches_max: 3,
        round_limits: Limits { revisions: 4, bytes: 150 },
        ..Settings::default()
    }
}

struct World {
    model: Model,
    hub: WatchHub,
    clients: Vec<Client>,
    now: Moment,
}

impl World {
    fn create(&mut self, stream: usize, key_number: u8, end: u8, start: Start, flags: u8) {
        let revision = self.model.current_revision();
        let start_revision = match start {
            Start::Now => 0,
            Start::Past(part) => 1 + i64::from(part) * (revision - 1) / 255,
            Start::Future(later) => revision + i64::from(later),
        };
        let create = Create {
            start_revision,
            watch_id: 0,
            prev_kv: flags & 1 > 0,
            no_put: flags & 6 == 6,
            no_delete: flags & 24 == 24,
            fragment: flags & 32 > 0,
            progress_notify: flags & 64 > 0,
        };
        let range_end = match end {
            end if end == KEYS + 1 => Bytes::from_static(b"\0"),
            end if end > key_number => key(end),
            _ => Bytes::new(),
        };
        let Some(client) = self.clients.get_mut(stream) else { return };
        let id = client.stream.create(&key(key_number), &range_end, &create, self.now).unwrap();
        client.watches.push(ClientWatch {
            id,
            selection: Selection::new(&key(key_number), &range_end).unwrap(),
            create,
            from: if start_revision == 0 { revision + 1 } else { start_revision },
            created: false,
            received: Vec::new(),
            last_revision: 0,
            cancel_sent: false,
            canceled: false,
        });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(writes) => self.model.write(&writes),
            Step::Open => {
                if self.clients.len() < 4 {
                    self.clients.push(Client { stream: self.hub.open(false), watches: Vec::new() });
                }
            }
            Step::Create { stream, key, end, start, flags } => self.create(stream, key, end, start, flags),
            Step::Read { stream, count } => {
                if let Some(client) = self.clients.get_mut(stream) {
                    for _ in 0..count {
                        client.read(&self.model);
                    }
                }
            }
            Step::CatchUp => drop(self.hub.catch_up(&self.model, &mut Vec::new()).unwrap()),
            Step::CatchUpDuring { before, after } => {
                self.model.before_read.borrow_mut().push(before);
                self.model.after_read.borrow_mut().push(after);
                let _ = self.hub.catch_up(&self.model, &mut Vec::new()).unwrap();
                self.model.before_read.borrow_mut().clear();
                self.model.after_read.borrow_mut().clear();
            }
            Step::Cancel { stream, watch } => {
                let Some(client) = self.clients.get_mut(stream) else { return };
                if let Some(watch) = client.watches.get_mut(watch)
                    && client.stream.cancel(watch.id)
                {
                    watch.cancel_sent = true;
                }
            }
            Step::Progress { stream } => {
                if let Some(client) = self.clients.get(stream) {
                    client.stream.request_progress();
                }
            }
            Step::Notices => {
                self.now = self.now + std::time::Duration::from_secs(700);
                self.hub.send_notices(self.now, &mut Vec::new());
            }
            Step::Compact(part) => {
                self.model.compact(i64::from(part) * self.model.current_revision() / 255);
            }
            Step::Adopt(writes) => self.model.adopt(&writes),
            Step::Close { stream } => {
                if stream < self.clients.len() && self.clients.len() > 1 {
                    self.clients.remove(stream);
                }
            }
        }
        self.hub.0.registry.lock().check();
    }

    /// Everybody reads, until nothing is left to read.
    fn settle(&mut self) {
        loop {
            self.model.catch_up_all(&self.hub);
            let mut read = false;
            for client in &mut self.clients {
                while client.read(&self.model) {
                    read = true;
                }
            }
            if !read {
                break;
            }
        }
        assert_eq!(self.hub.counts().slow_watches, 0);
        let revision = self.model.current_revision();
        for watch in self.clients.iter().flat_map(|client| &client.watches) {
            assert!(watch.created);
            let expected = watch.expected(&self.model, revision);
            if watch.canceled {
                assert!(expected.starts_with(&watch.received));
            } else {
                assert!(!watch.cancel_sent);
                assert_eq!(watch.received, expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn each_watch_gets_exactly_the_filtered_history(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let (model, hub) = Model::new(settings());
        let client = Client { stream: hub.open(false), watches: Vec::new() };
        let mut world = World { model, hub, clients: vec![client], now: Moment::default() };
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.clients.clear();
        let registry = world.hub.0.registry.lock();
        registry.check();
        prop_assert!(registry.watches.is_empty() && registry.targets.is_empty());
        prop_assert!(registry.notices.is_empty() && registry.awaited.is_empty());
    }
}

//! Watchers, and the delivery of events to them.
//!
//! An event looks up its own path and each of its parents, so the cost of its delivery depends on the depth of the
//! path and the number of watchers that get it, not on the number of other watchers.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::history::{History, removed_dir};
use super::path::{is_below, is_hidden_below, prefixes};
use crate::event::Event;
use crate::planted::{Bug, is_planted};

/// How many events are queued for a watcher that does not read them; then its watch ends.
pub const WATCHER_QUEUE_MAX: usize = 100;

/// All watchers of a store.
#[derive(Default)]
pub(crate) struct Hub {
    registry: Mutex<Registry>,
    /// The number of registered watchers, outside the lock, so that writes need no lock if there are none.
    count: AtomicU64,
}

#[derive(Default)]
struct Registry {
    paths: BTreeMap<Arc<[u8]>, PathWatchers>,
    next_id: u64,
}

/// The watchers of one path, in the order of their registration.
#[derive(Default)]
struct PathWatchers {
    /// Those of the path itself only.
    exact: List,
    /// Those of everything below, too.
    recursive: List,
}

/// Entries sorted by id. A removed watcher is marked, and marked entries are dropped when they are the majority: so a
/// removal costs O(log n), also if all are removed one by one.
#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    gone: usize,
}

struct Entry {
    id: u64,
    /// The first index of interest.
    since: u64,
    stream: bool,
    /// `None` after the watcher was removed.
    queue: Option<Arc<Queue>>,
}

/// What a watcher shares with the hub.
#[derive(Default)]
struct Queue(Mutex<QueueState>);

#[derive(Default)]
struct QueueState {
    events: VecDeque<Arc<Event>>,
    /// The most events in the queue.
    limit: usize,
    waker: Option<Waker>,
    /// Whether no more events will come.
    closed: bool,
    /// Whether it was closed because events are missing that this member does not have.
    has_gap: bool,
}

/// A watch. It ends when it is dropped.
pub struct Watcher {
    queue: Arc<Queue>,
    start_index: u64,
    /// Where it is registered, if it is.
    registration: Option<Registration>,
}

struct Registration {
    hub: Arc<Hub>,
    path: Arc<[u8]>,
    recursive: bool,
    id: u64,
}

impl Watcher {
    /// The store's index when the watch began, `X-Etcd-Index` of its answer.
    pub fn start_index(&self) -> u64 {
        self.start_index
    }

    /// The next event; `None` if there will be no more: after the first unless it is a stream, if the reader fell
    /// [`WATCHER_QUEUE_MAX`] events behind, or if the store [lost events](Watcher::has_gap).
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Arc<Event>>> {
        let mut state = self.queue.0.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// An event that is already queued.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.queue.0.lock().events.pop_front()
    }

    /// Whether no event will come after the queued ones.
    pub fn is_closed(&self) -> bool {
        self.queue.0.lock().closed
    }

    /// Whether the watch ended early: the store adopted a snapshot whose history does not reach back to the next
    /// events of this watch. The client must not take this for a regular end.
    pub fn has_gap(&self) -> bool {
        self.queue.0.lock().has_gap
    }

    /// A watch that is over with this event.
    pub(crate) fn done(event: Arc<Event>, start_index: u64) -> Watcher {
        let state = QueueState { events: VecDeque::from([event]), closed: true, ..QueueState::default() };
        Watcher { queue: Arc::new(Queue(Mutex::new(state))), start_index, registration: None }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(registration) = self.registration.take() {
            registration.hub.unregister(&registration);
        }
    }
}

/// Whether a removal took a node with this path.
pub(crate) type WasPresent<'a> = &'a dyn Fn(&[u8]) -> bool;

/// The parameters of a new watcher.
pub(crate) struct Subscription<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) recursive: bool,
    pub(crate) stream: bool,
    /// The first index of interest.
    pub(crate) since: u64,
    /// The store's index now.
    pub(crate) start_index: u64,
    /// Events of the past, to be read before all others.
    pub(crate) backlog: VecDeque<Arc<Event>>,
}

impl Hub {
    /// How many watchers there are.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Registers a watcher.
    pub(crate) fn watch(self: &Arc<Hub>, subscription: Subscription<'_>) -> Watcher {
        let state = QueueState {
            limit: WATCHER_QUEUE_MAX + subscription.backlog.len(),
            events: subscription.backlog,
            ..QueueState::default()
        };
        let queue = Arc::new(Queue(Mutex::new(state)));
        let mut registry = self.registry.lock();
        let id = registry.next_id;
        registry.next_id += 1;
        // All watchers of a path share its bytes.
        let known = registry.paths.get_key_value(subscription.path).map(|(path, _)| Arc::clone(path));
        let path = known.unwrap_or_else(|| Arc::from(subscription.path));
        let entry = Entry {
            id,
            since: subscription.since,
            stream: subscription.stream,
            queue: Some(Arc::clone(&queue)),
        };
        let list = registry.paths.entry(Arc::clone(&path)).or_default().list(subscription.recursive);
        if list.entries.is_empty() {
            // Most paths have one watcher.
            list.entries.reserve_exact(1);
        }
        list.entries.push(entry);
        self.count.fetch_add(1, Relaxed);
        let registration =
            Registration { hub: Arc::clone(self), path, recursive: subscription.recursive, id };
        Watcher { queue, start_index: subscription.start_index, registration: Some(registration) }
    }

    /// Removes a watcher that was dropped.
    fn unregister(&self, registration: &Registration) {
        let mut registry = self.registry.lock();
        let Some(watched) = registry.paths.get_mut(&registration.path) else { return };
        if watched.list(registration.recursive).unregister(registration.id) {
            self.count.fetch_sub(1, Relaxed);
            if watched.is_empty() {
                registry.paths.remove(&registration.path);
            }
        }
    }

    /// Adds all waiting watchers to `wakers`, without an event.
    pub(crate) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        if self.count() == 0 {
            return;
        }
        let registry = self.registry.lock();
        let lists = registry.paths.values().flat_map(|watched| [&watched.exact, &watched.recursive]);
        for queue in lists.flat_map(|list| &list.entries).filter_map(|entry| entry.queue.as_ref()) {
            wakers.extend(queue.0.lock().waker.take());
        }
    }

    /// Delivers an event to all its watchers. For a removal, `removal` says which nodes there were below the event's
    /// path. The watchers to wake are added to `wakers`.
    pub(crate) fn notify(
        &self,
        event: &Arc<Event>,
        removal: Option<WasPresent<'_>>,
        wakers: &mut Vec<Waker>,
    ) {
        if self.count() == 0 {
            return;
        }
        let mut registry = self.registry.lock();
        let mut delivery = Delivery { event, wakers, left: 0, limit: 0 };
        if let Some(existed) = removal {
            // As in the original, a removal is first delivered to the watchers of each removed node and then
            // to all watchers of the event: a stream on exactly this path gets it twice.
            delivery.deliver_down(&mut registry, |path| {
                *path == *event.key || is_below(&event.key, path) && existed(path)
            });
        }
        delivery.deliver_up(&mut registry);
        self.count.fetch_sub(delivery.left, Relaxed);
    }

    /// Brings all watchers from index `from` to `to`, when the store has adopted a snapshot: each gets the events of
    /// `history` in between, like a stream that begins in the past. A watch whose events are missing there ends, see
    /// [`Watcher::has_gap`]; returns their number. The watchers to wake are added to `wakers`.
    pub(crate) fn catch_up(&self, from: u64, to: u64, history: &History, wakers: &mut Vec<Waker>) -> u64 {
        if self.count() == 0 || to <= from || is_planted(Bug::WatcherSkipped) {
            return 0;
        }
        let mut registry = self.registry.lock();
        let known = history.reaches_back_to(to);
        let mut left = 0;
        if known > from + 1 {
            // A watch for a later index has missed nothing.
            let misses = |entry: &Entry| entry.since.max(from + 1) < known;
            for watched in registry.paths.values_mut() {
                left += watched.exact.end_with_gap(misses, wakers)
                    + watched.recursive.end_with_gap(misses, wakers);
            }
            registry.paths.retain(|_, watched| !watched.is_empty());
        }
        let ended = left;
        let limit = WATCHER_QUEUE_MAX + history.len();
        for event in history.after(from).filter(|event| !event.refresh) {
            let mut delivery = Delivery { event, wakers, left: 0, limit };
            delivery.deliver_up(&mut registry);
            if removed_dir(event) {
                delivery.deliver_down(&mut registry, |path| is_below(&event.key, path));
            }
            left += delivery.left;
        }
        self.count.fetch_sub(left, Relaxed);
        ended
    }
}

/// The delivery of an event.
struct Delivery<'a> {
    event: &'a Arc<Event>,
    wakers: &'a mut Vec<Waker>,
    /// The number of removed watchers.
    left: u64,
    /// The least capacity of a watcher's queue while many events are delivered at once.
    limit: usize,
}

impl Delivery<'_> {
    /// Delivers to the watchers of the event's path, and to the recursive watchers of its parents.
    fn deliver_up(&mut self, registry: &mut Registry) {
        for path in prefixes(&self.event.key) {
            let Some(watched) = registry.paths.get_mut(path) else { continue };
            let itself = path.len() == self.event.key.len();
            if itself {
                self.deliver(&mut watched.exact);
            }
            if itself || !is_hidden_below(path, &self.event.key) {
                self.deliver(&mut watched.recursive);
            }
            if watched.is_empty() {
                registry.paths.remove(path);
            }
        }
    }

    /// Delivers to the watchers of those paths below the event's for which `concerned` is true.
    fn deliver_down(&mut self, registry: &mut Registry, concerned: impl Fn(&[u8]) -> bool) {
        let event = self.event;
        let key: &[u8] = &event.key;
        let mut empty: Vec<Arc<[u8]>> = Vec::new();
        let from = registry.paths.range_mut::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        for (path, watched) in from.take_while(|(path, _)| path.starts_with(key)) {
            if concerned(path) {
                self.deliver(&mut watched.exact);
                self.deliver(&mut watched.recursive);
                if watched.is_empty() {
                    empty.push(Arc::clone(path));
                }
            }
        }
        for path in empty {
            registry.paths.remove(&path);
        }
    }

    fn deliver(&mut self, list: &mut List) {
        if list.entries.is_empty() {
            return;
        }
        let index = self.event.node.meta.modified;
        list.entries.retain(|entry| {
            let Some(queue) = &entry.queue else { return false };
            if index < entry.since {
                return true;
            }
            let mut state = queue.0.lock();
            state.limit = state.limit.max(self.limit);
            let full = state.events.len() >= state.limit;
            if !full {
                state.events.push_back(Arc::clone(self.event));
            }
            state.closed = full || !entry.stream;
            self.wakers.extend(state.waker.take());
            self.left += u64::from(state.closed);
            !state.closed
        });
        list.gone = 0;
    }
}

impl PathWatchers {
    fn list(&mut self, recursive: bool) -> &mut List {
        if recursive { &mut self.recursive } else { &mut self.exact }
    }

    fn is_empty(&self) -> bool {
        self.exact.entries.is_empty() && self.recursive.entries.is_empty()
    }
}

impl List {
    /// Ends the watches that have missed events; returns how many.
    fn end_with_gap(&mut self, misses: impl Fn(&Entry) -> bool, wakers: &mut Vec<Waker>) -> u64 {
        let mut ended = 0;
        self.entries.retain(|entry| {
            let Some(queue) = &entry.queue else { return false };
            if !misses(entry) {
                return true;
            }
            let mut state = queue.0.lock();
            (state.closed, state.has_gap) = (true, true);
            wakers.extend(state.waker.take());
            ended += 1;
            false
        });
        self.gone = 0;
        ended
    }

    /// Marks a watcher as removed; returns whether it was still there.
    fn unregister(&mut self, id: u64) -> bool {
        let Ok(at) = self.entries.binary_search_by_key(&id, |entry| entry.id) else { return false };
        if self.entries[at].queue.take().is_none() {
            return false;
        }
        self.gone += 1;
        if self.gone * 2 >= self.entries.len() {
            self.entries.retain(|entry| entry.queue.is_some());
            self.entries.shrink_to(self.entries.len() * 2);
            self.gone = 0;
        }
        true
    }
}

//! The watches of all streams, and the delivery of new events to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;
use smallvec::SmallVec;

use super::event::{Event, EventKind, Events};
use super::hub::Settings;
use super::index::Index;
use super::queue::{Capacity, Queue};
use super::response::{Content, Response};
use super::round::Tail;
use super::selection::Selection;
use crate::time::Moment;

/// Everything behind the lock of the hub. Slots of slabs are `u32`: four bytes in each of many places.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// The newest revision that the hub was told.
    pub(super) revision: i64,
    pub(super) index: Index<u32>,
    pub(super) targets: Slab<Target>,
    pub(super) watches: Slab<Watch>,
    pub(super) streams: Slab<StreamState>,
    /// Watches that read history, by the revision they need next.
    pub(super) behind: BTreeSet<(i64, u32)>,
    /// What happens while a round reads history.
    pub(super) round: Option<Tail>,
    /// Streams with watches that want to be told of their progress, by time.
    pub(super) notices: BTreeSet<(Moment, u32)>,
    /// Streams whose request for progress waits for a revision.
    pub(super) awaited: BTreeSet<(i64, u32)>,
    /// Counts created watches: tells whether a slot still has the same one.
    pub(super) serial: u32,
    /// For the jitter.
    pub(super) notices_sent: u64,
    /// Reused by each delivery: which target an event belongs to.
    pub(super) matches: Vec<(u32, u32)>,
}

/// A selection with its watches.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) selection: Selection,
    pub(super) watches: SmallVec<[u32; 4]>,
}

/// A watch.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) id: i64,
    /// The first revision that it did not get, or was not asked to get. Of a synced watch: no earlier one is delivered.
    pub(super) next: i64,
    pub(super) stream: u32,
    pub(super) target: u32,
    /// Its place in the target's list.
    pub(super) position: u32,
    pub(super) serial: u32,
    pub(super) options: Options,
    pub(super) state: State,
    /// Whether it got events since its last notice of progress.
    pub(super) active: bool,
}

/// What a client chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Options {
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress_notify: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has all events up to the hub's revision.
    Synced,
    /// It reads history.
    Behind,
    /// Its stream's queue is full: it will read history when there is room.
    Blocked,
}

/// What the hub keeps of a stream.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) queue: Arc<Queue>,
    pub(super) ids: BTreeMap<i64, u32>,
    pub(super) next_id: i64,
    /// Blocked watches, with their serial number; some may be gone.
    pub(super) blocked: Vec<(u32, u32)>,
    /// How many watches are not synced.
    pub(super) unsynced: u32,
    pub(super) notified_watches: u32,
    /// When the next notices are due, if there are such watches.
    pub(super) next_notice: Moment,
    pub(super) progress_requested: bool,
    /// Its entry in [`Registry::awaited`].
    pub(super) awaited: Option<i64>,
    pub(super) requires_leader: bool,
}

/// A slot of a slab as it is kept.
pub(super) fn slot(index: usize) -> u32 {
    u32::try_from(index).unwrap_or_else(|_| panic!("slot {index} is beyond all memory"))
}

impl Options {
    fn wants(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }

    /// Watches with the same number get the same bytes.
    fn variant(self) -> usize {
        usize::from(self.no_put) | usize::from(self.no_delete) << 1 | usize::from(self.prev_kv) << 2
    }
}

/// The same events as they are wanted by watches with different options.
#[derive(Default)]
pub(super) struct Variants([Variant; 8]);

#[derive(Default)]
enum Variant {
    #[default]
    Unknown,
    /// The filters leave nothing.
    Empty,
    Events(Arc<Events>),
}

impl Variants {
    pub(super) fn of<'a>(
        &mut self,
        options: Options,
        events: impl Iterator<Item = &'a Event>,
    ) -> Option<Arc<Events>> {
        let variant = &mut self.0[options.variant()];
        if let Variant::Unknown = variant {
            let list: SmallVec<[Event; 1]> =
                events.filter(|event| options.wants(event.kind)).cloned().collect();
            *variant = if list.is_empty() {
                Variant::Empty
            } else {
                Variant::Events(Arc::new(Events::new(list, options.prev_kv)))
            };
        }
        match variant {
            Variant::Events(events) => Some(Arc::clone(events)),
            Variant::Unknown | Variant::Empty => None,
        }
    }
}

impl Registry {
    pub(super) fn watch(&self, slot: u32) -> &Watch {
        &self.watches[slot as usize]
    }

    pub(super) fn watch_mut(&mut self, slot: u32) -> &mut Watch {
        &mut self.watches[slot as usize]
    }

    pub(super) fn stream_mut(&mut self, slot: u32) -> &mut StreamState {
        &mut self.streams[slot as usize]
    }

    /// A new revision: delivers its events to the synced watches.
    pub(super) fn notify(
        &mut self,
        revision: i64,
        events: &[Event],
        settings: &Settings,
        wakers: &mut Vec<Waker>,
    ) {
        assert!(revision > self.revision, "revision {revision} after {}", self.revision);
        self.revision = revision;
        if let Some(tail) = &mut self.round {
            tail.push(events);
        }
        if !self.watches.is_empty() {
            self.deliver_all(revision, events, settings, wakers);
        }
        self.settle_awaited(wakers);
    }

    fn deliver_all(&mut self, revision: i64, events: &[Event], settings: &Settings, wakers: &mut Vec<Waker>) {
        let mut matches = std::mem::take(&mut self.matches);
        for (number, event) in events.iter().enumerate() {
            self.index.matching(&event.kv.key, |target| matches.push((target, slot(number))));
        }
        if events.len() > 1 {
            // All events of a target together, in their order.
            matches.sort_unstable();
        }
        // Many watches of different ranges have the whole revision in common.
        let mut whole = Variants::default();
        for of_target in matches.chunk_by(|(one, _), (other, _)| one == other) {
            let mut part = Variants::default();
            let variants = if of_target.len() == events.len() { &mut whole } else { &mut part };
            let target = of_target[0].0 as usize;
            for number in 0..self.targets[target].watches.len() {
                let slot = self.targets[target].watches[number];
                let watch = self.watch(slot);
                if watch.state != State::Synced || watch.next > revision {
                    continue;
                }
                let list = of_target.iter().map(|(_, number)| &events[*number as usize]);
                if let Some(events) = variants.of(watch.options, list)
                    && !self.push_events(slot, revision, events, settings, wakers)
                {
                    self.block(slot, revision);
                }
            }
        }
        matches.clear();
        // One huge transaction must not hold its memory for ever.
        matches.shrink_to(1024);
        self.matches = matches;
    }

    /// Queues events for a watch, unless its stream's queue is full.
    pub(super) fn push_events(
        &mut self,
        slot: u32,
        revision: i64,
        events: Arc<Events>,
        settings: &Settings,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let watch = &mut self.watches[slot as usize];
        let stream = &self.streams[watch.stream as usize];
        let content = Content::Events { events, fragment: watch.options.fragment };
        let response = Response::new(watch.id, revision, content);
        let pushed = stream.queue.push_events(response, stream.capacity(settings), wakers);
        watch.active |= pushed;
        pushed
    }

    /// A watch whose events from `next` on did not fit into its stream's queue.
    pub(super) fn block(&mut self, slot: u32, next: i64) {
        let watch = self.watch_mut(slot);
        let was_synced = watch.state == State::Synced;
        (watch.next, watch.state) = (next, State::Blocked);
        let (stream, serial) = (watch.stream, watch.serial);
        let stream = self.stream_mut(stream);
        stream.unsynced += u32::from(was_synced);
        stream.blocked.push((slot, serial));
    }

    /// The blocked watches of a stream whose queue has room again read history.
    pub(super) fn unblock(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(stream as usize) else { return };
        for (slot, serial) in std::mem::take(&mut state.blocked) {
            let watch = self.watches.get_mut(slot as usize);
            if let Some(watch) = watch
                && watch.serial == serial
                && watch.state == State::Blocked
            {
                watch.state = State::Behind;
                self.behind.insert((watch.next, slot));
            }
        }
    }

    /// Ends a watch. Its stream's state of progress has to be settled by the caller.
    pub(super) fn remove(&mut self, slot: u32) {
        let watch = self.watches.remove(slot as usize);
        if watch.state == State::Behind {
            self.behind.remove(&(watch.next, slot));
        }
        let target = &mut self.targets[watch.target as usize];
        target.watches.swap_remove(watch.position as usize);
        match target.watches.get(watch.position as usize) {
            Some(moved) => self.watches[*moved as usize].position = watch.position,
            None if target.watches.is_empty() => {
                let target = self.targets.remove(watch.target as usize);
                self.index.remove(&target.selection);
            }
            None => {}
        }
        let stream = &mut self.streams[watch.stream as usize];
        stream.ids.remove(&watch.id);
        stream.unsynced -= u32::from(watch.state != State::Synced);
        if watch.options.progress_notify {
            stream.notified_watches -= 1;
            if stream.notified_watches == 0 {
                let notice = (stream.next_notice, watch.stream);
                self.notices.remove(&notice);
            }
        }
    }

    /// Ends all watches of a stream, and forgets it.
    pub(super) fn remove_stream(&mut self, stream: u32) {
        if !self.streams.contains(stream as usize) {
            return;
        }
        let watches: Vec<u32> = self.streams[stream as usize].ids.values().copied().collect();
        for slot in watches {
            self.remove(slot);
        }
        if let Some(reached) = self.streams.remove(stream as usize).awaited {
            self.awaited.remove(&(reached, stream));
        }
    }

    /// The target of this selection, made if there is none.
    pub(super) fn target(&mut self, selection: Selection) -> u32 {
        if let Some(target) = self.index.get(&selection) {
            return target;
        }
        let entry = self.targets.vacant_entry();
        let target = slot(entry.key());
        self.index.insert(&selection, target);
        entry.insert(Target { selection, watches: SmallVec::new() });
        target
    }

    /// After a jump of the revision without events: watches read what they missed.
    pub(super) fn restore(&mut self, revision: i64) {
        let missed_from = self.revision + 1;
        self.revision = revision;
        if let Some(tail) = &mut self.round {
            tail.overflow();
        }
        let watches = self.watches.iter_mut();
        for (slot_index, watch) in watches.filter(|(_, watch)| watch.state == State::Synced) {
            let next = watch.next.max(missed_from);
            if next <= revision {
                (watch.next, watch.state) = (next, State::Behind);
                self.behind.insert((next, slot(slot_index)));
                self.streams[watch.stream as usize].unsynced += 1;
            }
        }
    }
}

#[cfg(test)]
impl Registry {
    /// Whether all places that know a watch agree on it.
    pub(super) fn check(&self) {
        let in_state = |wanted: State| self.watches.iter().filter(move |(_, watch)| watch.state == wanted);
        assert_eq!(in_state(State::Behind).count(), self.behind.len());
        for (index, watch) in &self.watches {
            let target = &self.targets[watch.target as usize];
            assert_eq!(target.watches[watch.position as usize], slot(index));
            assert_eq!(self.index.get(&target.selection), Some(watch.target));
            let stream = &self.streams[watch.stream as usize];
            assert_eq!(stream.ids[&watch.id], slot(index));
            match watch.state {
                State::Synced => {}
                State::Behind => assert!(self.behind.contains(&(watch.next, slot(index)))),
                State::Blocked => assert!(stream.blocked.contains(&(slot(index), watch.serial))),
            }
        }
        for (_, stream) in &self.streams {
            let watches = || stream.ids.values().map(|slot| self.watch(*slot));
            let unsynced = watches().filter(|watch| watch.state != State::Synced).count();
            assert_eq!(stream.unsynced as usize, unsynced);
            let notified = watches().filter(|watch| watch.options.progress_notify).count();
            assert_eq!(stream.notified_watches as usize, notified);
        }
    }
}

impl StreamState {
    /// What its queue holds: some responses for each watch, so that one event for all of them fits.
    pub(super) fn capacity(&self, settings: &Settings) -> Capacity {
        Capacity {
            responses: settings.queue_responses_max.saturating_add(self.ids.len()),
            bytes: settings.queue_bytes_max,
        }
    }
}

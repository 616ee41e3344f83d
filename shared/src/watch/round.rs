//! A round of catching up: watches that are behind get a part of the history.
//!
//! The history is read, and searched for what the watches want, without the lock of the hub. Revisions that come
//! meanwhile are put aside in a [`Tail`]; so a watch that has read all the rest gets those too and joins the synced
//! ones under the lock, without a gap.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;

use super::event::{Event, Events};
use super::history::Batch;
use super::hub::Settings;
use super::index::Index;
use super::registry::{Options, Registry, State, Variants};
use super::response::{Content, Response};
use super::selection::Selection;

/// The most events that are put aside. If there are more, the next round reads them from the history.
const TAIL_EVENTS_MAX: usize = 4096;

/// The most bytes that are put aside, about.
const TAIL_BYTES_MAX: usize = 8 << 20;

/// What the hub was notified of while history was read.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The revision before.
    after: i64,
    events: Vec<Event>,
    bytes: usize,
    overflowed: bool,
}

impl Tail {
    pub(super) fn new(after: i64) -> Tail {
        Tail { after, ..Tail::default() }
    }

    pub(super) fn push(&mut self, events: &[Event]) {
        if self.overflowed {
            return;
        }
        self.bytes += events.iter().map(Event::size).sum::<usize>();
        if self.events.len() + events.len() > TAIL_EVENTS_MAX || self.bytes > TAIL_BYTES_MAX {
            self.overflow();
        } else {
            self.events.extend_from_slice(events);
        }
    }

    pub(super) fn overflow(&mut self) {
        (self.events, self.overflowed) = (Vec::new(), true);
    }
}

/// A watch of a round.
#[derive(Debug)]
pub(super) struct Candidate {
    slot: u32,
    serial: u32,
    next: i64,
    options: Options,
    /// Its number in `Round::selections`.
    selection: usize,
}

/// The watches of a round, by what they watch.
#[derive(Debug)]
pub(super) struct Round {
    candidates: Vec<Candidate>,
    index: Index<usize>,
    selections: usize,
    /// The first revision that one of them needs.
    pub(super) from: i64,
}

/// Events of a part of the history for the watches of a round.
pub(super) struct Sorted<'a> {
    events: &'a [Event],
    /// By selection, which events belong to it.
    matches: Vec<Vec<u32>>,
    /// By selection and first event.
    lists: HashMap<(usize, usize), Variants>,
}

impl Round {
    /// Chooses the watches that are most behind. Those that need compacted history end.
    pub(super) fn begin(
        registry: &mut Registry,
        compact_revision: i64,
        settings: &Settings,
        wakers: &mut Vec<Waker>,
    ) -> Option<Round> {
        while let Some((next, slot)) = registry.behind.first().copied()
            && next < compact_revision
        {
            let watch = registry.watch(slot);
            let (id, stream) = (watch.id, watch.stream);
            registry.remove(slot);
            // Without a revision, as observed.
            let content = Content::Canceled { compact_revision, reason: "".into() };
            registry.streams[stream as usize].queue.push_answer(Response::new(id, 0, content), wakers);
            registry.settle_progress(stream, wakers);
        }
        let from = registry.behind.first()?.0;
        let mut round = Round { candidates: Vec::new(), index: Index::default(), selections: 0, from };
        let mut numbers: HashMap<u32, usize> = HashMap::new();
        for (next, slot) in registry.behind.iter().take(settings.round_watches_max) {
            let watch = registry.watch(*slot);
            let selection = *numbers.entry(watch.target).or_insert_with(|| {
                let selection: &Selection = &registry.targets[watch.target as usize].selection;
                round.index.insert(selection, round.selections);
                round.selections += 1;
                round.selections - 1
            });
            round.candidates.push(Candidate {
                slot: *slot,
                serial: watch.serial,
                next: *next,
                options: watch.options,
                selection,
            });
        }
        registry.round = Some(Tail::new(registry.revision));
        Some(round)
    }

    /// Finds out which events belong to which watches.
    pub(super) fn sort<'a>(&self, events: &'a [Event]) -> Sorted<'a> {
        let mut matches = vec![Vec::new(); self.selections];
        for (number, event) in (0..).zip(events) {
            self.index.matching(&event.kv.key, |selection| matches[selection].push(number));
        }
        Sorted { events, matches, lists: HashMap::new() }
    }

    /// What each watch gets of the history, in the order of the candidates.
    pub(super) fn lists(&self, batch: &Batch) -> Vec<Option<Arc<Events>>> {
        let mut sorted = self.sort(&batch.events);
        self.candidates.iter().map(|candidate| sorted.of(candidate, candidate.next)).collect()
    }

    /// Delivers the events, and lets watches that have everything join the synced ones. Returns how many watches got
    /// further.
    pub(super) fn finish(
        self,
        registry: &mut Registry,
        batch: &Batch,
        lists: Vec<Option<Arc<Events>>>,
        settings: &Settings,
        wakers: &mut Vec<Waker>,
    ) -> usize {
        let tail = registry.round.take().unwrap_or_default();
        // Whether history and tail together reach to the present.
        let joined = !tail.overflowed && batch.last >= tail.after;
        let mut sorted_tail = self.sort(&tail.events);
        let mut advanced = 0;
        for (candidate, events) in self.candidates.iter().zip(lists) {
            if batch.last < candidate.next || !candidate.is_behind(registry) {
                continue;
            }
            advanced += 1;
            registry.behind.remove(&(candidate.next, candidate.slot));
            let stream = registry.watch(candidate.slot).stream;
            if candidate.deliver(registry, candidate.next, batch.last, events, settings, wakers) {
                let next = batch.last + 1;
                if next > registry.revision {
                    candidate.join(registry, next);
                } else if joined {
                    let revision = registry.revision;
                    let events = sorted_tail.of(candidate, next);
                    if candidate.deliver(registry, next, revision, events, settings, wakers) {
                        candidate.join(registry, revision + 1);
                    }
                } else {
                    registry.watch_mut(candidate.slot).next = next;
                    registry.behind.insert((next, candidate.slot));
                }
            }
            registry.settle_progress(stream, wakers);
        }
        advanced
    }
}

impl Candidate {
    /// Whether the watch is still there, and nobody else brought it further.
    fn is_behind(&self, registry: &Registry) -> bool {
        registry.watches.get(self.slot as usize).is_some_and(|watch| {
            watch.serial == self.serial && watch.state == State::Behind && watch.next == self.next
        })
    }

    /// Queues events from revision `from` on. If they do not fit, the watch is blocked.
    fn deliver(
        &self,
        registry: &mut Registry,
        from: i64,
        revision: i64,
        events: Option<Arc<Events>>,
        settings: &Settings,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(events) = events else { return true };
        let pushed = registry.push_events(self.slot, revision, events, settings, wakers);
        if !pushed {
            registry.block(self.slot, from);
        }
        pushed
    }

    fn join(&self, registry: &mut Registry, next: i64) {
        let watch = registry.watch_mut(self.slot);
        (watch.next, watch.state) = (next, State::Synced);
        let stream = watch.stream;
        registry.stream_mut(stream).unsynced -= 1;
    }
}

impl Sorted<'_> {
    /// The events of a watch from revision `next` on.
    fn of(&mut self, candidate: &Candidate, next: i64) -> Option<Arc<Events>> {
        let matches = &self.matches[candidate.selection];
        let events = self.events;
        let event = |number: &u32| &events[*number as usize];
        let first = matches.partition_point(|number| event(number).revision() < next);
        let variants = self.lists.entry((candidate.selection, first)).or_default();
        variants.of(candidate.options, matches[first..].iter().map(event))
    }
}

//! The last events, for watchers that start in the past.

use std::collections::VecDeque;
use std::sync::Arc;

use super::path::{is_below, is_hidden_below};
use crate::error::{ApiError, Code};
use crate::event::{Action, Event};

/// How many of the newest events keep their rendering, for the watchers that share it.
const RENDERINGS_MAX: usize = 64;

/// A ring of the last events, in the order of their indexes.
#[derive(Clone)]
pub(crate) struct History {
    events: VecDeque<Arc<Event>>,
    /// The slot of the oldest event in the ring that snapshots show.
    front: usize,
    capacity: usize,
}

impl History {
    pub(crate) fn new(capacity: usize) -> History {
        History { events: VecDeque::new(), front: 0, capacity: capacity.max(1) }
    }

    /// A ring with these events, with the oldest in slot `front`. If there are too many, the oldest are dropped.
    pub(crate) fn with_events(mut events: VecDeque<Arc<Event>>, front: usize, capacity: usize) -> History {
        let capacity = capacity.max(1);
        events.drain(..events.len().saturating_sub(capacity));
        History { events, front: front % capacity, capacity }
    }

    /// Adds the newest event and drops the oldest if there is no room.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        if self.events.len() == self.capacity {
            self.events.pop_front();
            self.front = (self.front + 1) % self.capacity;
        }
        self.events.push_back(event);
        if let Some(old) = self.events.len().checked_sub(RENDERINGS_MAX + 1) {
            self.events[old].forget_rendering();
        }
    }

    /// The index of the oldest event, 0 if there is none.
    pub(crate) fn start_index(&self) -> u64 {
        self.events.front().map_or(0, |event| event.node.meta.modified)
    }

    /// The index of the newest event, 0 if there is none.
    pub(crate) fn last_index(&self) -> u64 {
        self.events.back().map_or(0, |event| event.node.meta.modified)
    }

    /// The first index from which on all events are known, for a store that has reached `index`.
    pub(crate) fn reaches_back_to(&self, index: u64) -> u64 {
        let indexes = self.events.iter().rev().map(|event| event.node.meta.modified);
        // Counted from the end, which must be the store's index: the history of another writer may have gaps.
        index + 1
            - indexes.zip((1..=index).rev()).take_while(|(known, wanted)| known == wanted).count() as u64
    }

    /// The events after an index.
    pub(crate) fn after(&self, index: u64) -> impl Iterator<Item = &Arc<Event>> {
        let from = self.events.partition_point(|event| event.node.meta.modified <= index);
        self.events.range(from..)
    }

    /// The number of slots.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The slot of the oldest event.
    pub(crate) fn front(&self) -> usize {
        self.front
    }

    /// Their number.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The event in a slot of the ring.
    pub(crate) fn slot(&self, slot: usize) -> Option<&Arc<Event>> {
        self.events.get((slot + self.capacity - self.front) % self.capacity)
    }

    /// The first event from `since` on that concerns a watch, in a store that has reached `index`.
    ///
    /// # Errors
    /// 401 when `since` is older than the oldest event; the caller gives the error its index.
    pub(crate) fn first(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
        index: u64,
    ) -> Result<Option<(usize, Arc<Event>)>, ApiError> {
        // A store without a history has no past events.
        let start = if self.events.is_empty() { index + 1 } else { self.start_index() };
        if since < start {
            let cause = format!("the requested history has been cleared [{start}/{since}]");
            return Err(ApiError::new(Code::EventIndexCleared, cause, 0));
        }
        let from = self.events.partition_point(|event| event.node.meta.modified < since);
        let mut events = self.events.range(from..).enumerate();
        let found = events.find(|(_, event)| concerns(event, path, recursive));
        Ok(found.map(|(at, event)| (from + at, Arc::clone(event))))
    }

    /// The events that a stream would have received after a given event.
    pub(crate) fn rest<'a>(
        &'a self,
        after: usize,
        path: &'a [u8],
        recursive: bool,
    ) -> impl Iterator<Item = Arc<Event>> + use<'a> {
        let later = self.events.range((after + 1).min(self.events.len())..);
        later.filter(move |event| would_notify(event, path, recursive)).map(Arc::clone)
    }
}

/// Whether a removal took a directory with it.
pub(crate) fn removed_dir(event: &Event) -> bool {
    matches!(event.action, Action::Delete | Action::Expire)
        && event.prev.as_ref().is_some_and(|prev| prev.is_dir())
}

/// Whether a search of the history finds an event for a watch. As in the original, it finds hidden nodes, and finds
/// the removal of a directory for any path with its path as a prefix.
fn concerns(event: &Event, path: &[u8], recursive: bool) -> bool {
    !event.refresh
        && (*event.key == *path
            || recursive && is_below(path, &event.key)
            || removed_dir(event) && path.starts_with(&event.key))
}

/// Whether a watcher at the time of the event would have received it.
fn would_notify(event: &Event, path: &[u8], recursive: bool) -> bool {
    !event.refresh
        && (*event.key == *path
            || recursive && is_below(path, &event.key) && !is_hidden_below(path, &event.key)
            || removed_dir(event) && is_below(&event.key, path))
}

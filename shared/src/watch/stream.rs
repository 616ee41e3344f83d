//! A stream of requests and responses, as the server holds it.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::MutexGuard;

use super::hub::Shared;
use super::queue::{Capacity, Ended, Queue, QueueState};
use super::registry::{Options, Registry, State, StreamState, Watch, slot};
use super::response::{Content, Response};
use super::selection::{Refusal, Selection};
use crate::time::Moment;
use crate::v3::pb::etcdserverpb::WatchCreateRequest;
use crate::v3::pb::etcdserverpb::watch_create_request::FilterType;

/// The parameters of a new watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Create {
    /// The first revision of interest, 0 for what comes.
    pub start_revision: i64,
    /// The id that the client chose, 0 for the next free one.
    pub watch_id: i64,
    /// Whether each event comes with the version before it.
    pub prev_kv: bool,
    /// Whether changes of keys are left out.
    pub no_put: bool,
    /// Whether removals are left out.
    pub no_delete: bool,
    /// Whether long responses may come in parts.
    pub fragment: bool,
    /// Whether an idle watch gets notices of progress.
    pub progress_notify: bool,
}

impl From<&WatchCreateRequest> for Create {
    fn from(request: &WatchCreateRequest) -> Create {
        let has = |filter: FilterType| request.filters.contains(&i32::from(filter));
        Create {
            start_revision: request.start_revision,
            watch_id: request.watch_id,
            prev_kv: request.prev_kv,
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
            fragment: request.fragment,
            progress_notify: request.progress_notify,
        }
    }
}

/// A stream. Its watches end when it is dropped.
///
/// Read a request only when [`poll_room`](WatchStream::poll_room) is ready, so that the answers to a client that does
/// not read them are bounded. Each call wakes the reader of [`poll_next`](WatchStream::poll_next).
#[derive(Debug)]
pub struct WatchStream {
    hub: Arc<Shared>,
    queue: Arc<Queue>,
    slot: u32,
}

impl StreamState {
    pub(super) fn new(queue: Arc<Queue>, requires_leader: bool) -> StreamState {
        StreamState {
            queue,
            ids: std::collections::BTreeMap::new(),
            next_id: 0,
            blocked: Vec::new(),
            unsynced: 0,
            notified_watches: 0,
            next_notice: Moment::default(),
            progress_requested: false,
            awaited: None,
            requires_leader,
        }
    }

    /// The id of a new watch.
    fn choose_id(&mut self, chosen: i64) -> Result<i64, Refusal> {
        if chosen != 0 {
            return if self.ids.contains_key(&chosen) { Err(Refusal::DuplicateId) } else { Ok(chosen) };
        }
        while self.ids.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }
}

impl Registry {
    fn create(
        &mut self,
        stream: u32,
        selection: Result<Selection, Refusal>,
        create: &Create,
    ) -> Result<u32, Refusal> {
        let selection = selection?;
        if create.start_revision < 0 {
            return Err(Refusal::NegativeRevision);
        }
        let revision = self.revision;
        let id = self.stream_mut(stream).choose_id(create.watch_id)?;
        let target = self.target(selection);
        let next = if create.start_revision == 0 { revision + 1 } else { create.start_revision };
        let state = if next > revision { State::Synced } else { State::Behind };
        let options = Options {
            no_put: create.no_put,
            no_delete: create.no_delete,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
        };
        self.serial = self.serial.wrapping_add(1);
        let watches = &mut self.targets[target as usize].watches;
        let watch = Watch {
            id,
            next,
            stream,
            target,
            position: slot(watches.len()),
            serial: self.serial,
            options,
            state,
            active: false,
        };
        let created = slot(self.watches.insert(watch));
        watches.push(created);
        if state == State::Behind {
            self.behind.insert((next, created));
        }
        let state_of_stream = self.stream_mut(stream);
        state_of_stream.ids.insert(id, created);
        state_of_stream.unsynced += u32::from(state == State::Behind);
        Ok(created)
    }

    /// Ends the watches of a stream that ended itself, until it is dropped.
    pub(super) fn end_watches(&mut self, stream: u32) {
        let watches: Vec<u32> = self.streams[stream as usize].ids.values().copied().collect();
        for slot in watches {
            self.remove(slot);
        }
    }
}

impl WatchStream {
    pub(super) fn new(hub: Arc<Shared>, queue: Arc<Queue>, slot: u32) -> WatchStream {
        WatchStream { hub, queue, slot }
    }

    /// Changes the registry, unless the stream ended, and wakes after its lock is released.
    fn change<T>(&self, change: impl FnOnce(&mut Registry, &mut Vec<Waker>) -> T) -> Option<T> {
        let mut wakers = Vec::new();
        let changed = {
            let mut registry = self.hub.registry.lock();
            // Under the lock: a stream is ended under it, too.
            let ended = self.queue.0.lock().ended.is_some();
            if ended { None } else { Some(change(&mut registry, &mut wakers)) }
        };
        wakers.into_iter().for_each(Waker::wake);
        changed
    }

    /// Creates a watch of these keys, see [`Selection::new`]. The response is queued before all its events: `created`,
    /// or the refusal. Returns the id, `None` if it was refused or the stream ended.
    pub fn create(&self, key: &[u8], range_end: &[u8], create: &Create, now: Moment) -> Option<i64> {
        let selection = Selection::new(key, range_end);
        self.change(|registry, wakers| {
            let created = registry.create(self.slot, selection, create);
            let revision = registry.revision;
            match created {
                Err(refusal) => {
                    self.queue.push_answer(Response::refused(revision, &refusal.to_string()), wakers);
                    None
                }
                Ok(created) => {
                    let watch = registry.watch(created);
                    let (id, behind) = (watch.id, watch.state == State::Behind);
                    self.queue.push_answer(Response::new(id, revision, Content::Created), wakers);
                    if behind {
                        self.hub.add_behind(wakers);
                    }
                    if create.progress_notify {
                        let stream = registry.stream_mut(self.slot);
                        stream.notified_watches += 1;
                        if stream.notified_watches == 1 {
                            registry.schedule_notices(self.slot, now, &self.hub.settings);
                        }
                    }
                    Some(id)
                }
            }
        })
        .flatten()
    }

    /// Refuses a watch that the client may not have.
    pub fn refuse(&self, reason: &str) {
        self.change(|registry, wakers| {
            self.queue.push_answer(Response::refused(registry.revision, reason), wakers);
        });
    }

    /// Ends a watch at the request of its client. An unknown id is ignored. Returns whether it existed.
    pub fn cancel(&self, watch_id: i64) -> bool {
        self.cancel_because(watch_id, "")
    }

    /// Ends a watch for this reason. Events that were queued before are still delivered. Returns whether it existed.
    pub fn cancel_because(&self, watch_id: i64, reason: &str) -> bool {
        self.change(|registry, wakers| {
            let Some(slot) = registry.stream_mut(self.slot).ids.get(&watch_id).copied() else { return false };
            registry.remove(slot);
            self.queue.push_answer(Response::canceled(watch_id, registry.revision, reason), wakers);
            registry.settle_progress(self.slot, wakers);
            true
        })
        .unwrap_or(false)
    }

    /// The watches with their keys, for a check of what the client may still see.
    pub fn watches(&self) -> Vec<(i64, Selection)> {
        self.change(|registry, _| {
            let stream = &registry.streams[self.slot as usize];
            let selection =
                |slot: &u32| registry.targets[registry.watch(*slot).target as usize].selection.clone();
            stream.ids.iter().map(|(id, slot)| (*id, selection(slot))).collect()
        })
        .unwrap_or_default()
    }

    /// Asks for the progress of the stream. It is answered as soon as all its watches have everything; several requests
    /// before that have one answer.
    pub fn request_progress(&self) {
        self.change(|registry, wakers| {
            registry.stream_mut(self.slot).progress_requested = true;
            registry.settle_progress(self.slot, wakers);
        });
    }

    /// The next response.
    ///
    /// # Errors
    /// The stream [`Ended`]; nothing comes after that.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Result<Response, Ended>> {
        let state = self.queue.0.lock();
        let mut state = match self.pop(state) {
            Ok(response) => return Poll::Ready(Ok(response)),
            Err(empty) => empty,
        };
        if let Some(ended) = state.ended {
            return Poll::Ready(Err(ended));
        }
        match &mut state.reader {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// A response that is already queued.
    pub fn try_next(&self) -> Option<Response> {
        let state = self.queue.0.lock();
        self.pop(state).ok()
    }

    /// Takes the first response, and tells those who waited for its place. An empty queue stays locked.
    fn pop<'a>(&self, mut state: MutexGuard<'a, QueueState>) -> Result<Response, MutexGuard<'a, QueueState>> {
        let Some((response, resume)) = state.pop(self.capacity()) else { return Err(state) };
        let room = if self.has_room(state.responses.len()) { state.room.take() } else { None };
        drop(state);
        room.into_iter().for_each(Waker::wake);
        if resume {
            self.hub.add_roomy(self.slot);
        }
        Ok(response)
    }

    /// Ready when the next request may be read, or the stream ended.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.queue.0.lock();
        if state.ended.is_some() || self.has_room(state.responses.len()) {
            return Poll::Ready(());
        }
        state.room = Some(context.waker().clone());
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.queue.0.lock().responses.len()
    }

    fn has_room(&self, responses: usize) -> bool {
        responses < self.hub.settings.queue_responses_max
    }

    fn capacity(&self) -> Capacity {
        let settings = &self.hub.settings;
        Capacity { responses: settings.queue_responses_max, bytes: settings.queue_bytes_max }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.hub.registry.lock().remove_stream(self.slot);
    }
}

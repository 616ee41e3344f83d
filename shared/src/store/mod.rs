//! The v2 store: a tree of keys and directories, its expirations, its history and its watchers.
//!
//! Pure: it knows no clock (`now` is an argument), no disk and no consensus. Of equal requests in equal
//! order every member makes an equal store.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::{ApiError, Code};
use crate::event::Event;
use crate::pb::Request;
use crate::time::UnixNanos;

pub(crate) mod children;
pub(crate) mod node;

/// How many events the history keeps unless told otherwise.
pub const HISTORY_LENGTH_DEFAULT: usize = 1000;

/// How many events wait for a watcher that does not read them; then its watch ends.
pub const WATCHER_QUEUE_MAX: usize = 100;

/// The v2 store.
pub struct Store {
    stats: Stats,
}

/// What a write says about the time at which the node goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expiry {
    /// When; `None` for never.
    pub at: Option<UnixNanos>,
    /// Keep the value, move the expiration only, and tell no watcher.
    pub refresh: bool,
}

impl Store {
    /// An empty store: `/`, `/0` and `/1` at index 0. The history keeps `history_length` events.
    pub fn new(history_length: usize) -> Store {
        let _ = history_length;
        Store { stats: Stats::default() }
    }

    /// The number of changes so far, `X-Etcd-Index`.
    pub fn index(&self) -> u64 {
        0
    }

    /// Reads a node; of a directory its children, or with `recursive` all below it.
    ///
    /// Nothing is copied and children are always in the order of their names, so `sorted` makes no difference.
    ///
    /// # Errors
    /// 100 or 104.
    pub fn get(&self, path: &[u8], recursive: bool, sorted: bool) -> Result<Event, ApiError> {
        let _ = (recursive, sorted);
        Err(ApiError::new(Code::KeyNotFound, path, 0))
    }

    /// Carries out a request of the log.
    ///
    /// # Errors
    /// What the request's verb answers.
    pub fn apply(&mut self, request: &Request, now: UnixNanos) -> Result<Event, ApiError> {
        let _ = now;
        Err(ApiError::new(Code::KeyNotFound, &*request.path, 0))
    }

    /// As [`apply`](Store::apply), but the watchers that got an event are not woken: the caller wakes them
    /// by [`take_wakeups`](Store::take_wakeups) once it has let go of its locks.
    ///
    /// # Errors
    /// What the request's verb answers.
    pub fn apply_quietly(&mut self, request: &Request, now: UnixNanos) -> Result<Event, ApiError> {
        self.apply(request, now)
    }

    /// The watchers to wake since the last call.
    pub fn take_wakeups(&mut self) -> Wakeups {
        Wakeups(Vec::new())
    }

    /// Makes a node that must not exist yet, and the directories above it.
    ///
    /// With `unique` the node gets a name of 20 digits, the next index, below `path`.
    ///
    /// # Errors
    /// 104, 105 or 107.
    pub fn create(
        &mut self,
        path: &[u8],
        dir: bool,
        value: &[u8],
        unique: bool,
        expiry: Expiry,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let _ = (dir, value, unique, expiry, now);
        Err(ApiError::new(Code::KeyNotFound, path, 0))
    }

    /// Makes a node or replaces a key, and makes the directories above it.
    ///
    /// # Errors
    /// 102, 104 or 107; 100 for a refresh of what is not there.
    pub fn set(
        &mut self,
        path: &[u8],
        dir: bool,
        value: &[u8],
        expiry: Expiry,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let _ = (dir, value, expiry, now);
        Err(ApiError::new(Code::KeyNotFound, path, 0))
    }

    /// Changes the value and the expiration of a key, or the expiration of a directory.
    ///
    /// # Errors
    /// 100, 102, 104 or 107.
    pub fn update(
        &mut self,
        path: &[u8],
        value: &[u8],
        expiry: Expiry,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let _ = (value, expiry, now);
        Err(ApiError::new(Code::KeyNotFound, path, 0))
    }

    /// As [`update`](Store::update), of a key that has the wanted value (unless empty) and index (unless 0).
    ///
    /// # Errors
    /// 100, 101, 102, 104 or 107.
    pub fn compare_and_swap(
        &mut self,
        path: &[u8],
        prev_value: &[u8],
        prev_index: u64,
        value: &[u8],
        expiry: Expiry,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let _ = (prev_value, prev_index, value, expiry, now);
        Err(ApiError::new(Code::KeyNotFound, path, 0))
    }

    /// Removes a key; with `dir` also an empty directory, with `recursive` any directory.
    ///
    /// # Errors
    /// 100, 102, 104, 107 or 108.
    pub fn delete(
        &mut self,
        path: &[u8],
        dir: bool,
        recursive: bool,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let _ = (dir, recursive, now);
        Err(ApiError::new(Code::KeyNotFound, path, 0))
    }

    /// Removes a key that has the wanted value (unless empty) and index (unless 0).
    ///
    /// # Errors
    /// 100, 101, 102 or 104.
    pub fn compare_and_delete(
        &mut self,
        path: &[u8],
        prev_value: &[u8],
        prev_index: u64,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let _ = (prev_value, prev_index, now);
        Err(ApiError::new(Code::KeyNotFound, path, 0))
    }

    /// Removes all nodes that expire at `cutoff` or before, earliest first; returns how many.
    pub fn delete_expired(&mut self, cutoff: UnixNanos, now: UnixNanos) -> usize {
        let _ = (cutoff, now);
        0
    }

    /// Whether any node has an expiration.
    pub fn has_expiring(&self) -> bool {
        false
    }

    /// Watches a node, or with `recursive` all below it too: for the first event, or with `stream` for all.
    ///
    /// `since` is the first index of interest, 0 for the next event; a past one is served from the history.
    ///
    /// # Errors
    /// 401 when the history does not reach back to `since`.
    pub fn watch(&self, path: &[u8], recursive: bool, stream: bool, since: u64) -> Result<Watcher, ApiError> {
        let _ = (recursive, stream, since);
        Err(ApiError::new(Code::EventIndexCleared, path, 0))
    }

    /// How many watchers wait for events.
    pub fn watchers(&self) -> u64 {
        0
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The store as it is now, for a snapshot: shares all nodes, later writes do not touch it.
    pub fn image(&self) -> Image {
        Image(())
    }

    /// The store that a snapshot's body holds, written by us or by Go.
    ///
    /// # Errors
    /// Where the text is no snapshot, and why.
    pub fn recover(json: &[u8], history_length: usize) -> Result<Store, RecoverError> {
        let _ = json;
        Ok(Store::new(history_length))
    }

    /// Becomes what a snapshot's body holds, but keeps its watchers: they go on with the next event.
    ///
    /// # Errors
    /// As [`recover`](Store::recover); then nothing has changed.
    pub fn restore(&mut self, json: &[u8]) -> Result<(), RecoverError> {
        let _ = json;
        Ok(())
    }
}

/// Watchers to wake.
#[must_use = "watchers sleep until they are woken"]
pub struct Wakeups(Vec<std::task::Waker>);

impl Wakeups {
    /// Wakes them.
    pub fn wake(self) {
        self.0.into_iter().for_each(std::task::Waker::wake);
    }
}

/// A watch. It ends when it is dropped.
pub struct Watcher {
    start_index: u64,
}

impl Watcher {
    /// The store's index when the watch began.
    pub fn start_index(&self) -> u64 {
        self.start_index
    }

    /// The next event; `None` when there will be no more: after the first unless it is a stream, or when
    /// the reader was [`WATCHER_QUEUE_MAX`] events behind.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Arc<Event>>> {
        let _ = context;
        Poll::Ready(None)
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        None
    }
}

/// A store that does not change any more.
pub struct Image(());

impl Image {
    /// Writes the body of a snapshot, in pieces, as Go's `json.Marshal` writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let () = self.0;
        out.flush()
    }

    /// The store's index of this image.
    pub fn index(&self) -> u64 {
        0
    }
}

/// Why a text is no snapshot of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} of the store's JSON: {problem}")]
pub struct RecoverError {
    /// Where.
    pub offset: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// Counters of what was asked, as `/v2/stats/store` shows them.
#[derive(Debug, Default)]
pub struct Stats {}

impl Stats {
    /// Appends their JSON, without a final newline.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{}");
    }
}

//! The v2 store: a tree of keys and directories, its expirations, its history and its watchers.
//!
//! Pure: it uses no clock (`now` is an argument), no disk and no consensus. From equal requests in equal order every
//! member makes an equal store.
//!
//! **Invariants.** Nodes are shared between the tree, images, reads and events, and a shared node never
//! changes. The cost of an operation does not grow with the number of keys, except for a recovery and for its answer.
//! No function recurses along a path, for a client chooses how deep that is.

use std::sync::Arc;
use std::task::Waker;

use crate::error::ApiError;
use children::Garbage;
use history::History;
use path::clean;
use stats::Counters;
use tree::Tree;
use ttl::Expirations;
use watch::{Hub, Subscription};

use crate::time::UnixNanos;

mod apply;
pub(crate) mod children;
pub mod fuzz;
mod history;
mod image;
mod legacy;
pub(crate) mod node;
mod path;
mod reader;
mod recover;
mod stats;
mod tree;
mod ttl;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

pub use apply::EXPIRATION_MIN;
pub use image::Image;
pub use legacy::NodeCounts;
pub use path::clean as clean_path;
pub use recover::RecoverError;
pub use recover::version_0_1::is_0_1 as is_state_of_0_1;
pub use stats::{Counter, Stats};
pub use walk::{Nodes, Walk, WalkedNode};
pub use watch::{WATCHER_QUEUE_MAX, Watcher};

/// How many events the history keeps unless told otherwise.
pub const HISTORY_LENGTH_DEFAULT: usize = 1000;

/// The value of `CurrentVersion` in snapshots.
const SNAPSHOT_VERSION: u64 = 2;

/// No store reaches this index; sums with it cannot overflow.
const INDEX_MAX: u64 = 1 << 62;

/// The v2 store.
///
/// Getters: [`index`](Store::index), [`get`](Store::get), [`stats`](Store::stats),
/// [`watchers`](Store::watchers), [`has_expiring`](Store::has_expiring), [`image`](Store::image).
/// Commands: [`apply`](Store::apply), and the verbs it chooses from. Events out: [`watch`](Store::watch).
pub struct Store {
    tree: Tree,
    /// The number of changes so far.
    index: u64,
    /// Exactly the nodes of the tree that have an expiration.
    expirations: Expirations,
    history: History,
    hub: Arc<Hub>,
    stats: Stats,
    /// Removed directories that are not freed yet.
    garbage: Garbage,
    /// Wakers of watchers that got an event and were not woken yet.
    wakers: Vec<Waker>,
    /// A buffer for new keys.
    scratch: Vec<u8>,
}

/// The expiration that a write sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expiry {
    /// When; `None` for never.
    pub at: Option<UnixNanos>,
    /// Keep the value, change the expiration only, and notify no watcher.
    pub refresh: bool,
}

impl Store {
    /// An empty store: `/`, `/0` and `/1` at index 0. The history keeps `history_length` events (at least 1).
    pub fn new(history_length: usize) -> Store {
        Store {
            tree: Tree::new(&[b"0", b"1"]),
            index: 0,
            expirations: Expirations::default(),
            history: History::new(history_length),
            hub: Arc::default(),
            stats: Stats::default(),
            garbage: Garbage::default(),
            wakers: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The store that a snapshot's body holds, written by us or by Go. The history keeps `history_length`
    /// events (at least 1); of the snapshot's, the newest.
    ///
    /// # Errors
    /// If the text is not a snapshot, with the position and the reason.
    pub fn recover(json: &[u8], history_length: usize) -> Result<Store, RecoverError> {
        let store = recover::recover(json, history_length)?;
        match store.index > INDEX_MAX {
            true => Err(RecoverError { offset: 0, problem: "a CurrentIndex that no store comes to" }),
            false => Ok(store),
        }
    }

    /// Replaces the state with that of a snapshot's body, but keeps the watchers, see [`adopt`](Store::adopt).
    ///
    /// # Errors
    /// As [`recover`](Store::recover); then nothing has changed.
    pub fn restore(&mut self, json: &[u8]) -> Result<(), RecoverError> {
        self.adopt(Store::recover(json, self.history.capacity())?);
        Ok(())
    }

    /// Replaces the state with `new`, a later state of the same store, but keeps the watchers. They get the events in
    /// between from the history of `new`; a watch for which that does not reach back far enough
    /// [ends](Watcher::has_gap). Returns the number of ended watches. [`take_wakeups`](Store::take_wakeups) has the
    /// watchers to wake. O(watchers + history).
    pub fn adopt(&mut self, new: Store) -> u64 {
        let ended = self.hub.catch_up(self.index, new.index, &new.history, &mut self.wakers);
        self.stats.set_counters(Counters::of(&new.stats));
        let old = std::mem::replace(&mut self.tree, new.tree);
        self.index = new.index;
        self.expirations = new.expirations;
        self.history = new.history;
        if let Some(mut root) = triomphe::Arc::into_unique(old.root) {
            self.garbage.add(std::mem::take(&mut root.children));
        }
        ended
    }

    /// How many events the history keeps.
    pub fn history_length(&self) -> usize {
        self.history.capacity()
    }

    /// The number of changes so far, `X-Etcd-Index`.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Whether any node has an expiration.
    pub fn has_expiring(&self) -> bool {
        !self.expirations.is_empty()
    }

    /// Whether any node has expired at `cutoff`.
    pub fn has_expired(&self, cutoff: UnixNanos) -> bool {
        self.expirations.first_until(cutoff).is_some()
    }

    /// How many watchers wait for events.
    pub fn watchers(&self) -> u64 {
        self.hub.count()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        self.stats.set_watchers(self.watchers());
        &self.stats
    }

    /// The watchers to wake since the last call: those that got an event of
    /// [`apply_quietly`](Store::apply_quietly) or of a verb that was called directly.
    pub fn take_wakeups(&mut self) -> Wakeups {
        Wakeups(std::mem::take(&mut self.wakers))
    }

    /// Wakes all watchers through [`take_wakeups`](Store::take_wakeups) without an event, because their rights may
    /// have changed. O(watchers).
    pub fn wake_watchers(&mut self) {
        self.hub.wake_all(&mut self.wakers);
    }

    /// Watches a node, or with `recursive` all below it too: for the first event, or with `stream` for all.
    ///
    /// `since` is the first index of interest, 0 for the next event. A past one is served from the history:
    /// the first event that concerns the watch, and to a stream all others after it and then what happens,
    /// without a gap. O(history) for a past `since`, else O(log watched paths).
    ///
    /// # Errors
    /// 401 when the history does not reach back to `since`.
    pub fn watch(&self, path: &[u8], recursive: bool, stream: bool, since: u64) -> Result<Watcher, ApiError> {
        self.stats.count_watch_request();
        let path = clean(path);
        let start_index = self.index;
        let since = if since == 0 { start_index + 1 } else { since };
        let first = self.history.first(&path, recursive, since, start_index);
        let mut backlog = std::collections::VecDeque::new();
        if let Some((at, event)) = first.map_err(|error| ApiError { index: start_index, ..error })? {
            if !stream {
                return Ok(Watcher::done(event, start_index));
            }
            backlog.push_back(event);
            backlog.extend(self.history.rest(at, &path, recursive));
        }
        Ok(self.hub.watch(Subscription { path: &path, recursive, stream, since, start_index, backlog }))
    }

    /// The present tree with an empty history, for counting. O(1).
    pub fn tree_image(&self) -> Image {
        Image {
            tree: self.tree.clone(),
            index: self.index,
            history: History::new(1),
            counters: Counters::of(&self.stats),
        }
    }

    /// How many events the history holds, and the index of the oldest; 0 if there is none.
    pub fn history_reach(&self) -> (usize, u64) {
        (self.history.len(), self.history.start_index())
    }

    /// The present store, for a snapshot: shares all nodes and is not changed by later writes. O(history).
    pub fn image(&self) -> Image {
        Image {
            tree: self.tree.clone(),
            index: self.index,
            history: self.history.clone(),
            counters: Counters::of(&self.stats),
        }
    }
}

/// Watchers to wake.
#[must_use = "watchers sleep until they are woken"]
pub struct Wakeups(Vec<Waker>);

impl Wakeups {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wakes them.
    pub fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

//! Applies requests to the store.

use std::sync::Arc;

use super::children::Children;
use super::node::{Child, Dir, Key, Meta};
use super::path::clean;
use super::stats::Counter;
use super::tree::FoundNode;
use super::{Expiry, Store};
use crate::error::{ApiError, Code};
use crate::event::{Action, Event, EventNode, NodeContent, ttl_seconds};
use crate::planted::{Bug, is_planted};
use crate::time::UnixNanos;
use crate::v2::{Request, Verb};

/// The directories that cannot be changed themselves.
const READ_ONLY: [&[u8]; 3] = [b"/", b"/0", b"/1"];

/// New nodes with an earlier expiration never expire: old clients sent such times for "never".
pub const EXPIRATION_MIN: UnixNanos = UnixNanos(946_684_800_000_000_000);

/// How many branches of removed directories a write frees, and how many a `SYNC`, which no client waits for.
const SWEEP_BRANCHES_PER_WRITE: usize = 2;
const SWEEP_BRANCHES_PER_SYNC: usize = 512;

/// The condition of a compare-and-swap or a compare-and-delete.
#[derive(Clone, Copy)]
struct Comparison<'a> {
    /// The value, unless empty.
    value: &'a [u8],
    /// The modified index, unless 0.
    index: u64,
}

impl Store {
    /// Carries out a request of the log and wakes the watchers that got an event.
    ///
    /// # Errors
    /// What the request's verb answers.
    pub fn apply(&mut self, request: &Request, now: UnixNanos) -> Result<Event, ApiError> {
        let result = self.apply_quietly(request, now);
        self.take_wakeups().wake();
        result
    }

    /// As [`apply`](Store::apply), but the watchers that got an event are not woken: the caller wakes them with
    /// [`take_wakeups`](Store::take_wakeups) after releasing its locks.
    ///
    /// # Errors
    /// What the request's verb answers.
    pub fn apply_quietly(&mut self, request: &Request, now: UnixNanos) -> Result<Event, ApiError> {
        let Request { path, val, dir, prev_value, prev_index, .. } = request;
        let expiry = Expiry {
            at: (request.expiration != 0).then_some(UnixNanos(request.expiration)),
            refresh: request.refresh == Some(true),
        };
        let compares = request.compares();
        match request.verb {
            Verb::Post => self.create(path, *dir, val, true, expiry, now),
            Verb::Put => match request.prev_exist {
                Some(false) => self.create(path, *dir, val, false, expiry, now),
                _ if compares => self.compare_and_swap(path, prev_value, *prev_index, val, expiry, now),
                Some(true) => self.update(path, val, expiry, now),
                None => self.set(path, *dir, val, expiry, now),
            },
            Verb::Delete if compares => self.compare_and_delete(path, prev_value, *prev_index, now),
            Verb::Delete => self.delete(path, *dir, request.recursive, now),
            Verb::QuorumGet => self.get(path, request.recursive, request.sorted),
            Verb::Sync => {
                let cutoff = if is_planted(Bug::OwnExpiry) { now } else { UnixNanos(request.time) };
                self.delete_expired(cutoff, now);
                self.garbage.sweep(SWEEP_BRANCHES_PER_SYNC);
                Ok(Event::nothing(self.index))
            }
        }
    }

    /// Reads a node; of a directory its children too, or with `recursive` all below it.
    ///
    /// O(depth of the path): nothing is copied. Children are always in the order of their names, so `sorted` makes no
    /// difference.
    ///
    /// # Errors
    /// 100 or 104.
    pub fn get(&self, path: &[u8], recursive: bool, sorted: bool) -> Result<Event, ApiError> {
        let _ = sorted;
        let path = clean(path);
        let found = self.tree.get(&path, self.index);
        self.stats.count_read(recursive, found.is_ok());
        let (meta, content) = match found? {
            FoundNode::Root(dir) | FoundNode::Child(Child::Dir(_, dir)) => {
                (dir.meta, NodeContent::Listing { dir: dir.clone(), recursive })
            }
            FoundNode::Child(Child::Key(_, key)) => (key.meta(), NodeContent::Key(key.clone())),
        };
        let node = EventNode { meta, ttl: 0, content };
        Ok(Event { index: self.index, ..Event::new(Action::Get, Arc::from(path), node, None) })
    }

    /// The value of a key, without counting it as a read; none if there is no key at `path`.
    pub fn peek(&self, path: &[u8]) -> Option<&[u8]> {
        match self.tree.get(&clean(path), self.index).ok()? {
            FoundNode::Child(Child::Key(_, key)) => Some(key.value()),
            FoundNode::Root(_) | FoundNode::Child(Child::Dir(..)) => None,
        }
    }

    /// Counts a plain read that a caller answered without the store, and whether it found something.
    pub fn count_read(&self, found: bool) {
        self.stats.count_read(false, found);
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
        let mut path = clean(path);
        if unique {
            let name = format!("/{:020}", self.index + 1);
            let root = path.len() == 1;
            let path = path.to_mut();
            path.truncate(if root { 0 } else { path.len() });
            path.extend_from_slice(name.as_bytes());
        }
        let content = if dir { NewNode::Dir } else { NewNode::Key(value) };
        let result = self.make_node(Action::Create, &path, content, expiry, now);
        if matches!(&result, Err(error) if error.code == Code::NotDir) {
            // The original counts this one twice.
            self.stats.count_write(Action::Create, Counter::SetFail);
        }
        self.count(Action::Create, &result, [Counter::CreateSuccess, Counter::CreateFail]);
        result
    }

    /// Makes a node or replaces a key, and makes the directories above it.
    ///
    /// # Errors
    /// 102, 104 or 107; 100 for a refresh of a missing node.
    pub fn set(
        &mut self,
        path: &[u8],
        dir: bool,
        value: &[u8],
        expiry: Expiry,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let content = match dir {
            true => NewNode::Dir,
            false if expiry.refresh => NewNode::SameKey,
            false => NewNode::Key(value),
        };
        let result = self.make_node(Action::Set, &clean(path), content, expiry, now);
        self.count(Action::Set, &result, [Counter::SetSuccess, Counter::SetFail]);
        result
    }

    /// Makes a node. A creation refuses an existing node, a set an existing directory.
    fn make_node(
        &mut self,
        action: Action,
        path: &[u8],
        new: NewNode<'_>,
        expiry: Expiry,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        self.check_writable(path)?;
        let index = self.index + 1;
        let mut path_end = self.tree.walk_to(path, self.index)?;
        let mut prev = None;
        if path_end.position.is_ok() {
            let child = path_end.existing(self.index)?;
            match child {
                _ if action == Action::Create => {
                    return Err(ApiError::new(Code::NodeExist, path, self.index));
                }
                Child::Dir(..) => return Err(ApiError::new(Code::NotFile, path, self.index)),
                Child::Key(..) => prev = Some(EventNode::of(child, now)),
            }
        } else if action == Action::Set && expiry.refresh {
            return Err(path_end.missing(self.index));
        }

        let expiration = expiry.at.filter(|at| *at >= EXPIRATION_MIN);
        let meta = Meta { created: index, modified: index, expiration };
        let scratch = &mut self.scratch;
        let mut content = NodeContent::Dir;
        path_end.put(index, |name| {
            let value = match new {
                NewNode::Dir => return Child::dir(Dir::new(name, meta, Children::default())),
                NewNode::Key(value) => value,
                NewNode::SameKey => match &prev {
                    Some(EventNode { content: NodeContent::Key(key), .. }) => key.value(),
                    _ => b"",
                },
            };
            let key = Key::new(name, value, meta, scratch);
            content = NodeContent::Key(key.clone());
            Child::key(key)
        });
        let node = EventNode { meta, ttl: ttl_seconds(expiration, now), content };
        Ok(self.record_change(action, path, node, prev, action == Action::Set && expiry.refresh))
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
        let result = self.change(Action::Update, &clean(path), None, value, expiry, now);
        self.count(Action::Update, &result, [Counter::UpdateSuccess, Counter::UpdateFail]);
        result
    }

    /// As [`update`](Store::update), if the key has the given value (unless empty) and index (unless 0).
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
        let comparison = Comparison { value: prev_value, index: prev_index };
        let result = self.change(Action::CompareAndSwap, &clean(path), Some(comparison), value, expiry, now);
        let counters = [Counter::CompareAndSwapSuccess, Counter::CompareAndSwapFail];
        self.count(Action::CompareAndSwap, &result, counters);
        result
    }

    /// Changes a node that must exist.
    fn change(
        &mut self,
        action: Action,
        path: &[u8],
        comparison: Option<Comparison<'_>>,
        value: &[u8],
        expiry: Expiry,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        self.check_writable(path)?;
        let index = self.index + 1;
        let mut path_end = self.tree.walk_to(path, self.index)?;
        let child = path_end.existing(self.index)?;
        let prev = EventNode::of(child, now);
        let meta = Meta { modified: index, expiration: expiry.at, ..prev.meta };
        let content = match child {
            Child::Dir(..) if comparison.is_some() || !value.is_empty() => {
                return Err(ApiError::new(Code::NotFile, path, self.index));
            }
            Child::Dir(_, dir) => {
                // As in the original, only the event shows the new modified index.
                triomphe::Arc::make_mut(dir).meta.expiration = expiry.at;
                NodeContent::Dir
            }
            Child::Key(_, key) => {
                if let Some(comparison) = comparison {
                    comparison.check(key, self.index)?;
                }
                let value = if expiry.refresh { key.value() } else { value };
                *key = Key::new(key.name(), value, meta, &mut self.scratch);
                NodeContent::Key(key.clone())
            }
        };
        let node = EventNode { meta, ttl: ttl_seconds(meta.expiration, now), content };
        Ok(self.record_change(action, path, node, Some(prev), expiry.refresh))
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
        let path = clean(path);
        let result = self.check_writable(&path).and_then(|()| {
            let check = |child: &Child, index| match child {
                Child::Dir(..) if !dir && !recursive => Err(ApiError::new(Code::NotFile, &*path, index)),
                Child::Dir(_, below) if !below.children.is_empty() && !recursive => {
                    Err(ApiError::new(Code::DirNotEmpty, &*path, index))
                }
                _ => Ok(()),
            };
            self.remove(Action::Delete, &path, check, now)
        });
        self.count(Action::Delete, &result, [Counter::DeleteSuccess, Counter::DeleteFail]);
        result
    }

    /// Removes a key if it has the given value (unless empty) and index (unless 0).
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
        let path = clean(path);
        let comparison = Comparison { value: prev_value, index: prev_index };
        let check = |child: &Child, index| match child {
            Child::Dir(..) => Err(ApiError::new(Code::NotFile, &*path, index)),
            Child::Key(_, key) => comparison.check(key, index),
        };
        let result = match &*path {
            // The root has no parent to be removed from.
            b"/" => Err(ApiError::new(Code::NotFile, &*path, self.index)),
            _ => self.remove(Action::CompareAndDelete, &path, check, now),
        };
        let counters = [Counter::CompareAndDeleteSuccess, Counter::CompareAndDeleteFail];
        self.count(Action::CompareAndDelete, &result, counters);
        result
    }

    /// Removes all nodes that expire at `cutoff` or before, earliest first; returns the number of events. Nodes below
    /// them are removed too, without an event.
    pub fn delete_expired(&mut self, cutoff: UnixNanos, now: UnixNanos) -> usize {
        let mut events = 0;
        while let Some(path) = self.expirations.first_until(cutoff) {
            let removed = self.remove(Action::Expire, &path, |_, _| Ok(()), now);
            assert!(removed.is_ok(), "a node with an expiration is in the tree");
            self.stats.count_expired();
            events += 1;
        }
        events
    }

    /// Removes a node that passes a check.
    fn remove(
        &mut self,
        action: Action,
        path: &[u8],
        check: impl FnOnce(&Child, u64) -> Result<(), ApiError>,
        now: UnixNanos,
    ) -> Result<Event, ApiError> {
        let mut path_end = self.tree.walk_to(path, self.index)?;
        check(path_end.existing(self.index)?, self.index)?;
        let Ok(position) = path_end.position else { return Err(path_end.missing(self.index)) };
        let child = path_end.dir.children.remove_at(&position);

        self.index += 1;
        let prev = EventNode::of(&child, now);
        let content = match child {
            Child::Dir(..) if action == Action::Delete => NodeContent::Dir,
            _ => NodeContent::Gone,
        };
        let meta = Meta { created: prev.meta.created, modified: self.index, expiration: None };
        let node = EventNode { meta, ttl: 0, content };
        let key: Arc<[u8]> = Arc::from(path);
        self.expirations.record(&key, Some(prev.meta), None);
        let below = |other: &[u8]| child.below(&other[path.len()..]);
        if let Child::Dir(..) = child {
            self.expirations.forget_below(path, |other| below(other).map(Child::meta));
        }
        let event = Arc::new(Event::new(action, key, node, Some(prev)));
        let existed = |watched: &[u8]| below(watched).is_some();
        self.hub.notify(&event, Some(&existed), &mut self.wakers);
        self.history.push(Arc::clone(&event));
        if let Child::Dir(_, dir) = child
            && let Some(mut dir) = triomphe::Arc::into_unique(dir)
        {
            self.garbage.add(std::mem::take(&mut dir.children));
        }
        self.garbage.sweep(SWEEP_BRANCHES_PER_WRITE);
        Ok(Event::clone(&event))
    }

    /// Records a change at the next index.
    fn record_change(
        &mut self,
        action: Action,
        path: &[u8],
        node: EventNode,
        prev: Option<EventNode>,
        refresh: bool,
    ) -> Event {
        self.index += 1;
        let path: Arc<[u8]> = Arc::from(path);
        self.expirations.record(&path, prev.as_ref().map(|prev| prev.meta), Some(node.meta));
        let event = Event { refresh, ..Event::new(action, path, node, prev) };
        let event = Arc::new(event);
        if !refresh {
            self.hub.notify(&event, None, &mut self.wakers);
        }
        self.history.push(Arc::clone(&event));
        self.garbage.sweep(SWEEP_BRANCHES_PER_WRITE);
        Event::clone(&event)
    }

    fn check_writable(&self, path: &[u8]) -> Result<(), ApiError> {
        if READ_ONLY.contains(&path) {
            return Err(ApiError::new(Code::RootReadOnly, "/", self.index));
        }
        Ok(())
    }

    fn count(&self, action: Action, result: &Result<Event, ApiError>, [success, fail]: [Counter; 2]) {
        // The original counts these refusals as successes.
        let as_success = |error: &ApiError| {
            matches!(
                (action, error.code),
                (Action::Update, Code::NotFile)
                    | (Action::Update | Action::Delete | Action::CompareAndSwap, Code::RootReadOnly)
                    | (Action::CompareAndDelete, Code::NotFile | Code::CompareFailed)
            )
        };
        let counter = if result.as_ref().err().is_none_or(as_success) { success } else { fail };
        self.stats.count_write(action, counter);
    }
}

/// The content of a new node.
#[derive(Clone, Copy)]
enum NewNode<'a> {
    Dir,
    Key(&'a [u8]),
    /// A key with the value it had.
    SameKey,
}

impl Comparison<'_> {
    /// # Errors
    /// 101 with the expected and the actual values.
    fn check(self, key: &Key, index: u64) -> Result<(), ApiError> {
        let meta = key.meta();
        let modified = if is_planted(Bug::CompareWrongIndex) { meta.created } else { meta.modified };
        let value_differs = !self.value.is_empty() && self.value != key.value();
        let index_differs = self.index != 0 && self.index != modified;
        if !value_differs && !index_differs {
            return Ok(());
        }
        let mut cause = Vec::new();
        if value_differs {
            for part in [&b"["[..], self.value, b" != ", key.value(), b"]"] {
                cause.extend_from_slice(part);
            }
        }
        if value_differs && index_differs {
            cause.push(b' ');
        }
        if index_differs {
            cause.extend_from_slice(format!("[{} != {modified}]", self.index).as_bytes());
        }
        Err(ApiError::new(Code::CompareFailed, cause, index))
    }
}

//! A place in a queue while its client waits: made or found, kept alive, won, or given up.
//!
//! What a request has written to its place is known by the expiration that it wrote, which no other request
//! writes: its *mark*. While the mark on a place is the request's own, nobody else has taken the place over, and
//! giving it up removes the place by comparing its modified index. Any request that shares a place writes its own
//! mark first, so a clean-up that comes late does nothing. This also finds a place whose making was answered by
//! nobody.

use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shared::error::{ApiError, Code};
use shared::event::Action;
use shared::store::Watcher;
use shared::time::UnixNanos;
use shared::v2;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::MemberHandle;
use super::lock::LockError;
use super::queue::{ANONYMOUS, LockEntry, LockPath, find_by_value, local_queue, quorum_queue};
use crate::backend::{Backend as _, SubmitError};

/// How long to wait before the cluster is asked again when it did not answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long the answer to a request that failed may wait until its place is given up.
const CLEANUP_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a place that is not there may still come to be, after nobody answered the write that makes it.
const LATE_CREATE_MAX: Duration = Duration::from_secs(30);

/// A request's place in the queue. Dropped before it is won, it is given up.
pub(super) struct QueuePosition<A: MemberHandle> {
    handle: A,
    lock: LockPath,
    /// [`ANONYMOUS`] where the client gave none.
    value: Vec<u8>,
    ttl_seconds: u64,
    /// The number in the queue and the name, once they are known.
    at: Option<(u64, Vec<u8>)>,
    marks: Option<OwnMarks>,
}

/// What a request may have left in the queue.
#[derive(Debug, Clone)]
struct OwnMarks {
    /// The mark that was answered last.
    confirmed: Option<UnixNanos>,
    /// The mark of a write that is not answered.
    pending: Option<UnixNanos>,
    /// Whether another request writes to the place too, or `pending` could have overwritten such a one.
    shared: bool,
}

/// What the queue looks like from a place.
enum PositionState {
    /// It is the first one.
    First,
    /// It is not in the queue.
    Gone,
    /// Another one is ahead of it: the end of both can be heard of.
    Behind { ahead: Watcher, own: Watcher },
}

/// What ended a wait.
enum WakeReason {
    /// The queue may look different.
    Change,
    /// The place was taken out by somebody's wish.
    Released,
    /// It is time to write again.
    Renew,
}

/// The write that gives a place `ttl_seconds` from now on, and changes nothing else. Its expiration is its mark.
pub(super) fn renewal<A: MemberHandle>(handle: &A, path: Bytes, ttl_seconds: u64) -> v2::Request {
    v2::Request {
        verb: v2::Verb::Put,
        path,
        prev_exist: Some(true),
        refresh: Some(true),
        expiration: new_mark(handle, ttl_seconds).0,
        ..v2::Request::default()
    }
}

/// An expiration so many seconds from now that this process has not given before.
fn new_mark<A: MemberHandle>(handle: &A, ttl_seconds: u64) -> UnixNanos {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let seconds = i64::try_from(ttl_seconds).unwrap_or(i64::MAX);
    let wanted = handle.member().clock().0.saturating_add(seconds.saturating_mul(1_000_000_000));
    // Of equal times every later one moves on by a nanosecond: the low digits count, above them nothing changes.
    let nanos = LAST.fetch_add(1, Ordering::Relaxed).rem_euclid(1_000);
    UnixNanos(wanted - wanted.rem_euclid(1_000) + nanos)
}

async fn next_action(watcher: &mut Watcher) -> Option<Action> {
    poll_fn(|cx| watcher.poll_next(cx)).await.map(|event| event.action)
}

impl<A: MemberHandle> QueuePosition<A> {
    /// No place yet.
    pub(super) fn new(handle: A, lock: LockPath, value: Vec<u8>, ttl_seconds: u64) -> QueuePosition<A> {
        let value = if value.is_empty() { ANONYMOUS.to_vec() } else { value };
        QueuePosition { handle, lock, value, ttl_seconds, at: None, marks: None }
    }

    /// Takes a place and waits until it is the first one.
    pub(super) async fn acquire(&mut self) -> Result<u64, LockError> {
        loop {
            if let Some(index) = self.join_queue().await? {
                return Ok(index);
            }
            if let Some(index) = self.wait_until_first().await? {
                return Ok(index);
            }
        }
    }

    /// Takes a place if it would be the first one.
    pub(super) async fn try_acquire(&mut self) -> Result<u64, LockError> {
        let queue = quorum_queue(&self.handle, &self.lock).await?;
        if queue.first().is_none_or(|first| self.is_value_of(first)) {
            if let Some(index) = self.join_queue().await? {
                return Ok(index);
            }
            if matches!(self.watch_queue()?, PositionState::First)
                && let Some(index) = self.confirm().await?
            {
                return Ok(index);
            }
        }
        Err(LockError::NotInTime(Duration::ZERO))
    }

    fn is_value_of(&self, entry: &LockEntry) -> bool {
        self.value != ANONYMOUS && entry.value == self.value
    }

    /// Finds the place that goes by the value, or makes one. An index if it holds the lock already.
    async fn join_queue(&mut self) -> Result<Option<u64>, LockError> {
        loop {
            self.at = None;
            self.marks = None;
            if self.value != ANONYMOUS
                && let Some(found) =
                    find_by_value(&quorum_queue(&self.handle, &self.lock).await?, &self.value)
            {
                match self.share_entry(found).await? {
                    ShareOutcome::Held(index) => return Ok(Some(index)),
                    ShareOutcome::Waiting => return Ok(None),
                    ShareOutcome::Gone => continue,
                }
            }
            self.create_entry().await?;
            // Two requests with one value may have made a place each; the later one goes.
            let queue = local_queue(&self.handle, &self.lock);
            let earlier = find_by_value(&queue, &self.value)
                .filter(|entry| self.at.as_ref().is_some_and(|(index, _)| entry.index < *index));
            if earlier.is_none() {
                return Ok(None);
            }
            self.give_up().await;
        }
    }

    /// Takes part in a place that another request has made.
    async fn share_entry(&mut self, found: &LockEntry) -> Result<ShareOutcome, LockError> {
        self.at = Some((found.index, found.name.clone()));
        let holds = |queue: &[LockEntry]| queue.first().is_some_and(|first| first.index == found.index);
        if holds(&local_queue(&self.handle, &self.lock)) {
            // Its owner is not told that it holds the lock by this request alone: nothing is ever given up here.
            let path = self.lock.child(&found.name);
            let request = renewal(&self.handle, path, self.ttl_seconds);
            return match self.handle.member().submit(request).await {
                Ok(_) => Ok(ShareOutcome::Held(found.index)),
                Err(SubmitError::Api(error)) if error.code == Code::KeyNotFound => Ok(ShareOutcome::Gone),
                Err(error) => Err(error.into()),
            };
        }
        self.marks = Some(OwnMarks { confirmed: None, pending: None, shared: true });
        Ok(if self.renew().await? { ShareOutcome::Waiting } else { ShareOutcome::Gone })
    }

    /// Makes a place at the end of the queue.
    async fn create_entry(&mut self) -> Result<(), LockError> {
        let mark = new_mark(&self.handle, self.ttl_seconds);
        // What a creation writes is the request's own, answered or not.
        self.marks = Some(OwnMarks { confirmed: Some(mark), pending: None, shared: false });
        let request = v2::Request {
            verb: v2::Verb::Post,
            path: self.lock.as_bytes().to_vec().into(),
            val: self.value.clone().into(),
            expiration: mark.0,
            ..v2::Request::default()
        };
        let event = self.handle.member().submit(request).await.inspect_err(|error| {
            if matches!(error, SubmitError::Api(_)) {
                self.marks = None;
            }
        })?;
        let name = event.node().name();
        let index = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        let Some(index) = index else {
            return Err(LockError::Api(ApiError::new(Code::RaftInternal, name, event.index)));
        };
        self.at = Some((index, name.to_vec()));
        Ok(())
    }

    /// Writes a new expiration. False if the place is not there any more.
    async fn renew(&mut self) -> Result<bool, LockError> {
        let Some((_, name)) = &self.at else { return Ok(false) };
        let request = renewal(&self.handle, self.lock.child(name), self.ttl_seconds);
        let mark = UnixNanos(request.expiration);
        if let Some(marks) = &mut self.marks {
            marks.pending = Some(mark);
        }
        match self.handle.member().submit(request).await {
            Ok(event) => {
                if let Some(marks) = &mut self.marks {
                    let before = event.prev().and_then(|prev| prev.expiration());
                    marks.shared |= before != marks.confirmed;
                    marks.confirmed = Some(mark);
                    marks.pending = None;
                }
                Ok(true)
            }
            Err(SubmitError::Api(error)) if error.code == Code::KeyNotFound => {
                self.marks = None;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The last write before the client is told: with it the place is the client's, not the request's.
    async fn confirm(&mut self) -> Result<Option<u64>, LockError> {
        if !self.renew().await? {
            return Ok(None);
        }
        self.marks = None;
        Ok(self.at.as_ref().map(|(index, _)| *index))
    }

    /// Waits at the place that was taken. `None` if it was lost.
    async fn wait_until_first(&mut self) -> Result<Option<u64>, LockError> {
        let pace = Duration::from_millis(self.ttl_seconds.saturating_mul(1000) / 3);
        let mut renewed = Instant::now();
        let mut expires = renewed + Duration::from_secs(self.ttl_seconds);
        let mut due = renewed + pace;
        loop {
            let view = self.watch_queue()?;
            let (mut ahead, mut own) = match view {
                PositionState::Gone => return Ok(None),
                PositionState::First => match self.confirm().await {
                    Err(LockError::Unavailable(_)) if Instant::now() < expires => {
                        sleep(RETRY_INTERVAL).await;
                        continue;
                    }
                    outcome => return outcome,
                },
                PositionState::Behind { ahead, own } => (ahead, own),
            };
            let reason = tokio::select! {
                _ = next_action(&mut ahead) => WakeReason::Change,
                action = next_action(&mut own) => match action {
                    Some(Action::Delete) => WakeReason::Released,
                    _ => WakeReason::Change,
                },
                () = sleep_until(due) => WakeReason::Renew,
            };
            match reason {
                WakeReason::Change => {}
                WakeReason::Released => {
                    self.marks = None;
                    return Err(LockError::Released);
                }
                WakeReason::Renew => {
                    renewed = Instant::now();
                    match self.renew().await {
                        Ok(true) => {
                            expires = renewed + Duration::from_secs(self.ttl_seconds);
                            due = renewed + pace;
                        }
                        Ok(false) => return Ok(None),
                        // As long as the place can still be there, nothing is lost.
                        Err(LockError::Unavailable(_)) if Instant::now() < expires => {
                            due = Instant::now() + RETRY_INTERVAL;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Looks at the queue and begins to listen, with nothing in between.
    fn watch_queue(&self) -> Result<PositionState, LockError> {
        let Some((index, name)) = &self.at else { return Ok(PositionState::Gone) };
        let store = self.handle.member().store();
        let Ok(event) = store.get(self.lock.as_bytes(), false, true) else { return Ok(PositionState::Gone) };
        let queue = super::queue::entries(&event);
        let Some(position) = queue.iter().position(|entry| entry.index == *index) else {
            return Ok(PositionState::Gone);
        };
        let Some(before) = position.checked_sub(1) else { return Ok(PositionState::First) };
        let watch = |name: &[u8]| store.watch(&self.lock.child(name), false, false, 0);
        let ahead = watch(&queue[before].name).map_err(LockError::Api)?;
        let own = watch(name).map_err(LockError::Api)?;
        Ok(PositionState::Behind { ahead, own })
    }

    /// Gives the place up, and waits a moment for that to be done.
    pub(super) async fn give_up(&mut self) {
        if let Some(cleanup) = self.take_cleanup() {
            // In a task of its own: it goes on when nobody waits for it any more.
            let _ = timeout(CLEANUP_WAIT_MAX, tokio::spawn(cleanup.run())).await;
        }
    }

    fn take_cleanup(&mut self) -> Option<Cleanup<A>> {
        let marks = self.marks.take()?;
        Some(Cleanup {
            handle: self.handle.clone(),
            lock: self.lock.clone(),
            value: self.value.clone(),
            index: self.at.take().map(|(index, _)| index),
            ttl_seconds: self.ttl_seconds,
            marks,
        })
    }
}

impl<A: MemberHandle> Drop for QueuePosition<A> {
    fn drop(&mut self) {
        if let Some(cleanup) = self.take_cleanup()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(cleanup.run());
        }
    }
}

/// What came of sharing a place.
enum ShareOutcome {
    /// It holds the lock.
    Held(u64),
    /// It is in the queue.
    Waiting,
    /// It was gone before.
    Gone,
}

/// Removes what a request has left in the queue.
pub(super) struct Cleanup<A> {
    handle: A,
    lock: LockPath,
    value: Vec<u8>,
    index: Option<u64>,
    ttl_seconds: u64,
    marks: OwnMarks,
}

impl<A: MemberHandle> Cleanup<A> {
    /// After a creation with this mark that was not answered.
    #[cfg(test)]
    pub(super) fn after_unanswered_create(
        handle: A,
        lock: LockPath,
        value: Vec<u8>,
        ttl_seconds: u64,
        mark: UnixNanos,
    ) -> Cleanup<A> {
        let marks = OwnMarks { confirmed: Some(mark), pending: None, shared: false };
        Cleanup { handle, lock, value, index: None, ttl_seconds, marks }
    }

    /// Tries until the place is gone, is another's, or has reached its time.
    pub(super) async fn run(self) {
        let lifetime = Duration::from_secs(self.ttl_seconds);
        let end = Instant::now() + lifetime;
        let late = Instant::now() + LATE_CREATE_MAX.min(lifetime);
        let mut may_be_shared = self.marks.shared && self.value != ANONYMOUS;
        while Instant::now() < end {
            let queue = local_queue(&self.handle, &self.lock);
            let Some(position) = queue.iter().position(|entry| self.is_own(entry)) else {
                if self.index.is_some() || Instant::now() > late {
                    return;
                }
                sleep(RETRY_INTERVAL).await;
                continue;
            };
            let entry = &queue[position];
            let unanswered = self.marks.pending.is_some() && entry.expiration == self.marks.pending;
            if may_be_shared || unanswered && self.value != ANONYMOUS {
                // Others who wait at this place write to it within a third of its life; then it is not ours.
                // A first place may have been won by one of them: it ends by itself, if nobody renews it.
                if position == 0 {
                    return;
                }
                may_be_shared = true;
                sleep(lifetime / 2).await;
                let now = local_queue(&self.handle, &self.lock);
                if now.first().is_none_or(|first| first.index == entry.index)
                    || !now.iter().any(|other| other.index == entry.index && other.modified == entry.modified)
                {
                    return;
                }
            }
            let request = v2::Request {
                verb: v2::Verb::Delete,
                path: self.lock.child(&entry.name),
                prev_index: entry.modified,
                ..v2::Request::default()
            };
            match self.handle.member().submit(request).await {
                Ok(_) => return,
                // It has changed, or the cluster was silent: look again whose it is.
                Err(_) => sleep(RETRY_INTERVAL).await,
            }
        }
    }

    fn is_own(&self, entry: &LockEntry) -> bool {
        entry.expiration.is_some()
            && entry.value == self.value
            && self.index.is_none_or(|index| index == entry.index)
            && (entry.expiration == self.marks.confirmed || entry.expiration == self.marks.pending)
    }
}

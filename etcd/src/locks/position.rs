//! The queue entry of one waiting request: created or found, kept alive, first in the queue, or given up.
//!
//! A request recognizes its own writes by their expiration time, its *mark*: no other request writes the same one.
//! While an entry carries the request's own mark, no other request has taken the entry over, and giving it up deletes
//! the entry by comparing its modified index. A request that shares an entry first writes its own mark, so a late
//! clean-up by another request does nothing. The mark also finds an entry whose creation got no answer.

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

/// The pause before a retry when the cluster gave no answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long the response to a failed request waits for the clean-up of its entry.
const CLEANUP_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long an entry may still appear after its creation got no answer.
const LATE_CREATE_MAX: Duration = Duration::from_secs(30);

/// A request's position in the queue. Its entry is given up on drop, unless the lock was acquired.
pub(super) struct QueuePosition<A: MemberHandle> {
    handle: A,
    lock: LockPath,
    /// [`ANONYMOUS`] if the client gave none.
    value: Vec<u8>,
    ttl_seconds: u64,
    /// The index and the name of the entry, once known.
    at: Option<(u64, Vec<u8>)>,
    marks: Option<OwnMarks>,
}

/// The marks that a request may have left in the queue.
#[derive(Debug, Clone)]
struct OwnMarks {
    /// The mark of the last write that succeeded.
    confirmed: Option<UnixNanos>,
    /// The mark of a write without an answer.
    pending: Option<UnixNanos>,
    /// Whether another request also writes to the entry, or `pending` may have overwritten its mark.
    shared: bool,
}

/// The state of the queue, as seen from the request's entry.
enum PositionState {
    /// The entry is first.
    First,
    /// The entry is not in the queue.
    Gone,
    /// Another entry is ahead. The watchers report changes of that entry and of the request's own.
    Behind { ahead: Watcher, own: Watcher },
}

/// Why a wait ended.
enum WakeReason {
    /// The queue may have changed.
    Change,
    /// A client released the entry.
    Released,
    /// It is time to renew the entry.
    Renew,
}

/// The write that lets an entry expire `ttl_seconds` from now, and changes nothing else. Its expiration is its mark.
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

/// An expiration time `ttl_seconds` from now that this process has not used before.
fn new_mark<A: MemberHandle>(handle: &A, ttl_seconds: u64) -> UnixNanos {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let seconds = i64::try_from(ttl_seconds).unwrap_or(i64::MAX);
    let wanted = handle.member().clock().0.saturating_add(seconds.saturating_mul(1_000_000_000));
    // The last three digits count up, so that equal times differ by nanoseconds; the higher digits stay.
    let nanos = LAST.fetch_add(1, Ordering::Relaxed).rem_euclid(1_000);
    UnixNanos(wanted - wanted.rem_euclid(1_000) + nanos)
}

async fn next_action(watcher: &mut Watcher) -> Option<Action> {
    poll_fn(|cx| watcher.poll_next(cx)).await.map(|event| event.action)
}

impl<A: MemberHandle> QueuePosition<A> {
    /// A request without an entry yet.
    pub(super) fn new(handle: A, lock: LockPath, value: Vec<u8>, ttl_seconds: u64) -> QueuePosition<A> {
        let value = if value.is_empty() { ANONYMOUS.to_vec() } else { value };
        QueuePosition { handle, lock, value, ttl_seconds, at: None, marks: None }
    }

    /// Joins the queue and waits until the entry is first. Returns its index.
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

    /// Acquires the lock without waiting; fails if another entry is ahead.
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

    /// Finds the entry with the request's value, or creates one. Returns its index if it already holds the lock.
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
            // Two requests with the same value may each have created an entry; the later entry is given up.
            let queue = local_queue(&self.handle, &self.lock);
            let earlier = find_by_value(&queue, &self.value)
                .filter(|entry| self.at.as_ref().is_some_and(|(index, _)| entry.index < *index));
            if earlier.is_none() {
                return Ok(None);
            }
            self.give_up().await;
        }
    }

    /// Shares an entry that another request has created.
    async fn share_entry(&mut self, found: &LockEntry) -> Result<ShareOutcome, LockError> {
        self.at = Some((found.index, found.name.clone()));
        let holds = |queue: &[LockEntry]| queue.first().is_some_and(|first| first.index == found.index);
        if holds(&local_queue(&self.handle, &self.lock)) {
            // The client may already know that it holds the lock, so this request must not give the entry up.
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

    /// Creates an entry at the end of the queue.
    async fn create_entry(&mut self) -> Result<(), LockError> {
        let mark = new_mark(&self.handle, self.ttl_seconds);
        // A created entry is the request's own, with or without an answer.
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

    /// Writes a new expiration. False if the entry no longer exists.
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

    /// The last write before the success is returned: from then on the entry belongs to the client, not to the request.
    async fn confirm(&mut self) -> Result<Option<u64>, LockError> {
        if !self.renew().await? {
            return Ok(None);
        }
        self.marks = None;
        Ok(self.at.as_ref().map(|(index, _)| *index))
    }

    /// Waits until the entry is first and returns its index. `None` if the entry was lost.
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
                        // Until its last expiration the entry may still exist: try again.
                        Err(LockError::Unavailable(_)) if Instant::now() < expires => {
                            due = Instant::now() + RETRY_INTERVAL;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Reads the queue and starts the watchers at the same store index, so no event is missed.
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

    /// Gives the entry up, and waits up to [`CLEANUP_WAIT_MAX`] for that.
    pub(super) async fn give_up(&mut self) {
        if let Some(cleanup) = self.take_cleanup() {
            // The task continues after the timeout.
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

/// The result of sharing an entry.
enum ShareOutcome {
    /// The entry holds the lock; its index.
    Held(u64),
    /// The entry waits in the queue.
    Waiting,
    /// The entry no longer exists.
    Gone,
}

/// Deletes the entry that a request has left in the queue.
pub(super) struct Cleanup<A> {
    handle: A,
    lock: LockPath,
    value: Vec<u8>,
    index: Option<u64>,
    ttl_seconds: u64,
    marks: OwnMarks,
}

impl<A: MemberHandle> Cleanup<A> {
    /// The clean-up after a creation with this mark that got no answer.
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

    /// Retries until the entry is deleted, belongs to another request, or has expired.
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
                // Other requests that share this entry renew it within a third of its lifetime; then it is theirs.
                // If it is first, one of them may have acquired the lock: it expires by itself unless it is renewed.
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
                // The entry has changed, or the cluster gave no answer: check again whose it is.
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

//! The operations on a lock: acquire, renew, release, and read the holder.

use std::time::Duration;

use bytes::Bytes;
use shared::error::{ApiError, Code};
use shared::v2;
use tokio::time::timeout;

use super::MemberHandle;
use super::position::{QueuePosition, renewal};
use super::queue::{LockEntry, LockPath, find_by_value, quorum_queue};
use crate::backend::{Backend as _, SubmitError, Unavailable};

/// The longest time to live, in seconds: a year. It bounds how long a forgotten lock stays.
pub(crate) const TTL_SECONDS_MAX: u64 = 366 * 24 * 3600;

/// A request to acquire a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcquireRequest {
    /// Identifies the queue entry: a second request with the same value shares the entry. Empty: no identity.
    pub(crate) value: Vec<u8>,
    /// How long the entry lasts without renewal, from 1 to [`TTL_SECONDS_MAX`].
    pub(crate) ttl_seconds: u64,
    /// How long to wait; `None`: without limit, zero: not at all.
    pub(crate) wait_max: Option<Duration>,
}

/// Selects an entry of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntrySelector {
    /// The entry with this index, as the client wrote it.
    Index(Vec<u8>),
    /// The first entry with this value.
    Value(Vec<u8>),
    /// The entry with this index, which must have this value.
    Both(Vec<u8>, Vec<u8>),
}

/// Why an operation on a lock failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// No entry has this value.
    #[error("cannot find: {}", String::from_utf8_lossy(.0))]
    NoSuchValue(Vec<u8>),
    /// Other entries were ahead for longer than the client wanted to wait.
    #[error("failed to acquire lock: it was not free {}", within(.0))]
    NotInTime(Duration),
    /// Another request released the entry while its client waited.
    #[error("the request for the lock was released while it waited")]
    Released,
    /// The store refused the request.
    #[error("{}: {} ({}) [{}]", .0.code(), .0.message(), String::from_utf8_lossy(.0.client_cause()), .0.index)]
    Api(ApiError),
    /// The cluster gave no answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

fn within(time: &Duration) -> String {
    match time.as_secs() {
        0 => "at once".to_owned(),
        seconds => format!("within {seconds} s"),
    }
}

impl From<SubmitError> for LockError {
    fn from(error: SubmitError) -> LockError {
        match error {
            SubmitError::Api(error) => LockError::Api(error),
            SubmitError::Unavailable(why) => LockError::Unavailable(why),
        }
    }
}

/// Waits for a lock and returns its fencing index. From then on the client has `ttl_seconds` to renew it.
///
/// If the future is dropped earlier, the queue entry is given up.
pub(crate) async fn acquire<A: MemberHandle>(
    handle: A,
    lock: LockPath,
    request: AcquireRequest,
) -> Result<u64, LockError> {
    let wait_max = request.wait_max;
    let mut position = QueuePosition::new(handle, lock, request.value, request.ttl_seconds);
    let outcome = match wait_max {
        None => position.acquire().await,
        Some(Duration::ZERO) => position.try_acquire().await,
        Some(limit) => timeout(limit, position.acquire()).await.unwrap_or(Err(LockError::NotInTime(limit))),
    };
    if outcome.is_err() {
        // After a failure, no entry of the request may remain.
        position.give_up().await;
    }
    outcome
}

/// Resets the time to live of an entry, whether it holds the lock or waits.
pub(crate) async fn renew<A: MemberHandle>(
    handle: &A,
    lock: &LockPath,
    selector: &EntrySelector,
    ttl_seconds: u64,
) -> Result<(), LockError> {
    let entry = find(handle, lock, selector).await?;
    let prev_value = match selector {
        EntrySelector::Both(_, value) => value.clone().into(),
        _ => Bytes::new(),
    };
    if !prev_value.is_empty() && entry.value != prev_value {
        let cause = format!(
            "[{} != {}]",
            String::from_utf8_lossy(&prev_value),
            String::from_utf8_lossy(&entry.value)
        );
        return Err(LockError::Api(ApiError::new(Code::CompareFailed, cause, 0)));
    }
    handle.member().submit(renewal(handle, lock.child(&entry.name), ttl_seconds)).await?;
    Ok(())
}

/// Deletes an entry from the queue.
pub(crate) async fn release<A: MemberHandle>(
    handle: &A,
    lock: &LockPath,
    selector: &EntrySelector,
) -> Result<(), LockError> {
    let entry = find(handle, lock, selector).await?;
    let request =
        v2::Request { verb: v2::Verb::Delete, path: lock.child(&entry.name), ..v2::Request::default() };
    handle.member().submit(request).await?;
    Ok(())
}

/// The index and the value of the entry that holds the lock, by a quorum read.
pub(crate) async fn holder<A: MemberHandle>(
    handle: &A,
    lock: &LockPath,
) -> Result<Option<(u64, Vec<u8>)>, LockError> {
    let first = quorum_queue(handle, lock).await?.into_iter().next();
    Ok(first.map(|entry| (entry.index, entry.value)))
}

async fn find<A: MemberHandle>(
    handle: &A,
    lock: &LockPath,
    selector: &EntrySelector,
) -> Result<LockEntry, LockError> {
    let entries = quorum_queue(handle, lock).await?;
    match selector {
        EntrySelector::Value(value) => {
            find_by_value(&entries, value).cloned().ok_or_else(|| LockError::NoSuchValue(value.clone()))
        }
        EntrySelector::Index(text) | EntrySelector::Both(text, _) => {
            let index: Option<u64> = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            entries.into_iter().find(|entry| Some(entry.index) == index).ok_or_else(|| {
                let path = lock.child(text).to_vec();
                LockError::Api(ApiError::new(Code::KeyNotFound, path, handle.member().store().index()))
            })
        }
    }
}

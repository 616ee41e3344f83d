//! Writes one node to the cluster.

use std::time::Duration;

use shared::client::{Client, ClientError, GetOptions, SetOptions};
use shared::time::UnixNanos;
use tokio::time::sleep;

use super::ledger::Outcome;
use super::{ImportNode, NodeContent};
use crate::session::within;

/// The pauses between attempts while no member answers, some seconds in all: as long as an election or the restart of
/// a member may take.
const PAUSES_MS: [u64; 6] = [200, 500, 1000, 2000, 4000, 8000];

/// The API's error for a node that already exists.
const NODE_EXIST: u16 = 105;

/// By how much a server's clock may be ahead of ours, in seconds.
const CLOCK_SECONDS: i64 = 24 * 60 * 60;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Writes nodes.
pub(super) struct Writer {
    pub(super) client: Client,
    /// Whether to keep nodes that exist.
    pub(super) keep_existing: bool,
    /// How long one attempt may take.
    pub(super) limit: Duration,
    /// The clock.
    pub(super) now: fn() -> UnixNanos,
}

/// Why a node was not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// The cluster refused it.
    Refused(ClientError),
    /// No member answered, or none could serve the request.
    Unreachable(ClientError),
}

impl Writer {
    /// Writes one node; retries for some time while no member answers.
    pub(super) async fn write(&self, item: &ImportNode) -> Result<Outcome, Failure> {
        let mut pauses = PAUSES_MS.into_iter();
        loop {
            let Some(ttl_seconds) = seconds_left(item.expiration, (self.now)()) else {
                return Ok(Outcome::Expired);
            };
            let outcome = match &item.content {
                NodeContent::Value(value) => self.key(&item.key, value, ttl_seconds).await,
                NodeContent::Dir => self.dir(&item.key, ttl_seconds).await,
            };
            let error = match outcome {
                Ok(outcome) => return Ok(outcome),
                Err(error) if is_refusal(&error) => return Err(Failure::Refused(error)),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) => sleep(Duration::from_millis(pause)).await,
                None => return Err(Failure::Unreachable(error)),
            }
        }
    }

    async fn key(&self, key: &[u8], value: &[u8], ttl_seconds: u64) -> Result<Outcome, ClientError> {
        let options = SetOptions {
            prev_exist: self.keep_existing.then_some(false),
            ttl_seconds,
            ..SetOptions::default()
        };
        match within(self.limit, self.client.set(key, value, options)).await {
            Ok(_) => Ok(Outcome::Key),
            Err(ClientError::Api(failure)) if self.keep_existing && failure.code == NODE_EXIST => {
                Ok(Outcome::Kept)
            }
            Err(error) => Err(error),
        }
    }

    async fn dir(&self, key: &[u8], ttl_seconds: u64) -> Result<Outcome, ClientError> {
        if key == b"/" {
            return Ok(Outcome::Dir);
        }
        let options =
            |exist| SetOptions { dir: true, prev_exist: Some(exist), ttl_seconds, ..SetOptions::default() };
        let taken = match within(self.limit, self.client.set(key, b"", options(false))).await {
            Err(ClientError::Api(failure)) if failure.code == NODE_EXIST => failure,
            outcome => return outcome.map(|_| Outcome::Dir),
        };
        // A request that changes the time to live of a directory would empty a key of that name.
        let there = within(self.limit, self.client.get(key, GetOptions::default())).await?.node;
        if !there.dir {
            return Err(taken.into());
        }
        if self.keep_existing {
            return Ok(Outcome::Kept);
        }
        if ttl_seconds != 0 || there.expiration.is_some() {
            within(self.limit, self.client.set(key, b"", options(true))).await?;
        }
        Ok(Outcome::Dir)
    }
}

/// Whether a retry is of no use.
fn is_refusal(error: &ClientError) -> bool {
    match error {
        ClientError::Unavailable(_) | ClientError::DeadlineExceeded | ClientError::Request(_) => false,
        ClientError::Api(_)
        | ClientError::NoEndpoints
        | ClientError::InvalidJson
        | ClientError::EmptyBody
        | ClientError::UnexpectedStatus(_)
        | ClientError::Refused(_)
        | ClientError::Url(_)
        | ClientError::Tls(_)
        | ClientError::Discovery(_) => true,
    }
}

/// The remaining seconds, rounded up as in the API's answers; 0 for a node that does not expire, `None` for an
/// expired one.
fn seconds_left(expiration: Option<UnixNanos>, now: UnixNanos) -> Option<u64> {
    let Some(UnixNanos(expiration)) = expiration else { return Some(0) };
    let left = expiration.saturating_sub(now.0);
    if left <= 0 {
        return None;
    }
    let seconds = left / NANOS_PER_SECOND + i64::from(left % NANOS_PER_SECOND > 0);
    // No server accepts a time after April 2262, and its clock may be ahead of ours.
    let most = i64::MAX.saturating_sub(now.0) / NANOS_PER_SECOND - CLOCK_SECONDS;
    Some(seconds.min(most).max(1).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_time_is_rounded_up() {
        let left = |nanos| seconds_left(Some(UnixNanos(5_000_000_000 + nanos)), UnixNanos(5_000_000_000));
        assert_eq!(left(1), Some(1));
        assert_eq!(left(NANOS_PER_SECOND), Some(1));
        assert_eq!(left(NANOS_PER_SECOND + 1), Some(2));
        assert_eq!(left(0), None);
        assert_eq!(left(-1), None);
        assert_eq!(seconds_left(None, UnixNanos(7)), Some(0));
        assert_eq!(seconds_left(Some(UnixNanos(i64::MAX)), UnixNanos(-9)), Some(9_223_372_036 - 86_400));
    }
}

//! Waits for a lock, holds it and releases it.
//!
//! The lock is held until `ttl` after the last successful renewal was *sent*: when the renewal arrived is not known.
//! The answer that grants the lock may be old, too; so the lock is renewed once before it is used.

use std::ffi::OsString;
use std::time::Duration;

use shared::client::{Client, ClientError, LockError, Queue};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::run;
use crate::error::CliError;
use crate::session::Session;

/// The pause before a retry when the cluster did not answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// The lock or leadership to hold, and the command to run.
#[derive(Debug)]
pub(super) struct LockRequest {
    pub(super) queue: Queue,
    /// As the user wrote it.
    pub(super) key: OsString,
    pub(super) value: Vec<u8>,
    pub(super) ttl_seconds: u64,
    /// How long to wait for the lock; `None`: for ever.
    pub(super) wait_seconds: Option<u64>,
    /// Empty if there is no command.
    pub(super) command: Vec<OsString>,
}

/// The signals that end a run in order.
pub(super) struct Signals([(Signal, rustix::process::Signal); 3]);

impl Signals {
    fn listen() -> Result<Signals, CliError> {
        use rustix::process::Signal as Number;
        let one = |kind, number| Ok::<_, std::io::Error>((signal(kind)?, number));
        let listen = || {
            Ok::<_, std::io::Error>(Signals([
                one(SignalKind::interrupt(), Number::INT)?,
                one(SignalKind::terminate(), Number::TERM)?,
                one(SignalKind::hangup(), Number::HUP)?,
            ]))
        };
        listen().map_err(|error| CliError::Failed(format!("cannot listen to signals: {error}")))
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> rustix::process::Signal {
        let [(interrupt, int), (terminate, term), (hangup, hup)] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => *int,
            _ = terminate.recv() => *term,
            _ = hangup.recv() => *hup,
        }
    }
}

/// The exit status of a program that a signal has ended, as shells report it.
pub(super) fn status_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// A lock that this run holds.
pub(super) struct HeldLock<'a> {
    client: &'a Client,
    queue: &'a Queue,
    pub(super) index: u64,
    ttl: Duration,
    /// Until when it is certainly held.
    pub(super) until: Instant,
}

/// Waits for the lock, holds it, releases it.
pub(super) async fn hold(request: LockRequest, session: &mut Session<'_>) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    let client = session.connect().await?;
    let patience = session.settings.total_timeout;
    let mut held = tokio::select! {
        biased;
        // Nothing to release: the member sees that the connection is closed.
        signal = signals.next() => return Err(CliError::Status(status_of(signal.as_raw()))),
        held = acquire(&client, &request, patience) => held?,
    };
    let outcome = if request.command.is_empty() {
        session.out.line(&held.index.to_string())?;
        session.out.flush()?;
        tokio::select! {
            _ = signals.next() => Ok(()),
            why = held.keep_renewed() => Err(why),
        }
        .or_else(|why| lost(&why, session))
    } else {
        match run::run(&request, &mut held, &mut signals).await {
            Ok(status) => Ok(status),
            Err(run::RunError::Lost(why)) => lost(&why, session),
            Err(run::RunError::Start(status, why)) => {
                session.out.note(&format!("{why}\n"))?;
                Ok(Some(status))
            }
            Err(run::RunError::Wait(why)) => Err(why),
        }
        .map(|status| status.filter(|status| *status != 0))
        .and_then(|status| status.map_or(Ok(()), |status| Err(CliError::Status(status))))
    };
    // Also if it seems lost: it may still exist.
    let released = tokio::time::timeout(patience, client.release(held.queue, held.index)).await;
    if let (Ok(Err(LockError::Client(error))), false) =
        (&released, matches!(outcome, Err(CliError::LockLost)))
    {
        let seconds = request.ttl_seconds;
        session.out.note(&format!("cannot release the lock, it ends within {seconds} s: {error}\n"))?;
    }
    outcome
}

fn lost<T>(why: &str, session: &mut Session<'_>) -> Result<T, CliError> {
    session.out.note(&format!("the lock was lost: {why}\n"))?;
    Err(CliError::LockLost)
}

/// Waits until the lock is held. Gives up if no member answers for `patience`.
async fn acquire<'a>(
    client: &'a Client,
    request: &'a LockRequest,
    patience: Duration,
) -> Result<HeldLock<'a>, CliError> {
    let ttl = Duration::from_secs(request.ttl_seconds);
    let begin = Instant::now();
    let mut silent_since = None;
    loop {
        let sent = Instant::now();
        // The rest of the wait, so that it does not start over with each member.
        let wait = request.wait_seconds.map(|seconds| seconds.saturating_sub(begin.elapsed().as_secs()));
        let error = match client.acquire(&request.queue, &request.value, request.ttl_seconds, wait).await {
            Ok(index) => {
                let until = Instant::now();
                let mut held = HeldLock { client, queue: &request.queue, index, ttl, until };
                match held.renew_until(Instant::now() + ttl).await {
                    Ok(()) => return Ok(held),
                    // Lost again before it was used: wait at the end of the queue again.
                    Err(_) => continue,
                }
            }
            Err(error) => error,
        };
        let LockError::Client(error @ ClientError::Unavailable(_)) = error else {
            return Err(match error {
                LockError::Client(error) => CliError::Server(error),
                error => CliError::Failed(error.to_string()),
            });
        };
        if sent.elapsed() > patience {
            silent_since = None;
        }
        if silent_since.get_or_insert(sent).elapsed() > patience {
            return Err(if error.is_connection() {
                CliError::Unreachable(error)
            } else {
                CliError::Server(error)
            });
        }
        sleep(RETRY_INTERVAL).await;
    }
}

impl HeldLock<'_> {
    /// Renews the lock after each third of its TTL, until it is lost or about to be; returns why.
    pub(super) async fn keep_renewed(&mut self) -> String {
        loop {
            // `until - ttl` is the time of the last renewal.
            sleep_until(self.until - self.ttl * 2 / 3).await;
            let end = self.until - self.margin();
            if let Err(why) = self.renew_until(end).await {
                return why;
            }
        }
    }

    /// How long before its end a lock that cannot be renewed is given up: time for the command to end.
    fn margin(&self) -> Duration {
        (self.ttl / 6).min(Duration::from_secs(5))
    }

    /// Tries to renew the lock, until `end` at most.
    async fn renew_until(&mut self, end: Instant) -> Result<(), String> {
        let mut last = "no member has answered in time".to_owned();
        loop {
            let sent = Instant::now();
            let renewed = self.client.renew(self.queue, self.index, self.ttl.as_secs());
            match timeout_at(end, renewed).await {
                Ok(Ok(())) => {
                    self.until = sent + self.ttl;
                    return Ok(());
                }
                Ok(Err(error @ (LockError::Refused(_) | LockError::Missing | LockError::Unauthorized))) => {
                    // Another client may hold it by now.
                    self.until = self.until.min(Instant::now());
                    return Err(error.to_string());
                }
                Ok(Err(LockError::Client(error))) => {
                    last = error
                        .detail()
                        .map_or_else(|| error.to_string(), |detail| detail.trim_end().to_owned());
                }
                Err(_) => return Err(last),
            }
            if timeout_at(end, sleep(RETRY_INTERVAL)).await.is_err() {
                return Err(last);
            }
        }
    }
}

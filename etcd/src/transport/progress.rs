//! Signs of life on watches during which nothing happens, for clients that ask for them.
//!
//! Proxies and firewalls cut connections over which nothing passes. `progress=30s` in a watch's query has a line feed
//! sent for each 30 seconds of silence: white space, which readers of JSON pass over, in front of the event of a long
//! poll and between those of a stream. The header [`X_ETCD_PROGRESS`] tells a client that it may count on them.
//!
//! Who does not ask has no timer.

use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, Sleep, sleep};

use super::form::{self, parse_u64};
use super::reply;

/// Seconds of silence after which a notice comes, in the answer to a watch that asked for them.
const X_ETCD_PROGRESS: HeaderName = HeaderName::from_static("x-etcd-progress");
/// Seconds; more often is a load, and of no use against anything that cuts idle connections.
const INTERVAL_MIN: u64 = 1;
/// Seconds; whatever cuts idle connections does so within this.
const INTERVAL_MAX: u64 = 3600;

/// How often a client wants to hear that its watch is alive: seconds, or never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress(Option<NonZeroU16>);

impl Progress {
    /// What a watch's query asks for: `progress=30`, `30s`, `5m` or `1h`, moved to between a second and an hour.
    ///
    /// # Errors
    /// When the value is none of these.
    pub(crate) fn from_query(query: &[u8]) -> Result<Progress, ()> {
        const NAME: &str = "progress";
        // Nearly nobody asks: do not read the query once more for that.
        if memchr::memmem::find(query, NAME.as_bytes()).is_none() {
            return Ok(Progress::default());
        }
        let [value] = form::values([NAME], b"", query).map_err(|_| ())?;
        if value.is_empty() {
            return Ok(Progress::default());
        }
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, unit) = value.split_at(digits);
        let seconds: u64 = match unit {
            b"" | b"s" => 1,
            b"m" => 60,
            b"h" => 3600,
            _ => return Err(()),
        };
        let seconds = parse_u64(number).ok_or(())?.saturating_mul(seconds);
        let seconds = u16::try_from(seconds.clamp(INTERVAL_MIN, INTERVAL_MAX)).map_err(|_| ())?;
        Ok(Progress(NonZeroU16::new(seconds)))
    }

    /// Tells the client that it will hear from us.
    pub(crate) fn announce(self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.0 {
            headers.insert(X_ETCD_PROGRESS, reply::number(u64::from(seconds.get())));
        }
    }

    /// The timer, where one is needed.
    pub(super) fn notices(self) -> Option<Notices> {
        let every = Duration::from_secs(u64::from(self.0?.get()));
        Some(Notices { every, timer: None })
    }
}

/// The timer of a watch with notices.
pub(super) struct Notices {
    every: Duration,
    /// Made where it is first needed: the watch may move to another thread before.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Notices {
    /// Whether it is time for a notice; else the task is woken when it is.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.every)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Begins to wait anew.
    pub(super) fn restart(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + self.every);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(query: &str) -> Result<Option<u16>, ()> {
        Progress::from_query(query.as_bytes()).map(|progress| progress.0.map(NonZeroU16::get))
    }

    #[test]
    fn an_interval_is_bounded() {
        for (query, wanted) in [
            ("wait=true", None),
            ("wait=true&progress=", None),
            ("noprogress=5", None),
            ("key=progress", None),
            ("progress=30", Some(30)),
            ("wait=true&progress=30s&x=1", Some(30)),
            ("progress=2m", Some(120)),
            ("progress=1h", Some(3600)),
            ("progress=0", Some(1)),
            ("progress=90000h", Some(3600)),
            ("progress=18446744073709551615h", Some(3600)),
            ("progress=5&progress=bad", Some(5)),
        ] {
            assert_eq!(seconds(query), Ok(wanted), "{query}");
        }
        for query in [
            "progress=true",
            "progress=-1",
            "progress=1.5s",
            "progress=s",
            "progress=500ms",
            "progress=5%20s",
        ] {
            assert_eq!(seconds(query), Err(()), "{query}");
        }
    }

    #[test]
    fn who_does_not_ask_has_no_timer_and_no_header() {
        let progress = Progress::default();
        let mut headers = HeaderMap::new();
        progress.announce(&mut headers);
        assert!(headers.is_empty() && progress.notices().is_none());
        Progress::from_query(b"progress=30s").unwrap().announce(&mut headers);
        assert_eq!(headers["x-etcd-progress"], "30");
    }
}

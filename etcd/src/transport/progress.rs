//! Notices on watches that are silent, for clients that request them.
//!
//! Proxies and firewalls cut idle connections. With `progress=30s` in the query of a watch, the server sends a line
//! feed for each 30 seconds of silence: white space, which JSON parsers skip, before the event of a long poll and
//! between the events of a stream. The header [`X_ETCD_PROGRESS`] tells a client that it can rely on them.
//!
//! Other watches have no timer.

use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, Sleep, sleep};

use super::form::{self, parse_u64};
use super::reply;

/// In the response to a watch with notices: the seconds of silence before a notice.
const X_ETCD_PROGRESS: HeaderName = HeaderName::from_static("x-etcd-progress");
/// In seconds. A shorter interval is a load, and helps against nothing that cuts idle connections.
const INTERVAL_MIN: u64 = 1;
/// In seconds. Idle connections are cut within this time.
const INTERVAL_MAX: u64 = 3600;

/// The interval of notices in seconds; none without notices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProgressInterval(Option<NonZeroU16>);

impl ProgressInterval {
    /// The interval in a watch's query: `progress=30`, `30s`, `5m` or `1h`, limited to between a second and an hour.
    ///
    /// # Errors
    /// If the value is malformed.
    pub(crate) fn from_query(query: &[u8]) -> Result<ProgressInterval, ()> {
        const NAME: &str = "progress";
        // Few clients request notices: do not parse the query again for the others.
        if memchr::memmem::find(query, NAME.as_bytes()).is_none() {
            return Ok(ProgressInterval::default());
        }
        let [value] = form::values([NAME], b"", query).map_err(|_| ())?;
        if value.is_empty() {
            return Ok(ProgressInterval::default());
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
        Ok(ProgressInterval(NonZeroU16::new(seconds)))
    }

    /// Announces the notices in the response's headers.
    pub(crate) fn announce(self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.0 {
            headers.insert(X_ETCD_PROGRESS, reply::number(u64::from(seconds.get())));
        }
    }

    /// The timer, if there are notices.
    pub(super) fn notices(self) -> Option<Notices> {
        let every = Duration::from_secs(u64::from(self.0?.get()));
        Some(Notices { every, timer: None })
    }
}

/// The timer of a watch with notices.
pub(super) struct Notices {
    every: Duration,
    /// Created on first use, because the watch may move to another thread before.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Notices {
    /// Whether a notice is due. If not, the task is woken when it is.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.every)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Starts the interval again.
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
        ProgressInterval::from_query(query.as_bytes()).map(|progress| progress.0.map(NonZeroU16::get))
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
        let progress = ProgressInterval::default();
        let mut headers = HeaderMap::new();
        progress.announce(&mut headers);
        assert!(headers.is_empty() && progress.notices().is_none());
        ProgressInterval::from_query(b"progress=30s").unwrap().announce(&mut headers);
        assert_eq!(headers["x-etcd-progress"], "30");
    }
}

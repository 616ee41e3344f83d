//! Rate-limited log lines, so that a flood of requests does not flood the log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use crate::log;

/// Writes at most one line per second.
#[derive(Debug)]
pub(super) struct RateLimitedLog {
    began: Instant,
    /// The first second in which the next line may be written.
    next: AtomicU64,
}

impl RateLimitedLog {
    pub(super) fn new() -> RateLimitedLog {
        RateLimitedLog { began: Instant::now(), next: AtomicU64::new(0) }
    }

    pub(super) fn info(&self, text: &str, now: Instant) {
        if self.may_write(now) {
            log::info!("proxy", "{text}");
        }
    }

    pub(super) fn error(&self, text: &str, now: Instant) {
        if self.may_write(now) {
            log::error!("proxy", "{text}");
        }
    }

    fn may_write(&self, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.began).as_secs();
        let next = self.next.load(Relaxed);
        second >= next && self.next.compare_exchange(next, second + 1, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_line_a_second() {
        let rate_limited_log = RateLimitedLog::new();
        for (after, wanted) in [(0, true), (999, false), (1500, true), (1999, false), (2000, true)] {
            assert_eq!(
                rate_limited_log.may_write(rate_limited_log.began + Duration::from_millis(after)),
                wanted,
                "{after}"
            );
        }
    }
}

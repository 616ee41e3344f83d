//! The only place that reads the clock.
#![expect(clippy::disallowed_methods, reason = "this file is the clock")]

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use node::time::{Moment, Now};
use shared::time::UnixNanos;

/// The time now. A clock before 1970 or after 2262 counts as the nearest time that fits.
pub fn now() -> UnixNanos {
    let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    };
    UnixNanos(nanos)
}

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The current moment, counted from the first call.
pub(super) fn moment() -> Moment {
    moment_of(Instant::now())
}

/// This instant as a moment of the same clock.
pub(super) fn moment_of(instant: Instant) -> Moment {
    Moment::after(instant.saturating_duration_since(*BEGINNING))
}

/// Both clocks.
pub(super) fn both() -> Now {
    Now { moment: moment(), wall: now() }
}

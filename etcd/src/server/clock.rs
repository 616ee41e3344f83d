//! The only place that asks what time it is.
#![expect(clippy::disallowed_methods, reason = "this file is the clock")]

use std::time::{SystemTime, UNIX_EPOCH};

use shared::time::UnixNanos;

/// The time now. A clock before 1970 or after 2262 counts as the nearest time that fits.
pub fn now() -> UnixNanos {
    let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    };
    UnixNanos(nanos)
}

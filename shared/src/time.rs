//! Points in time as the log and the store keep them.

use std::fmt;

/// Nanoseconds since 1970-01-01T00:00:00Z, the unit of `Request.Expiration` and `Request.Time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(pub i64);

impl UnixNanos {
    /// The start of 1970; as an expiration it means "never".
    pub const ZERO: UnixNanos = UnixNanos(0);
}

impl fmt::Display for UnixNanos {
    /// RFC 3339 in UTC with as many fractional digits as needed, the form of `expiration` in the API.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0)).map_err(|_| fmt::Error)?;
        fmt::Display::fmt(&time, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_go() {
        assert_eq!(UnixNanos(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(UnixNanos(1_500_000_000_120_000_000).to_string(), "2017-07-14T02:40:00.12Z");
    }
}

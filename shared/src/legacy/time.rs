//! Points in time as Go writes them into JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, Unexpected, Visitor};

use crate::time::UnixNanos;

/// A point in time in a command: RFC 3339 with up to nine decimals and any zone.
///
/// 0.2 and later write the start of the year 1 for "never", 0.1 the start of 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// What Go's zero time is written as: `0001-01-01T00:00:00Z`.
    pub const ZERO_TEXT: &'static str = "0001-01-01T00:00:00Z";
    /// Seconds from 1970 to Go's zero time.
    const ZERO_SECONDS: i64 = -62_135_596_800;

    /// Go's zero time.
    #[must_use]
    pub fn zero() -> Time {
        Time(jiff::Timestamp::from_second(Time::ZERO_SECONDS).unwrap_or(jiff::Timestamp::MIN))
    }

    /// Parses RFC 3339; `None` if it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Time> {
        // By far the most entries never expire.
        if text == Time::ZERO_TEXT { Some(Time::zero()) } else { text.parse().ok().map(Time) }
    }

    /// Whether it is Go's zero time.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.as_second() == Time::ZERO_SECONDS && self.0.subsec_nanosecond() == 0
    }

    /// Whole seconds since 1970, rounded down as Go does it.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        let nanos = self.0.as_nanosecond().div_euclid(1_000_000_000);
        i64::try_from(nanos).unwrap_or_else(|_| self.0.as_second())
    }

    /// Nanoseconds since 1970. Times outside the years 1677 to 2262 become the nearest time within them.
    #[must_use]
    pub fn unix_nanos(self) -> UnixNanos {
        let nanos = self.0.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into());
        UnixNanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// Whether [`Time::unix_nanos`] is exact.
    #[must_use]
    pub fn fits_nanos(self) -> bool {
        i64::try_from(self.0.as_nanosecond()).is_ok()
    }
}

impl Default for Time {
    fn default() -> Time {
        Time::zero()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() { f.write_str(Time::ZERO_TEXT) } else { fmt::Display::fmt(&self.0, f) }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as 2014-07-01T12:00:00Z")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        assert!(Time::parse("0001-01-01T00:00:00Z").unwrap().is_zero());
        assert!(Time::parse("0001-01-01T01:00:00+01:00").unwrap().is_zero());
        let time = Time::parse("2036-11-18T07:58:35.808979011Z").unwrap();
        assert_eq!(time.unix_nanos(), UnixNanos(2_110_607_915_808_979_011));
        assert_eq!(time.unix_seconds(), 2_110_607_915);
        let zoned = Time::parse("2014-06-30T23:00:00.5-07:00").unwrap();
        assert_eq!(zoned.unix_nanos(), Time::parse("2014-07-01T06:00:00.5Z").unwrap().unix_nanos());
        for bad in ["", "yesterday", "2014-07-01", "2014-07-01T00:00:00"] {
            assert_eq!(Time::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_ends_of_time_are_clamped() {
        let late = Time::parse("9999-12-01T23:59:59Z").unwrap();
        assert!(!late.fits_nanos());
        assert_eq!(late.unix_nanos(), UnixNanos(i64::MAX));
        assert_eq!(Time::zero().unix_seconds(), Time::ZERO_SECONDS);
        assert_eq!(Time::zero().to_string(), Time::ZERO_TEXT);
    }
}

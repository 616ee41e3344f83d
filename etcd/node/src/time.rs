//! The time, as an argument.

use std::ops::{Add, Sub};
use std::time::Duration;

use shared::time::UnixNanos;

/// A moment on a monotonic clock, as the time since a fixed start. The driver of a member reads the clock, or
/// simulates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment at this time after the start of the clock.
    pub const fn after(beginning: Duration) -> Moment {
        Moment(beginning)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(time))
    }
}

/// An earlier moment, at least the start of the clock.
impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        Moment(self.0.saturating_sub(time))
    }
}

/// The time between two moments; zero if the second one is later.
impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For intervals and deadlines.
    pub moment: Moment,
    /// The time of day, for the log and for display. It may be set back or forward.
    pub wall: UnixNanos,
}

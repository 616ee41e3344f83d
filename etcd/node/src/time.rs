//! The time, as whoever drives a member tells it.

use std::ops::{Add, Sub};
use std::time::Duration;

use shared::time::UnixNanos;

/// A moment on a clock that never goes back, as the time since some fixed beginning. Whoever drives a member reads the
/// clock, or makes the time up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment so long after the beginning.
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

/// So long before; the beginning if that would be before it.
impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        Moment(self.0.saturating_sub(time))
    }
}

/// The time between two moments; zero if the second one is the later.
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
    /// For what is written into the log and shown: the time of day, which may be turned.
    pub wall: UnixNanos,
}

//! The time, as an argument.

pub use shared::time::Moment;
use shared::time::UnixNanos;

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For intervals and deadlines.
    pub moment: Moment,
    /// The time of day, for the log and for display. It may be set back or forward.
    pub wall: UnixNanos,
}

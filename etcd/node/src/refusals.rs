//! Limits the log lines about refused messages. A hostile sender can send many: one line a second at most.

use std::time::Duration;

use crate::time::Moment;

/// The shortest time between two log lines.
const PAUSE: Duration = Duration::from_secs(1);

/// The refused messages.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    last: Option<Moment>,
    /// Messages refused since the last line.
    unreported: u64,
}

impl Refusals {
    /// Counts a refused message. If a log line is due, returns the number of other messages refused since the
    /// last one.
    pub(crate) fn add(&mut self, now: Moment) -> Option<u64> {
        if self.last.is_some_and(|last| now - last < PAUSE) {
            self.unreported += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_a_line_a_second() {
        let mut refusals = Refusals::default();
        let reported: Vec<_> =
            (0..25).map(|n| refusals.add(Moment::after(n * Duration::from_millis(100)))).collect();
        let lines: Vec<_> = reported.into_iter().flatten().collect();
        assert_eq!(lines, [0, 9, 9]);
    }
}

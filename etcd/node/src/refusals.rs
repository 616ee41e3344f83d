//! Tells of messages that no member sends. Whoever sends them can send many: a line comes now and then.

use std::time::Duration;

use crate::time::Moment;

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Messages that were refused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    last: Option<Moment>,
    /// Refused since the last line.
    unreported: u64,
}

impl Refusals {
    /// One was refused. How many others were since the last line, if it is time for another one.
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

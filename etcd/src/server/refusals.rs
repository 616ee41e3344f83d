//! Tells the log of messages that no member sends. Whoever sends them can send many: a line comes now and then.

use std::time::Duration;

use node::member::Refusal;
use tokio::time::Instant;

use crate::log;

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Messages that were refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Option<Instant>,
    /// Refused since the last line.
    untold: u64,
}

impl Refusals {
    /// One was refused.
    pub(super) fn add(&mut self, refusal: &Refusal, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            self.untold += 1;
            return;
        }
        self.last = Some(now);
        let more = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            untold => format!(" ({untold} others were refused since the last such line)"),
        };
        log::warning!("raft", "refused a message that no member sends: {refusal}{more}");
    }
}

//! The progress bar on a terminal. Nothing is drawn elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ledger::ImportProgress;
use crate::output;

/// How often it is redrawn.
const DRAWS_PER_SECOND: u8 = 5;

/// A progress bar for an import.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar for a source of this length; a counter if the length is not known.
    pub(super) fn new(bytes: Option<u64>) -> Bar {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(bytes, target);
        let template = match bytes {
            Some(_) => "{bar:30} {bytes} of {total_bytes}, {eta} to go; {msg}",
            None => "{spinner} {bytes}; {msg}",
        };
        // The templates are constants; an invalid one would leave the default style.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar(bar)
    }

    /// No bar at all.
    pub(super) fn none() -> Bar {
        Bar(ProgressBar::hidden())
    }

    /// Shows the progress.
    pub(super) fn show(&self, done: ImportProgress) {
        if self.0.is_hidden() {
            return;
        }
        self.0.set_position(done.offset);
        let failed = if done.failed == 0 { String::new() } else { format!(", {} failed", done.failed) };
        self.0.set_message(format!("{} nodes{failed}", done.nodes()));
    }

    /// Prints a text on standard error, above the bar.
    pub(super) fn note(&self, text: &str) {
        self.0.suspend(|| output::note(text));
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

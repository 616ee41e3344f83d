//! The progress bar.

use std::io::IsTerminal as _;

use etcd_migrate::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, if that is a terminal.
#[derive(Default)]
pub(crate) struct TerminalProgress {
    bar: Option<ProgressBar>,
    entries: u64,
    done: u64,
}

impl Progress for TerminalProgress {
    fn begin(&mut self, entries: u64, bytes: u64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let style = ProgressStyle::with_template(
            "{bar:32} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {msg}  {binary_bytes_per_sec}  {eta} left",
        );
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        (self.entries, self.done) = (entries, 0);
        self.bar = Some(ProgressBar::new(bytes).with_style(style));
    }

    fn advance(&mut self, entries: u64, bytes: u64) {
        self.done += entries;
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            bar.set_message(format!("{} of {} entries", self.done, self.entries));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

//! `watch`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use shared::client::{WatchItem, Watcher};

use super::until_interrupted;
use crate::error::CliError;
use crate::session::Session;
use shared::go_values;

/// Wait until a key changes and print how
///
/// Ends with the first change, or with --forever, when it is interrupted. A connection that breaks is made again,
/// and the changes of the time between are printed then: the members remember the last 1000 of all keys. If some
/// are lost nevertheless, standard error tells which.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// Go on after the first change
    #[arg(long)]
    forever: bool,
    /// Begin with the first change after this index; 0: with the next one from now on
    #[arg(long, value_name = "INDEX", default_value = "0", hide_default_value = true, value_parser = go_values::integer)]
    after_index: i64,
    /// Have the member send a progress notice after this time of silence; 0: none
    ///
    /// For proxies and firewalls in between that cut idle connections. A connection without notices is made again.
    #[arg(long, value_name = "DURATION", default_value = "0", hide_default_value = true, value_parser = go_values::duration)]
    progress: Duration,
    /// Also what is below; each change is preceded by a line `[action] key`
    #[arg(long)]
    recursive: bool,
    /// The key
    key: OsString,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Watch {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let client = session.connect().await?;
        let watcher = client.watch(self.key.as_bytes(), self.recursive, first_index(self.after_index));
        let watcher = with_progress(watcher, self.progress);
        until_interrupted(self.print(watcher, session)).await
    }

    async fn print(&self, mut watcher: Watcher<'_>, session: &mut Session<'_>) -> Result<(), CliError> {
        loop {
            let response = match watcher.next().await.map_err(CliError::Server)? {
                WatchItem::Event(response) => response,
                WatchItem::Notice(notice) => {
                    session.out.note(&format!("{notice}\n"))?;
                    continue;
                }
            };
            // Events of a directory itself are not printed, and do not end the watch.
            if response.node.dir {
                continue;
            }
            if self.recursive {
                session.out.line(&format!("[{}] {}", response.action, response.node.key))?;
            }
            session.out.response(&response, &session.settings.format)?;
            session.out.flush()?;
            if !self.forever {
                return Ok(());
            }
        }
    }
}

/// The watcher with progress notices, unless `interval` is zero. In whole seconds, as members expect.
pub(super) fn with_progress(watcher: Watcher<'_>, interval: Duration) -> Watcher<'_> {
    if interval.is_zero() { watcher } else { watcher.with_progress(interval.as_secs().max(1)) }
}

/// The first index, for a flag that names the one before it.
pub(super) fn first_index(after: i64) -> Option<u64> {
    match after.cast_unsigned() {
        0 => None,
        after => Some(after.saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_begins_behind_the_index() {
        assert_eq!(first_index(0), None);
        assert_eq!(first_index(7), Some(8));
        assert_eq!(first_index(-1), Some(u64::MAX));
    }
}

//! Copies from a source to the cluster, several nodes at a time. The progress on record is always correct.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::{ImportProgress, Ledger, Outcome, SourcePosition};
use super::progress::Bar;
use super::resume::Bookmark;
use super::write::{Failure, Writer};
use super::{ImportNode, NodeContent, SourceItem};
use crate::output;

/// How often the bar is updated and the bookmark written.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// What an import reports while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbosity {
    /// Each key and directory; the first failure ends the import.
    EachKey,
    /// Failures only; the import continues.
    Summary,
}

/// How an import ended.
#[derive(Debug)]
pub(super) enum ImportEnd {
    /// The whole source was read; what is wrong with its end, if anything.
    All(Option<String>),
    /// The user interrupted it.
    Interrupted,
    /// It stopped with this error.
    Stopped(String),
}

/// One import.
pub(super) struct Copy {
    pub(super) writer: Rc<Writer>,
    /// How many nodes are written at a time.
    pub(super) clients: usize,
    pub(super) verbosity: Verbosity,
    pub(super) ledger: Ledger,
    pub(super) bar: Bar,
    pub(super) bookmark: Option<Bookmark>,
}

/// The result of a task.
type TaskResult = (ImportNode, Result<Outcome, Failure>);

impl Copy {
    /// Writes the items from `read`, which runs on its own thread.
    pub(super) async fn run<R>(mut self, read: R) -> (ImportProgress, ImportEnd)
    where
        R: FnOnce(&mut dyn FnMut(SourceItem) -> bool) + Send + 'static,
    {
        // All tasks on this thread: writes wait for the network, not for the processor.
        let end = LocalSet::new().run_until(self.copy(read)).await;
        self.bar.finish();
        let end = match (self.update_bookmark(&end), end) {
            (Err(error), ImportEnd::All(_)) => ImportEnd::Stopped(error),
            (_, end) => end,
        };
        (self.ledger.settled(), end)
    }

    async fn copy<R>(&mut self, read: R) -> ImportEnd
    where
        R: FnOnce(&mut dyn FnMut(SourceItem) -> bool) + Send + 'static,
    {
        if let Err(error) = self.save_progress() {
            return ImportEnd::Stopped(error);
        }
        let (sender, mut found) = mpsc::channel(self.clients);
        // The thread ends when the channel is closed; the process does not wait for its pending read.
        std::thread::spawn(move || read(&mut |found| sender.blocking_send(found).is_ok()));

        let mut tasks: JoinSet<TaskResult> = JoinSet::new();
        let mut end = None;
        // A directory with a time to live is written before its contents: otherwise it would be created without one.
        let mut alone = false;
        let mut notes = interval(NOTE_INTERVAL);
        notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            if tasks.is_empty() {
                alone = false;
                if let Some(end) = end {
                    return end;
                }
            }
            let takes_more =
                end.is_none() && !alone && tasks.len() < self.clients && !self.ledger.is_crowded();
            tokio::select! {
                biased;
                _ = &mut interrupted => return ImportEnd::Interrupted,
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    let done = done.map_err(|error| error.to_string());
                    if let Err(why) = done.and_then(|(item, outcome)| self.done(&item, outcome)) {
                        if self.verbosity == Verbosity::EachKey {
                            return ImportEnd::Stopped(why);
                        }
                        end = Some(ImportEnd::Stopped(why));
                    }
                }
                found = found.recv(), if takes_more => match found {
                    Some(SourceItem::Node(item)) => {
                        alone = item.content == NodeContent::Dir && item.expiration.is_some();
                        self.begin(&item);
                        let writer = self.writer.clone();
                        tasks.spawn_local(async move {
                            let outcome = writer.write(&item).await;
                            (item, outcome)
                        });
                    }
                    Some(SourceItem::Entering(path)) => log(&format!("entering dir: {path}")),
                    Some(SourceItem::Expired(position)) => self.settle(position, Outcome::Expired),
                    Some(SourceItem::Bad(position, why)) => {
                        self.bar.note(&format!("line {}: {why}\n", position.line));
                        self.settle(position, Outcome::Failed);
                    }
                    Some(SourceItem::End(why)) => end = Some(ImportEnd::All(why)),
                    Some(SourceItem::Broken(why)) => end = Some(ImportEnd::Stopped(why)),
                    None => end = Some(ImportEnd::Stopped("reading ended before its end".to_owned())),
                },
                _ = notes.tick() => {
                    self.bar.show(self.ledger.settled());
                    if let Err(error) = self.save_progress() {
                        end = Some(ImportEnd::Stopped(error));
                    }
                }
            }
        }
    }

    fn begin(&mut self, item: &ImportNode) {
        self.ledger.begin(item.position);
        if self.verbosity == Verbosity::EachKey && item.content != NodeContent::Dir {
            log(&format!("copying key: {}", String::from_utf8_lossy(&item.key)));
        }
    }

    fn settle(&mut self, position: SourcePosition, outcome: Outcome) {
        self.ledger.begin(position);
        self.ledger.done(position, outcome);
    }

    /// Records the result of a node.
    ///
    /// # Errors
    /// When the import cannot go on.
    fn done(&mut self, item: &ImportNode, outcome: Result<Outcome, Failure>) -> Result<(), String> {
        match outcome {
            Ok(outcome) => self.ledger.done(item.position, outcome),
            Err(Failure::Refused(error)) if self.verbosity == Verbosity::Summary => {
                let key = String::from_utf8_lossy(&item.key);
                self.bar.note(&format!("line {}: {key}: {error}\n", item.position.line));
                self.ledger.done(item.position, Outcome::Failed);
            }
            // Not recorded: a later run continues here.
            Err(Failure::Refused(error)) => return Err(error.to_string()),
            Err(Failure::Unreachable(error)) => {
                let detail = error.detail().unwrap_or_default();
                return Err(format!("{error}\n{detail}").trim_end().to_owned());
            }
        }
        Ok(())
    }

    fn save_progress(&self) -> Result<(), String> {
        let Some(bookmark) = &self.bookmark else { return Ok(()) };
        bookmark
            .write(self.ledger.settled())
            .map_err(|error| format!("cannot note how far the import has come: {error}"))
    }

    fn update_bookmark(&self, end: &ImportEnd) -> Result<(), String> {
        match (end, &self.bookmark) {
            (ImportEnd::All(_), Some(bookmark)) => bookmark.remove().map_err(|error| error.to_string()),
            _ => self.save_progress(),
        }
    }
}

/// A line on standard error as Go's `log` writes it.
pub(super) fn log(text: &str) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(super::now().0)).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y/%m/%d %H:%M:%S");
    output::note(&format!("{time} {text}\n"));
}

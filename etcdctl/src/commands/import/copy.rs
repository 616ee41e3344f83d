//! From a source to the cluster: some nodes at a time, with books that are right at any moment.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::{Ledger, Outcome, Place, Standing};
use super::progress::Bar;
use super::resume::Bookmark;
use super::write::{Failure, Writer};
use super::{Content, Found, Item};
use crate::output;

/// How often the bar is drawn and the bookmark written.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// How much is told on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Each key and directory; the first key that fails is the end.
    Aloud,
    /// What fails; the rest goes on.
    Counted,
}

/// How an import ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// All was read; what is wrong with the end, if something is.
    All(Option<String>),
    /// By the user.
    Interrupted,
    /// By this.
    Stopped(String),
}

/// One import.
pub(super) struct Copy {
    pub(super) writer: Rc<Writer>,
    /// How many nodes are written at a time.
    pub(super) clients: usize,
    pub(super) manner: Manner,
    pub(super) ledger: Ledger,
    pub(super) bar: Bar,
    pub(super) bookmark: Option<Bookmark>,
}

/// What a task brings back.
type Done = (Item, Result<Outcome, Failure>);

impl Copy {
    /// Writes what `read` hands over, which gets a thread of its own.
    pub(super) async fn run<R>(mut self, read: R) -> (Standing, Ending)
    where
        R: FnOnce(&mut dyn FnMut(Found) -> bool) + Send + 'static,
    {
        // All on this thread: what is written waits for the network, not for the processor.
        let ending = LocalSet::new().run_until(self.copy(read)).await;
        self.bar.finish();
        let ending = match (self.keep_books(&ending), ending) {
            (Err(error), Ending::All(_)) => Ending::Stopped(error),
            (_, ending) => ending,
        };
        (self.ledger.settled(), ending)
    }

    async fn copy<R>(&mut self, read: R) -> Ending
    where
        R: FnOnce(&mut dyn FnMut(Found) -> bool) + Send + 'static,
    {
        if let Err(error) = self.note_standing() {
            return Ending::Stopped(error);
        }
        let (sender, mut found) = mpsc::channel(self.clients);
        // It ends by itself when nobody listens any more; what it waits for, the process does not.
        std::thread::spawn(move || read(&mut |found| sender.blocking_send(found).is_ok()));

        let mut tasks: JoinSet<Done> = JoinSet::new();
        let mut ending = None;
        // A directory that has a time to live is made before anything in it: it would come without one.
        let mut alone = false;
        let mut notes = interval(NOTE_INTERVAL);
        notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            if tasks.is_empty() {
                alone = false;
                if let Some(ending) = ending {
                    return ending;
                }
            }
            let takes_more =
                ending.is_none() && !alone && tasks.len() < self.clients && !self.ledger.is_crowded();
            tokio::select! {
                biased;
                _ = &mut interrupted => return Ending::Interrupted,
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    let done = done.map_err(|error| error.to_string());
                    if let Err(why) = done.and_then(|(item, outcome)| self.done(&item, outcome)) {
                        if self.manner == Manner::Aloud {
                            return Ending::Stopped(why);
                        }
                        ending = Some(Ending::Stopped(why));
                    }
                }
                found = found.recv(), if takes_more => match found {
                    Some(Found::Item(item)) => {
                        alone = item.content == Content::Dir && item.expiration.is_some();
                        self.begin(&item);
                        let writer = self.writer.clone();
                        tasks.spawn_local(async move {
                            let outcome = writer.write(&item).await;
                            (item, outcome)
                        });
                    }
                    Some(Found::Entering(path)) => log(&format!("entering dir: {path}")),
                    Some(Found::Expired(place)) => self.at_once(place, Outcome::Expired),
                    Some(Found::Bad(place, why)) => {
                        self.bar.note(&format!("line {}: {why}\n", place.line));
                        self.at_once(place, Outcome::Failed);
                    }
                    Some(Found::End(why)) => ending = Some(Ending::All(why)),
                    Some(Found::Broken(why)) => ending = Some(Ending::Stopped(why)),
                    None => ending = Some(Ending::Stopped("reading ended before its end".to_owned())),
                },
                _ = notes.tick() => {
                    self.bar.show(self.ledger.settled());
                    if let Err(error) = self.note_standing() {
                        ending = Some(Ending::Stopped(error));
                    }
                }
            }
        }
    }

    fn begin(&mut self, item: &Item) {
        self.ledger.begin(item.place);
        if self.manner == Manner::Aloud && item.content != Content::Dir {
            log(&format!("copying key: {}", String::from_utf8_lossy(&item.key)));
        }
    }

    fn at_once(&mut self, place: Place, outcome: Outcome) {
        self.ledger.begin(place);
        self.ledger.done(place, outcome);
    }

    /// Enters what became of a node.
    ///
    /// # Errors
    /// When the import cannot go on.
    fn done(&mut self, item: &Item, outcome: Result<Outcome, Failure>) -> Result<(), String> {
        match outcome {
            Ok(outcome) => self.ledger.done(item.place, outcome),
            Err(Failure::Refused(error)) if self.manner == Manner::Counted => {
                let key = String::from_utf8_lossy(&item.key);
                self.bar.note(&format!("line {}: {key}: {error}\n", item.place.line));
                self.ledger.done(item.place, Outcome::Failed);
            }
            // Not entered: this is where a later run goes on.
            Err(Failure::Refused(error)) => return Err(error.to_string()),
            Err(Failure::Unreachable(error)) => {
                let detail = error.detail().unwrap_or_default();
                return Err(format!("{error}\n{detail}").trim_end().to_owned());
            }
        }
        Ok(())
    }

    fn note_standing(&self) -> Result<(), String> {
        let Some(bookmark) = &self.bookmark else { return Ok(()) };
        bookmark
            .write(self.ledger.settled())
            .map_err(|error| format!("cannot note how far the import has come: {error}"))
    }

    fn keep_books(&self, ending: &Ending) -> Result<(), String> {
        match (ending, &self.bookmark) {
            (Ending::All(_), Some(bookmark)) => bookmark.remove().map_err(|error| error.to_string()),
            _ => self.note_standing(),
        }
    }
}

/// A line on standard error as Go's `log` writes it.
pub(super) fn log(text: &str) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(super::now().0)).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y/%m/%d %H:%M:%S");
    output::note(&format!("{time} {text}\n"));
}

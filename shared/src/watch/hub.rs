//! The hub of all streams of a member.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::event::Event;
use super::history::{History, HistoryError, Limits};
use super::queue::{Ended, Queue};
use super::registry::{Registry, StreamState, slot};
use super::round::Round;
use super::stream::WatchStream;
use crate::time::Moment;

/// What is configured about watches, and what bounds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The time between two notices of progress to an idle watch; up to a tenth is added. At least 100 ms.
    pub progress_interval: Duration,
    /// For the jitter: members that were started together should have different ones.
    pub seed: u64,
    /// How many responses are queued for a stream, in addition to one for each of its watches.
    pub queue_responses_max: usize,
    /// How many bytes of events are queued for a stream, about. One response fits in any case. Encoded events may take
    /// the same again.
    pub queue_bytes_max: usize,
    /// The most watches that catch up in one round.
    pub round_watches_max: usize,
    /// How much history a round reads.
    pub round_limits: Limits,
}

impl Settings {
    /// The least [`progress_interval`](Settings::progress_interval).
    pub const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            progress_interval: Duration::from_secs(600),
            seed: 0,
            queue_responses_max: 128,
            queue_bytes_max: 4 << 20,
            round_watches_max: 512,
            round_limits: Limits { revisions: 1000, bytes: 1 << 20 },
        }
    }
}

/// The outcome of a round of catching up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// How many watches got further.
    pub advanced: usize,
    /// Whether watches are still behind that could get further: the next round can begin at once.
    pub more: bool,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Open streams.
    pub streams: usize,
    /// Watches of all streams.
    pub watches: usize,
    /// Those that do not have all events yet.
    pub slow_watches: usize,
}

/// The hub of all streams of a member. A clone is the same hub. See the [module](super).
///
/// - *The store's side*: [`notify`](WatchHub::notify), [`restore`](WatchHub::restore). They return the wakers of streams: wake
///   them after all locks are released.
/// - *Rounds of one task or thread*: [`poll_catch_up`](WatchHub::poll_catch_up), [`catch_up`](WatchHub::catch_up);
///   [`send_notices`](WatchHub::send_notices).
/// - *The server's side*: [`open`](WatchHub::open), [`lose_leader`](WatchHub::lose_leader), [`stop`](WatchHub::stop).
#[derive(Debug, Clone)]
pub struct WatchHub(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) registry: Mutex<Registry>,
    pub(super) work: Mutex<Work>,
    /// Held during a round: there is one at a time.
    round: Mutex<()>,
}

/// What the next round of catching up has to do. Locked after the registry and the queues, or alone.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Streams whose queue has room again.
    roomy: Vec<u32>,
    /// Whether watches are behind.
    behind: bool,
    waker: Option<Waker>,
}

impl Shared {
    /// The queue of a stream with blocked watches has room again.
    pub(super) fn add_roomy(&self, stream: u32) {
        let mut work = self.work.lock();
        work.roomy.push(stream);
        let waker = work.waker.take();
        drop(work);
        waker.into_iter().for_each(Waker::wake);
    }

    /// A watch is behind. Returns the waker in `wakers`.
    pub(super) fn add_behind(&self, wakers: &mut Vec<Waker>) {
        let mut work = self.work.lock();
        work.behind = true;
        wakers.extend(work.waker.take());
    }
}

impl WatchHub {
    /// A hub without streams, for a store at this revision.
    pub fn new(settings: Settings, revision: i64) -> WatchHub {
        let progress_interval = settings.progress_interval.max(Settings::PROGRESS_INTERVAL_MIN);
        let registry = Registry { revision, ..Registry::default() };
        WatchHub(Arc::new(Shared {
            settings: Settings { progress_interval, ..settings },
            registry: Mutex::new(registry),
            work: Mutex::default(),
            round: Mutex::default(),
        }))
    }

    /// The newest revision that it was notified of.
    pub fn revision(&self) -> i64 {
        self.0.registry.lock().revision
    }

    /// How many streams and watches there are.
    pub fn counts(&self) -> Counts {
        let registry = self.0.registry.lock();
        let slow = registry.streams.iter().map(|(_, stream)| stream.unsynced as usize).sum();
        Counts { streams: registry.streams.len(), watches: registry.watches.len(), slow_watches: slow }
    }

    /// Delivers the events of a new revision, in their order. The history has to have it already. The tasks to wake are
    /// added to `wakers`.
    ///
    /// # Panics
    /// The revision is not a new one.
    pub fn notify(&self, revision: i64, events: &[Event], wakers: &mut Vec<Waker>) {
        self.0.registry.lock().notify(revision, events, &self.0.settings, wakers);
    }

    /// The store was replaced by one of this revision, from a snapshot: watches read what they missed from its history.
    pub fn restore(&self, revision: i64, wakers: &mut Vec<Waker>) {
        let mut registry = self.0.registry.lock();
        registry.restore(revision);
        if !registry.behind.is_empty() {
            self.0.add_behind(wakers);
        }
        registry.settle_awaited(wakers);
    }

    /// Opens a stream without watches. One with `requires_leader` ends when the leader is lost.
    pub fn open(&self, requires_leader: bool) -> WatchStream {
        let queue = Arc::new(Queue::default());
        let mut registry = self.0.registry.lock();
        let stream = registry.streams.insert(StreamState::new(Arc::clone(&queue), requires_leader));
        drop(registry);
        WatchStream::new(Arc::clone(&self.0), queue, slot(stream))
    }

    /// Ready when a round of [`catch_up`](WatchHub::catch_up) has something to do. One task waits at a time.
    pub fn poll_catch_up(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut work = self.0.work.lock();
        if work.behind || !work.roomy.is_empty() {
            return Poll::Ready(());
        }
        work.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// One round: the watches that are most behind, at most [`Settings::round_watches_max`], get the next part of the history. It
    /// is read once for all of them and without the hub's lock. A round that begins while another one runs does
    /// nothing.
    ///
    /// # Errors
    /// The storage could not be read; the watches stay where they are.
    pub fn catch_up<H: History>(&self, history: &H, wakers: &mut Vec<Waker>) -> Result<CatchUp, H::Error> {
        let Some(_only) = self.0.round.try_lock() else { return Ok(CatchUp { advanced: 0, more: false }) };
        let settings = &self.0.settings;
        let roomy = std::mem::take(&mut self.0.work.lock().roomy);
        let round = {
            let mut registry = self.0.registry.lock();
            roomy.into_iter().for_each(|stream| registry.unblock(stream));
            Round::begin(&mut registry, history.compact_revision(), settings, wakers)
        };
        let Some(round) = round else { return Ok(CatchUp { advanced: 0, more: self.has_more() }) };
        let batch = match history.events(round.from, settings.round_limits) {
            Ok(batch) => batch,
            Err(error) => {
                self.0.registry.lock().round = None;
                return match error {
                    // It was compacted just now: the next round ends the watches that need it.
                    HistoryError::Compacted { .. } => Ok(CatchUp { advanced: 0, more: self.has_more() }),
                    HistoryError::Storage(error) => Err(error),
                };
            }
        };
        let lists = round.lists(&batch);
        let advanced = round.finish(&mut self.0.registry.lock(), &batch, lists, settings, wakers);
        Ok(CatchUp { advanced, more: self.has_more() })
    }

    /// Whether watches are behind. Afterwards [`poll_catch_up`](WatchHub::poll_catch_up) knows it.
    fn has_more(&self) -> bool {
        let registry = self.0.registry.lock();
        let mut work = self.0.work.lock();
        work.behind = !registry.behind.is_empty();
        work.behind || !work.roomy.is_empty()
    }

    /// Sends notices of progress to the idle watches that want them and are due.
    pub fn send_notices(&self, now: Moment, wakers: &mut Vec<Waker>) {
        self.0.registry.lock().send_notices(now, &self.0.settings, wakers);
    }

    /// When [`send_notices`](WatchHub::send_notices) has something to do; `None` if no watch wants notices.
    pub fn next_notices(&self) -> Option<Moment> {
        self.0.registry.lock().notices.first().map(|(due, _)| *due)
    }

    /// Ends the streams that require a leader.
    pub fn lose_leader(&self, wakers: &mut Vec<Waker>) {
        self.end(Ended::NoLeader, |stream| stream.requires_leader, wakers);
    }

    /// Ends all streams.
    pub fn stop(&self, wakers: &mut Vec<Waker>) {
        self.end(Ended::Stopped, |_| true, wakers);
    }

    fn end(&self, ended: Ended, concerned: impl Fn(&StreamState) -> bool, wakers: &mut Vec<Waker>) {
        let mut registry = self.0.registry.lock();
        let streams: Vec<usize> =
            registry.streams.iter().filter(|(_, stream)| concerned(stream)).map(|(slot, _)| slot).collect();
        for stream in streams {
            registry.streams[stream].queue.end(ended, wakers);
            registry.end_watches(slot(stream));
        }
    }
}

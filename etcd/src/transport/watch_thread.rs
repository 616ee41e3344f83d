//! A second thread, for where there are many watches.
//!
//! One event may have thousands of watchers, and to send it to each of them takes most of the time until the last
//! one has it. So where there are many watches about half of them live on a thread of their own, with their
//! connections: two cores send. A connection stays there once it has moved: who has watched watches again.
//!
//! Few watches stay on the main thread, where the member's loop is: to wake another thread takes longer than to
//! tell a few clients.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::threads::ConnectionThread;
use crate::log;

/// So many watches more than on the second thread are on the main one before any moves.
const MORE_ON_MAIN: usize = 32;

/// The second thread, which starts when it is first needed, and how many watches are where.
#[derive(Default)]
pub(crate) struct WatchThread {
    /// Watches on the main thread.
    on_main: Arc<AtomicUsize>,
    /// Open connections that moved to the second thread.
    moved: Arc<AtomicUsize>,
    /// `None` where there cannot be a second thread.
    thread: OnceLock<Option<ConnectionThread>>,
}

impl WatchThread {
    /// Whether a watch that is about to begin on the main thread is to move.
    pub(super) fn takes_next(&self) -> bool {
        self.on_main.load(Relaxed) >= self.moved.load(Relaxed) + MORE_ON_MAIN && self.thread().is_some()
    }

    /// Counts a watch that stays on the main thread, for as long as the answer lives.
    pub(super) fn count_on_main(&self) -> Counted {
        Counted::new(&self.on_main)
    }

    /// Counts a connection that moves to the second thread, for as long as the answer lives.
    pub(super) fn count_moved(&self) -> Counted {
        Counted::new(&self.moved)
    }

    /// Has the second thread serve a connection.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        if let Some(thread) = self.thread() {
            thread.spawn(move || connection);
        }
    }

    /// How many connections live on the second thread.
    #[cfg(test)]
    pub(crate) fn moved(&self) -> usize {
        self.moved.load(Relaxed)
    }

    fn thread(&self) -> Option<&ConnectionThread> {
        self.thread.get_or_init(start).as_ref()
    }
}

/// Starts the second thread, if that can be and is of use.
fn start() -> Option<ConnectionThread> {
    if thread::available_parallelism().map_or(1, usize::from) == 1 {
        return None;
    }
    ConnectionThread::start("watches".to_owned())
        .inspect_err(|error| {
            log::warning!("etcdhttp", "all watches share one thread, for there can be no second: {error}");
        })
        .ok()
}

/// Something that is counted while this lives.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Relaxed);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

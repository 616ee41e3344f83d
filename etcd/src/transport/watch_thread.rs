//! A second thread for many watches.
//!
//! An event may have thousands of watchers, and most of the time until the last one has it is spent on sending. So
//! with many watches about half of them, with their connections, run on a thread of their own, and two cores send. A
//! connection that has moved stays there, because its client will watch again.
//!
//! Few watches stay on the main thread, where the node's loop runs: to wake another thread takes longer than to send
//! to a few clients.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::threads::ConnectionThread;
use crate::log;

/// A watch moves when the main thread has this many more than the second one.
const MORE_ON_MAIN: usize = 32;

/// The second thread, which is started on first use, and the number of watches on each thread.
#[derive(Default)]
pub(crate) struct WatchThread {
    /// Watches on the main thread.
    on_main: Arc<AtomicUsize>,
    /// Open connections that moved to the second thread.
    moved: Arc<AtomicUsize>,
    /// `None` if there is no second thread.
    thread: OnceLock<Option<ConnectionThread>>,
}

impl WatchThread {
    /// Whether the next watch on the main thread has to move.
    pub(super) fn takes_next(&self) -> bool {
        self.on_main.load(Relaxed) >= self.moved.load(Relaxed) + MORE_ON_MAIN && self.thread().is_some()
    }

    /// Counts a watch on the main thread until the guard is dropped.
    pub(super) fn count_on_main(&self) -> CountGuard {
        CountGuard::new(&self.on_main)
    }

    /// Counts a connection on the second thread until the guard is dropped.
    pub(super) fn count_moved(&self) -> CountGuard {
        CountGuard::new(&self.moved)
    }

    /// Runs a connection on the second thread.
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

/// Starts the second thread, unless there is only one core or the start fails.
fn start() -> Option<ConnectionThread> {
    if thread::available_parallelism().map_or(1, usize::from) == 1 {
        return None;
    }
    ConnectionThread::start("watches".to_owned())
        .inspect_err(|error| {
            log::warning!("etcdhttp", "cannot start a second thread for watches: {error}");
        })
        .ok()
}

/// Decrements a counter on drop.
pub(super) struct CountGuard(Arc<AtomicUsize>);

impl CountGuard {
    fn new(count: &Arc<AtomicUsize>) -> CountGuard {
        count.fetch_add(1, Relaxed);
        CountGuard(count.clone())
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

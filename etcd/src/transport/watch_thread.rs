//! A second thread, for where there are many watches.
//!
//! One event may have thousands of watchers, and to send it to each of them takes most of the time until the last
//! one has it. So where there are many watches about half of them live on a thread of their own, with their
//! connections: two cores send. A connection stays there once it has moved: who has watched watches again.
//!
//! Few watches stay on the main thread, where the member's loop is: to wake another thread takes longer than to
//! tell a few clients.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use crate::log;

/// So many watches more than on the second thread are on the main one before any moves.
const MORE_ON_MAIN: usize = 32;

/// Spawns a connection's task on the thread that it is called on.
type Spawn = Box<dyn FnOnce() + Send>;

/// The second thread, which starts when it is first needed, and how many watches are where.
#[derive(Default)]
pub(crate) struct WatchThread {
    /// Watches on the main thread.
    on_main: Arc<AtomicUsize>,
    /// Open connections that moved to the second thread.
    moved: Arc<AtomicUsize>,
    /// `None` where there cannot be a second thread.
    tasks: OnceLock<Option<UnboundedSender<Spawn>>>,
}

impl WatchThread {
    /// Whether a watch that is about to begin on the main thread is to move.
    pub(super) fn takes_next(&self) -> bool {
        self.on_main.load(Relaxed) >= self.moved.load(Relaxed) + MORE_ON_MAIN && self.tasks().is_some()
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
        if let Some(tasks) = self.tasks() {
            // The thread takes them for as long as any can be sent.
            let _ = tasks.send(Box::new(move || {
                spawn_local(connection);
            }));
        }
    }

    /// How many connections live on the second thread.
    #[cfg(test)]
    pub(crate) fn moved(&self) -> usize {
        self.moved.load(Relaxed)
    }

    fn tasks(&self) -> Option<&UnboundedSender<Spawn>> {
        self.tasks.get_or_init(start).as_ref()
    }
}

/// Starts the second thread, if that can be and is of use.
fn start() -> Option<UnboundedSender<Spawn>> {
    if thread::available_parallelism().map_or(1, usize::from) == 1 {
        return None;
    }
    try_start()
        .inspect_err(|error| {
            log::warning!("etcdhttp", "all watches share one thread, for there can be no second: {error}");
        })
        .ok()
}

fn try_start() -> io::Result<UnboundedSender<Spawn>> {
    // Sockets are looked at after each turn of the set: its tasks hide from the runtime how many they are.
    let runtime = Builder::new_current_thread().enable_all().event_interval(1).build()?;
    let (sender, tasks) = unbounded_channel();
    thread::Builder::new().name("watches".to_owned()).spawn(move || run(&runtime, tasks))?;
    Ok(sender)
}

/// Serves the connections that come, until none can come any more.
fn run(runtime: &Runtime, mut tasks: UnboundedReceiver<Spawn>) {
    // A set wakes the thread once for all of its tasks that an event wakes, where the runtime would for each.
    LocalSet::new().block_on(runtime, async move {
        while let Some(spawn) = tasks.recv().await {
            spawn();
        }
    });
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

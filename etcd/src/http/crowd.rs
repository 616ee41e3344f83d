//! Room for many watches.
//!
//! One event may have thousands of watchers, and to send it to each of them takes most of the time until the last
//! one has it. So where there are many watches about half of them live on a second thread, with their
//! connections: two cores send. A connection stays where it is once it has moved: who has watched watches again.
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
const MORE_HERE: usize = 32;

/// Begins the rest of a connection's life, on the thread that it is to be lived on.
type Arrival = Box<dyn FnOnce() + Send>;

/// Where watches live.
#[derive(Default)]
pub(super) struct Crowd {
    /// Watches on the main thread.
    here: Arc<AtomicUsize>,
    /// Connections that moved to the second thread and are open.
    there: Arc<AtomicUsize>,
    /// The way to the second thread, which starts when it is first needed. `None` where there cannot be one.
    door: OnceLock<Option<UnboundedSender<Arrival>>>,
}

impl Crowd {
    /// Whether a watch that is about to begin on the main thread is better off on the other.
    pub(super) fn is_large_here(&self) -> bool {
        self.here.load(Relaxed) >= self.there.load(Relaxed) + MORE_HERE && self.door().is_some()
    }

    /// Counts a watch that stays on the main thread, for as long as the answer lives.
    pub(super) fn stay(&self) -> Counted {
        Counted::new(&self.here)
    }

    /// Counts a connection that moves to the second thread, for as long as the answer lives.
    pub(super) fn grow(&self) -> Counted {
        Counted::new(&self.there)
    }

    /// Has the second thread live this life, the rest of a connection's.
    pub(super) fn send(&self, life: impl Future<Output = ()> + Send + 'static) {
        if let Some(door) = self.door() {
            // Somebody waits for arrivals as long as any can be sent.
            let _ = door.send(Box::new(move || {
                spawn_local(life);
            }));
        }
    }

    /// How many connections live on the second thread.
    #[cfg(test)]
    pub(super) fn moved(&self) -> usize {
        self.there.load(Relaxed)
    }

    fn door(&self) -> Option<&UnboundedSender<Arrival>> {
        self.door.get_or_init(open).as_ref()
    }
}

/// Starts the second thread.
fn open() -> Option<UnboundedSender<Arrival>> {
    if thread::available_parallelism().map_or(1, usize::from) == 1 {
        return None;
    }
    match start() {
        Ok(door) => Some(door),
        Err(error) => {
            log::warning!("etcdhttp", "all watches share one thread, for there can be no second: {error}");
            None
        }
    }
}

fn start() -> io::Result<UnboundedSender<Arrival>> {
    // Polled at each turn of the set: its tasks hide from the runtime how many they are.
    let runtime = Builder::new_current_thread().enable_all().event_interval(1).build()?;
    let (door, arrivals) = unbounded_channel();
    thread::Builder::new().name("watches".to_owned()).spawn(move || live(&runtime, arrivals))?;
    Ok(door)
}

/// Serves the connections that come, until none can come any more.
fn live(runtime: &Runtime, mut arrivals: UnboundedReceiver<Arrival>) {
    // A set wakes the thread once for all of its tasks that an event wakes, where the runtime would for each.
    LocalSet::new().block_on(runtime, async move {
        while let Some(arrive) = arrivals.recv().await {
            arrive();
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

//! The threads that serve connections, beside the main thread.
//!
//! The member's loop runs on the main thread. Where there are processors for them, clients have threads of their own:
//! then consensus and what clients send do not wait for each other, and reads scale with the number of threads, for
//! they ask the store and not the loop. On one or two processors all connections stay on the main thread: to wake another
//! thread for each write, and again for its answer, costs more than it gains there.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

/// Fewer processors than this are shared by the member and its clients.
const PROCESSORS_MIN: usize = 4;

/// More threads than this take nothing off the others: the member's loop is then what is busy.
const CLIENT_THREADS_MAX: usize = 8;

/// The descriptors of a runtime: two of its poller, one to wake it and one for signals.
const RUNTIME_DESCRIPTORS: u64 = 4;

/// Spawns a connection's task on the thread that it is called on.
type Spawn = Box<dyn FnOnce() + Send>;

/// A thread that serves connections. It ends when this is dropped.
pub(super) struct ConnectionThread {
    tasks: UnboundedSender<Spawn>,
}

impl ConnectionThread {
    /// Starts a thread of this name.
    ///
    /// # Errors
    /// When there are not enough threads or descriptors.
    pub(super) fn start(name: String) -> io::Result<ConnectionThread> {
        // Sockets are looked at after each turn of the set: its tasks hide from the runtime how many they are.
        let runtime = Builder::new_current_thread().enable_all().event_interval(1).build()?;
        let (tasks, received) = unbounded_channel();
        thread::Builder::new().name(name).spawn(move || run(&runtime, received))?;
        Ok(ConnectionThread { tasks })
    }

    /// Has the thread serve a connection: `connection` is called there.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        connection: impl FnOnce() -> F + Send + 'static,
    ) {
        // The thread receives for as long as this can send.
        let _ = self.tasks.send(Box::new(move || {
            spawn_local(connection());
        }));
    }
}

/// Serves the connections that arrive, until no more can.
fn run(runtime: &Runtime, mut tasks: UnboundedReceiver<Spawn>) {
    // A set wakes the thread once for all of its tasks that an event wakes, where the runtime would for each.
    LocalSet::new().block_on(runtime, async move {
        while let Some(spawn) = tasks.recv().await {
            spawn();
        }
    });
}

/// The threads that serve the connections of clients; none where the main thread does.
#[derive(Default)]
pub(crate) struct ClientThreads {
    threads: Vec<ConnectionThread>,
    next: AtomicUsize,
}

impl ClientThreads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When there are not enough threads or descriptors.
    pub(crate) fn start(count: usize) -> io::Result<ClientThreads> {
        let threads = (0..count).map(|number| ConnectionThread::start(format!("clients {number}")));
        Ok(ClientThreads { threads: threads.collect::<io::Result<_>>()?, next: AtomicUsize::new(0) })
    }

    /// How many threads suit a machine: all processors but one for the member and one for its log.
    pub(crate) fn suited_to(processors: usize) -> usize {
        if processors < PROCESSORS_MIN { 0 } else { (processors - 2).min(CLIENT_THREADS_MAX) }
    }

    /// The descriptors that the threads' runtimes hold.
    pub(crate) fn descriptors(&self) -> u64 {
        self.threads.len() as u64 * RUNTIME_DESCRIPTORS
    }

    /// The thread for the next connection: each in turn. `None` stands for the main thread.
    pub(super) fn next(&self) -> Option<&ConnectionThread> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.threads.get(turn % self.threads.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_processors_are_shared() {
        let suited = [1, 2, 3, 4, 8, 64].map(ClientThreads::suited_to);
        assert_eq!(suited, [0, 0, 0, 2, 6, 8]);
    }

    #[test]
    fn threads_take_turns() {
        let threads = ClientThreads::start(2).unwrap();
        let (sender, names) = std::sync::mpsc::channel();
        for _ in 0..4 {
            let sender = sender.clone();
            threads.next().unwrap().spawn(move || async move {
                sender.send(thread::current().name().map(str::to_owned)).unwrap();
            });
        }
        let mut names: Vec<String> = names.iter().take(4).flatten().collect();
        names.sort();
        assert_eq!(names, ["clients 0", "clients 0", "clients 1", "clients 1"]);
        assert!(ClientThreads::default().next().is_none());
    }
}

//! Whether the client of a connection is still connected, so that no work is done for a client that has left.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Shared by the two sides of a connection, which run in one task. One side requests a check; the other one owns the
/// socket and checks it whenever the task has run.
#[derive(Debug, Default)]
pub(crate) struct ClientPresence {
    /// A check is requested.
    is_requested: AtomicBool,
    /// The client had closed its side at the last check.
    has_left: AtomicBool,
}

impl ClientPresence {
    /// Whether the client has closed its side of the connection.
    pub(crate) async fn has_left(&self) -> bool {
        self.is_requested.store(true, Relaxed);
        // The socket side checks whenever the connection's task has run, and this code is a part of that task.
        tokio::task::yield_now().await;
        self.is_requested.store(false, Relaxed);
        self.has_left.load(Relaxed)
    }

    /// Whether the client had closed its side at the last check.
    pub(crate) fn was_seen_leaving(&self) -> bool {
        self.has_left.load(Relaxed)
    }

    /// Whether a check is requested.
    pub(crate) fn is_requested(&self) -> bool {
        self.is_requested.load(Relaxed)
    }

    /// Records the result of a check.
    pub(crate) fn set_left(&self, has_left: bool) {
        self.has_left.store(has_left, Relaxed);
    }
}

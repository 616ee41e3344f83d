//! Whether the client of a connection is still there, for who works for it and would rather not do so in vain.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What the two sides of a connection, in one task, know of whether its client is still there. One side asks; the
/// other one, which has the socket, looks whenever the task has run.
#[derive(Debug, Default)]
pub(crate) struct ClientPresence {
    /// Somebody wants to know.
    is_requested: AtomicBool,
    /// The client has closed its side, as far as was asked.
    has_left: AtomicBool,
}

impl ClientPresence {
    /// Whether the client has closed its side of the connection.
    pub(crate) async fn has_left(&self) -> bool {
        self.is_requested.store(true, Relaxed);
        // The socket's side looks whenever the connection's task has run, and this is a part of that task.
        tokio::task::yield_now().await;
        self.is_requested.store(false, Relaxed);
        self.has_left.load(Relaxed)
    }

    /// Whether the socket is to be looked at.
    pub(crate) fn is_requested(&self) -> bool {
        self.is_requested.load(Relaxed)
    }

    /// What the socket says: whether the client has closed its side.
    pub(crate) fn set_left(&self, has_left: bool) {
        self.has_left.store(has_left, Relaxed);
    }
}

//! Notices clients that go away before they have their answer.

use std::net::SocketAddr;

use crate::log;

/// Dropped before it is disarmed, it tells the log that the client did not wait.
#[derive(Debug)]
pub(super) struct PrematureCloseLog {
    client: Option<SocketAddr>,
}

impl PrematureCloseLog {
    /// A request of this client is being answered.
    pub(super) fn of(client: Option<SocketAddr>) -> PrematureCloseLog {
        PrematureCloseLog { client }
    }

    /// The request has come to an end that is not the client's doing.
    pub(super) fn disarm(&mut self) {
        self.client = None;
    }
}

impl Drop for PrematureCloseLog {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            log::info!("proxy", "client {client} closed request prematurely");
        }
    }
}

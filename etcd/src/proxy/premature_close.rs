//! Logs clients that disconnect before the end of the response.

use std::net::SocketAddr;

use crate::log;

/// Logs on drop that the client closed the connection early, unless it is disarmed.
#[derive(Debug)]
pub(super) struct PrematureCloseLog {
    client: Option<SocketAddr>,
}

impl PrematureCloseLog {
    /// Guards a request of this client.
    pub(super) fn of(client: Option<SocketAddr>) -> PrematureCloseLog {
        PrematureCloseLog { client }
    }

    /// The request has ended for another reason.
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

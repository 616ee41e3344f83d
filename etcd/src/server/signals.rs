//! The signals that stop the server.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::log;

/// SIGTERM and SIGINT, caught from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them and returns its number.
    pub(crate) async fn next(&mut self) -> i32 {
        let (kind, name) = tokio::select! {
            _ = self.terminate.recv() => (SignalKind::terminate(), "terminated"),
            _ = self.interrupt.recv() => (SignalKind::interrupt(), "interrupt"),
        };
        log::notice!("osutil", "received {name} signal, shutting down...");
        kind.as_raw_value()
    }
}

//! The side that is dialled.

use std::io;

use tokio::net::TcpStream;

use super::Stream;

/// Makes a [`Stream`] of each socket that a listener takes in. Clones share everything.
#[derive(Debug, Clone)]
pub struct Acceptor {}

/// Why a connection could not be taken in. The other side is told by the protocol, as far as it allows.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection broke.
    #[error("{}", super::io_reason(.0))]
    Io(#[from] io::Error),
}

impl Acceptor {
    /// Takes every connection in as it is.
    #[must_use]
    pub fn plain() -> Acceptor {
        Acceptor {}
    }

    /// Agrees with the other side on how to talk.
    ///
    /// # Errors
    /// When that fails; nothing is left to do for the connection then.
    #[expect(clippy::unused_async, reason = "TLS takes a handshake")]
    pub async fn accept(&self, socket: TcpStream) -> Result<Stream, AcceptError> {
        Ok(Stream::Plain(socket))
    }
}

//! A client of the v3 API over gRPC: endpoints, failover, tokens, typed calls.
//!
//! A [`Client`] has one connection to one member of a cluster; if it breaks, the next call connects to the next
//! endpoint that answers. As in [`client`](super), nothing here limits the time of a whole call: while no endpoint can
//! be reached a call waits, and the caller ends it with [`tokio::time::timeout`] or by dropping it
//! ([`Client::unreachable`] says then why).
//!
//! With credentials the client gets a token at its first call, and a new one when the server no longer knows the
//! token.

mod calls;
mod channel;
mod endpoints;
mod error;
mod keep_alive;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

pub use channel::{Channel, ChannelError};
pub use endpoints::EndpointError;
pub use error::{Code, RpcError};
pub use keep_alive::KeepAlive;
pub use watch::WatchStream;

use super::Credentials;
use crate::net::{ClientTlsFiles, TlsFileError};

/// The options of a client.
#[derive(Debug, Clone)]
pub struct Options {
    /// `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`. Without a scheme, `tls` decides.
    pub endpoints: Vec<String>,
    /// Certificates and keys.
    pub tls: ClientTlsFiles,
    /// Whether endpoints without a scheme use TLS.
    pub tls_by_default: bool,
    /// Whether to connect to servers whose certificates are not valid.
    pub accept_any_server: bool,
    /// How long connecting to one endpoint may take.
    pub dial_timeout: Duration,
    /// After this time without traffic, while calls are running, the server must answer a ping. Never below ten
    /// seconds: servers close connections whose clients ping more often than every five.
    pub keep_alive_time: Duration,
    /// How long the server may take to answer the ping.
    pub keep_alive_timeout: Duration,
    /// The user and the password.
    pub credentials: Option<Credentials>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            endpoints: Vec::new(),
            tls: ClientTlsFiles::default(),
            tls_by_default: false,
            accept_any_server: false,
            dial_timeout: Duration::from_secs(2),
            keep_alive_time: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(6),
            credentials: None,
        }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// An endpoint is not one.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
}

/// A client of one cluster. Clones share the connection and the token.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// When an endpoint is not one or there is none, or a file cannot be used.
    pub fn new(options: Options) -> Result<Client, OptionsError> {
        Ok(Client { channel: Channel::new(options)? })
    }

    /// The connection, for the generated clients of `shared::v3::pb`. Calls over it carry the token, but neither get one
    /// nor renew it.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Why the last attempt to connect failed; `None` after a successful one.
    pub fn unreachable(&self) -> Option<String> {
        self.channel.unreachable()
    }

    /// The endpoints, in the order in which they are tried.
    pub fn endpoints(&self) -> &[String] {
        self.channel.endpoints()
    }
}

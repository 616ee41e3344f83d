//! Connections between programs: dialling by URL and accepting, plain or with TLS.
//!
//! Servers, peers, proxies and clients share [`Dialer`] and [`Acceptor`], so that an error has the same text
//! everywhere.

mod accept;
mod certificate;
mod dial;
mod explain;
mod files;
mod handshake_limiter;
mod http;
mod peer_certificate;
mod reloaded;
mod stream;
mod verify;

pub use accept::{AcceptError, Acceptor};
pub use dial::{DialError, Dialer, Target, TlsOptions};
pub use explain::{TlsCause, TlsFailure};
pub use files::{ClientTlsFiles, Role, ServerTlsFiles, TlsFileError};
pub use http::{HttpAnswer, HttpClient, HttpError, HttpOptions, HttpRequest, Proxy};
pub use peer_certificate::{PeerCertificate, certificates_in, peer_certificate};
pub use stream::{Detached, Encrypted, Stream};

/// What the system said, in the words of Go: `connection refused`.
#[must_use]
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if error.raw_os_error().is_some() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;

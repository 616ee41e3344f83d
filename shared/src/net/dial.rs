//! The side that dials.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Stream, io_reason};
use crate::url::{Scheme, Url};

/// A connection may be silent for days; a host that vanished is noticed after `IDLE + RETRIES · INTERVAL`.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// How to reach others. Clones share everything.
#[derive(Debug, Clone)]
pub struct Dialer {}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether to encrypt.
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why there is no connection. The texts are those of Go's dialler, which clients and operators look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The host's name has no address.
    #[error("dial tcp: lookup {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// Nobody takes the connection in.
    #[error("dial tcp {address}: {reason}")]
    Connect {
        /// The address tried.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The port of a URL is none.
    #[error("dial tcp: invalid port {0}")]
    Port(String),
    /// TLS was asked for without certificates.
    #[error("{0}")]
    Tls(String),
}

impl Target {
    /// Where a URL leads to.
    ///
    /// # Errors
    /// When its port is larger than ports are.
    pub fn of(url: &Url) -> Result<Target, DialError> {
        let port = match url.port() {
            "" => 0,
            port => port.parse().map_err(|_| DialError::Port(port.to_owned()))?,
        };
        Ok(Target { tls: url.scheme() == Scheme::Https, host: url.host().to_owned(), port })
    }

    /// `host:port`, an IPv6 host in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Dialer {
    /// Reaches `http` URLs only.
    #[must_use]
    pub fn plain() -> Dialer {
        Dialer {}
    }

    /// Connects to the host of a URL within a time.
    ///
    /// # Errors
    /// When that does not succeed.
    pub async fn dial(&self, url: &Url, time_max: Duration) -> Result<Stream, DialError> {
        self.connect(&Target::of(url)?, time_max).await
    }

    /// Connects to a host and port within a time.
    ///
    /// # Errors
    /// When that does not succeed.
    pub async fn connect(&self, target: &Target, time_max: Duration) -> Result<Stream, DialError> {
        if target.tls {
            return Err(DialError::Tls("tls: no certificates are configured".to_owned()));
        }
        connect_tcp(target, time_max).await.map(Stream::Plain)
    }
}

/// Tries the host's addresses one after the other; each gets its share of the time.
async fn connect_tcp(target: &Target, time_max: Duration) -> Result<TcpStream, DialError> {
    let late = |_| DialError::Lookup { host: target.host.clone(), reason: "i/o timeout".to_owned() };
    let addresses = timeout(time_max, resolve(target)).await.map_err(late)??;
    let share = time_max / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut first = None;
    for address in addresses {
        let reason = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => io_reason(&error),
            Err(_) => "i/o timeout".to_owned(),
        };
        first.get_or_insert(DialError::Connect { address: address.to_string(), reason });
    }
    Err(first.unwrap_or_else(|| DialError::Lookup {
        host: target.host.clone(),
        reason: "no such host".to_owned(),
    }))
}

async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    // To Go no host at all is the own one.
    let host = if target.host.is_empty() { "localhost" } else { &target.host };
    match tokio::net::lookup_host((host, target.port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => {
            let text = io_reason(&error);
            let reason = match text.strip_prefix("failed to lookup address information: ") {
                Some("Name or service not known") => "no such host",
                Some(reason) => reason,
                None => &text,
            };
            Err(DialError::Lookup { host: target.host.clone(), reason: reason.to_owned() })
        }
    }
}

/// Small requests leave at once, and a silent connection is probed. Failure costs speed only.
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::Acceptor;

    const TIME: Duration = Duration::from_secs(5);

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    async fn refusal(text: &str) -> String {
        Dialer::plain().dial(&url(text), TIME).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn both_sides_talk() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let other = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = Acceptor::plain().accept(socket).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        });
        let mut stream = Dialer::plain().dial(&url(&format!("http://localhost:{port}")), TIME).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        other.await.unwrap();
    }

    #[tokio::test]
    async fn failures_are_told_as_go_does() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(refusal(&format!("http://{free}")).await, format!("dial tcp {free}: connection refused"));
        assert_eq!(refusal("http://127.0.0.1:65536").await, "dial tcp: invalid port 65536");
        assert!(
            refusal("http://no.such.host.invalid:1")
                .await
                .starts_with("dial tcp: lookup no.such.host.invalid: ")
        );
        assert_eq!(refusal(&format!("https://{free}")).await, "tls: no certificates are configured");
    }

    #[test]
    fn an_ipv6_host_is_in_brackets() {
        let target = Target::of(&url("https://[::1]:2379")).unwrap();
        assert_eq!((target.tls, target.host.as_str(), target.port), (true, "::1", 2379));
        assert_eq!(target.authority(), "[::1]:2379");
    }
}

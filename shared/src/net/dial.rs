//! Dialling.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::explain::{LocalSide, TlsFailure};
use super::files::{ClientTlsFiles, Identity, TlsFileError, read_authorities, system_authorities};
use super::io_reason;
use super::reloaded::Reloaded;
use super::stream::{Encrypted, Stream};
use super::verify::{AcceptAllVerifier, RejectAllVerifier, ServerVerifier, recording};
use crate::url::{Scheme, Url};

/// TCP keep-alive: a host that vanished is noticed after `IDLE + RETRIES · INTERVAL`.
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(super) const KEEPALIVE_RETRIES: u32 = 3;

/// The time limit of a TLS handshake, as in the original.
pub(super) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Makes connections. Clones share everything.
///
/// The files are checked before each TLS connection, and read again when they have changed; files that cannot be used
/// then are logged, and the old contents stay in use.
#[derive(Debug, Clone)]
pub struct Dialer {
    tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
struct Tls {
    watched: Reloaded<ClientTlsConfig>,
}

/// What a TLS connection needs.
#[derive(Debug)]
pub(super) struct ClientTlsConfig {
    provider: Arc<CryptoProvider>,
    side: Arc<LocalSide>,
    /// `None`: the system's, read at the first connection.
    roots: Option<RootCertStore>,
    accept_common_name: bool,
    options: TlsOptions,
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

/// How TLS connections are made, apart from the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether to negotiate HTTP/2 (ALPN `h2`), which gRPC needs.
    pub http2: bool,
    /// Whether to connect to servers whose certificates are not valid.
    pub accept_any_server: bool,
}

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
    /// The connection was not accepted.
    #[error("dial tcp {address}: {reason}")]
    Connect {
        /// The address tried.
        address: String,
        /// What the system said.
        reason: String,
        /// Its kind.
        kind: std::io::ErrorKind,
    },
    /// The port of a URL is not valid.
    #[error("dial tcp: invalid port {0}")]
    Port(String),
    /// The connection broke during the TLS handshake.
    #[error("read tcp {address}: {reason}")]
    Broken {
        /// The other side.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The other side closed the connection during the TLS handshake.
    #[error("unexpected EOF from {address}")]
    Eof {
        /// The other side.
        address: String,
    },
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
}

impl DialError {
    /// Whether the host answers but no program listens at the port.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, DialError::Connect { kind: std::io::ErrorKind::ConnectionRefused, .. })
    }
}

impl Target {
    /// The target of a URL.
    ///
    /// # Errors
    /// If its port is too large.
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

impl Target {
    /// The host; for Go, an empty host is the own machine.
    pub(super) fn host_or_own(&self) -> &str {
        if self.host.is_empty() { "localhost" } else { &self.host }
    }
}

impl Dialer {
    /// Reaches `http` URLs only.
    #[must_use]
    pub fn plain() -> Dialer {
        Dialer { tls: None }
    }

    /// Reaches `http` and `https` URLs. The files are read now; the system's authorities, where they are needed,
    /// at the first TLS connection.
    ///
    /// # Errors
    /// When a file cannot be used, or one of certificate and key is missing.
    pub fn new(files: &ClientTlsFiles) -> Result<Dialer, TlsFileError> {
        Dialer::with_options(files, TlsOptions::default())
    }

    /// As [`Dialer::new`], with options.
    ///
    /// # Errors
    /// When a file cannot be used, or one of certificate and key is missing.
    pub fn with_options(files: &ClientTlsFiles, options: TlsOptions) -> Result<Dialer, TlsFileError> {
        let paths: Vec<PathBuf> = files.cert.iter().chain(&files.key).chain(&files.ca).cloned().collect();
        let watched = Reloaded::new(paths, {
            let files = files.clone();
            move || ClientTlsConfig::read(&files, options)
        })?;
        Ok(Dialer { tls: Some(Arc::new(Tls { watched })) })
    }

    /// Connects to the host of a URL. Name lookup and connecting take `time_max` at most, a TLS handshake up to ten
    /// seconds more.
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn dial(&self, url: &Url, time_max: Duration) -> Result<Stream, DialError> {
        self.connect(&Target::of(url)?, time_max).await
    }

    /// Connects to a host and port, as [`Dialer::dial`].
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn connect(&self, target: &Target, time_max: Duration) -> Result<Stream, DialError> {
        if !target.tls {
            return connect_tcp(target, time_max).await.map(Stream::Plain);
        }
        // Before connecting, so that an error drops no connection.
        let tls = self.tls()?;
        let socket = connect_tcp(target, time_max).await?;
        Box::pin(tls.encrypt(target, socket)).await
    }

    /// The TLS settings from the present files.
    pub(super) fn loaded(&self) -> Result<Arc<ClientTlsConfig>, DialError> {
        Ok(self.tls()?.watched.current())
    }

    fn tls(&self) -> Result<&Tls, DialError> {
        let refusal = || TlsFailure::other("tls: this connection is to be plain: use an http URL").into();
        self.tls.as_deref().ok_or_else(refusal)
    }
}

impl Tls {
    async fn encrypt(&self, target: &Target, socket: TcpStream) -> Result<Stream, DialError> {
        let loaded = self.watched.current();
        let config = loaded.config().map_err(TlsFailure::other)?;
        let host = target.host_or_own();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsFailure::other(format!("tls: {host} is no name of a server")))?;
        let handshake = TlsConnector::from(config).connect(name, socket);
        let address = target.authority();
        match timeout(HANDSHAKE_TIME_MAX, recording(handshake)).await {
            Ok((Ok(stream), _)) => Ok(Stream::Tls(Box::new(Encrypted::new(stream, loaded.side.clone())))),
            Ok((Err(error), other)) => {
                Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(error) => DialError::Tls(loaded.side.explain(error, other.as_ref())),
                    None if error.kind() == io::ErrorKind::UnexpectedEof => DialError::Eof { address },
                    None => DialError::Broken { address, reason: io_reason(&error) },
                })
            }
            Err(_) => Err(DialError::Broken { address, reason: "TLS handshake timeout".to_owned() }),
        }
    }
}

impl ClientTlsConfig {
    fn read(files: &ClientTlsFiles, options: TlsOptions) -> Result<ClientTlsConfig, TlsFileError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = Identity::read(files.cert.as_deref(), files.key.as_deref(), false, &provider)?;
        let roots = read_authorities(&files.ca)?;
        let accept_common_name = files.accept_common_name;
        let side = Arc::new(LocalSide { role: files.role, dialled: true, own });
        Ok(ClientTlsConfig { provider, side, roots, accept_common_name, options, config: OnceLock::new() })
    }

    pub(super) fn side(&self) -> Arc<LocalSide> {
        self.side.clone()
    }

    /// The configuration for connections. The first call may read the system's authorities.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.config.get_or_init(|| self.build().map_err(|error| format!("tls: {error}"))).clone()
    }

    fn build(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?;
        let check = ServerVerifier { inner: self.verifier()?, accept_common_name: self.accept_common_name };
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(check));
        let mut config = match &self.side.own {
            Some(own) => {
                let resolver = SingleCertAndKey::from(own.key.clone());
                builder.with_client_cert_resolver(Arc::new(resolver) as Arc<dyn ResolvesClientCert>)
            }
            None => builder.with_no_client_auth(),
        };
        if self.options.http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Arc::new(config))
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        if self.options.accept_any_server {
            return Ok(Arc::new(AcceptAllVerifier(self.provider.clone())));
        }
        let roots = self.roots.clone().unwrap_or_else(system_authorities);
        // The library's own verifier needs at least one authority.
        if roots.is_empty() {
            return Ok(Arc::new(RejectAllVerifier(self.provider.clone())));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(verifier)
    }
}

/// The TLS configuration for plain connections: it trusts no certificate.
pub(super) fn plain_config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// Tries the host's addresses one after the other; each gets its share of the time.
pub(super) async fn connect_tcp(target: &Target, time_max: Duration) -> Result<TcpStream, DialError> {
    let late = |_| DialError::Lookup { host: target.host.clone(), reason: "i/o timeout".to_owned() };
    let addresses = timeout(time_max, resolve(target)).await.map_err(late)??;
    let share = time_max / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut first = None;
    for address in addresses {
        let (reason, kind) = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => (io_reason(&error), error.kind()),
            Err(_) => ("i/o timeout".to_owned(), std::io::ErrorKind::TimedOut),
        };
        first.get_or_insert(DialError::Connect { address: address.to_string(), reason, kind });
    }
    Err(first.unwrap_or_else(|| DialError::Lookup {
        host: target.host.clone(),
        reason: "no such host".to_owned(),
    }))
}

/// The addresses of a host.
pub(super) async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    match tokio::net::lookup_host((target.host_or_own(), target.port)).await {
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
        assert_eq!(
            refusal(&format!("https://{free}")).await,
            "tls: this connection is to be plain: use an http URL"
        );
    }

    #[test]
    fn an_ipv6_host_is_in_brackets() {
        let target = Target::of(&url("https://[::1]:2379")).unwrap();
        assert_eq!((target.tls, target.host.as_str(), target.port), (true, "::1", 2379));
        assert_eq!(target.authority(), "[::1]:2379");
    }
}

//! Accepting connections.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::explain::{LocalSide, TlsFailure};
use super::files::{Identity, Role, ServerTlsFiles, TlsFileError, read_authorities, system_authorities};
use super::handshake_limiter::HandshakeLimiter;
use super::io_reason;
use super::reloaded::Reloaded;
use super::stream::{Encrypted, Stream};
use super::verify::{ClientVerifier, recording};

/// The time limit of a TLS handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(30);

/// How plain HTTP requests begin.
const PLAIN_REQUEST_STARTS: [&[u8; 5]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];

/// The answer to a plain HTTP request.
const PLAIN_REQUEST_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// How long to read on after that answer.
const PLAIN_TIME_MAX: Duration = Duration::from_millis(500);

/// How long the same refusal of the same host is not logged again.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How many refusals are remembered, so that they are not logged again. Further ones are not logged at all.
const LOGGED_REFUSALS_MAX: usize = 64;

/// Makes a [`Stream`] of each accepted socket. Clones share everything.
///
/// With TLS, the files are checked before each connection, and read again when they have changed; files that cannot
/// be used then are logged, and the old contents stay in use.
#[derive(Debug, Clone)]
pub struct Acceptor {
    tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
struct Tls {
    files: ServerTlsFiles,
    tls_files: Reloaded<ServerTlsConfig>,
    refusals: Mutex<Vec<LoggedRefusal>>,
    limiter: HandshakeLimiter,
}

#[derive(Debug)]
struct ServerTlsConfig {
    config: Arc<ServerConfig>,
    side: Arc<LocalSide>,
}

/// A refusal that was logged.
#[derive(Debug)]
struct LoggedRefusal {
    host: Option<IpAddr>,
    text: String,
    at: Instant,
}

/// Why a connection could not be accepted. The other side learns it as far as the protocol allows.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection broke.
    #[error("{}", io_reason(.0))]
    Io(#[from] io::Error),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The other side sent a plain HTTP request, and got an answer that says to use TLS.
    #[error("client sent an HTTP request to an HTTPS server")]
    Plain,
    /// The handshake took too long.
    #[error("TLS handshake timeout")]
    Slow,
}

impl Acceptor {
    /// Accepts connections without encryption.
    #[must_use]
    pub fn plain() -> Acceptor {
        Acceptor { tls: None }
    }

    /// Accepts TLS connections.
    ///
    /// Faults of the certificate that others may refuse are logged, now and when it changes.
    ///
    /// # Errors
    /// When a file cannot be used, or there is no certificate.
    pub fn tls(files: &ServerTlsFiles) -> Result<Acceptor, TlsFileError> {
        Acceptor::tls_offering(files, &[])
    }

    /// As [`tls`](Acceptor::tls), for a port that speaks several protocols: their names in ALPN, the preferred one first.
    /// A client without ALPN is accepted; one that names other protocols only is not.
    ///
    /// # Errors
    /// As [`tls`](Acceptor::tls).
    pub fn tls_offering(
        files: &ServerTlsFiles,
        protocols: &'static [&'static [u8]],
    ) -> Result<Acceptor, TlsFileError> {
        let paths: Vec<PathBuf> = files.cert.iter().chain(&files.key).chain(&files.ca).cloned().collect();
        let tls_files = Reloaded::new(paths, {
            let files = files.clone();
            move || ServerTlsConfig::read(&files, protocols)
        })?;
        Ok(Acceptor {
            tls: Some(Arc::new(Tls {
                files: files.clone(),
                tls_files,
                refusals: Mutex::default(),
                limiter: HandshakeLimiter::new(),
            })),
        })
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Does the handshake of a connection. Refusals are logged here.
    ///
    /// # Errors
    /// If it fails; then there is nothing more to do for the connection.
    pub async fn accept(&self, socket: TcpStream) -> Result<Stream, AcceptError> {
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(socket)) };
        let host = socket.peer_addr();
        // The state of a handshake is large, and short-lived.
        let accepted = Box::pin(timeout(HANDSHAKE_TIME_MAX, tls.encrypt(socket))).await;
        let result = accepted.unwrap_or(Err(AcceptError::Slow));
        if let Err(error) = &result {
            let whom = tls.files.role.whom();
            let from = host.as_ref().map_or_else(|_| "?".to_owned(), ToString::to_string);
            // Health checks of load balancers connect and hang up: do not log those.
            if !matches!(error, AcceptError::Io(_)) && tls.should_log(host.ok().map(|host| host.ip()), error)
            {
                tracing::warn!(target: "transport", "rejected connection of {whom} {from}: {error}");
            } else {
                tracing::debug!(target: "transport", "rejected connection of {whom} {from}: {error}");
            }
        }
        result
    }
}

impl Tls {
    async fn encrypt(&self, mut socket: TcpStream) -> Result<Stream, AcceptError> {
        let mut start = [0; 5];
        let read = socket.peek(&mut start).await?;
        if PLAIN_REQUEST_STARTS.iter().any(|plain| start[..read] == **plain) {
            // Closing with unread input resets the connection, and the answer may be lost.
            let _ = timeout(PLAIN_TIME_MAX, answer_plain_request(&mut socket)).await;
            return Err(AcceptError::Plain);
        }
        let loaded = self.tls_files.current();
        let handshake = TlsAcceptor::from(loaded.config.clone()).accept(socket);
        match self.limiter.run(recording(handshake)).await {
            (Ok(stream), _) => Ok(Stream::Tls(Box::new(Encrypted::new(stream, loaded.side.clone())))),
            (Err(error), other) => {
                Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(error) => AcceptError::Tls(loaded.side.explain(error, other.as_ref())),
                    None => AcceptError::Io(error),
                })
            }
        }
    }

    /// Whether a refusal was not logged recently.
    fn should_log(&self, host: Option<IpAddr>, error: &AcceptError) -> bool {
        let (text, now) = (error.to_string(), Instant::now());
        let mut refusals = self.refusals.lock();
        refusals.retain(|refusal| now.duration_since(refusal.at) < REFUSAL_LOG_INTERVAL);
        let already_logged = refusals.iter().any(|refusal| refusal.host == host && refusal.text == text);
        if already_logged || refusals.len() == LOGGED_REFUSALS_MAX {
            return false;
        }
        refusals.push(LoggedRefusal { host, text, at: now });
        true
    }
}

async fn answer_plain_request(socket: &mut TcpStream) -> io::Result<()> {
    socket.write_all(PLAIN_REQUEST_ANSWER).await?;
    socket.shutdown().await?;
    let mut unwanted = [0; 1024];
    while socket.read(&mut unwanted).await? > 0 {}
    Ok(())
}

impl ServerTlsConfig {
    fn read(
        files: &ServerTlsFiles,
        protocols: &'static [&'static [u8]],
    ) -> Result<ServerTlsConfig, TlsFileError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (cert, key) = (files.cert.as_deref(), files.key.as_deref());
        // Clients of a server often check nothing; members are as strict as this side.
        let any_version = files.role != Role::Peers;
        let own = Identity::read(cert, key, any_version, &provider)?
            .ok_or(TlsFileError::HalfPair { key: String::new(), cert: String::new() })?;
        // Read even if clients need no certificate, so that a mistake is found before it matters.
        let roots = read_authorities(&files.ca)?;
        let broken = |error: &dyn std::fmt::Display| TlsFileError::Broken {
            path: own.path.display().to_string(),
            reason: error.to_string(),
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| broken(&error))?;
        let builder = if files.client_cert_auth {
            let roots = roots.unwrap_or_else(system_authorities);
            builder.with_client_cert_verifier(Arc::new(check_clients(roots, provider, files)?))
        } else {
            builder.with_no_client_auth()
        };
        let resolver = SingleCertAndKey::from(own.key.clone());
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        // Members that ask each other for certificates show this one when they dial, too.
        for fault in own.faults(true, files.role == Role::Peers && files.client_cert_auth) {
            tracing::warn!(target: "transport", "{fault}");
        }
        let side = Arc::new(LocalSide { role: files.role, dialled: false, own: Some(own) });
        Ok(ServerTlsConfig { config, side })
    }
}

fn check_clients(
    roots: rustls::RootCertStore,
    provider: Arc<CryptoProvider>,
    files: &ServerTlsFiles,
) -> Result<ClientVerifier, TlsFileError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map(ClientVerifier)
        .map_err(|_| TlsFileError::NoAuthorities(files.role.ca_flag()))
}

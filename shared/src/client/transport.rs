//! Connections: dialling, TLS, HTTP/1.1, and keeping an idle connection for the next call.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::endpoint::Origin;
use super::error::{RequestError, io_reason};
use super::tls::{Tls, describe};
use super::via::Via;

/// As long as the original waits for the other side's part of a TLS handshake.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch may be silent for days; a member that vanished is noticed after `IDLE + RETRIES · INTERVAL`.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// One connection for each member of a big cluster; more idle ones are closed.
const IDLE_CONNECTIONS_MAX: usize = 16;
/// The largest answer that is kept: a recursive listing of a full store is some hundred megabytes.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 30;

type Sender = SendRequest<Full<Bytes>>;

/// Makes and keeps connections.
#[derive(Debug)]
pub(super) struct Transport {
    tls: Tls,
    dial_timeout: Duration,
    via: Option<Via>,
    idle: Mutex<Vec<(Origin, Sender)>>,
}

/// The head of an answer, with its body still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    origin: Origin,
    sender: Sender,
}

impl Transport {
    /// A transport that gives up dialling after a time.
    pub(super) fn new(tls: Tls, dial_timeout: Duration, via: Option<Via>) -> Transport {
        Transport { tls, dial_timeout, via, idle: Mutex::default() }
    }

    /// Sends a request and waits for the head of the answer, without limit.
    pub(super) async fn round_trip(
        &self,
        origin: &Origin,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Answer, RequestError> {
        let request = match &self.via {
            Some(via) if !origin.tls => via.addressed(request, origin)?,
            _ => request,
        };
        while let Some(mut sender) = self.take_idle(origin) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(response) => return Ok(Answer { response, origin: origin.clone(), sender }),
                // The other side closed the idle connection before the request was on its way.
                Err(error) if error.is_canceled() => {}
                // The same, a moment later: to read again does no harm.
                Err(error) if error.is_incomplete_message() && request.method().is_safe() => {}
                Err(error) => return Err(broken(origin, &error)),
            }
        }
        let mut sender = self.connect(origin).await?;
        match sender.send_request(request).await {
            Ok(response) => Ok(Answer { response, origin: origin.clone(), sender }),
            Err(error) => Err(broken(origin, &error)),
        }
    }

    /// Reads the body, and keeps the connection for the next request.
    pub(super) async fn body(&self, answer: Answer) -> Result<Bytes, RequestError> {
        let Answer { response, origin, sender } = answer;
        let body = match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => broken(&origin, &error),
                    Err(error) if error.is::<LengthLimitError>() => {
                        RequestError::TooLarge { endpoint: origin.authority, limit: ANSWER_BYTES_MAX }
                    }
                    Err(error) => RequestError::Http(error.to_string()),
                });
            }
        };
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push((origin, sender));
        }
        Ok(body)
    }

    fn take_idle(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let at = idle.iter().position(|(other, _)| other == origin)?;
        Some(idle.swap_remove(at).1)
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, RequestError> {
        let mut stream = self.dial(self.via.as_ref().map_or(origin, |via| &via.origin)).await?;
        if !origin.tls {
            return start_http(origin, stream).await;
        }
        if let Some(via) = &self.via {
            stream = via.tunnel(stream, origin).await?;
        }
        let config = self.tls.config().map_err(RequestError::Tls)?;
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| RequestError::Tls(format!("tls: {} is no name of a server", origin.host)))?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        match timeout(TLS_HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => start_http(origin, stream).await,
            Ok(Err(error)) => Err(broken_io(origin, &error)),
            Err(_) => Err(RequestError::Read {
                address: origin.authority.clone(),
                reason: "TLS handshake timeout".to_owned(),
            }),
        }
    }

    /// Tries the host's addresses one after the other; each gets its share of the time.
    async fn dial(&self, origin: &Origin) -> Result<TcpStream, RequestError> {
        let addresses = resolve(origin).await?;
        let share = self.dial_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
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
            first.get_or_insert(RequestError::Dial { address: address.to_string(), reason });
        }
        Err(first.unwrap_or_else(|| RequestError::Lookup {
            host: origin.host.clone(),
            reason: "no such host".to_owned(),
        }))
    }
}

async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, RequestError> {
    if let Ok(address) = origin.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, origin.port)]);
    }
    match tokio::net::lookup_host((origin.host.as_str(), origin.port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => {
            let text = io_reason(&error);
            let reason = match text.strip_prefix("failed to lookup address information: ") {
                Some("Name or service not known") => "no such host",
                Some(reason) => reason,
                None => &text,
            };
            Err(RequestError::Lookup { host: origin.host.clone(), reason: reason.to_owned() })
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

async fn start_http<S>(origin: &Origin, stream: S) -> Result<Sender, RequestError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(origin, &error))?;
    // Ends when the sender is dropped or the other side closes; its errors come out of the requests.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Why HTTP on this connection failed.
fn broken(origin: &Origin, error: &hyper::Error) -> RequestError {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return broken_io(origin, error);
        }
        cause = error.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        RequestError::Eof { address: origin.authority.clone() }
    } else {
        RequestError::Http(format!("malformed HTTP response from {}: {error}", origin.authority))
    }
}

fn broken_io(origin: &Origin, error: &io::Error) -> RequestError {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return RequestError::Tls(describe(error));
    }
    let address = origin.authority.clone();
    if error.kind() == io::ErrorKind::UnexpectedEof {
        RequestError::Eof { address }
    } else {
        RequestError::Read { address, reason: io_reason(error) }
    }
}

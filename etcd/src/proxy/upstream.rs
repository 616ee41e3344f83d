//! The connections to one endpoint. Each carries one request at a time; idle connections are reused.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use shared::net::{DialError, Dialer};
use shared::url::Url;

use super::timed::Timed;
use crate::config::ProxyConfig;
use crate::transport::HEADER_LINES_SHORT;

/// The most idle connections to one endpoint: up to this number of concurrent requests needs no new connections. Lower
/// if descriptors are scarce.
const IDLE_MAX: usize = 128;

/// The dial timeout that stands for "no limit".
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The sending half of an HTTP connection.
type RequestSender = http1::SendRequest<Full<Bytes>>;

/// Makes connections to endpoints.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    dialer: Dialer,
    dial_timeout: Duration,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Connector {
    pub(super) fn new(dialer: Dialer, config: &ProxyConfig) -> Connector {
        Connector {
            dialer,
            dial_timeout: config.dial_timeout.unwrap_or(FOR_EVER),
            read_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
        }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(super) fn dial_timeout(&self) -> Duration {
        self.dial_timeout
    }

    async fn connect(&self, url: &Url) -> Result<RequestSender, SendError> {
        let stream = self.dialer.dial(url, self.dial_timeout).await?;
        let stream = Timed::new(stream, self.read_timeout, self.write_timeout);
        let mut http = http1::Builder::new();
        http.title_case_headers(true).max_headers(HEADER_LINES_SHORT);
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await?;
        // The task ends with its sender; the sender gets any error.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// A request that can be sent to any endpoint.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Outgoing {
    fn request(&self, host: &HeaderValue) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().entry(HOST).or_insert_with(|| host.clone());
        request
    }

    /// Whether the request can safely be sent twice.
    fn only_reads(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

/// Why an endpoint gave no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{}", cause(.0))]
    Connection(#[from] hyper::Error),
}

/// The cause below the HTTP library, if there is one, else the library's own text.
fn cause(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn is_timeout(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// A client URL of a member.
#[derive(Debug)]
pub(super) struct Upstream {
    url: Url,
    host: HeaderValue,
    idle: Mutex<Vec<RequestSender>>,
    idle_max: AtomicUsize,
}

impl Upstream {
    /// `None` if the URL's host is not a valid header value.
    pub(super) fn new(url: Url) -> Option<Upstream> {
        let host = HeaderValue::from_str(url.address()).ok()?;
        Some(Upstream { url, host, idle: Mutex::default(), idle_max: AtomicUsize::new(IDLE_MAX) })
    }

    /// Sets the most idle connections, and closes surplus ones.
    pub(super) fn keep_idle(&self, idle_max: usize) {
        let idle_max = idle_max.clamp(1, IDLE_MAX);
        self.idle_max.store(idle_max, Relaxed);
        self.idle.lock().truncate(idle_max);
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Sends a request, and waits for the head of the response.
    ///
    /// The other side may close an idle connection at the moment of its reuse. A request that was not sent, or that
    /// only reads, is then sent again on a new connection.
    pub(super) async fn send(
        self: &Arc<Self>,
        connector: &Connector,
        outgoing: &Outgoing,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let mut request = outgoing.request(&self.host);
        if let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, self.lease(sender))),
                Err(mut failed) => {
                    request = match failed.take_message() {
                        Some(unsent) => unsent,
                        None if outgoing.only_reads() && !is_timeout(failed.error()) => {
                            outgoing.request(&self.host)
                        }
                        None => return Err(failed.into_error().into()),
                    }
                }
            }
        }
        let mut sender = connector.connect(&self.url).await?;
        let response = sender.send_request(request).await?;
        Ok((response, self.lease(sender)))
    }

    /// Takes the most recently used idle connection; drops those that were closed.
    fn take_idle(&self) -> Option<RequestSender> {
        let mut idle = self.idle.lock();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            if idle[at].is_closed() {
                idle.swap_remove(at);
            } else if idle[at].is_ready() {
                return Some(idle.swap_remove(at));
            }
        }
        None
    }

    fn lease(self: &Arc<Self>, sender: RequestSender) -> Lease {
        Lease { upstream: self.clone(), sender }
    }
}

/// A connection that receives a response. On drop it is closed, so that the member sees that the request was cancelled.
#[derive(Debug)]
pub(super) struct Lease {
    upstream: Arc<Upstream>,
    sender: RequestSender,
}

impl Lease {
    /// Returns the connection for reuse, after the complete response.
    pub(super) fn give_back(self) {
        let idle_max = self.upstream.idle_max.load(Relaxed);
        let mut idle = self.upstream.idle.lock();
        if idle.len() >= idle_max {
            idle.retain(|sender| !sender.is_closed());
        }
        if idle.len() < idle_max && !self.sender.is_closed() {
            idle.push(self.sender);
        }
    }
}

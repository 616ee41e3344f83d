//! One HTTP/2 connection to a cluster, made again on another endpoint when it breaks.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tonic::body::Body;
use tower_service::Service;

use super::endpoints::{self, EndpointError};
use super::{Options, OptionsError};
use crate::client::Credentials;
use crate::net::{Dialer, Target, TlsOptions};

/// The pause after all endpoints failed, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Servers of the original close a connection with more than one ping in five seconds; its clients do not ping more often
/// than this.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(10);
/// What may be under way to this side: a snapshot or a large range shall not wait for the window.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

const TOKEN: HeaderName = HeaderName::from_static("token");
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

type Sender = SendRequest<Body>;

/// A connection to a cluster, which the generated clients of `shared::v3::pb` take. Clones share it.
#[derive(Debug, Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dialer: Dialer,
    names: Vec<String>,
    targets: Vec<Target>,
    dial_timeout: Duration,
    keep_alive_time: Duration,
    keep_alive_timeout: Duration,
    credentials: Option<Credentials>,
    connection: Mutex<Connection>,
    token: StdMutex<Option<HeaderValue>>,
    failure: StdMutex<Option<String>>,
}

/// The present connection, and which endpoint is next.
#[derive(Debug, Default)]
struct Connection {
    sender: Option<Sender>,
    /// The endpoint of `sender`, or the next one to try.
    at: usize,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The connection broke when the request had left.
    #[error("{0}")]
    Broken(String),
    /// The request is not one that can be sent.
    #[error("{0}")]
    Unsendable(String),
}

impl Channel {
    /// A channel to the given endpoints, in a random order, so that clients do not all use the first member.
    pub(super) fn new(options: Options) -> Result<Channel, OptionsError> {
        let mut names = options.endpoints;
        let random = RandomState::new();
        names.sort_by_cached_key(|name| random.hash_one(name));
        let targets = names
            .iter()
            .map(|name| endpoints::target(name, options.tls_by_default))
            .collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() {
            return Err(EndpointError::Empty.into());
        }
        let tls = TlsOptions { http2: true, accept_any_server: options.accept_any_server };
        let dialer = match targets.iter().any(|target| target.tls) {
            true => Dialer::with_options(&options.tls, tls)?,
            false => Dialer::plain(),
        };
        Ok(Channel {
            shared: Arc::new(Shared {
                dialer,
                names,
                targets,
                dial_timeout: options.dial_timeout,
                keep_alive_time: options.keep_alive_time.max(KEEP_ALIVE_MIN),
                keep_alive_timeout: options.keep_alive_timeout,
                credentials: options.credentials,
                connection: Mutex::default(),
                token: StdMutex::default(),
                failure: StdMutex::default(),
            }),
        })
    }

    pub(super) fn endpoints(&self) -> &[String] {
        &self.shared.names
    }

    pub(super) fn unreachable(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.shared.credentials.as_ref()
    }

    /// The token that calls carry.
    pub(super) fn token(&self) -> Option<HeaderValue> {
        lock(&self.shared.token).clone()
    }

    pub(super) fn set_token(&self, token: Option<HeaderValue>) {
        *lock(&self.shared.token) = token;
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The present connection, or a new one. Waits until there is one.
    async fn sender(&self) -> (Sender, Target) {
        let mut pause = RETRY_FIRST;
        loop {
            let mut connection = self.connection.lock().await;
            if let Some(sender) = connection.sender.as_ref().filter(|sender| !sender.is_closed()) {
                return (sender.clone(), self.targets[connection.at].clone());
            }
            // The endpoint whose connection broke is tried last.
            if connection.sender.take().is_some() {
                connection.at = (connection.at + 1) % self.targets.len();
            }
            for _ in 0..self.targets.len() {
                let target = &self.targets[connection.at];
                match self.connect(target).await {
                    Ok(sender) => {
                        *lock(&self.failure) = None;
                        connection.sender = Some(sender.clone());
                        return (sender, target.clone());
                    }
                    Err(reason) => *lock(&self.failure) = Some(reason),
                }
                connection.at = (connection.at + 1) % self.targets.len();
            }
            drop(connection);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn connect(&self, target: &Target) -> Result<Sender, String> {
        let stream =
            self.dialer.connect(target, self.dial_timeout).await.map_err(|error| error.to_string())?;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(self.keep_alive_time)
            .keep_alive_timeout(self.keep_alive_timeout)
            .handshake(TokioIo::new(stream));
        let explained = |reason: String| format!("http2 {}: {reason}", target.authority());
        let (sender, connection) = match tokio::time::timeout(self.dial_timeout, handshake).await {
            Ok(done) => done.map_err(|error| explained(error.to_string()))?,
            Err(_) => return Err(explained("i/o timeout".to_owned())),
        };
        // It ends with the last sender and the last answer; what goes wrong on it, its calls say.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, ChannelError> {
        loop {
            let (mut sender, target) = self.sender().await;
            address(&mut request, &target)?;
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok(answer),
                Err(mut failure) => match failure.take_message() {
                    // It has not left this side: another connection may take it.
                    Some(unsent) => request = unsent,
                    None => return Err(ChannelError::Broken(reason(failure.error()))),
                },
            }
        }
    }
}

/// The innermost cause of an error of the HTTP library, which is the telling one.
fn reason(error: &hyper::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Completes the URI of a request: a generated client has its path only.
fn address(request: &mut Request<Body>, target: &Target) -> Result<(), ChannelError> {
    let unsendable = |error: &dyn std::error::Error| ChannelError::Unsendable(error.to_string());
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(if target.tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(target.authority()).map_err(|error| unsendable(&error))?);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| unsendable(&error))?;
    Ok(())
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = ChannelError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.uri().path() != AUTHENTICATE
            && let Some(token) = self.token()
        {
            request.headers_mut().insert(TOKEN, token);
        }
        let shared = self.shared.clone();
        Box::pin(async move { shared.send(request).await })
    }
}

//! Makes one connection of the HTTP library as a dialler does.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;
use tower_layer::Layer;
use tower_service::Service;

use super::super::certificate::CertificateFields;
use super::super::dial::{DialError, HANDSHAKE_TIME_MAX, Target, resolve};
use super::super::explain::LocalSide;
use super::super::io_reason;
use super::super::verify::recording_from;
use super::{causes, find};

type BoxError = Box<dyn StdError + Send + Sync>;

tokio::task_local! {
    /// The connections of the running request. The library has no parameter for it.
    static DIALLING: Arc<Dialling>;
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotConnected {
    /// The dialler's error.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A proxy did not open the tunnel to the host.
    #[error("the proxy opens no way to the host")]
    Tunnel,
}

/// The connections for one request: tries one address after the other.
#[derive(Debug)]
pub(super) struct Dialling {
    /// The target of the TCP connection: the host itself, or a proxy.
    tcp: Target,
    /// The host.
    target: Target,
    time_max: Duration,
    side: Option<Arc<LocalSide>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: Vec<SocketAddr>,
    /// How many of them were tried.
    tried: usize,
    /// Whether the present attempt has made a new connection.
    dialled: bool,
}

impl Dialling {
    pub(super) fn new(
        tcp: &Target,
        target: &Target,
        time_max: Duration,
        side: Option<Arc<LocalSide>>,
    ) -> Arc<Dialling> {
        let state = Mutex::default();
        Arc::new(Dialling { tcp: tcp.clone(), target: target.clone(), time_max, side, state })
    }

    /// Runs a request with these connections.
    pub(super) async fn during<T>(self: &Arc<Self>, request: impl Future<Output = T>) -> T {
        self.state.lock().dialled = false;
        DIALLING.scope(self.clone(), request).await
    }

    /// Whether there is an untried address.
    pub(super) fn has_next(&self) -> bool {
        let state = self.state.lock();
        state.tried < state.addresses.len()
    }

    /// Whether the last attempt made a new connection.
    pub(super) fn has_dialled(&self) -> bool {
        self.state.lock().dialled
    }

    /// The address to try now, and for how long.
    async fn next_address(&self) -> Result<(SocketAddr, Duration), DialError> {
        if self.state.lock().addresses.is_empty() {
            let found = timeout(self.time_max, resolve(&self.tcp)).await;
            let unknown =
                |reason: &str| DialError::Lookup { host: self.tcp.host.clone(), reason: reason.to_owned() };
            let found = found.map_err(|_| unknown("i/o timeout"))??;
            if found.is_empty() {
                return Err(unknown("no such host"));
            }
            self.state.lock().addresses = found;
        }
        let mut state = self.state.lock();
        let share = self.time_max / u32::try_from(state.addresses.len()).unwrap_or(u32::MAX);
        let at = state.tried.min(state.addresses.len() - 1);
        state.tried = at + 1;
        Ok((state.addresses[at], share))
    }

    fn address(&self) -> Option<SocketAddr> {
        let state = self.state.lock();
        state.addresses.get(state.tried.checked_sub(1)?).copied()
    }

    async fn connect<T>(
        self: Arc<Self>,
        connect: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        self.state.lock().dialled = true;
        Ok(self.one_connection(connect).await?)
    }

    async fn one_connection<T>(
        self: &Arc<Self>,
        connect: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, NotConnected> {
        let (address, share) = self.next_address().await?;
        let greeted = Arc::new(AtomicBool::new(false));
        let mut connect = pin!(DIALLING.scope(self.clone(), recording_from(greeted.clone(), connect)));
        // TCP has its time limit; the TLS handshake has its own from its first message on.
        let tcp = poll_fn(|cx| match connect.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if greeted.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let late = |_| DialError::Connect {
            address: address.to_string(),
            reason: "i/o timeout".to_owned(),
            kind: io::ErrorKind::TimedOut,
        };
        let done = match timeout(share, tcp).await.map_err(late)? {
            Some(done) => done,
            None => timeout(HANDSHAKE_TIME_MAX, connect).await.map_err(|_| DialError::Broken {
                address: self.target.authority(),
                reason: "TLS handshake timeout".to_owned(),
            })?,
        };
        match done {
            (Ok(connection), _) => Ok(connection),
            (Err(error), other) => {
                Err(self.explain(&*error, address, greeted.load(Ordering::Relaxed), other.as_ref()))
            }
        }
    }

    /// Converts a failure of the library to the dialler's error.
    fn explain(
        &self,
        error: &(dyn StdError + 'static),
        address: SocketAddr,
        greeted: bool,
        other: Option<&CertificateFields>,
    ) -> NotConnected {
        if let (Some(tls), Some(side)) = (find::<rustls::Error>(error), &self.side) {
            return NotConnected::Dial(side.explain(tls, other).into());
        }
        let io = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
        // A failure at the proxy. If no proxy listens, the next address is tried.
        let is_unreached = io.is_some_and(|error| is_unreached(error.kind()));
        if !greeted && self.target.tls && self.tcp != self.target && !is_unreached {
            return NotConnected::Tunnel;
        }
        NotConnected::Dial(match io {
            Some(error) if greeted && error.kind() == io::ErrorKind::UnexpectedEof => {
                DialError::Eof { address: self.target.authority() }
            }
            Some(error) if greeted => {
                DialError::Broken { address: self.target.authority(), reason: io_reason(error) }
            }
            Some(error) => DialError::Connect {
                address: address.to_string(),
                reason: io_reason(error),
                kind: error.kind(),
            },
            None => DialError::Connect {
                address: address.to_string(),
                reason: error.to_string(),
                kind: io::ErrorKind::Other,
            },
        })
    }
}

/// Whether an error means that the host was not reached.
fn is_unreached(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(
        kind,
        K::ConnectionRefused
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::AddrNotAvailable
            | K::TimedOut
    )
}

/// A resolver that gives the library the one address to try now.
#[derive(Debug)]
pub(super) struct Addresses;

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let address = DIALLING.try_with(|dialling| dialling.address()).ok().flatten();
        let outcome = match address {
            Some(address) => Ok(Box::new(iter::once(address)) as Addrs),
            None => Err(format!("nobody looked {} up", name.as_str()).into()),
        };
        Box::pin(std::future::ready(outcome))
    }
}

/// A layer that wraps the library's connector in [`Dialling`].
#[derive(Debug, Clone)]
pub(super) struct DialLayer;

impl<S> Layer<S> for DialLayer {
    type Service = DialService<S>;

    fn layer(&self, inner: S) -> DialService<S> {
        DialService { inner }
    }
}

/// The wrapped connector.
#[derive(Debug, Clone)]
pub(super) struct DialService<S> {
    inner: S,
}

impl<S, R> Service<R> for DialService<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connect = self.inner.call(request);
        // The library may finish the connection on another task, so the value is moved along.
        match DIALLING.try_with(Arc::clone) {
            Ok(dialling) => Box::pin(dialling.connect(connect)),
            Err(_) => Box::pin(connect),
        }
    }
}

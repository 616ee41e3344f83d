//! Takes connections in, and sees them off when the server stops.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection;
use super::site::Site;
use super::socket::Socket;
use crate::log;

/// How often the kernel asks a silent client whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long a client may take to agree on keys.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long to wait when no connection can be taken in: there are too many, or memory is short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How requests begin that are not encrypted.
const PLAIN_STARTS: [&[u8; 5]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];

/// The answer to those.
const SPEAKS_PLAINLY: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// What a listener's connections share with it.
#[derive(Default)]
pub(super) struct Listening {
    /// All connections are to end.
    pub(super) stopping: AtomicBool,
    /// Tells of it.
    pub(super) stop: Notify,
    open: AtomicUsize,
    closed: Notify,
}

/// Serves clients until `stop` says true; then takes in no more, and returns when the last connection is
/// closed: what is being answered is answered, watches are cut. The caller bounds how long that may take.
pub(crate) async fn serve<S: Site>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    site: Arc<S>,
    mut stop: watch::Receiver<bool>,
) {
    let listening = Arc::new(Listening::default());
    let tls = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            () = told(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let open = Open::new(&listening);
                tokio::spawn(greet(socket, tls.clone(), site.clone(), listening.clone(), open));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                log::error!("etcdhttp", "cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    listening.stopping.store(true, Ordering::Relaxed);
    listening.stop.notify_waiters();
    while listening.open.load(Ordering::Acquire) > 0 {
        listening.closed.notified().await;
    }
}

/// Waits until `stop` says true. A sender that is gone means the same.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Whether the next connection may fare better.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn greet<S: Site>(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    site: Arc<S>,
    listening: Arc<Listening>,
    open: Open,
) {
    let _open = open;
    // A connection that cannot be set up so is served all the same.
    let _ = socket.set_nodelay(true);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_INTERVAL).with_interval(KEEP_ALIVE_INTERVAL);
    let _ = SockRef::from(&socket).set_tcp_keepalive(&keep_alive);
    let socket = match tls {
        None => Socket::Plain(socket),
        Some(tls) => match Box::pin(timeout(HANDSHAKE_TIME_MAX, encrypt(socket, tls))).await {
            Ok(Ok(Some(socket))) => Socket::Tls(Box::new(socket)),
            // The client learns why from the protocol itself; the original's log is silent about it too.
            Ok(_) | Err(_) => return,
        },
    };
    connection::run(socket, site, listening).await;
}

/// Agrees on keys with the client. `None` for one that knows nothing of keys, and is told so.
async fn encrypt(mut socket: TcpStream, tls: TlsAcceptor) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut start = [0; 5];
    let read = socket.peek(&mut start).await?;
    if PLAIN_STARTS.iter().any(|plain| start[..read] == **plain) {
        socket.write_all(SPEAKS_PLAINLY).await?;
        return Ok(None);
    }
    tls.accept(socket).await.map(Some)
}

/// Counts an open connection.
struct Open(Arc<Listening>);

impl Open {
    fn new(listening: &Arc<Listening>) -> Open {
        listening.open.fetch_add(1, Ordering::Relaxed);
        Open(listening.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Release) == 1 {
            self.0.closed.notify_one();
        }
    }
}

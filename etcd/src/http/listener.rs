//! Takes connections in, and sees them off when the server stops.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use shared::net::Acceptor;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::connection::{Connection, run};
use super::site::Site;
use crate::log;

/// How often the kernel asks a silent client whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long to wait when no connection can be taken in: there are too many, or memory is short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    acceptor: Acceptor,
    site: Arc<S>,
    mut stop: watch::Receiver<bool>,
) {
    let listening = Arc::new(Listening::default());
    loop {
        let accepted = tokio::select! {
            () = told(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let open = Open::new(&listening);
                tokio::spawn(greet(socket, acceptor.clone(), site.clone(), listening.clone(), open));
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
    acceptor: Acceptor,
    site: Arc<S>,
    listening: Arc<Listening>,
    open: Open,
) {
    // A connection that cannot be set up so is served all the same.
    let _ = socket.set_nodelay(true);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_INTERVAL).with_interval(KEEP_ALIVE_INTERVAL);
    let _ = SockRef::from(&socket).set_tcp_keepalive(&keep_alive);
    // Who is refused learns why from the protocol itself, and the acceptor has logged it.
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let watch_thread = &site.wire().watch_thread;
    let Some(connection) = run(Connection::new(stream), &site, &listening, Some(watch_thread)).await else {
        return;
    };
    // One that cannot move is closed, and its client comes again.
    let Ok(detached) = connection.detach() else { return };
    let held = (open, watch_thread.count_moved());
    let (there, detached) = (site.clone(), Box::new(detached));
    watch_thread.spawn(async move {
        let _held = held;
        if let Ok(connection) = detached.attach() {
            run(connection, &there, &listening, None).await;
        }
    });
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

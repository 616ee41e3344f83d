//! Accepts connections, and ends them when the server stops.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use shared::net::Acceptor;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::connection::{Connection, serve_connection};
use super::site::Site;
use super::threads::ClientThreads;
use crate::connections::{Activity, ConnectionSlots, Phase, Port, Slot};

/// The interval of the kernel's keep-alive probes to silent clients.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// What a listener shares with its connections.
#[derive(Default)]
pub(super) struct ListenerState {
    /// All connections have to end. Each of them checks this when it is woken, see [`ConnectionSlots::wake`].
    pub(super) stopping: AtomicBool,
    open: AtomicUsize,
    closed: Notify,
}

/// Serves clients until `stop` is true. Then accepts no more connections, and returns when the last one is closed:
/// current requests are answered, watches are cut. The caller limits how long that may take.
pub(crate) async fn serve<S: Site>(
    listener: TcpListener,
    acceptor: Acceptor,
    site: Arc<S>,
    mut stop: watch::Receiver<bool>,
    slots: ConnectionSlots,
    threads: Arc<ClientThreads>,
) {
    let state = Arc::new(ListenerState::default());
    loop {
        let (socket, slot) = tokio::select! {
            () = wait_for_stop(&mut stop) => break,
            accepted = slots.accept(Port::Clients, &listener) => accepted,
        };
        let open = OpenConnection::new(&state, slot);
        let shared = (acceptor.clone(), site.clone(), state.clone());
        match threads.next() {
            None => {
                let (acceptor, site, state) = shared;
                tokio::spawn(serve_socket(socket, acceptor, site, state, open, ServingThread::Main));
            }
            Some(thread) => {
                // A socket that cannot change threads is closed; its client connects again.
                let Ok(socket) = socket.into_std() else { continue };
                thread.spawn(move || async move {
                    let (acceptor, site, state) = shared;
                    if let Ok(socket) = TcpStream::from_std(socket) {
                        serve_socket(socket, acceptor, site, state, open, ServingThread::Client).await;
                    }
                });
            }
        }
    }
    drop(listener);
    state.stopping.store(true, Ordering::Relaxed);
    slots.wake(Port::Clients);
    while state.open.load(Ordering::Acquire) > 0 {
        state.closed.notified().await;
    }
}

/// Waits until `stop` is true or its sender is gone.
async fn wait_for_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The thread that serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServingThread {
    /// The main thread, which also runs the member's loop: many watches move away from it.
    Main,
    /// A client thread.
    Client,
}

async fn serve_socket<S: Site>(
    socket: TcpStream,
    acceptor: Acceptor,
    site: Arc<S>,
    state: Arc<ListenerState>,
    open: OpenConnection,
    thread: ServingThread,
) {
    // If a socket option cannot be set, the connection works without it.
    let _ = socket.set_nodelay(true);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_INTERVAL).with_interval(KEEP_ALIVE_INTERVAL);
    let _ = SockRef::from(&socket).set_tcp_keepalive(&keep_alive);
    let activity = open.slot.activity();
    let handshake = async {
        if acceptor.is_tls() && !activity.first_byte(&socket).await {
            return None;
        }
        tokio::select! {
            biased;
            accepted = acceptor.accept(socket) => Some(accepted),
            () = activity.wait_for_close_request() => None,
        }
    };
    let accepted = tokio::select! {
        biased;
        accepted = handshake => accepted,
        () = stopping(&state, activity) => return,
    };
    let Some(accepted) = accepted else { return };
    // TLS itself tells a rejected client the reason, and the acceptor has logged it.
    let Ok(stream) = accepted else { return };
    activity.enter(Phase::Silent);
    let watch_thread = &site.http_server().watch_thread;
    let relief = (thread == ServingThread::Main).then_some(watch_thread);
    let served = serve_connection(Connection::new(stream), &site, &state, activity, relief).await;
    let Some(connection) = served else { return };
    // If the connection cannot move, it is closed, and the client connects again.
    let Ok(detached) = connection.detach() else { return };
    let held = (open, watch_thread.count_moved());
    let (moved_site, detached) = (site.clone(), Box::new(detached));
    watch_thread.spawn(async move {
        let (open, _moved) = held;
        if let Ok(connection) = detached.attach() {
            serve_connection(connection, &moved_site, &state, open.slot.activity(), None).await;
        }
    });
}

/// Waits until all connections have to end.
async fn stopping(state: &ListenerState, activity: &Activity) {
    poll_fn(|cx| {
        activity.register(cx);
        if state.stopping.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Counts an open connection.
struct OpenConnection {
    slot: Slot,
    state: Arc<ListenerState>,
}

impl OpenConnection {
    fn new(state: &Arc<ListenerState>, slot: Slot) -> OpenConnection {
        state.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection { slot, state: state.clone() }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if self.state.open.fetch_sub(1, Ordering::Release) == 1 {
            self.state.closed.notify_one();
        }
    }
}

//! Limits the connections that this process has open, over all its listeners, and decides which ones are closed when
//! there are too many.
//!
//! Every connection needs a descriptor, and so does every file that the server opens. So each accepted connection
//! holds a [`Slot`], and there are fewer slots than the limit on descriptors allows. When all slots are taken,
//! connections without a request are closed for new ones: first those that never sent a byte, then those between two
//! requests, then those whose request is still arriving; in each group the one that was silent for longest. A
//! connection with a request that is being answered, a watch, or a stream of another member is never closed. Each
//! connection records its state in its [`Activity`].
//!
//! **Invariant:** clients cannot take the slots of other members, nor members those of clients.

mod presence;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::log;
use crate::metrics::descriptor_limit;

pub(crate) use self::presence::ClientPresence;

/// Descriptors that are reserved for everything but accepted connections.
///
/// A member of a cluster of nine, which is more than anyone should have, needs about 115 of them:
///
/// - 56 to its eight peers: each has two streams that we dial, four connections for posts and one for probes;
/// - 16 for requests to other members and services: reports for the dashboard, versions, discovery, Graphite;
/// - 20 for listeners, runtimes, standard streams, the service manager and DNS;
/// - 20 for segments of the log (the locks of those that no snapshot covers), snapshots and folders, both our own
///   and the files on their way to followers.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 150;

/// With fewer slots a member could not serve its peers and a handful of clients.
const SLOTS_MIN: u64 = 32;

/// With fewer slots the log says at the start that they are few.
const SLOTS_USUAL: u64 = 512;

/// With more slots memory is the limit, not descriptors.
const SLOTS_MAX: u64 = 1 << 20;

/// The most connections to the peer port. A cluster has a handful of members with a few connections each.
const PEERS_MAX: usize = 256;

/// Slots of the peer port that clients cannot take.
const PEERS_RESERVED: usize = 64;

/// How long to wait for a connection to close before another one is asked.
const ROOM_PAUSE: Duration = Duration::from_millis(50);

/// The pause after `accept` has failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two log lines about a lack of connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A search for connections to close finds at most one in this number of all connections. It looks at each of them, so a
/// flood of new ones must not cause a search for each.
const CANDIDATES_PART: usize = 64;

/// The number of descriptors that this process may have, after its soft limit is raised to the hard limit.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        log::warning!("etcdmain", "cannot raise the soft limit on file descriptors to the hard limit");
    }
    descriptor_limit()
}

/// The limit on descriptors is too low to run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "file descriptor limit[{limit}] of etcd process is too low, and should be set higher than {reserved} to ensure \
     internal usage, by {SLOTS_MIN} at least for connections: raise it with 'ulimit -n 65536', or LimitNOFILE= in a \
     systemd unit",
    reserved = DESCRIPTORS_RESERVED
)]
pub(crate) struct TooFewDescriptors {
    limit: u64,
}

/// The kind of listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// A port for clients.
    Clients,
    /// A port for other members.
    Peers,
}

/// What a connection is doing. Connections are closed in this order to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// No byte has arrived.
    Silent,
    /// Between two requests.
    Idle,
    /// A part of a request's head has arrived.
    Arriving,
    /// A request's body is being read.
    Receiving,
    /// Work is being done for it. It is not closed.
    Busy,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Silent, Phase::Idle, Phase::Arriving, Phase::Receiving, Phase::Busy];
}

/// The slots of a process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSlots(Arc<SlotTable>);

#[derive(Debug)]
struct SlotTable {
    /// The slots of all ports together.
    total: usize,
    /// The most slots of the peer port.
    peers_max: usize,
    /// The slots that clients leave to the peer port.
    peers_reserved: usize,
    open: Mutex<OpenConnections>,
    /// A slot became free, or a connection that was asked to close is busy again.
    freed: Notify,
    /// Counts activities: a connection with a lower number was silent for longer.
    clock: AtomicU64,
    last_logged: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    clients: PortConnections,
    peers: PortConnections,
}

/// The connections of one port.
#[derive(Debug, Default)]
struct PortConnections {
    /// In the order of their arrival.
    connections: BTreeMap<u64, Arc<Activity>>,
    /// Found by the last search and not asked to close yet. The first one is asked first.
    candidates: VecDeque<Arc<Activity>>,
}

/// The state of one connection.
///
/// Everything that is kept about a connection is in here: there may be tens of thousands.
#[derive(Debug)]
pub(crate) struct Activity {
    phase: AtomicU8,
    /// The connection has to close, unless it is busy.
    close_requested: AtomicBool,
    closed: AtomicBool,
    port: Port,
    /// Its last activity, by the shared clock.
    active: AtomicU64,
    waker: Mutex<Option<Waker>>,
    number: u64,
    slots: ConnectionSlots,
}

impl ConnectionSlots {
    /// The slots of a member with this limit on descriptors and this number of listeners.
    ///
    /// # Errors
    /// If hardly any connection would be left.
    pub(crate) fn of_member(limit: u64, listeners: usize) -> Result<ConnectionSlots, TooFewDescriptors> {
        let total = slots(limit, listeners)?;
        if total < count(SLOTS_USUAL) {
            log::warning!(
                "etcdmain",
                "file descriptor limit[{limit}] leaves {total} connections for clients and other members: raise it \
                 with 'ulimit -n 65536', or LimitNOFILE= in a systemd unit"
            );
        }
        Ok(ConnectionSlots::new(total))
    }

    /// The slots of a proxy. Each request that it forwards needs a second connection, to a member. Idle connections
    /// to members are kept too, see [`ConnectionSlots::idle_upstream`].
    ///
    /// # Errors
    /// If hardly any connection would be left.
    pub(crate) fn of_proxy(limit: u64, listeners: usize) -> Result<ConnectionSlots, TooFewDescriptors> {
        let total = slots(limit, listeners)?;
        let clients = (total - total / 4) / 2;
        if clients < count(SLOTS_USUAL) {
            log::warning!(
                "etcdmain",
                "file descriptor limit[{limit}] leaves {clients} connections for clients: raise it with \
                 'ulimit -n 65536', or LimitNOFILE= in a systemd unit"
            );
        }
        Ok(ConnectionSlots(Arc::new(SlotTable {
            peers_max: 0,
            peers_reserved: 0,
            ..SlotTable::new(clients)
        })))
    }

    /// The most idle connections to members that a proxy may keep, for all endpoints together.
    pub(crate) fn idle_upstream(&self) -> usize {
        // A quarter of all slots. Clients and the connections of their requests have half of the rest each.
        self.0.total * 2 / 3
    }

    fn new(total: usize) -> ConnectionSlots {
        ConnectionSlots(Arc::new(SlotTable::new(total)))
    }

    /// As many slots as a test needs.
    #[cfg(test)]
    pub(crate) fn many() -> ConnectionSlots {
        ConnectionSlots::new(1 << 16)
    }

    /// Accepts the next connection of a listener when there is a slot for it. Errors of the system are logged, and it
    /// tries again.
    pub(crate) async fn accept(&self, port: Port, listener: &TcpListener) -> (TcpStream, Slot) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => return (socket, self.enter(port).await),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if self.may_log() {
                        log::error!("etcdmain", "cannot accept connections, trying again: {error}");
                    }
                    self.make_room(port);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes a slot. While there is none, asks connections without a request to close, one after the other.
    async fn enter(&self, port: Port) -> Slot {
        loop {
            let freed = self.0.freed.notified();
            if let Some(slot) = self.try_enter(port) {
                return slot;
            }
            let found = self.make_room(port);
            if self.may_log() {
                let (total, port) = (self.0.total, port.name());
                let what = if found { "idle ones are closed for new ones" } else { "new ones wait" };
                log::warning!(
                    "etcdmain",
                    "all connections that may be open {port} are in use ({total} in all, by the limit on file \
                     descriptors): {what}"
                );
            }
            // A connection that closes or becomes busy wakes this task; a slow one is not waited for.
            let _ = timeout(ROOM_PAUSE, freed).await;
        }
    }

    fn try_enter(&self, port: Port) -> Option<Slot> {
        let shared = &*self.0;
        let mut open = shared.open.lock();
        let (clients, peers) = (open.clients.connections.len(), open.peers.connections.len());
        let has_room = match port {
            Port::Clients => clients + peers.max(shared.peers_reserved) < shared.total,
            Port::Peers => peers < shared.peers_max && clients + peers < shared.total,
        };
        if !has_room {
            return None;
        }
        let number = open.next;
        open.next += 1;
        let activity = Arc::new(Activity {
            phase: AtomicU8::new(Phase::Silent as u8),
            close_requested: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            port,
            active: AtomicU64::new(shared.clock.fetch_add(1, Relaxed)),
            waker: Mutex::new(None),
            number,
            slots: self.clone(),
        });
        open.group(port).connections.insert(number, activity.clone());
        Some(Slot(activity))
    }

    /// Wakes the tasks of all connections of a port, so that they check a condition of their own.
    pub(crate) fn wake(&self, port: Port) {
        let wakers: Vec<Waker> = {
            let mut open = self.0.open.lock();
            open.group(port)
                .connections
                .values()
                .filter_map(|activity| activity.waker.lock().clone())
                .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Asks the best candidate to close. Returns whether there is one.
    fn make_room(&self, port: Port) -> bool {
        let mut open = self.0.open.lock();
        let mut spare = open.group(port).next_to_close();
        if spare.is_none() && port == Port::Clients && open.peers.connections.len() > self.0.peers_reserved {
            spare = open.peers.next_to_close();
        }
        drop(open);
        let Some(spare) = spare else { return false };
        spare.close_requested.store(true, Relaxed);
        let waker = spare.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn may_log(&self) -> bool {
        let (now, mut last_logged) = (Instant::now(), self.0.last_logged.lock());
        if last_logged.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            return false;
        }
        *last_logged = Some(now);
        true
    }
}

impl SlotTable {
    fn new(total: usize) -> SlotTable {
        SlotTable {
            total,
            peers_max: PEERS_MAX.min(total / 2),
            peers_reserved: PEERS_RESERVED.min(total / 4),
            open: Mutex::default(),
            freed: Notify::new(),
            clock: AtomicU64::new(0),
            last_logged: Mutex::new(None),
        }
    }
}

impl Port {
    fn name(self) -> &'static str {
        match self {
            Port::Clients => "to clients",
            Port::Peers => "from other members",
        }
    }
}

/// The slots that a limit leaves. Each listener holds one further connection until there is a slot for it.
fn slots(limit: u64, listeners: usize) -> Result<usize, TooFewDescriptors> {
    let left = limit.saturating_sub(DESCRIPTORS_RESERVED).saturating_sub(listeners as u64);
    if left < SLOTS_MIN {
        return Err(TooFewDescriptors { limit });
    }
    Ok(count(left.min(SLOTS_MAX)))
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Whether an error of `accept` concerns only this connection.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

impl OpenConnections {
    fn group(&mut self, port: Port) -> &mut PortConnections {
        match port {
            Port::Clients => &mut self.clients,
            Port::Peers => &mut self.peers,
        }
    }
}

impl PortConnections {
    /// The best candidate to close, if there is one.
    fn next_to_close(&mut self) -> Option<Arc<Activity>> {
        if let Some(candidate) = self.next_candidate() {
            return Some(candidate);
        }
        let mut found: Vec<_> =
            self.connections.values().filter(|one| one.can_be_closed()).cloned().collect();
        let first = found.iter().map(|one| one.phase()).min()?;
        found.retain(|one| one.phase() == first);
        found.sort_by_key(|one| one.active.load(Relaxed));
        found.truncate((self.connections.len() / CANDIDATES_PART).max(1));
        self.candidates = found.into();
        self.next_candidate()
    }

    fn next_candidate(&mut self) -> Option<Arc<Activity>> {
        // A candidate may have closed or become busy meanwhile.
        std::iter::from_fn(|| self.candidates.pop_front()).find(|one| one.can_be_closed())
    }
}

impl Activity {
    fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed)).min(Phase::ALL.len() - 1)]
    }

    /// Whether it is open, not busy, and was not asked to close yet.
    fn can_be_closed(&self) -> bool {
        self.phase() != Phase::Busy && !self.close_requested.load(Relaxed) && !self.closed.load(Relaxed)
    }

    /// Records what the connection does from now on.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        if phase == Phase::Busy {
            // It is busy: another connection must close, and the task that waits for room has to know at once.
            if self.close_requested.swap(false, Relaxed) {
                self.slots.0.freed.notify_waiters();
            }
        } else {
            self.active.store(self.slots.0.clock.fetch_add(1, Relaxed), Relaxed);
        }
    }

    /// Registers the connection's task, to be woken when it has to close and by [`wake`](ConnectionSlots::wake).
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.lock();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether the connection has to close to make room.
    pub(crate) fn must_close(&self) -> bool {
        self.close_requested.load(Relaxed) && self.phase() != Phase::Busy
    }

    /// Waits until the connection has to close.
    pub(crate) async fn wait_for_close_request(&self) {
        poll_fn(|cx| {
            self.register(cx);
            if self.must_close() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether the connection has to close to make room, and no byte has arrived. If bytes have arrived that the
    /// runtime has not noticed yet, the connection stays.
    pub(crate) fn must_close_unless_readable(&self, socket: &TcpStream) -> bool {
        if !self.must_close() {
            return false;
        }
        let mut byte = [MaybeUninit::uninit()];
        let heard = SockRef::from(socket).peek(&mut byte).is_ok_and(|read| read > 0);
        if heard {
            self.close_requested.store(false, Relaxed);
            self.slots.0.freed.notify_waiters();
        }
        !heard
    }

    /// Waits for the first byte. Returns `false` if the connection failed or has to close before.
    pub(crate) async fn first_byte(&self, socket: &TcpStream) -> bool {
        loop {
            tokio::select! {
                biased;
                readable = socket.readable() => {
                    self.enter(Phase::Arriving);
                    return readable.is_ok();
                }
                () = self.wait_for_close_request() => {
                    if self.must_close_unless_readable(socket) {
                        return false;
                    }
                }
            }
        }
    }
}

/// The permission of one connection to be open. Drop it after the connection's socket, not before.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Activity>);

impl Slot {
    /// The state of its connection.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Activity { closed, port, number, slots, .. } = &*self.0;
        closed.store(true, Relaxed);
        slots.0.open.lock().group(*port).connections.remove(number);
        slots.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;

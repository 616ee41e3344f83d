//! How many connections this process has open at the same time, over all of its listeners, and who goes when there
//! are too many.
//!
//! Every connection needs a descriptor, and so does every file that the server opens. So each connection that a
//! listener accepts holds a [`Slot`], and there are fewer slots than the limit on descriptors allows. When all slots
//! are taken, connections without a request are closed for the next one: first those that never sent a byte, then
//! those between two requests, then those whose request is still arriving; in each group the one that was silent for
//! longest. A request that is being answered, a watch and a stream of another member are never cut. What a connection
//! does is told to its [`Activity`].
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

/// Descriptors that are kept for everything but accepted connections.
///
/// A member of a cluster of nine, which is more than anyone should have, needs about 115 of them:
///
/// - 56 to its eight peers: each has two streams that we dial, four connections for posts and one for probes;
/// - 16 for watching over members: reports for the dashboard, versions, discovery, Graphite;
/// - 20 for listeners, runtimes, standard streams, the service manager and DNS;
/// - 20 for segments of the log (the locks of those that no snapshot covers), snapshots and folders, both our own
///   and the files on their way to followers.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 150;

/// With fewer slots than this a member could not serve its peers and a handful of clients.
const SLOTS_MIN: u64 = 32;

/// With fewer slots than this the log says at the start that they are few.
const SLOTS_USUAL: u64 = 512;

/// Beyond this number of slots memory is the limit, not descriptors.
const SLOTS_MAX: u64 = 1 << 20;

/// Connections to the peer port. A cluster has a handful of members with a few connections each.
const PEERS_MAX: usize = 256;

/// Slots of the peer port that clients cannot take.
const PEERS_RESERVED: usize = 64;

/// How long to wait for a connection that was asked to go, before another one is asked.
const ROOM_PAUSE: Duration = Duration::from_millis(50);

/// The pause after the system could not give us a connection: it lacks descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the log repeats that connections are short.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A part of the connections that one look at all of them marks to go, as their number grows: looking costs as much
/// as there are connections, and a flood must not make us look at all of them for each new one.
const CANDIDATES_PART: usize = 64;

/// How many descriptors this process may have, once its own limit is raised to the one that the system sets it.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        log::warning!("etcdmain", "cannot raise the limit on file descriptors to the one that is allowed");
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

/// Which listener a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// One for clients.
    Clients,
    /// One for other members.
    Peers,
}

/// What a connection does. The order is that in which connections are closed to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It has not sent a byte.
    Silent,
    /// It is between two requests.
    Idle,
    /// A part of a request's head is here.
    Arriving,
    /// A request's body is being read.
    Receiving,
    /// Something is being done for it. It is not closed.
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
    /// Slots of all ports together.
    total: usize,
    /// Of them, the peer port has at most this number,
    peers_max: usize,
    /// and clients leave it at least this one.
    peers_reserved: usize,
    open: Mutex<OpenConnections>,
    /// A slot became free, or the connection that was asked to go does not.
    freed: Notify,
    /// Counts what connections do: a connection with a lower number was silent for longer.
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
    /// By the order in which they came.
    connections: BTreeMap<u64, Arc<Activity>>,
    /// Found by the last look at all of them, and not asked to go yet; the first goes first.
    candidates: VecDeque<Arc<Activity>>,
}

/// What one connection does, and what it is asked to do.
///
/// All that is kept of a connection is in here: there may be tens of thousands.
#[derive(Debug)]
pub(crate) struct Activity {
    phase: AtomicU8,
    /// It is to go, unless it has something to do.
    close_requested: AtomicBool,
    closed: AtomicBool,
    port: Port,
    /// When it last did something, by the shared clock.
    active: AtomicU64,
    waker: Mutex<Option<Waker>>,
    number: u64,
    slots: ConnectionSlots,
}

impl ConnectionSlots {
    /// The slots of a member that may have `limit` descriptors and has this number of listeners.
    ///
    /// # Errors
    /// When hardly any connection would be left.
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

    /// The slots of a proxy. Each request that it passes on has a second connection, to a member; and idle ones wait
    /// for the next request, see [`ConnectionSlots::idle_upstream`].
    ///
    /// # Errors
    /// When hardly any connection would be left.
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

    /// Idle connections to members that a proxy with these slots may keep, all endpoints together.
    pub(crate) fn idle_upstream(&self) -> usize {
        // A quarter of all; clients and the connections of their requests have the rest, half of it each.
        self.0.total * 2 / 3
    }

    fn new(total: usize) -> ConnectionSlots {
        ConnectionSlots(Arc::new(SlotTable::new(total)))
    }

    /// As many as anyone wants.
    #[cfg(test)]
    pub(crate) fn many() -> ConnectionSlots {
        ConnectionSlots::new(1 << 16)
    }

    /// The next connection of a listener, once there is room for it. What the system refuses is logged and tried
    /// again.
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

    /// Takes a slot. While there is none, connections without a request are asked to go, one after the other.
    async fn enter(&self, port: Port) -> Slot {
        loop {
            let freed = self.0.freed.notified();
            if let Some(slot) = self.try_enter(port) {
                return slot;
            }
            let asked = self.make_room(port);
            if self.may_log() {
                let (total, port) = (self.0.total, port.name());
                let what = if asked { "idle ones are closed for new ones" } else { "new ones wait" };
                log::warning!(
                    "etcdmain",
                    "all connections that may be open {port} are in use ({total} in all, by the limit on file \
                     descriptors): {what}"
                );
            }
            // One that goes, or finds something to do instead, says so; one that is slow to go is not waited for.
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

    /// Wakes the tasks of all connections of a port, for something that they look at by themselves.
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

    /// Asks the connection that can be spared best to go. Whether there is one.
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

/// The connections that a limit leaves. A listener has one in its hands until there is a slot for it.
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

/// Whether an error of `accept` is about the connection alone, so that the next one may fare better.
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
    /// The connection that can be spared best, if any can be.
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
        // One that is gone by now, or does something, is no candidate.
        std::iter::from_fn(|| self.candidates.pop_front()).find(|one| one.can_be_closed())
    }
}

impl Activity {
    fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed)).min(Phase::ALL.len() - 1)]
    }

    /// Whether it is open, has nothing to do and was not asked to go yet.
    fn can_be_closed(&self) -> bool {
        self.phase() != Phase::Busy && !self.close_requested.load(Relaxed) && !self.closed.load(Relaxed)
    }

    /// The connection does this from now on, or goes on with it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        if phase == Phase::Busy {
            // It has something to do: another one goes, and whoever waits for room is to ask it at once.
            if self.close_requested.swap(false, Relaxed) {
                self.slots.0.freed.notify_waiters();
            }
        } else {
            self.active.store(self.slots.0.clock.fetch_add(1, Relaxed), Relaxed);
        }
    }

    /// Has the connection's task woken when it is to go, and when [all](ConnectionSlots::wake) are.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.lock();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether the connection is to be closed to make room.
    pub(crate) fn must_close(&self) -> bool {
        self.close_requested.load(Relaxed) && self.phase() != Phase::Busy
    }

    /// Waits until the connection is to go.
    pub(crate) async fn wait_for_close_request(&self) {
        poll_fn(|cx| {
            self.register(cx);
            if self.must_close() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether the connection is to be closed to make room, and nothing has come on it. Bytes may have come that the
    /// runtime has not noticed yet; then the connection stays.
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

    /// Waits until something comes. Whether the connection may go on: it may also have to go before.
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

/// One connection's leave to be open. Dropped together with the connection's socket, and not before.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Activity>);

impl Slot {
    /// What its connection does.
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

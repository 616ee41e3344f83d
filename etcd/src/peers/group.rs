//! The transport: the peers that this member talks to, and the tasks that serve each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use node::member::{Kind, Message};
use parking_lot::RwLock;
use prometheus::proto::MetricFamily;
use shared::id::MemberId;
use shared::net::Dialer;
use shared::time::UnixNanos;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::client::SenderHeaders;
use super::compatibility::Features;
use super::frames::StreamKind;
use super::local::{Inbound, LocalMember, Mailbox, SnapshotSource};
use super::peer::{RemotePeer, TransportContext};
use super::{pipeline, probing, streams};
use crate::log;
use crate::metrics::traffic::{PeerStats, TrafficCounter};
use crate::metrics::{Timers, families};

/// The time for a dial, in addition to a part of the election timeout.
const DIAL_TIME: Duration = Duration::from_secs(1);

/// The most senders that get answers although this member does not know them as members. A cluster has a handful.
const REMOTES_MAX: usize = 32;

/// Carries messages to and from the other members. Clones share everything. When the last clone is dropped, or after
/// [`Transport::stop`], all its connections end.
///
/// Only its own tasks wait. It starts them on the runtime of the caller.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    context: Arc<TransportContext>,
    group: RwLock<Group>,
}

#[derive(Default)]
struct Group {
    peers: BTreeMap<MemberId, RunningPeer>,
    /// Senders that this member does not know as members, though they know it: they get answers, but no streams.
    remotes: BTreeMap<MemberId, RunningPeer>,
    removed: BTreeSet<MemberId>,
}

/// A peer and the tasks that serve it, which end with it.
struct RunningPeer {
    peer: Arc<RemotePeer>,
    tasks: Vec<AbortHandle>,
}

impl Drop for RunningPeer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.peer.appends.close();
        self.peer.messages.close();
    }
}

impl Transport {
    /// A transport without peers. Received messages go to `inbound`. Its capacity bounds how many can wait (an append
    /// has up to 1 MiB); when it is full, peers wait.
    pub fn new(
        local: LocalMember,
        dialer: Dialer,
        snapshots: Arc<dyn SnapshotSource>,
        inbound: mpsc::Sender<Inbound>,
        election_timeout: Duration,
    ) -> Transport {
        let context = TransportContext {
            sender_headers: SenderHeaders::new(local.id, local.cluster_id, &local.peer_urls),
            local,
            dialer,
            snapshots,
            mailbox: Mailbox(inbound),
            dial_time_max: DIAL_TIME + election_timeout / 5,
            received: TrafficCounter::default(),
            timers: OnceLock::new(),
            sent: TrafficCounter::default(),
        };
        Transport(Arc::new(Inner { context: Arc::new(context), group: RwLock::default() }))
    }

    /// Sends messages. Never waits: what cannot be queued is dropped and reported as [`Inbound::Unreachable`].
    pub fn send(&self, messages: Vec<Message>) {
        let now = Instant::now();
        let (mut appends, mut bytes) = (0, 0);
        let context = &*self.0.context;
        let group = self.0.group.read();
        for message in messages {
            let id = message.to();
            if let Some(running) = group.peers.get(&id) {
                let is_append = message.kind() == Kind::Append;
                let length = running.peer.send(context, message, now);
                if is_append {
                    appends += 1;
                    bytes += length;
                }
            } else if let Some(remote) = group.remotes.get(&id) {
                remote.peer.post(context, message, now);
            } else if id.0 != 0 {
                let kind = message.kind();
                log::debug!("rafthttp", "ignored message {kind:?} (sent to unknown peer {id})");
            }
        }
        for running in group.peers.values() {
            running.peer.appends.flush();
            running.peer.messages.flush();
        }
        let took = now.elapsed();
        for running in group.peers.values().filter(|running| running.peer.measures.is_queued()) {
            running.peer.measures.flushed(took);
        }
        drop(group);
        if appends > 0 {
            context.sent.add(appends, bytes, now);
        }
    }

    /// Starts to communicate with a member. Does nothing if the peer exists already.
    pub fn add_peer(&self, id: MemberId, urls: &[String]) {
        let mut group = self.0.group.write();
        if id == self.0.context.local.id || group.peers.contains_key(&id) {
            return;
        }
        group.remotes.remove(&id);
        let mut running = self.start(id, urls);
        let (context, to) = (&self.0.context, running.peer.clone());
        let tasks = [
            tokio::spawn(streams::read(context.clone(), to.clone(), StreamKind::Append)),
            tokio::spawn(streams::read(context.clone(), to.clone(), StreamKind::Message)),
            tokio::spawn(probing::probe(context.clone(), to)),
        ];
        running.tasks.extend(tasks.iter().map(JoinHandle::abort_handle));
        group.peers.insert(id, running);
    }

    /// Lets this member answer a sender that it does not know as a member. Does nothing for a member.
    pub fn add_remote(&self, id: MemberId, urls: &[String]) {
        let mut group = self.0.group.write();
        let known = group.peers.contains_key(&id) || group.remotes.contains_key(&id);
        if known || id == self.0.context.local.id || group.remotes.len() >= REMOTES_MAX {
            return;
        }
        let running = self.start(id, urls);
        group.remotes.insert(id, running);
    }

    fn start(&self, id: MemberId, urls: &[String]) -> RunningPeer {
        let context = &self.0.context;
        let peer = Arc::new(RemotePeer::new(context, id, urls));
        let worker = || tokio::spawn(pipeline::send_all(context.clone(), peer.clone())).abort_handle();
        let tasks = (0..pipeline::WORKERS).map(|_| worker()).collect();
        RunningPeer { peer, tasks }
    }

    /// Changes the URLs of a member. Existing connections stay.
    pub fn update_peer(&self, id: MemberId, urls: &[String]) {
        if let Some(running) = self.0.group.read().peers.get(&id) {
            running.peer.picker.update(id, urls);
        }
    }

    /// Removes a member for ever. From now on its requests are refused in a way that stops it.
    pub fn remove_peer(&self, id: MemberId) {
        let mut group = self.0.group.write();
        group.peers.remove(&id);
        group.remotes.remove(&id);
        group.removed.insert(id);
    }

    /// Forgets all peers, but not which members were removed.
    pub fn clear(&self) {
        self.0.group.write().peers.clear();
    }

    /// Ends all connections.
    pub fn stop(&self) {
        let mut group = self.0.group.write();
        group.peers.clear();
        group.remotes.clear();
    }

    /// When the peer's connection became active; `None` while there is none.
    pub fn active_since(&self, id: MemberId) -> Option<UnixNanos> {
        self.0.group.read().peers.get(&id)?.peer.status.active_since()
    }

    /// The extensions that a peer understands; none for a member of 2.x, or one that never connected.
    pub fn features(&self, id: MemberId) -> Features {
        let group = self.0.group.read();
        group.peers.get(&id).map_or_else(Features::default, |running| running.peer.status.features())
    }

    /// Traffic counters and rates.
    pub fn stats(&self) -> PeerStats {
        let now = Instant::now();
        let group = self.0.group.read();
        let followers = group.peers.iter().map(|(id, running)| (*id, running.peer.follower.stats()));
        PeerStats {
            followers: followers.collect(),
            sent: self.0.context.sent.traffic(now),
            received: self.0.context.received.traffic(now),
        }
    }

    /// From now on records how long followers take to answer, as 0.4 did.
    pub fn time(&self, timers: Arc<Timers>) {
        // If a recorder is set already, it stays.
        let _ = self.0.context.timers.set(timers);
    }

    /// The metrics of all peers, for `/metrics`.
    pub fn measures(&self) -> Vec<MetricFamily> {
        let local = self.0.context.local.id;
        let group = self.0.group.read();
        families::merged(group.peers.values().flat_map(|running| {
            let to = &running.peer;
            let waiting = [to.appends.waiting(), to.messages.waiting(), to.pipeline.waiting()];
            to.measures.families(local, to.status.active_since().is_some(), waiting)
        }))
    }

    pub(super) fn context(&self) -> &Arc<TransportContext> {
        &self.0.context
    }

    pub(super) fn peer(&self, id: MemberId) -> Option<Arc<RemotePeer>> {
        self.0.group.read().peers.get(&id).map(|running| running.peer.clone())
    }

    pub(super) fn is_removed(&self, id: MemberId) -> bool {
        self.0.group.read().removed.contains(&id)
    }
}

//! Transports against each other over loopback, and against raw sockets.

mod answers;
mod go;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node::member::{MemberInfo, Membership, Message};
use parking_lot::Mutex;
use prost::Message as _;
use shared::id::{ClusterId, MemberId};
use shared::net::{Acceptor, Dialer};
use shared::pb;
use shared::time::UnixNanos;
use shared::v2;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Inbound, LocalMember, Roster, SnapshotBytes, SnapshotSource, Transport, serve};
use crate::connections::ConnectionSlots;

pub(super) const CLUSTER: ClusterId = ClusterId(0xc46d_f306_ea09_afe5);
const TIME_MAX: Duration = Duration::from_secs(10);

/// The members that the peer port shows.
struct Members(Membership);

impl Roster for Members {
    fn members(&self) -> Arc<Membership> {
        Arc::new(self.0.clone())
    }
}

/// Snapshots in memory.
#[derive(Default)]
struct Snapshots(Mutex<BTreeMap<u64, Vec<u8>>>);

impl SnapshotSource for Snapshots {
    fn open(&self, _: u64, index: u64) -> io::Result<Box<dyn SnapshotBytes>> {
        let bytes = self.0.lock().get(&index).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(bytes))
    }
}

impl SnapshotBytes for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// A transport and its port, as a member has them.
struct Node {
    id: MemberId,
    address: SocketAddr,
    transport: Transport,
    inbound: mpsc::Receiver<Inbound>,
    snapshots: Arc<Snapshots>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Node {
    async fn start(id: u64) -> Node {
        Node::start_at(id, "127.0.0.1:0").await
    }

    async fn start_at(id: u64, address: &str) -> Node {
        Node::start_as(MemberId(id), CLUSTER, address).await
    }

    async fn start_as(id: MemberId, cluster_id: ClusterId, address: &str) -> Node {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, inbound) = mpsc::channel(256);
        let snapshots = Arc::new(Snapshots::default());
        let local = LocalMember {
            id,
            cluster_id,
            peer_urls: vec![format!("http://{address}")],
            level: node::version::Level::V2_3,
            clock: || UnixNanos(1_795_247_009_000_000_000),
        };
        let election_timeout = Duration::from_secs(1);
        let transport = Transport::new(local, Dialer::plain(), snapshots.clone(), sender, election_timeout);
        let peer = MemberInfo {
            id,
            name: "m".to_owned(),
            peer_urls: vec![format!("http://{address}")],
            client_urls: Vec::new(),
        };
        let members = Membership {
            cluster_id,
            members: [(id, peer)].into(),
            removed: [MemberId(0xdead)].into(),
            ..Membership::default()
        };
        let (stop, stopping) = watch::channel(false);
        let roster = Arc::new(Members(members));
        let serving = tokio::spawn(serve(
            listener,
            Acceptor::plain(),
            roster,
            transport.clone(),
            stopping,
            ConnectionSlots::many(),
        ));
        Node { id, address, transport, inbound, snapshots, stop, serving }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn knows(&self, other: &Node) {
        self.transport.add_peer(other.id, &[other.url()]);
    }

    async fn stop(self) {
        self.transport.stop();
        self.stop.send_replace(true);
        self.serving.await.unwrap();
    }

    /// The next report of the transport, except that a peer changed.
    async fn next(&mut self) -> Inbound {
        loop {
            match timeout(TIME_MAX, self.inbound.recv()).await.expect("nothing comes in").unwrap() {
                Inbound::PeerChanged => {}
                inbound => return inbound,
            }
        }
    }

    async fn next_message(&mut self) -> Message {
        match self.next().await {
            Inbound::Message(message) => message,
            other => panic!("no message, but {other:?}"),
        }
    }

    /// Waits until both streams to a peer are connected.
    async fn is_connected_to(&self, id: MemberId) {
        let connected = || {
            self.transport.peer(id).is_some_and(|peer| {
                use super::frames::StreamKind::{Append, Message};
                [Append, Message].iter().all(|kind| peer.queue(*kind).is_attached())
            })
        };
        until(connected).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIME_MAX, waited).await.expect("it did not come so far");
}

async fn pair() -> (Node, Node) {
    let (one, two) = (Node::start(0x11).await, Node::start(0x22).await);
    one.knows(&two);
    two.knows(&one);
    one.is_connected_to(two.id).await;
    two.is_connected_to(one.id).await;
    (one, two)
}

/// An entry that sets a key to `val`.
fn entry(index: u64, val: Vec<u8>) -> pb::Entry {
    let request =
        v2::Request { verb: v2::Verb::Put, path: "/1/a".into(), val: val.into(), ..Default::default() };
    pb::Entry { kind: 0, term: 2, index, data: Some(request.encode_to_vec().into()) }
}

/// One entry behind the one at `index + 1`.
fn append(from: &Node, to: &Node, index: u64, val: Vec<u8>) -> Message {
    Message::append(from.id, to.id, 2, index + 1, index, vec![entry(index + 2, val)]).unwrap()
}

/// A message without entries, identified by its index.
fn plain(kind: i32, from: MemberId, to: MemberId, index: u64) -> Message {
    let message = pb::Message { kind, from: from.0, to: to.0, term: 2, index, ..pb::Message::default() };
    Message::decode(message.encode_to_vec().into()).unwrap()
}

const APPEND_RESPONSE: i32 = 4;
const SNAPSHOT: i32 = 7;
const HEARTBEAT: i32 = 8;

/// A snapshot message as raft creates it, and the bytes of its file.
fn snapshot(from: MemberId, to: MemberId, index: u64, data: Vec<u8>) -> (Message, Vec<u8>) {
    let conf_state = pb::ConfState { nodes: vec![from.0, to.0] };
    let metadata = pb::SnapshotMetadata { index, term: 2, conf_state };
    let head = pb::Snapshot { data: None, metadata: metadata.clone() };
    let message = pb::Message {
        kind: SNAPSHOT,
        from: from.0,
        to: to.0,
        term: 2,
        snapshot: head,
        ..pb::Message::default()
    };
    let file = pb::Snapshot { data: Some(Bytes::from(data)), metadata };
    (Message::decode(message.encode_to_vec().into()).unwrap(), file.encode_to_vec())
}

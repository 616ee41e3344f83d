//! The member at this end of the connections: what the transport and the peer port know about it, what they request
//! from it, and what they report to it.

use std::io;
use std::sync::Arc;

use http::Method;
use node::member::{Membership, Message};
use node::version::Level;
use shared::id::{ClusterId, MemberId};
use shared::time::UnixNanos;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::admin::{self, AdminAnswer, ChangeRequest};
use crate::auth::{Authorized, only_reads};
use crate::backend::Backend;

/// The member that the transport belongs to.
#[derive(Debug, Clone)]
pub struct LocalMember {
    /// Its id.
    pub id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Its peer URLs. Every request carries them.
    pub peer_urls: Vec<String>,
    /// The level of the cluster.
    pub level: Level,
    /// The current time.
    pub clock: fn() -> UnixNanos,
}

/// Provides the snapshots that peers need.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Opens the `raftpb.Snapshot` with this term and index. Called on a thread that may wait for the disk.
    ///
    /// # Errors
    /// If there is no such snapshot.
    fn open(&self, term: u64, index: u64) -> io::Result<Box<dyn SnapshotBytes>>;
}

/// A snapshot that is read while it is sent.
pub trait SnapshotBytes: Send {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` on. Called on a thread that may wait for the disk.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// The members as of the last applied entry: the only part of the server that the peer port shows.
pub trait Roster: Send + Sync + 'static {
    /// The cluster's members.
    fn members(&self) -> Arc<Membership>;

    /// Answers a request for `path` (unescaped, relative to `/v2/admin`), which 0.4 serves on this port.
    fn administer(
        &self,
        method: &Method,
        path: &[u8],
        body: &[u8],
    ) -> impl Future<Output = AdminAnswer> + Send {
        let _ = (method, path, body);
        std::future::ready(AdminAnswer::not_found())
    }
}

impl<B: Backend> Roster for B {
    fn members(&self) -> Arc<Membership> {
        Backend::members(self)
    }

    async fn administer(&self, method: &Method, path: &[u8], body: &[u8]) -> AdminAnswer {
        // Requests on this port carry no credentials.
        if only_reads(method) {
            return admin::read(self, path);
        }
        match Authorized::while_off(self.auth_counted(), ChangeRequest { method, rest: path, body }) {
            Ok(change) => admin::change(self, change).await,
            Err(_) => AdminAnswer::root_required(),
        }
    }
}

/// What the transport reports to the member.
#[derive(Debug)]
pub enum Inbound {
    /// A message from another member. It has passed all checks that do not need the log.
    Message(Message),
    /// Messages to this peer were lost, and more may follow.
    Unreachable(MemberId),
    /// The peer was connected, and now no program listens at its URL.
    PeerGone(MemberId),
    /// The snapshot has been delivered, or has failed.
    SnapshotSent {
        /// The receiver.
        to: MemberId,
        /// Whether the peer accepted it.
        ok: bool,
    },
    /// A peer connected, disconnected, or announced other features than before.
    PeerChanged,
    /// A peer of this cluster says that this member has been removed. Whether to believe it is the member's decision: a
    /// peer can be a stranger, or a wrong URL.
    RemovedAccordingTo(MemberId),
}

/// The queue for everything that arrives. It is bounded: a task that reads from a peer waits for room, so the peer
/// waits too.
#[derive(Debug, Clone)]
pub(super) struct Mailbox(pub(super) mpsc::Sender<Inbound>);

/// The member is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberGone;

impl Mailbox {
    /// Delivers a message; waits for room.
    pub(super) async fn deliver(&self, message: Message) -> Result<(), MemberGone> {
        match self.0.try_send(Inbound::Message(message)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => self.0.send(message).await.map_err(|_| MemberGone),
            Err(TrySendError::Closed(_)) => Err(MemberGone),
        }
    }

    /// Reports that messages were lost. Does nothing when the queue is full: then the member has older reports to
    /// read.
    pub(super) fn notify_unreachable(&self, id: MemberId) {
        let _ = self.0.try_send(Inbound::Unreachable(id));
    }

    /// Reports an event that is rare and must not be lost. Never waits.
    pub(super) fn notify(&self, what: Inbound) {
        if let Err(TrySendError::Full(what)) = self.0.try_send(what) {
            let sender = self.0.clone();
            tokio::spawn(async move {
                // If the member is gone, the event does not matter.
                let _ = sender.send(what).await;
            });
        }
    }
}

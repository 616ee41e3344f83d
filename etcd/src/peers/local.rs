//! The member at this end: what the transport and the port for peers know of it, what they ask of it, and what they tell
//! it.

use std::io;
use std::sync::Arc;

use http::Method;
use node::member::{Membership, Message};
use shared::id::{ClusterId, MemberId};
use shared::time::UnixNanos;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::admin::{self, AdminAnswer, ChangeRequest};
use crate::auth::{Authorized, only_reads};
use crate::backend::Backend;

/// The member that the transport works for.
#[derive(Debug, Clone)]
pub struct LocalMember {
    /// Its id.
    pub id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Where the others reach it; they are told with every request.
    pub peer_urls: Vec<String>,
    /// The time.
    pub clock: fn() -> UnixNanos,
}

/// Where a snapshot comes from when a peer needs one.
pub trait SnapshotSource: Send + Sync + 'static {
    /// The bytes of a `raftpb.Snapshot` of that term and index. Called on a thread that may wait for the disk.
    ///
    /// # Errors
    /// When there is no such snapshot any more.
    fn open(&self, term: u64, index: u64) -> io::Result<Box<dyn SnapshotBytes>>;
}

/// Bytes that are read as they are sent.
pub trait SnapshotBytes: Send {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills `buf` with those from `offset` on. Called on a thread that may wait for the disk.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// The members as of the last applied entry: of them, and of nothing else of the server, the peer port tells.
pub trait Roster: Send + Sync + 'static {
    /// The cluster's members.
    fn members(&self) -> Arc<Membership>;

    /// Answers a request for `path`, unescaped, below `/v2/admin`, as 0.4 has it on this port.
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
        // Nobody says on this port who they are.
        if only_reads(method) {
            return admin::read(self, path);
        }
        match Authorized::while_off(self.auth_counted(), ChangeRequest { method, rest: path, body }) {
            Ok(change) => admin::change(self, change).await,
            Err(_) => AdminAnswer::root_required(),
        }
    }
}

/// What the transport tells the member.
#[derive(Debug)]
pub enum Inbound {
    /// Another member says something. It has passed all checks that need no knowledge of the log.
    Message(Message),
    /// Messages to this peer were lost, and more may be.
    Unreachable(MemberId),
    /// This peer was connected, and now no program listens where it was.
    PeerGone(MemberId),
    /// The snapshot that was sent has arrived, or has not.
    SnapshotSent {
        /// Where to.
        to: MemberId,
        /// Whether the peer took it.
        ok: bool,
    },
    /// A peer came, went, or can do other things than before.
    PeerChanged,
    /// The member must stop: this is why.
    Fatal(String),
}

/// Where all that comes in is put. Bounded: who reads from a peer waits for room, so that the peer waits too.
#[derive(Debug, Clone)]
pub(super) struct Mailbox(pub(super) mpsc::Sender<Inbound>);

/// The member is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberGone;

impl Mailbox {
    /// Hands a message over; waits for room.
    pub(super) async fn deliver(&self, message: Message) -> Result<(), MemberGone> {
        match self.0.try_send(Inbound::Message(message)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => self.0.send(message).await.map_err(|_| MemberGone),
            Err(TrySendError::Closed(_)) => Err(MemberGone),
        }
    }

    /// Tells that messages were lost, unless the member has more to read than that anyway.
    pub(super) fn notify_unreachable(&self, id: MemberId) {
        let _ = self.0.try_send(Inbound::Unreachable(id));
    }

    /// Tells something that must not get lost, and is rare. Never waits.
    pub(super) fn notify(&self, what: Inbound) {
        if let Err(TrySendError::Full(what)) = self.0.try_send(what) {
            let sender = self.0.clone();
            tokio::spawn(async move {
                // A member that is gone needs to know nothing.
                let _ = sender.send(what).await;
            });
        }
    }
}

//! What the HTTP side holds of the running member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use shared::error::ApiError;
use shared::event::Event;
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::store::{Store, Watcher};
use shared::time::UnixNanos;
use tokio::sync::{mpsc, oneshot};

use super::clock;
use crate::member::{ConfChangeContext, ConfigureError, Membership, Peer, Progress, Role, Status};

/// Calls that wait for the member's loop. Beyond it callers wait for room: clients feel back-pressure.
pub(super) const CALLS_WAITING_MAX: usize = 16 * 1024;

/// The running member, as those see it who answer clients. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

/// What the loop and the handles share.
pub(super) struct Inner {
    pub(super) id: MemberId,
    pub(super) cluster_id: ClusterId,
    pub(super) name: String,
    pub(super) store: RwLock<Store>,
    pub(super) membership: ArcSwap<Membership>,
    pub(super) status: SharedStatus,
    pub(super) progress: Mutex<Vec<Progress>>,
    pub(super) calls: mpsc::Sender<Call>,
    /// When the process started, and when it last became, or got, a leader.
    pub(super) started: UnixNanos,
    pub(super) leader_since: AtomicU64,
}

/// The member's status, readable without asking its loop.
#[derive(Default)]
pub(super) struct SharedStatus {
    leader: AtomicU64,
    term: AtomicU64,
    vote: AtomicU64,
    commit: AtomicU64,
    applied: AtomicU64,
    role: AtomicU64,
    alone: AtomicBool,
    current: AtomicBool,
    /// The leader of a cluster of one: what it has applied is all that was ever acknowledged.
    reads_are_current: AtomicBool,
}

impl SharedStatus {
    pub(super) fn store(&self, status: &Status) {
        self.leader.store(status.leader.0, Ordering::Relaxed);
        self.term.store(status.term, Ordering::Relaxed);
        self.vote.store(status.vote.0, Ordering::Relaxed);
        self.commit.store(status.commit, Ordering::Relaxed);
        self.applied.store(status.applied, Ordering::Relaxed);
        self.role.store(status.role as u64, Ordering::Relaxed);
        self.alone.store(status.alone, Ordering::Relaxed);
        self.current.store(status.current, Ordering::Relaxed);
        self.reads_are_current.store(status.alone && status.current, Ordering::Release);
    }

    pub(super) fn load(&self, id: MemberId) -> Status {
        let role = match self.role.load(Ordering::Relaxed) {
            role if role == Role::Leader as u64 => Role::Leader,
            role if role == Role::Candidate as u64 => Role::Candidate,
            _ => Role::Follower,
        };
        Status {
            id,
            leader: MemberId(self.leader.load(Ordering::Relaxed)),
            role,
            term: self.term.load(Ordering::Relaxed),
            vote: MemberId(self.vote.load(Ordering::Relaxed)),
            commit: self.commit.load(Ordering::Relaxed),
            applied: self.applied.load(Ordering::Relaxed),
            alone: self.alone.load(Ordering::Relaxed),
            current: self.current.load(Ordering::Relaxed),
        }
    }
}

/// A request to the member's loop, with the place for its answer.
pub(super) enum Call {
    Submit(pb::Request, oneshot::Sender<Result<Event, SubmitError>>),
    Configure(pb::ConfChange, oneshot::Sender<Result<(), ChangeError>>),
}

/// Why a request has no event for an answer.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The store refused it; the same on every member.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no answer. The request may have been carried out, or may still be.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a change of the members was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It contradicts the members as they are.
    #[error(transparent)]
    Refused(#[from] ConfigureError),
    /// There is no answer. The change may have been made, or may still be.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// More members would have to be up to risk it (`-strict-reconfig-check`).
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
}

/// Why the cluster did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No majority answered in time.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The leader was lost while the request was on its way.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderLost,
    /// The member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
}

impl Handle {
    pub(super) fn new(inner: Arc<Inner>) -> Handle {
        Handle { inner }
    }

    /// Carries out a write or a quorum read and waits until it is applied here. The request's id is set on
    /// the way.
    pub async fn submit(&self, request: pb::Request) -> Result<Event, SubmitError> {
        if &request.method[..] == b"QGET" && self.inner.status.reads_are_current.load(Ordering::Acquire) {
            let store = self.inner.store.read();
            return Ok(store.get(&request.path, request.recursive, request.sorted)?);
        }
        let (reply, answer) = oneshot::channel();
        if self.inner.calls.send(Call::Submit(request, reply)).await.is_err() {
            return Err(Unavailable::Stopped.into());
        }
        answer.await.unwrap_or(Err(SubmitError::Unavailable(Unavailable::Stopped)))
    }

    /// The store as far as it is applied here. Never hold it across an `.await`.
    pub fn store(&self) -> RwLockReadGuard<'_, Store> {
        self.inner.store.read()
    }

    /// Watches a path of the store from the event with index `since` on, or from now on if that is 0.
    pub fn watch(
        &self,
        path: &[u8],
        recursive: bool,
        stream: bool,
        since: u64,
    ) -> Result<Watcher, ApiError> {
        self.inner.store.read().watch(path, recursive, stream, since)
    }

    /// The member's view of its group, a moment old at most.
    pub fn status(&self) -> Status {
        self.inner.status.load(self.inner.id)
    }

    /// This member.
    pub fn id(&self) -> MemberId {
        self.inner.id
    }

    /// Its cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id
    }

    /// Its name, as configured.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The cluster's members as of the last applied entry.
    pub fn members(&self) -> Arc<Membership> {
        self.inner.membership.load_full()
    }

    /// The followers' places in the log, if this member leads.
    pub fn progress(&self) -> Vec<Progress> {
        self.inner.progress.lock().clone()
    }

    /// When this process started.
    pub fn started(&self) -> UnixNanos {
        self.inner.started
    }

    /// Since when the present leader leads, as far as this member saw it.
    pub fn leader_since(&self) -> UnixNanos {
        UnixNanos(i64::try_from(self.inner.leader_since.load(Ordering::Relaxed)).unwrap_or(i64::MAX))
    }

    /// The time now.
    pub fn clock(&self) -> UnixNanos {
        clock::now()
    }

    /// Adds a member with these peer URLs; its id is made from them and the time.
    pub async fn add_member(&self, peer_urls: Vec<String>) -> Result<Peer, ChangeError> {
        let seconds = clock::now().0 / 1_000_000_000;
        let id = MemberId::compute(&peer_urls, "", Some(seconds));
        self.change(pb::ADD_NODE, id, Some(&peer_urls)).await?;
        Ok(Peer { id, name: String::new(), peer_urls, client_urls: Vec::new() })
    }

    /// Removes a member for ever. One that removes itself stops.
    pub async fn remove_member(&self, id: MemberId) -> Result<(), ChangeError> {
        self.change(pb::REMOVE_NODE, id, None).await
    }

    /// Gives a member other peer URLs.
    pub async fn update_member(&self, id: MemberId, peer_urls: Vec<String>) -> Result<(), ChangeError> {
        self.change(pb::UPDATE_NODE, id, Some(&peer_urls)).await
    }

    async fn change(&self, kind: i32, id: MemberId, peer_urls: Option<&[String]>) -> Result<(), ChangeError> {
        let context = peer_urls.map(|urls| {
            let context = ConfChangeContext { id: id.0, peer_urls: urls.to_vec(), ..Default::default() };
            context.encode().into()
        });
        let change = pb::ConfChange { id: 0, kind, node_id: id.0, context };
        let (reply, answer) = oneshot::channel();
        if self.inner.calls.send(Call::Configure(change, reply)).await.is_err() {
            return Err(Unavailable::Stopped.into());
        }
        answer.await.unwrap_or(Err(ChangeError::Unavailable(Unavailable::Stopped)))
    }
}

//! The running member, for the HTTP side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use node::member::{
    ConfigureError, MemberChange, MemberInfo, Membership, Progress, Role, Status, TooFewStarted,
};
use node::version::{Level, Version};
use node::{Call, Command};
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use shared::error::ApiError;
use shared::event::Event;
use shared::id::{ClusterId, MemberId};
use shared::mvcc::KeyHash;
use shared::store::{Store, Watcher};
use shared::time::UnixNanos;
use shared::v2;
use tokio::sync::{mpsc, oneshot, watch};

use super::ages::Ages;
use super::clock;
use super::node_loop::{Caller, ServerMachine};
use crate::backend::{AuthGeneration, AuthSwitch, SharedAuthSwitch};
use crate::backend::{Backend, ChangeError, SubmitError, Unavailable};
use crate::log;
use crate::metrics::{HistoryReach, MemberFigures, PeerStats, V3Figures};
use crate::peers::Transport;

/// Requests that wait for the member's loop. When it is full callers wait: that is the back-pressure for
/// clients.
pub(super) const CALLS_WAITING_MAX: usize = 16 * 1024;

/// The running member, for the code that answers clients. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

/// The state that the loop and the handles share.
pub(super) struct Inner {
    pub(super) id: MemberId,
    pub(super) cluster_id: ClusterId,
    pub(super) name: String,
    /// The level of the cluster.
    pub(super) level: Level,
    /// Whether changes of the members that could cost the majority are refused.
    pub(super) strict_reconfig: bool,
    /// What the log leads to.
    pub(super) machine: RwLock<ServerMachine>,
    /// Whether auth is on, as in the store.
    pub(super) auth: SharedAuthSwitch,
    pub(super) membership: ArcSwap<Membership>,
    pub(super) status: SharedStatus,
    pub(super) progress: Mutex<Vec<Progress>>,
    pub(super) loop_requests: mpsc::Sender<LoopRequest>,
    /// Accesses to the store or the loop since the last batch was written: whether other requests would have to
    /// wait for a sync on the main thread.
    pub(super) requests_since_write: AtomicU64,
    /// When the process started, and when the leader last changed.
    pub(super) started: UnixNanos,
    pub(super) leader_since: AtomicU64,
    /// When the store was at which index, as far back as its history goes.
    pub(super) ages: Mutex<Ages>,
    /// Counts the compactions whose old versions are all removed.
    pub(super) compacted: watch::Sender<u64>,
    /// The connections to the other members.
    pub(super) transport: Transport,
}

impl Inner {
    /// The v2 tree.
    pub(super) fn tree(&self) -> MappedRwLockReadGuard<'_, Store> {
        RwLockReadGuard::map(self.machine.read(), |machine| &machine.tree)
    }
}

/// The member's status, readable without the loop.
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
    /// It leads a cluster of one: everything ever acknowledged is applied.
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

    /// Whether everything ever acknowledged is applied, because this is the only member.
    fn reads_are_current(&self) -> bool {
        self.reads_are_current.load(Ordering::Acquire)
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

/// A request to the loop.
pub(super) enum LoopRequest {
    /// A call of the node.
    Call(Call<Caller>),
    /// The lowest version of all members, `None` if one of them did not answer.
    LowestVersion(Option<Version>),
    /// The hash of a compaction; `None` if the database could not be read for it.
    KeepHash(Option<KeyHash>),
    /// Commit everything that is applied to the database; answered when it is done.
    Commit(oneshot::Sender<()>),
    /// Answered at once: shows that the loop runs.
    Ping(oneshot::Sender<()>),
}

impl Handle {
    pub(super) fn new(inner: Arc<Inner>) -> Handle {
        Handle { inner }
    }

    fn v3_figures(&self) -> Option<V3Figures> {
        let machine = self.inner.machine.read();
        let v3 = machine.v3.as_ref()?;
        let database = v3.store().database().view().committed();
        Some(V3Figures {
            revision: v3.revision(),
            compact_revision: v3.store().compact_revision(),
            size_bytes: database.size(),
            size_in_use_bytes: database.size_in_use(),
            watches: v3.watches().counts(),
            leases: v3.lessor().len(),
        })
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// This member's id.
    pub fn id(&self) -> MemberId {
        self.inner.id
    }

    /// The state of the member, in a line for people.
    pub(super) fn summary(&self) -> String {
        let (status, members) = (self.status(), self.members().members.len());
        match (status.leader.0, status.role) {
            (0, _) if members > 1 => format!(
                "no leader: {} of the {members} members must reach each other before anything can be written",
                members / 2 + 1
            ),
            (0, _) => "no leader yet".to_owned(),
            (_, Role::Leader) if members == 1 => "the only member".to_owned(),
            (_, Role::Leader) => format!("leader of {members} members"),
            _ => {
                let members_now = self.members();
                let leader = members_now.members.get(&status.leader).map_or("", |leader| &leader.name);
                format!("follower of {leader} ({}), {members} members", status.leader)
            }
        }
    }

    async fn propose(&self, request: v2::Request, began: Option<Instant>) -> Result<Event, SubmitError> {
        if request.verb == v2::Verb::QuorumGet && self.inner.status.reads_are_current() {
            let store = self.inner.tree();
            return Ok(store.get(&request.path, request.recursive, request.sorted)?);
        }
        self.inner.requests_since_write.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let (command, caller) = (Command::V2(request), Caller::Submit(reply));
        let call = Call::Propose { command, began: began.map(clock::moment_of), caller };
        if self.inner.loop_requests.send(LoopRequest::Call(call)).await.is_err() {
            return Err(Unavailable::Stopped.into());
        }
        answer.await.unwrap_or(Err(SubmitError::Unavailable(Unavailable::Stopped)))
    }

    /// Returns once the member's loop has answered, so not while it hangs.
    pub(super) async fn ping(&self) {
        let (reply, answer) = oneshot::channel();
        if self.inner.loop_requests.send(LoopRequest::Ping(reply)).await.is_err() || answer.await.is_err() {
            // The loop has ended; its owner reports that.
            std::future::pending().await
        }
    }

    /// Refuses a change that could cost the majority, if the settings say so.
    fn check_started(
        &self,
        operation: &str,
        check: impl FnOnce() -> Result<(), TooFewStarted>,
    ) -> Result<(), ChangeError> {
        if !self.inner.strict_reconfig {
            return Ok(());
        }
        check().map_err(|why| {
            log::warning!("etcdserver", "Reject {operation} member request: {why}");
            ChangeError::NotEnoughStarted
        })
    }

    async fn change(&self, change: MemberChange) -> Result<(), ChangeError> {
        // No member has the id 0, and no entry of the log may contain it.
        if change.member.0 == 0 {
            return Err(ChangeError::Refused(ConfigureError::IdNotFound));
        }
        let (reply, answer) = oneshot::channel();
        let call = Call::Configure { change, caller: Caller::Configure(reply) };
        if self.inner.loop_requests.send(LoopRequest::Call(call)).await.is_err() {
            return Err(Unavailable::Stopped.into());
        }
        answer.await.unwrap_or(Err(ChangeError::Unavailable(Unavailable::Stopped)))
    }
}

impl Backend for Handle {
    async fn submit(&self, request: v2::Request) -> Result<Event, SubmitError> {
        self.propose(request, None).await
    }

    async fn submit_begun(&self, request: v2::Request, began: Instant) -> Result<Event, SubmitError> {
        self.propose(request, Some(began)).await
    }

    fn store(&self) -> MappedRwLockReadGuard<'_, Store> {
        self.inner.requests_since_write.fetch_add(1, Ordering::Relaxed);
        self.inner.tree()
    }

    fn auth(&self) -> AuthSwitch {
        self.inner.auth.get()
    }

    fn auth_counted(&self) -> AuthSwitch {
        let switch = self.inner.auth.get();
        self.inner.tree().count_read(switch != AuthSwitch::Never);
        switch
    }

    fn auth_generation(&self) -> &AuthGeneration {
        self.inner.auth.generation()
    }

    fn store_for_auth(&self) -> MappedRwLockReadGuard<'_, Store> {
        self.inner.tree()
    }

    fn watch(&self, path: &[u8], recursive: bool, stream: bool, since: u64) -> Result<Watcher, ApiError> {
        self.inner.tree().watch(path, recursive, stream, since)
    }

    fn status(&self) -> Status {
        self.inner.status.load(self.inner.id)
    }

    fn level(&self) -> Level {
        self.inner.level
    }

    fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id
    }

    fn name(&self) -> &str {
        &self.inner.name
    }

    fn members(&self) -> Arc<Membership> {
        self.inner.membership.load_full()
    }

    fn progress(&self) -> Vec<Progress> {
        self.inner.progress.lock().clone()
    }

    fn traffic(&self) -> PeerStats {
        self.inner.transport.stats()
    }

    fn figures(&self) -> MemberFigures {
        let requests = &self.inner.loop_requests;
        let mut history = HistoryReach::of(&self.inner.tree());
        history.oldest_age = self.inner.ages.lock().of(history.oldest_index, Instant::now());
        MemberFigures {
            calls_waiting: requests.max_capacity() - requests.capacity(),
            history,
            v3: self.v3_figures(),
            peers: self.inner.transport.measures(),
        }
    }

    fn is_connected(&self, id: MemberId) -> bool {
        self.inner.transport.active_since(id).is_some()
    }

    fn started(&self) -> UnixNanos {
        self.inner.started
    }

    fn leader_since(&self) -> UnixNanos {
        UnixNanos(i64::try_from(self.inner.leader_since.load(Ordering::Relaxed)).unwrap_or(i64::MAX))
    }

    fn clock(&self) -> UnixNanos {
        clock::now()
    }

    async fn add_member(&self, peer_urls: Vec<String>) -> Result<MemberInfo, ChangeError> {
        self.check_started("add", || self.members().check_addition())?;
        // The time makes the id differ from that of an earlier member with the same URLs.
        let seconds = clock::now().0 / 1_000_000_000;
        let id = MemberId::compute(&peer_urls, "", Some(seconds));
        self.change(MemberChange::add(id, &peer_urls)).await?;
        Ok(MemberInfo { id, name: String::new(), peer_urls, client_urls: Vec::new() })
    }

    async fn remove_member(&self, id: MemberId) -> Result<(), ChangeError> {
        self.check_started("remove", || self.members().check_removal(id))?;
        self.change(MemberChange::remove(id)).await
    }

    async fn update_member(&self, id: MemberId, peer_urls: Vec<String>) -> Result<(), ChangeError> {
        self.change(MemberChange::update(id, &peer_urls)).await
    }
}

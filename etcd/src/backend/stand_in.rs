//! A member without a log, for tests of the pages: it applies each request to its store at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use node::member::{ConfigureError, MemberInfo, Membership, Progress, Role, Status};
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use shared::error::ApiError;
use shared::event::Event;
use shared::id::{ClusterId, MemberId};
use shared::store::{Store, Watcher};
use shared::time::UnixNanos;
use shared::v2;

use crate::backend::{AuthGeneration, AuthSwitch};
use crate::backend::{Backend, ChangeError, SubmitError};
use crate::metrics::PeerStats;

/// The id of the member.
const ID: MemberId = MemberId(0xa553_2e44_7404_284a);

/// A member alone in its cluster.
pub(crate) struct StandIn {
    name: String,
    store: RwLock<Store>,
    members: Mutex<Membership>,
    index: AtomicU64,
    clock: fn() -> UnixNanos,
    started: UnixNanos,
    generation: AuthGeneration,
    /// While this is locked for writing, submitted requests wait.
    pub(crate) gate: tokio::sync::RwLock<()>,
}

impl StandIn {
    pub(crate) fn new(name: &str, peer_url: &str, client_url: &str, clock: fn() -> UnixNanos) -> StandIn {
        let peer = MemberInfo {
            id: ID,
            name: name.to_owned(),
            peer_urls: vec![peer_url.to_owned()],
            client_urls: vec![client_url.to_owned()],
        };
        let members = Membership {
            cluster_id: ClusterId(0x719e_5b79_a028_29f4),
            members: [(ID, peer)].into(),
            version: Some("2.3.0".to_owned()),
            ..Membership::default()
        };
        let stand_in = StandIn {
            name: name.to_owned(),
            store: RwLock::new(Store::new(1000)),
            members: Mutex::new(members),
            index: AtomicU64::new(4),
            clock,
            started: clock(),
            generation: AuthGeneration::default(),
            gate: tokio::sync::RwLock::default(),
        };
        stand_in.writes_member(ID);
        stand_in
    }

    pub(crate) fn apply(&self, request: &v2::Request) -> Result<Event, ApiError> {
        self.index.fetch_add(1, Ordering::Relaxed);
        let mut store = self.store.write();
        if request.path.starts_with(b"/2") {
            self.generation.advance();
            store.wake_watchers();
        }
        store.apply(request, (self.clock)())
    }

    /// Replaces the store, as a snapshot does.
    pub(crate) fn install(&self, store: Store) {
        let mut own = self.store.write();
        own.adopt(store);
        own.take_wakeups().wake();
    }

    fn writes_member(&self, id: MemberId) {
        let path = Bytes::from(format!("/0/members/{id}/raftAttributes"));
        let request = v2::Request { verb: v2::Verb::Put, path, ..v2::Request::default() };
        let _ = self.apply(&request);
    }

    fn check(&self, id: MemberId, urls: &[String]) -> Result<(), ChangeError> {
        let members = self.members.lock();
        if members.removed.contains(&id) {
            return Err(ConfigureError::IdRemoved.into());
        }
        let mut others = members.members.values().filter(|peer| peer.id != id);
        if others.any(|peer| peer.peer_urls.iter().any(|url| urls.contains(url))) {
            return Err(ConfigureError::PeerUrlExists.into());
        }
        Ok(())
    }
}

impl Backend for StandIn {
    async fn submit(&self, request: v2::Request) -> Result<Event, SubmitError> {
        let _open = self.gate.read().await;
        tokio::task::yield_now().await;
        Ok(self.apply(&request)?)
    }

    fn store(&self) -> MappedRwLockReadGuard<'_, Store> {
        RwLockReadGuard::map(self.store.read(), |store| store)
    }

    fn auth(&self) -> AuthSwitch {
        AuthSwitch::of(&self.store.read())
    }

    fn auth_counted(&self) -> AuthSwitch {
        let switch = self.auth();
        self.store.read().count_read(switch != AuthSwitch::Never);
        switch
    }

    fn auth_generation(&self) -> &AuthGeneration {
        &self.generation
    }

    fn store_for_auth(&self) -> MappedRwLockReadGuard<'_, Store> {
        self.store()
    }

    fn watch(&self, path: &[u8], recursive: bool, stream: bool, since: u64) -> Result<Watcher, ApiError> {
        self.store.read().watch(path, recursive, stream, since)
    }

    fn status(&self) -> Status {
        let index = self.index.load(Ordering::Relaxed);
        Status {
            id: ID,
            leader: ID,
            role: Role::Leader,
            term: 2,
            vote: ID,
            commit: index,
            applied: index,
            alone: true,
            current: true,
        }
    }

    fn cluster_id(&self) -> ClusterId {
        self.members.lock().cluster_id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn members(&self) -> Arc<Membership> {
        Arc::new(self.members.lock().clone())
    }

    fn traffic(&self) -> PeerStats {
        PeerStats::default()
    }

    fn progress(&self) -> Vec<Progress> {
        let matched = self.index.load(Ordering::Relaxed);
        vec![Progress { id: ID, matched, next: matched + 1, state: "ProgressStateProbe" }]
    }

    fn is_connected(&self, _: MemberId) -> bool {
        false
    }

    fn started(&self) -> UnixNanos {
        self.started
    }

    fn leader_since(&self) -> UnixNanos {
        self.started
    }

    fn clock(&self) -> UnixNanos {
        (self.clock)()
    }

    async fn add_member(&self, peer_urls: Vec<String>) -> Result<MemberInfo, ChangeError> {
        let id = MemberId(0xabc0 + self.index.load(Ordering::Relaxed));
        self.check(id, &peer_urls)?;
        let peer = MemberInfo { id, name: String::new(), peer_urls, client_urls: Vec::new() };
        self.members.lock().members.insert(id, peer.clone());
        self.writes_member(id);
        Ok(peer)
    }

    async fn remove_member(&self, id: MemberId) -> Result<(), ChangeError> {
        self.check(id, &[])?;
        let mut members = self.members.lock();
        members.members.remove(&id).ok_or(ConfigureError::IdNotFound)?;
        members.removed.insert(id);
        Ok(())
    }

    async fn update_member(&self, id: MemberId, peer_urls: Vec<String>) -> Result<(), ChangeError> {
        self.check(id, &peer_urls)?;
        self.members.lock().members.get_mut(&id).ok_or(ConfigureError::IdNotFound)?.peer_urls = peer_urls;
        self.writes_member(id);
        Ok(())
    }
}

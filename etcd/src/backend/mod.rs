//! What an API may ask of the running member, and why it may get no answer. Every API stands on this and none on
//! another.

mod auth_switch;
mod settings;
#[cfg(test)]
pub(crate) mod stand_in;

use std::sync::Arc;
use std::time::Instant;

pub use node::Unavailable;
use node::member::{ConfigureError, Membership, Peer, Progress, Status};
use parking_lot::RwLockReadGuard;
use shared::error::ApiError;
use shared::event::Event;
use shared::id::{ClusterId, MemberId};
use shared::store::{Store, Watcher};
use shared::time::UnixNanos;
use shared::v2;

use crate::metrics::{MemberFigures, PeerStats};

pub(crate) use self::auth_switch::{AUTH_SWITCH_PATH, SharedAuthSwitch};
pub use self::auth_switch::{AuthGeneration, AuthSwitch};
pub(crate) use self::settings::{ClusterConfig, remove_delay};

/// The running member, as those see it who answer clients.
pub trait Backend: Send + Sync + 'static {
    /// Carries out a write or a quorum read and waits until it is applied here.
    fn submit(&self, request: v2::Request) -> impl Future<Output = Result<Event, SubmitError>> + Send;

    /// The same for a request that came at `began`, as the log tells if it is slow.
    fn submit_begun(
        &self,
        request: v2::Request,
        _began: Instant,
    ) -> impl Future<Output = Result<Event, SubmitError>> + Send {
        self.submit(request)
    }

    /// The store as far as it is applied here. Never held across an `.await`.
    fn store(&self) -> RwLockReadGuard<'_, Store>;

    /// Whether auth is on, as far as the store is applied here. Costs nothing.
    fn auth(&self) -> AuthSwitch;

    /// As [`auth`](Backend::auth), and the store's statistics show that somebody looked: the original reads the
    /// switch for each request that could need rights.
    fn auth_counted(&self) -> AuthSwitch;

    /// Moves whenever what [`auth`](Backend::auth) tells, a user or a role may have changed.
    fn auth_generation(&self) -> &AuthGeneration;

    /// As [`store`](Backend::store), for a look that is only a part of what a client waits for.
    fn store_for_auth(&self) -> RwLockReadGuard<'_, Store>;

    /// Watches a path of the store from the event with index `since` on, or from now on if that is 0.
    fn watch(&self, path: &[u8], recursive: bool, stream: bool, since: u64) -> Result<Watcher, ApiError>;

    /// The member's view of its group, a moment old at most.
    fn status(&self) -> Status;

    /// Its cluster.
    fn cluster_id(&self) -> ClusterId;

    /// Its name, as configured.
    fn name(&self) -> &str;

    /// The cluster's members as of the last applied entry.
    fn members(&self) -> Arc<Membership>;

    /// The followers' places in the log, if this member leads.
    fn progress(&self) -> Vec<Progress>;

    /// What has passed between this member and the others.
    fn traffic(&self) -> PeerStats;

    /// What is measured only when somebody looks.
    fn figures(&self) -> MemberFigures {
        MemberFigures::default()
    }

    /// Whether there is a connection with another member.
    fn is_connected(&self, id: MemberId) -> bool;

    /// When this process started.
    fn started(&self) -> UnixNanos;

    /// Since when the present leader leads, as far as this member saw it.
    fn leader_since(&self) -> UnixNanos;

    /// The time now.
    fn clock(&self) -> UnixNanos;

    /// Adds a member with these peer URLs.
    fn add_member(&self, peer_urls: Vec<String>) -> impl Future<Output = Result<Peer, ChangeError>> + Send;

    /// Removes a member for ever.
    fn remove_member(&self, id: MemberId) -> impl Future<Output = Result<(), ChangeError>> + Send;

    /// Gives a member other peer URLs.
    fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> impl Future<Output = Result<(), ChangeError>> + Send;
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

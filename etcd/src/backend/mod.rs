//! The interface between the APIs and the running member, and the reasons why a request may fail. Every API uses
//! this, and none uses another API.

mod auth_switch;
mod settings;
#[cfg(test)]
pub(crate) mod stand_in;
pub mod v3;

use std::sync::Arc;
use std::time::Instant;

pub use node::Unavailable;
use node::member::{ConfigureError, MemberInfo, Membership, Progress, Status};
use node::version::Level;
use parking_lot::MappedRwLockReadGuard;
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

/// The running member, as the code that answers clients sees it.
pub trait Backend: Send + Sync + 'static {
    /// Carries out a write or a quorum read and waits until it is applied here.
    fn submit(&self, request: v2::Request) -> impl Future<Output = Result<Event, SubmitError>> + Send;

    /// The same for a request that arrived at `began`. The log uses that time if the request is slow.
    fn submit_begun(
        &self,
        request: v2::Request,
        _began: Instant,
    ) -> impl Future<Output = Result<Event, SubmitError>> + Send {
        self.submit(request)
    }

    /// The store as of the last applied entry. Do not hold the guard across an `.await`.
    fn store(&self) -> MappedRwLockReadGuard<'_, Store>;

    /// Whether auth is on, as of the last applied entry. Costs one atomic load.
    fn auth(&self) -> AuthSwitch;

    /// As [`auth`](Backend::auth), but counted as a read in the store's statistics: the original reads the switch for
    /// each request that could need a permission.
    fn auth_counted(&self) -> AuthSwitch;

    /// Changes whenever [`auth`](Backend::auth), a user or a role may have changed.
    fn auth_generation(&self) -> &AuthGeneration;

    /// As [`store`](Backend::store), for reads that are only a part of what a client waits for.
    fn store_for_auth(&self) -> MappedRwLockReadGuard<'_, Store>;

    /// Watches a path of the store from the event with index `since` on, or from now on if that is 0.
    fn watch(&self, path: &[u8], recursive: bool, stream: bool, since: u64) -> Result<Watcher, ApiError>;

    /// The state of raft at this member, at most a moment old.
    fn status(&self) -> Status;

    /// The level of the cluster.
    fn level(&self) -> Level {
        Level::V2_3
    }

    /// The id of the cluster.
    fn cluster_id(&self) -> ClusterId;

    /// The configured name of the member.
    fn name(&self) -> &str;

    /// The cluster's members as of the last applied entry.
    fn members(&self) -> Arc<Membership>;

    /// The progress of the followers, if this member leads.
    fn progress(&self) -> Vec<Progress>;

    /// The traffic between this member and the others.
    fn traffic(&self) -> PeerStats;

    /// Figures that are measured on demand.
    fn figures(&self) -> MemberFigures {
        MemberFigures::default()
    }

    /// Whether another member is connected.
    fn is_connected(&self, id: MemberId) -> bool;

    /// When this process started.
    fn started(&self) -> UnixNanos;

    /// When this member saw the current leader take over.
    fn leader_since(&self) -> UnixNanos;

    /// The current time.
    fn clock(&self) -> UnixNanos;

    /// Adds a member with these peer URLs and returns it.
    fn add_member(
        &self,
        peer_urls: Vec<String>,
    ) -> impl Future<Output = Result<MemberInfo, ChangeError>> + Send;

    /// Removes a member for ever.
    fn remove_member(&self, id: MemberId) -> impl Future<Output = Result<(), ChangeError>> + Send;

    /// Changes the peer URLs of a member.
    fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> impl Future<Output = Result<(), ChangeError>> + Send;
}

/// Why a request returns no event.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The store refused the request, in the same way on every member.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no result. The request may have been carried out, or may still be.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a change of the members was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It contradicts the current members.
    #[error(transparent)]
    Refused(#[from] ConfigureError),
    /// There is no result. The change may have been made, or may still be.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Too few members are started (`-strict-reconfig-check`).
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
}

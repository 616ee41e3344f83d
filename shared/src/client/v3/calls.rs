//! The calls with one answer, and the token that they need.

use http::HeaderValue;
use tonic::{Request, Response, Status};

use super::{Channel, Client, RpcError};
use crate::v3::pb::etcdserverpb as pb;

use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;

/// How often a call is made that may be made twice.
const ATTEMPTS_MAX: usize = 5;

/// The server does not know the token, or no longer.
const INVALID_TOKEN: &str = "etcdserver: invalid auth token";
/// The token is from before a change of users or roles.
const OLD_REVISION: &str = "etcdserver: revision of auth store is old";
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// Whether a call may be made again when it is not known whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeatable {
    /// It reads.
    Yes,
    /// It changes something.
    No,
}

impl Client {
    /// Gets a token, if there are credentials and the cluster has authentication on.
    ///
    /// Calls do this themselves; to do it first tells a wrong password from a failed call.
    ///
    /// # Errors
    /// If the server refuses user and password.
    pub async fn authenticate(&self) -> Result<(), RpcError> {
        let Some(credentials) = self.channel.credentials() else { return Ok(()) };
        let request = pb::AuthenticateRequest {
            name: credentials.user.clone(),
            password: credentials.password.clone(),
        };
        let answer = AuthClient::new(self.channel()).authenticate(request).await.map_err(RpcError::from);
        let token = match answer {
            Ok(answer) => Some(answer.into_inner().token),
            Err(error) if error.is(NOT_ENABLED) => None,
            Err(error) => return Err(error),
        };
        // A token that is no header would be refused anyway.
        let token = token.and_then(|token| HeaderValue::from_str(&token).ok()).map(|mut token| {
            token.set_sensitive(true);
            token
        });
        self.channel.set_token(token);
        Ok(())
    }

    /// Makes sure of a token for calls that are streams.
    pub(super) async fn ensure_token(&self) -> Result<(), RpcError> {
        match self.channel.token() {
            None if self.channel.credentials().is_some() => self.authenticate().await,
            _ => Ok(()),
        }
    }

    /// Makes a call, again with a new token if the server no longer knows the old one.
    pub(super) async fn unary<Q: Clone, A>(
        &self,
        request: Q,
        repeatable: Repeatable,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, RpcError> {
        self.ensure_token().await?;
        let mut renewed = false;
        let mut attempt = 1;
        loop {
            let error = match call(self.channel(), Request::new(request.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => RpcError::from(status),
            };
            let token_is_bad = error.is(INVALID_TOKEN) || error.is(OLD_REVISION);
            if token_is_bad && !renewed && self.channel.credentials().is_some() {
                renewed = true;
                self.authenticate().await?;
                continue;
            }
            if repeatable == Repeatable::No || !error.is_transient() || attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(std::time::Duration::from_millis(25 << attempt)).await;
        }
    }
}

/// Typed calls: `name(Request) -> Response, service, whether it may be made twice`.
macro_rules! calls {
    ($($service:ident { $($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident, $repeatable:ident;)* })*) => {
        impl Client {
            $($(
                $(#[$doc])*
                ///
                /// # Errors
                /// If the server refuses, or the connection breaks.
                pub async fn $name(&self, request: pb::$request) -> Result<pb::$answer, RpcError> {
                    self.unary(request, Repeatable::$repeatable, async |channel, request| {
                        $service::new(channel).max_decoding_message_size(usize::MAX).$name(request).await
                    })
                    .await
                }
            )*)*
        }
    };
}

calls! {
    KvClient {
        /// Reads keys.
        range(RangeRequest) -> RangeResponse, Yes;
        /// Writes a key.
        put(PutRequest) -> PutResponse, No;
        /// Deletes keys.
        delete_range(DeleteRangeRequest) -> DeleteRangeResponse, No;
        /// Carries out a transaction.
        txn(TxnRequest) -> TxnResponse, No;
        /// Forgets the versions of keys before a revision.
        compact(CompactionRequest) -> CompactionResponse, No;
    }
    LeaseClient {
        /// Grants a lease.
        lease_grant(LeaseGrantRequest) -> LeaseGrantResponse, No;
        /// Revokes a lease and deletes its keys.
        lease_revoke(LeaseRevokeRequest) -> LeaseRevokeResponse, No;
        /// What is left of a lease.
        lease_time_to_live(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse, Yes;
        /// All leases.
        lease_leases(LeaseLeasesRequest) -> LeaseLeasesResponse, Yes;
    }
    ClusterClient {
        /// The members.
        member_list(MemberListRequest) -> MemberListResponse, Yes;
        /// Adds a member.
        member_add(MemberAddRequest) -> MemberAddResponse, No;
        /// Removes a member.
        member_remove(MemberRemoveRequest) -> MemberRemoveResponse, No;
        /// Changes the peer URLs of a member.
        member_update(MemberUpdateRequest) -> MemberUpdateResponse, No;
        /// Makes a learner a voting member.
        member_promote(MemberPromoteRequest) -> MemberPromoteResponse, No;
    }
    MaintenanceClient {
        /// Lists, raises or ends alarms.
        alarm(AlarmRequest) -> AlarmResponse, No;
        /// The state of the connected member.
        status(StatusRequest) -> StatusResponse, Yes;
        /// Defragments the database of the connected member.
        defragment(DefragmentRequest) -> DefragmentResponse, No;
        /// The hash of all keys up to a revision.
        hash_kv(HashKvRequest) -> HashKvResponse, Yes;
        /// Gives the leadership to another member.
        move_leader(MoveLeaderRequest) -> MoveLeaderResponse, No;
        /// Checks, starts or cancels a downgrade.
        downgrade(DowngradeRequest) -> DowngradeResponse, No;
    }
    AuthClient {
        /// Turns authentication on.
        auth_enable(AuthEnableRequest) -> AuthEnableResponse, No;
        /// Turns authentication off.
        auth_disable(AuthDisableRequest) -> AuthDisableResponse, No;
        /// Whether authentication is on.
        auth_status(AuthStatusRequest) -> AuthStatusResponse, Yes;
        /// Adds a user.
        user_add(AuthUserAddRequest) -> AuthUserAddResponse, No;
        /// The roles of a user.
        user_get(AuthUserGetRequest) -> AuthUserGetResponse, Yes;
        /// All users.
        user_list(AuthUserListRequest) -> AuthUserListResponse, Yes;
        /// Deletes a user.
        user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse, No;
        /// Changes a user's password.
        user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse, No;
        /// Gives a user a role.
        user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse, No;
        /// Takes a role from a user.
        user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse, No;
        /// Adds a role.
        role_add(AuthRoleAddRequest) -> AuthRoleAddResponse, No;
        /// The permissions of a role.
        role_get(AuthRoleGetRequest) -> AuthRoleGetResponse, Yes;
        /// All roles.
        role_list(AuthRoleListRequest) -> AuthRoleListResponse, Yes;
        /// Deletes a role.
        role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse, No;
        /// Gives a role a permission.
        role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse, No;
        /// Takes a permission from a role.
        role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse, No;
    }
}

impl Client {
    /// The database of the connected member, as it is now, in pieces; the last 32 bytes are its SHA-256.
    ///
    /// # Errors
    /// If the server refuses, or the connection breaks.
    pub async fn snapshot(&self) -> Result<tonic::Streaming<pb::SnapshotResponse>, RpcError> {
        self.unary(pb::SnapshotRequest {}, Repeatable::Yes, async |channel, request| {
            MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX).snapshot(request).await
        })
        .await
    }
}

//! The service Cluster, as far as it only reads.

use shared::v3::pb::etcdserverpb::cluster_server::Cluster;
use shared::v3::pb::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, ResponseHeader,
};
use tonic::{Request, Response, Status};

use super::api::{Api, Learner};
use super::services::not_yet;
use crate::backend::v3::Backend;

/// The methods that are served.
pub(super) const METHODS: &[&str] = &["MemberList"];

#[tonic::async_trait]
impl<B: Backend> Cluster for Api<B> {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.admit(request.metadata(), Learner::Refuses)?;
        if request.get_ref().linearizable {
            self.backend.linearizable_point().await?;
        }
        // As recorded: the revision of the store has nothing to do with the members.
        let header = Some(ResponseHeader { revision: 0, ..self.backend.header() });
        Ok(Response::new(MemberListResponse { header, members: self.backend.members() }))
    }

    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        Err(not_yet("MemberAdd"))
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(not_yet("MemberRemove"))
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(not_yet("MemberUpdate"))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(not_yet("MemberPromote"))
    }
}

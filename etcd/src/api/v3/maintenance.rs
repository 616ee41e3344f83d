//! The service Maintenance: alarms, status and hashes.

use shared::v3::pb::etcdserverpb::alarm_request::AlarmAction;
use shared::v3::pb::etcdserverpb::maintenance_server::Maintenance;
use shared::v3::pb::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest, DowngradeResponse,
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use tonic::{Request, Response, Status};

use super::api::{Api, Learner, Responses};
use super::services::not_yet;
use crate::backend::v3::Backend;

/// The methods that are served.
pub(super) const METHODS: &[&str] = &["Alarm", "Status", "Defragment", "HashKV"];

#[tonic::async_trait]
impl<B: Backend> Maintenance for Api<B> {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        if request.action == AlarmAction::Get as i32 {
            let alarms = self.backend.alarms(request.alarm);
            return Ok(Response::new(AlarmResponse { header: Some(self.backend.header()), alarms }));
        }
        let mut response = self.propose(&caller, request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.admit(request.metadata(), Learner::Serves)?;
        let header = Some(self.backend.header());
        Ok(Response::new(StatusResponse { header, ..self.backend.status() }))
    }

    /// Free pages are used again, and the end of the file is given back, without being asked. What waits to be
    /// committed may free some more.
    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.admit(request.metadata(), Learner::Refuses)?;
        self.backend.defragment().await?;
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        self.admit(request.metadata(), Learner::Refuses)?;
        let header = Some(self.backend.header());
        let response = self.backend.hash_kv(request.get_ref().revision).await?;
        Ok(Response::new(HashKvResponse { header, ..response }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        Err(not_yet("Hash"))
    }

    type SnapshotStream = Responses<SnapshotResponse>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(not_yet("Snapshot"))
    }

    async fn move_leader(
        &self,
        _: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(not_yet("MoveLeader"))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(not_yet("Downgrade"))
    }
}

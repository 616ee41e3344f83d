//! The service Lease.

use std::sync::Arc;

use futures_util::stream;
use shared::v3::Error;
use shared::v3::pb::etcdserverpb::lease_server::Lease;
use shared::v3::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::api::{Api, Learner, Responses};
use crate::backend::v3::{Backend, Caller, LeaseTime};

/// The time to live of a lease that does not exist.
const NO_LEASE_TTL: i64 = -1;

#[tonic::async_trait]
impl<B: Backend> Lease for Api<B> {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        let mut response = self.propose(&caller, request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        let mut response = self.propose(&caller, request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    type LeaseKeepAliveStream = Responses<LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (metadata, _, requests) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        let state = (self.backend.clone(), caller.clone(), requests);
        let responses = stream::try_unfold(state, |(backend, caller, mut requests)| async move {
            let Some(request) = requests.message().await? else { return Ok(None) };
            let response = keep_alive(&backend, &caller, request.id).await?;
            Ok(Some((response, (backend, caller, requests))))
        });
        Ok(Response::new(self.bounded(&caller, responses)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        let time = match self.backend.time_to_live(&caller, request.id, request.keys).await {
            Err(Error::LeaseNotFound) => LeaseTime { ttl: NO_LEASE_TTL, granted_ttl: 0, keys: Vec::new() },
            time => time?,
        };
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: Some(self.backend.header()),
            id: request.id,
            ttl: time.ttl,
            granted_ttl: time.granted_ttl,
            keys: time.keys,
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let caller = self.admit(request.metadata(), Learner::Refuses)?;
        let leases = self.backend.leases(&caller).await?;
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: Some(self.backend.header()), leases }))
    }
}

/// Answers one message of a keep-alive stream. A lease that does not exist has no time left.
async fn keep_alive<B: Backend>(
    backend: &Arc<B>,
    caller: &Caller,
    id: i64,
) -> Result<LeaseKeepAliveResponse, Error> {
    // Before the renewal: the lease existed at this revision, or later.
    let header = Some(backend.header());
    let ttl = match backend.keep_alive(caller, id).await {
        Err(Error::LeaseNotFound) => 0,
        ttl => ttl?,
    };
    Ok(LeaseKeepAliveResponse { header, id, ttl })
}

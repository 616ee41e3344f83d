//! The service KV: reads, writes, transactions, compaction.

use shared::mvcc;
use shared::v3::Error;
use shared::v3::pb::etcdserverpb::kv_server::Kv;
use shared::v3::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use tonic::{Request, Response, Status};

use super::api::{Api, Learner};
use crate::backend::v3::Backend;

#[tonic::async_trait]
impl<B: Backend> Kv for Api<B> {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let learner = if request.serializable { Learner::Serves } else { Learner::Refuses };
        let caller = self.admit(&metadata, learner)?;
        mvcc::check_range(&request).map_err(Error::from)?;
        if !request.serializable {
            self.backend.linearizable_point().await?;
        }
        let mut response = self.backend.range(&caller, request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        mvcc::check_put(&request).map_err(Error::from)?;
        let mut response = self.propose(&caller, request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        mvcc::check_delete_range(&request).map_err(Error::from)?;
        let mut response = self.propose(&caller, request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        mvcc::check_txn(&request, self.settings.txn_ops_max).map_err(Error::from)?;
        let mut response = if mvcc::is_read_only(&request) {
            if !mvcc::is_serializable(&request) {
                self.backend.linearizable_point().await?;
            }
            self.backend.read_txn(&caller, request).await?
        } else {
            self.propose(&caller, request).await?
        };
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        let mut response = self.propose(&caller, request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }
}

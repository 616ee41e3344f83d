//! A stream that keeps leases alive.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Streaming};

use super::{Client, RpcError};
use crate::v3::pb::etcdserverpb::lease_client::LeaseClient;
use crate::v3::pb::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};

/// One request is under way at a time.
const REQUESTS_MAX: usize = 1;

/// A stream that keeps leases alive.
#[derive(Debug)]
pub struct KeepAlive {
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

/// The requests of a stream, in the order in which they are given.
#[derive(Debug)]
pub(super) struct Sent<T>(pub(super) mpsc::Receiver<T>);

impl<T> Stream for Sent<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

impl Client {
    /// Opens a stream and asks for the first renewal of a lease; [`KeepAlive::answer`] waits for the answer.
    ///
    /// # Errors
    /// If the server refuses, or the connection breaks.
    pub async fn keep_alive(&self, lease: i64) -> Result<KeepAlive, RpcError> {
        self.ensure_token().await?;
        let (requests, to_send) = mpsc::channel(REQUESTS_MAX);
        // The channel is new and has room. Servers answer the call itself only with the first message.
        let _ = requests.try_send(LeaseKeepAliveRequest { id: lease });
        let answers = LeaseClient::new(self.channel()).lease_keep_alive(Request::new(Sent(to_send))).await?;
        Ok(KeepAlive { requests, answers: answers.into_inner() })
    }
}

impl KeepAlive {
    /// Asks for a renewal of a lease.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn renew(&mut self, lease: i64) -> Result<(), RpcError> {
        self.requests.send(LeaseKeepAliveRequest { id: lease }).await.map_err(|_| RpcError::Ended)
    }

    /// The next answer; its time to live is 0 if there is no such lease.
    ///
    /// # Errors
    /// When the server ends the stream, or the connection breaks.
    pub async fn answer(&mut self) -> Result<LeaseKeepAliveResponse, RpcError> {
        self.answers.message().await?.ok_or(RpcError::Ended)
    }
}

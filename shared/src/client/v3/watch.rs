//! A stream with watches.

use http::HeaderValue;
use tokio::sync::mpsc;
use tonic::{Request, Streaming};

use super::keep_alive::Sent;
use super::{Client, RpcError};
use crate::v3::pb::etcdserverpb::watch_client::WatchClient;
use crate::v3::pb::etcdserverpb::watch_request::RequestUnion;
use crate::v3::pb::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};

/// Requests that wait to be sent: more than a person types ahead.
const REQUESTS_MAX: usize = 16;

/// A stream with watches. Dropping it ends them.
///
/// When the connection breaks the stream ends with an error; the caller, who knows up to which revision it has seen all
/// events, opens another one.
#[derive(Debug)]
pub struct WatchStream {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Client {
    /// Opens a stream whose first request creates a watch. The server cuts the stream when it has no leader.
    ///
    /// # Errors
    /// If the server refuses, or the connection breaks.
    pub async fn watch(&self, first: WatchCreateRequest) -> Result<WatchStream, RpcError> {
        self.ensure_token().await?;
        let (requests, to_send) = mpsc::channel(REQUESTS_MAX);
        // The channel is new and has room.
        let _ = requests.try_send(wrapped(RequestUnion::CreateRequest(first)));
        let mut request = Request::new(Sent(to_send));
        let value = HeaderValue::from_static("true");
        request.metadata_mut().as_mut().insert("hasleader", value);
        let mut client = WatchClient::new(self.channel()).max_decoding_message_size(usize::MAX);
        let answers = client.watch(request).await?.into_inner();
        Ok(WatchStream { requests, answers })
    }
}

impl WatchStream {
    /// The next answer.
    ///
    /// # Errors
    /// When the server ends the stream, or the connection breaks.
    pub async fn next(&mut self) -> Result<WatchResponse, RpcError> {
        self.answers.message().await?.ok_or(RpcError::Ended)
    }

    /// Creates another watch.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn create(&mut self, watch: WatchCreateRequest) -> Result<(), RpcError> {
        self.send(RequestUnion::CreateRequest(watch)).await
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn cancel(&mut self, watch_id: i64) -> Result<(), RpcError> {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await
    }

    /// Requests an answer that says up to which revision all events have been sent.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn request_progress(&mut self) -> Result<(), RpcError> {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await
    }

    async fn send(&mut self, request: RequestUnion) -> Result<(), RpcError> {
        self.requests.send(wrapped(request)).await.map_err(|_| RpcError::Ended)
    }
}

fn wrapped(request: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(request) }
}

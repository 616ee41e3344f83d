//! The service Watch: one stream of requests and one of responses, for any number of watches.
//!
//! Responses come encoded from the member, because many watches share their events. So this is written by hand, where the
//! other services are generated.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use http::Request;
use shared::v3::Error;
use shared::v3::pb::etcdserverpb::watch_request::RequestUnion;
use shared::v3::pb::etcdserverpb::{WatchRequest, WatchResponse};
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, StreamingService};
use tonic::{Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::RESPONSE_BYTES_MAX;
use super::api::{Api, Learner, Responses};
use super::services::ServiceFuture;
use crate::backend::v3::{Backend, WatchMessage, WatchStream};
use crate::transport::http2::Body;

/// Requests that are taken between two responses.
const REQUESTS_PER_TURN_MAX: usize = 64;

/// The encoded responses of a member.
type Message<B> = <<B as Backend>::WatchStream as WatchStream>::Message;

/// Serves one stream.
pub(super) fn call<B: Backend>(api: Arc<Api<B>>, request: Request<Body>) -> ServiceFuture {
    Box::pin(async move {
        let message_bytes_max = api.settings.message_bytes_max();
        let mut grpc = Grpc::new(WatchCodec(PhantomData))
            .apply_max_message_size_config(Some(message_bytes_max), Some(RESPONSE_BYTES_MAX));
        Ok(grpc.streaming(Method(api), request).await)
    })
}

struct Method<B>(Arc<Api<B>>);

impl<B: Backend> StreamingService<WatchRequest> for Method<B> {
    type Response = Message<B>;
    type ResponseStream = Responses<Message<B>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<WatchRequest>>) -> Self::Future {
        std::future::ready(self.0.open(request))
    }
}

impl<B: Backend> Api<B> {
    fn open(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Responses<Message<B>>>, Status> {
        let (metadata, _, requests) = request.into_parts();
        let caller = self.admit(&metadata, Learner::Refuses)?;
        let watches = self.backend.watch(caller.clone())?;
        let responses = WatchResponses { requests: Some(requests), watches };
        Ok(Response::new(self.bounded(&caller, responses)))
    }
}

/// The responses of a stream. Requests are taken as responses are asked for, so that neither needs a task or a queue
/// of its own.
struct WatchResponses<W> {
    /// `None` once the client sends no more; its watches go on.
    requests: Option<Streaming<WatchRequest>>,
    watches: W,
}

// Nothing in it is pinned.
impl<W> Unpin for WatchResponses<W> {}

impl<W: WatchStream> WatchResponses<W> {
    /// Takes requests until there are none, or enough of them.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..REQUESTS_PER_TURN_MAX {
            let Some(requests) = &mut self.requests else { return Ok(()) };
            if self.watches.poll_room(cx).is_pending() {
                return Ok(());
            }
            match Pin::new(requests).poll_next(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.requests = None,
                Poll::Ready(Some(request)) => match request?.request_union {
                    Some(RequestUnion::CreateRequest(request)) => self.watches.create(request),
                    Some(RequestUnion::CancelRequest(request)) => self.watches.cancel(request.watch_id),
                    Some(RequestUnion::ProgressRequest(_)) => self.watches.request_progress(),
                    None => {}
                },
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

impl<W: WatchStream> Stream for WatchResponses<W> {
    type Item = Result<W::Message, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Err(status) = this.poll_requests(cx) {
            return Poll::Ready(Some(Err(status)));
        }
        this.watches.poll_next(cx).map(|next| Some(next.map_err(Error::into)))
    }
}

/// Passes encoded responses on.
struct WatchCodec<M>(PhantomData<M>);

impl<M: WatchMessage> Codec for WatchCodec<M> {
    type Encode = M;
    type Decode = WatchRequest;
    type Encoder = WatchEncoder<M>;
    type Decoder = ProstDecoder<WatchRequest>;

    fn encoder(&mut self) -> WatchEncoder<M> {
        WatchEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<WatchRequest> {
        ProstCodec::<WatchResponse, WatchRequest>::default().decoder()
    }
}

struct WatchEncoder<M>(PhantomData<M>);

impl<M: WatchMessage> Encoder for WatchEncoder<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.write_to(buffer);
        Ok(())
    }
}

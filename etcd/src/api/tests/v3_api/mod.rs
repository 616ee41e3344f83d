//! The v3 API from the first byte of a connection on, in front of a stand-in: gRPC, JSON, and hostile clients.

mod gateway;
mod grpc;
mod hostile;
mod stand_in;

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::v3::pb::etcdserverpb::kv_client::KvClient;
use shared::v3::pb::etcdserverpb::{PutRequest, RangeRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

use self::stand_in::StandIn as Member;
use super::*;
use crate::api::v3::{Services, Settings};

/// A server with v3, and the member behind it.
async fn start_with(settings: Settings, acceptor: Acceptor) -> (Server, Arc<Member>, Arc<Services>) {
    let member = Arc::new(Member::new());
    let services = Services::new(member.clone(), settings);
    let v3 = services.clone();
    let server = Server::start_with(Limits::default(), |context| context.v3 = Some(v3), acceptor).await;
    (server, member, services)
}

async fn start() -> (Server, Arc<Member>) {
    let (server, member, _) = start_with(Settings::default(), Acceptor::plain()).await;
    (server, member)
}

/// A connection over HTTP/2, as the generated clients want it.
#[derive(Clone)]
struct Channel(SendRequest<Body>);

impl Channel {
    async fn over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(socket: S) -> Channel {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        Channel(sender)
    }

    async fn to(server: &Server) -> Channel {
        Channel::over(TcpStream::connect(server.addr).await.unwrap()).await
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::with_origin(self.clone(), "http://x".parse().unwrap())
    }
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> PutRequest {
    let value: Vec<u8> = value.into();
    PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }
}

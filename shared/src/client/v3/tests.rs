//! The client against a server that answers as the tests say.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;

use super::{Client, Options, RpcError};
use crate::client::Credentials;
use crate::v3::pb::etcdserverpb::{AuthenticateResponse, PutRequest, RangeRequest, RangeResponse};

/// Answers a call by its path and its token.
type Answer = dyn Fn(&str, Option<&str>) -> Result<Vec<u8>, Status> + Send + Sync;

/// The path and the token of a call.
type Call = (String, Option<String>);

/// A server on a port of its own.
struct Server {
    endpoint: String,
    calls: Arc<Mutex<Vec<Call>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: Arc<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let seen = calls.clone();
        let task = tokio::spawn(async move {
            // They end with the task.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (answer, seen) = (answer.clone(), seen.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path().to_owned();
                    let token = request.headers().get("token").and_then(|token| token.to_str().ok());
                    let reply = reply(answer(&path, token));
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((path, token.map(str::to_owned)));
                    async move { Ok::<_, Infallible>(reply) }
                });
                let connection =
                    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service);
                connections.spawn(connection);
            }
        });
        Server { endpoint, calls, task }
    }

    fn paths(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().map(|(path, _)| path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }

    fn last_token(&self) -> Option<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).last().and_then(|(_, token)| token.clone())
    }
}

/// One message in a frame, or a refusal.
fn reply(answer: Result<Vec<u8>, Status>) -> Response<Body> {
    let message = match answer {
        Ok(message) => message,
        Err(status) => return status.into_http(),
    };
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    let body = Frames { data: Some(frame.into()), trailers: Some(trailers) };
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}

struct Frames {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        use hyper::body::Frame;
        let frame = self.data.take().map(Frame::data).or_else(|| self.trailers.take().map(Frame::trailers));
        std::task::Poll::Ready(frame.map(Ok))
    }
}

fn range(count: i64) -> Vec<u8> {
    RangeResponse { count, ..RangeResponse::default() }.encode_to_vec()
}

fn client(endpoints: &[&str], credentials: Option<Credentials>) -> Client {
    let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
    Client::new(Options { endpoints, credentials, ..Options::default() }).unwrap()
}

async fn free_endpoint() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_passed_over() {
    let server = Server::start(Arc::new(|_, _| Ok(range(7)))).await;
    let client = client(&[&free_endpoint().await, &server.endpoint], None);
    for _ in 0..3 {
        assert_eq!(client.range(RangeRequest::default()).await.unwrap().count, 7);
    }
    assert_eq!(client.unreachable(), None);
}

#[tokio::test]
async fn a_call_waits_for_an_endpoint_and_says_why() {
    let endpoint = free_endpoint().await;
    let client = client(&[&endpoint], None);
    let call = client.range(RangeRequest::default());
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
    assert_eq!(client.unreachable(), Some(format!("dial tcp {endpoint}: connection refused")));
}

#[tokio::test]
async fn calls_carry_the_token_and_an_old_one_is_renewed() {
    let server = Server::start(Arc::new(|path, token| match (path.ends_with("/Authenticate"), token) {
        (true, None) => Ok(AuthenticateResponse { token: "new".to_owned(), header: None }.encode_to_vec()),
        (false, Some("new")) => Ok(range(1)),
        _ => Err(Status::unauthenticated("etcdserver: invalid auth token")),
    }))
    .await;
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned() };
    let client = client(&[&server.endpoint], Some(credentials));
    client.channel.set_token(Some(http::HeaderValue::from_static("old")));
    assert_eq!(client.range(RangeRequest::default()).await.unwrap().count, 1);
    assert_eq!(server.paths(), ["Range", "Authenticate", "Range"]);
    assert_eq!(server.last_token().as_deref(), Some("new"));
}

#[tokio::test]
async fn without_authentication_credentials_are_not_used() {
    let server = Server::start(Arc::new(|path, _| match path.ends_with("/Authenticate") {
        true => Err(Status::failed_precondition("etcdserver: authentication is not enabled")),
        false => Ok(range(1)),
    }))
    .await;
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned() };
    let client = client(&[&server.endpoint], Some(credentials));
    assert_eq!(client.range(RangeRequest::default()).await.unwrap().count, 1);
    assert_eq!(server.last_token(), None);
}

#[tokio::test]
async fn only_what_reads_is_asked_again() {
    let server = Server::start(Arc::new(|_, _| Err(Status::unavailable("etcdserver: no leader")))).await;
    let client = client(&[&server.endpoint], None);
    let error = client.put(PutRequest::default()).await.unwrap_err();
    assert!(
        matches!(error, RpcError::Server { .. }) && error.to_string() == "etcdserver: no leader",
        "{error}"
    );
    assert_eq!(server.paths(), ["Put"]);
    client.range(RangeRequest::default()).await.unwrap_err();
    assert_eq!(server.paths().len(), 6);
}

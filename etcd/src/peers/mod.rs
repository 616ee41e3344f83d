//! The port for other members.
//!
//! It answers what tells about this member: `/version`, `/members` and `/raft/probing`, in the forms of etcd 2.3.
//! Messages of raft are not taken yet; their paths answer 404 as those of a server that does not know them.

mod appends;
mod frames;
pub mod info;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::http::Backend;
use crate::log;
use crate::member::ConfChangeContext;
use crate::version::SPOKEN;

/// Connections of other members, and of whoever looks: a cluster has a handful of members with a few each.
const CONNECTIONS_MAX: usize = 256;

/// How long a peer may take to send the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// The pause after the system refused a connection for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers other members until `stop` says true; then cuts all connections.
pub async fn serve<B: Backend>(listener: TcpListener, backend: Arc<B>, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((socket, permit)) => {
                let backend = backend.clone();
                connections.spawn(async move {
                    converse(socket, backend).await;
                    drop(permit);
                });
            }
            Err(error) => {
                log::error!("rafthttp", "cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    Ok((socket, permit))
}

async fn converse<B: Backend>(socket: TcpStream, backend: Arc<B>) {
    let service = service_fn(|request| {
        let response = answer(&*backend, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = http1::Builder::new()
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(socket), service);
    // What went wrong with a peer's connection is the peer's affair: it dials again.
    let _ = poll_fn(|context| std::pin::Pin::new(&mut connection).poll(context)).await;
}

fn answer<B: Backend>(backend: &B, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        let text = b"400 Bad Request: missing required Host header".to_vec();
        return respond(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", text);
    }
    let page: fn(&B) -> (&'static str, Vec<u8>) = match request.uri().path() {
        "/version" => version,
        "/members" => members,
        "/raft/probing" => probing,
        _ => {
            return respond(
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                b"404 page not found\n".to_vec(),
            );
        }
    };
    if request.method() != Method::GET {
        let text = b"Method Not Allowed\n".to_vec();
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", text);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let (content_type, body) = page(backend);
    let mut response = respond(StatusCode::OK, content_type, body);
    if request.uri().path() == "/members"
        && let Ok(cluster_id) = HeaderValue::from_str(&backend.cluster_id().to_string())
    {
        response.headers_mut().insert("x-etcd-cluster-id", cluster_id);
    }
    response
}

fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn version<B: Backend>(backend: &B) -> (&'static str, Vec<u8>) {
    let members = backend.members();
    let cluster = members.version.as_deref().unwrap_or("not_decided");
    let text = format!("{{\"etcdserver\":\"{SPOKEN}\",\"etcdcluster\":\"{cluster}\"}}");
    ("application/json", text.into_bytes())
}

/// The members, their ids as decimal numbers: the form of the log, not that of the client port.
fn members<B: Backend>(backend: &B) -> (&'static str, Vec<u8>) {
    let members = backend.members();
    let list: Vec<ConfChangeContext> = members
        .members
        .values()
        .map(|peer| ConfChangeContext {
            id: peer.id.0,
            peer_urls: peer.peer_urls.clone(),
            name: peer.name.clone(),
            client_urls: peer.client_urls.clone(),
        })
        .collect();
    let mut body = json::to_vec(&list).unwrap_or_default();
    body.push(b'\n');
    ("application/json", body)
}

fn probing<B: Backend>(backend: &B) -> (&'static str, Vec<u8>) {
    let text = format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", backend.clock());
    ("text/plain; charset=utf-8", text.into_bytes())
}

//! The port for other members: accepts connections, routes requests, and serves the pages that describe this member
//! in the forms of etcd 2.3.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use node::member::{ConfChangeContext, Membership};
use node::version::SPOKEN;
use parking_lot::Mutex;
use shared::id::MemberId;
use shared::json;
use shared::net::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::compatibility::{self, FEATURES_HEADER, Features};
use super::frames::StreamKind;
use super::group::Transport;
use super::local::Roster;
use super::peer::TransportContext;
use super::posts::{self, BodyRoom, PacedBody};
use super::streams::{self, StreamStart};
use crate::admin::AdminAnswer;
use crate::connections::{Activity, ConnectionSlots, Phase, Port};
use crate::log;
use crate::transport::path::unescape;
use crate::transport::{HEADER_LINES_SHORT, request};

/// How long a peer may take to send the head of a request, or to complete a TLS handshake.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// More than the settings of any cluster need.
const ADMIN_BODY_BYTES_MAX: usize = 64 << 10;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What the requests of all connections share.
pub(super) struct PeerServer<R> {
    pub(super) backend: Arc<R>,
    pub(super) transport: Transport,
    pub(super) room: BodyRoom,
}

/// The connection is closed without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request is not worth an answer")]
pub(super) struct Abort;

/// The stream that takes over the connection of its request.
type RequestedStream = Mutex<Option<StreamStart>>;

/// Serves other members until `stop` is true; then closes all connections.
pub(crate) async fn serve<R: Roster>(
    listener: TcpListener,
    acceptor: Acceptor,
    backend: Arc<R>,
    transport: Transport,
    mut stop: watch::Receiver<bool>,
    slots: ConnectionSlots,
) {
    let shared = Arc::new(PeerServer { backend, transport, room: BodyRoom::default() });
    let mut connections = JoinSet::new();
    loop {
        let (socket, slot) = tokio::select! {
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
            accepted = slots.accept(Port::Peers, &listener) => accepted,
        };
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        connections.spawn(async move {
            serve_connection(socket, acceptor, shared, slot.activity()).await;
            // After the socket: a slot stands for a descriptor.
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection<R: Roster>(
    socket: TcpStream,
    acceptor: Acceptor,
    shared: Arc<PeerServer<R>>,
    activity: &Activity,
) {
    // Without this option a socket is slower, but works.
    let _ = socket.set_nodelay(true);
    // Errors of a connection are not logged: the peer dials again.
    if timeout(HEAD_TIME_MAX, activity.first_byte(&socket)).await != Ok(true) {
        return;
    }
    let accepted = tokio::select! {
        biased;
        accepted = timeout(HEAD_TIME_MAX, acceptor.accept(socket)) => accepted,
        () = activity.wait_for_close_request() => return,
    };
    let Ok(Ok(stream)) = accepted else { return };
    let takeover = Arc::new(RequestedStream::default());
    let service = service_fn(|request| {
        let answered = answer(shared.clone(), request, takeover.clone(), activity);
        async move {
            activity.enter(Phase::Busy);
            let answered = answered.await;
            activity.enter(Phase::Idle);
            answered
        }
    });
    let mut connection = http1::Builder::new()
        .title_case_headers(true)
        // A half-closed client still expects a response.
        .half_close(true)
        .max_headers(HEADER_LINES_SHORT)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let start = poll_fn(|cx| {
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let taken_over = takeover.lock().take();
        if let Some(start) = taken_over {
            return Poll::Ready(Some(start));
        }
        activity.register(cx);
        if activity.must_close() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await;
    if let Some(start) = start {
        let stream = connection.into_parts().io.into_inner();
        streams::write(shared.transport.context(), start, stream).await;
    }
}

async fn answer<R: Roster>(
    shared: Arc<PeerServer<R>>,
    request: Request<Incoming>,
    takeover: Arc<RequestedStream>,
    activity: &Activity,
) -> Result<PeerResponse, Abort> {
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        return Ok(no_host());
    }
    if !request::is_chunked_alone(request.headers()) {
        return Ok(unknown_coding());
    }
    let (path, method) = (request.uri().path(), request.method());
    // Members do not send these headers; browsers send them with all requests that change something. Web pages must
    // not use this port.
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    if changes && (request.headers().contains_key(ORIGIN) || request.headers().contains_key("sec-fetch-site"))
    {
        let text = "a page in a browser may not change anything on the port for members";
        return Ok(error_answer(StatusCode::FORBIDDEN, text));
    }
    let page: fn(&PeerServer<R>) -> PeerResponse = match path {
        "/version" => |shared| version_page(&shared.backend.members()),
        "/members" => |shared| members_page(&shared.backend.members()),
        "/raft/probing" => |shared| probing_page(shared.transport.context()),
        "/name" => |shared| name_page(shared.transport.context(), &shared.backend.members()),
        "/etcdURL" => |shared| client_url_page(shared.transport.context(), &shared.backend.members()),
        _ if path.starts_with("/remove/") && *method != Method::DELETE => {
            return Ok(method_not_allowed("DELETE"));
        }
        _ if path.starts_with("/v2/admin/") || path.starts_with("/remove/") => {
            return Box::pin(admin_page(&shared, request, activity)).await;
        }
        "/raft" | "/raft/snapshot" if *method != Method::POST => {
            return Ok(method_not_allowed("POST"));
        }
        "/raft" => {
            let answer = posts::answer_message(&shared, request, activity).await?;
            return Ok(with_cluster_headers(&shared, answer));
        }
        "/raft/snapshot" => {
            let answer = posts::answer_snapshot(&shared, request, activity).await?;
            return Ok(with_cluster_headers(&shared, answer));
        }
        _ if path.starts_with("/raft/stream/") && *method != Method::GET => {
            return Ok(method_not_allowed("GET"));
        }
        _ if path.starts_with("/raft/stream/") => {
            let refusal = match accept_stream(&shared, &request) {
                Err(RequestRefusal::Aborted) => return Err(Abort),
                Err(RequestRefusal::Answered(status, text)) => error_answer(status, text),
                Ok(start) => {
                    *takeover.lock() = Some(start);
                    // This future is dropped when the connection is taken over.
                    std::future::pending().await
                }
            };
            let mut answer = with_cluster_headers(&shared, refusal);
            answer.headers_mut().insert("x-server-version", HeaderValue::from_static(SPOKEN));
            return Ok(answer);
        }
        _ => return Ok(error_answer(StatusCode::NOT_FOUND, "404 page not found")),
    };
    // For `HEAD` the library omits the body.
    if matches!(*method, Method::GET | Method::HEAD) {
        Ok(page(&shared))
    } else {
        Ok(method_not_allowed("GET"))
    }
}

fn with_cluster_headers<R: Roster>(shared: &PeerServer<R>, mut answer: PeerResponse) -> PeerResponse {
    let cluster_id = shared.transport.context().local.cluster_id;
    if let Ok(value) = HeaderValue::from_str(&cluster_id.to_string()) {
        answer.headers_mut().insert("x-etcd-cluster-id", value);
    }
    if let Ok(value) = HeaderValue::from_str(&Features::OURS.to_string()) {
        answer.headers_mut().insert(FEATURES_HEADER_LOWER, value);
    }
    answer
}

const FEATURES_HEADER_LOWER: &str = "x-etcd-features";

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestRefusal {
    Answered(StatusCode, &'static str),
    Aborted,
}

/// Decides about a request for a stream, in the order of the original.
fn accept_stream<R: Roster>(
    shared: &PeerServer<R>,
    request: &Request<Incoming>,
) -> Result<StreamStart, RequestRefusal> {
    let (transport, headers) = (&shared.transport, request.headers());
    check_compatible(shared, headers)?;
    let not_found = |text| RequestRefusal::Answered(StatusCode::NOT_FOUND, text);
    let (folder, from) = request.uri().path().rsplit_once('/').unwrap_or_default();
    let (folder, from) = match (folder, from) {
        // The last element of the path, ignoring slashes at its end.
        (folder, "") => (folder, folder.rsplit('/').next().unwrap_or_default()),
        named => named,
    };
    let kinds = [StreamKind::Append, StreamKind::Message];
    let kind =
        kinds.into_iter().find(|kind| kind.path() == folder).ok_or_else(|| not_found("invalid path"))?;
    let Ok(from) = from.parse::<MemberId>() else {
        log::error!("rafthttp", "failed to parse from {} into ID", from.escape_debug());
        return Err(not_found("invalid from"));
    };
    if is_removed(shared, from) {
        log::warning!("rafthttp", "rejected the stream from peer {from} since it was removed");
        return Err(RequestRefusal::Answered(StatusCode::GONE, "removed member"));
    }
    let Some(to) = transport.peer(from) else {
        if let Some(urls) = header_text(headers, "x-peerurls").filter(|urls| !urls.is_empty()) {
            let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
            transport.add_remote(from, &urls);
        }
        let cluster_id = transport.context().local.cluster_id;
        log::error!("rafthttp", "failed to find member {from} in cluster {cluster_id}");
        return Err(not_found("error sender not found"));
    };
    let wanted = transport.context().local.id.to_string();
    let got = header_text(headers, "x-raft-to").unwrap_or_default();
    if got != wanted {
        let got = got.escape_debug();
        log::error!("rafthttp", "streaming request ignored (ID mismatch got {got} want {wanted})");
        return Err(RequestRefusal::Answered(StatusCode::PRECONDITION_FAILED, "to field mismatch"));
    }
    to.status.set_features(Features::parse(header_text(headers, FEATURES_HEADER)));
    Ok(StreamStart { to, kind })
}

/// Checks that the sender's version is compatible and that it belongs to this cluster.
pub(super) fn check_compatible<R: Roster>(
    shared: &PeerServer<R>,
    headers: &HeaderMap,
) -> Result<(), RequestRefusal> {
    let version =
        |name| compatibility::parse_version(header_text(headers, name)).map_err(|_| RequestRefusal::Aborted);
    let (server, min_cluster) = (version("x-server-version")?, version("x-min-cluster-version")?);
    let refused = |text| Err(RequestRefusal::Answered(StatusCode::PRECONDITION_FAILED, text));
    if let Some(reason) = compatibility::incompatibility(server, min_cluster) {
        let from = header_text(headers, "x-server-from").unwrap_or_default().escape_debug();
        let theirs = header_text(headers, "x-server-version").unwrap_or("2.0.0").escape_debug();
        log::error!(
            "rafthttp",
            "request version incompatibility ({reason}: remote[{from}]={theirs}, local={SPOKEN})"
        );
        return refused("incompatible version");
    }
    let ours = shared.transport.context().local.cluster_id.to_string();
    let theirs = header_text(headers, "x-etcd-cluster-id").unwrap_or_default();
    if theirs != ours {
        let theirs = theirs.escape_debug();
        log::error!("rafthttp", "request cluster ID mismatch (got {theirs} want {ours})");
        return refused("cluster ID mismatch");
    }
    Ok(())
}

/// Whether a member was removed, according to the transport or to the store, which also knows removals before the
/// start.
pub(super) fn is_removed<R: Roster>(shared: &PeerServer<R>, id: MemberId) -> bool {
    shared.transport.is_removed(id) || shared.backend.members().removed.contains(&id)
}

/// The value of a header, if it is text.
pub(super) fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A response whose whole body is in memory.
pub(super) type PeerResponse = Response<Full<Bytes>>;

/// A response with these parts.
fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> PeerResponse {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error in Go's form: its text and a newline.
pub(super) fn error_answer(status: StatusCode, text: &str) -> PeerResponse {
    response(status, TEXT, format!("{text}\n").into_bytes())
}

/// The response to a request with a method that the path does not support.
fn method_not_allowed(allowed: &'static str) -> PeerResponse {
    let mut response = error_answer(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The response to an HTTP/1.1 request without a `Host` header.
fn no_host() -> PeerResponse {
    response(StatusCode::BAD_REQUEST, TEXT, b"400 Bad Request: missing required Host header".to_vec())
}

/// The response to a request with an unknown transfer coding. It closes the connection.
fn unknown_coding() -> PeerResponse {
    let mut answer = response(StatusCode::NOT_IMPLEMENTED, TEXT, b"Unsupported transfer encoding".to_vec());
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// `/version`.
fn version_page(members: &Membership) -> PeerResponse {
    let cluster = members.version.as_deref().unwrap_or("not_decided");
    let text = format!("{{\"etcdserver\":\"{SPOKEN}\",\"etcdcluster\":\"{cluster}\"}}");
    response(StatusCode::OK, JSON, text.into_bytes())
}

/// `/members`. The ids are decimal numbers, as in the log and unlike on the client port.
fn members_page(members: &Membership) -> PeerResponse {
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
    let mut response = response(StatusCode::OK, JSON, body);
    if let Ok(cluster_id) = HeaderValue::from_str(&members.cluster_id.to_string()) {
        response.headers_mut().insert("x-etcd-cluster-id", cluster_id);
    }
    response
}

/// `/name` of 0.4: the name of this member.
fn name_page(context: &TransportContext, members: &Membership) -> PeerResponse {
    let name = members.members.get(&context.local.id).map_or("", |peer| &peer.name);
    response(StatusCode::OK, TEXT, name.into())
}

/// `/etcdURL` of 0.4: the client URL of this member, for programs that only know its peer URL.
fn client_url_page(context: &TransportContext, members: &Membership) -> PeerResponse {
    let own = members.members.get(&context.local.id);
    let url = own.and_then(|peer| peer.client_urls.first()).map_or("", String::as_str);
    response(StatusCode::OK, TEXT, url.into())
}

/// `/v2/admin` and everything below. `/remove/NAME` is an older name of one of its pages.
async fn admin_page<R: Roster>(
    shared: &PeerServer<R>,
    request: Request<Incoming>,
    activity: &Activity,
) -> Result<PeerResponse, Abort> {
    let (head, body) = request.into_parts();
    let Ok(path) = unescape(head.uri.path().as_bytes()) else { return Err(Abort) };
    let body = PacedBody::new(body, activity).read_all(ADMIN_BODY_BYTES_MAX).await.map_err(|_| Abort)?;
    let rest = match path.strip_prefix(b"/remove/") {
        Some(name) => [b"/machines/", name].concat(),
        None => path.strip_prefix(b"/v2/admin").unwrap_or_default().to_vec(),
    };
    let AdminAnswer { status, content_type, body } =
        shared.backend.administer(&head.method, &rest, &body).await;
    let mut answer = response(status, content_type, body);
    if content_type.is_empty() {
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    Ok(answer)
}

/// `/raft/probing`.
fn probing_page(context: &TransportContext) -> PeerResponse {
    let text = format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", (context.local.clock)());
    response(StatusCode::OK, TEXT, text.into_bytes())
}

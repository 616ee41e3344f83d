//! The v3 API as JSON over HTTP: `POST /v3/kv/range` with the request as JSON.
//!
//! A path stands for a method. The body becomes the method's message, the method is called as a gRPC client would call
//! it, and the answer becomes JSON again. Streams take a row of JSON values and answer a line for each message.

mod decode;
mod framing;
mod text;

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::Full;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use tonic::{Code, Status};

use self::framing::Messages;
use super::services::Services;
use crate::transport::http2::Body;

/// The beginnings of the gateway's paths.
const PREFIXES: [&str; 2] = ["/v3/", "/v3beta/"];

/// The first byte of a message frame that is not compressed.
const UNCOMPRESSED: u8 = 0;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Tells the content type of the answer that was translated, as the original's gateway does.
const GRPC_METADATA_CONTENT_TYPE: &str = "grpc-metadata-content-type";

/// Paths below a prefix, and their methods.
const PATHS: &[(&str, &str)] = &[
    ("kv/range", "etcdserverpb.KV.Range"),
    ("kv/put", "etcdserverpb.KV.Put"),
    ("kv/deleterange", "etcdserverpb.KV.DeleteRange"),
    ("kv/txn", "etcdserverpb.KV.Txn"),
    ("kv/compaction", "etcdserverpb.KV.Compact"),
    ("watch", "etcdserverpb.Watch.Watch"),
    ("lease/grant", "etcdserverpb.Lease.LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("kv/lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease.LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease.LeaseTimeToLive"),
    ("kv/lease/timetolive", "etcdserverpb.Lease.LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("kv/lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster.MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster.MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster.MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster.MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster.MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance.Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance.Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance.Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance.Hash"),
    ("maintenance/hashkv", "etcdserverpb.Maintenance.HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance.Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance.MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance.Downgrade"),
    ("auth/enable", "etcdserverpb.Auth.AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth.AuthDisable"),
    ("auth/status", "etcdserverpb.Auth.AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth.Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth.UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth.UserGet"),
    ("auth/user/list", "etcdserverpb.Auth.UserList"),
    ("auth/user/delete", "etcdserverpb.Auth.UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth.UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth.UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth.UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth.RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth.RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth.RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth.RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth.RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth.RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock.Lock"),
    ("lock/unlock", "v3lockpb.Lock.Unlock"),
    ("election/campaign", "v3electionpb.Election.Campaign"),
    ("election/proclaim", "v3electionpb.Election.Proclaim"),
    ("election/leader", "v3electionpb.Election.Leader"),
    ("election/observe", "v3electionpb.Election.Observe"),
    ("election/resign", "v3electionpb.Election.Resign"),
];

/// Finds methods, and translates their messages.
pub(super) struct Gateway {
    /// By their paths below a prefix.
    methods: HashMap<&'static str, Target>,
}

/// A method, and its path over gRPC.
struct Target {
    method: MethodDescriptor,
    uri: Uri,
}

impl Gateway {
    pub(super) fn new(pool: &DescriptorPool) -> Gateway {
        let methods: HashMap<_, _> = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| (method.full_name().to_owned(), method))
            .collect();
        let target = |name: &str| {
            let method = methods.get(name).cloned();
            let method = method.unwrap_or_else(|| unreachable!("{name} is in the descriptors"));
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            Target { method, uri: Uri::try_from(path).unwrap_or_default() }
        };
        Gateway { methods: PATHS.iter().map(|(path, name)| (*path, target(name))).collect() }
    }

    /// Whether a path belongs to the gateway.
    pub(super) fn serves(path: &str) -> bool {
        below_prefix(path).is_some()
    }

    /// The method of one of the paths; their numbers go round.
    pub(super) fn method(&self, number: usize) -> MethodDescriptor {
        let (path, _) = PATHS[number % PATHS.len()];
        self.methods[path].method.clone()
    }

    /// Answers a request with a complete body.
    pub(super) async fn answer(
        &self,
        services: &Services,
        method: &Method,
        path: &str,
        authorization: Option<HeaderValue>,
        body: Bytes,
    ) -> Response<Body> {
        let Some(target) = below_prefix(path).and_then(|below| self.methods.get(below)) else {
            return error(&Status::not_found("Not Found"));
        };
        if *method != Method::POST {
            return error(&Status::unimplemented("Method Not Allowed"));
        }
        let requests = match requests(&target.method, &body) {
            Ok(requests) => requests,
            Err(status) => return error(&status),
        };
        let mut request = Request::new(Body::new(Full::new(requests)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, GRPC);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let response = services.call(request).await;
        match target.method.is_server_streaming() {
            true => stream(response, target.method.output()),
            false => unary(response, target.method.output()).await,
        }
    }
}

fn below_prefix(path: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))
}

/// The messages of a body, framed as in gRPC. An empty body counts as an empty message; only a method that takes a
/// stream sees what follows the first value. A stream ends at its first invalid value, which counts as an error if it
/// is the first one.
pub(super) fn requests(method: &MethodDescriptor, body: &[u8]) -> Result<Bytes, Status> {
    let body = String::from_utf8_lossy(body);
    let input = method.input();
    let is_stream = method.is_client_streaming();
    let mut framed = BytesMut::new();
    for value in text::values(&body) {
        match value.and_then(|value| decode::message(&input, value)) {
            Ok(message) => frame(&message, &mut framed),
            Err(why) if framed.is_empty() => return Err(Status::new(invalid(is_stream), why)),
            Err(_) => break,
        }
        if !is_stream {
            break;
        }
    }
    if framed.is_empty() && !is_stream {
        frame(&DynamicMessage::new(input), &mut framed);
    }
    Ok(framed.freeze())
}

/// The code for JSON that is invalid: the original's streams forget theirs.
fn invalid(is_stream: bool) -> Code {
    if is_stream { Code::Unknown } else { Code::InvalidArgument }
}

fn frame(message: &DynamicMessage, framed: &mut BytesMut) {
    let length = message.encoded_len();
    framed.put_u8(UNCOMPRESSED);
    // A body is far shorter than 4 GiB.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.reserve(length);
    // The buffer grows as needed.
    let _ = message.encode(framed);
}

/// A message as JSON, without what is zero.
pub(super) fn to_json(
    descriptor: &MessageDescriptor,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(true)
        .use_proto_field_name(true)
        .use_enum_numbers(false)
        .skip_default_fields(true);
    let message = DynamicMessage::decode(descriptor.clone(), message)
        .map_err(|error| Status::internal(error.to_string()))?;
    let mut serializer = serde_json::Serializer::new(out);
    message
        .serialize_with_options(&mut serializer, &options)
        .map(drop)
        .map_err(|error| Status::internal(error.to_string()))
}

/// The answer to a method that has one.
async fn unary(response: Response<Body>, output: MessageDescriptor) -> Response<Body> {
    let mut messages = match Messages::new(response) {
        Ok(messages) => messages,
        Err(status) => return error(&status),
    };
    let next = std::future::poll_fn(|cx| messages.poll_next(cx)).await;
    let message = match next {
        Some(Ok(message)) => message,
        Some(Err(status)) => return error(&status),
        None => return error(&Status::internal("no response")),
    };
    let mut json = Vec::with_capacity(128 + message.len() * 2);
    match to_json(&output, &message, &mut json) {
        Ok(()) => answer(StatusCode::OK, true, Body::new(Full::new(Bytes::from(json)))),
        Err(status) => error(&status),
    }
}

/// The answer to a method that has any number of them: a line for each, as it comes.
fn stream(response: Response<Body>, output: MessageDescriptor) -> Response<Body> {
    match Messages::new(response) {
        Ok(messages) => answer(StatusCode::OK, true, Body::new(Lines { messages: Some(messages), output })),
        Err(status) => error(&status),
    }
}

/// The lines of a stream.
struct Lines {
    /// `None` after the last line.
    messages: Option<Messages>,
    output: MessageDescriptor,
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(messages) = &mut this.messages else { return Poll::Ready(None) };
        let next = std::task::ready!(messages.poll_next(cx));
        let mut line = Vec::new();
        let written = match next {
            None => {
                this.messages = None;
                return Poll::Ready(None);
            }
            Some(Ok(message)) => {
                line.extend_from_slice(b"{\"result\":");
                to_json(&this.output, &message, &mut line)
            }
            Some(Err(status)) => Err(status),
        };
        if let Err(status) = written {
            // The answer has begun with 200: the error is its last line.
            this.messages = None;
            line.clear();
            line.extend_from_slice(b"{\"error\":");
            text::write_error(status.code(), status.message(), &mut line);
        }
        line.extend_from_slice(b"}\n");
        Poll::Ready(Some(Ok(Frame::data(line.into()))))
    }
}

fn error(status: &Status) -> Response<Body> {
    let mut body = Vec::new();
    text::write_error(status.code(), status.message(), &mut body);
    let code = shared::v3::StatusCode::from_number(status.code().into());
    let http_status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer(http_status, false, Body::new(Full::new(Bytes::from(body))))
}

fn answer(status: StatusCode, translated: bool, body: Body) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, JSON);
    if translated {
        headers.insert(GRPC_METADATA_CONTENT_TYPE, GRPC);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

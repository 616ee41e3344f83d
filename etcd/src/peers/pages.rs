//! The pages that tell about this member, in the forms of etcd 2.3.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use node::member::{ConfChangeContext, Membership};
use node::version::SPOKEN;
use shared::json;

use super::local::Roster;
use super::peer::Context;
use super::posts::PacedBody;
use super::serve::{Abort, Shared};
use crate::admin::AdminAnswer;
use crate::connections::Activity;

/// More than any settings of a cluster need.
const ADMIN_BODY_BYTES_MAX: usize = 64 << 10;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer whose body is there at once.
pub(super) type Answer = Response<Full<Bytes>>;

/// An answer.
pub(super) fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error as Go writes one: its text and the end of a line.
pub(super) fn error(status: StatusCode, text: &str) -> Answer {
    respond(status, TEXT, format!("{text}\n").into_bytes())
}

/// The answer to a request with a method that its path does not have.
pub(super) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The answer to a request that names no host, which HTTP/1.1 wants.
pub(super) fn no_host() -> Answer {
    respond(StatusCode::BAD_REQUEST, TEXT, b"400 Bad Request: missing required Host header".to_vec())
}

/// The answer to a request whose body comes in a coding that we do not know. The connection ends with it.
pub(super) fn unknown_coding() -> Answer {
    let mut answer = respond(StatusCode::NOT_IMPLEMENTED, TEXT, b"Unsupported transfer encoding".to_vec());
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// `/version`.
pub(super) fn version(members: &Membership) -> Answer {
    let cluster = members.version.as_deref().unwrap_or("not_decided");
    let text = format!("{{\"etcdserver\":\"{SPOKEN}\",\"etcdcluster\":\"{cluster}\"}}");
    respond(StatusCode::OK, JSON, text.into_bytes())
}

/// `/members`: their ids as decimal numbers, the form of the log, not that of the client port.
pub(super) fn members(members: &Membership) -> Answer {
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
    let mut response = respond(StatusCode::OK, JSON, body);
    if let Ok(cluster_id) = HeaderValue::from_str(&members.cluster_id.to_string()) {
        response.headers_mut().insert("x-etcd-cluster-id", cluster_id);
    }
    response
}

/// `/name`, as 0.4 has it: this member's.
pub(super) fn name(context: &Context, members: &Membership) -> Answer {
    let name = members.members.get(&context.local.id).map_or("", |peer| &peer.name);
    respond(StatusCode::OK, TEXT, name.into())
}

/// `/etcdURL`, as 0.4 has it: where clients find this member. Programs that know a peer only ask for it.
pub(super) fn client_url(context: &Context, members: &Membership) -> Answer {
    let own = members.members.get(&context.local.id);
    let url = own.and_then(|peer| peer.client_urls.first()).map_or("", String::as_str);
    respond(StatusCode::OK, TEXT, url.into())
}

/// `/v2/admin` and what is below; `/remove/NAME` is an older name of a page there.
pub(super) async fn admin<R: Roster>(
    shared: &Shared<R>,
    request: Request<Incoming>,
    activity: &Activity,
) -> Result<Answer, Abort> {
    let (head, body) = request.into_parts();
    let Ok(path) = crate::transport::path::unescape(head.uri.path().as_bytes()) else { return Err(Abort) };
    let body = PacedBody::new(body, activity).whole(ADMIN_BODY_BYTES_MAX).await.map_err(|_| Abort)?;
    let rest = match path.strip_prefix(b"/remove/") {
        Some(name) => [b"/machines/", name].concat(),
        None => path.strip_prefix(b"/v2/admin").unwrap_or_default().to_vec(),
    };
    let AdminAnswer { status, content_type, body } =
        shared.backend.administer(&head.method, &rest, &body).await;
    let mut answer = respond(status, content_type, body);
    if content_type.is_empty() {
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    Ok(answer)
}

/// `/raft/probing`.
pub(super) fn probing(context: &Context) -> Answer {
    let text = format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", (context.local.clock)());
    respond(StatusCode::OK, TEXT, text.into_bytes())
}

//! Pages of 0.4 about the cluster, for its clients and tools: `/v2/machines`, `/_etcd/machines` among the keys, and
//! `/v2/admin`.

use std::fmt::Write as _;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use node::member::MemberInfo;
use shared::event::Event;

use crate::admin::{self, ChangeRequest};
use crate::api::page::{Context, PageRequest, gate};
use crate::auth::only_reads;
use crate::backend::Backend;
use crate::transport::reply::{self, Response};

/// The directory of [`machine_keys`].
const MACHINES: &str = "/1/_etcd/machines";

/// `/v2/machines`: the client URLs of all members, for clients of 0.4.
pub(crate) fn answer_machines<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    if !matches!(*request.method, Method::GET | Method::HEAD) {
        return reply::method_not_allowed(headers, "GET,HEAD");
    }
    let membership = context.backend.members();
    let mut urls: Vec<&str> =
        membership.members.values().flat_map(|peer| &peer.client_urls).map(String::as_str).collect();
    urls.sort_unstable();
    headers.insert(CONTENT_TYPE, reply::TEXT);
    reply::answer(headers, StatusCode::OK, urls.join(", "))
}

/// The result of a read of `path`, which is not in the store, below `/_etcd/machines`: there 0.x stored its members,
/// and its clients look for them. `None` if the path is not there.
///
/// The directory is read-only. It only exists if the store has no such key, and listings of the directories above do
/// not include it.
pub(super) fn machine_keys<B: Backend>(context: &Context<B>, path: &[u8], recursive: bool) -> Option<Event> {
    let below = path.strip_prefix(MACHINES.as_bytes())?;
    if !matches!(below.first(), None | Some(b'/')) {
        return None;
    }
    // The image shares all nodes with the store; nodes that are added to it do not get into the store.
    let mut image = context.backend.store().image();
    if image.indexes(MACHINES.as_bytes()).is_some() {
        return None;
    }
    for (key, peer) in admin::machines(&context.backend.members()) {
        // The indexes of the member's record. It may be missing in an old snapshot.
        let attributes = format!("/0/members/{}/attributes", peer.id);
        let (created, modified) = image.indexes(attributes.as_bytes()).unwrap_or((1, 1));
        let machine = format!("{MACHINES}/{key}");
        image.put_node(machine.as_bytes(), Some(value(peer).as_bytes()), created, modified).ok()?;
    }
    image.get(path, recursive).ok()
}

/// The URLs of the member in the form of a query.
fn value(peer: &MemberInfo) -> String {
    let first = |urls: &[String]| escaped(urls.first().map_or("", String::as_str));
    format!("etcd={}&raft={}", first(&peer.client_urls), first(&peer.peer_urls))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `/v2/admin` on the client port. With auth on, only `root` may change the cluster.
pub(crate) async fn answer_admin<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    let answer = if only_reads(request.method) {
        admin::read(&context.backend, request.rest)
    } else {
        match gate::admit_root(context, &request, "/v2/admin").await {
            Ok(request) => {
                let change = request.map(|PageRequest { method, rest, body, .. }| ChangeRequest {
                    method,
                    rest,
                    body,
                });
                admin::change(&context.backend, change).await
            }
            Err(denied) => return gate::refuse(headers, denied),
        }
    };
    if !answer.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    reply::answer(headers, answer.status, answer.body)
}

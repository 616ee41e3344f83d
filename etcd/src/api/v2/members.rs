//! `/v2/members`: the members of the cluster, and changes of the membership.

use http::{HeaderMap, Method, StatusCode};
use node::member::{ConfigureError, MemberInfo};
use serde::Serialize;
use shared::id::MemberId;
use shared::url::Urls;

use crate::api::page::Context;
use crate::api::page::PageRequest;
use crate::api::page::gate;
use crate::auth::Authorized;
use crate::backend::{Backend, ChangeError};
use crate::go_json;
use crate::log;
use crate::transport::media_type;
use crate::transport::reply::{self, Response};

#[derive(Serialize)]
struct Member<'a> {
    id: String,
    name: &'a str,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "clientURLs")]
    client_urls: &'a [String],
}

impl<'a> From<&'a MemberInfo> for Member<'a> {
    fn from(peer: &'a MemberInfo) -> Member<'a> {
        Member {
            id: peer.id.to_string(),
            name: &peer.name,
            peer_urls: &peer.peer_urls,
            client_urls: &peer.client_urls,
        }
    }
}

#[derive(Serialize)]
struct Members<'a> {
    members: Vec<Member<'a>>,
}

/// Answers a request for members.
pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    if !matches!(*request.method, Method::GET | Method::POST | Method::DELETE | Method::PUT) {
        return reply::method_not_allowed(headers, "GET,POST,DELETE,PUT");
    }
    let name = request.rest.strip_prefix(b"/").unwrap_or(request.rest);
    if *request.method == Method::GET {
        headers.insert(reply::X_ETCD_CLUSTER_ID, context.cluster_id.clone());
        return read(context, name, headers);
    }
    let request = match gate::admit_root(context, &request, "/v2/members").await {
        Ok(request) => request,
        Err(denied) => return gate::refuse(headers, denied),
    };
    headers.insert(reply::X_ETCD_CLUSTER_ID, context.cluster_id.clone());
    if *request.method == Method::POST {
        return add(context, &request, headers).await;
    }
    match parse_id(name) {
        None if name.is_empty() => {
            reply::text_error(headers, StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
        }
        None => no_such_member(headers, name),
        Some(id) if *request.method == Method::DELETE => remove(context, request.map(|_| id), headers).await,
        Some(id) => update(context, id, &request, headers).await,
    }
}

fn read<B: Backend>(context: &Context<B>, name: &[u8], headers: HeaderMap) -> Response {
    let membership = context.backend.members();
    match name {
        b"" => {
            let members = membership.members.values().map(Member::from).collect();
            with_newline(headers, StatusCode::OK, &Members { members })
        }
        b"leader" => match membership.members.get(&context.backend.status().leader) {
            Some(leader) => with_newline(headers, StatusCode::OK, &Member::from(leader)),
            None => reply::message(headers, StatusCode::SERVICE_UNAVAILABLE, "During election"),
        },
        _ => reply::message(headers, StatusCode::NOT_FOUND, "Not found"),
    }
}

async fn add<B: Backend>(
    context: &Context<B>,
    request: &Authorized<&PageRequest<'_>>,
    headers: HeaderMap,
) -> Response {
    let urls = match peer_urls(request) {
        Ok(urls) => urls,
        Err((status, text)) => return reply::message(headers, status, text),
    };
    match context.backend.add_member(urls).await {
        Ok(peer) => with_newline(headers, StatusCode::CREATED, &Member::from(&peer)),
        Err(ChangeError::Refused(
            why @ (ConfigureError::IdExists | ConfigureError::PeerUrlExists | ConfigureError::IdRemoved),
        )) => reply::message(headers, StatusCode::CONFLICT, refusal(why)),
        Err(error) => failed(headers, "adding", "", &error),
    }
}

async fn remove<B: Backend>(context: &Context<B>, id: Authorized<MemberId>, headers: HeaderMap) -> Response {
    let id = id.into_inner();
    match context.backend.remove_member(id).await {
        Ok(()) => reply::empty(headers, StatusCode::NO_CONTENT),
        Err(ChangeError::Refused(ConfigureError::IdRemoved)) => {
            reply::message(headers, StatusCode::GONE, format!("Member permanently removed: {id}"))
        }
        Err(ChangeError::Refused(ConfigureError::IdNotFound)) => {
            no_such_member(headers, id.to_string().as_bytes())
        }
        Err(error) => failed(headers, "removing", &id.to_string(), &error),
    }
}

async fn update<B: Backend>(
    context: &Context<B>,
    id: MemberId,
    request: &Authorized<&PageRequest<'_>>,
    headers: HeaderMap,
) -> Response {
    let urls = match peer_urls(request) {
        Ok(urls) => urls,
        Err((status, text)) => return reply::message(headers, status, text),
    };
    match context.backend.update_member(id, urls).await {
        Ok(()) => reply::empty(headers, StatusCode::NO_CONTENT),
        Err(ChangeError::Refused(why @ ConfigureError::PeerUrlExists)) => {
            reply::message(headers, StatusCode::CONFLICT, refusal(why))
        }
        Err(ChangeError::Refused(ConfigureError::IdNotFound)) => {
            no_such_member(headers, id.to_string().as_bytes())
        }
        Err(error) => failed(headers, "updating", &id.to_string(), &error),
    }
}

fn no_such_member(headers: HeaderMap, name: &[u8]) -> Response {
    reply::message(headers, StatusCode::NOT_FOUND, [b"No such member: ", name].concat())
}

/// The text of a refused change.
fn refusal(why: ConfigureError) -> &'static str {
    match why {
        ConfigureError::IdRemoved => "etcdserver: ID removed",
        ConfigureError::IdExists => "etcdserver: ID exists",
        ConfigureError::PeerUrlExists => "etcdserver: peerURL exists",
        ConfigureError::IdNotFound => "etcdserver: ID not found",
        ConfigureError::Impossible => "etcdserver: the change cannot be carried out",
    }
}

/// The response to an internal error. The reason is only logged.
fn failed(headers: HeaderMap, action: &str, id: &str, error: &ChangeError) -> Response {
    log::error!("etcdhttp", "error {action} member {id} ({error})");
    reply::message(headers, StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

fn with_newline<T: Serialize>(headers: HeaderMap, status: StatusCode, value: &T) -> Response {
    // Strings and lists of strings can always be serialized.
    let mut body = shared::json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    reply::json(headers, status, body)
}

/// Parses an id in hexadecimal digits of either case.
fn parse_id(name: &[u8]) -> Option<MemberId> {
    if !name.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(name).ok()?, 16).ok().map(MemberId)
}

/// The peer URLs in the body, sorted; on failure the status and the text of the error.
fn peer_urls(request: &PageRequest<'_>) -> Result<Vec<String>, (StatusCode, Vec<u8>)> {
    if !media_type::is_json(request.content_type) {
        let text = [b"Bad Content-Type ", request.content_type, b", accept application/json"].concat();
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let bad = |text: String| (StatusCode::BAD_REQUEST, text.into_bytes());
    let texts = go_json::peer_urls(&request.body).map_err(bad)?;
    let urls = Urls::from_texts(texts.iter().map(String::as_str)).map_err(|error| bad(error.to_string()))?;
    Ok(urls.to_strings())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        assert_eq!(parse_id(b"ABC"), Some(MemberId(0xabc)));
        assert_eq!(parse_id(b"00ff"), Some(MemberId(0xff)));
        assert_eq!(parse_id(b"ffffffffffffffff"), Some(MemberId(u64::MAX)));
        for bad in ["", "xyz", "12/34", "11112222333344445", "+1", "0x1", " 1"] {
            assert_eq!(parse_id(bad.as_bytes()), None, "{bad}");
        }
    }
}

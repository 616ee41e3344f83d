//! `/v2/admin` of 0.4: the cluster's settings, and its members by name.
//!
//! 0.4 serves it on the peer port; here the client ports serve it too. Both ports pass the request to this module and
//! send the [`AdminAnswer`] that it returns.

mod machines;

use http::{Method, StatusCode};
use node::member::{MemberInfo, Membership};
use serde::Serialize;

use crate::auth::Authorized;
use crate::backend::{Backend, ClusterConfig, SubmitError};
use crate::go_json;

pub(crate) use self::machines::machines;

/// The length of the response to a removal: the commit index as a varint, padded with zeros.
const REMOVED_BYTES: usize = 8;

/// A member as these pages show it.
#[derive(Serialize)]
struct AdminMember<'a> {
    name: String,
    state: &'static str,
    #[serde(rename = "clientURL")]
    client_url: &'a str,
    #[serde(rename = "peerURL")]
    peer_url: &'a str,
}

/// A response that does not depend on the port.
#[derive(Debug, PartialEq, Eq)]
pub struct AdminAnswer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Empty for no `Content-Type` header.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

impl AdminAnswer {
    fn json(body: Vec<u8>) -> AdminAnswer {
        AdminAnswer { status: StatusCode::OK, content_type: JSON, body }
    }

    /// A JSON value and a newline.
    fn line<T: Serialize>(value: &T) -> AdminAnswer {
        // Strings can always be encoded.
        let mut body = shared::json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        AdminAnswer::json(body)
    }

    fn text(status: StatusCode, text: &str) -> AdminAnswer {
        AdminAnswer { status, content_type: TEXT, body: format!("{text}\n").into_bytes() }
    }

    /// While auth is on, the peer port refuses changes.
    pub(crate) fn root_required() -> AdminAnswer {
        let why = "auth is on: send this to a client port, as a user with the role root";
        AdminAnswer::text(StatusCode::UNAUTHORIZED, why)
    }

    /// The response for a path that does not exist.
    pub(crate) fn not_found() -> AdminAnswer {
        AdminAnswer::text(StatusCode::NOT_FOUND, "404 page not found")
    }
}

/// A request to change the settings or the members.
pub(crate) struct ChangeRequest<'a> {
    /// Any method other than `GET` and `HEAD`.
    pub(crate) method: &'a Method,
    /// The path below `/v2/admin`, unescaped.
    pub(crate) rest: &'a [u8],
    /// The request's body.
    pub(crate) body: &'a [u8],
}

/// Answers a read of the path `rest` below `/v2/admin`, unescaped.
pub(crate) fn read<B: Backend>(backend: &B, rest: &[u8]) -> AdminAnswer {
    if rest == b"/config" {
        return config(ClusterConfig::read(backend));
    }
    let (members, leader) = (backend.members(), backend.status().leader);
    if rest == b"/machines" {
        let mut machines: Vec<AdminMember<'_>> = machines(&members)
            .into_iter()
            .map(|(name, peer)| AdminMember::new(name, peer, peer.id == leader))
            .collect();
        machines.sort_by(|one, other| one.name.cmp(&other.name));
        return AdminAnswer::line(&machines);
    }
    let Some(name) = machine(rest) else { return AdminAnswer::not_found() };
    match named(&members, name) {
        Ok(found) => {
            AdminAnswer::line(&found.map(|(name, peer)| AdminMember::new(name, peer, peer.id == leader)))
        }
        Err(ambiguous) => ambiguous,
    }
}

/// Carries out a change and answers it.
pub(crate) async fn change<B: Backend>(backend: &B, change: Authorized<ChangeRequest<'_>>) -> AdminAnswer {
    let ChangeRequest { method, rest, body } = change.into_inner();
    match (method, rest, machine(rest)) {
        (&Method::PUT, b"/config", _) => configure(backend, body).await,
        (&Method::DELETE, _, Some(name)) => remove(backend, name).await,
        _ => AdminAnswer::not_found(),
    }
}

/// The member's name in a path.
fn machine(rest: &[u8]) -> Option<&[u8]> {
    rest.strip_prefix(b"/machines/").filter(|name| !name.is_empty())
}

fn config(config: ClusterConfig) -> AdminAnswer {
    let mut body = config.to_json();
    body.push(b'\n');
    AdminAnswer::json(body)
}

async fn configure<B: Backend>(backend: &B, body: &[u8]) -> AdminAnswer {
    let members = match go_json::first_object(body) {
        Ok(members) => members,
        Err(why) => return AdminAnswer::text(StatusCode::INTERNAL_SERVER_ERROR, &why),
    };
    let wanted = ClusterConfig::read(backend).with(&members);
    match backend.submit(wanted.request()).await {
        Ok(_) => config(wanted),
        Err(SubmitError::Api(error)) => {
            let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
            let mut body = error.to_json();
            body.push(b'\n');
            AdminAnswer { status, content_type: JSON, body }
        }
        Err(error @ SubmitError::Unavailable(_)) => {
            AdminAnswer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}

async fn remove<B: Backend>(backend: &B, name: &[u8]) -> AdminAnswer {
    let members = backend.members();
    let body = match named(&members, name) {
        Ok(None) => Vec::new(),
        Ok(Some((_, peer))) => {
            if let Err(error) = backend.remove_member(peer.id).await {
                return AdminAnswer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
            }
            removed(backend.status().commit)
        }
        Err(ambiguous) => return ambiguous,
    };
    AdminAnswer { status: StatusCode::OK, content_type: if body.is_empty() { "" } else { BINARY }, body }
}

const BINARY: &str = "application/octet-stream";

/// The response to a removal.
fn removed(mut commit: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(REMOVED_BYTES);
    while body.len() + 1 < REMOVED_BYTES && commit >= 0x80 {
        body.push((commit & 0x7f) as u8 | 0x80);
        commit >>= 7;
    }
    body.push((commit & 0x7f) as u8);
    body.resize(REMOVED_BYTES, 0);
    body
}

/// The member that is listed under this name, if any.
///
/// # Errors
/// The response if several members have this name: they are listed under other keys.
fn named<'a>(members: &'a Membership, name: &[u8]) -> Result<Option<(String, &'a MemberInfo)>, AdminAnswer> {
    let (mut listed, same): (Vec<_>, Vec<_>) =
        machines(members).into_iter().partition(|(listed, _)| listed.as_bytes() == name);
    if let Some(found) = listed.pop() {
        return Ok(Some(found));
    }
    let same: Vec<String> =
        same.into_iter().filter(|(_, peer)| peer.name.as_bytes() == name).map(|(listed, _)| listed).collect();
    if same.is_empty() {
        return Ok(None);
    }
    let why = format!("more than one member has this name: take one of {}", same.join(", "));
    Err(AdminAnswer::text(StatusCode::CONFLICT, &why))
}

impl<'a> AdminMember<'a> {
    fn new(name: String, peer: &'a MemberInfo, leads: bool) -> AdminMember<'a> {
        AdminMember {
            name,
            state: if leads { "leader" } else { "follower" },
            client_url: peer.client_urls.first().map_or("", String::as_str),
            peer_url: peer.peer_urls.first().map_or("", String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_index_is_told_in_eight_bytes() {
        assert_eq!(removed(0), [0; 8]);
        assert_eq!(removed(300), [0xac, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(removed(u64::MAX).len(), 8);
    }
}

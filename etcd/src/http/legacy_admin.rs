//! `/v2/admin` of 0.4: the settings of the cluster, and its members by name.
//!
//! 0.4 has it on the peer port; here clients' ports have it too. The settings are kept as 0.4 keeps them, in a hidden
//! key, so that all members and a migrated cluster know them. This server has no standbys: only the remove delay is
//! made use of, and that only where `-remove-dead-members` says so.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use node::member::{Membership, Peer};
use serde::Serialize;
use serde_json::Value;
use shared::store::Store;
use shared::v2;

use super::Context;
use super::auth;
use super::exchange::Asked;
use super::legacy_machines::machines;
use super::reply::{self, Response};
use crate::backend::{Backend, SubmitError};
use crate::go_json::{self, Number, number};

/// Where the settings are in the store.
const CONFIG: &[u8] = b"/1/_etcd/config";

/// Bytes of the answer to a removal: the commit index, as a number of variable length, and zeroes.
const REMOVED_BYTES: usize = 8;

/// The settings that 0.4's clusters agree on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ClusterConfig {
    /// How many members there may be; further ones are standbys.
    active_size: f64,
    /// After how many seconds of silence a member becomes a standby.
    remove_delay: f64,
    /// Seconds between two looks of a standby at the cluster.
    sync_interval: f64,
}

impl Default for ClusterConfig {
    fn default() -> ClusterConfig {
        ClusterConfig { active_size: 9.0, remove_delay: 1800.0, sync_interval: 5.0 }
    }
}

impl ClusterConfig {
    /// The settings with those that `members` names; each at least what makes sense.
    fn with(self, members: &serde_json::Map<String, Value>) -> ClusterConfig {
        let given = |name, otherwise| members.get(name).and_then(Value::as_f64).unwrap_or(otherwise);
        ClusterConfig {
            active_size: given("activeSize", self.active_size).trunc().max(3.0),
            remove_delay: given("removeDelay", self.remove_delay).max(2.0),
            sync_interval: given("syncInterval", self.sync_interval).max(1.0),
        }
    }

    /// The settings in force.
    fn read<B: Backend>(backend: &B) -> ClusterConfig {
        ClusterConfig::of(&backend.store())
    }

    fn of(store: &Store) -> ClusterConfig {
        let event = store.get(CONFIG, false, false).ok();
        let text = event.as_ref().and_then(|event| event.node().value());
        match text.map(go_json::first_object) {
            Some(Ok(members)) => ClusterConfig::default().with(&members),
            _ => ClusterConfig::default(),
        }
    }

    fn to_json(self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Form {
            active_size: Number,
            remove_delay: Number,
            sync_interval: Number,
        }
        let form = Form {
            active_size: number(self.active_size),
            remove_delay: number(self.remove_delay),
            sync_interval: number(self.sync_interval),
        };
        // Numbers can always be written.
        shared::json::to_vec(&form).unwrap_or_default()
    }
}

/// After how long a silence a member is to be removed, as the cluster's settings say.
pub fn remove_delay(store: &Store) -> Duration {
    Duration::try_from_secs_f64(ClusterConfig::of(store).remove_delay).unwrap_or(Duration::MAX)
}

/// A member as these pages show it.
#[derive(Serialize)]
struct Machine<'a> {
    name: String,
    state: &'static str,
    #[serde(rename = "clientURL")]
    client_url: &'a str,
    #[serde(rename = "peerURL")]
    peer_url: &'a str,
}

/// An answer that knows no port yet.
#[derive(Debug, PartialEq, Eq)]
pub struct AdminAnswer {
    /// The status.
    pub status: StatusCode,
    /// Empty for none.
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

    /// A value and the end of a line.
    fn line<T: Serialize>(value: &T) -> AdminAnswer {
        // Strings can always be written.
        let mut body = shared::json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        AdminAnswer::json(body)
    }

    fn text(status: StatusCode, text: &str) -> AdminAnswer {
        AdminAnswer { status, content_type: TEXT, body: format!("{text}\n").into_bytes() }
    }

    /// With auth on the port for other members changes nothing.
    pub(crate) fn wants_root() -> AdminAnswer {
        let why = "auth is on: send this to a client port, as a user with the role root";
        AdminAnswer::text(StatusCode::UNAUTHORIZED, why)
    }

    /// There is no such page.
    pub(crate) fn not_found() -> AdminAnswer {
        AdminAnswer::text(StatusCode::NOT_FOUND, "404 page not found")
    }
}

/// Answers a client. With auth on, what changes the cluster is for `root`.
pub(super) async fn answer_client<B: Backend>(
    context: &Context<B>,
    asked: Asked<'_>,
    mut headers: HeaderMap,
) -> Response {
    let changes = !matches!(*asked.method, Method::GET | Method::HEAD);
    if changes && let Err(denied) = auth::is_root(context, &asked, "/v2/admin").await {
        return auth::refuse(headers, denied);
    }
    let answer = answer(&context.backend, asked.method, asked.rest, &asked.body).await;
    if !answer.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    reply::answer(headers, answer.status, answer.body)
}

/// Answers a request for the path `rest` below `/v2/admin`, unescaped.
pub(crate) async fn answer<B: Backend>(
    backend: &B,
    method: &Method,
    rest: &[u8],
    body: &[u8],
) -> AdminAnswer {
    let machine = rest.strip_prefix(b"/machines/").filter(|name| !name.is_empty());
    // The library leaves the body of an answer to HEAD out.
    let get = Method::GET;
    let method = if *method == Method::HEAD { &get } else { method };
    match (method, rest, machine) {
        (&Method::GET, b"/config", _) => config(ClusterConfig::read(backend)),
        (&Method::PUT, b"/config", _) => configure(backend, body).await,
        (&Method::GET, b"/machines", _) => {
            let (members, leader) = (backend.members(), backend.status().leader);
            let mut machines: Vec<Machine<'_>> = machines(&members)
                .into_iter()
                .map(|(name, peer)| Machine::new(name, peer, peer.id == leader))
                .collect();
            machines.sort_by(|one, other| one.name.cmp(&other.name));
            AdminAnswer::line(&machines)
        }
        (&Method::GET, _, Some(name)) => {
            let (members, leader) = (backend.members(), backend.status().leader);
            match named(&members, name) {
                Ok(found) => {
                    AdminAnswer::line(&found.map(|(name, peer)| Machine::new(name, peer, peer.id == leader)))
                }
                Err(ambiguous) => ambiguous,
            }
        }
        (&Method::DELETE, _, Some(name)) => remove(backend, name).await,
        _ => AdminAnswer::not_found(),
    }
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
    let request = v2::Request {
        verb: v2::Verb::Put,
        path: Bytes::from_static(CONFIG),
        val: wanted.to_json().into(),
        ..v2::Request::default()
    };
    match backend.submit(request).await {
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

/// What tells that a member is removed.
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

/// The member that is listed under this name, none if there is none.
///
/// # Errors
/// The answer where several members have this name: they are listed under others.
fn named<'a>(members: &'a Membership, name: &[u8]) -> Result<Option<(String, &'a Peer)>, AdminAnswer> {
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

impl<'a> Machine<'a> {
    fn new(name: String, peer: &'a Peer, leads: bool) -> Machine<'a> {
        Machine {
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
    fn settings_are_taken_by_their_exact_names_and_held_above_the_least() {
        let with = |text: &str| {
            let members = go_json::first_object(text.as_bytes()).unwrap();
            String::from_utf8(ClusterConfig::default().with(&members).to_json()).unwrap()
        };
        assert_eq!(with("{}"), r#"{"activeSize":9,"removeDelay":1800,"syncInterval":5}"#);
        assert_eq!(
            with(r#"{"activeSize":5.9,"removeDelay":2.5,"ActiveSize":7}"#),
            r#"{"activeSize":5,"removeDelay":2.5,"syncInterval":5}"#
        );
        assert_eq!(
            with(r#"{"activeSize":-1,"removeDelay":0,"syncInterval":0.1}"#),
            r#"{"activeSize":3,"removeDelay":2,"syncInterval":1}"#
        );
        assert_eq!(with(r#"{"activeSize":"5"}"#), r#"{"activeSize":9,"removeDelay":1800,"syncInterval":5}"#);
    }

    #[test]
    fn a_commit_index_is_told_in_eight_bytes() {
        assert_eq!(removed(0), [0; 8]);
        assert_eq!(removed(300), [0xac, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(removed(u64::MAX).len(), 8);
    }
}

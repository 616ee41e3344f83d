//! What etcd 0.1 says otherwise than 0.4 where both have the v1 API: names of actions, errors, times.
//!
//! One thing cannot be had back: its `index` was that of the raft log, here it is the store's, as since 0.2.

use std::borrow::Cow;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use shared::error::{ApiError, Code, client_path};
use shared::event::{Action, Event};
use shared::json;
use shared::time::UnixNanos;

pub(crate) use crate::config::V1Dialect as Dialect;
use crate::transport::reply::{self, Response};

impl Dialect {
    /// What an action is called.
    pub(super) fn action(self, action: Action) -> &'static str {
        match (self, action) {
            (Dialect::Of01, Action::Get) => "GET",
            // An end is one, whatever brought it about.
            (Dialect::Of01, Action::Delete | Action::Expire | Action::CompareAndDelete) => "DELETE",
            (Dialect::Of01, _) => "SET",
            (Dialect::Of04, Action::Create | Action::CompareAndSwap) => "testAndSet",
            (Dialect::Of04, other) => other.name(),
        }
    }

    /// Whether a write was one that made its key, and says so.
    pub(super) fn tells_of_new_key(self, event: &Event) -> bool {
        match self {
            Dialect::Of04 => {
                event.action == Action::Set && event.prev().is_none_or(|prev| prev.value().is_none())
            }
            Dialect::Of01 => event.is_created(),
        }
    }

    /// Whether names that begin with an underscore are in listings.
    pub(super) fn lists_hidden(self) -> bool {
        self == Dialect::Of01
    }

    /// Whether a watch is also about the keys below.
    pub(super) fn watches_below(self) -> bool {
        self == Dialect::Of01
    }

    /// The index that the event of a watch has: its own, or that of the store.
    pub(crate) fn watch_index(self, event: &Event, of_store: impl FnOnce() -> u64) -> u64 {
        match self {
            Dialect::Of01 => event.node().modified_index(),
            Dialect::Of04 => of_store(),
        }
    }

    /// When an event's key goes; 0.1 also tells of a key that is gone when it would have.
    pub(super) fn expiration(self, event: &Event) -> Option<UnixNanos> {
        event.node().expiration().or_else(|| {
            let ends = matches!(event.action, Action::Delete | Action::Expire | Action::CompareAndDelete);
            event.prev().filter(|_| ends && self == Dialect::Of01)?.expiration()
        })
    }

    /// The whole seconds that an event's key has to live, begun ones counted or not.
    pub(super) fn ttl(self, event: &Event, now: UnixNanos) -> i64 {
        match (self, event.action) {
            (Dialect::Of04, _) => event.ttl(now),
            (Dialect::Of01, Action::Get) => {
                event.node().expiration().map_or(0, |expiration| whole_seconds(expiration, now))
            }
            // As of its own moment, however late a watch tells of it. It is later than that of the request.
            (Dialect::Of01, _) => event.ttl(now).saturating_sub(1).max(0),
        }
    }
}

/// The whole seconds until then.
pub(super) fn whole_seconds(until: UnixNanos, now: UnixNanos) -> i64 {
    until.0.saturating_sub(now.0) / 1_000_000_000
}

/// What a request of 0.1 was about: its errors tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestSummary {
    /// `get`, `set` or `delete`.
    pub(crate) verb: &'static str,
    /// The key in the store.
    pub(crate) path: Vec<u8>,
    /// Of a test and set: the value that is wanted.
    pub(crate) wanted: Option<Vec<u8>>,
}

/// An error as 0.1 tells it: status 400 unless it is the cluster's, no index. `value` looks a key's value up.
pub(crate) fn refuse(
    mut headers: HeaderMap,
    error: &ApiError,
    summary: &RequestSummary,
    value: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Form<'a> {
        error_code: u16,
        message: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        cause: Cow<'a, str>,
    }
    let (error_code, message, cause) = describe_error(error, summary, value);
    let status = match error_code {
        110 => StatusCode::UNAUTHORIZED,
        300..400 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    // Strings and numbers can always be written.
    let mut body = json::to_vec(&Form { error_code, message, cause: String::from_utf8_lossy(&cause) })
        .unwrap_or_default();
    body.push(b'\n');
    headers.insert(CONTENT_TYPE, reply::TEXT);
    reply::answer(headers, status, body)
}

/// Number, message and cause.
fn describe_error(
    error: &ApiError,
    summary: &RequestSummary,
    value: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> (u16, &'static str, Vec<u8>) {
    let RequestSummary { verb, path, wanted } = summary;
    let key = match client_path(path) {
        b"" => b"/",
        key => key,
    };
    let about = |verb: &str| [verb.as_bytes(), b": ", key].concat();
    match (error.code, wanted) {
        (Code::KeyNotFound | Code::NotFile, Some(wanted)) if !wanted.is_empty() => {
            let why = b"TestAndSet: key not found and previousValue is not empty ";
            (100, NOT_FOUND, [&why[..], key, b":", wanted, b" "].concat())
        }
        // What is no key cannot be deleted.
        (Code::NotFile | Code::RootReadOnly, None) if *verb == "delete" => (100, NOT_FOUND, about(verb)),
        (Code::KeyNotFound, _) => (100, NOT_FOUND, about(verb)),
        (Code::CompareFailed | Code::NodeExist, wanted) => {
            let (found, wanted) = (value(path).unwrap_or_default(), wanted.as_deref().unwrap_or_default());
            let message = "The given PrevValue is not equal to the value of the key";
            (101, message, [b"TestAndSet: ", &found[..], b"!=", wanted].concat())
        }
        (Code::NotFile | Code::NotDir | Code::RootReadOnly, _) => (102, "Not A File", about(verb)),
        (Code::ClientInternal, _) => (500, "watcher is cleared due to etcd recovery", key.to_vec()),
        _ => (error.code(), error.message(), error.client_cause().to_vec()),
    }
}

const NOT_FOUND: &str = "Key Not Found";

//! The differences between etcd 0.1 and 0.4 in the v1 API: names of actions, errors, times.
//!
//! One difference cannot be reproduced: the `index` of 0.1 was that of the raft log. Here it is the store's, as since
//! 0.2.

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
    /// The name of an action.
    pub(super) fn action(self, action: Action) -> &'static str {
        match (self, action) {
            (Dialect::Of01, Action::Get) => "GET",
            // Every removal of a key has the same name.
            (Dialect::Of01, Action::Delete | Action::Expire | Action::CompareAndDelete) => "DELETE",
            (Dialect::Of01, _) => "SET",
            (Dialect::Of04, Action::Create | Action::CompareAndSwap) => "testAndSet",
            (Dialect::Of04, other) => other.name(),
        }
    }

    /// Whether the response to a write says that the key is new.
    pub(super) fn tells_of_new_key(self, event: &Event) -> bool {
        match self {
            Dialect::Of04 => {
                event.action == Action::Set && event.prev().is_none_or(|prev| prev.value().is_none())
            }
            Dialect::Of01 => event.is_created(),
        }
    }

    /// Whether listings include names that begin with an underscore.
    pub(super) fn lists_hidden(self) -> bool {
        self == Dialect::Of01
    }

    /// Whether a watch includes the keys below.
    pub(super) fn watches_below(self) -> bool {
        self == Dialect::Of01
    }

    /// The index in the response to a watch: that of the event, or that of the store.
    pub(crate) fn watch_index(self, event: &Event, of_store: impl FnOnce() -> u64) -> u64 {
        match self {
            Dialect::Of01 => event.node().modified_index(),
            Dialect::Of04 => of_store(),
        }
    }

    /// The expiration in a response. For a key that was removed, 0.1 has the expiration that the key had.
    pub(super) fn expiration(self, event: &Event) -> Option<UnixNanos> {
        event.node().expiration().or_else(|| {
            let ends = matches!(event.action, Action::Delete | Action::Expire | Action::CompareAndDelete);
            event.prev().filter(|_| ends && self == Dialect::Of01)?.expiration()
        })
    }

    /// The remaining seconds of an event's key, rounded up or down.
    pub(super) fn ttl(self, event: &Event, now: UnixNanos) -> i64 {
        match (self, event.action) {
            (Dialect::Of04, _) => event.ttl(now),
            (Dialect::Of01, Action::Get) => {
                event.node().expiration().map_or(0, |expiration| whole_seconds(expiration, now))
            }
            // Relative to the time of the write, even if a watch gets the event later. The write is applied a moment
            // after its request.
            (Dialect::Of01, _) => event.ttl(now).saturating_sub(1).max(0),
        }
    }
}

/// The whole seconds from `now` to `until`.
pub(super) fn whole_seconds(until: UnixNanos, now: UnixNanos) -> i64 {
    until.0.saturating_sub(now.0) / 1_000_000_000
}

/// The parts of a request that the errors of 0.1 contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestSummary {
    /// `get`, `set` or `delete`.
    pub(crate) verb: &'static str,
    /// The path of the key in the store.
    pub(crate) path: Vec<u8>,
    /// The value that a test-and-set compares with.
    pub(crate) wanted: Option<Vec<u8>>,
}

/// An error in the form of 0.1: status 400, except for errors of the cluster, and no index. `value` returns the value
/// of a key.
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
    // Strings and numbers can always be serialized.
    let mut body = json::to_vec(&Form { error_code, message, cause: String::from_utf8_lossy(&cause) })
        .unwrap_or_default();
    body.push(b'\n');
    headers.insert(CONTENT_TYPE, reply::TEXT);
    reply::answer(headers, status, body)
}

/// The number, the message and the cause of an error.
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
        // A directory is not a key, so it cannot be deleted.
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

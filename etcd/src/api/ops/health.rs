//! `/health`: whether a write would succeed. `/livez` and `/readyz`: the state of the member, check by check, as in
//! etcd 3.x.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, StatusCode};
use shared::id::MemberId;
use shared::v2;
use tokio::time::timeout;

use crate::api::page::Context;
use crate::api::page::PageRequest;
use crate::backend::{Backend, SubmitError};
use crate::transport::reply::{self, Response};

/// How long the log may take for an entry, or a quorum for a response.
const PATIENCE: Duration = Duration::from_millis(750);

/// The most committed entries that a ready member may not have applied yet. With more, the original refuses
/// proposals.
const LAG_MAX: u64 = 5000;

pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    if *request.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let is_healthy = context.backend.status().leader != MemberId(0) && log_moves(context).await;
    context.process_metrics.health_checked(is_healthy);
    if context.backend.level().has_v3() {
        return answer_v3(context, is_healthy, headers);
    }
    if !is_healthy {
        return reply::text_error(headers, StatusCode::SERVICE_UNAVAILABLE, "{\"health\": \"false\"}\n");
    }
    headers.insert(CONTENT_TYPE, reply::TEXT);
    reply::answer(headers, StatusCode::OK, "{\"health\": \"true\"}")
}

/// The answer as 3.5 gives it, with the reason.
fn answer_v3<B: Backend>(context: &Context<B>, is_healthy: bool, mut headers: HeaderMap) -> Response {
    if is_healthy {
        headers.insert(CONTENT_TYPE, reply::TEXT);
        return reply::answer(headers, StatusCode::OK, "{\"health\":\"true\",\"reason\":\"\"}");
    }
    let body = match context.backend.status().leader {
        MemberId(0) => "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n",
        _ => "{\"health\":\"false\",\"reason\":\"QGET ERROR:etcdserver: request timed out\"}\n",
    };
    reply::text_error(headers, StatusCode::SERVICE_UNAVAILABLE, body)
}

/// Whether an entry that changes nothing is applied: it expires keys that had expired by 1970.
async fn log_moves<B: Backend>(context: &Context<B>) -> bool {
    let nothing = v2::Request { verb: v2::Verb::Sync, ..v2::Request::default() };
    matches!(timeout(PATIENCE, context.backend.submit(nothing)).await, Ok(Ok(_)))
}

/// A check of the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// The store can be read.
    SerializableRead,
    /// A quorum read succeeds.
    LinearizableRead,
    /// A leader is known.
    Leader,
    /// An entry is appended to the log, and applied.
    Log,
    /// Nearly all committed entries are applied.
    CaughtUp,
}

impl Check {
    const LIVE: &[Check] = &[Check::SerializableRead];
    const READY: &[Check] =
        &[Check::SerializableRead, Check::Leader, Check::CaughtUp, Check::LinearizableRead, Check::Log];

    fn name(self) -> &'static str {
        match self {
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::Leader => "leader",
            Check::Log => "log",
            Check::CaughtUp => "caught_up",
        }
    }

    /// Runs the check. The error is the reason.
    async fn run<B: Backend>(self, context: &Context<B>) -> Result<(), String> {
        let backend = &context.backend;
        let status = backend.status();
        match self {
            Check::SerializableRead => {
                let _ = backend.store_for_auth().index();
                Ok(())
            }
            Check::Leader if status.leader == MemberId(0) => Err("no leader is known".to_owned()),
            Check::Leader => Ok(()),
            Check::CaughtUp => match status.commit.saturating_sub(status.applied) {
                ..=LAG_MAX => Ok(()),
                lag => Err(format!("{lag} committed entries are not applied yet")),
            },
            Check::LinearizableRead => {
                let read = v2::Request {
                    verb: v2::Verb::QuorumGet,
                    path: Bytes::from_static(b"/0/version"),
                    ..v2::Request::default()
                };
                match timeout(PATIENCE, backend.submit(read)).await {
                    // It is a valid result that the key does not exist.
                    Ok(Ok(_) | Err(SubmitError::Api(_))) => Ok(()),
                    Ok(Err(SubmitError::Unavailable(why))) => Err(why.to_string()),
                    Err(_) => Err(format!("no majority has answered within {PATIENCE:?}")),
                }
            }
            Check::Log if log_moves(context).await => Ok(()),
            Check::Log => Err(format!("no entry was written and agreed on within {PATIENCE:?}")),
        }
    }
}

/// `/livez` and all below it.
pub(crate) async fn answer_live<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    run(context, request, headers, Check::LIVE).await
}

/// `/readyz` and all below it.
pub(crate) async fn answer_ready<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    run(context, request, headers, Check::READY).await
}

async fn run<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    mut headers: HeaderMap,
    checks: &[Check],
) -> Response {
    let one = match request.rest.strip_prefix(b"/") {
        None => None,
        Some(name) => match checks.iter().find(|check| check.name().as_bytes() == name) {
            Some(check) => Some(*check),
            None => return reply::not_found(headers),
        },
    };
    if !matches!(*request.method, Method::GET | Method::HEAD) {
        return reply::method_not_allowed(headers, "GET, HEAD");
    }
    let filter = CheckFilter::of(request.query);
    let mut chosen: Vec<Check> =
        checks.iter().copied().filter(|check| one.is_none_or(|one| one == *check)).collect();
    if one.is_none() {
        chosen.retain(|check| filter.takes(check.name()));
    }
    let mut report = String::new();
    let mut is_healthy = true;
    for check in chosen {
        // Writing to a String cannot fail.
        let _ = match check.run(context).await {
            Ok(()) => writeln!(report, "[+]{} ok", check.name()),
            Err(why) => {
                is_healthy = false;
                writeln!(report, "[-]{} failed: {why}", check.name())
            }
        };
    }
    if is_healthy && !filter.verbose {
        report.clear();
    }
    report.push_str(if is_healthy { "ok\n" } else { "\n" });
    headers.insert(CONTENT_TYPE, reply::TEXT);
    headers.insert(X_CONTENT_TYPE_OPTIONS, reply::NOSNIFF);
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::answer(headers, status, report)
}

/// The parameters of the query: `verbose`, `exclude=CHECK`, `allowlist=CHECK`.
#[derive(Debug, Default)]
struct CheckFilter {
    verbose: bool,
    excluded: BTreeSet<String>,
    allowed: BTreeSet<String>,
}

impl CheckFilter {
    fn of(query: &str) -> CheckFilter {
        let mut filter = CheckFilter::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "verbose" => filter.verbose = true,
                "exclude" => drop(filter.excluded.insert(value.to_owned())),
                "allowlist" => drop(filter.allowed.insert(value.to_owned())),
                _ => {}
            }
        }
        filter
    }

    fn takes(&self, name: &str) -> bool {
        !self.excluded.contains(name) && (self.allowed.is_empty() || self.allowed.contains(name))
    }
}

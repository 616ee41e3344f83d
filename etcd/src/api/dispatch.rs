//! One request and its response: the checks that all pages share, the route, the body.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use shared::error::{ApiError, Code};

use super::dashboard;
use super::ops::{health, metrics_page, pprof, process, stats};
use super::page::keys::Api;
use super::page::{Context, Exchange, PageRequest, PageResult, gate};
use super::route::{Route, area, is_v3};
use super::v1::pages;
use super::v2::{auth, cluster_0_4, keys, locks, members};
use super::v3_page;
use crate::auth::{Access, Accounts, Denied, check_access};
use crate::backend::Backend;
use crate::transport::reply::{self, BadRequest, Response};
use crate::transport::request::{
    BodyError, Expects, Framing, WholeBody, check_head, discard, empty_headers, forbid, read, skip_body,
    with_cors,
};
use crate::transport::{media_type, path};

/// A body up to this length is read before the client is authenticated: so the errors of such a request come in the
/// order of the original.
const SMALL_BODY_BYTES_MAX: u64 = 64 * 1024;

/// Answers a request.
pub(super) async fn answer<B: Backend>(
    exchange: Arc<Exchange<B>>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (mut head, mut body) = request.into_parts();
    exchange.flow.begins(body.size_hint().exact());
    let page = match check_head(&head) {
        Err(bad) => PageResult::Ready(reply::bad_request(empty_headers(&mut head), bad)),
        Ok(()) => page(&exchange, head, &mut body).await,
    };
    // The request's buffers are freed here: while a write waits, the connection's buffer can receive the next
    // request.
    drop(body);
    let mut response = match page {
        PageResult::Ready(response) => response,
        PageResult::Submitted(submission) => submission.finish(&exchange.context).await,
        // The connection is taken over; nothing waits for this response.
        PageResult::TakenOver => std::future::pending().await,
    };
    if !response.body_mut().holds(&exchange.flow) {
        exchange.flow.ends();
    }
    Ok(response)
}

async fn page<B: Backend>(
    exchange: &Arc<Exchange<B>>,
    mut head: Parts,
    body: &mut Incoming,
) -> PageResult<keys::Submission> {
    let context = &*exchange.context;
    let origin = context.browsers.cors.allowed(&head.headers);
    if let Err(forbidden) = context.browsers.check(&head, exchange.encrypted, area) {
        return PageResult::Ready(forbid(&exchange.flow, &forbidden, head, body).await);
    }
    if head.method == Method::OPTIONS {
        let (framing, expects) = (Framing::of(&head), Expects::of(&head.headers));
        let mut headers = with_cors(empty_headers(&mut head), origin);
        discard(&exchange.flow, body, expects, framing, &mut headers).await;
        return PageResult::Ready(reply::empty(headers, StatusCode::OK));
    }
    let Ok(path) = path::unescape(head.uri.path().as_bytes()) else {
        return PageResult::Ready(reply::bad_request(empty_headers(&mut head), BadRequest::Malformed));
    };
    let query = head.uri.query().unwrap_or_default();
    let framing = Framing::of(&head);
    let expects = Expects::of(&head.headers);
    let mut headers = std::mem::take(&mut head.headers);
    let content_type = headers.remove(CONTENT_TYPE);
    let content_type = content_type.as_ref().map_or(&b""[..], |value| value.as_bytes());
    let authorization = if context.backend.auth().is_on() || keys::may_watch(&path, query) || is_v3(&path) {
        headers.remove(AUTHORIZATION)
    } else {
        None
    };
    let known = if dashboard::is_cached(&path) { headers.remove(IF_NONE_MATCH) } else { None };
    headers.clear();
    let mut headers = with_cors(headers, origin);

    if &*path == b"*" {
        reply::close(&mut headers);
        return PageResult::Ready(reply::empty(headers, StatusCode::BAD_REQUEST));
    }
    if expects == Expects::Unknown {
        reply::close(&mut headers);
        return PageResult::Ready(reply::empty(headers, StatusCode::EXPECTATION_FAILED));
    }
    if head.method != Method::CONNECT
        && let Some(clean) = path::cleaned(&path)
    {
        discard(&exchange.flow, body, expects, framing, &mut headers).await;
        return PageResult::Ready(reply::redirect_permanently(
            headers,
            &head.method,
            &clean,
            head.uri.query(),
        ));
    }
    let (route, rest) = Route::of(&path);
    let limit = context.http_server.limits.body_bytes_max;
    // A client that waits for `100 Continue` may be answered without it.
    let waits = expects == Expects::Continue && !exchange.flow.has_body_begun();
    let wants = route.wants_body(&head.method, content_type);
    let method = if route.takes_head() && head.method == Method::HEAD { &GET } else { &head.method };
    let (source, flow, none) = (exchange.source, &*exchange.flow, WholeBody::default());
    let mut request =
        PageRequest { method, rest, query, content_type, authorization, source, flow, body: none, framing };
    // Held as long as the request: while a password is checked, the body waits too.
    let mut _room = None;
    if body.is_end_stream() {
    } else if !wants && (waits || route.changes_nothing(&head.method)) {
        request.framing.keep_alive &= discard(flow, body, expects, framing, &mut headers).await;
    } else {
        // A large body is read only if its client may have the permission.
        if is_large(body)
            && let Err(denied) = Box::pin(admit_body(context, route, &request)).await
        {
            leave_body(exchange, &mut headers);
            return PageResult::Ready(deny(context, route, denied, headers));
        }
        let received = match wants {
            true => read(flow, &context.http_server, body).await,
            false => skip_body(flow, limit, body).await.map(|whole| (whole, None)),
        };
        match received {
            Ok((whole, room)) => {
                context.http_server.turn_to_decode(whole.len()).await;
                (request.body, _room) = (whole, room);
            }
            Err(why) => return PageResult::Ready(refuse_body(exchange, why, route, headers)),
        }
    }
    PageResult::Ready(match route {
        Route::Keys(_) | Route::DashboardKeys => {
            let api = match route {
                Route::Keys(api) => api,
                _ => Api::V2,
            };
            if route == Route::DashboardKeys
                && let Some((status, why)) = dashboard::refuse(context, &request)
            {
                return PageResult::Ready(reply::message(headers, status, why));
            }
            return match keys::begin(exchange, request, headers, api) {
                keys::KeysOutcome::Page(page) => page,
                keys::KeysOutcome::Guarded(guarded) => Box::pin(guarded.pass(exchange)).await,
            };
        }
        Route::DashboardApi => Box::pin(dashboard::answer_api(context, request, headers)).await,
        Route::Dashboard => dashboard::answer(context, &request, known, headers),
        Route::Members => Box::pin(members::answer(context, request, headers)).await,
        Route::Auth(family) => Box::pin(auth::answer_family(context, family, request, headers)).await,
        Route::AuthEnable => Box::pin(auth::answer_switch(context, request, headers)).await,
        Route::Lock | Route::Leader => match Box::pin(locks::admit(context, &request)).await {
            Ok(lock_use) => {
                return locks::begin(exchange, route == Route::Leader, request, headers, lock_use);
            }
            Err(denied) => gate::refuse(headers, denied),
        },
        Route::Admin => Box::pin(cluster_0_4::answer_admin(context, request, headers)).await,
        Route::LeaderUrl => pages::answer_leader(context, &request, headers),
        Route::Peers => pages::answer_peers(context, &request, headers),
        Route::V1StatsSelf => stats::answer_self_v1(context, &request, headers),
        Route::V1StatsLeader => stats::answer_leader_v1(context, &request, headers),
        Route::V1StatsStore => stats::answer_store_v1(context, &request, headers),
        Route::Machines => cluster_0_4::answer_machines(context, &request, headers),
        Route::StatsSelf => stats::answer_self(context, &request, headers),
        Route::StatsLeader => stats::answer_leader(context, &request, headers),
        Route::StatsStore => stats::answer_store(context, &request, headers),
        Route::Version => process::answer_version(context, &request, headers),
        Route::Health => Box::pin(health::answer(context, request, headers)).await,
        Route::Live => Box::pin(health::answer_live(context, request, headers)).await,
        Route::Ready => Box::pin(health::answer_ready(context, request, headers)).await,
        Route::Metrics => Box::pin(metrics_page::answer(context, headers)).await,
        Route::DebugMetrics => Box::pin(metrics_page::answer_debug(context, request, headers)).await,
        Route::Pprof => Box::pin(pprof::answer(context, request, headers)).await,
        Route::DebugVars => Box::pin(process::answer_vars(context, &request, headers)).await,
        Route::LogLevel => Box::pin(process::answer_log_level(context, &request, headers)).await,
        Route::V3 => Box::pin(v3_page::answer(context.v3.as_deref(), request, headers)).await,
        Route::NotFound => reply::not_found(headers),
    })
}

fn refuse_body<B: Backend>(
    exchange: &Exchange<B>,
    why: BodyError,
    route: Route,
    mut headers: HeaderMap,
) -> Response {
    leave_body(exchange, &mut headers);
    let (status, cause) = why.status_and_text();
    match route {
        Route::Keys(Api::V2) => {
            headers.insert(reply::X_ETCD_CLUSTER_ID, exchange.context.cluster_id.clone());
            reply::api_error_as(headers, status, &ApiError::new(Code::InvalidForm, cause, 0))
        }
        _ => reply::message(headers, status, cause),
    }
}

/// The rest of the body is not read: the connection ends with the response.
fn leave_body<B>(exchange: &Exchange<B>, headers: &mut HeaderMap) {
    exchange.flow.leaves_unread();
    reply::close(headers);
}

/// Whether a body is, or may be, so large that the client is checked before it is read. For smaller bodies the page
/// decides in its own order.
fn is_large(body: &Incoming) -> bool {
    body.size_hint().exact().is_none_or(|bytes| bytes > SMALL_BODY_BYTES_MAX)
}

/// Whether the client of such a request could have the permission, whatever the body says. The page checks that
/// later.
async fn admit_body<B: Backend>(
    context: &Context<B>,
    route: Route,
    request: &PageRequest<'_>,
) -> Result<(), Denied> {
    if !context.backend.auth().is_on() {
        return Ok(());
    }
    match route {
        Route::Keys(_) | Route::DashboardKeys => {
            let accounts = Accounts::new(&context.auth, &context.backend, request.caller());
            // A watch of v1 comes by POST.
            let writes = route != Route::Keys(Api::V1Watch);
            check_access(&accounts, Access { key: request.rest, writes, recursive: false }).await
        }
        Route::Lock | Route::Leader => locks::admit(context, request).await.map(drop),
        _ => gate::is_root(context, request, "a request with a large body").await,
    }
}

/// The response to a client without the permission.
fn deny<B>(context: &Context<B>, route: Route, denied: Denied, mut headers: HeaderMap) -> Response {
    match route {
        Route::Keys(api) => {
            if api == Api::V2 {
                headers.insert(reply::X_ETCD_CLUSTER_ID, context.cluster_id.clone());
            }
            gate::refuse_key(headers, denied)
        }
        Route::DashboardKeys => gate::refuse_key(headers, denied),
        _ => gate::refuse(headers, denied),
    }
}

/// The method that pages see for `HEAD`.
static GET: Method = Method::GET;

impl Route {
    /// Whether the page answers `HEAD` like `GET`, without the body, and does not see the difference. Other pages
    /// distinguish the two; `/version`, `/v2/members` and `/v2/stats` respond with 405, as the original does.
    fn takes_head(self) -> bool {
        matches!(
            self,
            Route::Auth(_)
                | Route::AuthEnable
                | Route::Admin
                | Route::Lock
                | Route::Leader
                | Route::Health
                | Route::DebugVars
        )
    }

    /// Whether the page changes nothing for such a request, so that it may be answered before its body has arrived.
    fn changes_nothing(self, method: &Method) -> bool {
        if matches!(*method, Method::GET | Method::HEAD) {
            return true;
        }
        match self {
            Route::Keys(_)
            | Route::Members
            | Route::Auth(_)
            | Route::AuthEnable
            | Route::Admin
            | Route::Lock
            | Route::Leader
            | Route::DashboardKeys
            | Route::LogLevel
            | Route::V3 => false,
            Route::LeaderUrl
            | Route::Peers
            | Route::V1StatsSelf
            | Route::V1StatsLeader
            | Route::V1StatsStore
            | Route::Machines
            | Route::StatsSelf
            | Route::StatsLeader
            | Route::StatsStore
            | Route::Dashboard
            | Route::DashboardApi
            | Route::Version
            | Route::Health
            | Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::DebugMetrics
            | Route::Pprof
            | Route::DebugVars
            | Route::NotFound => true,
        }
    }

    /// Whether the page reads the body of such a request.
    fn wants_body(self, method: &Method, content_type: &[u8]) -> bool {
        match self {
            Route::Keys(_) | Route::DashboardKeys | Route::Lock | Route::Leader => {
                matches!(*method, Method::PUT | Method::POST) && media_type::is_form(content_type) == Ok(true)
            }
            Route::Members => {
                matches!(*method, Method::PUT | Method::POST) && media_type::is_json(content_type)
            }
            Route::LogLevel | Route::Auth(_) | Route::Admin => *method == Method::PUT,
            Route::Pprof => pprof::wants_body(method),
            Route::V3 => *method == Method::POST,
            _ => false,
        }
    }
}

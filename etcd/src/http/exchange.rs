//! One request and its answer: the checks that all pages share, the route, the body.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, EXPECT, HOST, IF_NONE_MATCH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use shared::error::{ApiError, Code};

use super::bodies::{Bodies, Room};
use super::browsers::Forbidden;
use super::flow::Flow;
use super::keys::Api;
use super::reply::{self, BadRequest, Response};
use super::route::Route;
use super::site::Wire;
use super::{
    Context, admin, auth, cors, dashboard, debug_vars, health, keys, legacy_pages, log_level, machines,
    media_type, members, metrics_page, modules,
};
use super::{path, pprof, stats, version};
use crate::auth::{Access, Accounts, Caller, Denied, may};
use crate::backend::Backend;

/// A body up to this length is read before it is known who sends it: the answers to such a request come in the order of
/// the original.
const SMALL_BODY_BYTES_MAX: u64 = 64 * 1024;

/// How much of a body that nobody wants is read, so that the connection can go on.
const UNWANTED_BYTES_MAX: u64 = 256 * 1024;

/// What a connection's requests share.
pub(crate) struct Exchange<B> {
    pub(super) context: Arc<Context<B>>,
    pub(super) flow: Arc<Flow>,
    /// Where the client is, if that can be told.
    pub(super) source: Option<IpAddr>,
    /// The connection is one by TLS.
    pub(super) encrypted: bool,
}

/// Answers a request.
pub(super) async fn answer<B: Backend>(
    exchange: Arc<Exchange<B>>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (mut head, mut body) = request.into_parts();
    exchange.flow.begins(body.size_hint().exact());
    let page = match check(&head) {
        Err(bad) => Page::Ready(reply::bad_request(blank(&mut head), bad)),
        Ok(()) => page(&exchange, head, &mut body).await,
    };
    // Nothing of the request is left: while a write waits, the connection's buffer is free for what comes.
    drop(body);
    let mut response = match page {
        Page::Ready(response) => response,
        Page::Submitted(submission) => submission.finish(&exchange.context).await,
        // The connection takes over; the answer is never missed.
        Page::Watched => std::future::pending().await,
    };
    if !response.body_mut().holds(&exchange.flow) {
        exchange.flow.ends();
    }
    Ok(response)
}

/// What a request has come to.
pub(super) enum Page {
    /// Its answer.
    Ready(Response),
    /// Something for the log.
    Submitted(keys::Submission),
    /// A watch or a wait, which the connection has by now.
    Watched,
}

/// What Go's server demands of a request's head before it looks at anything else.
pub(crate) fn check(head: &Parts) -> Result<(), BadRequest> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version >= Version::HTTP_11 && head.method != Method::CONNECT => {
            return Err(BadRequest::HostMissing);
        }
        (_, Some(_)) => return Err(BadRequest::Malformed),
        (Some(host), None) if !host.as_bytes().iter().all(|byte| is_host_byte(*byte)) => {
            return Err(BadRequest::HostMalformed);
        }
        _ => {}
    }
    if !is_chunked_alone(&head.headers) {
        return Err(BadRequest::TransferEncoding);
    }
    // A target without a slash, which the library takes for a host.
    if head.uri.path_and_query().is_none() && head.method != Method::CONNECT {
        return Err(BadRequest::Malformed);
    }
    Ok(())
}

/// Whether a body comes in no other coding than chunks, named once. Anything else means different bodies to different
/// servers, which is how requests are smuggled past a proxy.
pub(crate) fn is_chunked_alone(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a host may have this byte in it.
pub(super) fn is_host_byte(byte: u8) -> bool {
    const KNOWN: [bool; 256] = {
        let mut known = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            known[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let mut rest: &[u8] = b"!$%&()*+,-.:;=[]'_~";
        while let [byte, after @ ..] = rest {
            known[*byte as usize] = true;
            rest = after;
        }
        known
    };
    KNOWN[usize::from(byte)]
}

/// The header map of the request, empty: the answer's headers go into it.
pub(crate) fn blank(head: &mut Parts) -> HeaderMap {
    let mut headers = std::mem::take(&mut head.headers);
    headers.clear();
    headers
}

/// A request whose head is checked, as the pages see it.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    /// The path, unescaped, below the page's own prefix.
    pub(super) rest: &'a [u8],
    pub(super) query: &'a str,
    /// The `Content-Type`, empty for none.
    pub(super) content_type: &'a [u8],
    /// The `Authorization`, if auth is on, or if it may be by the time that it matters.
    pub(super) authorization: Option<HeaderValue>,
    /// Where the client is, if that can be told.
    pub(super) source: Option<IpAddr>,
    /// The connection that the request came on.
    pub(super) flow: &'a Flow,
    pub(super) body: Whole,
    pub(super) framing: Framing,
}

impl Asked<'_> {
    /// Who sends it.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            authorization: self.authorization.as_ref(),
            source: self.source,
            connection: Some(self.flow.client()),
        }
    }
}

/// The body of a request that arrived whole: no page ever sees a part of one.
///
/// **Invariant:** made in this file only: by reading a body to its end, or for a request that has none. A request
/// that cannot change anything may have its body left unread; then this is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Whole(Bytes);

impl Whole {
    /// The bytes, for a proxy to send on.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A body that a test made up.
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Whole {
        Whole(Bytes::copy_from_slice(bytes))
    }
}

impl std::ops::Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// What an answer without a known length may look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    /// The client knows chunks.
    pub(super) chunked: bool,
    /// It may send another request when it has the answer.
    pub(super) keep_alive: bool,
    /// It wants the answer's headers only.
    pub(super) head: bool,
}

impl Framing {
    /// What a request with this head allows.
    pub(crate) fn of(head: &Parts) -> Framing {
        Framing {
            chunked: head.version >= Version::HTTP_11,
            keep_alive: !asks_to_close(&head.headers),
            head: head.method == Method::HEAD,
        }
    }
}

async fn page<B: Backend>(exchange: &Arc<Exchange<B>>, mut head: Parts, body: &mut Incoming) -> Page {
    let context = &*exchange.context;
    let origin = context.browsers.cors.allowed(&head.headers);
    if let Err(forbidden) = context.browsers.check(&head, exchange.encrypted) {
        return Page::Ready(forbid(&exchange.flow, &forbidden, head, body).await);
    }
    if head.method == Method::OPTIONS {
        let (framing, expects) = (Framing::of(&head), Expects::of(&head.headers));
        let mut headers = allowing(blank(&mut head), origin);
        discard(&exchange.flow, body, expects, framing, &mut headers).await;
        return Page::Ready(reply::empty(headers, StatusCode::OK));
    }
    let Ok(path) = path::unescape(head.uri.path().as_bytes()) else {
        return Page::Ready(reply::bad_request(blank(&mut head), BadRequest::Malformed));
    };
    let query = head.uri.query().unwrap_or_default();
    let framing = Framing::of(&head);
    let expects = Expects::of(&head.headers);
    let mut headers = std::mem::take(&mut head.headers);
    let content_type = headers.remove(CONTENT_TYPE);
    let content_type = content_type.as_ref().map_or(&b""[..], |value| value.as_bytes());
    let authorization = if context.backend.auth().is_on() || keys::may_watch(&path, query) {
        headers.remove(AUTHORIZATION)
    } else {
        None
    };
    let known = if dashboard::is_cached(&path) { headers.remove(IF_NONE_MATCH) } else { None };
    headers.clear();
    let mut headers = allowing(headers, origin);

    if &*path == b"*" {
        reply::close(&mut headers);
        return Page::Ready(reply::empty(headers, StatusCode::BAD_REQUEST));
    }
    if expects == Expects::Else {
        reply::close(&mut headers);
        return Page::Ready(reply::empty(headers, StatusCode::EXPECTATION_FAILED));
    }
    if head.method != Method::CONNECT
        && let Some(clean) = path::cleaned(&path)
    {
        discard(&exchange.flow, body, expects, framing, &mut headers).await;
        return Page::Ready(reply::moved(headers, &head.method, &clean, head.uri.query()));
    }
    let (route, rest) = Route::of(&path);
    let limit = context.wire.limits.body_bytes_max;
    // A client that waits for leave to send its body is answered without being asked for it.
    let waits = expects == Expects::Continue && !exchange.flow.has_body_begun();
    let wants = route.wants_body(&head.method, content_type);
    let method = if route.takes_head() && head.method == Method::HEAD { &GET } else { &head.method };
    let (source, flow, none) = (exchange.source, &*exchange.flow, Whole::default());
    let mut asked =
        Asked { method, rest, query, content_type, authorization, source, flow, body: none, framing };
    // It goes with the request: while a password is checked, the body waits too.
    let mut _room = None;
    if body.is_end_stream() {
    } else if !wants && (waits || route.changes_nothing(&head.method)) {
        asked.framing.keep_alive &= discard(flow, body, expects, framing, &mut headers).await;
    } else {
        // A stranger's large body is not taken in.
        if is_large(body)
            && let Err(denied) = Box::pin(admit_body(context, route, &asked)).await
        {
            leave_body(exchange, &mut headers);
            return Page::Ready(deny(context, route, denied, headers));
        }
        let received = match wants {
            true => read(flow, &context.wire, body).await,
            false => read_over(flow, limit, body).await.map(|whole| (whole, None)),
        };
        match received {
            Ok((whole, room)) => (asked.body, _room) = (whole, room),
            Err(why) => return Page::Ready(refuse_body(exchange, why, route, headers)),
        }
    }
    Page::Ready(match route {
        Route::Keys(_) | Route::DashboardKeys => {
            let api = match route {
                Route::Keys(api) => api,
                _ => Api::V2,
            };
            if route == Route::DashboardKeys
                && let Some((status, why)) = dashboard::refuse(context, &asked)
            {
                return Page::Ready(reply::message(headers, status, why));
            }
            return match keys::begin(exchange, asked, headers, api) {
                keys::Begun::Page(page) => page,
                keys::Begun::Guarded(guarded) => Box::pin(guarded.pass(exchange)).await,
            };
        }
        Route::DashboardApi => Box::pin(dashboard::answer_api(context, asked, headers)).await,
        Route::Dashboard => dashboard::answer(context, &asked, known, headers),
        Route::Members => Box::pin(members::answer(context, asked, headers)).await,
        Route::Auth(family) => Box::pin(auth::answer_family(context, family, asked, headers)).await,
        Route::AuthEnable => Box::pin(auth::answer_switch(context, asked, headers)).await,
        Route::Lock | Route::Leader => match Box::pin(modules::may(context, &asked)).await {
            Ok(pass) => return modules::begin(exchange, route, asked, headers, pass),
            Err(denied) => auth::refuse(headers, denied),
        },
        Route::Admin => Box::pin(admin::answer(context, asked, headers)).await,
        Route::LeaderUrl => legacy_pages::answer_leader(context, &asked, headers),
        Route::Peers => legacy_pages::answer_peers(context, &asked, headers),
        Route::V1StatsSelf => stats::answer_self_v1(context, &asked, headers),
        Route::V1StatsLeader => stats::answer_leader_v1(context, &asked, headers),
        Route::V1StatsStore => stats::answer_store_v1(context, &asked, headers),
        Route::Machines => machines::answer(context, &asked, headers),
        Route::StatsSelf => stats::answer_self(context, &asked, headers),
        Route::StatsLeader => stats::answer_leader(context, &asked, headers),
        Route::StatsStore => stats::answer_store(context, &asked, headers),
        Route::Version => version::answer(context, &asked, headers),
        Route::Health => Box::pin(health::answer(context, asked, headers)).await,
        Route::Live => Box::pin(health::answer_live(context, asked, headers)).await,
        Route::Ready => Box::pin(health::answer_ready(context, asked, headers)).await,
        Route::Metrics => Box::pin(metrics_page::answer(context, headers)).await,
        Route::DebugMetrics => Box::pin(metrics_page::answer_debug(context, asked, headers)).await,
        Route::Pprof => Box::pin(pprof::answer(context, asked, headers)).await,
        Route::DebugVars => Box::pin(debug_vars::answer(context, &asked, headers)).await,
        Route::LogLevel => Box::pin(log_level::answer(context, &asked, headers)).await,
        Route::Nowhere => reply::not_found(headers),
    })
}

/// Refuses a request of a page in a browser.
pub(crate) async fn forbid(
    flow: &Flow,
    forbidden: &Forbidden,
    mut head: Parts,
    body: &mut Incoming,
) -> Response {
    let (framing, expects) = (Framing::of(&head), Expects::of(&head.headers));
    let mut headers = blank(&mut head);
    discard(flow, body, expects, framing, &mut headers).await;
    forbidden.response(headers)
}

/// `headers` and those that let `origin` read the answer.
pub(crate) fn allowing(mut headers: HeaderMap, origin: Option<http::HeaderValue>) -> HeaderMap {
    if let Some(origin) = origin {
        cors::allow(origin, &mut headers);
    }
    headers
}

fn asks_to_close(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

/// What a client waits for before it sends its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expects {
    Nothing,
    /// `100 Continue`, which the library sends once the body is read.
    Continue,
    /// Something that we do not know.
    Else,
}

impl Expects {
    /// What a request with these headers says.
    pub(crate) fn of(headers: &HeaderMap) -> Expects {
        match headers.get(EXPECT) {
            None => Expects::Nothing,
            Some(expect) if expect.as_bytes().eq_ignore_ascii_case(b"100-continue") => Expects::Continue,
            Some(_) => Expects::Else,
        }
    }
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    /// The client went away, or its framing is broken.
    Broken,
    /// Others take all that may be taken at a time.
    NoRoom,
}

impl BodyError {
    /// The status and the words for the client.
    pub(crate) fn tell(self) -> (StatusCode, &'static str) {
        match self {
            BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
            BodyError::Broken => (StatusCode::BAD_REQUEST, "unexpected EOF"),
            BodyError::NoRoom => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many large requests at the same time, try again later")
            }
        }
    }
}

/// Reads a body of at most as many bytes as there may be. What comes with it is to be kept for as long as the body.
pub(crate) async fn read(
    flow: &Flow,
    wire: &Wire,
    body: &mut Incoming,
) -> Result<(Whole, Option<Room>), BodyError> {
    flow.reads_body(true);
    let mut room = None;
    let read = read_up_to(wire.body_bytes_max(), wire.bodies(), &mut room, body).await;
    flow.reads_body(false);
    Ok((Whole(read?), room))
}

/// Reads a body of at most `limit` bytes that no page wants: only its end counts. Without the end the request is
/// not whole, and nothing may be done for it.
async fn read_over(flow: &Flow, limit: usize, body: &mut Incoming) -> Result<Whole, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    flow.reads_body(true);
    let mut length = 0;
    let read = loop {
        match body.frame().await {
            None => break Ok(Whole::default()),
            Some(Err(_)) => break Err(BodyError::Broken),
            Some(Ok(frame)) => length += frame.data_ref().map_or(0, Bytes::len),
        }
        if length > limit {
            break Err(BodyError::TooLarge);
        }
    };
    flow.reads_body(false);
    read
}

async fn read_up_to(
    limit: usize,
    bodies: &Bodies,
    room: &mut Option<Room>,
    body: &mut Incoming,
) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    let mut incomer = bodies.incomer();
    // Of a body whose length was announced the last byte is its end.
    while !body.is_end_stream()
        && let Some(frame) = incomer.next(body, room.as_ref()).await.ok_or(BodyError::NoRoom)?
    {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if first.len().max(whole.len()) + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        if first.is_empty() && whole.is_empty() {
            // Most bodies come in one piece, which need not be copied.
            first = data;
        } else {
            // What really came counts, not what is announced: memory is taken as it is written to.
            let bytes = first.len().max(whole.len()) + data.len();
            if !incomer.take(room, bytes, data.len()).await {
                return Err(BodyError::NoRoom);
            }
            if whole.is_empty() {
                whole.reserve(announced.max(bytes));
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

/// Reads a body that nobody wants. Whether the connection can go on; else the answer says that it ends.
pub(crate) async fn discard(
    flow: &Flow,
    body: &mut Incoming,
    expects: Expects,
    framing: Framing,
    headers: &mut HeaderMap,
) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let mut left = UNWANTED_BYTES_MAX;
    // A client that waits for leave to send its body is not asked for it, nor one that goes anyway.
    if framing.keep_alive && expects == Expects::Nothing && body.size_hint().lower() <= left {
        flow.reads_body(true);
        let ended = loop {
            // Of a body in chunks only its end tells that it is one.
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => break false,
                None => break true,
            };
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(bytes) {
                Some(less) => left = less,
                None => break body.is_end_stream(),
            }
        };
        flow.reads_body(false);
        if ended {
            return true;
        }
    }
    flow.leaves_unread();
    reply::close(headers);
    false
}

fn refuse_body<B: Backend>(
    exchange: &Exchange<B>,
    why: BodyError,
    route: Route,
    mut headers: HeaderMap,
) -> Response {
    leave_body(exchange, &mut headers);
    let (status, cause) = why.tell();
    match route {
        Route::Keys(Api::V2) => {
            headers.insert(reply::X_ETCD_CLUSTER_ID, exchange.context.cluster_id.clone());
            reply::api_error_as(headers, status, &ApiError::new(Code::InvalidForm, cause, 0))
        }
        _ => reply::message(headers, status, cause),
    }
}

/// The rest of the body is not read: the connection ends with the answer.
fn leave_body<B>(exchange: &Exchange<B>, headers: &mut HeaderMap) {
    exchange.flow.leaves_unread();
    reply::close(headers);
}

/// Whether a body is, or may be, so large that its sender is looked at before it is read. Of smaller ones the page
/// decides in its own order.
fn is_large(body: &Incoming) -> bool {
    body.size_hint().exact().is_none_or(|bytes| bytes > SMALL_BODY_BYTES_MAX)
}

/// Whether somebody who sends such a request could have a right to it, whatever is in its body. That the page checks.
async fn admit_body<B: Backend>(context: &Context<B>, route: Route, asked: &Asked<'_>) -> Result<(), Denied> {
    if !context.backend.auth().is_on() {
        return Ok(());
    }
    match route {
        Route::Keys(_) | Route::DashboardKeys => {
            let accounts = Accounts::new(&context.auth, &context.backend, asked.caller());
            // A watch of v1 comes by POST.
            let writes = route != Route::Keys(Api::V1Watch);
            may(&accounts, Access { key: asked.rest, writes, recursive: false }).await
        }
        Route::Lock | Route::Leader => modules::may(context, asked).await.map(drop),
        _ => auth::is_root(context, asked, "a request with a large body").await,
    }
}

/// The answer to those who have no right to what they ask.
fn deny<B>(context: &Context<B>, route: Route, denied: Denied, mut headers: HeaderMap) -> Response {
    match route {
        Route::Keys(api) => {
            if api == Api::V2 {
                headers.insert(reply::X_ETCD_CLUSTER_ID, context.cluster_id.clone());
            }
            auth::refuse_key(headers, denied)
        }
        Route::DashboardKeys => auth::refuse_key(headers, denied),
        _ => auth::refuse(headers, denied),
    }
}

/// What pages that answer `HEAD` are told instead.
static GET: Method = Method::GET;

impl Route {
    /// Whether the page answers `HEAD` as `GET`, only without a body, and knows nothing of it. The others tell the two
    /// apart themselves; of them `/version`, `/v2/members` and `/v2/stats` answer 405 as the original does.
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

    /// Whether the page changes nothing for such a request, so that it may be answered before its body has come.
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
            | Route::LogLevel => false,
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
            | Route::Nowhere => true,
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
            _ => false,
        }
    }
}

//! `/v2/keys`: reads, watches and writes.

use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use shared::error::{ApiError, Code};
use shared::event::Event;
use shared::time::UnixNanos;
use shared::v2::{self, Verb};

use super::cluster_0_4::machine_keys;
use crate::api::page::Context;
use crate::api::page::counters::RequestKind;
use crate::api::page::gate;
use crate::api::page::keys::{Api, KeysRequest, NEVER, check_depth, expiration, refusal, store_path};
use crate::api::page::{Exchange, PageRequest, PageResult};
use crate::api::v1::dialect::{self, Dialect, RequestSummary};
use crate::api::v1::keys as v1;
use crate::auth::{self, Access, Accounts, Authorized, Caller, Denied, Restricted};
use crate::backend::{Backend, SubmitError};
use crate::log;
use crate::transport::form::{Form, Param, parse_bool, parse_u64};
use crate::transport::media_type;
use crate::transport::progress::ProgressInterval;
use crate::transport::reply::{self, Response};
use crate::transport::request::Framing;
use crate::transport::watch::{Watch, WatchPermission};

/// The approximate size of a response, without the value and twice the key.
const ANSWER_BYTES: usize = 256;

/// Checks that a request cannot create a key with too many levels.
fn checked(request: KeysRequest, levels_max: usize) -> Result<KeysRequest, ApiError> {
    if let KeysRequest::Write(write) = &request {
        check_depth(write, levels_max)?;
    }
    Ok(request)
}

/// Parses a request. `rest` is the path below `/v2/keys`, unescaped.
pub(crate) fn parse(
    method: &Method,
    rest: &[u8],
    query: &[u8],
    content_type: &[u8],
    body: &[u8],
    now: UnixNanos,
) -> Result<KeysRequest, ApiError> {
    let form = form(method, query, content_type, body)?;
    let prev_index = number(&form, Param::PrevIndex, Code::IndexNaN, "invalid value for \"prevIndex\"")?;
    let since = number(&form, Param::WaitIndex, Code::IndexNaN, "invalid value for \"waitIndex\"")?;
    let recursive = switch(&form, Param::Recursive, "invalid value for \"recursive\"")?.unwrap_or(false);
    let sorted = switch(&form, Param::Sorted, "invalid value for \"sorted\"")?.unwrap_or(false);
    let wait = switch(&form, Param::Wait, "invalid value for \"wait\"")?.unwrap_or(false);
    let dir = switch(&form, Param::Dir, "invalid value for \"dir\"")?.unwrap_or(false);
    let quorum = switch(&form, Param::Quorum, "invalid value for \"quorum\"")?.unwrap_or(false);
    let stream = switch(&form, Param::Stream, "invalid value for \"stream\"")?.unwrap_or(false);
    if wait && *method != Method::GET {
        return Err(refusal(Code::InvalidField, "\"wait\" can only be used with GET requests"));
    }
    let prev_value = form.get(Param::PrevValue);
    if prev_value.is_some_and(<[u8]>::is_empty) {
        return Err(refusal(Code::PrevValueRequired, "\"prevValue\" cannot be empty"));
    }
    let ttl = match form.get(Param::Ttl) {
        None | Some(b"") => None,
        Some(_) => Some(number(&form, Param::Ttl, Code::TtlNaN, "invalid value for \"ttl\"")?),
    };
    let prev_exist = switch(&form, Param::PrevExist, "invalid value for prevExist")?;
    let refresh = switch(&form, Param::Refresh, "invalid value for refresh")?;
    let value = form.get(Param::Value).unwrap_or_default();
    if refresh == Some(true) {
        if !value.is_empty() {
            return Err(refusal(Code::RefreshValue, "A value was provided on a refresh"));
        }
        if ttl.is_none() {
            return Err(refusal(Code::RefreshTtlRequired, "No TTL value set"));
        }
    }

    let path = store_path(rest);
    let verb = match *method {
        // A quorum read does not wait, whatever the other parameters say.
        Method::GET if quorum => Verb::QuorumGet,
        Method::GET if wait => {
            let progress = ProgressInterval::from_query(query)
                .map_err(|()| refusal(Code::InvalidField, "invalid value for \"progress\""))?;
            return Ok(KeysRequest::Watch { path, recursive, stream, since, progress });
        }
        Method::GET | Method::HEAD => return Ok(KeysRequest::Read { path, recursive, sorted }),
        Method::PUT => Verb::Put,
        Method::POST => Verb::Post,
        _ => Verb::Delete,
    };
    Ok(KeysRequest::Write(v2::Request {
        id: 0,
        verb,
        path: path.into(),
        // Copied: the value may live long, and the buffer that it arrived in is many times larger.
        val: Bytes::copy_from_slice(value),
        dir,
        prev_value: Bytes::copy_from_slice(prev_value.unwrap_or_default()),
        prev_index,
        prev_exist,
        expiration: ttl.map_or(NEVER, |seconds| expiration(now, seconds)),
        wait,
        since,
        recursive,
        sorted,
        quorum,
        time: 0,
        stream,
        refresh,
    }))
}

/// The same for v1.
fn parse_v1(
    api: Api,
    dialect: Dialect,
    page_request: &PageRequest<'_>,
    now: UnixNanos,
) -> Result<KeysRequest, ApiError> {
    let path = store_path(page_request.rest);
    let form = Form::parse_what_can_be(&page_request.body, page_request.query.as_bytes());
    match (api, page_request.method) {
        (Api::V1Watch, method) => v1::watch(method, path, &form, dialect),
        (_, &Method::GET | &Method::HEAD) => Ok(KeysRequest::Read { path, recursive: false, sorted: false }),
        (_, &Method::DELETE) => Ok(KeysRequest::Write(v1::delete(path))),
        _ => v1::set(path, &form, now).map(KeysRequest::Write),
    }
}

fn form<'a>(
    method: &Method,
    query: &'a [u8],
    content_type: &[u8],
    body: &'a [u8],
) -> Result<Form<'a>, ApiError> {
    let mut in_body: &[u8] = b"";
    if matches!(*method, Method::PUT | Method::POST) {
        match media_type::is_form(content_type) {
            Ok(true) => in_body = body,
            Ok(false) => {}
            Err(why) => return Err(refusal(Code::InvalidForm, why)),
        }
    }
    Form::parse(in_body, query).map_err(|error| refusal(Code::InvalidForm, &error.to_string()))
}

/// Whether a request with this path and query could be a watch.
pub(crate) fn may_watch(path: &[u8], query: &str) -> bool {
    path.starts_with(b"/v1/watch") || memchr::memmem::find(query.as_bytes(), b"wait").is_some()
}

fn number(form: &Form<'_>, param: Param, code: Code, cause: &str) -> Result<u64, ApiError> {
    match form.get(param) {
        None => Ok(0),
        Some(text) => parse_u64(text).ok_or_else(|| refusal(code, cause)),
    }
}

fn switch(form: &Form<'_>, param: Param, cause: &str) -> Result<Option<bool>, ApiError> {
    match form.get(param) {
        None => Ok(None),
        Some(text) => parse_bool(text).map(Some).ok_or_else(|| refusal(Code::InvalidField, cause)),
    }
}

/// The result of a request for keys.
#[expect(clippy::large_enum_variant, reason = "handed to the caller once; most requests need no allocation")]
pub(crate) enum KeysOutcome {
    /// It is answered, or submitted.
    Page(PageResult<Submission>),
    /// The client's permission has to be checked first.
    Guarded(Box<GuardedRequest>),
}

/// Answers a request for keys, submits it, or returns it for a permission check.
pub(crate) fn begin<B: Backend>(
    exchange: &Exchange<B>,
    page_request: PageRequest<'_>,
    mut headers: HeaderMap,
    api: Api,
) -> KeysOutcome {
    let context = &*exchange.context;
    if !api.knows(page_request.method) {
        return KeysOutcome::Page(PageResult::Ready(match api {
            Api::V2 => reply::method_not_allowed(headers, "HEAD,GET,PUT,POST,DELETE"),
            Api::V1Keys | Api::V1Watch => reply::not_found(headers),
        }));
    }
    if api == Api::V2 {
        headers.insert(reply::X_ETCD_CLUSTER_ID, context.cluster_id.clone());
    }
    let began = Instant::now();
    let now = context.backend.clock();
    let (method, query, body) = (page_request.method, page_request.query.as_bytes(), &page_request.body);
    let levels_max = context.http_server.limits.key_levels_max;
    let parsed = match api {
        Api::V2 => parse(method, page_request.rest, query, page_request.content_type, body, now)
            .and_then(|request| checked(request, levels_max)),
        Api::V1Keys | Api::V1Watch => parse_v1(api, context.v1_dialect, &page_request, now)
            .and_then(|request| checked(request, levels_max))
            .map_err(|error| ApiError { index: context.backend.store().index(), ..error }),
    };
    let request = match parsed {
        Ok(request) => request,
        Err(error) => {
            let summary = summarize(context, api, &page_request, None);
            return KeysOutcome::Page(PageResult::Ready(refuse(
                context,
                headers,
                &error,
                summary.as_deref(),
            )));
        }
    };
    let summary = summarize(context, api, &page_request, Some(&request));
    let counted = match &request {
        KeysRequest::Write(request) => RequestKind::of(request.verb),
        _ if *method == Method::HEAD => RequestKind::Head,
        _ => RequestKind::Get,
    };
    // Read before anything that the generation covers.
    let generation = context.backend.auth_generation().get();
    let permission = match &request {
        KeysRequest::Watch { recursive, .. } => Some(WatchPermission::new(
            page_request.rest,
            *recursive,
            page_request.authorization.as_ref(),
            generation,
        )),
        _ => None,
    };
    let parsed = ParsedRequest {
        request,
        headers,
        counted,
        began,
        now,
        framing: page_request.framing,
        api,
        summary,
        permission,
    };
    match Authorized::while_off(context.backend.auth_counted(), parsed) {
        Ok(parsed) => KeysOutcome::Page(carry_out(parsed, exchange)),
        Err(parsed) => {
            let (key, writes) = (page_request.rest.to_vec(), api.writes(page_request.method));
            let wanted = RestrictedRequest { parsed, key, writes };
            KeysOutcome::Guarded(Box::new(GuardedRequest {
                wanted,
                authorization: page_request.authorization,
            }))
        }
    }
}

/// The parts of a request that the errors of 0.1 contain; `None` for other APIs and dialects.
fn summarize<B>(
    context: &Context<B>,
    api: Api,
    page_request: &PageRequest<'_>,
    request: Option<&KeysRequest>,
) -> Option<Box<RequestSummary>> {
    if api == Api::V2 || context.v1_dialect != Dialect::Of01 {
        return None;
    }
    let verb = match *page_request.method {
        _ if api == Api::V1Watch => "watch",
        Method::GET | Method::HEAD => "get",
        Method::DELETE => "delete",
        _ => "set",
    };
    let wanted = match request {
        Some(KeysRequest::Write(write)) if write.prev_exist.is_some() || !write.prev_value.is_empty() => {
            Some(write.prev_value.to_vec())
        }
        _ => None,
    };
    Some(Box::new(RequestSummary { verb, path: store_path(page_request.rest), wanted }))
}

/// An error in the form of the client's API.
fn refuse<B: Backend>(
    context: &Context<B>,
    headers: HeaderMap,
    error: &ApiError,
    summary: Option<&RequestSummary>,
) -> Response {
    let Some(summary) = summary else { return reply::api_error(headers, error) };
    dialect::refuse(headers, error, summary, |path| {
        let event = context.backend.store().get(path, false, false).ok()?;
        event.node().value().map(<[u8]>::to_vec)
    })
}

/// A request that is carried out only if the client has the permission.
pub(crate) struct GuardedRequest {
    wanted: RestrictedRequest,
    authorization: Option<HeaderValue>,
}

/// A request and the permission that it needs.
struct RestrictedRequest {
    parsed: ParsedRequest,
    /// The path below `/v2/keys`. A slash at its end is kept.
    key: Vec<u8>,
    writes: bool,
}

impl Restricted for RestrictedRequest {
    fn access(&self) -> Access<'_> {
        let recursive = match &self.parsed.request {
            KeysRequest::Read { recursive, .. } | KeysRequest::Watch { recursive, .. } => *recursive,
            KeysRequest::Write(request) => request.recursive,
        };
        Access { key: &self.key, writes: self.writes, recursive }
    }
}

impl GuardedRequest {
    /// Checks the permission, and carries the request out or refuses it.
    pub(crate) async fn pass<B: Backend>(self, exchange: &Exchange<B>) -> PageResult<Submission> {
        let GuardedRequest { wanted, authorization } = self;
        let context = &*exchange.context;
        let caller = Caller {
            authorization: authorization.as_ref(),
            source: exchange.source,
            connection: Some(exchange.flow.client()),
        };
        let accounts = Accounts::new(&context.auth, &context.backend, caller);
        match auth::admit(&accounts, wanted).await {
            Ok(wanted) => carry_out(wanted.map(|wanted| wanted.parsed), exchange),
            Err((RestrictedRequest { parsed, .. }, Denied::NoRight)) => {
                let error = refusal(Code::Unauthorized, "Insufficient credentials");
                PageResult::Ready(refuse(context, parsed.headers, &error, parsed.summary.as_deref()))
            }
            Err((RestrictedRequest { parsed, .. }, Denied::Busy)) => {
                PageResult::Ready(gate::refuse_key(parsed.headers, Denied::Busy))
            }
        }
    }
}

/// A valid request, with everything that its response needs.
struct ParsedRequest {
    request: KeysRequest,
    headers: HeaderMap,
    counted: RequestKind,
    began: Instant,
    now: UnixNanos,
    framing: Framing,
    api: Api,
    summary: Option<Box<RequestSummary>>,
    /// The permission for a watch.
    permission: Option<WatchPermission>,
}

/// Carries out a request.
fn carry_out<B: Backend>(
    parsed: Authorized<ParsedRequest>,
    exchange: &Exchange<B>,
) -> PageResult<Submission> {
    let ParsedRequest { request, mut headers, counted, began, now, framing, api, summary, permission } =
        parsed.into_inner();
    let context = &*exchange.context;
    match request {
        KeysRequest::Read { path, recursive, sorted } => {
            context.metrics.received(counted);
            let event = read_store(context, &path, recursive, sorted);
            let request = v2::Request::default();
            let pending = Submission { request, headers, counted, began, api, summary };
            PageResult::Ready(pending.answer(context, event.map_err(SubmitError::Api), now))
        }
        KeysRequest::Write(request) => {
            context.metrics.received(counted);
            PageResult::Submitted(Submission { request, headers, counted, began, api, summary })
        }
        KeysRequest::Watch { path, recursive, stream, since, progress } => {
            let permission = permission.unwrap_or_else(|| unreachable!("a watch is parsed with its right"));
            match context.backend.watch(&path, recursive, stream, since) {
                Err(error) => {
                    let error = if api == Api::V2 { error } else { v1::watch_refusal(&path, error.index) };
                    context.metrics.failed(counted, error.http_status());
                    PageResult::Ready(refuse(context, headers, &error, summary.as_deref()))
                }
                Ok(_) if counted == RequestKind::Head => {
                    PageResult::Ready(reply::answer(headers, StatusCode::OK, ""))
                }
                Ok(watcher) if api == Api::V2 => {
                    event_headers(context, &mut headers, watcher.start_index());
                    progress.announce(&mut headers);
                    let watch = Watch::new((watcher, permission), stream, framing, &headers, now);
                    exchange.flow.hand_over_to_watch(watch.with_progress(progress));
                    PageResult::TakenOver
                }
                Ok(watcher) => {
                    headers.insert(CONTENT_TYPE, reply::TEXT);
                    let context = exchange.context.clone();
                    let form = Box::new(move |event: &Event, now| {
                        let dialect = context.v1_dialect;
                        let index = dialect.watch_index(event, || context.backend.store().index());
                        v1::render(event, index, now, dialect).into()
                    });
                    let watch = Watch::new((watcher, permission), stream, framing, &headers, now);
                    exchange.flow.hand_over_to_watch(watch.with_form(form));
                    PageResult::TakenOver
                }
            }
        }
    }
}

/// Reads this member's store at `path`.
pub(super) fn read_store<B: Backend>(
    context: &Context<B>,
    path: &[u8],
    recursive: bool,
    sorted: bool,
) -> Result<Event, ApiError> {
    // The store's lock is released before the store is read again.
    let found = context.backend.store().get(path, recursive, sorted);
    match found {
        Err(error) if error.code == Code::KeyNotFound => machine_keys(context, path, recursive).ok_or(error),
        event => event,
    }
}

/// A request for the log, with everything that its response needs.
pub(crate) struct Submission {
    request: v2::Request,
    headers: HeaderMap,
    counted: RequestKind,
    began: Instant,
    api: Api,
    summary: Option<Box<RequestSummary>>,
}

impl Submission {
    /// Submits the request and waits for its response.
    pub(crate) async fn finish<B: Backend>(mut self, context: &Context<B>) -> Response {
        let request = std::mem::take(&mut self.request);
        let result = context.backend.submit_begun(request, self.began).await;
        self.answer(context, result, context.backend.clock())
    }

    fn answer<B: Backend>(
        self,
        context: &Context<B>,
        result: Result<Event, SubmitError>,
        now: UnixNanos,
    ) -> Response {
        let Submission { headers, counted, began, api, summary, .. } = self;
        match result {
            Ok(event) => {
                let response = match api {
                    Api::V2 => event_answer(context, headers, &event, now),
                    Api::V1Keys | Api::V1Watch => v1::answer(headers, &event, now, context.v1_dialect),
                };
                context.metrics.succeeded(counted, began.elapsed());
                response
            }
            Err(SubmitError::Api(error)) => {
                context.metrics.failed(counted, error.http_status());
                refuse(context, headers, &error, summary.as_deref())
            }
            Err(SubmitError::Unavailable(why)) => {
                log::error!("etcdhttp", "{}", unavailable(&why));
                let error = refusal(Code::RaftInternal, &why.to_string());
                context.metrics.failed(counted, StatusCode::INTERNAL_SERVER_ERROR.as_u16());
                refuse(context, headers, &error, summary.as_deref())
            }
        }
    }
}

/// The reason in the log when the cluster did not respond.
fn unavailable(why: &crate::backend::Unavailable) -> String {
    match why {
        crate::backend::Unavailable::LeaderLost => why.to_string(),
        _ => format!("got unexpected response error ({why})"),
    }
}

fn event_headers<B: Backend>(context: &Context<B>, headers: &mut HeaderMap, index: u64) {
    let status = context.backend.status();
    headers.insert(CONTENT_TYPE, reply::JSON);
    headers.insert(reply::X_ETCD_INDEX, reply::number(index));
    headers.insert(reply::X_RAFT_INDEX, reply::number(status.commit));
    headers.insert(reply::X_RAFT_TERM, reply::number(status.term));
}

fn event_answer<B: Backend>(
    context: &Context<B>,
    mut headers: HeaderMap,
    event: &Event,
    now: UnixNanos,
) -> Response {
    event_headers(context, &mut headers, event.index);
    let status = if event.is_created() { StatusCode::CREATED } else { StatusCode::OK };
    match event.listing(now) {
        Some(listing) => reply::pieces(headers, status, listing),
        None => reply::answer(headers, status, body(event, now)),
    }
}

/// The body of a response with an event.
pub(super) fn body(event: &Event, now: UnixNanos) -> Vec<u8> {
    let mut body = Vec::with_capacity(ANSWER_BYTES + 2 * event.key().len());
    event.write_json(&mut body, now);
    body.push(b'\n');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_000_000_000_000);

    fn parsed(method: Method, rest: &str, query: &str, body: &str) -> Result<KeysRequest, (Code, String)> {
        parse(&method, rest.as_bytes(), query.as_bytes(), media_type::FORM, body.as_bytes(), NOW)
            .map_err(|error| (error.code, String::from_utf8(error.cause).unwrap()))
    }

    fn written(method: Method, rest: &str, query: &str, body: &str) -> v2::Request {
        match parsed(method, rest, query, body) {
            Ok(KeysRequest::Write(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads() {
        let read = |path: &str, recursive, sorted| {
            Ok(KeysRequest::Read { path: path.as_bytes().to_vec(), recursive, sorted })
        };
        assert_eq!(parsed(Method::GET, "", "", ""), read("/1", false, false));
        assert_eq!(parsed(Method::GET, "/", "recursive=true", ""), read("/1", true, false));
        assert_eq!(parsed(Method::HEAD, "/a/", "sorted=1&quorum=true", ""), read("/1/a", false, true));
        // A read ignores a form in its body.
        assert_eq!(parsed(Method::GET, "/a", "", "recursive=banana"), read("/1/a", false, false));
    }

    #[test]
    fn watches() {
        let watch = |stream, since| {
            let (path, progress) = (b"/1/a".to_vec(), ProgressInterval::default());
            Ok(KeysRequest::Watch { path, recursive: true, stream, since, progress })
        };
        assert_eq!(parsed(Method::GET, "/a", "wait=true&recursive=t", ""), watch(false, 0));
        assert_eq!(parsed(Method::GET, "/a", "wait=1&recursive=1&stream=1&waitIndex=7", ""), watch(true, 7));
        let quorum = written(Method::GET, "/a", "wait=true&quorum=true", "");
        assert_eq!((quorum.verb, quorum.wait, quorum.quorum), (Verb::QuorumGet, true, true));
        for method in [Method::HEAD, Method::PUT, Method::POST, Method::DELETE] {
            let cause = "\"wait\" can only be used with GET requests".to_owned();
            assert_eq!(parsed(method, "/a", "wait=true", ""), Err((Code::InvalidField, cause)));
        }
    }

    #[test]
    fn writes() {
        let put = written(Method::PUT, "/a", "prevExist=false&ttl=9", "value=x+y&dir=false&prevIndex=3");
        let wanted = v2::Request {
            verb: Verb::Put,
            path: "/1/a".into(),
            val: "x y".into(),
            prev_index: 3,
            prev_exist: Some(false),
            expiration: NOW.0 + 9_000_000_000,
            ..v2::Request::default()
        };
        assert_eq!(put, wanted);
        let delete = written(Method::DELETE, "/a", "recursive=true&prevValue=v", "prevValue=nothing");
        assert_eq!((delete.verb, &delete.prev_value[..], delete.recursive), (Verb::Delete, &b"v"[..], true));
        let refresh = written(Method::PUT, "/a", "refresh=true&ttl=1&value=", "");
        assert_eq!((refresh.refresh, &refresh.val[..]), (Some(true), &b""[..]));
        assert_eq!(written(Method::POST, "/q", "", "value=1").verb, Verb::Post);
        assert_eq!(written(Method::PUT, "/a", "ttl=", "").expiration, 0);
    }

    #[test]
    fn a_time_to_live_beyond_the_clock_is_never_over() {
        assert_eq!(expiration(NOW, 0), NOW.0);
        // NOW is 1000 seconds after the beginning of 1970.
        let most = 9_223_372_036 - 1000;
        assert_eq!(expiration(NOW, most), (most + 1000).cast_signed() * 1_000_000_000);
        // Some of these would wrap around to now or to a second ago.
        for beyond in
            [most + 1, 9_223_372_037, 18_446_744_073, 18_446_744_074, i64::MAX as u64, 1 << 63, u64::MAX]
        {
            assert_eq!(expiration(NOW, beyond), NEVER);
            for (method, query) in [
                (Method::PUT, ""),
                (Method::PUT, "&refresh=true"),
                (Method::PUT, "&prevExist=true"),
                (Method::POST, ""),
            ] {
                let request = written(method, "/a", &format!("ttl={beyond}{query}"), "");
                assert_eq!(request.expiration, NEVER, "{beyond}{query}");
            }
        }
    }

    #[test]
    fn each_parameter_has_its_error() {
        for (query, code, cause) in [
            ("prevIndex=x", Code::IndexNaN, "invalid value for \"prevIndex\""),
            ("waitIndex=-1", Code::IndexNaN, "invalid value for \"waitIndex\""),
            ("recursive=yes", Code::InvalidField, "invalid value for \"recursive\""),
            ("sorted=", Code::InvalidField, "invalid value for \"sorted\""),
            ("wait=2", Code::InvalidField, "invalid value for \"wait\""),
            ("dir=maybe", Code::InvalidField, "invalid value for \"dir\""),
            ("quorum=maybe", Code::InvalidField, "invalid value for \"quorum\""),
            ("stream=maybe", Code::InvalidField, "invalid value for \"stream\""),
            ("prevValue=", Code::PrevValueRequired, "\"prevValue\" cannot be empty"),
            ("ttl=1.5", Code::TtlNaN, "invalid value for \"ttl\""),
            ("prevExist=", Code::InvalidField, "invalid value for prevExist"),
            ("refresh=", Code::InvalidField, "invalid value for refresh"),
            ("refresh=true&value=x", Code::RefreshValue, "A value was provided on a refresh"),
            ("refresh=true", Code::RefreshTtlRequired, "No TTL value set"),
            ("value=%zz", Code::InvalidForm, "invalid URL escape \"%zz\""),
            ("a;b", Code::InvalidForm, "invalid semicolon separator in query"),
            // Of several errors, the one that is checked first.
            ("stream=maybe&recursive=maybe&waitIndex=x", Code::IndexNaN, "invalid value for \"waitIndex\""),
            ("refresh=maybe&ttl=x", Code::TtlNaN, "invalid value for \"ttl\""),
        ] {
            assert_eq!(parsed(Method::PUT, "/a", query, ""), Err((code, cause.to_owned())), "{query}");
        }
    }

    #[test]
    fn a_malformed_content_type_refuses_writes_only() {
        let bad = b"text/plain; ;x".as_slice();
        let error = parse(&Method::PUT, b"/a", b"", bad, b"", NOW).unwrap_err();
        assert_eq!(
            (error.code, &error.cause[..]),
            (Code::InvalidForm, &b"mime: invalid media parameter"[..])
        );
        assert!(parse(&Method::DELETE, b"/a", b"", bad, b"", NOW).is_ok());
    }
}

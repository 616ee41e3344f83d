//! `/v2/keys`: reads, watches and writes.

use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use shared::error::{ApiError, Code};
use shared::event::Event;
use shared::time::UnixNanos;
use shared::v2;

use super::cluster_0_4::machine_keys;
use super::parse::{check_levels, parse, parse_v1};
use crate::api::page::Context;
use crate::api::page::counters::RequestKind;
use crate::api::page::gate;
use crate::api::page::keys::{Api, KeysRequest, refusal, store_path};
use crate::api::page::{Exchange, PageRequest, PageResult};
use crate::api::v1::dialect::{self, Dialect, RequestSummary};
use crate::api::v1::keys as v1;
use crate::auth::{self, Access, Accounts, Authorized, Caller, Denied, Restricted};
use crate::backend::{Backend, SubmitError};
use crate::log;
use crate::transport::reply::{self, Response};
use crate::transport::request::Framing;
use crate::transport::watch::{Watch, WatchPermission};

/// The approximate size of a response, without the value and twice the key.
const ANSWER_BYTES: usize = 256;

/// Whether a request with this path and query could be a watch.
pub(crate) fn may_watch(path: &[u8], query: &str) -> bool {
    path.starts_with(b"/v1/watch") || memchr::memmem::find(query.as_bytes(), b"wait").is_some()
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
            .and_then(|request| check_levels(request, levels_max)),
        Api::V1Keys | Api::V1Watch => parse_v1(api, context.v1_dialect, &page_request, now)
            .and_then(|request| check_levels(request, levels_max))
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
    match event.in_pieces(now) {
        Some(pieces) => reply::pieces(headers, status, pieces),
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

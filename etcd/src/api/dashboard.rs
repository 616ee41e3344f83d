//! `/mod/dashboard/`: the page, its files, and its data. See [`crate::dashboard`].

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use shared::error::ApiError;
use shared::net::Dialer;
use shared::store::Nodes;

use super::page::Context;
use super::page::PageRequest;
use crate::auth::{self, Access, Accounts, Authorized, Denied, Restricted};
use crate::backend::Backend;
use crate::config::DashboardMode;
use crate::dashboard::{self, Asset, SearchRequest};
use crate::transport::form::{self, parse_bool};
use crate::transport::reply::{self, Response};

/// The page may use its own files and its own server, and nothing else. No page may show it in a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const DENY: HeaderValue = HeaderValue::from_static("DENY");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
const COOP: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// For files whose name changes with their content.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The longest text to search for, in bytes.
const SEARCH_BYTES_MAX: usize = 1024;

/// Serves the page and its files. `known` is the version that the browser has.
pub(super) fn answer<B: Backend>(
    context: &Context<B>,
    page_request: &PageRequest<'_>,
    known: Option<HeaderValue>,
    headers: HeaderMap,
) -> Response {
    if context.dashboard.mode == DashboardMode::Off {
        return reply::not_found(headers);
    }
    if !auth::only_reads(page_request.method) {
        return reply::method_not_allowed(headers, "GET,HEAD");
    }
    let Ok(path) = std::str::from_utf8(page_request.rest) else { return reply::not_found(headers) };
    if path.is_empty() {
        return reply::redirect(headers, page_request.method, b"/mod/dashboard/");
    }
    if path == "/" {
        return file(headers, dashboard::page(), ASK_AGAIN, known);
    }
    if let Some(name) = path.strip_prefix("/assets/") {
        return match dashboard::asset(name) {
            Some((asset, true)) => file(headers, asset, FOR_EVER, known),
            Some((asset, false)) => file(headers, asset, ASK_AGAIN, known),
            None => reply::not_found(headers),
        };
    }
    reply::not_found(headers)
}

/// Serves the data of the page.
pub(super) async fn answer_api<B: Backend>(
    context: &Context<B>,
    page_request: PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    if context.dashboard.mode == DashboardMode::Off {
        return reply::not_found(headers);
    }
    if !auth::only_reads(page_request.method) {
        return reply::method_not_allowed(headers, "GET,HEAD");
    }
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    match page_request.rest {
        b"/member" => ready(headers, member(context).await),
        b"/cluster" => ready(headers, cluster(context).await),
        b"/stats" => {
            let statistics = dashboard::statistics(&context.backend, &context.process_metrics);
            json(headers, &statistics)
        }
        b"/session" => session(context, &page_request, headers).await,
        rest => {
            if let Some(key) = below(rest, b"/node") {
                node(context, &page_request, key, headers).await
            } else if let Some(under) = below(rest, b"/search") {
                search(context, &page_request, under, headers).await
            } else {
                reply::not_found(headers)
            }
        }
    }
}

/// Why the dashboard may not send such a request for keys; `None` if it may.
pub(super) fn refuse<B>(
    context: &Context<B>,
    page_request: &PageRequest<'_>,
) -> Option<(StatusCode, &'static str)> {
    match context.dashboard.mode {
        DashboardMode::On => None,
        DashboardMode::ReadOnly if auth::only_reads(page_request.method) => None,
        DashboardMode::ReadOnly => Some((
            StatusCode::FORBIDDEN,
            "The dashboard of this member is read-only (-dashboard=read-only): change keys with etcdctl or at /v2/keys.",
        )),
        DashboardMode::Off => Some((StatusCode::NOT_FOUND, "This member has no dashboard (-dashboard=off).")),
    }
}

impl<B: Backend> Context<B> {
    /// Sets the dialer for other members' client URLs. Without it, only URLs without TLS are reached.
    #[must_use]
    pub fn with_dialer(mut self, dialer: Dialer) -> Context<B> {
        self.dashboard.dialer = dialer;
        self
    }
}

fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix).filter(|rest| rest.first() == Some(&b'/'))
}

fn file(
    mut headers: HeaderMap,
    asset: &'static Asset,
    keep: HeaderValue,
    known: Option<HeaderValue>,
) -> Response {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(REFERRER_POLICY, NO_REFERRER);
    headers.insert(X_FRAME_OPTIONS, DENY);
    headers.insert(COOP, SAME_ORIGIN);
    headers.insert(CORP, SAME_ORIGIN);
    headers.insert(CACHE_CONTROL, keep);
    if let Ok(tag) = HeaderValue::from_str(&asset.tag) {
        headers.insert(ETAG, tag);
    }
    if known.is_some_and(|known| is_known(known.as_bytes(), asset.tag.as_bytes())) {
        return reply::empty(headers, StatusCode::NOT_MODIFIED);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    reply::answer(headers, StatusCode::OK, Bytes::from_static(asset.body))
}

/// Whether an `If-None-Match` lists this tag.
fn is_known(known: &[u8], tag: &[u8]) -> bool {
    known.split(|byte| *byte == b',').any(|one| {
        let one = one.trim_ascii();
        one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == tag
    })
}

fn ready(mut headers: HeaderMap, body: Bytes) -> Response {
    headers.insert(CONTENT_TYPE, reply::JSON);
    reply::answer(headers, StatusCode::OK, body)
}

fn json<T: Serialize>(headers: HeaderMap, value: &T) -> Response {
    // Texts, numbers and lists can always be serialized.
    reply::json(headers, StatusCode::OK, shared::json::to_vec(value).unwrap_or_default())
}

async fn member<B: Backend>(context: &Context<B>) -> Bytes {
    let work = async {
        let report = dashboard::report(&context.backend).await;
        shared::json::to_vec(&report).unwrap_or_default().into()
    };
    context.dashboard.report.get(work).await
}

async fn cluster<B: Backend>(context: &Context<B>) -> Bytes {
    let work = async {
        let read_only = context.dashboard.mode != DashboardMode::On;
        let dialer = &context.dashboard.dialer;
        // This member's own report is created anew, so that it is as recent as the others.
        let own = dashboard::report(&context.backend).await;
        let cluster = dashboard::cluster(&context.backend, dialer, own, read_only).await;
        shared::json::to_vec(&cluster).unwrap_or_default().into()
    };
    context.dashboard.cluster.get(work).await
}

/// The state of the login, so that the page can distinguish a wrong password from a missing permission.
#[derive(Serialize)]
struct Session {
    /// Whether auth is on.
    auth: bool,
    /// Whether the request names a user with the correct password.
    known: bool,
}

async fn session<B: Backend>(
    context: &Context<B>,
    page_request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    let accounts = Accounts::new(&context.auth, &context.backend, page_request.caller());
    let auth = context.backend.auth().is_on();
    let known = match auth {
        true => auth::check_user(&accounts).await,
        false => Err(Denied::NoRight),
    };
    if known == Err(Denied::Busy) {
        return super::page::gate::refuse(headers, Denied::Busy);
    }
    json(headers, &Session { auth, known: known.is_ok() })
}

/// A request for a key, which needs the permission to read it. `recursive` includes everything below.
struct RestrictedRead<T> {
    key: Vec<u8>,
    recursive: bool,
    request: T,
}

impl<T> Restricted for RestrictedRead<T> {
    fn access(&self) -> Access<'_> {
        Access { key: &self.key, writes: false, recursive: self.recursive }
    }
}

/// Checks the permission to read the key of a request.
async fn admit<B: Backend, T>(
    context: &Context<B>,
    page_request: &PageRequest<'_>,
    read: RestrictedRead<T>,
) -> Result<Authorized<RestrictedRead<T>>, Denied> {
    match Authorized::while_off(context.backend.auth_counted(), read) {
        Ok(read) => Ok(read),
        Err(read) => {
            let accounts = Accounts::new(&context.auth, &context.backend, page_request.caller());
            auth::admit(&accounts, read).await.map_err(|(_, denied)| denied)
        }
    }
}

async fn node<B: Backend>(
    context: &Context<B>,
    page_request: &PageRequest<'_>,
    key: &[u8],
    headers: HeaderMap,
) -> Response {
    let Ok([hidden, after]) = form::values(["hidden", "after"], b"", page_request.query.as_bytes()) else {
        return bad_query(headers);
    };
    let request = (is_true(&hidden), after.into_owned());
    let read = RestrictedRead { key: key.to_vec(), recursive: false, request };
    match admit(context, page_request, read).await {
        Err(denied) => super::page::gate::refuse_key(headers, denied),
        Ok(read) => {
            run_blocking(
                context,
                headers,
                read,
                |nodes, RestrictedRead { key, request: (hidden, after), .. }| {
                    dashboard::list(&nodes, &key, hidden, &after)
                },
            )
            .await
        }
    }
}

async fn search<B: Backend>(
    context: &Context<B>,
    page_request: &PageRequest<'_>,
    under: &[u8],
    headers: HeaderMap,
) -> Response {
    let names = ["text", "hidden", "values"];
    let Ok([text, hidden, values]) = form::values(names, b"", page_request.query.as_bytes()) else {
        return bad_query(headers);
    };
    if text.is_empty() || text.len() > SEARCH_BYTES_MAX {
        return reply::message(headers, StatusCode::BAD_REQUEST, "text must have 1 to 1024 bytes");
    }
    let request = (text.into_owned(), is_true(&hidden), is_true(&values));
    let read = RestrictedRead { key: under.to_vec(), recursive: true, request };
    match admit(context, page_request, read).await {
        Err(denied) => super::page::gate::refuse_key(headers, denied),
        Ok(read) => {
            run_blocking(context, headers, read, |nodes, RestrictedRead { key: under, request, .. }| {
                let (text, hidden, values) = request;
                dashboard::search(&nodes, &SearchRequest { under, text, hidden, values })
            })
            .await
        }
    }
}

/// Runs on the blocking pool: the time grows with the number of keys.
async fn run_blocking<B: Backend, R: Send + 'static, T: Serialize + Send + 'static>(
    context: &Context<B>,
    headers: HeaderMap,
    request: Authorized<R>,
    work: impl FnOnce(Nodes, R) -> Result<T, ApiError> + Send + 'static,
) -> Response {
    // The semaphore is never closed. The permit is held by the work, which goes on when the client has left.
    let permit = context.dashboard.on_the_side.clone().acquire_owned().await;
    let nodes = context.backend.store().nodes();
    let written = tokio::task::spawn_blocking(move || {
        let written = work(nodes, request.into_inner()).map(|found| shared::json::to_vec(&found));
        drop(permit);
        written
    });
    match written.await {
        Ok(Ok(Ok(body))) => reply::json(headers, StatusCode::OK, body),
        Ok(Err(error)) => reply::api_error(headers, &error),
        Ok(Ok(Err(_))) | Err(_) => {
            reply::message(headers, StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        }
    }
}

fn is_true(text: &[u8]) -> bool {
    parse_bool(text).unwrap_or(false)
}

fn bad_query(headers: HeaderMap) -> Response {
    reply::message(headers, StatusCode::BAD_REQUEST, "the query cannot be read")
}

/// Whether an `If-None-Match` matters for this path.
pub(super) fn is_cached(path: &[u8]) -> bool {
    path.starts_with(b"/mod/dashboard/")
}

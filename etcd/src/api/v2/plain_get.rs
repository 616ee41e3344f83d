//! Plain reads of keys, answered without the HTTP library.
//!
//! Most clients send `GET /v2/keys/…` and nothing else, one request after the other on a connection that stays open.
//! For them the HTTP library, its buffers and its header maps cost more than the read of the store. So a connection
//! that sends nothing else never creates them: its requests are parsed here, by the parser that the library uses too,
//! and answered in one piece.
//!
//! **Invariant:** a response from here has the same bytes as one from the library. Whatever is not certainly plain
//! goes to the library: other methods and pages, bodies, escapes, headers that could change a response, malformed
//! parameters, watches and quorum reads, and servers with auth, CORS or a list of hosts.

use std::mem::MaybeUninit;
use std::time::Instant;

use http::{HeaderValue, Method, StatusCode};
use httparse::{Request, Status};
use shared::error::ApiError;
use shared::event::Event;
use shared::time::UnixNanos;

use super::{keys, parse};
use crate::api::page::Context;
use crate::api::page::counters::RequestKind;
use crate::api::page::keys::KeysRequest;
use crate::auth::Authorized;
use crate::backend::Backend;
use crate::transport::output::{Output, push_status_line};
use crate::transport::pieces::StartedAnswer;
use crate::transport::request::is_host_byte;
use crate::transport::text::http_date;
use crate::transport::{path, reply};

/// The most headers of a plain request.
const HEADERS_MAX: usize = 16;

/// The bytes of responses that are collected for one write, and the largest body that is copied for it; a larger one
/// is written uncopied.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// The approximate size of a response's head.
const HEAD_BYTES: usize = 320;

/// The prefix of the page.
const KEYS: &[u8] = b"/v2/keys";

/// A request that is plain according to its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlainGet<'a> {
    /// The path below the prefix.
    pub(crate) rest: &'a [u8],
    pub(crate) query: &'a [u8],
}

/// Parses the request at the beginning of `bytes`, and returns it with its length. `None` if it is incomplete or not
/// plain.
pub(crate) fn read(bytes: &[u8]) -> Option<(PlainGet<'_>, usize)> {
    // Checked before anything is parsed, so that other requests lose no time.
    let target = bytes.strip_prefix(b"GET ")?;
    if !target.starts_with(KEYS) {
        return None;
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = Request::new(&mut []);
    let Ok(Status::Complete(end)) = request.parse_with_uninit_headers(bytes, &mut headers) else {
        return None;
    };
    let target = request.path?.as_bytes();
    if request.version != Some(1) || !target.iter().all(|byte| is_plain(*byte)) {
        return None;
    }
    let mut hosts = 0;
    for header in request.headers.iter() {
        match effect(header.name) {
            Effect::Nothing => {}
            Effect::Host if header.value.iter().all(|byte| is_host_byte(*byte)) => hosts += 1,
            Effect::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            _ => return None,
        }
    }
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    let rest = path.strip_prefix(KEYS).filter(|rest| matches!(rest.first(), None | Some(b'/')))?;
    (hosts == 1 && path::is_clean(path)).then_some((PlainGet { rest, query }, end))
}

/// Whether a byte of a target has no special meaning, in a path and in a query.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-_.~?&=:@,".contains(&byte)
}

/// The effect of a header on a response. If a page of keys starts to use another header, add it here.
enum Effect {
    Nothing,
    Host,
    Connection,
    /// It may have an effect.
    Unsure,
}

fn effect(name: &str) -> Effect {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    // Most names have a length that none of these names has.
    match name.len() {
        4 if is("host") => Effect::Host,
        10 if is("connection") => Effect::Connection,
        2 if is("te") => Effect::Unsure,
        6 if is("expect") || is("origin") => Effect::Unsure,
        7 if is("upgrade") || is("trailer") => Effect::Unsure,
        13 if is("authorization") => Effect::Unsure,
        14 if is("content-length") || is("http2-settings") => Effect::Unsure,
        16 if is("proxy-connection") => Effect::Unsure,
        17 if is("transfer-encoding") => Effect::Unsure,
        _ => Effect::Nothing,
    }
}

/// Answers the plain reads at the beginning of `bytes`, one after the other. Returns how many bytes they were.
pub(crate) fn answer<B: Backend>(context: &Context<B>, bytes: &[u8], out: &mut Output) -> usize {
    if context.browsers.cors.allows_any() || context.browsers.limits_hosts() {
        return 0;
    }
    let mut used = 0;
    // Up to the size of one write: the library answers the rest.
    while out.takes_more(COPIED_BYTES_MAX)
        && let Some((get, length)) = read(&bytes[used..])
        && answer_one(context, &get, out)
    {
        used += length;
    }
    used
}

fn answer_one<B: Backend>(context: &Context<B>, get: &PlainGet<'_>, out: &mut Output) -> bool {
    let began = Instant::now();
    let now = context.backend.clock();
    let Ok(request @ KeysRequest::Read { .. }) =
        parse::parse(&Method::GET, get.rest, get.query, b"", b"", now)
    else {
        return false;
    };
    // In this order: a request that goes to the library is counted there.
    if context.backend.auth().is_on() {
        return false;
    }
    let Ok(request) = Authorized::while_off(context.backend.auth_counted(), request) else { return false };
    let KeysRequest::Read { path, recursive, sorted } = request.into_inner() else { return false };
    context.metrics.received(RequestKind::Get);
    match keys::read_store(context, &path, recursive, sorted) {
        Ok(event) => {
            push_event(context, &event, now, out);
            context.metrics.succeeded(RequestKind::Get, began.elapsed());
        }
        Err(error) => {
            context.metrics.failed(RequestKind::Get, error.http_status());
            push_error(context, &error, now, out);
        }
    }
    true
}

fn push_event<B: Backend>(context: &Context<B>, event: &Event, now: UnixNanos, out: &mut Output) {
    let status = context.backend.status();
    let made = match event.in_pieces(now) {
        Some(pieces) => StartedAnswer::begin(pieces),
        None => StartedAnswer::Whole(keys::body(event, now)),
    };
    let length = match &made {
        StartedAnswer::Whole(body) => body.len(),
        StartedAnswer::Partial(..) => 0,
    };
    let small = &mut out.small;
    small.reserve(HEAD_BYTES + length.min(COPIED_BYTES_MAX));
    push_head(small, StatusCode::OK, &context.cluster_id);
    small.extend_from_slice(b"Content-Type: application/json\r\nX-Etcd-Index: ");
    push_number(small, event.index);
    small.extend_from_slice(b"\r\nX-Raft-Index: ");
    push_number(small, status.commit);
    small.extend_from_slice(b"\r\nX-Raft-Term: ");
    push_number(small, status.term);
    match made {
        StartedAnswer::Whole(body) => push_body(out, body, now),
        StartedAnswer::Partial(piece, rest) => {
            small.extend_from_slice(b"\r\nTransfer-Encoding: chunked\r\nDate: ");
            small.extend_from_slice(&http_date(now));
            small.extend_from_slice(b"\r\n\r\n");
            out.push_chunk(piece, false);
            out.rest = Some(rest);
        }
    }
}

fn push_error<B: Backend>(context: &Context<B>, error: &ApiError, now: UnixNanos, out: &mut Output) {
    let small = &mut out.small;
    small.reserve(HEAD_BYTES);
    push_head(small, reply::status_of(error), &context.cluster_id);
    small.extend_from_slice(b"X-Etcd-Index: ");
    push_number(small, error.index);
    small.extend_from_slice(b"\r\nContent-Type: application/json");
    push_body(out, reply::body_of(error), now);
}

/// Appends the common beginning of all responses.
fn push_head(small: &mut Vec<u8>, status: StatusCode, cluster_id: &HeaderValue) {
    push_status_line(small, status);
    small.extend_from_slice(b"X-Etcd-Cluster-Id: ");
    small.extend_from_slice(cluster_id.as_bytes());
    small.extend_from_slice(b"\r\n");
}

/// Appends what follows the page's own headers.
fn push_body(out: &mut Output, body: Vec<u8>, now: UnixNanos) {
    let small = &mut out.small;
    small.extend_from_slice(b"\r\nContent-Length: ");
    push_number(small, body.len() as u64);
    small.extend_from_slice(b"\r\nDate: ");
    small.extend_from_slice(&http_date(now));
    small.extend_from_slice(b"\r\n\r\n");
    if body.len() > COPIED_BYTES_MAX {
        out.large = Some((body.into(), b""));
    } else {
        small.extend_from_slice(&body);
    }
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_target(target: &str, headers: &str) -> Option<(String, String)> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.b:2379\r\n{headers}\r\n");
        let (get, end) = read(request.as_bytes())?;
        assert_eq!(end, request.len());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some((text(get.rest), text(get.query)))
    }

    #[test]
    fn plain_requests_are_read() {
        let usual = "User-Agent: curl/7.88.1\r\nAccept: */*\r\nconnection: Keep-Alive\r\n";
        for (target, rest, query) in [
            ("/v2/keys", "", ""),
            ("/v2/keys/", "/", ""),
            ("/v2/keys/a/b-c_d.e~f", "/a/b-c_d.e~f", ""),
            ("/v2/keys/a?recursive=true&sorted=true", "/a", "recursive=true&sorted=true"),
            ("/v2/keys?a=?", "", "a=?"),
        ] {
            assert_eq!(read_target(target, usual), Some((rest.to_owned(), query.to_owned())), "{target}");
        }
    }

    #[test]
    fn what_is_not_certainly_plain_is_left_alone() {
        for target in
            ["/v2/keysa", "/v2/keys/%61", "/v2/keys//a", "/v2/keys/..", "/v2/keys/a+b", "/v2/keys/é"]
        {
            assert_eq!(read_target(target, ""), None, "{target}");
        }
        for header in [
            "Host: b",
            "Connection: close",
            "Connection: keep-alive, upgrade",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Origin: http://a",
            "authorization: Basic cm9vdDo=",
            "TE: trailers",
        ] {
            assert_eq!(read_target("/v2/keys/a", &format!("{header}\r\n")), None, "{header}");
        }
        assert_eq!(read_target("/v2/keys/a", &"A: b\r\n".repeat(HEADERS_MAX)), None);
        for request in [
            "GET /v2/keys/a HTTP/1.1\r\n\r\n",
            "GET /v2/keys/a HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET /v2/keys/a HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n",
            "GET  /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ] {
            assert_eq!(read(request.as_bytes()), None, "{request}");
        }
    }
}

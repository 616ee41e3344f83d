//! An incoming request: checks of its head, its body, and the forms that its response may have.

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

pub(crate) use super::body_budget::{BodyBudget, BodyShare};
use super::browsers::Forbidden;
use super::cors;
use super::flow::Flow;
use super::reply::{self, BadRequest, Response};
use super::site::HttpServer;

/// The most bytes of an unused body that are read so that the connection can go on.
const UNWANTED_BYTES_MAX: u64 = 256 * 1024;

/// The checks that Go's server makes on a head before anything else.
pub(crate) fn check_head(head: &Parts) -> Result<(), BadRequest> {
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
    // The library takes a target without a slash for a host.
    if head.uri.path_and_query().is_none() && head.method != Method::CONNECT {
        return Err(BadRequest::Malformed);
    }
    Ok(())
}

/// Whether the body has no other transfer coding than `chunked`, named once. Servers disagree about other codings,
/// which allows requests to be smuggled past a proxy.
pub(crate) fn is_chunked_alone(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a host may contain this byte.
pub(crate) fn is_host_byte(byte: u8) -> bool {
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

/// The header map of the request, emptied for the headers of the response.
pub(crate) fn empty_headers(head: &mut Parts) -> HeaderMap {
    let mut headers = std::mem::take(&mut head.headers);
    headers.clear();
    headers
}

/// The body of a request that arrived as a whole: pages never see a part of a body.
///
/// **Invariant:** created in this file only, by reading a body to its end, or for a request without a body. For a
/// request that changes nothing the body may stay unread; then this is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WholeBody(Bytes);

impl WholeBody {
    /// The bytes, for a proxy to forward.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A body for a test.
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> WholeBody {
        WholeBody(Bytes::copy_from_slice(bytes))
    }
}

impl std::ops::Deref for WholeBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The possible forms of a response without a known length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    /// The client understands chunks.
    pub(crate) chunked: bool,
    /// The client may send another request after the response.
    pub(crate) keep_alive: bool,
    /// The client wants the headers only.
    pub(crate) head: bool,
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

/// Refuses a request from a web page.
pub(crate) async fn forbid(
    flow: &Flow,
    forbidden: &Forbidden,
    mut head: Parts,
    body: &mut Incoming,
) -> Response {
    let (framing, expects) = (Framing::of(&head), Expects::of(&head.headers));
    let mut headers = empty_headers(&mut head);
    discard(flow, body, expects, framing, &mut headers).await;
    forbidden.response(headers)
}

/// `headers`, with those that allow `origin` to read the response.
pub(crate) fn with_cors(mut headers: HeaderMap, origin: Option<http::HeaderValue>) -> HeaderMap {
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
    /// `100 Continue`, which the library sends when the body is read.
    Continue,
    /// An unknown expectation.
    Unknown,
}

impl Expects {
    /// The expectation of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Expects {
        match headers.get(EXPECT) {
            None => Expects::Nothing,
            Some(expect) if expect.as_bytes().eq_ignore_ascii_case(b"100-continue") => Expects::Continue,
            Some(_) => Expects::Unknown,
        }
    }
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    /// The client left, or the framing is broken.
    Broken,
    /// Other bodies take the whole budget.
    NoRoom,
}

impl BodyError {
    /// The status and the text for the client.
    pub(crate) fn status_and_text(self) -> (StatusCode, &'static str) {
        match self {
            BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
            BodyError::Broken => (StatusCode::BAD_REQUEST, "unexpected EOF"),
            BodyError::NoRoom => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many large requests at the same time, try again later")
            }
        }
    }
}

/// Reads a body of at most the configured length. Keep the share as long as the body.
pub(crate) async fn read(
    flow: &Flow,
    http_server: &HttpServer,
    body: &mut Incoming,
) -> Result<(WholeBody, Option<BodyShare>), BodyError> {
    flow.reads_body(true);
    let mut room = None;
    let read = read_up_to(http_server.body_bytes_max(), http_server.budget(), &mut room, body).await;
    flow.reads_body(false);
    Ok((WholeBody(read?), room))
}

/// Reads a body of at most `limit` bytes that no page uses, to find its end: an incomplete request must not be
/// carried out.
pub(crate) async fn skip_body(
    flow: &Flow,
    limit: usize,
    body: &mut Incoming,
) -> Result<WholeBody, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    flow.reads_body(true);
    let mut length = 0;
    let read = loop {
        match body.frame().await {
            None => break Ok(WholeBody::default()),
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

/// Reads the rest of a body of at most `limit` bytes that begins with `first`. Keep the share as long as the body.
pub(crate) async fn read_rest(
    limit: usize,
    budget: &BodyBudget,
    first: Bytes,
    body: &mut Incoming,
) -> Result<(Bytes, Option<BodyShare>), BodyError> {
    let mut room = None;
    let whole = read_after(first, limit, budget, &mut room, body).await?;
    Ok((whole, room))
}

async fn read_up_to(
    limit: usize,
    budget: &BodyBudget,
    room: &mut Option<BodyShare>,
    body: &mut Incoming,
) -> Result<Bytes, BodyError> {
    read_after(Bytes::new(), limit, budget, room, body).await
}

async fn read_after(
    mut first: Bytes,
    limit: usize,
    budget: &BodyBudget,
    room: &mut Option<BodyShare>,
    body: &mut Incoming,
) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge);
    }
    let mut whole: Vec<u8> = Vec::new();
    let mut incoming_body = budget.incoming_body();
    // For a body with an announced length, the last byte is the end.
    while !body.is_end_stream()
        && let Some(frame) = incoming_body.next(body, room.as_ref()).await.ok_or(BodyError::NoRoom)?
    {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if first.len().max(whole.len()) + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        if first.is_empty() && whole.is_empty() {
            // Most bodies come in one piece, which is not copied.
            first = data;
        } else {
            // The bytes that arrived count, not the announced length: memory is taken when it is written to.
            let bytes = first.len().max(whole.len()) + data.len();
            if !incoming_body.take(room, bytes, data.len()).await {
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

/// Reads an unused body. Returns whether the connection can go on; if not, the response says that it ends.
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
    // A client that waits for `100 Continue` does not get it, and a client that closes the connection is not waited
    // for.
    if framing.keep_alive && expects == Expects::Nothing && body.size_hint().lower() <= left {
        flow.reads_body(true);
        let ended = loop {
            // A chunked body may end without a further byte, so only its end tells.
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

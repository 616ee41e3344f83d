//! One request as it comes in: what its head must be, what its body is, what an answer to it may look like.

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::body_budget::{BodyBudget, BodyShare};
use super::browsers::Forbidden;
use super::cors;
use super::flow::Flow;
use super::reply::{self, BadRequest, Response};
use super::site::HttpServer;

/// How much of a body that nobody wants is read, so that the connection can go on.
const UNWANTED_BYTES_MAX: u64 = 256 * 1024;

/// What Go's server demands of a request's head before it looks at anything else.
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

/// The header map of the request, empty: the answer's headers go into it.
pub(crate) fn empty_headers(head: &mut Parts) -> HeaderMap {
    let mut headers = std::mem::take(&mut head.headers);
    headers.clear();
    headers
}

/// The body of a request that arrived whole: no page ever sees a part of one.
///
/// **Invariant:** made in this file only: by reading a body to its end, or for a request that has none. A request
/// that cannot change anything may have its body left unread; then this is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WholeBody(Bytes);

impl WholeBody {
    /// The bytes, for a proxy to send on.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A body that a test made up.
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

/// What an answer without a known length may look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    /// The client knows chunks.
    pub(crate) chunked: bool,
    /// It may send another request when it has the answer.
    pub(crate) keep_alive: bool,
    /// It wants the answer's headers only.
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

/// Refuses a request of a page in a browser.
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
    Unknown,
}

impl Expects {
    /// What a request with these headers says.
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
    /// The client went away, or its framing is broken.
    Broken,
    /// Others take all that may be taken at a time.
    NoRoom,
}

impl BodyError {
    /// The status and the words for the client.
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

/// Reads a body of at most as many bytes as there may be. What comes with it is to be kept for as long as the body.
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

/// Reads a body of at most `limit` bytes that no page wants: only its end counts. Without the end the request is
/// not whole, and nothing may be done for it.
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

async fn read_up_to(
    limit: usize,
    budget: &BodyBudget,
    room: &mut Option<BodyShare>,
    body: &mut Incoming,
) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    let mut incoming_body = budget.incoming_body();
    // Of a body whose length was announced the last byte is its end.
    while !body.is_end_stream()
        && let Some(frame) = incoming_body.next(body, room.as_ref()).await.ok_or(BodyError::NoRoom)?
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

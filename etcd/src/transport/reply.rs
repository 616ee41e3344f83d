//! Responses: their body type, their headers, and the forms of errors.
//!
//! A response reuses the header map of its request, so that a connection allocates none.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use shared::error::ApiError;
use shared::json;

use super::flow::Flow;
use super::http2;
use super::pieces::{Pieces, PiecesBody, StartedAnswer};
use super::text;

/// The response of any page.
pub(crate) type Response = http::Response<Body>;

/// The most bytes of a body that are passed on at once; more would only wait in another buffer.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The id of the cluster.
pub(crate) const X_ETCD_CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// The index of the store.
pub(crate) const X_ETCD_INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
/// The last committed entry of the log.
pub(crate) const X_RAFT_INDEX: HeaderName = HeaderName::from_static("x-raft-index");
/// The term of the member.
pub(crate) const X_RAFT_TERM: HeaderName = HeaderName::from_static("x-raft-term");

/// The content type of most responses.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The content type of errors without JSON.
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// Keeps browsers from guessing the type of a text.
pub(crate) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The body of a response.
#[derive(Debug)]
pub(crate) enum Body {
    /// Complete before the first byte is sent.
    Whole(Bytes),
    /// Produced while it is sent.
    Pieces(PiecesBody),
    /// Produced as events come, for as long as the client stays.
    Stream(Box<StreamBody>),
}

/// A body from elsewhere, whose request ends when it is sent or dropped.
pub(crate) struct StreamBody {
    body: http2::Body,
    flow: Option<Arc<Flow>>,
}

impl std::fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBody").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if let Some(flow) = &self.flow {
            flow.streams(false);
            flow.ends();
        }
    }
}

impl Body {
    /// Whether the body itself records in `flow` that the request is answered, because sending it takes time.
    pub(crate) fn holds(&mut self, flow: &Arc<Flow>) -> bool {
        match self {
            Body::Whole(_) => false,
            Body::Pieces(pieces) => {
                pieces.holds(flow);
                true
            }
            Body::Stream(stream) => {
                flow.streams(true);
                stream.flow = Some(flow.clone());
                true
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let rest = match self.get_mut() {
            Body::Whole(rest) => rest,
            Body::Pieces(pieces) => {
                return pieces.poll_next(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece.into()))));
            }
            Body::Stream(stream) => {
                // Such a body writes its errors into its text; another failure ends it.
                let frame = Pin::new(&mut stream.body).poll_frame(cx);
                return frame.map(|frame| frame.and_then(Result::ok).map(Ok));
            }
        };
        let next = match rest.len() {
            0 => return Poll::Ready(None),
            len if len > FRAME_BYTES_MAX => rest.split_to(FRAME_BYTES_MAX),
            _ => std::mem::take(rest),
        };
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(rest) => rest.is_empty(),
            Body::Pieces(pieces) => pieces.is_end(),
            Body::Stream(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(rest) => SizeHint::with_exact(rest.len() as u64),
            Body::Pieces(_) => SizeHint::default(),
            Body::Stream(stream) => stream.body.size_hint(),
        }
    }
}

/// A response with these parts.
pub(crate) fn answer(headers: HeaderMap, status: StatusCode, body: impl Into<Bytes>) -> Response {
    answer_with(headers, status, Body::Whole(body.into()))
}

/// A response that may be long: it is sent in chunks, which are produced meanwhile, unless it fits into one piece.
pub(crate) fn pieces(headers: HeaderMap, status: StatusCode, pieces: impl Pieces + 'static) -> Response {
    match StartedAnswer::begin(pieces) {
        StartedAnswer::Whole(whole) => answer(headers, status, whole),
        StartedAnswer::Partial(next, rest) => {
            answer_with(headers, status, Body::Pieces(PiecesBody::new(next, rest)))
        }
    }
}

fn answer_with(headers: HeaderMap, status: StatusCode, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A response that another part of the server made. Its headers are added to `headers`.
pub(crate) fn stream(mut headers: HeaderMap, response: http::Response<http2::Body>) -> Response {
    let (head, body) = response.into_parts();
    headers.extend(head.headers);
    answer_with(headers, head.status, Body::Stream(Box::new(StreamBody { body, flow: None })))
}

/// A response without a body and without a content type.
pub(crate) fn empty(headers: HeaderMap, status: StatusCode) -> Response {
    answer(headers, status, Bytes::new())
}

/// A JSON response.
pub(crate) fn json(mut headers: HeaderMap, status: StatusCode, body: Vec<u8>) -> Response {
    headers.insert(CONTENT_TYPE, JSON);
    answer(headers, status, body)
}

/// A response in plain text that ends with a newline, as Go's `http.Error` writes it.
pub(crate) fn text_error(mut headers: HeaderMap, status: StatusCode, text: &'static str) -> Response {
    debug_assert!(text.ends_with('\n'), "{text:?}");
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    answer(headers, status, text)
}

/// There is no such page.
pub(crate) fn not_found(headers: HeaderMap) -> Response {
    text_error(headers, StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The page does not support this method, only those in `allow`.
pub(crate) fn method_not_allowed(mut headers: HeaderMap, allow: &'static str) -> Response {
    headers.insert(ALLOW, HeaderValue::from_static(allow));
    text_error(headers, StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

/// `{"message":…}`, the form of errors of `/v2/members`, `/v2/auth` and similar pages. No final newline.
pub(crate) fn message(headers: HeaderMap, status: StatusCode, message: impl AsRef<[u8]>) -> Response {
    let mut body = Vec::with_capacity(16 + message.as_ref().len());
    body.extend_from_slice(b"{\"message\":");
    json::write_string(&mut body, message.as_ref());
    body.push(b'}');
    json(headers, status, body)
}

/// A numbered error with its own status.
pub(crate) fn api_error(headers: HeaderMap, error: &ApiError) -> Response {
    api_error_as(headers, status_of(error), error)
}

/// The status of a response with a numbered error.
pub(crate) fn status_of(error: &ApiError) -> StatusCode {
    StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The body of a response with a numbered error.
pub(crate) fn body_of(error: &ApiError) -> Vec<u8> {
    let mut body = error.to_json();
    body.push(b'\n');
    body
}

/// A numbered error with a status that only this layer knows.
pub(crate) fn api_error_as(mut headers: HeaderMap, status: StatusCode, error: &ApiError) -> Response {
    headers.insert(X_ETCD_INDEX, number(error.index));
    json(headers, status, body_of(error))
}

/// Why a request is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadRequest {
    /// The target or the headers are malformed.
    Malformed,
    /// There is no Host header.
    HostMissing,
    /// The Host header is invalid.
    HostMalformed,
    /// The transfer coding is unknown.
    TransferEncoding,
}

/// The request is malformed; the connection ends. As in Go, the status line has the reason too.
pub(crate) fn bad_request(mut headers: HeaderMap, why: BadRequest) -> Response {
    headers.insert(CONTENT_TYPE, TEXT);
    close(&mut headers);
    let (text, reason): (_, &'static [u8]) = match why {
        BadRequest::TransferEncoding => {
            return answer(headers, StatusCode::NOT_IMPLEMENTED, "Unsupported transfer encoding");
        }
        BadRequest::Malformed => ("400 Bad Request", b"Bad Request"),
        BadRequest::HostMissing => {
            ("400 Bad Request: missing required Host header", b"Bad Request: missing required Host header")
        }
        BadRequest::HostMalformed => {
            ("400 Bad Request: malformed Host header", b"Bad Request: malformed Host header")
        }
    };
    let mut response = answer(headers, StatusCode::BAD_REQUEST, text);
    response.extensions_mut().insert(ReasonPhrase::from_static(reason));
    response
}

/// Marks that the connection ends with this response.
pub(crate) fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, CLOSE);
}

/// A permanent redirect to `path`, which is not escaped. Keeps the query.
pub(crate) fn redirect_permanently(
    headers: HeaderMap,
    method: &Method,
    path: &[u8],
    query: Option<&str>,
) -> Response {
    redirect_with(headers, method, path, query, (StatusCode::MOVED_PERMANENTLY, "Moved Permanently"))
}

/// A temporary redirect.
pub(crate) fn redirect(headers: HeaderMap, method: &Method, path: &[u8]) -> Response {
    redirect_with(headers, method, path, None, (StatusCode::FOUND, "Found"))
}

fn redirect_with(
    mut headers: HeaderMap,
    method: &Method,
    path: &[u8],
    query: Option<&str>,
    (status, reason): (StatusCode, &str),
) -> Response {
    let mut url = String::with_capacity(path.len() + query.map_or(0, str::len) + 8);
    text::push_url_path(&mut url, path);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        url.push('?');
        url.push_str(query);
    }
    let Ok(location) = HeaderValue::from_str(&url) else {
        return bad_request(headers, BadRequest::Malformed);
    };
    headers.insert(LOCATION, location);
    if matches!(*method, Method::GET | Method::HEAD) {
        headers.insert(CONTENT_TYPE, HTML);
    }
    let mut body = String::new();
    if *method == Method::GET {
        body.push_str("<a href=\"");
        text::push_html(&mut body, &url);
        body.push_str("\">");
        body.push_str(reason);
        body.push_str("</a>.\n\n");
    }
    answer(headers, status, body)
}

/// How many numbers [`number`] remembers; a power of two.
const NUMBERS: usize = 16;

thread_local! {
    /// Header values of the last numbers: reads send the same index again and again.
    static NUMBER_VALUES: RefCell<[Option<(u64, HeaderValue)>; NUMBERS]> =
        const { RefCell::new([const { None }; NUMBERS]) };
}

/// A number as a header value.
pub(crate) fn number(number: u64) -> HeaderValue {
    NUMBER_VALUES.with_borrow_mut(|values| {
        // The remainder is less than NUMBERS.
        let slot = &mut values[usize::try_from(number % NUMBERS as u64).unwrap_or_default()];
        match slot {
            Some((known, value)) if *known == number => value.clone(),
            _ => slot.insert((number, HeaderValue::from(number))).1.clone(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn body(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_redirect_keeps_the_query_and_speaks_html_to_readers() {
        let response =
            redirect_permanently(HeaderMap::new(), &Method::GET, "/a b/é".as_bytes(), Some("x=1&y=<"));
        assert_eq!(response.headers()[LOCATION], "/a%20b/%C3%A9?x=1&y=<");
        assert_eq!(response.headers()[CONTENT_TYPE], HTML);
        assert_eq!(
            body(response).await,
            "<a href=\"/a%20b/%C3%A9?x=1&amp;y=&lt;\">Moved Permanently</a>.\n\n"
        );
        let response = redirect_permanently(HeaderMap::new(), &Method::PUT, b"/a", Some(""));
        assert_eq!(response.headers()[LOCATION], "/a");
        assert_eq!(response.headers().get(CONTENT_TYPE), None);
        assert_eq!(body(response).await, "");
    }

    #[tokio::test]
    async fn a_long_body_comes_in_frames() {
        let long = vec![b'x'; 3 * FRAME_BYTES_MAX + 1];
        let mut body = Body::Whole(long.clone().into());
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(long.len() as u64));
        let mut seen = Vec::new();
        let mut frames = 0;
        while let Some(frame) = body.frame().await {
            seen.extend_from_slice(&frame.unwrap().into_data().unwrap());
            frames += 1;
        }
        assert_eq!((seen == long, frames), (true, 4));
    }

    #[test]
    fn numbers_are_not_mixed_up() {
        for wanted in [0, 16, 0, 1, 17, u64::MAX, 1, 16] {
            assert_eq!(number(wanted), wanted.to_string().as_str());
        }
    }
}

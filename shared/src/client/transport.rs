//! Requests to one member, and the answers with the errors of this client.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::timeout;

use super::endpoint::Origin;
use super::error::RequestError;
use crate::net::{Dialer, HttpAnswer, HttpClient, HttpError, HttpOptions, HttpRequest, Proxy, io_reason};

/// The most header lines of an answer: a proxy may add some.
const HEADER_LINES_MAX: usize = 1000;

/// The most idle connections: as many as an import uses at most. More are closed.
const IDLE_CONNECTIONS_MAX: usize = 512;
/// The largest answer that is kept: a recursive listing of a full store is some hundred megabytes.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Makes and keeps connections.
#[derive(Debug)]
pub(super) struct Transport {
    http: HttpClient,
    proxy: Option<Proxy>,
}

/// The head of an answer, with its body still to come.
#[derive(Debug)]
pub(super) struct Answer {
    answer: HttpAnswer,
    authority: String,
}

impl Transport {
    /// A transport with a time limit for dialling.
    pub(super) fn new(dialer: Dialer, dial_timeout: Duration, proxy: Option<Proxy>) -> Transport {
        let options = HttpOptions {
            dial_timeout,
            header_lines_max: HEADER_LINES_MAX,
            idle_max: IDLE_CONNECTIONS_MAX,
            proxy: proxy.clone(),
        };
        Transport { http: HttpClient::new(dialer, options), proxy }
    }

    /// Sends a request and waits for the head of the answer, without limit.
    pub(super) async fn round_trip(
        &self,
        origin: &Origin,
        question: &HttpRequest,
    ) -> Result<Answer, RequestError> {
        match self.http.send(&origin.target, question).await {
            Ok(answer) => Ok(Answer { answer, authority: origin.authority.clone() }),
            Err(HttpError::Proxy(reason)) if reason.is_empty() => Err(self.nonsense_of_proxy()),
            Err(HttpError::OfProxy(error)) if matches!(*error, HttpError::Malformed(_)) => {
                Err(self.nonsense_of_proxy())
            }
            Err(HttpError::OfProxy(error)) => Err(failed(*error, &self.proxy_authority(), 0)),
            Err(error) => Err(failed(error, &origin.authority, 0)),
        }
    }
}

impl Transport {
    fn proxy_authority(&self) -> String {
        self.proxy.as_ref().map(Proxy::to_string).unwrap_or_default()
    }

    fn nonsense_of_proxy(&self) -> RequestError {
        RequestError::Http(format!("malformed HTTP response from the proxy {}", self.proxy_authority()))
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.answer.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// Reads the body.
    pub(super) async fn body(self) -> Result<Bytes, RequestError> {
        self.body_within(ANSWER_BYTES_MAX).await
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn body_within(self, limit: usize) -> Result<Bytes, RequestError> {
        let Answer { answer, authority } = self;
        answer.body(limit).await.map_err(|error| failed(error, &authority, limit))
    }

    /// Reads the body of an answer whose sender sends progress notices. Leading white space is removed.
    pub(super) async fn body_with_signs(self, silence_max: Duration) -> Result<Bytes, RequestError> {
        let Answer { mut answer, authority } = self;
        let mut body = Vec::new();
        loop {
            let silent = |_| RequestError::Read {
                address: authority.clone(),
                reason: format!("no sign of life for {} s", silence_max.as_secs()),
            };
            let piece = timeout(silence_max, answer.piece()).await.map_err(silent)?;
            let Some(bytes) = piece.map_err(|error| failed(error, &authority, ANSWER_BYTES_MAX))? else {
                return Ok(body.into());
            };
            let bytes = if body.is_empty() { bytes.trim_ascii_start() } else { &bytes };
            if body.len() + bytes.len() > ANSWER_BYTES_MAX {
                return Err(RequestError::TooLarge { endpoint: authority, limit: ANSWER_BYTES_MAX });
            }
            body.extend_from_slice(bytes);
        }
    }
}

/// Converts an HTTP error to this client's error. `limit` is the limit of the body.
fn failed(error: HttpError, authority: &str, limit: usize) -> RequestError {
    let address = authority.to_owned();
    match error {
        HttpError::Dial(error) => error.into(),
        HttpError::Tls(failure) => failure.into(),
        HttpError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => RequestError::Eof { address },
        HttpError::Io(error) => RequestError::Read { address, reason: io_reason(&error) },
        HttpError::Closed(_) => RequestError::Eof { address },
        HttpError::Malformed(reason) => {
            RequestError::Http(format!("malformed HTTP response from {address}: {reason}"))
        }
        // The original says no more than this.
        HttpError::Proxy(reason) | HttpError::Unsendable(reason) => RequestError::Http(reason),
        HttpError::OfProxy(error) => failed(*error, authority, limit),
        HttpError::TooLarge => RequestError::TooLarge { endpoint: address, limit },
    }
}

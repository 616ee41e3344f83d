//! Connections: HTTP/1.1 on what [`crate::net`] dials, and keeping an idle connection for the next call.

use std::error::Error as _;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::endpoint::Origin;
use super::error::RequestError;
use super::via::Via;
use crate::net::{Dialer, Stream, TlsFailure, io_reason};

/// Header lines of an answer: a proxy on the way may add some.
const HEADER_LINES_MAX: usize = 1000;

/// As many as an import writes keys at a time at most; more idle ones are closed.
const IDLE_CONNECTIONS_MAX: usize = 512;
/// The largest answer that is kept: a recursive listing of a full store is some hundred megabytes.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 30;

type Sender = SendRequest<Full<Bytes>>;

/// Makes and keeps connections.
#[derive(Debug)]
pub(super) struct Transport {
    dialer: Dialer,
    dial_timeout: Duration,
    via: Option<Via>,
    idle: Mutex<Vec<(Origin, Sender)>>,
}

/// The head of an answer, with its body still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    origin: Origin,
    sender: Sender,
}

impl Transport {
    /// A transport that gives up dialling after a time.
    pub(super) fn new(dialer: Dialer, dial_timeout: Duration, via: Option<Via>) -> Transport {
        Transport { dialer, dial_timeout, via, idle: Mutex::default() }
    }

    /// Sends a request and waits for the head of the answer, without limit.
    pub(super) async fn round_trip(
        &self,
        origin: &Origin,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Answer, RequestError> {
        let request = match &self.via {
            Some(via) if !origin.target.tls => via.addressed(request, origin)?,
            _ => request,
        };
        while let Some(mut sender) = self.take_idle(origin) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(response) => return Ok(Answer { response, origin: origin.clone(), sender }),
                // The other side closed the idle connection before the request was on its way.
                Err(error) if error.is_canceled() => {}
                // The same, a moment later: to read again does no harm.
                Err(error) if error.is_incomplete_message() && request.method().is_safe() => {}
                Err(error) => return Err(self.broken(origin, &error)),
            }
        }
        let mut sender = self.connect(origin).await?;
        match sender.send_request(request).await {
            Ok(response) => Ok(Answer { response, origin: origin.clone(), sender }),
            Err(error) => Err(self.broken(origin, &error)),
        }
    }

    /// Reads the body, and keeps the connection for the next request.
    pub(super) async fn body(&self, answer: Answer) -> Result<Bytes, RequestError> {
        self.body_within(answer, ANSWER_BYTES_MAX).await
    }

    /// The same with a limit to the bytes.
    pub(super) async fn body_within(&self, answer: Answer, limit: usize) -> Result<Bytes, RequestError> {
        let Answer { response, origin, sender } = answer;
        let body = match Limited::new(response.into_body(), limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => self.broken(&origin, &error),
                    Err(error) if error.is::<LengthLimitError>() => {
                        RequestError::TooLarge { endpoint: origin.authority, limit }
                    }
                    Err(error) => RequestError::Http(error.to_string()),
                });
            }
        };
        self.keep(origin, sender);
        Ok(body)
    }

    /// Reads the body of an answer whose sender has promised signs of life, and keeps the connection. White space in
    /// front is left out.
    pub(super) async fn body_with_signs(
        &self,
        answer: Answer,
        silence_max: Duration,
    ) -> Result<Bytes, RequestError> {
        let Answer { mut response, origin, sender } = answer;
        let mut body = Vec::new();
        loop {
            let silent = |_| RequestError::Read {
                address: origin.authority.clone(),
                reason: format!("no sign of life for {} s", silence_max.as_secs()),
            };
            let frame = timeout(silence_max, response.body_mut().frame()).await.map_err(silent)?;
            let Some(frame) = frame else { break };
            // Trailers are of no interest.
            let Ok(bytes) = frame.map_err(|error| self.broken(&origin, &error))?.into_data() else {
                continue;
            };
            let bytes = if body.is_empty() { bytes.trim_ascii_start() } else { &bytes };
            if body.len() + bytes.len() > ANSWER_BYTES_MAX {
                return Err(RequestError::TooLarge { endpoint: origin.authority, limit: ANSWER_BYTES_MAX });
            }
            body.extend_from_slice(bytes);
        }
        self.keep(origin, sender);
        Ok(body.into())
    }

    fn keep(&self, origin: Origin, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push((origin, sender));
        }
    }

    fn take_idle(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let at = idle.iter().position(|(other, _)| other == origin)?;
        Some(idle.swap_remove(at).1)
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, RequestError> {
        let stream = self.reach(origin).await?;
        let (sender, connection) = http1::Builder::new()
            .title_case_headers(true)
            .max_headers(HEADER_LINES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(origin, &error))?;
        // Ends when the sender is dropped or the other side closes; its errors come out of the requests.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// A connection to a host, or to the proxy that leads there.
    async fn reach(&self, origin: &Origin) -> Result<Stream, RequestError> {
        let Some(via) = &self.via else {
            return Ok(self.dialer.connect(&origin.target, self.dial_timeout).await?);
        };
        match self.dialer.connect(&via.origin.target, self.dial_timeout).await? {
            Stream::Plain(socket) if origin.target.tls => {
                let socket = via.tunnel(socket, origin).await?;
                Ok(self.dialer.secure(&origin.target, socket).await?)
            }
            stream => Ok(stream),
        }
    }

    /// Why HTTP on a connection failed.
    fn broken(&self, origin: &Origin, error: &hyper::Error) -> RequestError {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return self.broken_io(origin, error);
            }
            cause = error.source();
        }
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            RequestError::Eof { address: origin.authority.clone() }
        } else {
            RequestError::Http(format!("malformed HTTP response from {}: {error}", origin.authority))
        }
    }

    fn broken_io(&self, origin: &Origin, error: &io::Error) -> RequestError {
        if let Some(failure) = TlsFailure::of(error) {
            return RequestError::Tls(failure.clone());
        }
        let address = origin.authority.clone();
        if error.kind() == io::ErrorKind::UnexpectedEof {
            RequestError::Eof { address }
        } else {
            RequestError::Read { address, reason: io_reason(error) }
        }
    }
}

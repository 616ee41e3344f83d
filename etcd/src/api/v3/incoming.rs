//! The bodies of gRPC requests: how much memory they take while they arrive.
//!
//! A client may have thousands of requests in progress on one connection, and each may send all of a long message but its
//! last byte. So long messages share a room, as the bodies over HTTP/1 do; those that come in one frame are not counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tonic::{Code, Status};

use crate::transport::http2::Body;
use crate::transport::request::{BodyBudget, BodyError, BodyShare, read_rest};

/// The flag and the length before each message.
const HEAD_BYTES: usize = 5;

/// What the incomplete messages of all streams of requests may take together. Watches and keep-alives have short messages,
/// which come in one frame.
const PARTIAL_BYTES_MAX: usize = 64 << 20;

/// What all requests share.
pub(super) struct IncomingRoom {
    budget: BodyBudget,
    partial: Arc<AtomicUsize>,
    message_bytes_max: usize,
}

impl IncomingRoom {
    pub(super) fn new(message_bytes_max: usize) -> IncomingRoom {
        IncomingRoom {
            budget: BodyBudget::new(message_bytes_max),
            partial: Arc::default(),
            message_bytes_max,
        }
    }

    /// Reads the body of a request that has one message. Keep the share as long as the body.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<(Body, Option<BodyShare>), Status> {
        let first = loop {
            match body.frame().await {
                None => break Bytes::new(),
                Some(Err(error)) => return Err(Status::from_error(error.into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => break data,
                    Err(_) => {}
                },
            }
        };
        if let Some(length) = message_length(&first)
            && length > self.message_bytes_max
        {
            return Err(too_long(length, self.message_bytes_max));
        }
        if body.is_end_stream() {
            return Ok((Body::new(Full::new(first)), None));
        }
        let limit = self.message_bytes_max.saturating_add(HEAD_BYTES);
        match read_rest(limit, &self.budget, first, &mut body).await {
            Ok((whole, share)) => Ok((Body::new(Full::new(whole)), share)),
            Err(BodyError::TooLarge) => Err(too_long(limit, self.message_bytes_max)),
            Err(BodyError::Broken) => Err(Status::cancelled("the request ended early")),
            Err(BodyError::NoRoom) => Err(no_room()),
        }
    }

    /// Reads the body of a request in JSON, which needs more room than the message that it stands for: four bytes for
    /// three.
    pub(super) async fn read_json(
        &self,
        body: &mut Incoming,
    ) -> Result<(Bytes, Option<BodyShare>), BodyError> {
        read_rest(self.message_bytes_max.saturating_mul(2), &self.budget, Bytes::new(), body).await
    }

    /// The body of a request that has any number of messages.
    pub(super) fn stream(&self, body: Incoming) -> Body {
        Body::new(Metered { body, total: self.partial.clone(), counted: 0, position: Position::default() })
    }
}

/// The length of the message that begins here, if it can be told.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(1..HEAD_BYTES)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

/// What Go's library says about a message that is too long.
pub(super) fn too_long(length: usize, limit: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("grpc: received message larger than max ({length} vs. {limit})"),
    )
}

fn no_room() -> Status {
    Status::resource_exhausted("too many large requests at the same time, try again later")
}

/// Where a row of messages is cut.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Position {
    /// The bytes of the next message's head that have arrived.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// The bytes of the message that are still to come.
    missing: usize,
    /// Those that have arrived.
    arrived: usize,
}

impl Position {
    /// Passes over bytes. Returns how many of the last, incomplete message have arrived.
    fn pass(&mut self, mut bytes: &[u8]) -> usize {
        while !bytes.is_empty() {
            if self.missing == 0 {
                self.arrived = 0;
                self.head[self.head_bytes] = bytes[0];
                self.head_bytes += 1;
                bytes = &bytes[1..];
                if self.head_bytes == HEAD_BYTES {
                    self.head_bytes = 0;
                    self.missing = message_length(&self.head).unwrap_or(0);
                }
                continue;
            }
            let length = bytes.len().min(self.missing);
            self.missing -= length;
            self.arrived += length;
            bytes = &bytes[length..];
        }
        if self.missing == 0 { 0 } else { self.arrived }
    }
}

/// A body that counts what it holds of a message that is not complete.
struct Metered {
    body: Incoming,
    total: Arc<AtomicUsize>,
    /// What of the total is of this body.
    counted: usize,
    position: Position,
}

impl Metered {
    fn count(&mut self, partial: usize) {
        if partial != self.counted {
            self.total.fetch_add(partial, Relaxed);
            self.total.fetch_sub(self.counted, Relaxed);
            self.counted = partial;
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.count(0);
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            let partial = self.position.pass(data);
            self.count(partial);
            if partial > 0 && self.total.load(Relaxed) > PARTIAL_BYTES_MAX {
                return Poll::Ready(Some(Err(no_room())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_incomplete_message_counts_however_the_bytes_are_cut() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![7; usize::from(length)]].concat();
        let row = [message(3), message(0), message(200)].concat();
        let mut whole = Position::default();
        assert_eq!(whole.pass(&row), 0);
        assert_eq!(whole.pass(&row[..row.len() - 1]), 199);
        assert_eq!(whole.pass(&row[row.len() - 1..]), 0);
        for cut in 0..row.len() {
            let mut position = Position::default();
            let wanted = match cut {
                6..8 => cut - 5,
                19.. => cut - 18,
                _ => 0,
            };
            assert_eq!(position.pass(&row[..cut]), wanted, "{cut}");
            assert_eq!(position.pass(&row[cut..]), 0, "{cut}");
        }
        let mut single = Position::default();
        let last = row.iter().map(|byte| single.pass(&[*byte])).collect::<Vec<_>>();
        assert_eq!((last[6], last[7], last[row.len() - 2], last[row.len() - 1]), (2, 0, 199, 0));
    }
}

//! The messages in a response of a service in this process.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http_body::Body as _;
use tonic::{Code, Status};

use crate::transport::http2::Body;

/// A frame begins with a flag and the length of its message.
const HEAD_BYTES: usize = 5;

/// Reads the messages of a response.
pub(super) struct Messages {
    body: Body,
    read: BytesMut,
    ended: bool,
}

impl Messages {
    /// Begins to read. An error that comes before every message is returned here.
    pub(super) fn new(response: Response<Body>) -> Result<Messages, Status> {
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        Ok(Messages { body: response.into_body(), read: BytesMut::new(), ended: false })
    }

    /// The next message; `None` after the last one, if all went well.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(message) = self.take() {
                return Poll::Ready(Some(Ok(message)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                self.ended = true;
                continue;
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(status) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
            };
            if let Some(trailers) = frame.trailers_ref() {
                self.ended = true;
                match Status::from_header_map(trailers) {
                    Some(status) if status.code() != Code::Ok => return Poll::Ready(Some(Err(status))),
                    _ => {}
                }
            } else if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }

    /// The first message of what was read, if it is complete.
    fn take(&mut self) -> Option<Bytes> {
        let length: [u8; 4] = self.read.get(1..HEAD_BYTES)?.try_into().ok()?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        if self.read.len() - HEAD_BYTES < length {
            return None;
        }
        self.read.advance(HEAD_BYTES);
        Some(self.read.split_to(length).freeze())
    }
}

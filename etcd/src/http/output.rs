//! Bytes on their way to a client without the HTTP library.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use shared::net::Stream;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep};

/// What is about to be written: small things together, a large body by itself and uncopied.
#[derive(Default)]
pub(crate) struct Output {
    pub(super) small: Vec<u8>,
    /// Comes after `small`, with what ends it.
    pub(super) large: Option<(Bytes, &'static [u8])>,
    /// How much of it all is written.
    written: usize,
    /// Runs while the client does not read.
    slow: Option<Pin<Box<Sleep>>>,
}

impl Output {
    /// What begins with these bytes, and nothing large.
    pub(super) fn of(small: Vec<u8>) -> Output {
        Output { small, ..Output::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_none()
    }

    /// How much of it is written, while something of it is left.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Writes what is left of it; then gives its memory back.
    ///
    /// # Errors
    /// When the client is gone, or reads nothing for as long as `patience`.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut Stream,
        patience: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let before = self.written;
        let written = self.poll_parts(socket, cx);
        if written.is_ready() {
            *self = Output::default();
            return written;
        }
        // Nearly always there is room, and no need for a timer.
        let slow = self.slow.get_or_insert_with(|| Box::pin(sleep(patience)));
        if self.written > before {
            slow.as_mut().reset(Instant::now() + patience);
        }
        slow.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_parts(&mut self, socket: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (large, end) = self.large.as_ref().map_or((&b""[..], &b""[..]), |(body, end)| (body, end));
        let mut before = 0;
        for part in [&self.small[..], large, end] {
            while self.written < before + part.len() {
                match ready!(Pin::new(&mut *socket).poll_write(cx, &part[self.written - before..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.written += written,
                }
            }
            before += part.len();
        }
        Pin::new(socket).poll_flush(cx)
    }
}

/// `HTTP/1.1 404 Not Found`, with the end of its line.
pub(super) fn push_status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

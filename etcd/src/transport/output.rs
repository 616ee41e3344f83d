//! Bytes that are written to a client without the HTTP library.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use shared::net::Stream;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep};

use super::pieces::{PIECE_BYTES, PIECE_BYTES_MAX, RemainingPieces};

/// Bytes to write: small parts in one buffer, a large body uncopied.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) small: Vec<u8>,
    /// Written after `small`; the second part ends it.
    pub(crate) large: Option<(Bytes, &'static [u8])>,
    /// Written after that, in chunks that are produced while they are sent.
    pub(crate) rest: Option<RemainingPieces>,
    /// The size of the last chunk. It grows as long as the client keeps up.
    piece_bytes: usize,
    /// How many bytes of `small` and `large` are written.
    position: usize,
    /// How many bytes were written in total.
    written: usize,
    /// A chunk has just been written: other tasks run first.
    yields: bool,
    /// Other tasks had their turn; writing can go on.
    yielded: bool,
    /// Runs while the client does not read.
    slow: Option<Pin<Box<Sleep>>>,
}

impl Output {
    /// Starts with these bytes.
    pub(super) fn of(small: Vec<u8>) -> Output {
        Output { small, ..Output::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_none() && self.rest.is_none()
    }

    /// Whether another response may be appended.
    pub(crate) fn takes_more(&self, bytes_max: usize) -> bool {
        self.large.is_none() && self.rest.is_none() && self.small.len() < bytes_max
    }

    /// The bytes written so far, while something is left.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Whether the last [`poll_write`](Output::poll_write) stopped only to let other tasks run.
    pub(super) fn has_yielded(&self) -> bool {
        self.yielded
    }

    /// Writes the rest; then frees the memory.
    ///
    /// # Errors
    /// If the client is gone, or reads nothing for `stall_time_max`.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut Stream,
        stall_time_max: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let before = self.written;
        self.yielded = false;
        let written = self.poll_all(socket, cx);
        if written.is_ready() {
            *self = Output::default();
            return written;
        }
        // Nearly always the socket has room, so no timer is needed.
        let slow = self.slow.get_or_insert_with(|| Box::pin(sleep(stall_time_max)));
        if self.written > before {
            slow.as_mut().reset(Instant::now() + stall_time_max);
        }
        slow.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_all(&mut self, socket: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let written = self.poll_parts(socket, cx);
            if written.is_pending() {
                self.piece_bytes = PIECE_BYTES;
            }
            ready!(written)?;
            let Some(rest) = &mut self.rest else { return Pin::new(socket).poll_flush(cx) };
            if std::mem::take(&mut self.yields) {
                self.yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.piece_bytes = (2 * self.piece_bytes).clamp(PIECE_BYTES, PIECE_BYTES_MAX);
            let (piece, is_last) = rest.next(self.piece_bytes);
            self.small.clear();
            self.position = 0;
            self.push_chunk(piece, is_last);
            self.yields = true;
        }
    }

    /// Appends a chunk. The last one also ends the body.
    pub(crate) fn push_chunk(&mut self, piece: Vec<u8>, is_last: bool) {
        // Writing to a vector cannot fail.
        let _ = write!(self.small, "{:x}\r\n", piece.len());
        self.large = Some((piece.into(), if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" }));
        if is_last {
            self.rest = None;
        }
    }

    fn poll_parts(&mut self, socket: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (large, end) = self.large.as_ref().map_or((&b""[..], &b""[..]), |(body, end)| (body, end));
        let parts = [&self.small[..], large, end];
        let len = parts.iter().map(|part| part.len()).sum();
        while self.position < len {
            let mut before = self.position;
            // One vectored write: the head and the end of a chunk are not worth a packet and a system call of their
            // own.
            let left = parts.map(|part| {
                let from = before.min(part.len());
                before -= from;
                IoSlice::new(&part[from..])
            });
            match ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.position += written;
                    self.written += written;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Appends a status line such as `HTTP/1.1 404 Not Found`, with its line end.
pub(crate) fn push_status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

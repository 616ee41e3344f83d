//! The socket as the HTTP library sees it.
//!
//! This layer answers plain reads itself (see `api/v2/plain_get.rs`), rewrites request lines (see
//! [`request_line`](super::request_line)) and records the state of the connection.
//!
//! **Invariant:** it inspects and changes bytes only at the first byte of a request, while the library has no other
//! request to parse or answer. The library receives one request at a time and reports where its body ends (see
//! [`RequestPosition`]); later bytes wait here. So it does not matter how the bytes are split into reads.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use shared::net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flow::{Flow, Until};
use super::output::Output;
use super::position::RequestPosition;
use super::request_line::{self, RequestLine};
use super::site::{HeadRoom, Site};

/// The most bytes that one read takes from the socket.
const READ_BYTES_MAX: usize = 16 * 1024;

/// The response to an unsupported version of HTTP.
const VERSION_UNKNOWN: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version\r\n\
    Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    505 HTTP Version Not Supported: unsupported protocol version";

/// The socket that the HTTP library uses.
pub(super) struct HttpIo<S> {
    site: Arc<S>,
    socket: Stream,
    flow: Arc<Flow>,
    /// Responses to plain reads that are being written.
    out: Output,
    /// Bytes that were read but not passed on.
    held: BytesMut,
    /// The position of the first byte of `held`, or else of the next byte that is read.
    position: RequestPosition,
    state: State,
    /// The number of header lines that the library has room for.
    room: HeadRoom,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes are passed on as soon as the library may have them.
    Passing,
    /// `held` begins with an incomplete request line.
    Holding,
    /// `held` belongs to a head with more lines than the library has room for.
    Crowded,
    /// [`VERSION_UNKNOWN`] is sent; this number of bytes is written. Then the connection ends.
    Refusing(usize),
}

impl<S: Site> HttpIo<S> {
    /// A connection at the first byte of a request. `carry` has been read already.
    pub(super) fn new(
        site: Arc<S>,
        socket: Stream,
        carry: BytesMut,
        flow: Arc<Flow>,
        room: HeadRoom,
    ) -> HttpIo<S> {
        let out = Output::default();
        HttpIo {
            site,
            socket,
            flow,
            out,
            held: carry,
            position: RequestPosition::Start,
            state: State::Passing,
            room,
        }
    }

    /// The socket, and the bytes that were read but not passed on.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.socket, self.held)
    }

    /// Checks the request line at the beginning of `held`.
    fn check_request_line(&mut self) {
        self.state = State::Passing;
        self.flow.holds(false);
        match request_line::check(&self.held) {
            RequestLine::Fine => {}
            // The library refuses a line that is too long.
            RequestLine::Partial if self.held.len() >= self.site.http_server().limits.head_bytes_max => {}
            RequestLine::Partial => {
                self.state = State::Holding;
                self.flow.holds(true);
            }
            RequestLine::VersionUnknown => self.state = State::Refusing(0),
            RequestLine::Rewritten { line, consumed } => {
                let mut rewritten = BytesMut::with_capacity(line.len() + self.held.len() - consumed);
                rewritten.extend_from_slice(&line);
                rewritten.extend_from_slice(&self.held[consumed..]);
                self.held = rewritten;
            }
        }
    }

    /// Learns from the library how long the body is, after it has parsed the head.
    fn learn_body_length(&mut self) {
        if self.position.is_in_head() && !self.flow.is_in_head() {
            self.position.head_parsed(self.flow.body());
        }
    }

    /// What has to happen before the library may have the next bytes.
    fn waits_for(&self) -> Option<Until> {
        match self.position {
            RequestPosition::Start if !self.flow.is_idle() => Some(Until::Idle),
            position if position.awaits_parsing() => Some(Until::Parsed),
            _ => None,
        }
    }

    /// Counts the next bytes as passed on, and returns how many of `bytes` those are. `None` if the library needs
    /// more room first.
    fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let is_first = match self.position {
            RequestPosition::Start => true,
            RequestPosition::Unknown => self.flow.is_idle(),
            _ => false,
        };
        let Some(portion) = self.position.advance(bytes, self.room.lines_max()) else {
            self.flow.crowds();
            self.state = State::Crowded;
            return None;
        };
        self.flow.delivers(portion.bytes, is_first);
        if portion.is_followed {
            self.flow.follows();
        }
        Some(portion.bytes)
    }

    /// Passes on held bytes as far as possible. Returns whether there were any.
    fn pass_held(&mut self, buf: &mut ReadBufCursor<'_>) -> bool {
        let mut held = std::mem::take(&mut self.held);
        let passed = self.pass(&held[..held.len().min(buf.remaining())]);
        if let Some(bytes) = passed {
            buf.put_slice(&held[..bytes]);
            held.advance(bytes);
        }
        if !held.is_empty() {
            self.held = held;
        }
        passed.is_some()
    }

    /// Writes the responses to plain reads.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            self.flow.writes();
            let before = self.out.written();
            let written = self.out.poll_write(&mut self.socket, self.site.http_server().stall_time_max(), cx);
            if self.out.written() != before {
                // A slow reader makes progress, too.
                self.flow.wrote();
            }
            ready!(written)?;
            self.flow.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_refuse(&mut self, cx: &mut Context<'_>, mut written: usize) -> Poll<io::Result<()>> {
        while written < VERSION_UNKNOWN.len() {
            written += ready!(Pin::new(&mut self.socket).poll_write(cx, &VERSION_UNKNOWN[written..]))?;
            self.state = State::Refusing(written);
        }
        self.flow.leaves_unread();
        self.held.clear();
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl<S: Site> Read for HttpIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_out(cx))?;
            match this.state {
                // For the library the connection ends here.
                State::Refusing(written) => return this.poll_refuse(cx, written),
                // The connection checks this state after each poll.
                State::Crowded => return Poll::Pending,
                State::Passing | State::Holding => {}
            }
            this.learn_body_length();
            let waits_for = this.waits_for();
            if let Some(until) = waits_for
                && (until == Until::Parsed || !this.held.is_empty())
            {
                this.flow.postpones(until);
                return Poll::Pending;
            }
            if this.state == State::Passing && !this.held.is_empty() {
                if this.position == RequestPosition::Start {
                    this.check_request_line();
                }
                if this.state == State::Passing && this.pass_held(&mut buf) {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES_MAX];
            let limit = READ_BYTES_MAX.min(buf.remaining());
            let mut fresh = ReadBuf::uninit(&mut space[..limit]);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut fresh))?;
            let bytes = fresh.filled();
            if bytes.is_empty() {
                if this.held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                // The rest of the request line will not come. The library responds to that.
                this.position = RequestPosition::Unknown;
                this.state = State::Passing;
                continue;
            }
            if this.state == State::Holding || waits_for.is_some() {
                this.held.extend_from_slice(bytes);
                this.state = State::Passing;
                continue;
            }
            if this.position == RequestPosition::Start {
                // A plain read is not counted as activity: a client that sends nothing else does not need the
                // library.
                let used = this.site.answer_at_once(bytes, &mut this.out);
                if used > 0 || request_line::check(bytes) != RequestLine::Fine {
                    this.held.extend_from_slice(&bytes[used..]);
                    continue;
                }
            }
            let passed = this.pass(bytes);
            let (now, later) = bytes.split_at(passed.unwrap_or(0));
            this.held.extend_from_slice(later);
            if passed.is_some() {
                buf.put_slice(now);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Site> Write for HttpIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.flow.writes();
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, bytes))?;
        this.flow.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let client = this.flow.client();
        if client.is_requested() {
            client.set_left(this.socket.is_read_closed());
        }
        ready!(this.poll_out(cx))?;
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        this.flow.flushed();
        if this.flow.is_streaming() {
            // Wakes the task when the client closes its side. Input of a later request waits and does not matter.
            let _ = this.socket.tcp().poll_read_ready(cx);
            this.flow.client().set_left(this.socket.is_read_closed());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

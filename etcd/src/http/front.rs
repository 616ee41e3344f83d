//! The side of a connection that the HTTP library reads from and writes to.
//!
//! It answers plain reads itself (see [`plain_get`](super::plain_get)), repairs request lines (see
//! [`request_line`](super::request_line)) and notes where the connection stands. It does so only where a request
//! certainly begins: bytes of bodies pass untouched, and where several requests come at once only the first that is
//! not plain is looked at.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use shared::net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flow::Flow;
use super::output::Output;
use super::request_line::{self, RequestLine};
use super::site::{HeadRoom, Site};

/// Bytes that one read takes from the socket.
const READ_BYTES_MAX: usize = 16 * 1024;

/// What is answered to a version of HTTP that we do not speak.
const VERSION_UNKNOWN: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version\r\n\
    Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    505 HTTP Version Not Supported: unsupported protocol version";

/// A socket as the HTTP library uses it.
pub(super) struct Front<S> {
    site: Arc<S>,
    socket: Stream,
    flow: Arc<Flow>,
    /// Answers to plain reads, on their way.
    out: Output,
    /// Bytes that are read and not yet handed on.
    held: BytesMut,
    state: State,
    /// What the library has room for.
    room: HeadRoom,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes go on as they come.
    Passing,
    /// `held` begins a request whose first line is not whole yet.
    Holding,
    /// `held` belongs to a head that the library in its present form has no room for.
    Crowded,
    /// The connection ends with [`VERSION_UNKNOWN`], of which so much is written.
    Refusing(usize),
}

impl<S: Site> Front<S> {
    /// A connection of which `carry` is read already; at a request's first byte.
    pub(super) fn new(
        site: Arc<S>,
        socket: Stream,
        carry: BytesMut,
        flow: Arc<Flow>,
        room: HeadRoom,
    ) -> Front<S> {
        let out = Output::default();
        let state = State::Passing;
        let mut front = Front { site, socket, flow, out, held: carry, state, room };
        front.look_at_held();
        front
    }

    /// The socket, and what is read of it but was not handed on.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.socket, self.held)
    }

    /// Looks at the request line that `held` begins with.
    fn look_at_held(&mut self) {
        self.state = State::Passing;
        self.flow.holds(false);
        if self.held.is_empty() {
            return;
        }
        match request_line::check(&self.held) {
            RequestLine::Fine => {}
            // What is too long is for the library to refuse.
            RequestLine::Partial if self.held.len() >= self.site.wire().limits.head_bytes_max => {}
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

    /// Whether bytes that are to be handed on must wait for a library with more room.
    fn is_crowded_by(&self, bytes: &[u8]) -> bool {
        let crowded = self.room.next().is_some() && self.flow.outgrows(bytes, self.room.bytes());
        if crowded {
            self.flow.crowds();
        }
        crowded
    }

    /// Hands on what is held.
    fn deliver_held(&mut self, buf: &mut ReadBufCursor<'_>) {
        let bytes = &self.held[..self.held.len().min(buf.remaining())];
        self.flow.delivers(bytes);
        buf.put_slice(bytes);
        self.held.advance(bytes.len());
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// Sees off what answers plain reads.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            self.flow.writes();
            let before = self.out.written();
            let written = self.out.poll_write(&mut self.socket, self.site.wire().patience(), cx);
            if self.out.written() != before {
                // A client that reads slowly is one that something moves for.
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

impl<S: Site> Read for Front<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_out(cx))?;
            match this.state {
                // To the library the connection ends here.
                State::Refusing(written) => return this.poll_refuse(cx, written),
                // The connection's owner looks after each poll.
                State::Crowded => return Poll::Pending,
                State::Passing if this.is_crowded_by(&this.held) => {
                    this.state = State::Crowded;
                    continue;
                }
                State::Passing if !this.held.is_empty() => {
                    this.deliver_held(&mut buf);
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES_MAX];
            let limit = READ_BYTES_MAX.min(buf.remaining());
            let mut fresh = ReadBuf::uninit(&mut space[..limit]);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut fresh))?;
            let bytes = fresh.filled();
            if this.state == State::Holding {
                if bytes.is_empty() {
                    this.state = State::Passing;
                } else {
                    this.held.extend_from_slice(bytes);
                    this.look_at_held();
                }
                continue;
            }
            if this.flow.is_at_head() && !bytes.is_empty() {
                // What was asked before comes first. A plain read does not count as activity: who does nothing else
                // needs the library no longer.
                let is_next = this.flow.is_idle();
                let used = if is_next { this.site.answer_at_once(bytes, &mut this.out) } else { 0 };
                if used > 0 || request_line::check(bytes) != RequestLine::Fine {
                    this.held.extend_from_slice(&bytes[used..]);
                    this.look_at_held();
                    continue;
                }
            }
            if !bytes.is_empty() {
                if this.is_crowded_by(bytes) {
                    this.held.extend_from_slice(bytes);
                    this.state = State::Crowded;
                    continue;
                }
                this.flow.delivers(bytes);
                buf.put_slice(bytes);
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: Site> Write for Front<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.flow.writes();
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, bytes))?;
        this.flow.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.flow.asks_for_client() {
            this.flow.client_is_found(this.socket.is_read_closed());
        }
        ready!(this.poll_out(cx))?;
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        this.flow.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

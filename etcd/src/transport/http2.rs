//! A client connection that speaks HTTP/2: with TLS as negotiated, without TLS known by its first bytes.
//!
//! The connection and all its streams are one task. So it stays on the thread that it started on, one event wakes the
//! task once however many streams it concerns, and whatever a client began ends with its connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use shared::net::Stream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Stop;
use crate::connections::{Activity, Phase};

/// What a client sends first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The requests of one connection that may be in progress at a time; a client keeps further ones back. The original has
/// no limit. Watches count while they are open, and one stream has any number of them.
pub(crate) const STREAMS_MAX: u32 = 16 * 1024;

/// What a client may send of one request before it is told that the server has read some of it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same for all requests of a connection together. What a hostile client can make a connection buffer.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What may wait to be sent in one stream; then the response is not asked for more.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// How long a connection that has to make room may take to say goodbye.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(500);

/// The body of a response over HTTP/2.
pub(crate) type Body = tonic::body::Body;

/// A task that answers one request.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What answers requests over HTTP/2.
pub(crate) trait Http2Service: Send + Sync + 'static {
    /// The settings of connections.
    fn settings(&self) -> Http2Settings;

    /// Answers one request.
    fn answer(
        self: Arc<Self>,
        client: Arc<ClientInfo>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
}

/// Settings of connections over HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Http2Settings {
    /// After this time without a frame the server pings its client.
    pub(crate) ping_interval: Duration,
    /// How long the client may take to answer that.
    pub(crate) ping_timeout: Duration,
    /// The most bytes of a request's headers: names, values and 32 for each.
    pub(crate) header_bytes_max: u32,
}

impl Default for Http2Settings {
    /// The original's times, and room for headers as over HTTP/1.
    fn default() -> Http2Settings {
        Http2Settings {
            ping_interval: Duration::from_secs(2 * 60 * 60),
            ping_timeout: Duration::from_secs(20),
            header_bytes_max: 128 * 1024,
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientInfo {
    /// The client's address, if known.
    pub(crate) address: Option<SocketAddr>,
    /// Whether the connection uses TLS.
    pub(crate) encrypted: bool,
}

/// Whether `bytes`, the first of a connection, are the beginning of [`PREFACE`] or begin with it.
pub(super) fn may_be_preface(bytes: &[u8]) -> bool {
    let length = bytes.len().min(PREFACE.len());
    bytes[..length] == PREFACE[..length]
}

/// Reads until it is certain whether a connection speaks HTTP/2. `carry` has its first bytes and gets those that are
/// read. `None` if the connection ends, or has to.
pub(super) async fn read_preface(
    socket: &mut Stream,
    carry: &mut BytesMut,
    stop: &mut Stop<'_>,
    time_max: Duration,
) -> Option<bool> {
    stop.activity().enter(Phase::Arriving);
    let read = async {
        while may_be_preface(carry) && carry.len() < PREFACE.len() {
            if socket.read_buf(carry).await.ok()? == 0 {
                // The HTTP/1 library decides what to say to that.
                return Some(false);
            }
        }
        Some(may_be_preface(carry))
    };
    let mut read = pin!(timeout(time_max, read));
    poll_fn(|cx| {
        if let Poll::Ready(read) = read.as_mut().poll(cx) {
            return Poll::Ready(read.ok().flatten());
        }
        if stop.poll(cx) || stop.must_close() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Serves a connection whose first bytes are in `carry`, until it ends. When the server stops, no further request is
/// accepted, and those in progress are answered.
pub(super) async fn serve(
    socket: Stream,
    carry: BytesMut,
    service: Arc<dyn Http2Service>,
    stop: &mut Stop<'_>,
) {
    let activity = stop.activity().clone();
    let client = Arc::new(ClientInfo { address: socket.peer_addr().ok(), encrypted: socket.is_tls() });
    let tasks = NewTasks::default();
    let settings = service.settings();
    let answer = service_fn(move |request| {
        let answer = service.clone().answer(client.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(Rewound { carry, socket });
    let mut connection = builder(&settings, tasks.clone()).serve_connection(io, answer);
    let mut streams = Streams { running: FuturesUnordered::new(), new: tasks, activity };
    streams.activity.enter(Phase::Idle);
    let mut leaves = false;
    let mut goodbye = None;
    poll_fn(|cx| {
        if !leaves && (stop.poll(cx) || stop.must_close()) {
            leaves = true;
            Pin::new(&mut connection).graceful_shutdown();
            // A server that stops waits for its clients; one that needs room does not.
            goodbye = stop.must_close().then(|| Box::pin(sleep_until(Instant::now() + GOODBYE_TIME_MAX)));
        }
        loop {
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !streams.poll(cx) {
                break;
            }
        }
        match &mut goodbye {
            Some(goodbye) if streams.running.is_empty() => goodbye.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    })
    .await;
}

fn builder(settings: &Http2Settings, tasks: NewTasks) -> http2::Builder<NewTasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.ping_interval)
        .keep_alive_timeout(settings.ping_timeout)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(settings.header_bytes_max)
        .auto_date_header(false);
    builder
}

/// Tasks that the library has begun and that were not polled yet.
#[derive(Clone, Default)]
struct NewTasks(Arc<Mutex<Vec<Task>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for NewTasks {
    fn execute(&self, task: F) {
        self.0.lock().push(Box::pin(task));
    }
}

/// The streams of a connection that are in progress.
struct Streams {
    running: FuturesUnordered<Task>,
    new: NewTasks,
    activity: Arc<Activity>,
}

impl Streams {
    /// Polls what can go on. Returns whether a stream began or ended: then the connection has something to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let was_idle = self.running.is_empty();
        let new = std::mem::take(&mut *self.new.0.lock());
        let mut changed = !new.is_empty();
        self.running.extend(new);
        if was_idle && !self.running.is_empty() {
            self.activity.enter(Phase::Busy);
        }
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {
            changed = true;
        }
        if changed && self.running.is_empty() {
            self.activity.enter(Phase::Idle);
        }
        changed
    }
}

/// A socket, and the bytes that were read from it already.
struct Rewound {
    carry: BytesMut,
    socket: Stream,
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.carry.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let length = this.carry.len().min(buf.remaining());
        buf.put_slice(&this.carry[..length]);
        this.carry.advance(length);
        if this.carry.is_empty() {
            this.carry = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_known_in_pieces_and_no_request_is_taken_for_it() {
        for length in 0..=PREFACE.len() {
            assert!(may_be_preface(&PREFACE[..length]), "{length}");
        }
        assert!(may_be_preface(&[&PREFACE[..], b"more"].concat()));
        for other in
            ["PUT / HTTP/1.1", "POST", "PRI * HTTP/2.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", "GET /", "\0"]
        {
            assert!(!may_be_preface(other.as_bytes()), "{other}");
        }
    }
}

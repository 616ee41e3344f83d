//! Watches: an answer that begins at once and goes on as events come.
//!
//! A waiting client needs none of the HTTP library's buffers, and ten thousand of them would cost more than
//! all keys. So a watch takes the connection over: what is left is the socket and the watcher. When it ends
//! the connection goes back, as long as the answer was framed so that the client can tell its end.

use std::io;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use shared::event::Event;
use shared::net::Stream;
use shared::store::Watcher;
use shared::time::UnixNanos;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::connection::Stop;
use super::date::http_date;
use super::exchange::Framing;
use super::progress::Progress;

/// Bytes of events that are gathered for one write.
const WRITE_BYTES: usize = 16 * 1024;

/// Bytes of later requests that are kept while a watch goes on. Beyond it the client waits.
const CARRY_BYTES_MAX: usize = 64 * 1024;

/// How long a client may take to read what is written at once. One that stopped reading is let go.
const WRITE_TIME_MAX: Duration = Duration::from_secs(300);

/// A watch that is about to take its connection over.
pub(super) struct WatchStart {
    watcher: Watcher,
    stream: bool,
    chunked: bool,
    keep_alive: bool,
    head: Vec<u8>,
    form: Option<Box<EventForm>>,
    progress: Progress,
}

/// How an event is written for a client of another API than v2.
pub(super) type EventForm = dyn Fn(&Event, UnixNanos) -> Bytes + Send + Sync;

/// Whether the connection can serve another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It can.
    Whole,
    /// The client is gone, or could not tell where the answer ends.
    Closed,
}

impl WatchStart {
    /// An answer with these headers.
    pub(super) fn new(
        watcher: Watcher,
        stream: bool,
        framing: Framing,
        headers: &HeaderMap,
        now: UnixNanos,
    ) -> WatchStart {
        let chunked = framing.chunked;
        let keep_alive = framing.keep_alive && chunked;
        let mut head = Vec::with_capacity(320);
        head.extend_from_slice(if chunked { b"HTTP/1.1 200 OK\r\n" } else { b"HTTP/1.0 200 OK\r\n" });
        push_headers(&mut head, headers);
        head.extend_from_slice(b"Date: ");
        head.extend_from_slice(&http_date(now));
        head.extend_from_slice(match (chunked, keep_alive) {
            (true, true) => b"\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice(),
            (true, false) => b"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            (false, _) => b"\r\n\r\n",
        });
        let progress = Progress::default();
        WatchStart { watcher, stream, chunked, keep_alive, head, form: None, progress }
    }

    /// The same with notices while nothing happens, if the client asks for them.
    pub(super) fn with_progress(self, progress: Progress) -> WatchStart {
        WatchStart { progress, ..self }
    }

    /// The same with events in another form than that of v2.
    pub(super) fn with_form(self, form: Box<EventForm>) -> WatchStart {
        WatchStart { form: Some(form), ..self }
    }
}

/// Headers as they go over the wire, each in its line.
pub(super) fn push_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        push_title_case(out, name.as_str());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// `x-etcd-index` as `X-Etcd-Index`.
fn push_title_case(out: &mut Vec<u8>, name: &str) {
    let mut starts = true;
    for byte in name.bytes() {
        out.push(if starts { byte.to_ascii_uppercase() } else { byte });
        starts = byte == b'-';
    }
}

/// Answers a watch until its last event, the client's end or ours. Input goes to `carry`.
pub(super) async fn run(
    socket: &mut Stream,
    start: WatchStart,
    carry: &mut BytesMut,
    clock: impl Fn() -> UnixNanos,
    stop: &mut Stop<'_, '_>,
) -> Ended {
    let WatchStart { mut watcher, stream, chunked, keep_alive, head, form, progress } = start;
    let mut out = Output { small: head, large: None, chunked, form };
    let mut notices = progress.notices();
    loop {
        let next = std::future::poll_fn(|cx| {
            if stop.poll(cx) {
                return Poll::Ready(Next::Stop);
            }
            let more = out.gather(&mut watcher, stream, &clock, cx);
            if !more {
                return Poll::Ready(Next::Last);
            }
            if out.is_empty() && notices.as_mut().is_some_and(|notices| notices.is_due(cx)) {
                out.push_notice();
            }
            if !out.is_empty() {
                return Poll::Ready(Next::Write);
            }
            match poll_client(socket, carry, cx) {
                Poll::Ready(()) => Poll::Ready(Next::Stop),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match next {
            // The answer is cut, not ended: the client is to see that there may be more to come.
            Next::Stop => return Ended::Closed,
            Next::Write | Next::Last if out.write(socket, stop).await.is_err() => return Ended::Closed,
            // Whatever was written shows that the connection is alive.
            Next::Write => {
                if let Some(notices) = &mut notices {
                    notices.restart();
                }
            }
            Next::Last if keep_alive => {
                // One event ends many long polls at once. What comes next on this connection waits until all
                // of them have their answer.
                tokio::task::yield_now().await;
                return Ended::Whole;
            }
            Next::Last => return Ended::Closed,
        }
    }
}

enum Next {
    /// There is something to write, and more may follow.
    Write,
    /// There is something to write, and then it is over.
    Last,
    /// There is no one to write to, or we stop.
    Stop,
}

/// Reads what the client sends meanwhile. Ready when it is gone.
pub(super) fn poll_client(socket: &mut Stream, carry: &mut BytesMut, cx: &mut Context<'_>) -> Poll<()> {
    while carry.len() < CARRY_BYTES_MAX {
        let mut space = [const { MaybeUninit::uninit() }; 512];
        let mut buf = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *socket).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => carry.extend_from_slice(buf.filled()),
            Poll::Ready(_) => return Poll::Ready(()),
        }
    }
    Poll::Pending
}

/// What is about to be written: small things together, a large event by itself and uncopied.
struct Output {
    small: Vec<u8>,
    /// Comes after `small`, with what ends its chunk.
    large: Option<(Bytes, &'static [u8])>,
    chunked: bool,
    form: Option<Box<EventForm>>,
}

impl Output {
    fn is_empty(&self) -> bool {
        self.small.is_empty()
    }

    /// Takes the events that are there, up to a write's worth. Whether more may come.
    fn gather(
        &mut self,
        watcher: &mut Watcher,
        stream: bool,
        clock: impl Fn() -> UnixNanos,
        cx: &mut Context<'_>,
    ) -> bool {
        while self.large.is_none() && self.small.len() < WRITE_BYTES {
            match watcher.poll_next(cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => {
                    self.push_end();
                    return false;
                }
                Poll::Ready(Some(event)) => {
                    self.push(&event, clock(), !stream);
                    if !stream {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn push(&mut self, event: &Arc<Event>, now: UnixNanos, last: bool) {
        let body = match &self.form {
            None => event.rendered(now),
            Some(form) => form(event, now),
        };
        let end: &'static [u8] = match (self.chunked, last) {
            (true, true) => b"\r\n0\r\n\r\n",
            (true, false) => b"\r\n",
            (false, _) => b"",
        };
        if self.chunked {
            // Writing into a vector cannot fail.
            let _ = write!(self.small, "{:x}\r\n", body.len());
        }
        if body.len() > WRITE_BYTES {
            self.large = Some((body, end));
        } else {
            self.small.reserve_exact(body.len() + end.len());
            self.small.extend_from_slice(&body);
            self.small.extend_from_slice(end);
        }
    }

    /// White space, which readers of JSON pass over.
    fn push_notice(&mut self) {
        self.small.extend_from_slice(if self.chunked { b"1\r\n\n\r\n" } else { b"\n" });
    }

    /// Ends an answer that has no last event.
    fn push_end(&mut self) {
        if self.chunked {
            self.small.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Writes all of it, and gives its memory back.
    async fn write(&mut self, socket: &mut Stream, stop: &mut Stop<'_, '_>) -> io::Result<()> {
        let small = std::mem::take(&mut self.small);
        write_all(socket, &small, stop).await?;
        if let Some((body, end)) = self.large.take() {
            write_all(socket, &body, stop).await?;
            write_all(socket, end, stop).await?;
        }
        std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_flush(cx)).await
    }
}

pub(super) async fn write_all(
    socket: &mut Stream,
    mut bytes: &[u8],
    stop: &mut Stop<'_, '_>,
) -> io::Result<()> {
    let mut write = |cx: &mut Context<'_>| {
        while !bytes.is_empty() {
            match Pin::new(&mut *socket).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => bytes = &bytes[written..],
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // A client that does not read must not keep the server from stopping.
                Poll::Pending if stop.poll(cx) => return Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    };
    // Nearly always there is room, and no need for a timer.
    match std::future::poll_fn(|cx| Poll::Ready(write(cx))).await {
        Poll::Ready(result) => result,
        Poll::Pending => timeout(WRITE_TIME_MAX, std::future::poll_fn(write)).await?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_title_case() {
        let mut out = Vec::new();
        push_title_case(&mut out, "x-etcd-cluster-id");
        assert_eq!(out, b"X-Etcd-Cluster-Id");
    }
}

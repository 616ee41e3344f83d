//! What takes a connection over from the HTTP library: a watch, or a response that may take long.
//!
//! While such a request waits, a client that closes its side is noticed, and the work is dropped.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use shared::net::Stream;
use shared::time::UnixNanos;
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::Stop;
use super::output::{Output, push_status_line};
use super::request::Framing;
use super::site::HttpServer;
use super::text::http_date;
use super::watch::Watch;

/// The most bytes of later requests that are kept during a takeover. Then the client has to wait.
const CARRY_BYTES_MAX: usize = 64 * 1024;

/// What takes a connection over from the HTTP library.
pub(super) enum Takeover {
    /// A watch.
    Watch(Box<Watch>),
    /// A request whose response may take long.
    Wait(Box<PendingAnswer>),
}

/// Whether the connection can serve another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakeoverEnd {
    /// It can.
    KeepAlive,
    /// The client is gone, or the response had no recognizable end.
    Closed,
}

/// The work for the client. It returns the status and the text of the response.
type Work = Pin<Box<dyn Future<Output = (StatusCode, Vec<u8>)> + Send>>;

/// A request that takes its connection over until its response is ready.
pub(crate) struct PendingAnswer {
    work: Work,
    keep_alive: bool,
    /// `HEAD`: the response has no body, only its length.
    head: bool,
    headers: HeaderMap,
}

impl PendingAnswer {
    /// Sends a response in plain text with these headers when `work` is done.
    pub(crate) fn new(
        work: impl Future<Output = (StatusCode, Vec<u8>)> + Send + 'static,
        framing: Framing,
        headers: HeaderMap,
    ) -> PendingAnswer {
        let keep_alive = framing.chunked && framing.keep_alive;
        PendingAnswer { work: Box::pin(work), keep_alive, head: framing.head, headers }
    }
}

/// Waits for the response and sends it, unless the client leaves or the server stops before. Further input goes to
/// `carry`.
pub(super) async fn wait(
    socket: &mut Stream,
    pending: &mut PendingAnswer,
    carry: &mut BytesMut,
    http_server: &HttpServer,
    clock: impl Fn() -> UnixNanos,
    stop: &mut Stop<'_>,
) -> TakeoverEnd {
    let PendingAnswer { work, keep_alive, head, headers } = pending;
    let done = poll_fn(|cx: &mut Context<'_>| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        match poll_client(socket, carry, cx) {
            Poll::Pending if !stop.poll(cx) => Poll::Pending,
            _ => Poll::Ready(None),
        }
    })
    .await;
    let Some((status, text)) = done else { return TakeoverEnd::Closed };
    let mut out = Vec::with_capacity(320 + text.len());
    push_status_line(&mut out, status);
    push_headers(&mut out, headers);
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\nDate: ");
    out.extend_from_slice(&http_date(clock()));
    out.extend_from_slice(format!("\r\nContent-Length: {}\r\n", text.len()).as_bytes());
    out.extend_from_slice(if *keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    if !*head {
        out.extend_from_slice(&text);
    }
    let mut out = Output::of(out);
    let written = poll_fn(|cx| match out.poll_write(socket, http_server.stall_time_max(), cx) {
        // A client that does not read must not delay the end of the server.
        Poll::Pending if stop.poll(cx) => Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
        written => written,
    });
    if written.await.is_ok() && *keep_alive { TakeoverEnd::KeepAlive } else { TakeoverEnd::Closed }
}

/// Appends headers, each on its own line.
pub(super) fn push_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        push_title_case(out, name.as_str());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `x-etcd-index` as `X-Etcd-Index`.
fn push_title_case(out: &mut Vec<u8>, name: &str) {
    let mut starts = true;
    for byte in name.bytes() {
        out.push(if starts { byte.to_ascii_uppercase() } else { byte });
        starts = byte == b'-';
    }
}

/// Reads input that arrives meanwhile. Ready when the client is gone.
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

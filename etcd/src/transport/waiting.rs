//! Answers that may be long in coming, to clients that may go away before.
//!
//! As a watch does, a request that waits takes its connection over: so it is seen when its client closes its
//! side, and the work is dropped.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use shared::net::Stream;
use shared::time::UnixNanos;

use super::connection::Stop;
use super::output::{Output, push_status_line};
use super::request::Framing;
use super::site::Wire;
use super::text::http_date;
use super::watch::{Ended, poll_client, push_headers};

/// What is done for the client: the status and the text of the answer come out of it.
type Work = Pin<Box<dyn Future<Output = (StatusCode, Vec<u8>)> + Send>>;

/// A request that is about to take its connection over.
pub(crate) struct Waiting {
    work: Work,
    keep_alive: bool,
    /// The answer has no body, though it tells the length of one.
    head: bool,
    headers: HeaderMap,
}

impl Waiting {
    /// An answer in plain text, with these headers besides its own, once `work` is done.
    pub(crate) fn new(
        work: impl Future<Output = (StatusCode, Vec<u8>)> + Send + 'static,
        framing: Framing,
        headers: HeaderMap,
    ) -> Waiting {
        let keep_alive = framing.chunked && framing.keep_alive;
        Waiting { work: Box::pin(work), keep_alive, head: framing.head, headers }
    }
}

/// Waits for the answer and gives it, unless the client or the server ends before. Input goes to `carry`.
pub(super) async fn run(
    socket: &mut Stream,
    waiting: &mut Waiting,
    carry: &mut BytesMut,
    wire: &Wire,
    clock: impl Fn() -> UnixNanos,
    stop: &mut Stop<'_>,
) -> Ended {
    let Waiting { work, keep_alive, head, headers } = waiting;
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
    let Some((status, text)) = done else { return Ended::Closed };
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
    let written = poll_fn(|cx| match out.poll_write(socket, wire.patience(), cx) {
        // A client that does not read must not keep the server from stopping.
        Poll::Pending if stop.poll(cx) => Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
        written => written,
    });
    if written.await.is_ok() && *keep_alive { Ended::Whole } else { Ended::Closed }
}

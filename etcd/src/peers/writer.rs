//! The half of a stream that a peer dials: what we say to it.
//!
//! The socket is taken over from the HTTP library once the answer is decided.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use node::version::SPOKEN;
use shared::net::{Stream, io_reason};
use shared::time::UnixNanos;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::client::{STALL_TIME_MAX, within, write_all};
use super::features::{FEATURES_HEADER, Features};
use super::frames::StreamKind;
use super::group::{self, Destination};
use super::outgoing::{Batch, Generation, Outgoing};

/// A link says that it is alive three times before the other side takes it for dead.
const LINK_HEARTBEAT_INTERVAL: Duration = Duration::from_nanos(5_000_000_000 / 3);

/// A stream that a peer has asked for and may have.
pub(super) struct StreamStart {
    pub(super) to: Arc<Destination>,
    pub(super) kind: StreamKind,
}

enum Next {
    Write(Batch),
    Alive,
    /// The peer has another connection, or is no peer any more.
    Replaced,
    /// The peer closed it.
    Gone,
}

/// Answers the request for a stream and writes all that is for that peer, until one of both sides ends it.
pub(super) async fn run(context: &group::Context, start: StreamStart, mut stream: Stream) {
    let StreamStart { to, kind } = start;
    let outgoing = to.outgoing(kind);
    let head = head(context, (context.local.clock)());
    if let Err(error) = write_all(&mut stream, &head).await {
        to.status.deactivate("write", kind.name(), &io_reason(&error));
        return;
    }
    let mut socket = match stream {
        Stream::Plain(socket) => Socket::Plain(Arc::new(socket)),
        stream @ Stream::Tls(_) => Socket::Tls(stream),
    };
    let Some(generation) = outgoing.attach(socket.direct()) else { return };
    let attached = Attached { context, to: &to, outgoing, generation };
    to.status.activate();
    match write_frames(&mut socket, &to, outgoing, generation).await {
        Ok(Next::Replaced) => {
            drop(attached);
            // The end of an answer, said in order; nobody minds if it does not arrive.
            let _ = socket.write_all(b"0\r\n\r\n").await;
        }
        Ok(_) => {}
        Err((action, error)) => to.status.deactivate(action, kind.name(), &io_reason(&error)),
    }
}

/// Gives the stream up when its connection ends, however that happens.
struct Attached<'a> {
    context: &'a group::Context,
    to: &'a Destination,
    outgoing: &'a Outgoing,
    generation: Generation,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if self.outgoing.detach(self.generation) {
            self.context.mailbox.tell_unreachable(self.to.id);
        }
    }
}

async fn write_frames(
    socket: &mut Socket,
    to: &Destination,
    outgoing: &Outgoing,
    generation: Generation,
) -> Result<Next, (&'static str, io::Error)> {
    let mut alive = Box::pin(sleep(LINK_HEARTBEAT_INTERVAL));
    loop {
        let next = poll_fn(|cx| {
            match outgoing.poll_take(generation, cx) {
                Poll::Ready(Some(batch)) => return Poll::Ready(Next::Write(batch)),
                Poll::Ready(None) => return Poll::Ready(Next::Replaced),
                Poll::Pending => {}
            }
            // Where something is half written this task is about to be woken for it.
            if alive.as_mut().poll(cx).is_ready() && outgoing.occupy(generation) {
                return Poll::Ready(Next::Alive);
            }
            socket.poll_closed(cx).map(|()| Next::Gone)
        })
        .await;
        match next {
            Next::Write(batch) => {
                for bytes in [&batch.urgent, &batch.bulk] {
                    socket.write_all(bytes).await.map_err(|error| ("write", error))?;
                }
                outgoing.give_back(batch);
            }
            Next::Alive => {
                let (began, chunk) = (Instant::now(), outgoing.link_heartbeat());
                socket.write_all(&chunk).await.map_err(|error| ("heartbeat", error))?;
                let now = Instant::now();
                to.measures.told_alive(outgoing.kind().into(), now.duration_since(began));
                alive.as_mut().reset(now + LINK_HEARTBEAT_INTERVAL);
            }
            Next::Replaced | Next::Gone => return Ok(next),
        }
    }
}

/// The socket. A plain one is shared with those who have something to say, see [`Outgoing::flush`].
enum Socket {
    Plain(Arc<TcpStream>),
    Tls(Stream),
}

impl Socket {
    fn direct(&self) -> Option<Arc<TcpStream>> {
        match self {
            Socket::Plain(socket) => Some(socket.clone()),
            Socket::Tls(_) => None,
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let socket = match self {
            Socket::Plain(socket) => socket,
            Socket::Tls(stream) => return write_all(stream, bytes).await,
        };
        while !bytes.is_empty() {
            match socket.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    within(STALL_TIME_MAX, socket.writable()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ready when the peer has closed the connection. What it says is not for anybody.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 64];
        loop {
            let read = match self {
                Socket::Plain(socket) => match socket.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => socket.try_read(&mut space),
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Pending => return Poll::Pending,
                },
                Socket::Tls(stream) => {
                    let mut buffer = ReadBuf::new(&mut space);
                    match Pin::new(stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(read) => read.map(|()| buffer.filled().len()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            };
            match read {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

fn head(context: &group::Context, now: UnixNanos) -> Vec<u8> {
    let second = now.0.div_euclid(1_000_000_000);
    let date = jiff::Timestamp::from_second(second)
        .map(|time| time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string())
        .unwrap_or_default();
    let cluster_id = context.local.cluster_id;
    let features = Features::OURS;
    format!(
        "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: {cluster_id}\r\n{FEATURES_HEADER}: {features}\r\n\
         X-Server-Version: {SPOKEN}\r\n{date}Content-Type: text/plain; charset=utf-8\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}

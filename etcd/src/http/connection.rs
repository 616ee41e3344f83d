//! One client's connection, from its first byte to its last.
//!
//! The HTTP library is there only while there is something to do for it: an idle connection is a socket and
//! this task, and so is one that [watches](super::watch).

use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::service::service_fn;
use shared::net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep, timeout};

use super::flow::{Flow, Takeover};
use super::front::Front;
use super::listener::Listening;
use super::site::Site;
use super::waiting;
use super::watch::{self, Ended};

/// How often a connection is looked at. One at which nothing happened in between goes to rest.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How many looks in a row may find a client in the middle of a request or an answer, and nothing moving.
const STALLED_LOOKS_MAX: u32 = 30;

/// How long we read on after an answer to a request that was not read to its end. A socket that is closed
/// with input left is reset, and the client would not see the answer.
const LINGER_TIME: Duration = Duration::from_millis(500);

/// The sign that all connections are to end.
pub(super) struct Stop<'p, 'n> {
    listening: &'n Listening,
    notified: Pin<&'p mut Notified<'n>>,
    registered: bool,
}

impl Stop<'_, '_> {
    /// Whether the server stops. The task is woken when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.registered {
            self.registered = true;
            // A task's waker stays the same, so that once is enough.
            let _ = self.notified.as_mut().poll(cx);
        }
        self.listening.stopping.load(Ordering::Relaxed)
    }
}

/// Serves one connection until it ends.
pub(super) async fn run<S: Site>(mut socket: Stream, site: Arc<S>, listening: Arc<Listening>) {
    let notified = pin!(listening.stop.notified());
    let mut stop = Stop { listening: &listening, notified, registered: false };
    let mut carry = BytesMut::new();
    let mut stalled = 0;
    loop {
        // The library and its buffers come once there is something to read.
        if carry.is_empty() {
            match rest(&mut socket, &mut stop).await {
                Some(read) => carry = read,
                None => return,
            }
        }
        let read = std::mem::take(&mut carry);
        match Box::pin(speak(socket, read, &site, &mut stop)).await {
            Spoken::Closed => return,
            Spoken::Quiet(back, read) => {
                socket = back;
                carry = read;
                // Part of a request, and nothing more of it came.
                stalled = if carry.is_empty() { 0 } else { stalled + 1 };
                if stalled == STALLED_LOOKS_MAX {
                    return;
                }
            }
            Spoken::TakenOver(back, read, takeover) => {
                socket = back;
                carry = read;
                stalled = 0;
                let clock = || site.clock();
                let ended = match takeover {
                    Takeover::Watch(start) => {
                        watch::run(&mut socket, start, &mut carry, clock, &mut stop).await
                    }
                    Takeover::Wait(waiting) => {
                        waiting::run(&mut socket, waiting, &mut carry, clock, &mut stop).await
                    }
                };
                if ended == Ended::Closed {
                    return;
                }
            }
        }
    }
}

/// How the HTTP library's part of a connection ended. The bytes were read and are not yet used.
enum Spoken {
    /// The connection is over.
    Closed,
    /// Nothing is going on.
    Quiet(Stream, BytesMut),
    /// A watch or a wait begins.
    TakenOver(Stream, BytesMut, Takeover),
}

/// Reads requests and answers them, until there is nothing to do or a watch begins.
async fn speak<S: Site>(socket: Stream, carry: BytesMut, site: &Arc<S>, stop: &mut Stop<'_, '_>) -> Spoken {
    let wire = site.wire();
    let flow = Arc::new(Flow::new());
    let exchange = Arc::new(site.clone().meet(flow.clone(), socket.peer_addr().ok()));
    let front = Front::new(socket, carry, flow.clone(), wire.limits.head_bytes_max);
    // In a box of its own: one that was just given back is still in the processor's cache, while a place in each
    // connection's state is not where there are many.
    let service = service_fn(move |request| Box::pin(S::answer(exchange.clone(), request)));
    let mut connection = wire.http.serve_connection(front, service);
    let mut look = pin!(sleep(wire.look_interval));
    let mut looks = Looks::default();
    let mut look_again = true;
    let mut stopping = false;
    let end = std::future::poll_fn(|cx| {
        if !stopping && stop.poll(cx) {
            stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            // The library answers what it cannot parse, and reads no further.
            let lingers = flow.lingers() || result.is_err_and(|error| error.is_parse());
            return Poll::Ready(End::Closed { lingers });
        }
        if flow.is_taken_over() {
            return Poll::Ready(End::TakenOver);
        }
        while look_again || look.is_elapsed() {
            if look.is_elapsed() {
                match looks.next(&flow) {
                    Look::Busy => look.as_mut().reset(Instant::now() + wire.look_interval),
                    Look::Quiet => return Poll::Ready(End::Quiet),
                    Look::Stalled => return Poll::Ready(End::Cut),
                }
            }
            // Polled once, it wakes the task when it elapses; there is no need to poll it at each request.
            look_again = look.as_mut().poll(cx).is_ready();
        }
        Poll::Pending
    })
    .await;
    let parts = connection.into_parts();
    let (mut socket, held) = parts.io.into_parts();
    match end {
        End::Closed { lingers } => {
            if lingers {
                linger(&mut socket).await;
            }
            Spoken::Closed
        }
        End::Cut => Spoken::Closed,
        End::Quiet => Spoken::Quiet(socket, join(parts.read_buf, held)),
        End::TakenOver => match flow.take_over() {
            Some(takeover) => Spoken::TakenOver(socket, join(parts.read_buf, held), takeover),
            None => Spoken::Closed,
        },
    }
}

enum End {
    /// In order, or by the client. What it still sends is to be read where our answer might else be lost.
    Closed {
        lingers: bool,
    },
    /// By us, in the middle of something.
    Cut,
    Quiet,
    TakenOver,
}

/// What the library had read, and what it was yet to get. Copied, so that the library's buffer can go.
fn join(read: Bytes, held: BytesMut) -> BytesMut {
    if read.is_empty() {
        return held;
    }
    let mut joined = BytesMut::with_capacity(read.len() + held.len());
    joined.extend_from_slice(&read);
    joined.extend_from_slice(&held);
    joined
}

/// What regular looks at a connection tell.
#[derive(Default)]
struct Looks {
    activity: u32,
    stalled: u32,
}

enum Look {
    /// Something is going on.
    Busy,
    /// Nothing happened, and nothing is to be done.
    Quiet,
    /// The client owes us something for too long.
    Stalled,
}

impl Looks {
    fn next(&mut self, flow: &Flow) -> Look {
        let activity = flow.activity();
        if activity != self.activity {
            *self = Looks { activity, stalled: 0 };
            return Look::Busy;
        }
        if flow.is_idle() {
            return Look::Quiet;
        }
        if flow.waits_for_client() {
            self.stalled += 1;
            if self.stalled == STALLED_LOOKS_MAX {
                return Look::Stalled;
            }
        }
        Look::Busy
    }
}

/// Waits for the next bytes of an idle client. `None` when there will be none.
///
/// Idle connections are not closed, however long it takes: the kernel's probes find those whose client is
/// gone.
async fn rest(socket: &mut Stream, stop: &mut Stop<'_, '_>) -> Option<BytesMut> {
    std::future::poll_fn(|cx| {
        let mut space = [const { MaybeUninit::uninit() }; 2048];
        let mut buf = ReadBuf::uninit(&mut space);
        if stop.poll(cx) {
            return Poll::Ready(None);
        }
        Pin::new(&mut *socket).poll_read(cx, &mut buf).map(|read| {
            let bytes = buf.filled();
            (read.is_ok() && !bytes.is_empty()).then(|| BytesMut::from(bytes))
        })
    })
    .await
}

/// Takes what the client still sends, for a while.
async fn linger(socket: &mut Stream) {
    let drained = std::future::poll_fn(|cx| {
        if Pin::new(&mut *socket).poll_shutdown(cx).is_pending() {
            return Poll::Pending;
        }
        loop {
            let mut space = [const { MaybeUninit::uninit() }; 16 * 1024];
            let mut buf = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *socket).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let _ = timeout(LINGER_TIME, drained).await;
}

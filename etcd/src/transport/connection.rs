//! One client connection, from its first byte to its last.
//!
//! The HTTP library and its buffers exist only while a request is in progress. An idle connection is a socket and
//! this task, and so is one with a [watch](super::watch).

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::service::service_fn;
use shared::net::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::flow::Flow;
use super::http_io::HttpIo;
use super::http2;
use super::listener::ListenerState;
use super::output::Output;
use super::site::{HeadRoom, Site};
use super::takeover::{self, Takeover, TakeoverEnd};
use super::watch_thread::WatchThread;
use crate::connections::{Activity, Phase};

/// The interval between two checks of a connection. If nothing happened in between, the HTTP library is dropped.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A client that makes no progress in the middle of a request or a response is cut off after this number of checks.
pub(super) const STALLED_CHECKS_MAX: u32 = 30;

/// The bytes of a request that must arrive between two checks, on average: 8 KiB a second. A request may take
/// [`STALLED_CHECKS_MAX`] checks and the time that this rate allows; then it is cut off, because other clients may
/// need the connection.
const CHECK_BYTES_MIN: u64 = 80 * 1024;

/// How long input is still read after the response to a request that was not read to its end. A socket that is closed
/// with unread input sends a reset, and the client may lose the response.
const LINGER_TIME: Duration = Duration::from_millis(500);

/// Tells a connection that it has to end.
pub(super) struct Stop<'n> {
    state: &'n ListenerState,
    activity: &'n Arc<Activity>,
    registered: bool,
}

impl Stop<'_> {
    /// Whether the server stops. Wakes the task when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.registered {
            self.registered = true;
            // A task's waker does not change, so one registration is enough.
            self.activity.register(cx);
        }
        self.state.stopping.load(Ordering::Relaxed)
    }

    /// Whether this connection must close to make room for another one.
    pub(super) fn must_close(&self) -> bool {
        self.activity.must_close()
    }

    /// The state of the connection.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        self.activity
    }
}

/// A connection between two states.
pub(super) struct Connection {
    socket: Stream,
    /// Bytes that were read and not used yet.
    carry: BytesMut,
    /// What takes the connection over next; `None` for HTTP.
    takeover: Option<Takeover>,
}

impl Connection {
    /// A connection of which no byte has been read.
    pub(super) fn new(socket: Stream) -> Box<Connection> {
        Connection::before(socket, BytesMut::new(), None)
    }

    /// Boxed: inline it would occupy several slots in the state of the task, of which only one is used.
    fn before(socket: Stream, carry: BytesMut, takeover: Option<Takeover>) -> Box<Connection> {
        Box::new(Connection { socket, carry, takeover })
    }

    /// Removes the connection from this thread's runtime.
    pub(super) fn detach(self) -> io::Result<Detached> {
        let Connection { socket, carry, takeover } = self;
        Ok(Detached { socket: socket.detach()?, carry, takeover })
    }
}

/// A connection on its way from one thread to another.
pub(super) struct Detached {
    socket: net::Detached,
    carry: BytesMut,
    takeover: Option<Takeover>,
}

impl Detached {
    /// Adds the connection to this thread's runtime.
    pub(super) fn attach(self) -> io::Result<Box<Connection>> {
        let Detached { socket, carry, takeover } = self;
        Ok(Connection::before(socket.attach()?, carry, takeover))
    }
}

/// Serves a connection until it ends. On the main thread, which passes a `watch_thread`, a watch may have to move to
/// that thread: then the connection is returned.
pub(super) async fn serve_connection<S: Site>(
    mut connection: Box<Connection>,
    site: &Arc<S>,
    state: &ListenerState,
    activity: &Arc<Activity>,
    watch_thread: Option<&WatchThread>,
) -> Option<Box<Connection>> {
    let mut stop = Stop { state, activity, registered: false };
    let mut arriving = 0;
    let mut room = HeadRoom::Usual;
    // No request of HTTP/1 has arrived, so the connection may speak HTTP/2.
    let mut is_new = connection.carry.is_empty() && connection.takeover.is_none();
    loop {
        let (http_server, clock) = (site.http_server(), || site.clock());
        let ended = match &mut connection.takeover {
            None => None,
            Some(Takeover::Watch(_)) if watch_thread.is_some_and(WatchThread::takes_next) => {
                return Some(connection);
            }
            Some(Takeover::Watch(watch)) => {
                let _counted = watch_thread.map(WatchThread::count_on_main);
                let (socket, carry) = (&mut connection.socket, &mut connection.carry);
                let ended = poll_fn(|cx| watch.poll(socket, carry, site, &mut stop, cx)).await;
                // One event ends many long polls at once. All of them get their response before the next request on
                // this connection is read.
                yield_now().await;
                Some(ended)
            }
            Some(Takeover::Wait(pending)) => {
                let (socket, carry) = (&mut connection.socket, &mut connection.carry);
                Some(Box::pin(takeover::wait(socket, pending, carry, http_server, clock, &mut stop)).await)
            }
        };
        match ended {
            Some(TakeoverEnd::Closed) => return None,
            Some(_) => activity.enter(Phase::Idle),
            None => {}
        }
        let Connection { mut socket, mut carry, .. } = *connection;
        // The HTTP library and its buffers are created when there is something to read.
        if carry.is_empty() {
            carry = wait_for_request(&mut socket, &**site, &mut stop, &mut is_new).await?;
        }
        if is_new
            && http2::may_be_preface(&carry)
            && let Some(service) = site.http2()
        {
            let time_max = http_server.stall_time_max();
            if Box::pin(http2::read_preface(&mut socket, &mut carry, &mut stop, time_max)).await? {
                Box::pin(http2::serve(socket, carry, service, &mut stop)).await;
                return None;
            }
        }
        is_new = false;
        match Box::pin(serve_http(socket, carry, site, &mut stop, arriving, room)).await {
            HttpEnd::Closed => return None,
            HttpEnd::Crowded(back, checks) => {
                connection = back;
                arriving = checks;
                room = room.next().unwrap_or(room);
                continue;
            }
            HttpEnd::Quiet(back, checks) => {
                connection = back;
                // What is left is a part of a request.
                arriving = if connection.carry.is_empty() { 0 } else { checks };
            }
            HttpEnd::TakenOver(back) => {
                connection = back;
                arriving = 0;
            }
        }
        if connection.carry.is_empty() {
            room = HeadRoom::Usual;
            if connection.takeover.is_none() {
                activity.enter(Phase::Idle);
            }
        }
    }
}

/// How the HTTP library's part of a connection ended.
enum HttpEnd {
    /// The connection has ended.
    Closed,
    /// No request is in progress. If a part of a request is here, it has been arriving for this number of checks.
    Quiet(Box<Connection>, u32),
    /// A request with many header lines is arriving, for this number of checks so far.
    Crowded(Box<Connection>, u32),
    /// A watch or a pending answer takes the connection over.
    TakenOver(Box<Connection>),
}

/// Reads and answers requests until the connection is idle or taken over. The request at the beginning of `carry` has
/// been arriving for `arriving` checks, and its head may need `room`.
async fn serve_http<S: Site>(
    socket: Stream,
    carry: BytesMut,
    site: &Arc<S>,
    stop: &mut Stop<'_>,
    arriving: u32,
    room: HeadRoom,
) -> HttpEnd {
    let http_server = site.http_server();
    let flow = Arc::new(Flow::new(stop.activity.clone()));
    let exchange =
        Arc::new(site.clone().begin_exchange(flow.clone(), socket.peer_addr().ok(), socket.is_tls()));
    let io = HttpIo::new(site.clone(), socket, carry, flow.clone(), room);
    // In its own box: a box that was freed a moment ago is still in the processor's cache. With many connections, a
    // place in each connection's state is not.
    let service = service_fn(move |request| Box::pin(S::answer(exchange.clone(), request)));
    let mut connection = http_server.builder(room).serve_connection(io, service);
    let mut check_timer = pin!(sleep(http_server.check_interval));
    let mut checks = ProgressChecks { arriving, ..ProgressChecks::default() };
    let mut check_again = true;
    let mut stopping = false;
    let end = poll_fn(|cx| {
        if !stopping && stop.poll(cx) {
            stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        loop {
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                // The library responds to a request that it cannot parse, and reads no further.
                let lingers = flow.lingers() || result.is_err_and(|error| error.is_parse());
                return Poll::Ready(PollEnd::Closed { lingers });
            }
            if !flow.resumes() {
                break;
            }
        }
        if flow.is_streaming() && flow.client().was_seen_leaving() {
            return Poll::Ready(PollEnd::Cut);
        }
        if flow.is_taken_over() {
            return Poll::Ready(PollEnd::TakenOver);
        }
        if flow.is_crowded() && flow.is_idle() {
            return Poll::Ready(PollEnd::Crowded);
        }
        if stop.must_close() && flow.can_be_spared() {
            return Poll::Ready(PollEnd::Cut);
        }
        while check_again || check_timer.is_elapsed() {
            if check_timer.is_elapsed() {
                match checks.next(&flow) {
                    CheckResult::Busy => {
                        check_timer.as_mut().reset(Instant::now() + http_server.check_interval)
                    }
                    CheckResult::Quiet => return Poll::Ready(PollEnd::Quiet),
                    CheckResult::Stalled => return Poll::Ready(PollEnd::Cut),
                }
            }
            // Polled once, the timer wakes the task when it elapses. It need not be polled for each request.
            check_again = check_timer.as_mut().poll(cx).is_ready();
        }
        Poll::Pending
    })
    .await;
    let parts = connection.into_parts();
    let (mut socket, held) = parts.io.into_parts();
    match end {
        PollEnd::Closed { lingers } => {
            if lingers {
                linger(&mut socket).await;
            }
            HttpEnd::Closed
        }
        PollEnd::Cut => HttpEnd::Closed,
        PollEnd::Crowded => {
            HttpEnd::Crowded(Connection::before(socket, join(parts.read_buf, held), None), checks.arriving)
        }
        PollEnd::Quiet => {
            HttpEnd::Quiet(Connection::before(socket, join(parts.read_buf, held), None), checks.arriving)
        }
        PollEnd::TakenOver => {
            HttpEnd::TakenOver(Connection::before(socket, join(parts.read_buf, held), flow.take_over()))
        }
    }
}

enum PollEnd {
    /// In order, or by the client. With `lingers`, further input is read first, or the client could lose the
    /// response.
    Closed {
        lingers: bool,
    },
    /// By the server, in the middle of a request.
    Cut,
    Quiet,
    Crowded,
    TakenOver,
}

/// Joins what the library has read and what it has not received yet. The copy lets the library's buffer be freed.
fn join(read: Bytes, held: BytesMut) -> BytesMut {
    if read.is_empty() {
        return held;
    }
    let mut joined = BytesMut::with_capacity(read.len() + held.len());
    joined.extend_from_slice(&read);
    joined.extend_from_slice(&held);
    joined
}

/// The state of the regular checks of a connection.
#[derive(Default)]
struct ProgressChecks {
    activity: u32,
    stalled: u32,
    /// The number of the request that is arriving.
    requests_begun: u32,
    /// The checks since it began to arrive.
    arriving: u32,
}

enum CheckResult {
    /// A request is in progress.
    Busy,
    /// Nothing happened, and there is nothing to do.
    Quiet,
    /// The client has made no progress for too long.
    Stalled,
}

impl ProgressChecks {
    fn next(&mut self, flow: &Flow) -> CheckResult {
        if self.arrives_too_slowly(flow) {
            return CheckResult::Stalled;
        }
        let activity = flow.activity();
        if activity != self.activity {
            self.activity = activity;
            self.stalled = 0;
            return CheckResult::Busy;
        }
        if flow.is_idle() {
            return CheckResult::Quiet;
        }
        if flow.waits_for_client() {
            self.stalled += 1;
            if self.stalled == STALLED_CHECKS_MAX {
                return CheckResult::Stalled;
            }
        }
        CheckResult::Busy
    }

    /// Whether a request arrives too slowly, so that the client could keep the connection as long as it likes.
    fn arrives_too_slowly(&mut self, flow: &Flow) -> bool {
        let requests_begun = flow.requests_begun();
        if requests_begun != self.requests_begun || !flow.is_arriving() {
            self.requests_begun = requests_begun;
            self.arriving = 0;
        }
        if !flow.is_arriving() {
            return false;
        }
        self.arriving += 1;
        let earned = u32::try_from(flow.delivered() / CHECK_BYTES_MIN).unwrap_or(u32::MAX);
        self.arriving >= STALLED_CHECKS_MAX.saturating_add(earned)
    }
}

/// Waits for the next request that needs the HTTP library, and answers those before it that do not. Returns the first
/// bytes of that request, or `None` when the connection ends.
///
/// Idle connections are never closed for their age: keep-alive probes of the kernel find clients that are gone.
///
/// `is_new` becomes false with the first answer.
async fn wait_for_request<S: Site>(
    socket: &mut Stream,
    site: &S,
    stop: &mut Stop<'_>,
    is_new: &mut bool,
) -> Option<BytesMut> {
    let mut out = Output::default();
    let mut left = BytesMut::new();
    poll_fn(|cx| {
        loop {
            if !out.is_empty() {
                match out.poll_write(socket, site.http_server().stall_time_max(), cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending if !out.has_yielded() && stop.poll(cx) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if !left.is_empty() {
                return Poll::Ready(Some(std::mem::take(&mut left)));
            }
            if stop.poll(cx) {
                return Poll::Ready(None);
            }
            let mut space = [const { MaybeUninit::uninit() }; 2048];
            let mut buf = ReadBuf::uninit(&mut space);
            let read = match Pin::new(&mut *socket).poll_read(cx, &mut buf) {
                Poll::Pending if stop.activity.must_close_unless_readable(socket.tcp()) => {
                    return Poll::Ready(None);
                }
                read => ready!(read),
            };
            let bytes = buf.filled();
            if read.is_err() || bytes.is_empty() {
                return Poll::Ready(None);
            }
            stop.activity.enter(Phase::Idle);
            let used = site.answer_at_once(bytes, &mut out);
            *is_new &= used == 0;
            left.extend_from_slice(&bytes[used..]);
        }
    })
    .await
}

/// Reads and discards further input for a while.
async fn linger(socket: &mut Stream) {
    let drained = poll_fn(|cx| {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs checks while this number of bytes arrives between two of them, until one ends the connection.
    fn checks_until_cut(flow: &Flow, checks: &mut ProgressChecks, bytes: usize, most: u32) -> Option<u32> {
        (1..=most).find(|_| {
            flow.delivers(bytes, false);
            matches!(checks.next(flow), CheckResult::Stalled)
        })
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_cut_off() {
        let begin = || {
            let flow = Flow::default();
            flow.delivers(1, true);
            flow
        };
        let (flow, mut checks) = (begin(), ProgressChecks::default());
        assert_eq!(checks_until_cut(&flow, &mut checks, 1, 1000), Some(STALLED_CHECKS_MAX));
        // Checks before an idle phase count too.
        let flow = begin();
        let mut checks = ProgressChecks { arriving: STALLED_CHECKS_MAX - 2, ..ProgressChecks::default() };
        assert_eq!(checks_until_cut(&flow, &mut checks, 1, 1000), Some(2));
        // The same for a first line that is incomplete.
        let (flow, mut checks) = (Flow::default(), ProgressChecks::default());
        flow.holds(true);
        let cut = (1..1000).find(|_| matches!(checks.next(&flow), CheckResult::Stalled));
        assert_eq!(cut, Some(STALLED_CHECKS_MAX));
    }

    #[test]
    fn a_slow_body_is_read_to_its_end_and_a_trickle_is_not() {
        let begin = || {
            let flow = Flow::default();
            flow.delivers(46, true);
            flow.begins(Some(99_999_999));
            flow.reads_body(true);
            flow
        };
        assert_eq!(checks_until_cut(&begin(), &mut ProgressChecks::default(), 81 * 1024, 200), None);
        assert_eq!(
            checks_until_cut(&begin(), &mut ProgressChecks::default(), 1, 200),
            Some(STALLED_CHECKS_MAX)
        );
        // Each request has its own time.
        let (flow, mut checks) = (Flow::default(), ProgressChecks::default());
        for _ in 0..100 {
            flow.delivers(16, true);
            assert!(matches!(checks.next(&flow), CheckResult::Busy));
            flow.delivers(2, false);
            flow.begins(Some(0));
            flow.ends();
        }
    }
}

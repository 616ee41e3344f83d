//! Watches: an answer that begins at once and goes on as events come.
//!
//! A waiting client needs none of the HTTP library's buffers, and ten thousand of them would cost more than
//! all keys. So a watch takes the connection over: what is left is the socket and the watcher. When it ends
//! the connection goes back, as long as the answer was framed so that the client can tell its end.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use shared::event::Event;
use shared::net::Stream;
use shared::store::Watcher;
use shared::time::UnixNanos;

use super::connection::Stop;
use super::output::Output;
use super::progress::{Notices, Progress};
use super::request::Framing;
use super::site::Site;
use super::takeover::{TakeoverEnd, poll_client, push_headers};
use super::text::http_date;

/// Bytes of events that are gathered for one write.
const WRITE_BYTES: usize = 16 * 1024;

/// A watch that takes its connection over.
///
/// All that it needs is in here: where there are thousands of them, an event touches little memory of each.
pub(crate) struct Watch {
    watcher: Watcher,
    guard: PermissionGuard,
    /// An event that waits until it is known whether the client may see it.
    held: Option<Arc<Event>>,
    stream: bool,
    chunked: bool,
    keep_alive: bool,
    /// No event comes any more.
    over: bool,
    out: Output,
    extra: Option<Box<Extra>>,
}

/// What few watches have.
#[derive(Default)]
struct Extra {
    form: Option<Box<EventForm>>,
    notices: Option<Notices>,
}

/// How an event is written for a client of another API than v2.
pub(super) type EventForm = dyn Fn(&Event, UnixNanos) -> Bytes + Send + Sync;

/// What came of a look for events.
enum Gathered {
    /// More may come.
    More,
    /// No event comes any more.
    Last,
    /// The client may see no more.
    Denied,
}

impl Watch {
    /// An answer with these headers.
    pub(crate) fn new(
        (watcher, permission): (Watcher, WatchPermission),
        stream: bool,
        framing: Framing,
        headers: &HeaderMap,
        now: UnixNanos,
    ) -> Watch {
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
        let out = Output::of(head);
        let guard = PermissionGuard::new(permission);
        Watch { watcher, guard, held: None, stream, chunked, keep_alive, over: false, out, extra: None }
    }

    /// The same with notices while nothing happens, if the client asks for them.
    pub(crate) fn with_progress(mut self, progress: Progress) -> Watch {
        if let Some(notices) = progress.notices() {
            self.extra.get_or_insert_default().notices = Some(notices);
        }
        self
    }

    /// The same with events in another form than that of v2.
    pub(crate) fn with_form(mut self, form: Box<EventForm>) -> Watch {
        self.extra.get_or_insert_default().form = Some(form);
        self
    }

    fn notices(&mut self) -> Option<&mut Notices> {
        self.extra.as_mut()?.notices.as_mut()
    }

    /// Answers until the last event, the client's end or ours. Input goes to `carry`.
    pub(super) fn poll<S: Site>(
        &mut self,
        socket: &mut Stream,
        carry: &mut BytesMut,
        site: &Arc<S>,
        stop: &mut Stop<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<TakeoverEnd> {
        let http_server = site.http_server();
        loop {
            // The answer is cut, not ended: the client is to see that there may be more to come.
            if stop.poll(cx) {
                return Poll::Ready(TakeoverEnd::Closed);
            }
            if !self.over {
                match self.gather(site, cx) {
                    Gathered::More => {}
                    Gathered::Last => self.over = true,
                    // Cut as well: whoever asks again is told why. Its head has left long ago.
                    Gathered::Denied => return Poll::Ready(TakeoverEnd::Closed),
                }
                let silent = !self.over && self.out.is_empty();
                if silent && self.notices().is_some_and(|notices| notices.is_due(cx)) {
                    self.push_notice();
                }
            }
            if !self.out.is_empty() {
                if ready!(self.out.poll_write(socket, http_server.stall_time_max(), cx)).is_err() {
                    return Poll::Ready(TakeoverEnd::Closed);
                }
                // Whatever was written shows that the connection is alive.
                if let Some(notices) = self.notices() {
                    notices.restart();
                }
            } else if !self.over {
                return poll_client(socket, carry, cx).map(|()| TakeoverEnd::Closed);
            }
            if self.over && self.out.is_empty() {
                return Poll::Ready(if self.keep_alive {
                    TakeoverEnd::KeepAlive
                } else {
                    TakeoverEnd::Closed
                });
            }
        }
    }

    /// Takes the events that are there, up to a write's worth, as long as the client may see them.
    fn gather<S: Site>(&mut self, site: &Arc<S>, cx: &mut Context<'_>) -> Gathered {
        while self.out.large.is_none() && self.out.small.len() < WRITE_BYTES {
            let next = match self.held.take() {
                Some(event) => Poll::Ready(Some(event)),
                None => self.watcher.poll_next(cx),
            };
            // After the event was taken: whatever took the right before it happened is seen here.
            match self.guard.poll(site, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Gathered::Denied,
                Poll::Pending => {
                    if let Poll::Ready(Some(event)) = next {
                        self.held = Some(event);
                    }
                    return Gathered::More;
                }
            }
            match next {
                Poll::Pending => return Gathered::More,
                Poll::Ready(None) if self.watcher.has_gap() => {
                    // Cut, not ended: the client is to see that there were events which it did not get.
                    self.keep_alive = false;
                    return Gathered::Last;
                }
                Poll::Ready(None) => {
                    self.push_end();
                    return Gathered::Last;
                }
                Poll::Ready(Some(event)) => {
                    self.push(&event, site.clock());
                    if !self.stream {
                        return Gathered::Last;
                    }
                }
            }
        }
        Gathered::More
    }

    fn push(&mut self, event: &Arc<Event>, now: UnixNanos) {
        let body = match self.extra.as_ref().and_then(|extra| extra.form.as_ref()) {
            None => event.rendered(now),
            Some(form) => form(event, now),
        };
        let end: &'static [u8] = match (self.chunked, self.stream) {
            (true, false) => b"\r\n0\r\n\r\n",
            (true, true) => b"\r\n",
            (false, _) => b"",
        };
        let small = &mut self.out.small;
        if self.chunked {
            // Writing into a vector cannot fail.
            let _ = write!(small, "{:x}\r\n", body.len());
        }
        if body.len() > WRITE_BYTES {
            self.out.large = Some((body, end));
        } else {
            small.reserve_exact(body.len() + end.len());
            small.extend_from_slice(&body);
            small.extend_from_slice(end);
        }
    }

    /// White space, which readers of JSON pass over.
    fn push_notice(&mut self) {
        self.out.small.extend_from_slice(if self.chunked { b"1\r\n\n\r\n" } else { b"\n" });
    }

    /// Ends an answer that has no last event.
    fn push_end(&mut self) {
        if self.chunked {
            self.out.small.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// Whether a watch may go on. It may take a while: the password may have to be checked.
pub(crate) type PermissionCheck = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Who watches what.
#[derive(Debug)]
pub(crate) struct WatchPermission {
    /// The path below `/v2/keys`, with the slash at its end if there is one.
    key: Box<[u8]>,
    recursive: bool,
    /// Boxed: most have none, and there may be many watches.
    authorization: Option<Box<HeaderValue>>,
    /// The generation in which the right was there.
    seen: u64,
}

impl WatchPermission {
    /// A right that was there in the generation `seen`.
    pub(crate) fn new(
        key: &[u8],
        recursive: bool,
        authorization: Option<&HeaderValue>,
        seen: u64,
    ) -> WatchPermission {
        WatchPermission {
            key: key.into(),
            recursive,
            authorization: authorization.cloned().map(Box::new),
            seen,
        }
    }

    /// The path below `/v2/keys`.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it is about all that is below as well.
    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive
    }

    /// The `Authorization` that the watch came with.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_deref()
    }
}

/// A watch's right, and the look at it that goes on.
pub(super) struct PermissionGuard {
    permission: WatchPermission,
    check: Option<Box<RunningCheck>>,
}

/// A look at a right.
struct RunningCheck {
    /// What it is about.
    generation: u64,
    result: PermissionCheck,
}

impl PermissionGuard {
    /// Of a right that is there.
    pub(super) fn new(permission: WatchPermission) -> PermissionGuard {
        PermissionGuard { permission, check: None }
    }

    /// Whether the watch may go on. One load, as long as nothing has changed.
    pub(super) fn poll<S: Site>(&mut self, site: &Arc<S>, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if let Some(check) = &mut self.check {
                let Poll::Ready(result) = check.result.as_mut().poll(cx) else { return Poll::Pending };
                self.permission.seen = check.generation;
                self.check = None;
                if !result {
                    return Poll::Ready(false);
                }
            }
            let now = site.rights_generation();
            if now == self.permission.seen {
                return Poll::Ready(true);
            }
            self.check = Some(Box::new(RunningCheck {
                generation: now,
                result: site.may_still_watch(&self.permission),
            }));
        }
    }
}

//! Watches: responses that start at once and go on as events happen.
//!
//! A waiting client needs none of the HTTP library's buffers; for ten thousand clients these would take more memory
//! than all keys. So a watch takes its connection over and keeps only the socket and the watcher. When the watch
//! ends, the connection is returned if the client can recognize the end of the response.

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
use super::progress::{Notices, ProgressInterval};
use super::request::Framing;
use super::site::Site;
use super::takeover::{TakeoverEnd, poll_client, push_headers};
use super::text::http_date;

/// The bytes of events that are collected for one write.
const WRITE_BYTES: usize = 16 * 1024;

/// A watch that takes its connection over.
///
/// Everything is in this value: with thousands of watches, an event should touch little memory of each.
pub(crate) struct Watch {
    watcher: Watcher,
    guard: PermissionGuard,
    /// An event that waits until the permission has been checked.
    held: Option<Arc<Event>>,
    stream: bool,
    chunked: bool,
    keep_alive: bool,
    /// No more events will come.
    over: bool,
    out: Output,
    extra: Option<Box<Extra>>,
}

/// Fields that few watches have.
#[derive(Default)]
struct Extra {
    form: Option<Box<EventForm>>,
    notices: Option<Notices>,
}

/// Writes an event in the form of another API than v2.
pub(super) type EventForm = dyn Fn(&Event, UnixNanos) -> Bytes + Send + Sync;

/// The result of collecting events.
enum Gathered {
    /// More events may come.
    More,
    /// No more events will come.
    Last,
    /// The client has lost its permission.
    Denied,
}

impl Watch {
    /// A watch whose response has these headers.
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

    /// Adds notices, if the client requests them.
    pub(crate) fn with_progress(mut self, progress: ProgressInterval) -> Watch {
        if let Some(notices) = progress.notices() {
            self.extra.get_or_insert_default().notices = Some(notices);
        }
        self
    }

    /// Writes events in another form than that of v2.
    pub(crate) fn with_form(mut self, form: Box<EventForm>) -> Watch {
        self.extra.get_or_insert_default().form = Some(form);
        self
    }

    fn notices(&mut self) -> Option<&mut Notices> {
        self.extra.as_mut()?.notices.as_mut()
    }

    /// Sends events until the last one, or until the client or the server ends the connection. Further input goes to
    /// `carry`.
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
            // The response is cut without an end, so that the client knows that there may be more events.
            if stop.poll(cx) {
                return Poll::Ready(TakeoverEnd::Closed);
            }
            if !self.over {
                match self.gather(site, cx) {
                    Gathered::More => {}
                    Gathered::Last => self.over = true,
                    // Cut as well: the head was sent long ago, and a new request gets the reason.
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
                // Everything that is written shows that the connection is alive.
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

    /// Collects the available events, up to the size of one write, as long as the client has the permission.
    fn gather<S: Site>(&mut self, site: &Arc<S>, cx: &mut Context<'_>) -> Gathered {
        while self.out.large.is_none() && self.out.small.len() < WRITE_BYTES {
            let next = match self.held.take() {
                Some(event) => Poll::Ready(Some(event)),
                None => self.watcher.poll_next(cx),
            };
            // Checked after the event was taken, so that every change of permissions before the event counts.
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
                    // Cut without an end, so that the client knows that it missed events.
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
            // Writing to a vector cannot fail.
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

    /// White space, which JSON parsers skip.
    fn push_notice(&mut self) {
        self.out.small.extend_from_slice(if self.chunked { b"1\r\n\n\r\n" } else { b"\n" });
    }

    /// Ends a response that has no last event.
    fn push_end(&mut self) {
        if self.chunked {
            self.out.small.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// Whether a watch may go on. It may take time to check the password.
pub(crate) type PermissionCheck = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The client and the key of a watch.
#[derive(Debug)]
pub(crate) struct WatchPermission {
    /// The path below `/v2/keys`. A slash at its end is kept.
    key: Box<[u8]>,
    recursive: bool,
    /// Boxed: most watches have none, and there may be many of them.
    authorization: Option<Box<HeaderValue>>,
    /// The generation of users and roles in which the permission was checked.
    seen: u64,
}

impl WatchPermission {
    /// A permission that was checked in the generation `seen`.
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

    /// Whether the watch includes everything below.
    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive
    }

    /// The `Authorization` header of the request.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_deref()
    }
}

/// The permission of a watch, and a check that is in progress.
pub(super) struct PermissionGuard {
    permission: WatchPermission,
    check: Option<Box<RunningCheck>>,
}

/// A check of a permission.
struct RunningCheck {
    /// The generation that is checked.
    generation: u64,
    result: PermissionCheck,
}

impl PermissionGuard {
    /// A guard for a permission that exists.
    pub(super) fn new(permission: WatchPermission) -> PermissionGuard {
        PermissionGuard { permission, check: None }
    }

    /// Whether the watch may go on. Costs one atomic load as long as nothing has changed.
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

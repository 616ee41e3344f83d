//! The interface between connections and what answers their requests: a member's pages, or a proxy.
//!
//! Listeners, TLS, request lines, idle connections and shutdown are the same for both.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use shared::time::UnixNanos;

use super::body_budget::{BodyBudget, LONG_BYTES_MIN};
use super::connection::{CHECK_INTERVAL, STALLED_CHECKS_MAX};
use super::flow::Flow;
use super::http2::Http2Service;
use super::output::Output;
use super::watch::{PermissionCheck, WatchPermission};
use super::watch_thread::WatchThread;
use crate::config::Config;

/// Limits on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The request line and the headers, in bytes; at least 8192. A longer head gets 431.
    pub head_bytes_max: usize,
    /// The body, in bytes. A longer one gets 413.
    pub body_bytes_max: usize,
    /// The levels of a new key below the root. A deeper key gets 400.
    pub key_levels_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { head_bytes_max: 128 * 1024, body_bytes_max: 16 * 1024 * 1024, key_levels_max: 1000 }
    }
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Limits {
        Limits {
            head_bytes_max: config.request_header_bytes_max,
            body_bytes_max: config.request_body_bytes_max,
            key_levels_max: config.key_levels_max,
        }
    }
}

/// The least buffer size that the HTTP library accepts.
const MAX_BUF_SIZE_MIN: usize = 8 * 1024;

/// The most header lines of requests and responses between members and proxies.
pub(crate) const HEADER_LINES_SHORT: usize = 1000;

/// How many header lines the HTTP library has room for. The library allocates the whole room for each request, so
/// there are three sizes; a head that may not fit is parsed with the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadRoom {
    /// What fits on the library's stack.
    Usual,
    /// What members and proxies may send.
    Long,
    /// The most that a request may have.
    Crowded,
}

impl HeadRoom {
    fn lines(self) -> usize {
        match self {
            HeadRoom::Usual => 100,
            HeadRoom::Long => HEADER_LINES_SHORT,
            HeadRoom::Crowded => 16 * 1024,
        }
    }

    /// A head with at most this number of lines certainly fits; `None` if there is no larger room.
    pub(super) fn lines_max(self) -> Option<usize> {
        // The request line is not a header, and the last header may be incomplete.
        self.next().map(|_| self.lines())
    }

    /// The next larger room, if there is one.
    pub(super) fn next(self) -> Option<HeadRoom> {
        match self {
            HeadRoom::Usual => Some(HeadRoom::Long),
            HeadRoom::Long => Some(HeadRoom::Crowded),
            HeadRoom::Crowded => None,
        }
    }
}

/// Answers requests.
pub(crate) trait Site: Send + Sync + 'static {
    /// What the requests of one connection share.
    type Exchange: Send + Sync + 'static;
    /// The body of a response.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// The settings of all connections.
    fn http_server(&self) -> &HttpServer;

    /// The current time, for a watch that has taken its connection over.
    fn clock(&self) -> UnixNanos;

    /// Changes whenever the permission for a watch may have been lost.
    fn rights_generation(&self) -> u64 {
        0
    }

    /// Whether a watch may go on.
    fn may_still_watch(self: &Arc<Self>, _permission: &WatchPermission) -> PermissionCheck {
        Box::pin(std::future::ready(true))
    }

    /// Answers the requests at the beginning of `bytes` that need no waiting and no HTTP library, and returns how
    /// many bytes they were. Unless that is 0, `out` is not empty.
    fn answer_at_once(&self, _bytes: &[u8], _out: &mut Output) -> usize {
        0
    }

    /// What answers requests over HTTP/2. Without it connections that begin as HTTP/2 does are refused as HTTP/1 that
    /// is malformed.
    fn http2(&self) -> Option<Arc<dyn Http2Service>> {
        None
    }

    /// Starts a connection. `client` is its address, if known; `encrypted` means TLS.
    fn begin_exchange(
        self: Arc<Self>,
        flow: Arc<Flow>,
        client: Option<SocketAddr>,
        encrypted: bool,
    ) -> Self::Exchange;

    /// Answers one request, and records in the connection's [`Flow`] when it begins and ends.
    fn answer(
        exchange: Arc<Self::Exchange>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Infallible>> + Send;
}

/// The settings that all connections of a site share.
pub(crate) struct HttpServer {
    pub(crate) limits: Limits,
    budget: BodyBudget,
    http: [http1::Builder; 3],
    pub(crate) check_interval: Duration,
    pub(crate) watch_thread: WatchThread,
}

impl HttpServer {
    pub(crate) fn new(limits: Limits) -> HttpServer {
        let mut http = http1::Builder::new();
        http.title_case_headers(true)
            // Connections check their progress themselves, without a timer for each request.
            .header_read_timeout(None)
            // A half-closed client still expects a response.
            .half_close(true)
            .max_buf_size(limits.head_bytes_max.max(MAX_BUF_SIZE_MIN))
            .max_header_size(limits.head_bytes_max);
        let with_room = |room: HeadRoom| {
            let mut http = http.clone();
            http.max_headers(room.lines());
            http
        };
        let http = [http.clone(), with_room(HeadRoom::Long), with_room(HeadRoom::Crowded)];
        HttpServer {
            limits,
            budget: BodyBudget::new(limits.body_bytes_max),
            http,
            check_interval: CHECK_INTERVAL,
            watch_thread: WatchThread::default(),
        }
    }

    /// Drops a request when its client closes its side, because the response may never come.
    pub(crate) fn without_half_close(mut self) -> HttpServer {
        for http in &mut self.http {
            http.half_close(false);
        }
        self
    }

    /// How long a client may make no progress in the middle of a request or a response.
    pub(crate) fn stall_time_max(&self) -> Duration {
        self.check_interval * STALLED_CHECKS_MAX
    }

    /// The HTTP library with room for this number of header lines.
    pub(super) fn builder(&self, room: HeadRoom) -> &http1::Builder {
        &self.http[room as usize]
    }

    /// The memory for bodies.
    pub(super) fn budget(&self) -> &BodyBudget {
        &self.budget
    }

    /// Waits until a body of this length may be decoded. The caller then does so before it waits for anything else.
    pub(crate) async fn turn_to_decode(&self, bytes: usize) {
        // Few requests have such a body: the others make no room for the wait.
        if bytes >= LONG_BYTES_MIN {
            Box::pin(self.budget.turn_to_decode()).await;
        }
    }

    /// The longest body of a request, in bytes.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.limits.body_bytes_max
    }
}

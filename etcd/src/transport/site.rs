//! What answers the requests of the connections that a listener takes in: a member's pages, or a proxy.
//!
//! Listening, TLS, the repair of request lines, rest and farewell of connections are the same for both.

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
use super::output::Output;
use super::watch::{PermissionCheck, WatchPermission};
use super::watch_thread::WatchThread;
use crate::config::Config;

/// How large requests may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A request's first line and headers, in bytes; at least 8192. Beyond it the answer is 431.
    pub head_bytes_max: usize,
    /// A request's body, in bytes. Beyond it the answer is 413.
    pub body_bytes_max: usize,
    /// Levels of a new key below the root. Beyond it the answer is 400.
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

/// The least that the HTTP library takes for its buffers.
const MAX_BUF_SIZE_MIN: usize = 8 * 1024;

/// Header lines of whatever members and proxies say to each other.
pub(crate) const HEADER_LINES_SHORT: usize = 1000;

/// How many header lines the HTTP library has room for. It makes room for all of them anew for each request, so there
/// are three sizes; a head that may not fit goes on with the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadRoom {
    /// What the library keeps on its stack.
    Usual,
    /// As many as members and proxies may send.
    Long,
    /// As many as a request may have at all.
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

    /// How many lines a head may have to be sure of the room; `None` if there is no larger room.
    pub(super) fn lines_max(self) -> Option<usize> {
        // The first line is none of the headers, and the last of them may have begun.
        self.next().map(|_| self.lines())
    }

    /// The next larger one, if there is one.
    pub(super) fn next(self) -> Option<HeadRoom> {
        match self {
            HeadRoom::Usual => Some(HeadRoom::Long),
            HeadRoom::Long => Some(HeadRoom::Crowded),
            HeadRoom::Crowded => None,
        }
    }
}

/// What answers requests.
pub(crate) trait Site: Send + Sync + 'static {
    /// What the requests of one connection share.
    type Exchange: Send + Sync + 'static;
    /// The body of an answer.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// How connections are spoken on.
    fn http_server(&self) -> &HttpServer;

    /// The time, for a watch that takes its connection over.
    fn clock(&self) -> UnixNanos;

    /// Moves whenever those who watch may have lost their right to it.
    fn rights_generation(&self) -> u64 {
        0
    }

    /// Whether somebody who watches may go on.
    fn may_still_watch(self: &Arc<Self>, _permission: &WatchPermission) -> PermissionCheck {
        Box::pin(std::future::ready(true))
    }

    /// Answers the requests that `bytes` begin with, as far as that can be done at once and without the HTTP
    /// library. How many bytes they were; `out` has something in it unless that is 0.
    fn answer_at_once(&self, _bytes: &[u8], _out: &mut Output) -> usize {
        0
    }

    /// A connection begins to speak. `client` is at its other end, if that can be told; `encrypted` if by TLS.
    fn begin_exchange(
        self: Arc<Self>,
        flow: Arc<Flow>,
        client: Option<SocketAddr>,
        encrypted: bool,
    ) -> Self::Exchange;

    /// Answers one request, and tells the connection's [`Flow`] when it begins and ends.
    fn answer(
        exchange: Arc<Self::Exchange>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Infallible>> + Send;
}

/// How connections are spoken on.
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
            // Connections look after themselves, without a timer for each request.
            .header_read_timeout(None)
            // Who closes its side behind a request still wants the answer.
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

    /// Gives requests up when their client closes its side: what answers them may wait for ever.
    pub(crate) fn without_half_close(mut self) -> HttpServer {
        for http in &mut self.http {
            http.half_close(false);
        }
        self
    }

    /// How long a client may leave us waiting in the middle of a request or an answer while nothing moves.
    pub(crate) fn stall_time_max(&self) -> Duration {
        self.check_interval * STALLED_CHECKS_MAX
    }

    /// The HTTP library with that much room.
    pub(super) fn builder(&self, room: HeadRoom) -> &http1::Builder {
        &self.http[room as usize]
    }

    /// The room for bodies.
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

//! The client's side of the member: the pages.
//!
//! [`transport`](crate::transport) hands a request over ([`Site`]), `dispatch` looks which page it is for (`route`), and the
//! page answers: it parses, submits, waits and writes. `v1` and `v2` are the keys and what stands beside them, `ops` is
//! for those who run the member, [`dashboard`] the page for people.
//!
//! A request is parsed once, where it comes in; after that it is a typed value. The pages know a [`Backend`],
//! not the member: they read the store, submit requests and wait. **Invariant:** nothing here decides what a
//! request does to the store, and nothing here knows that raft exists, apart from two numbers in headers.

mod dashboard;
mod dispatch;
pub mod fuzz;
mod ops;
mod page;
mod route;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use shared::time::UnixNanos;

use self::page::{Exchange, gate};
use self::v2::plain_get;
use crate::backend::Backend;
use crate::transport::output::Output;
use crate::transport::watch::{PermissionCheck, WatchPermission};
use crate::transport::{Flow, HttpServer, Site, reply};

pub(crate) use self::ops::metrics_page::graphite;
pub use self::page::{Context, Options};
pub(crate) use self::route::area;

impl<B: Backend> Site for Context<B> {
    type Exchange = Exchange<B>;
    type Body = reply::Body;

    fn http_server(&self) -> &HttpServer {
        &self.http_server
    }

    fn clock(&self) -> UnixNanos {
        self.backend.clock()
    }

    fn answer_at_once(&self, bytes: &[u8], out: &mut Output) -> usize {
        plain_get::answer(self, bytes, out)
    }

    fn rights_generation(&self) -> u64 {
        self.backend.auth_generation().get()
    }

    fn may_still_watch(self: &Arc<Self>, permission: &WatchPermission) -> PermissionCheck {
        gate::may_still_watch(permission, self.clone())
    }

    fn begin_exchange(
        self: Arc<Self>,
        flow: Arc<Flow>,
        client: Option<SocketAddr>,
        encrypted: bool,
    ) -> Exchange<B> {
        Exchange { context: self, flow, source: client.map(|client| client.ip()), encrypted }
    }

    async fn answer(
        exchange: Arc<Exchange<B>>,
        request: Request<Incoming>,
    ) -> Result<reply::Response, Infallible> {
        dispatch::answer(exchange, request).await
    }
}

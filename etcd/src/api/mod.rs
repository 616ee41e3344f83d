//! The pages for clients.
//!
//! [`transport`](crate::transport) passes a request to its [`Site`]. `dispatch` finds the page with `route`, and the
//! page parses the request, submits it, waits and writes the response. `v1` and `v2` have the keys and related
//! resources, `ops` has the pages for operators, [`dashboard`] the page for people.
//!
//! A request is parsed once, at the edge; after that it is a typed value. The pages know a [`Backend`], not the
//! member: they read the store, submit requests and wait. **Invariant:** nothing here decides what a request does to
//! the store, and nothing here knows about raft, apart from two numbers in headers.

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
pub mod v3;
mod v3_page;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use shared::time::UnixNanos;

use self::page::{Exchange, gate};
use self::v2::plain_get;
use crate::backend::Backend;
use crate::transport::http2::Http2Service;
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

    fn http2(&self) -> Option<Arc<dyn Http2Service>> {
        self.v3.clone().map(|services| services as Arc<dyn Http2Service>)
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

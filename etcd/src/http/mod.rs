//! The client's side of the member: the pages.
//!
//! [`transport`](crate::transport) hands a request over ([`Site`]), [`exchange`] looks which page it is for ([`route`]), and
//! the page answers.
//!
//! A request is parsed once, where it comes in; after that it is a typed value. The pages know a [`Backend`],
//! not the member: they read the store, submit requests and wait. **Invariant:** nothing here decides what a
//! request does to the store, and nothing here knows that raft exists, apart from two numbers in headers.

mod admin;
mod auth;
mod dashboard;
mod debug_vars;
mod depth;
pub(crate) mod exchange;
pub mod fuzz;
mod health;
mod keys;
mod legacy_machines;
mod legacy_pages;
mod log_level;
mod machines;
mod members;
mod metrics;
mod metrics_page;
mod modules;
mod plain_get;
mod pprof;
mod right;
mod route;
mod stats;
#[cfg(test)]
mod tests;
mod v1;
mod v1_dialect;
mod version;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use shared::time::UnixNanos;

use self::exchange::Exchange;

use crate::auth::Auth;
use crate::backend::Backend;
use crate::config::{Config, DashboardMode, V1Dialect};
use crate::dashboard::Dashboard;
use crate::log::LogControl;
use crate::metrics::Metrics as ProcessMetrics;
use crate::transport::output::Output;
use crate::transport::right::{GoesOn, Right};
use crate::transport::{BrowserRules, Flow, Limits, Site, Wire, reply};

pub(crate) use self::metrics_page::graphite;
pub(crate) use self::route::area;

/// How clients are served.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What web pages may do.
    pub browsers: BrowserRules,
    /// How large requests may be.
    pub limits: Limits,
    /// What the dashboard may do.
    pub dashboard: DashboardMode,
    /// Whether `/version` also names the protocol between members, for those of 0.4 that ask.
    pub internal_version: bool,
    /// Whether figures are shown in the form of 0.4.
    pub trace: bool,
    /// Whose v1 API is served.
    pub v1_dialect: V1Dialect,
    /// Whether there are pages with profiles.
    pub pprof: bool,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Options {
        Options {
            browsers: BrowserRules::new(config),
            limits: Limits::from(config),
            dashboard: config.dashboard,
            internal_version: config.allow_legacy,
            trace: config.trace,
            v1_dialect: config.v1_dialect,
            pprof: config.enable_pprof,
        }
    }
}

/// What all connections share.
pub struct Context<B> {
    backend: B,
    auth: Auth,
    browsers: BrowserRules,
    wire: Wire,
    dashboard: Dashboard,
    internal_version: bool,
    trace: bool,
    v1_dialect: V1Dialect,
    pprof: bool,
    log: LogControl,
    process_metrics: Arc<ProcessMetrics>,
    metrics: metrics::Metrics,
    cluster_id: HeaderValue,
}

impl<B> Context<B> {
    /// Refuses those who wait for their password to be checked, since the server stops.
    pub(crate) fn stop_logins(&self) {
        self.auth.close();
    }
}

impl<B: Backend> Context<B> {
    /// Pages about this member. Their counters are registered with the process's.
    ///
    /// # Errors
    /// If counters of the same names are registered already: there is one context in a process.
    pub fn new(
        backend: B,
        options: impl Into<Options>,
        process_metrics: Arc<ProcessMetrics>,
        log: LogControl,
    ) -> Result<Context<B>, prometheus::Error> {
        let Options { browsers, limits, dashboard, internal_version, trace, v1_dialect, pprof } =
            options.into();
        let dashboard = Dashboard::new(dashboard);
        let cluster_id = HeaderValue::from_str(&backend.cluster_id().to_string())
            .unwrap_or_else(|_| unreachable!("hexadecimal digits make a header value"));
        let metrics = metrics::Metrics::new(process_metrics.registry())?;
        let wire = Wire::new(limits);
        let auth = Auth::default();
        Ok(Context {
            backend,
            auth,
            browsers,
            wire,
            dashboard,
            internal_version,
            trace,
            v1_dialect,
            pprof,
            log,
            process_metrics,
            metrics,
            cluster_id,
        })
    }
}

impl<B: Backend> Site for Context<B> {
    type Exchange = Exchange<B>;
    type Body = reply::Body;

    fn wire(&self) -> &Wire {
        &self.wire
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

    fn may_go_on(self: &Arc<Self>, right: &Right) -> GoesOn {
        right::look(right, self.clone())
    }

    fn meet(self: Arc<Self>, flow: Arc<Flow>, client: Option<SocketAddr>, encrypted: bool) -> Exchange<B> {
        Exchange { context: self, flow, source: client.map(|client| client.ip()), encrypted }
    }

    async fn answer(
        exchange: Arc<Exchange<B>>,
        request: Request<Incoming>,
    ) -> Result<reply::Response, Infallible> {
        exchange::answer(exchange, request).await
    }
}

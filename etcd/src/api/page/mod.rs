//! What all pages take and return, and what they share. The pages build on this, and not on each other.

pub(crate) mod counters;
pub(crate) mod gate;
pub(crate) mod keys;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method};

use crate::api::v3;
use crate::auth::{Auth, Caller};
use crate::backend::Backend;
use crate::config::{Config, DashboardMode, V1Dialect};
use crate::dashboard::Dashboard;
use crate::log::LogControl;
use crate::metrics::Metrics as ProcessMetrics;
use crate::transport::reply::Response;
use crate::transport::request::{Framing, WholeBody};
use crate::transport::{BrowserRules, Flow, HttpServer, Limits};

/// The options of the pages.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The rules for web pages.
    pub browsers: BrowserRules,
    /// Limits on requests.
    pub limits: Limits,
    /// The mode of the dashboard.
    pub dashboard: DashboardMode,
    /// Whether `/version` also has the version of the peer protocol, for members of 0.4.
    pub internal_version: bool,
    /// Whether `/debug/metrics` of 0.4 is served.
    pub trace: bool,
    /// The dialect of the v1 API.
    pub v1_dialect: V1Dialect,
    /// Whether profiles are served.
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
    pub(in crate::api) backend: B,
    pub(in crate::api) auth: Auth,
    pub(in crate::api) browsers: BrowserRules,
    pub(in crate::api) http_server: HttpServer,
    pub(in crate::api) dashboard: Dashboard,
    pub(in crate::api) internal_version: bool,
    pub(in crate::api) trace: bool,
    pub(in crate::api) v1_dialect: V1Dialect,
    pub(in crate::api) pprof: bool,
    pub(in crate::api) log: LogControl,
    pub(in crate::api) process_metrics: Arc<ProcessMetrics>,
    pub(in crate::api) metrics: counters::Metrics,
    pub(in crate::api) cluster_id: HeaderValue,
    pub(in crate::api) v3: Option<Arc<v3::Services>>,
}

impl<B> Context<B> {
    /// Refuses clients whose passwords wait to be checked, because the server stops.
    pub(crate) fn stop_logins(&self) {
        self.auth.close();
    }

    /// Serves the v3 API too, over HTTP/2 and as JSON.
    #[must_use]
    pub fn with_v3(mut self, services: Arc<v3::Services>) -> Context<B> {
        self.v3 = Some(services);
        self
    }

    /// Ends the streams of the v3 API, because the server stops.
    pub(crate) fn stop_streams(&self) {
        if let Some(services) = &self.v3 {
            services.stop();
        }
    }
}

impl<B: Backend> Context<B> {
    /// The pages of this member. Their counters are registered in `process_metrics`.
    ///
    /// # Errors
    /// If counters of the same names are registered already: a process has one context.
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
        let metrics = counters::Metrics::new(process_metrics.registry())?;
        let http_server = HttpServer::new(limits);
        let auth = Auth::default();
        Ok(Context {
            backend,
            auth,
            browsers,
            http_server,
            dashboard,
            internal_version,
            trace,
            v1_dialect,
            pprof,
            log,
            process_metrics,
            metrics,
            cluster_id,
            v3: None,
        })
    }
}

/// What the requests of one connection share.
pub(crate) struct Exchange<B> {
    pub(super) context: Arc<Context<B>>,
    pub(super) flow: Arc<Flow>,
    /// The client's address, if known.
    pub(super) source: Option<IpAddr>,
    /// Whether the connection uses TLS.
    pub(super) encrypted: bool,
}

/// The result of a page.
pub(super) enum PageResult<S> {
    /// A response.
    Ready(Response),
    /// A request that has to go through the log.
    Submitted(S),
    /// A watch or a pending answer has taken the connection over.
    TakenOver,
}

/// A request whose head is valid, as the pages see it.
pub(super) struct PageRequest<'a> {
    pub(super) method: &'a Method,
    /// The path below the page's prefix, unescaped.
    pub(super) rest: &'a [u8],
    pub(super) query: &'a str,
    /// The `Content-Type`, or empty.
    pub(super) content_type: &'a [u8],
    /// The `Authorization`, if auth is on, or may be on when it matters.
    pub(super) authorization: Option<HeaderValue>,
    /// The client's address, if known.
    pub(super) source: Option<IpAddr>,
    /// The connection of the request.
    pub(super) flow: &'a Flow,
    pub(super) body: WholeBody,
    pub(super) framing: Framing,
}

impl PageRequest<'_> {
    /// The client.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            authorization: self.authorization.as_ref(),
            source: self.source,
            connection: Some(self.flow.client()),
        }
    }
}

/// The kind of account that a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountKind {
    Users,
    Roles,
}

//! What every page takes and gives, and what it shares with others. The pages stand on this, and none on another's.

pub(crate) mod counters;
pub(crate) mod gate;
pub(crate) mod keys;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method};

use crate::auth::{Auth, Caller};
use crate::backend::Backend;
use crate::config::{Config, DashboardMode, V1Dialect};
use crate::dashboard::Dashboard;
use crate::log::LogControl;
use crate::metrics::Metrics as ProcessMetrics;
use crate::transport::reply::Response;
use crate::transport::request::{Framing, WholeBody};
use crate::transport::{BrowserRules, Flow, HttpServer, Limits};

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
        })
    }
}

/// What a connection's requests share.
pub(crate) struct Exchange<B> {
    pub(super) context: Arc<Context<B>>,
    pub(super) flow: Arc<Flow>,
    /// Where the client is, if that can be told.
    pub(super) source: Option<IpAddr>,
    /// The connection is one by TLS.
    pub(super) encrypted: bool,
}

/// What a request has come to.
pub(super) enum PageResult<S> {
    /// Its answer.
    Ready(Response),
    /// Something for the log.
    Submitted(S),
    /// A watch or a wait, which the connection has by now.
    TakenOver,
}

/// A request whose head is checked, as the pages see it.
pub(super) struct PageRequest<'a> {
    pub(super) method: &'a Method,
    /// The path, unescaped, below the page's own prefix.
    pub(super) rest: &'a [u8],
    pub(super) query: &'a str,
    /// The `Content-Type`, empty for none.
    pub(super) content_type: &'a [u8],
    /// The `Authorization`, if auth is on, or if it may be by the time that it matters.
    pub(super) authorization: Option<HeaderValue>,
    /// Where the client is, if that can be told.
    pub(super) source: Option<IpAddr>,
    /// The connection that the request came on.
    pub(super) flow: &'a Flow,
    pub(super) body: WholeBody,
    pub(super) framing: Framing,
}

impl PageRequest<'_> {
    /// Who sends it.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            authorization: self.authorization.as_ref(),
            source: self.source,
            connection: Some(self.flow.client()),
        }
    }
}

/// What the records of a page about accounts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountKind {
    Users,
    Roles,
}

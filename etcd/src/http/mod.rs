//! The client's side of the server: HTTP/1.1 and the v2 API.
//!
//! ```text
//! listener ─▶ connection ─▶ front ─▶ hyper ─▶ exchange ─▶ route ─▶ keys, members, stats, …
//!             │    ▲                                                  │
//!             │    └───────────────── watch ◀─────────────────────────┘
//!             └─▶ plain_get
//! ```
//!
//! A request is parsed once, where it comes in; after that it is a typed value. The pages know a [`Backend`],
//! not the member: they read the store, submit requests and wait. **Invariant:** nothing here decides what a
//! request does to the store, and nothing here knows that raft exists, apart from two numbers in headers.

mod admin;
mod auth;
mod bodies;
mod browsers;
mod connection;
mod cors;
mod dashboard;
mod date;
mod debug_vars;
mod depth;
pub(crate) mod exchange;
mod flow;
mod form;
mod front;
pub mod fuzz;
mod health;
mod keys;
mod legacy_machines;
mod legacy_pages;
mod listener;
mod log_level;
mod machines;
mod media_type;
mod members;
mod metrics;
mod metrics_page;
mod modules;
mod output;
pub(crate) mod path;
mod pieces;
mod place;
mod plain_get;
mod pprof;
mod progress;
pub(crate) mod reply;
mod request_line;
mod right;
mod route;
mod site;
mod stats;
#[cfg(test)]
mod tests;
mod text;
mod v1;
mod v1_dialect;
mod version;
mod waiting;
mod watch;
mod watch_thread;

use std::sync::Arc;

use http::HeaderValue;

use crate::auth::Auth;
use crate::backend::Backend;
use crate::config::{Config, DashboardMode, V1Dialect};
use crate::dashboard::Dashboard;
use crate::log::LogControl;
use crate::metrics::Metrics as ProcessMetrics;

pub use self::browsers::BrowserRules;
pub use self::cors::Cors;
pub(crate) use self::flow::Flow;
pub(crate) use self::listener::serve;
pub(crate) use self::metrics_page::graphite;
pub(crate) use self::site::{HEADER_LINES_SHORT, Site, Wire};

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
            limits: Limits {
                head_bytes_max: config.request_header_bytes_max,
                body_bytes_max: config.request_body_bytes_max,
                key_levels_max: config.key_levels_max,
            },
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

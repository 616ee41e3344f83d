//! The client's side of the server: HTTP/1.1 and the v2 API.
//!
//! ```text
//! listener ─▶ connection ─▶ front ─▶ hyper ─▶ exchange ─▶ route ─▶ keys, members, stats, …
//!                  ▲                                                  │
//!                  └───────────────── watch ◀─────────────────────────┘
//! ```
//!
//! A request is parsed once, where it comes in; after that it is a typed value. The pages know a [`Backend`],
//! not the member: they read the store, submit requests and wait. **Invariant:** nothing here decides what a
//! request does to the store, and nothing here knows that raft exists, apart from two numbers in headers.

mod backend;
mod connection;
mod cors;
mod date;
mod debug_vars;
mod exchange;
mod flow;
mod form;
mod front;
pub mod fuzz;
mod go_json;
mod health;
mod keys;
mod listener;
mod log_level;
mod machines;
mod media_type;
mod members;
mod metrics;
mod metrics_page;
mod path;
mod reply;
mod request_line;
mod route;
mod socket;
#[cfg(test)]
mod stand_in;
mod stats;
#[cfg(test)]
mod tests;
mod text;
mod version;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http1;

use crate::config::Config;
use crate::log::LogControl;
use crate::metrics::Metrics as ProcessMetrics;

pub use self::backend::{Backend, ChangeError, SubmitError, Unavailable};
pub use self::cors::Cors;
pub use self::listener::serve;

/// How large requests may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A request's first line and headers, in bytes; at least 8192. Beyond it the answer is 431.
    pub head_bytes_max: usize,
    /// A request's body, in bytes. Beyond it the answer is 413.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { head_bytes_max: 128 * 1024, body_bytes_max: 16 * 1024 * 1024 }
    }
}

/// How clients are served.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which web pages may read the answers.
    pub cors: Cors,
    /// How large requests may be.
    pub limits: Limits,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Options {
        Options {
            cors: Cors::new(&config.cors),
            limits: Limits {
                head_bytes_max: config.request_header_bytes_max,
                body_bytes_max: config.request_body_bytes_max,
            },
        }
    }
}

/// What all connections share.
pub struct Context<B> {
    backend: B,
    cors: Cors,
    limits: Limits,
    log: LogControl,
    process_metrics: Arc<ProcessMetrics>,
    metrics: metrics::Metrics,
    cluster_id: HeaderValue,
    http: http1::Builder,
    look_interval: Duration,
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
        let Options { cors, limits } = options.into();
        let cluster_id = HeaderValue::from_str(&backend.cluster_id().to_string())
            .unwrap_or_else(|_| unreachable!("hexadecimal digits make a header value"));
        let metrics = metrics::Metrics::new(process_metrics.registry())?;
        let mut http = http1::Builder::new();
        http.title_case_headers(true)
            // Connections look after themselves, without a timer for each request.
            .header_read_timeout(None)
            .max_buf_size(limits.head_bytes_max.max(MAX_BUF_SIZE_MIN))
            .max_header_size(limits.head_bytes_max);
        Ok(Context {
            backend,
            cors,
            limits,
            log,
            process_metrics,
            metrics,
            cluster_id,
            http,
            look_interval: connection::LOOK_INTERVAL,
        })
    }
}

/// The least that the HTTP library takes for its buffers.
const MAX_BUF_SIZE_MIN: usize = 8 * 1024;

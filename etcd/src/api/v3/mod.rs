//! The v3 API: gRPC services, and the same as JSON over HTTP.
//!
//! ```text
//! HTTP/2, application/grpc ─────────────────────▶ Services::call ─▶ KV, Watch, Lease, … ─▶ backend::v3::Backend
//! HTTP/1 or 2, POST /v3/… ─▶ gateway ─ protobuf ──▶ │
//! ```
//!
//! The gateway calls the services in the same process, as a client would, so each rule stands once.

mod api;
mod auth;
mod cluster;
pub mod fuzz;
mod gateway;
mod incoming;
mod kv;
mod lease;
mod maintenance;
mod metadata;
mod services;
mod watch;

use crate::transport::http2::Http2Settings;

pub use self::services::Services;

/// What messages may have beside the longest request: a client's envelope around it.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

/// The longest response, by the format.
const RESPONSE_BYTES_MAX: usize = (1 << 31) - 1;

/// The settings of the v3 API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `--max-request-bytes`: the longest entry of the log.
    pub request_bytes_max: usize,
    /// `--max-txn-ops`: the most operations of a transaction.
    pub txn_ops_max: usize,
    /// Connections over HTTP/2.
    pub(crate) http2: Http2Settings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { request_bytes_max: 1536 * 1024, txn_ops_max: 128, http2: Http2Settings::default() }
    }
}

impl Settings {
    /// The longest request message.
    fn message_bytes_max(&self) -> usize {
        self.request_bytes_max.saturating_add(MESSAGE_OVERHEAD_BYTES)
    }

    /// These settings with other times for pings (`--grpc-keepalive-interval`, `--grpc-keepalive-timeout`).
    #[must_use]
    pub fn with_pings(mut self, interval: std::time::Duration, timeout: std::time::Duration) -> Settings {
        self.http2.ping_interval = interval;
        self.http2.ping_timeout = timeout;
        self
    }
}

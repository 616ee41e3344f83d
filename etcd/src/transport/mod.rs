//! HTTP for the server, independent of what it serves: listeners, connections, requests and responses.
//!
//! ```text
//! listener ─▶ connection ─▶ http_io ─▶ hyper ─▶ Site::answer ─▶ the pages of a member, or a proxy
//!             │    ▲                                 │
//!             │    └───────────── watch ◀────────────┘
//!             └─▶ Site::answer_at_once
//! ```
//!
//! A connection that begins as HTTP/2 does belongs to `http2`, which passes its requests to the site's
//! [`Http2Service`](http2::Http2Service).
//!
//! A [`Site`] answers the requests. **Invariant:** nothing here knows a page or the member.

mod body_budget;
pub(crate) mod browsers;
mod connection;
pub(crate) mod cors;
mod flow;
pub(crate) mod form;
pub(crate) mod http2;
mod http_io;
mod listener;
pub(crate) mod media_type;
pub(crate) mod output;
pub(crate) mod path;
pub(crate) mod pieces;
mod position;
pub(crate) mod progress;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod request_line;
mod site;
pub(crate) mod takeover;
pub(crate) mod text;
mod threads;
pub(crate) mod watch;
mod watch_thread;

pub use self::browsers::BrowserRules;
#[cfg(test)]
pub(crate) use self::cors::Cors;
pub(crate) use self::flow::Flow;
pub(crate) use self::listener::serve;
pub use self::site::Limits;
pub(crate) use self::site::{HEADER_LINES_SHORT, HttpServer, Site};
pub(crate) use self::threads::ClientThreads;

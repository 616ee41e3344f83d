//! The HTTP side of the server, whatever it serves: connections, requests and answers, before it is known what is asked
//! for.
//!
//! ```text
//! listener ─▶ connection ─▶ front ─▶ hyper ─▶ Site::answer ─▶ the pages of a member, or a proxy
//!             │    ▲                               │
//!             │    └──────────── watch ◀───────────┘
//!             └─▶ Site::answer_at_once
//! ```
//!
//! What is served is a [`Site`], the only way from here to the pages. **Invariant:** nothing here knows a page, nor the
//! member.

mod body_budget;
pub(crate) mod browsers;
mod connection;
pub(crate) mod cors;
mod flow;
pub(crate) mod form;
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

//! The dashboard: one page for people, at `/mod/dashboard/`, and the little that it has to ask the server for.
//!
//! ```text
//! page ──▶ api/cluster ──▶ this member's report, and those of the others at their client URLs
//!     ├──▶ api/node, api/search ──▶ nodes of the store as of a moment: hidden nodes and exact bytes too
//!     ├──▶ api/keys ──▶ the v2 API itself, for writes and watches
//!     └──▶ api/stats, api/session
//! ```
//!
//! The page talks to the server that it came from and to nobody else. All that it asks stands below its own prefix,
//! so that read-only is more than hidden buttons: a server that is told so refuses writes there, and a reverse proxy
//! that lets people reach this prefix alone lets them reach nothing else. `api/dashboard.rs` speaks HTTP.
//!
//! **Invariant:** what many browsers ask again and again costs as much as if one asked: see [`SharedAnswer`].

mod assets;
mod cluster;
mod keys;
mod report;
mod shared_answer;
mod statistics;

use std::sync::Arc;

use bytes::Bytes;
use shared::net::Dialer;
use tokio::sync::Semaphore;

use crate::config::DashboardMode;

pub(crate) use self::assets::{Asset, asset, page};
pub(crate) use self::cluster::cluster;
pub(crate) use self::keys::{SearchRequest, list, search};
pub(crate) use self::report::report;
pub(crate) use self::shared_answer::SharedAnswer;
pub(crate) use self::statistics::statistics;

/// How many listings and searches are worked on at the same time. Others wait: they would only slow each other down.
const ON_THE_SIDE_MAX: usize = 2;

/// What the dashboard of a server keeps between requests.
pub(crate) struct Dashboard {
    /// Whether it is served, and with which verbs.
    pub(crate) mode: DashboardMode,
    /// Reaches other members at their client URLs.
    pub(crate) dialer: Dialer,
    /// What this member last said of itself.
    pub(crate) report: SharedAnswer<Bytes>,
    /// What it last said of the cluster.
    pub(crate) cluster: SharedAnswer<Bytes>,
    /// Leave to go over many nodes.
    pub(crate) on_the_side: Arc<Semaphore>,
}

impl Dashboard {
    /// A dashboard that has not been asked yet, and reaches members without TLS.
    pub(crate) fn new(mode: DashboardMode) -> Dashboard {
        Dashboard {
            mode,
            dialer: Dialer::plain(),
            report: SharedAnswer::default(),
            cluster: SharedAnswer::default(),
            on_the_side: Arc::new(Semaphore::new(ON_THE_SIDE_MAX)),
        }
    }
}

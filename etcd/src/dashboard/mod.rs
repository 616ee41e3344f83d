//! The dashboard: a web page at `/mod/dashboard/`, and the server's answers to its requests.
//!
//! ```text
//! page ──▶ api/cluster ──▶ this member's report, and those of the others from their client URLs
//!     ├──▶ api/node, api/search ──▶ nodes of a store snapshot, with hidden nodes and exact bytes
//!     ├──▶ api/keys ──▶ the v2 API, for writes and watches
//!     └──▶ api/stats, api/session
//! ```
//!
//! The page sends requests only to its own server and only below its own prefix. So read-only mode is more than hidden
//! buttons: the server refuses writes below the prefix, and a reverse proxy that exposes only this prefix exposes
//! nothing else. `api/dashboard.rs` handles HTTP.
//!
//! **Invariant:** periodic requests of many browsers cost as much as those of one: see [`SharedAnswer`].

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

/// The most listings and searches that run at the same time. More would only slow each other down.
const ON_THE_SIDE_MAX: usize = 2;

/// The dashboard's state between requests.
pub(crate) struct Dashboard {
    /// Whether the dashboard is served, and whether it may write.
    pub(crate) mode: DashboardMode,
    /// The dialer for other members' client URLs.
    pub(crate) dialer: Dialer,
    /// The last report of this member.
    pub(crate) report: SharedAnswer<Bytes>,
    /// The last report of the cluster.
    pub(crate) cluster: SharedAnswer<Bytes>,
    /// The permits for listings and searches.
    pub(crate) on_the_side: Arc<Semaphore>,
}

impl Dashboard {
    /// A dashboard without cached answers, with a dialer without TLS.
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

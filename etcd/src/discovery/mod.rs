//! How the members of a new cluster find each other when nobody lists them: by a discovery service, which is
//! another etcd, or by SRV records in the DNS.
//!
//! Members and proxies ask before they write anything; what comes of it is an
//! [`InitialCluster`](shared::url::InitialCluster) as if it had been listed.

mod error;
mod service;
mod srv;

pub use error::DiscoveryError;
pub use service::DiscoveryService;
pub use srv::{SrvClusterError, cluster_by_srv};

//! How the members of a new cluster find each other without a list: by a discovery service, which is another etcd, or
//! by DNS SRV records.
//!
//! Members and proxies use discovery before they write anything. The result is an
//! [`InitialCluster`](shared::url::InitialCluster), the same as from `-initial-cluster`.

mod error;
mod service;
mod srv;

pub use error::DiscoveryError;
pub use service::DiscoveryService;
pub use srv::{SrvClusterError, cluster_by_srv};

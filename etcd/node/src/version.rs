//! The version of etcd that this member speaks, and the versions of clusters that it can be part of.

/// The version that clients and other members see: their code compares it.
pub const SPOKEN: &str = "2.3.8";

/// The highest cluster version that this member can be part of: major and minor.
const CLUSTER_MAX: (u64, u64) = (2, 3);

/// Whether a cluster version such as `2.3.0` is higher than what this member can be part of.
pub fn is_too_new(cluster: &str) -> bool {
    let mut parts = cluster.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) > CLUSTER_MAX
}

/// Whether `version` is a well-formed cluster version, such as `2.3.0`, that this member can be part of.
pub fn is_of_cluster(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| part.len() <= 9 && part.parse::<u64>().is_ok();
    parts.len() == 3 && parts.iter().all(is_number) && !is_too_new(version)
}

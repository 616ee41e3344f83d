//! Which etcd this server speaks as, and what it is itself.

/// The version that clients and members are told: their code compares it.
pub const SPOKEN: &str = "2.3.8";

/// The highest version of a cluster, major and minor, that this server can be part of.
const CLUSTER_MAX: (u64, u64) = (2, 3);

/// Whether a cluster's version, such as `2.3.0`, is beyond this server.
pub fn is_too_new(cluster: &str) -> bool {
    let mut parts = cluster.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) > CLUSTER_MAX
}

/// Whether this is the version of a cluster, such as `2.3.0`, that this server can be part of.
pub fn is_of_cluster(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| part.len() <= 9 && part.parse::<u64>().is_ok();
    parts.len() == 3 && parts.iter().all(is_number) && !is_too_new(version)
}

/// Our own version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, if the builder set `ETCD_GIT_SHA`.
pub const GIT_SHA: &str = match option_env!("ETCD_GIT_SHA") {
    Some(sha) => sha,
    None => "Not provided",
};

/// What `--version` prints and the log begins with, line by line.
pub fn lines() -> [String; 4] {
    [
        format!("etcd Version: {SPOKEN}"),
        format!("Git SHA: {GIT_SHA}"),
        format!("etcd-rs Version: {OWN}"),
        format!("OS/Arch: {}/{}", std::env::consts::OS, std::env::consts::ARCH),
    ]
}

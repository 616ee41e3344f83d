//! What this program is: its version, and the commit that it was built from.

use node::version::SPOKEN;

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

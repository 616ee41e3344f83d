//! The version of this program, and the commit that it was built from.

use node::version::SPOKEN;

/// The version of this program.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The commit of the build, if `ETCD_GIT_SHA` was set.
pub const GIT_SHA: &str = match option_env!("ETCD_GIT_SHA") {
    Some(sha) => sha,
    None => "Not provided",
};

/// The lines that `--version` prints and the log begins with.
pub fn lines() -> [String; 4] {
    [
        format!("etcd Version: {SPOKEN}"),
        format!("Git SHA: {GIT_SHA}"),
        format!("etcd-rs Version: {OWN}"),
        format!("OS/Arch: {}/{}", std::env::consts::OS, std::env::consts::ARCH),
    ]
}

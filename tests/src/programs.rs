//! Where the programs under test are.
//!
//! By default those of this workspace, built by cargo into the folder that this test program lies in. Options:
//!
//! - `ETCD_RS_BIN_DIR=DIR`: `etcd`, `etcdctl`, `etcd-dump` and `etcd-migrate` lie in DIR, nothing is built;
//! - `ETCD_RS_SERVER=PATH`, `ETCD_RS_CTL=PATH`: somebody else's server or client, such as a real etcd
//!   2.3.8. The suites then want every recorded step to pass and do not read or write the lists of what passes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Check, Context, fail};

/// The programs under test.
#[derive(Debug)]
pub struct Programs {
    /// The server.
    pub etcd: PathBuf,
    /// The client.
    pub etcdctl: PathBuf,
    /// The tool that prints data directories.
    pub etcd_dump: PathBuf,
    /// The tool that takes data directories of 0.x over.
    pub etcd_migrate: PathBuf,
    /// Whether the server or the client was named by an option and is not ours.
    pub foreign: bool,
}

/// Finds the programs, building them the first time where that is wanted.
///
/// # Errors
/// When a named program is not there, or the build fails.
pub fn find() -> Check<&'static Programs> {
    static FOUND: OnceLock<Check<Programs>> = OnceLock::new();
    FOUND.get_or_init(locate).as_ref().map_err(Clone::clone)
}

fn locate() -> Check<Programs> {
    let server = option("ETCD_RS_SERVER");
    let ctl = option("ETCD_RS_CTL");
    let foreign = server.is_some() || ctl.is_some();
    // A foreign pair needs nothing of ours: do not wait for a build.
    let folder = match (option("ETCD_RS_BIN_DIR"), &server, &ctl) {
        (Some(folder), _, _) => folder,
        (None, Some(server), Some(_)) => server.parent().unwrap_or(Path::new("/")).to_path_buf(),
        (None, _, _) => build()?,
    };
    let own = |name: &str| folder.join(name);
    let programs = Programs {
        etcd: server.unwrap_or_else(|| own("etcd")),
        etcdctl: ctl.unwrap_or_else(|| own("etcdctl")),
        etcd_dump: own("etcd-dump"),
        etcd_migrate: own("etcd-migrate"),
        foreign,
    };
    for program in [&programs.etcd, &programs.etcdctl] {
        if !program.is_file() {
            fail!("no program {}", program.display());
        }
    }
    Ok(programs)
}

fn option(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Builds the programs with cargo and returns their folder.
///
/// `cargo test` builds the binaries of a package only where that package has integration tests of its own,
/// and its lock is free again while tests run: asking once more is cheap, and nothing stale is ever tested.
fn build() -> Check<PathBuf> {
    // target/debug/deps/this-test-program
    let this = env::current_exe().context("find this program")?;
    let profile = this.ancestors().nth(2).context("this program lies in no target folder")?;
    let target = profile.parent().context("this program lies in no target folder")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--locked"])
        .args(["etcd", "etcdctl", "etcd-dump", "etcd-migrate"].map(|package| format!("--package={package}")))
        .arg("--target-dir")
        .arg(target)
        .current_dir(crate::files::repository());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().context("run cargo build")?;
    if !output.status.success() {
        fail!("cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(profile.to_path_buf())
}

//! Commands that are known and not built yet. They say so instead of guessing.

use std::ffi::OsString;

use crate::error::CliError;

/// Write the keys of a snapshot of etcd 0.4 into a cluster (not built yet)
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The snapshot
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    snap: OsString,
    /// A hidden directory to import too; may be given several times
    #[arg(long, value_name = "KEY", action = clap::ArgAction::Append)]
    hidden: Vec<OsString>,
    /// How many keys are written at a time
    #[arg(short = 'c', value_name = "NUMBER", default_value = "10", value_parser = crate::go::integer)]
    clients: i64,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Import {
    pub(super) fn run(self) -> Result<(), CliError> {
        not_built("import")
    }
}

/// Bring a data directory of etcd 0.4 to the form of 2.x (not built yet)
#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Upgrade {
    pub(super) fn run(self) -> Result<(), CliError> {
        not_built("upgrade")
    }
}

fn not_built(command: &str) -> Result<(), CliError> {
    Err(CliError::Failed(format!("etcdctl {command} is not built yet; nothing was done")))
}

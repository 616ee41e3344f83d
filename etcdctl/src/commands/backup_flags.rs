//! `backup`: its flags. What it does is in [`super::backup`].

use std::ffi::OsString;
use std::path::Path;

use super::{backup, now};
use crate::error::CliError;
use crate::output;

/// Copy the data directory of a member, running or not
///
/// The copy has an identity of its own: start it with --force-new-cluster, and it is a new cluster of one member
/// with all keys, to which others are then added. The directory is not changed; the member may go on.
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl backup --data-dir <DIR> --backup-dir <DIR> [OPTIONS]")]
pub(crate) struct Backup {
    /// The member's data directory
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    data_dir: OsString,
    /// The member's directory of log files, if it is not in --data-dir
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    wal_dir: OsString,
    /// Where the copy goes; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    backup_dir: OsString,
    /// Where the copy's log files go, if not to --backup-dir
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    backup_wal_dir: OsString,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Backup {
    pub(super) fn run(self) -> Result<(), CliError> {
        let Backup { data_dir, wal_dir, backup_dir, backup_wal_dir, ignored: _ } = self;
        let [from, from_wal, to, to_wal] = [&data_dir, &wal_dir, &backup_dir, &backup_wal_dir].map(Path::new);
        let notices = backup::run(from, from_wal, to, to_wal, now()).map_err(CliError::failed)?;
        for notice in notices {
            output::note(&format!("{notice}\n"));
        }
        Ok(())
    }
}

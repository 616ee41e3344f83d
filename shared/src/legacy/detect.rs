//! Detects the kind of a data directory.

use std::path::{Path, PathBuf};

use super::files::{Conf, FileError, Info, StandbyInfo};
use super::snapshot;
use crate::disk::{Disk, DiskFile, Kind, Open};

/// What [`detect`] finds of etcd 0.x in a directory.
#[derive(Debug, Clone, PartialEq)]
pub enum LegacyDir {
    /// Nothing, or only files of a member that never started.
    Nothing,
    /// A member's data.
    Member,
    /// A machine that was a standby when it stopped. It may have been a member before, but its data are no longer
    /// those of the cluster.
    Standby(StandbyInfo),
}

/// Where the log is.
#[must_use]
pub fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// Where the commit index and the peers are.
#[must_use]
pub fn conf_path(data_dir: &Path) -> PathBuf {
    data_dir.join("conf")
}

/// Where the snapshots are.
#[must_use]
pub fn snapshot_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("snapshot")
}

/// Reads `conf`, if it is there.
///
/// # Errors
/// If it cannot be read, or etcd did not write it.
pub fn conf<D: Disk>(disk: &D, data_dir: &Path) -> Result<Option<Conf>, FileError> {
    Conf::read(disk, &conf_path(data_dir))
}

/// Reads `standby_info`, if it is there.
///
/// # Errors
/// If it cannot be read, or etcd did not write it.
pub fn standby_info<D: Disk>(disk: &D, data_dir: &Path) -> Result<Option<StandbyInfo>, FileError> {
    StandbyInfo::read(disk, &data_dir.join("standby_info"))
}

/// Reads `info` of 0.1 and 0.2, if it is there.
///
/// # Errors
/// If it cannot be read, or etcd did not write it.
pub fn info<D: Disk>(disk: &D, data_dir: &Path) -> Result<Option<Info>, FileError> {
    Info::read(disk, &data_dir.join("info"))
}

/// Detects what a directory holds of etcd 0.x. Newer files beside it are not checked.
///
/// As 0.4 does at its start: it is a standby if `standby_info` says so; a member if there is a log with entries, a
/// snapshot, or a `conf` that says that there were entries.
///
/// # Errors
/// Where a file cannot be read.
pub fn detect<D: Disk>(disk: &D, data_dir: &Path) -> Result<LegacyDir, FileError> {
    match disk.kind(data_dir)? {
        Some(Kind::Dir) => {}
        _ => return Ok(LegacyDir::Nothing),
    }
    if let Some(standby) = standby_info(disk, data_dir)?.filter(|standby| standby.running) {
        return Ok(LegacyDir::Standby(standby));
    }
    let log = log_path(data_dir);
    if disk.kind(&log)? == Some(Kind::File) && !disk.open(&log, Open::Read)?.is_empty()? {
        return Ok(LegacyDir::Member);
    }
    if !snapshot::names(disk, &snapshot_dir(data_dir))?.is_empty() {
        return Ok(LegacyDir::Member);
    }
    let began = conf(disk, data_dir)?.is_some_and(|conf| conf.commit_index > 0 || !conf.peers.is_empty());
    Ok(if began { LegacyDir::Member } else { LegacyDir::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn found(files: &[(&str, &str)]) -> LegacyDir {
        let disk = SimDisk::new(0);
        for (name, text) in files {
            disk.plant(&Path::new("/d").join(name), text.as_bytes()).unwrap();
        }
        detect(&disk, Path::new("/d")).unwrap()
    }

    #[test]
    fn kinds_of_directories() {
        let standby = "{\"Running\":true,\"Cluster\":null,\"SyncInterval\":5}";
        let member = "{\"Running\":false,\"Cluster\":null,\"SyncInterval\":5}";
        let began = "{\"commitIndex\":3,\"peers\":[]}";
        let never = "{\"commitIndex\":0,\"peers\":[]}";
        assert_eq!(found(&[]), LegacyDir::Nothing);
        assert_eq!(found(&[("log", ""), ("conf", never)]), LegacyDir::Nothing);
        assert_eq!(found(&[("log", "x")]), LegacyDir::Member);
        assert_eq!(found(&[("log", ""), ("conf", began)]), LegacyDir::Member);
        assert_eq!(found(&[("snapshot/0_9.ss", "")]), LegacyDir::Member);
        assert_eq!(found(&[("snapshot/readme", "")]), LegacyDir::Nothing);
        assert!(matches!(
            found(&[("log", "x"), ("conf", began), ("standby_info", standby)]),
            LegacyDir::Standby(_)
        ));
        assert!(matches!(found(&[("standby_info", standby)]), LegacyDir::Standby(_)));
        assert_eq!(found(&[("standby_info", member)]), LegacyDir::Nothing);
        assert_eq!(found(&[("log", "x"), ("standby_info", member)]), LegacyDir::Member);
    }
}

//! The layout of a data dir, checked before anything in it is opened.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use shared::disk::{Disk, DiskError, Kind, Open, parent_of};
use shared::wal::{self, WalError};

use super::log_location::{self, LogLocationError};
use crate::log;

/// The paths of a member's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The data dir itself.
    pub data: PathBuf,
    /// `member` below it.
    pub member: PathBuf,
    /// Snapshots.
    pub snap: PathBuf,
    /// The log; another folder with `-wal-dir`.
    pub wal: PathBuf,
}

/// Why a data dir cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The disk fails.
    #[error("cannot access data directory: {0}")]
    Disk(#[from] DiskError),
    /// The log's folder cannot be read.
    #[error("{0}")]
    Wal(#[from] WalError),
    /// The log is not at its location.
    #[error("{0}")]
    Log(#[from] LogLocationError),
    /// Its path is not a directory.
    #[error("error listing data dir: {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// It holds a member and a proxy.
    #[error("invalid datadir. Both member and proxy directories exist.")]
    Both,
    /// It is a proxy's, and a member was to be started.
    #[error(
        "the data directory {} is that of a proxy, which never becomes a member: remove the directory to start \
         a member in it",
        .0.display()
    )]
    Proxy(PathBuf),
}

/// What was started in a data dir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A member.
    Member,
    /// A proxy.
    Proxy,
}

/// What was started in a data dir: it never changes from proxy to member or back. `None` for nothing yet, and
/// for a missing dir.
///
/// # Errors
/// If it holds both, or is not a directory.
pub fn role_of<D: Disk>(disk: &D, data_dir: &Path) -> Result<Option<Role>, DataDirError> {
    check_is_dir(disk, data_dir)?;
    let is_there = |name: &str| disk.kind(&data_dir.join(name)).map(|kind| kind.is_some());
    match (is_there("member")?, is_there("proxy")?) {
        (true, true) => Err(DataDirError::Both),
        (true, false) => Ok(Some(Role::Member)),
        (false, true) => Ok(Some(Role::Proxy)),
        (false, false) => Ok(None),
    }
}

impl Layout {
    /// The layout of a data dir, with the log in `wal_dir` if that is given.
    pub fn new(data_dir: &Path, wal_dir: Option<&Path>) -> Layout {
        let member = data_dir.join("member");
        Layout {
            data: data_dir.to_owned(),
            snap: member.join("snap"),
            wal: wal_dir.map_or_else(|| member.join("wal"), Path::to_owned),
            member,
        }
    }

    /// Whether a member was ever started in it.
    pub fn has_log<D: Disk>(&self, disk: &D) -> Result<bool, WalError> {
        wal::exists(disk, &self.wal)
    }
}

/// Checks that the path of the data dir is a directory or missing.
pub(super) fn check_is_dir<D: Disk>(disk: &D, data_dir: &Path) -> Result<(), DataDirError> {
    match disk.kind(data_dir) {
        Ok(Some(Kind::File | Kind::Other)) => Err(DataDirError::NotADirectory(data_dir.to_owned())),
        // Other errors appear when it is created or written.
        _ => Ok(()),
    }
}

/// Checks that the data dir is a member's or new, and writable, and creates missing folders. A dir with 2.0.0's
/// first layout is converted.
pub(super) fn prepare<D: Disk>(disk: &D, layout: &Layout) -> Result<(), DataDirError> {
    disk.create_dir_all(&layout.data)?;
    touch(disk, &layout.data)?;
    let names = disk.list(&layout.data)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    match (has("member"), has("proxy")) {
        (true, true) => return Err(DataDirError::Both),
        (false, true) => return Err(DataDirError::Proxy(layout.data.clone())),
        (has_member, false) => {
            let is_old = has("wal") && (has("snap") || has_member);
            if is_old
                && wal::exists(disk, &layout.data.join("wal"))?
                && !wal::exists(disk, &layout.member.join("wal"))?
            {
                move_below_member(disk, layout)?;
            }
        }
    }
    warn_of_unknown_files(&names, &layout.data);
    log_location::check(disk, layout)
}

/// Logs unknown files in a data dir.
pub(crate) fn warn_of_unknown_files(names: &[OsString], data_dir: &Path) {
    let known = ["member", "proxy", "snap", "wal", ".touch"];
    for name in names.iter().filter(|name| !known.iter().any(|known| name == known)) {
        log::warning!(
            "etcdmain",
            "found invalid file/dir {} under data dir {} (Ignore this if you are upgrading etcd)",
            name.display(),
            data_dir.display()
        );
    }
}

/// Moves `snap` and `wal` below `member`: 2.0.0's release candidates kept them in the data dir itself. A move
/// that a crash interrupted is completed; existing files below `member` are not replaced.
fn move_below_member<D: Disk>(disk: &D, layout: &Layout) -> Result<(), DiskError> {
    disk.create_dir_all(&layout.member)?;
    // The log is moved last: until then a restart finds the old layout or completes the move.
    for name in ["snap", "wal"] {
        let (from, to) = (layout.data.join(name), layout.member.join(name));
        let is_free = match disk.kind(&to)? {
            None => true,
            Some(Kind::Dir) => disk.list(&to)?.is_empty(),
            Some(_) => false,
        };
        match (is_free, disk.kind(&from)?) {
            (true, Some(_)) => {}
            (_, None) if name == "snap" => continue,
            _ => return Ok(()),
        }
        disk.rename(&from, &to)?;
        disk.sync_dir(&layout.member)?;
        disk.sync_dir(&layout.data)?;
    }
    Ok(())
}

/// Creates and removes an empty file, to know early that the dir is writable.
fn touch<D: Disk>(disk: &D, dir: &Path) -> Result<(), DiskError> {
    let path = dir.join(".touch");
    debug_assert_eq!(parent_of(&path), dir);
    drop(disk.open(&path, Open::Create)?);
    disk.remove(&path)
}

#[cfg(test)]
mod tests {
    use shared::disk::SimDisk;

    use super::*;

    fn disk_with(dirs: &[&str]) -> SimDisk {
        let disk = SimDisk::new(1);
        for dir in dirs {
            disk.create_dir_all(&Path::new("/d").join(dir)).unwrap();
        }
        disk
    }

    #[test]
    fn what_was_started_in_a_directory_decides() {
        let role = |dirs: &[&str]| role_of(&disk_with(dirs), Path::new("/d"));
        assert_eq!(role(&[]).unwrap(), None);
        assert_eq!(role(&["", "lost+found"]).unwrap(), None);
        assert_eq!(role(&["member"]).unwrap(), Some(Role::Member));
        assert_eq!(role(&["proxy"]).unwrap(), Some(Role::Proxy));
        let error = role(&["proxy", "member"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid datadir. Both member and proxy directories exist.");
    }
}

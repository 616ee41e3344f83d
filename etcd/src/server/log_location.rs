//! The location of a member's log, and when a start without a log is refused.
//!
//! A data dir whose log is not found must not be treated as new: the member would start empty, acknowledge
//! writes, and find the old log at a later start.
//!
//! With `-wal-dir` the log is outside the data dir, often on a disk of its own; and a disk may be mounted on
//! `member/wal`. The file `member/wal-dir` records the location of the log. It is written after the log was
//! created and before anything is acknowledged. Other releases ignore it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use shared::disk::{self, Disk, DiskError, parent_of, read_file};
use shared::wal::SegmentName;

use super::data_dir::{DataDirError, Layout};
use super::database;

/// The file with the location, in the folder of the member.
const LOCATION_FILE: &str = "wal-dir";
/// The log's usual name in that folder.
const USUAL_NAME: &str = "wal";
/// More than the length of any path.
const LOCATION_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a log is missing or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogLocationError {
    /// There are snapshots, but no log.
    #[error(
        "{snap} holds snapshots, but there is no log in {wal}: a start would begin an empty member beside them. If the \
         log is elsewhere, mount its disk or name its directory with -wal-dir. If it is lost and this is the only \
         member, etcd-dump salvage {data} OUT makes a directory that starts from the newest snapshot; a member of \
         a cluster that runs is removed from it, and added again with an empty directory. To begin anew, remove {data}",
        snap = snap.display(),
        wal = wal.display(),
        data = data.display()
    )]
    SnapshotsWithoutLog {
        /// The folder of the snapshots.
        snap: PathBuf,
        /// The expected location of the log.
        wal: PathBuf,
        /// The data dir.
        data: PathBuf,
    },
    /// The recorded location has no log any more.
    #[error(
        "the log of {data} was in {recorded}, and there is none now: a start would begin an empty member. Mount the disk \
         of {recorded}, or name the directory where the log is now with -wal-dir. To begin anew, remove {data}",
        recorded = recorded.display(),
        data = data.display()
    )]
    Missing {
        /// The recorded location.
        recorded: PathBuf,
        /// The data dir.
        data: PathBuf,
    },
    /// The log is in another directory than the flags name.
    #[error(
        "there is no log in {wanted}, but one in {found}: {advice}",
        wanted = wanted.display(),
        found = found.display(),
        advice = advice(found, *is_default)
    )]
    OtherDirectory {
        /// The location by the flags.
        wanted: PathBuf,
        /// The location of the log.
        found: PathBuf,
        /// Whether that is the location without `-wal-dir`.
        is_default: bool,
    },
    /// There are two logs, and it is unknown which one is current.
    #[error(
        "there are two logs, in {used} and in {other}, and only one can be that of {data}: move the older one away \
         (etcd-dump {data} -wal-dir DIR shows what is in them)",
        used = used.display(),
        other = other.display(),
        data = data.display()
    )]
    TwoLogs {
        /// The log that the flags name.
        used: PathBuf,
        /// The other log.
        other: PathBuf,
        /// The data dir.
        data: PathBuf,
    },
    /// A symbolic link without a target.
    #[error("{} is a symbolic link to nothing: mount the disk that it points to, or correct it", .0.display())]
    Dangling(PathBuf),
}

fn advice(found: &Path, is_default: bool) -> String {
    if is_default {
        "start without -wal-dir, or stop all servers and move its files there".to_owned()
    } else {
        format!("start with -wal-dir={}, or stop all servers and move its files there", found.display())
    }
}

/// Checks that the only log is where the flags say, or that there has never been one.
pub(super) fn check<D: Disk>(disk: &D, layout: &Layout) -> Result<(), DataDirError> {
    let default = layout.member.join("wal");
    let recorded = read_location(disk, layout)?;
    let has_log = layout.has_log(disk)?;
    let other = [Some(&default), recorded.as_ref()]
        .into_iter()
        .flatten()
        .find(|other| !is_same(disk, other, &layout.wal) && holds_segments(disk, other));
    if let Some(other) = other {
        let (used, other, data) = (layout.wal.clone(), other.clone(), layout.data.clone());
        let is_default = other == default;
        return Err(if has_log {
            LogLocationError::TwoLogs { used, other, data }.into()
        } else {
            LogLocationError::OtherDirectory { wanted: used, found: other, is_default }.into()
        });
    }
    if has_log {
        return Ok(());
    }
    if is_dangling(disk, &layout.wal)? {
        return Err(LogLocationError::Dangling(layout.wal.clone()).into());
    }
    // The first layout of 2.0 kept snapshots in the data dir itself.
    for snap in [&layout.snap, &layout.data.join("snap")] {
        if holds_snapshots(disk, snap)? {
            let (snap, wal, data) = (snap.clone(), layout.wal.clone(), layout.data.clone());
            return Err(LogLocationError::SnapshotsWithoutLog { snap, wal, data }.into());
        }
    }
    match recorded {
        Some(recorded) => Err(LogLocationError::Missing { recorded, data: layout.data.clone() }.into()),
        None => Ok(()),
    }
}

/// Records the location of the existing log. The usual location is recorded by its name only, as the data dir
/// may be moved.
pub(super) fn write_location<D: Disk>(disk: &D, layout: &Layout) -> Result<(), DiskError> {
    let path = layout.member.join(LOCATION_FILE);
    let usual = layout.member.join(USUAL_NAME);
    let is_default = is_same(disk, &layout.wal, &usual);
    let location = if is_default {
        usual
    } else {
        std::path::absolute(&layout.wal).unwrap_or_else(|_| layout.wal.clone())
    };
    if read_location(disk, layout)?.as_ref() == Some(&location) {
        return Ok(());
    }
    let text = if is_default { PathBuf::from(USUAL_NAME) } else { location };
    let mut text = text.into_os_string().into_vec();
    text.push(b'\n');
    disk::write_file(disk, &path, &text)
}

fn read_location<D: Disk>(disk: &D, layout: &Layout) -> Result<Option<PathBuf>, DiskError> {
    let path = layout.member.join(LOCATION_FILE);
    if disk.kind(&path)?.is_none() {
        return Ok(None);
    }
    let mut text = read_file(disk, &path, LOCATION_FILE_BYTES_MAX)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    let path = PathBuf::from(OsString::from_vec(text));
    // A relative path is below the folder of the member.
    Ok((!path.as_os_str().is_empty()).then(|| layout.member.join(path)))
}

/// Whether two paths are the same folder.
fn is_same<D: Disk>(disk: &D, one: &Path, other: &Path) -> bool {
    one == other
        || match (disk.canonical(one), disk.canonical(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
}

/// Whether a folder holds a log; false if it cannot be read.
fn holds_segments<D: Disk>(disk: &D, dir: &Path) -> bool {
    disk.list(dir).is_ok_and(|names| names.iter().any(|name| SegmentName::parse(name).is_some()))
}

/// Whether a folder holds snapshots, valid, broken or incomplete: none is begun before there is a log. A database is made
/// before, and counts only once it has entries.
fn holds_snapshots<D: Disk>(disk: &D, dir: &Path) -> Result<bool, DiskError> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| {
            let is_database = name == "db" && !database::is_new(disk, &dir.join(name));
            is_database || name.as_bytes().windows(5).any(|part| part == b".snap")
        })),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a path is a symbolic link without a target.
fn is_dangling<D: Disk>(disk: &D, path: &Path) -> Result<bool, DiskError> {
    let (Some(name), None) = (path.file_name(), disk.kind(path)?) else { return Ok(false) };
    match disk.list(parent_of(path)) {
        Ok(names) => Ok(names.iter().any(|found| found == name)),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;

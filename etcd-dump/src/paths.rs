//! The files of a member in a directory, and the errors when they are missing.

use std::path::{Path, PathBuf};

use shared::disk::{Disk, DiskError, DiskFile as _, Kind, Open};

/// Where the files of a member are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberFiles {
    /// The folder of the snapshots.
    pub(crate) snap: PathBuf,
    /// The folder of the log.
    pub(crate) wal: PathBuf,
}

/// Whether there is a folder at a path. A path that cannot be checked is an error, not a missing folder.
///
/// # Errors
/// Those of the system, such as for a folder that this user may not search.
pub(crate) fn is_dir<D: Disk>(disk: &D, path: &Path) -> Result<bool, DiskError> {
    Ok(disk.kind(path)? == Some(Kind::Dir))
}

/// Whether there is anything at a path.
///
/// # Errors
/// Those of the system.
pub(crate) fn exists<D: Disk>(disk: &D, path: &Path) -> Result<bool, DiskError> {
    Ok(disk.kind(path)?.is_some())
}

/// Whether a directory has the files of a 0.x member: its log, and `conf` or snapshots, one of which it always has.
///
/// # Errors
/// Those of the system.
pub(crate) fn is_legacy_dir<D: Disk>(disk: &D, dir: &Path) -> Result<bool, DiskError> {
    let exists = |name: &str| exists(disk, &dir.join(name));
    Ok(exists("log")? && (exists("conf")? || exists("snapshot")?))
}

/// Why a path that the user gave is not a directory; `None` if it is one.
///
/// # Errors
/// Those of the system.
pub(crate) fn not_a_directory<D: Disk>(disk: &D, dir: &Path) -> Result<Option<String>, DiskError> {
    Ok(match disk.kind(dir)? {
        Some(Kind::Dir) => None,
        Some(_) => Some(format!("{} is not a directory", dir.display())),
        None => Some(format!("there is no directory {}", dir.display())),
    })
}

/// Describes a segment without a head: empty, or bytes that hold no record.
pub(crate) fn headless_segment<D: Disk>(disk: &D, file: &Path) -> String {
    let len = disk.open(file, Open::Read).and_then(|file| file.len()).unwrap_or_default();
    let what = match len {
        0 => "is empty (0 bytes)".to_owned(),
        len => format!("holds no record in its {len} bytes"),
    };
    format!("{} {what}: the entries that were in it are lost", file.display())
}

/// A path without links and dots, as far as it exists.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for known in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (std::fs::canonicalize(known), absolute.strip_prefix(known)) {
            return real.components().chain(rest.components()).collect();
        }
    }
    absolute
}

//! Removal of old files, oldest first, as long as nobody holds them.

use std::path::{Path, PathBuf};

use super::WalError;
use crate::disk::{Disk, DiskError, DiskFile, Open};

/// Removes the oldest segments in `dir` until at most `keep` are left; returns what it removed.
///
/// Stops at the first that is locked, which is one that a [`super::Wal`] may still need. 0 keeps all.
pub fn purge<D: Disk>(disk: &D, dir: &Path, keep: usize) -> Result<Vec<PathBuf>, WalError> {
    Ok(purge_suffix(disk, dir, "wal", keep)?)
}

/// The same for all names that end in `suffix`.
pub(crate) fn purge_suffix<D: Disk>(
    disk: &D,
    dir: &Path,
    suffix: &str,
    keep: usize,
) -> Result<Vec<PathBuf>, DiskError> {
    let mut removed = Vec::new();
    if keep == 0 {
        return Ok(removed);
    }
    let mut names = disk.list(dir)?;
    names.retain(|name| name.as_encoded_bytes().ends_with(suffix.as_bytes()));
    let surplus = names.len().saturating_sub(keep);
    for name in names.into_iter().take(surplus) {
        let path = dir.join(name);
        let mut file = disk.open(&path, Open::Read)?;
        match file.lock() {
            Err(error) if error.is_locked() => break,
            result => result?,
        }
        disk.remove(&path)?;
        tracing::info!(target: "fileutil", "purged file {} successfully", path.display());
        removed.push(path);
    }
    if !removed.is_empty() {
        disk.sync_dir(dir)?;
    }
    Ok(removed)
}

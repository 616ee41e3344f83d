//! Removal of old files, oldest first, up to the first locked one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::{SegmentName, WalError};
use crate::disk::{Disk, DiskError, DiskFile, Open};
use crate::planted::{Bug, is_planted};

/// Removes the oldest segments in `dir` until at most `keep` are left; returns what it removed.
///
/// Stops at the first locked one, which a [`super::Wal`] may still need, and at the first that a start after
/// `snapshot_index` needs: the index of the newest snapshot whose file exists, 0 for none. If `keep` is 0, keeps all.
pub fn purge<D: Disk>(
    disk: &D,
    dir: &Path,
    keep: usize,
    snapshot_index: u64,
) -> Result<Vec<PathBuf>, WalError> {
    let snapshot_index = if is_planted(Bug::LogCutEarly) { u64::MAX } else { snapshot_index };
    let names = disk.list(dir)?;
    let segments: Vec<SegmentName> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    let needed = segments.iter().rev().find(|name| name.index <= snapshot_index).or(segments.first());
    let needed = needed.map(|name| OsString::from(name.to_string()));
    Ok(purge_suffix(disk, dir, "wal", keep, needed.as_deref())?)
}

/// As [`purge`], for all names that end in `suffix` and sort before `end`.
pub(crate) fn purge_suffix<D: Disk>(
    disk: &D,
    dir: &Path,
    suffix: &str,
    keep: usize,
    end: Option<&OsStr>,
) -> Result<Vec<PathBuf>, DiskError> {
    let mut removed = Vec::new();
    if keep == 0 {
        return Ok(removed);
    }
    let mut names = disk.list(dir)?;
    names.retain(|name| name.as_encoded_bytes().ends_with(suffix.as_bytes()));
    let surplus = names.len().saturating_sub(keep);
    for name in names.into_iter().take(surplus) {
        if end.is_some_and(|end| name.as_os_str() >= end) {
            break;
        }
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

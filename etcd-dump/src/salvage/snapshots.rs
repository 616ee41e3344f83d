//! The snapshot files, and which of them are good.

use std::path::{Path, PathBuf};

use shared::disk::{Disk, DiskError};
use shared::pb;
use shared::snap;

use super::log::INDEX_MAX;

/// A snapshot file.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) path: PathBuf,
    /// The index and term in the name.
    pub(super) named: Option<pb::WalSnapshot>,
    /// Its metadata, or why it is broken.
    pub(super) state: Result<pb::SnapshotMetadata, String>,
}

impl Snapshot {
    /// The index of its last entry; of a broken one, according to its name.
    pub(super) fn index(&self) -> u64 {
        match (&self.state, self.named) {
            (Ok(metadata), _) => metadata.index,
            (Err(_), Some(named)) => named.index,
            (Err(_), None) => 0,
        }
    }
}

/// Reads all snapshot files, including those that a server has set aside as broken; the newest first.
///
/// # Errors
/// If the folder cannot be listed.
pub(super) fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<Snapshot>, DiskError> {
    let mut found = Vec::new();
    for name in disk.list(dir)? {
        let Some(name) = name.to_str() else { continue };
        let Some(stem) = name.strip_suffix(".broken").unwrap_or(name).strip_suffix(".snap") else { continue };
        let path = dir.join(name);
        let state = match snap::read(disk, &path) {
            Ok(snapshot) if !(1..=INDEX_MAX).contains(&snapshot.metadata.index) => {
                Err(format!("there is no entry {}", snapshot.metadata.index))
            }
            Ok(snapshot) => Ok(snapshot.metadata),
            Err(snap::SnapError::Broken { damage, .. }) => Err(damage.to_string()),
            Err(error) => Err(error.to_string()),
        };
        found.push(Snapshot { path, named: parse(stem), state });
    }
    found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.index()));
    Ok(found)
}

/// `TERM-INDEX`, both 16 hex digits.
fn parse(stem: &str) -> Option<pb::WalSnapshot> {
    let (term, index) = stem.split_once('-')?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    Some(pb::WalSnapshot { index: number(index).filter(|index| *index <= INDEX_MAX)?, term: number(term)? })
}

//! Snapshot files of etcd 2.x: `TERM-INDEX.snap`, both 16 hex digits.
//!
//! | field | content |
//! |---|---|
//! | 1 varint | CRC-32C of field 2 |
//! | 2 bytes | `raftpb.Snapshot`: 1 the store as JSON, 2 metadata (members, index, term) |
//!
//! A file appears under its name only when it is complete and synced.

mod load;
mod peek;
mod save;
mod send;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

pub use load::{SnapDamage, decode, read};
pub use peek::peek;
pub use send::SnapshotData;

use crate::disk::{Disk, DiskError};

/// A failure to save or to load a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapError {
    /// The system refused an operation.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file is not a good snapshot.
    #[error("corrupted snapshot file {}: {damage}", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        damage: SnapDamage,
    },
    /// The body could not be produced.
    #[error("snapshot body: {0}")]
    Body(#[source] io::Error),
}

/// The snapshots in a folder.
#[derive(Debug, Clone)]
pub struct Snapshots<D: Disk> {
    disk: D,
    dir: PathBuf,
}

impl<D: Disk> Snapshots<D> {
    /// The snapshots in `dir`, which must exist when they are used.
    pub fn new(disk: D, dir: &Path) -> Snapshots<D> {
        Snapshots { disk, dir: dir.to_owned() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The length of the file with the snapshot of an entry, in bytes; `None` if there is none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn file_len(&self, term: u64, index: u64) -> Result<Option<u64>, SnapError> {
        Ok(self.disk.file_len(&self.dir.join(file_name(term, index)))?)
    }
}

/// Removes the oldest snapshots in `dir` until at most `keep` are left; returns what it removed. 0 keeps all.
pub fn purge<D: Disk>(disk: &D, dir: &Path, keep: usize) -> Result<Vec<PathBuf>, SnapError> {
    Ok(crate::wal::purge_suffix(disk, dir, "snap", keep, None)?)
}

/// The index of the newest snapshot in `dir` by its name: the one that [`Snapshots::load_newest`] tries first. `None`
/// if there is none. The file is not opened.
///
/// # Errors
/// If the folder cannot be listed.
pub fn newest_index<D: Disk>(disk: &D, dir: &Path) -> Result<Option<u64>, SnapError> {
    let names = disk.list(dir)?;
    Ok(names.iter().rev().find_map(|name| index_of(name)))
}

/// The highest index in the names of the snapshots in `dir`, including those that were renamed as broken: every entry
/// up to it was committed. 0 if there are none.
///
/// # Errors
/// If the folder cannot be listed.
pub fn highest_index<D: Disk>(disk: &D, dir: &Path) -> Result<u64, DiskError> {
    let index = |name: &OsString| {
        let name = name.to_str()?;
        index_of(OsStr::new(name.strip_suffix(".broken").unwrap_or(name)))
    };
    Ok(disk.list(dir)?.iter().filter_map(index).max().unwrap_or(0))
}

/// The index in the name of a snapshot.
fn index_of(name: &OsStr) -> Option<u64> {
    let (term, index) = name.to_str()?.strip_suffix(".snap")?.split_once('-')?;
    crate::wal::hex16(term)?;
    crate::wal::hex16(index)
}

/// The name of the snapshot of an entry.
#[must_use]
pub fn file_name(term: u64, index: u64) -> String {
    format!("{term:016x}-{index:016x}.snap")
}

/// `snappb.snapshot`, as it is read.
#[derive(Clone, PartialEq, prost::Message)]
struct RawSnapshot {
    #[prost(uint32, required, tag = "1")]
    crc: u32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<bytes::Bytes>,
}

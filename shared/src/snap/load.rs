//! Reads snapshots; renames broken ones.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::{RawSnapshot, SnapError, Snapshots};
use crate::disk::{Disk, read_file};
use crate::pb;

/// The largest file: the nodes of a larger store would not fit into memory.
const FILE_BYTES_MAX: u64 = 1 << 36;

/// What is wrong with a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapDamage {
    /// The entry is empty.
    #[error("unexpected empty snapshot")]
    Empty,
    /// The checksum does not match the data.
    #[error("crc mismatch")]
    Crc,
    /// It is not a valid protobuf message.
    #[error("{0}")]
    Encoding(String),
}

/// Decodes the bytes of a snapshot file. The store's JSON is a slice of them.
pub fn decode(bytes: Bytes) -> Result<pb::Snapshot, SnapDamage> {
    if bytes.is_empty() {
        return Err(SnapDamage::Empty);
    }
    let encoding = |error: prost::DecodeError| SnapDamage::Encoding(error.to_string());
    let raw = RawSnapshot::decode(bytes).map_err(encoding)?;
    let data = raw.data.filter(|data| !data.is_empty()).ok_or(SnapDamage::Empty)?;
    if crc32c::crc32c(&data) != raw.crc {
        return Err(SnapDamage::Crc);
    }
    pb::Snapshot::decode(data).map_err(encoding)
}

/// Reads one snapshot file.
pub fn read<D: Disk>(disk: &D, file: &Path) -> Result<pb::Snapshot, SnapError> {
    let bytes = read_file(disk, file, FILE_BYTES_MAX)?;
    decode(Bytes::from(bytes)).map_err(|damage| SnapError::Broken { file: file.to_owned(), damage })
}

impl<D: Disk> Snapshots<D> {
    /// Reads the newest good snapshot; returns it with its path. Newer broken ones are renamed to `….snap.broken`.
    /// The snapshot's name is durable on return.
    pub fn load_newest(&self) -> Result<Option<(pb::Snapshot, PathBuf)>, SnapError> {
        let found = self.newest(|file, error| {
            tracing::error!(target: "snap", "{error}");
            let mut broken = file.as_os_str().to_owned();
            broken.push(".broken");
            self.disk.rename(file, Path::new(&broken))?;
            Ok(())
        })?;
        // A killed process may have left names that are not durable yet.
        self.disk.sync_dir(&self.dir)?;
        Ok(found)
    }

    /// As [`load_newest`](Snapshots::load_newest), without a change: broken ones are passed to `skipped`.
    pub fn peek_newest(
        &self,
        mut skipped: impl FnMut(&SnapError),
    ) -> Result<Option<(pb::Snapshot, PathBuf)>, SnapError> {
        self.newest(|_, error| {
            skipped(error);
            Ok(())
        })
    }

    fn newest(
        &self,
        mut set_aside: impl FnMut(&Path, &SnapError) -> Result<(), SnapError>,
    ) -> Result<Option<(pb::Snapshot, PathBuf)>, SnapError> {
        for name in self.names()?.into_iter().rev() {
            let file = self.dir.join(name);
            match read(&self.disk, &file) {
                Ok(snapshot) => return Ok(Some((snapshot, file))),
                Err(error @ SnapError::Broken { .. }) => set_aside(&file, &error)?,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The names of the snapshots, oldest first. Other files are ignored, with a warning.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn names(&self) -> Result<Vec<OsString>, SnapError> {
        let mut names = self.disk.list(&self.dir)?;
        names.retain(|name| {
            let good = name.as_encoded_bytes().ends_with(b".snap");
            if !good {
                let name = name.to_string_lossy();
                tracing::warn!(target: "snap", "skipped unexpected non snapshot file {name}");
            }
            good
        });
        Ok(names)
    }
}

//! The new directory: written under a temporary name, and renamed when everything in it is durable.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use shared::disk::{Disk, DiskError, Kind, is_link};
use shared::pb;
use shared::snap::Snapshots;
use shared::wal::{EntryRef, Wal};

use crate::error::MigrateError;

/// Buffered bytes of entries at which they are written.
const BATCH_BYTES: usize = 1024 * 1024;

/// Where a member's files are in 2.x.
pub(crate) fn member_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("member")
}

/// Where a member's files are while they are incomplete.
fn draft_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("member.migrating")
}

/// The log and the snapshot that are being written.
pub(crate) struct MigrationOutput<D: Disk> {
    disk: D,
    data_dir: PathBuf,
    wal: Wal<D>,
    waiting: usize,
}

impl<D: Disk> MigrationOutput<D> {
    /// Begins the new directory; the files of an unfinished earlier run are removed.
    pub(crate) fn create(
        disk: &D,
        data_dir: &Path,
        metadata: pb::Metadata,
    ) -> Result<MigrationOutput<D>, MigrateError> {
        let draft = draft_dir(data_dir);
        remove_all(disk, &draft)?;
        disk.create_dir_all(&draft.join("snap"))?;
        let wal = Wal::create(disk.clone(), &draft.join("wal"), metadata)?;
        Ok(MigrationOutput { disk: disk.clone(), data_dir: data_dir.to_owned(), wal, waiting: 0 })
    }

    /// The log itself, for the form of etcd-migrate 2.0.
    pub(crate) fn wal_mut(&mut self) -> &mut Wal<D> {
        &mut self.wal
    }

    /// Appends an entry.
    pub(crate) fn append(
        &mut self,
        kind: i32,
        term: u64,
        index: u64,
        data: Option<&[u8]>,
    ) -> Result<(), MigrateError> {
        self.wal.append(std::iter::once(EntryRef { kind, term, index, data }), None);
        self.waiting += data.map_or(0, <[u8]>::len) + size_of::<pb::Entry>();
        if self.waiting >= BATCH_BYTES {
            self.waiting = 0;
            self.wal.write_out()?;
        }
        Ok(())
    }

    /// Appends the hard state.
    pub(crate) fn state(&mut self, state: pb::HardState) {
        self.wal.append(std::iter::empty(), Some(state));
    }

    /// Stores a snapshot of the last entry that was appended, with the store that `write` writes, and marks it in
    /// the log.
    pub(crate) fn snapshot(
        &mut self,
        at: pb::WalSnapshot,
        nodes: Vec<u64>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), MigrateError> {
        self.mark(at)?;
        let snapshots = Snapshots::new(self.disk.clone(), &draft_dir(&self.data_dir).join("snap"));
        Ok(snapshots.save(at.term, at.index, &pb::ConfState { nodes }, write)?)
    }

    /// Marks a snapshot in the log.
    pub(crate) fn mark(&mut self, at: pb::WalSnapshot) -> Result<(), MigrateError> {
        Ok(self.wal.append_snapshot(at)?)
    }

    /// Makes everything durable, and renames the directory as the last step.
    pub(crate) fn finish(self) -> Result<(), MigrateError> {
        let MigrationOutput { disk, data_dir, mut wal, .. } = self;
        let draft = draft_dir(&data_dir);
        wal.flush()?;
        wal.close()?;
        disk.sync_dir(&draft.join("wal"))?;
        disk.sync_dir(&draft.join("snap"))?;
        disk.sync_dir(&draft)?;
        disk.rename(&draft, &member_dir(&data_dir))?;
        Ok(disk.sync_dir(&data_dir)?)
    }
}

/// Removes the files of an unfinished run.
pub(crate) fn remove_draft<D: Disk>(disk: &D, data_dir: &Path) -> Result<(), DiskError> {
    remove_all(disk, &draft_dir(data_dir))
}

/// Removes a folder with everything in it, if it exists; of a symbolic link, only the link. Uses a stack of its own
/// instead of recursion.
fn remove_all<D: Disk>(disk: &D, dir: &Path) -> Result<(), DiskError> {
    match disk.kind(dir)? {
        None => return Ok(()),
        Some(Kind::Dir) if !is_link(disk, dir)? => {}
        Some(_) => return disk.remove(dir),
    }
    let mut waiting = vec![(dir.to_owned(), false)];
    while let Some((dir, emptied)) = waiting.pop() {
        if emptied {
            disk.remove_dir(&dir)?;
            continue;
        }
        waiting.push((dir.clone(), true));
        for name in disk.list(&dir)? {
            let path = dir.join(name);
            match disk.kind(&path)? {
                Some(Kind::Dir) if !is_link(disk, &path)? => waiting.push((path, false)),
                Some(_) => disk.remove(&path)?,
                None => {}
            }
        }
    }
    Ok(())
}

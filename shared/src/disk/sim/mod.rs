//! A disk in memory that forgets, at a crash, what was not synced.
//!
//! Of the contents of each file a crash keeps what was synced and, of the writes since then, any prefix: the
//! cut may fall inside a write, and what is missing of it may be left as zeros from a sector's start on, as
//! real file systems do. Of the names (files created, renamed, removed) it keeps what was synced and any
//! prefix of the operations since. The choice comes from the seed, so a failing run repeats.

mod state;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::state::{Change, FileNode, Node, State, apply};
use super::{Disk, DiskError, DiskFile, Kind, Open};

/// The operations of a [`SimDisk`] that a [`Fault`] can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOperation {
    /// Contents added or overwritten.
    Write,
    /// Contents synced.
    Sync,
    /// A folder synced.
    SyncDir,
    /// A file or folder renamed.
    Rename,
    /// A file or folder made.
    Create,
    /// A file or folder removed.
    Remove,
    /// A file cut off.
    Truncate,
    /// Space reserved.
    Allocate,
}

/// A failure to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The operation that fails.
    pub operation: DiskOperation,
    /// How many of these operations succeed before it.
    pub after: u64,
    /// The error; a failed write has written half of its bytes.
    pub kind: io::ErrorKind,
}

/// A simulated disk. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// A file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    state: Arc<Mutex<State>>,
    node: usize,
    path: PathBuf,
    /// The number of the boot in which it was opened; after a crash the handle is invalid.
    life: u64,
    /// Identifies the handle, for locks.
    handle: u64,
    writable: bool,
    sync_failed: bool,
}

impl SimDisk {
    /// An empty disk; all its random choices come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// From now on a crash keeps any of the sectors that were written since the last sync, not only a prefix: as a disk
    /// that writes back in an order of its own.
    pub fn reorder_writes(&self) {
        self.state.lock().reorders = true;
    }

    /// Makes an operation fail, once.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Cancels the injected failures that did not happen yet. A power failure stays.
    pub fn forget_faults(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.power.take_if(|left| *left > 0);
    }

    /// Whether the power has failed and [`SimDisk::crash`] was not called since.
    #[must_use]
    pub fn is_without_power(&self) -> bool {
        self.state.lock().power == Some(0)
    }

    /// Makes the power fail after `changes` more changes; then all operations fail until [`SimDisk::crash`].
    pub fn fail_power_after(&self, changes: u64) {
        self.state.lock().power = Some(changes);
    }

    /// The number of changes so far: writes, syncs and changes of names.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Power loss and restart: forgets what was not synced, closes every handle, drops every lock.
    pub fn crash(&self) {
        self.state.lock().crash();
    }

    /// The bytes of a file as a reader sees them.
    pub fn contents(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        let state = self.state.lock();
        let node = state.file(path).map_err(|kind| DiskError::new("open", path, kind.into()))?;
        Ok(state.file_node(node).now.clone())
    }

    /// Creates a durable file, with its folders, at the start of a test.
    pub fn plant(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.create_dir_all(super::parent_of(path))?;
        let mut file = self.open(path, Open::Create)?;
        file.append(bytes)?;
        file.sync()?;
        self.sync_dir(super::parent_of(path))
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, path: &Path, how: Open) -> Result<SimFile, DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("open", path, kind.into());
        let mut state = self.state.lock();
        let node = match (state.file(path), how) {
            (Err(io::ErrorKind::NotFound), Open::Create) => {
                state.change(DiskOperation::Create).map_err(failed)?;
                let (dir, name) = state.locate(path).map_err(failed)?;
                let node = state.nodes.len();
                state.nodes.push(Node::File(FileNode::default()));
                state.rename_now(vec![(dir, name.to_owned(), Some(node))]);
                node
            }
            (Ok(node), Open::Create) => {
                state.change(DiskOperation::Truncate).map_err(failed)?;
                let file = state.file_node_mut(node);
                file.now.clear();
                file.pending.push(Change::Truncate { len: 0 });
                node
            }
            (result, _) => result.map_err(failed)?,
        };
        state.handles += 1;
        Ok(SimFile {
            state: Arc::clone(&self.state),
            node,
            path: path.to_owned(),
            life: state.life,
            handle: state.handles,
            writable: how != Open::Read,
            sync_failed: false,
        })
    }

    fn kind(&self, path: &Path) -> Result<Option<Kind>, DiskError> {
        let state = self.state.lock();
        match state.lookup(path) {
            Ok(node) => Ok(Some(match &state.nodes[node] {
                Node::File(_) => Kind::File,
                Node::Dir { .. } => Kind::Dir,
            })),
            Err(io::ErrorKind::NotFound) => Ok(None),
            Err(kind) => Err(DiskError::new("stat", path, kind.into())),
        }
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        let state = self.state.lock();
        match state.lookup(path).map(|node| &state.nodes[node]) {
            Ok(Node::File(file)) => Ok(Some(file.now.len() as u64)),
            Ok(Node::Dir { .. }) | Err(io::ErrorKind::NotFound) => Ok(None),
            Err(kind) => Err(DiskError::new("stat", path, kind.into())),
        }
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, DiskError> {
        // It has no links.
        let found = self.state.lock().lookup(path);
        found.map(|_| path.to_owned()).map_err(|kind| DiskError::new("stat", path, kind.into()))
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("open", dir, kind.into());
        let state = self.state.lock();
        match &state.nodes[state.lookup(dir).map_err(failed)?] {
            Node::Dir { now, .. } => Ok(now.keys().cloned().collect()),
            Node::File(_) => Err(failed(io::ErrorKind::NotADirectory)),
        }
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("mkdir", dir, kind.into());
        let mut state = self.state.lock();
        if state.lookup(dir).is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists));
        }
        let (parent, name) = state.locate(dir).map_err(failed)?;
        state.change(DiskOperation::Create).map_err(failed)?;
        let node = state.nodes.len();
        state.nodes.push(Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() });
        state.rename_now(vec![(parent, name.to_owned(), Some(node))]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("rename", from, kind.into());
        let mut state = self.state.lock();
        let node = state.lookup(from).map_err(failed)?;
        let (from_dir, from_name) = state.locate(from).map_err(failed)?;
        let (to_dir, to_name) = state.locate(to).map_err(failed)?;
        state.change(DiskOperation::Rename).map_err(failed)?;
        if (from_dir, from_name) != (to_dir, to_name) {
            let names =
                vec![(from_dir, from_name.to_owned(), None), (to_dir, to_name.to_owned(), Some(node))];
            state.rename_now(names);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("remove", path, kind.into());
        let mut state = self.state.lock();
        state.file(path).map_err(failed)?;
        let (dir, name) = state.locate(path).map_err(failed)?;
        state.change(DiskOperation::Remove).map_err(failed)?;
        state.rename_now(vec![(dir, name.to_owned(), None)]);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("remove", dir, kind.into());
        let mut state = self.state.lock();
        match &state.nodes[state.lookup(dir).map_err(failed)?] {
            Node::Dir { now, .. } if now.is_empty() => {}
            Node::Dir { .. } => return Err(failed(io::ErrorKind::DirectoryNotEmpty)),
            Node::File(_) => return Err(failed(io::ErrorKind::NotADirectory)),
        }
        let (parent, name) = state.locate(dir).map_err(failed)?;
        state.change(DiskOperation::Remove).map_err(failed)?;
        state.rename_now(vec![(parent, name.to_owned(), None)]);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("fsync", dir, kind.into());
        let mut state = self.state.lock();
        let node = state.lookup(dir).map_err(failed)?;
        state.change(DiskOperation::SyncDir).map_err(failed)?;
        state.sync_dir(node);
        Ok(())
    }
}

impl SimFile {
    fn failed(&self, operation: &'static str) -> impl Fn(io::ErrorKind) -> DiskError {
        move |kind| DiskError::new(operation, &self.path, kind.into())
    }

    /// Checks the handle before a change, and counts the change.
    fn begin(
        &self,
        state: &mut State,
        operation: DiskOperation,
        word: &'static str,
    ) -> Result<(), DiskError> {
        if state.life != self.life {
            return Err(self.failed(word)(io::ErrorKind::BrokenPipe));
        }
        if !self.writable {
            return Err(self.failed(word)(io::ErrorKind::PermissionDenied));
        }
        if self.sync_failed {
            return Err(DiskError::after_failed_sync(word, &self.path));
        }
        state.change(operation).map_err(self.failed(word))
    }

    fn write(&self, state: &mut State, offset: usize, bytes: &[u8]) {
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        let file = state.file_node_mut(self.node);
        apply(&mut file.now, &change);
        file.pending.push(change);
    }
}

impl DiskFile for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.state.lock().file_node(self.node).now.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let state = self.state.lock();
        if state.life != self.life {
            return Err(self.failed("read")(io::ErrorKind::BrokenPipe));
        }
        let contents = &state.file_node(self.node).now;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.len());
        let some = &contents[from..contents.len().min(from + buf.len())];
        buf[..some.len()].copy_from_slice(some);
        Ok(some.len())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let len = self.len()?;
        self.write_at(len, bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let at = usize::try_from(offset).map_err(|_| self.failed("write")(io::ErrorKind::FileTooLarge))?;
        if let Err(error) = self.begin(&mut state, DiskOperation::Write, "write") {
            if error.kind() == io::ErrorKind::StorageFull {
                self.write(&mut state, at, &bytes[..bytes.len() / 2]);
            }
            return Err(error);
        }
        self.write(&mut state, at, bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let begun = self.begin(&mut state, DiskOperation::Sync, "fdatasync");
        if state.life != self.life {
            return begun;
        }
        let file = state.file_node_mut(self.node);
        match begun {
            Ok(()) => {
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &change);
                }
                Ok(())
            }
            Err(error) => {
                // The kernel reports a lost page once and then takes it for clean: what was pending is seen
                // by readers until a crash, and no later sync brings it to the disk.
                if error.kind() != io::ErrorKind::BrokenPipe && !error.is_after_failed_sync() {
                    file.pending.clear();
                }
                drop(state);
                self.sync_failed = true;
                Err(error)
            }
        }
    }

    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        self.begin(&mut state, DiskOperation::Truncate, "truncate")?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let file = state.file_node_mut(self.node);
        file.now.truncate(len);
        file.pending.push(Change::Truncate { len });
        Ok(())
    }

    fn allocate(&mut self, _len: u64) -> Result<(), DiskError> {
        self.begin(&mut self.state.lock(), DiskOperation::Allocate, "fallocate")
    }

    fn extend(&mut self, len: u64) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        self.begin(&mut state, DiskOperation::Allocate, "fallocate")?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let file = state.file_node_mut(self.node);
        let at = file.now.len();
        if at < len {
            file.now.resize(len, 0);
            file.pending.push(Change::Write { offset: at, bytes: vec![0; len - at] });
        }
        Ok(())
    }

    fn check_in_place(&self) -> Result<(), DiskError> {
        let state = self.state.lock();
        if state.life != self.life {
            return Err(self.failed("stat")(io::ErrorKind::BrokenPipe));
        }
        if state.lookup(&self.path) == Ok(self.node) { Ok(()) } else { Err(DiskError::displaced(&self.path)) }
    }

    fn lock(&mut self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let file = state.file_node_mut(self.node);
        match file.locked_by {
            Some(other) if other != self.handle => Err(self.failed("flock")(io::ErrorKind::WouldBlock)),
            _ => {
                file.locked_by = Some(self.handle);
                Ok(())
            }
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            let file = state.file_node_mut(self.node);
            if file.locked_by == Some(self.handle) {
                file.locked_by = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/a/b")).unwrap();
        disk
    }

    /// What stands at a path after a crash, for each of many seeds.
    fn after_crashes(work: impl Fn(&SimDisk), path: &str) -> Vec<Option<Vec<u8>>> {
        (0..60)
            .map(|seed| {
                let disk = disk(seed);
                work(&disk);
                disk.crash();
                disk.contents(Path::new(path)).ok()
            })
            .collect()
    }

    #[test]
    fn what_is_synced_stays_and_the_rest_stays_in_part() {
        let write = |disk: &SimDisk| {
            disk.plant(Path::new("/a/b/f"), b"synced ").unwrap();
            let mut file = disk.open(Path::new("/a/b/f"), Open::Append).unwrap();
            file.append(b"not ").unwrap();
            file.append(b"yet").unwrap();
            assert_eq!(disk.contents(Path::new("/a/b/f")).unwrap(), b"synced not yet");
        };
        let outcomes: Vec<Vec<u8>> = after_crashes(write, "/a/b/f").into_iter().flatten().collect();
        assert_eq!(outcomes.len(), 60, "a synced file is gone");
        let good = |kept: &[u8]| {
            // The new length may be there without the bytes.
            let zeros = kept.iter().rev().take_while(|byte| **byte == 0).count();
            kept.len() >= 7 && b"synced not yet".starts_with(&kept[..kept.len() - zeros])
        };
        assert!(outcomes.iter().all(|kept| good(kept)), "{outcomes:?}");
        assert!(outcomes.iter().any(|kept| kept.len() == 7) && outcomes.iter().any(|kept| kept.len() == 14));
        assert!(outcomes.iter().any(|kept| (8..11).contains(&kept.len())), "no write was torn");
    }

    #[test]
    fn lost_sectors_may_be_zeros() {
        let write = |disk: &SimDisk| {
            disk.plant(Path::new("/a/b/f"), &[1; 700]).unwrap();
            disk.open(Path::new("/a/b/f"), Open::Append).unwrap().append(&[2; 2000]).unwrap();
        };
        let outcomes: Vec<Vec<u8>> = after_crashes(write, "/a/b/f").into_iter().flatten().collect();
        let zeros = outcomes.iter().filter_map(|kept| kept.iter().position(|byte| *byte == 0));
        assert!(zeros.clone().count() > 3);
        // From a sector on, or from the old end on: then the sector with the old end is the old one.
        assert!(
            zeros.clone().all(|at| at % 512 == 0 && at > 700 || at == 700),
            "{:?}",
            zeros.collect::<Vec<_>>()
        );
    }

    #[test]
    fn names_are_durable_only_after_their_folder_is_synced() {
        let create = |sync: bool| {
            move |disk: &SimDisk| {
                let mut file = disk.open(Path::new("/a/b/f"), Open::Create).unwrap();
                file.append(b"x").unwrap();
                file.sync().unwrap();
                if sync {
                    disk.sync_dir(Path::new("/a/b")).unwrap();
                }
            }
        };
        let kept = |outcomes: Vec<Option<Vec<u8>>>| outcomes.iter().flatten().count();
        assert_eq!(kept(after_crashes(create(true), "/a/b/f")), 60);
        assert!((1..60).contains(&kept(after_crashes(create(false), "/a/b/f"))));
        let rename = |disk: &SimDisk| {
            disk.plant(Path::new("/a/b/old"), b"x").unwrap();
            disk.rename(Path::new("/a/b/old"), Path::new("/a/new")).unwrap();
        };
        let (old, new) = (after_crashes(rename, "/a/b/old"), after_crashes(rename, "/a/new"));
        assert!(
            old.iter().zip(&new).all(|(old, new)| old.is_some() != new.is_some()),
            "at both or at neither"
        );
        assert!((1..60).contains(&kept(new)));
        let remove = |disk: &SimDisk| {
            disk.plant(Path::new("/a/b/f"), b"x").unwrap();
            disk.remove(Path::new("/a/b/f")).unwrap();
        };
        assert!((1..60).contains(&kept(after_crashes(remove, "/a/b/f"))));
    }

    #[test]
    fn a_write_that_a_failed_sync_lost_is_not_brought_back_by_the_next() {
        let disk = disk(1);
        let path = Path::new("/a/b/f");
        disk.plant(path, b"").unwrap();
        let mut file = disk.open(path, Open::Append).unwrap();
        file.append(b"lost").unwrap();
        disk.inject(Fault { operation: DiskOperation::Sync, after: 0, kind: io::ErrorKind::Other });
        file.sync().unwrap_err();
        assert!(file.append(b"x").unwrap_err().is_after_failed_sync());
        assert!(file.sync().unwrap_err().is_after_failed_sync());
        // Not even through another handle.
        let mut other = disk.open(path, Open::Append).unwrap();
        assert_eq!(disk.contents(path).unwrap(), b"lost");
        other.append(b"kept").unwrap();
        other.sync().unwrap();
        disk.crash();
        assert_eq!(disk.contents(path).unwrap(), b"\0\0\0\0kept");
    }

    #[test]
    fn locks_and_handles_end_with_a_crash() {
        let disk = disk(1);
        let path = Path::new("/a/b/f");
        disk.plant(path, b"x").unwrap();
        let open = || disk.open(path, Open::Append).unwrap();
        let (mut one, mut two) = (open(), open());
        one.lock().unwrap();
        one.lock().unwrap();
        assert!(two.lock().unwrap_err().is_locked());
        drop(one);
        two.lock().unwrap();
        disk.crash();
        two.append(b"y").unwrap_err();
        open().lock().unwrap();
        assert_eq!(disk.contents(path).unwrap(), b"x");
    }

    #[test]
    fn folders_are_like_those_of_a_real_disk() {
        let disk = disk(1);
        let (dir, file) = (Path::new("/a/b"), Path::new("/a/b/f"));
        disk.plant(file, b"x").unwrap();
        assert_eq!(disk.list(dir).unwrap(), ["f"]);
        assert_eq!(disk.list(file).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(disk.kind(&file.join("g")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(disk.remove_dir(dir).unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
        assert_eq!(disk.create_dir(dir).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(disk.create_dir(Path::new("/none/d")).unwrap_err().is_not_found());
        disk.remove(file).unwrap();
        disk.remove_dir(dir).unwrap();
        assert_eq!(disk.kind(dir).unwrap(), None);
    }
}

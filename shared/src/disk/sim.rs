//! A disk in memory that forgets, at a crash, what was not synced.
//!
//! Of the contents of each file a crash keeps what was synced and, of the writes since then, any prefix: the
//! cut may fall inside a write, and what is missing of it may be left as zeros from a sector's start on, as
//! real file systems do. Of the names (files created, renamed, removed) it keeps what was synced and any
//! prefix of the operations since. The choice comes from the seed, so a failing run repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskError, DiskFile, Kind, Open};

/// Where zeros may begin when a write was lost.
const SECTOR_BYTES: u64 = 512;
const ROOT: usize = 0;

/// The operations of a [`SimDisk`] that a [`Fault`] can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
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

/// A failure to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The operation that fails.
    pub verb: Verb,
    /// How many of them succeed before.
    pub after: u64,
    /// The error; of a write that fails so, half has been written.
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
    /// The life of the machine in which it was opened; after a crash the handle is void.
    life: u64,
    /// Tells handles apart, for locks.
    handle: u64,
    writable: bool,
    sync_failed: bool,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    /// Changes of names that no `sync_dir` has made durable, oldest first.
    names_pending: Vec<Renaming>,
    faults: Vec<Fault>,
    /// How many more changes succeed before the power fails; `None` while it does not.
    power: Option<u64>,
    changes: u64,
    life: u64,
    handles: u64,
    rng: u64,
}

#[derive(Debug)]
enum Node {
    File(FileNode),
    Dir { now: BTreeMap<OsString, usize>, durable: BTreeMap<OsString, usize> },
}

#[derive(Debug, Default)]
struct FileNode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    locked_by: Option<u64>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

/// One operation on names: what each of these names stands for after it.
#[derive(Debug)]
struct Renaming {
    names: Vec<(usize, OsString, Option<usize>)>,
}

impl SimDisk {
    /// An empty disk, all whose choices come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        let root = Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() };
        let state = State {
            nodes: vec![root],
            names_pending: Vec::new(),
            faults: Vec::new(),
            power: None,
            changes: 0,
            life: 0,
            handles: 0,
            rng: seed,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets an operation fail, once.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Lets the power fail after `changes` more changing operations; until [`SimDisk::crash`] all others fail.
    pub fn fail_power_after(&self, changes: u64) {
        self.state.lock().power = Some(changes);
    }

    /// How many changing operations there were: writes, syncs and changes of names.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Power loss and restart: forgets what was not synced, closes every handle, drops every lock.
    pub fn crash(&self) {
        self.state.lock().crash();
    }

    /// The bytes of a file as a reader sees them now.
    pub fn contents(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        let state = self.state.lock();
        let node = state.file(path).map_err(|kind| DiskError::new("open", path, kind.into()))?;
        Ok(state.file_node(node).now.clone())
    }

    /// Puts a durable file there, with the folders it needs: the start of a test.
    pub fn plant(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.create_dir_all(super::parent_of(path))?;
        let mut file = self.open(path, Open::Create)?;
        file.append(bytes)?;
        file.sync()?;
        self.sync_dir(super::parent_of(path))
    }
}

impl State {
    /// SplitMix64: small, and good enough to choose where a crash cuts.
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `most`, both included.
    fn up_to(&mut self, most: usize) -> usize {
        let choices = most as u64 + 1;
        usize::try_from(self.random() % choices).unwrap_or(most)
    }

    /// Counts a change, and says how it fails if it does.
    fn change(&mut self, verb: Verb) -> Result<(), io::ErrorKind> {
        if self.power == Some(0) {
            return Err(io::ErrorKind::BrokenPipe);
        }
        self.power = self.power.map(|left| left - 1);
        self.changes += 1;
        let mut hit = None;
        for (i, fault) in self.faults.iter_mut().enumerate().filter(|(_, fault)| fault.verb == verb) {
            match fault.after.checked_sub(1) {
                Some(left) => fault.after = left,
                None => hit = Some(i),
            }
        }
        match hit {
            Some(i) => Err(self.faults.remove(i).kind),
            None => Ok(()),
        }
    }

    fn lookup(&self, path: &Path) -> Result<usize, io::ErrorKind> {
        let mut at = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            match &self.nodes[at] {
                Node::Dir { now, .. } => at = *now.get(name).ok_or(io::ErrorKind::NotFound)?,
                Node::File(_) => return Err(io::ErrorKind::NotADirectory),
            }
        }
        Ok(at)
    }

    /// The folder that holds, or would hold, `path`, and its name there.
    fn place<'a>(&self, path: &'a Path) -> Result<(usize, &'a OsStr), io::ErrorKind> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.lookup(path.parent().unwrap_or(Path::new("")))?;
        match &self.nodes[dir] {
            Node::Dir { .. } => Ok((dir, name)),
            Node::File(_) => Err(io::ErrorKind::NotADirectory),
        }
    }

    fn file(&self, path: &Path) -> Result<usize, io::ErrorKind> {
        let node = self.lookup(path)?;
        match &self.nodes[node] {
            Node::File(_) => Ok(node),
            Node::Dir { .. } => Err(io::ErrorKind::IsADirectory),
        }
    }

    fn file_node(&self, node: usize) -> &FileNode {
        match &self.nodes[node] {
            Node::File(file) => file,
            Node::Dir { .. } => unreachable!("a handle of a folder"),
        }
    }

    fn file_node_mut(&mut self, node: usize) -> &mut FileNode {
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Dir { .. } => unreachable!("a handle of a folder"),
        }
    }

    fn dir_mut(&mut self, node: usize) -> (&mut BTreeMap<OsString, usize>, &mut BTreeMap<OsString, usize>) {
        match &mut self.nodes[node] {
            Node::Dir { now, durable } => (now, durable),
            Node::File(_) => unreachable!("a file used as a folder"),
        }
    }

    /// Carries out a change of names; it is durable only later.
    fn rename_now(&mut self, names: Vec<(usize, OsString, Option<usize>)>) {
        for (dir, name, node) in &names {
            let (now, _) = self.dir_mut(*dir);
            match node {
                Some(node) => now.insert(name.clone(), *node),
                None => now.remove(name),
            };
        }
        self.names_pending.push(Renaming { names });
    }

    fn make_durable(&mut self, renaming: Renaming) {
        for (dir, name, node) in renaming.names {
            let (_, durable) = self.dir_mut(dir);
            match node {
                Some(node) => durable.insert(name, node),
                None => durable.remove(&name),
            };
        }
    }

    /// Makes the changes in `dir` durable, and those before them in folders that share a rename with it.
    fn sync_dir(&mut self, dir: usize) {
        let mut dirs = BTreeSet::from([dir]);
        let mut synced = Vec::new();
        let mut rest = Vec::new();
        for renaming in std::mem::take(&mut self.names_pending).into_iter().rev() {
            if renaming.names.iter().any(|(dir, ..)| dirs.contains(dir)) {
                dirs.extend(renaming.names.iter().map(|(dir, ..)| *dir));
                synced.push(renaming);
            } else {
                rest.push(renaming);
            }
        }
        rest.reverse();
        self.names_pending = rest;
        for renaming in synced.into_iter().rev() {
            self.make_durable(renaming);
        }
    }

    fn crash(&mut self) {
        let mut pending = std::mem::take(&mut self.names_pending);
        let kept = self.up_to(pending.len());
        pending.truncate(kept);
        for renaming in pending {
            self.make_durable(renaming);
        }
        for node in 0..self.nodes.len() {
            let changes = match &mut self.nodes[node] {
                Node::Dir { now, durable } => {
                    now.clone_from(durable);
                    continue;
                }
                Node::File(file) => {
                    file.locked_by = None;
                    std::mem::take(&mut file.pending)
                }
            };
            let mut durable = std::mem::take(&mut self.file_node_mut(node).durable);
            let whole = self.up_to(changes.len());
            for (i, change) in changes.into_iter().enumerate().take(whole + 1) {
                match change {
                    change if i < whole => apply(&mut durable, &change),
                    Change::Write { offset, bytes } => self.tear(&mut durable, offset, &bytes),
                    Change::Truncate { .. } => {}
                }
            }
            let file = self.file_node_mut(node);
            file.now.clone_from(&durable);
            file.durable = durable;
        }
        self.faults.clear();
        self.power = None;
        self.life += 1;
    }

    /// Keeps a part of the write that was under way.
    fn tear(&mut self, durable: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
        let mut kept = self.up_to(bytes.len());
        let mut zeros = 0;
        if self.up_to(3) == 0 {
            let end = (offset + kept) as u64;
            let sector_start = usize::try_from(end - end % SECTOR_BYTES).unwrap_or(0);
            // Overwritten sectors are old or new, never zero; only those past the old end can be.
            if sector_start >= offset.max(durable.len()) {
                kept = sector_start - offset;
                zeros = self.up_to(bytes.len() - kept);
            }
        }
        apply(durable, &Change::Write { offset, bytes: bytes[..kept].to_vec() });
        durable.resize(durable.len() + zeros, 0);
    }
}

fn apply(contents: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if contents.len() < end {
                contents.resize(end, 0);
            }
            contents[*offset..end].copy_from_slice(bytes);
        }
        Change::Truncate { len } => contents.truncate(*len),
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, path: &Path, how: Open) -> Result<SimFile, DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("open", path, kind.into());
        let mut state = self.state.lock();
        let node = match (state.file(path), how) {
            (Err(io::ErrorKind::NotFound), Open::Create) => {
                state.change(Verb::Create).map_err(failed)?;
                let (dir, name) = state.place(path).map_err(failed)?;
                let node = state.nodes.len();
                state.nodes.push(Node::File(FileNode::default()));
                state.rename_now(vec![(dir, name.to_owned(), Some(node))]);
                node
            }
            (Ok(node), Open::Create) => {
                state.change(Verb::Truncate).map_err(failed)?;
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
        let (parent, name) = state.place(dir).map_err(failed)?;
        state.change(Verb::Create).map_err(failed)?;
        let node = state.nodes.len();
        state.nodes.push(Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() });
        state.rename_now(vec![(parent, name.to_owned(), Some(node))]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("rename", from, kind.into());
        let mut state = self.state.lock();
        let node = state.lookup(from).map_err(failed)?;
        let (from_dir, from_name) = state.place(from).map_err(failed)?;
        let (to_dir, to_name) = state.place(to).map_err(failed)?;
        state.change(Verb::Rename).map_err(failed)?;
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
        let (dir, name) = state.place(path).map_err(failed)?;
        state.change(Verb::Remove).map_err(failed)?;
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
        let (parent, name) = state.place(dir).map_err(failed)?;
        state.change(Verb::Remove).map_err(failed)?;
        state.rename_now(vec![(parent, name.to_owned(), None)]);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let failed = |kind: io::ErrorKind| DiskError::new("fsync", dir, kind.into());
        let mut state = self.state.lock();
        let node = state.lookup(dir).map_err(failed)?;
        state.change(Verb::SyncDir).map_err(failed)?;
        state.sync_dir(node);
        Ok(())
    }
}

impl SimFile {
    fn failed(&self, verb: &'static str) -> impl Fn(io::ErrorKind) -> DiskError {
        move |kind| DiskError::new(verb, &self.path, kind.into())
    }

    /// Checks the handle before a change, and counts the change.
    fn begin(&self, state: &mut State, verb: Verb, word: &'static str) -> Result<(), DiskError> {
        if state.life != self.life {
            return Err(self.failed(word)(io::ErrorKind::BrokenPipe));
        }
        if !self.writable {
            return Err(self.failed(word)(io::ErrorKind::PermissionDenied));
        }
        if self.sync_failed {
            return Err(DiskError::after_failed_sync(word, &self.path));
        }
        state.change(verb).map_err(self.failed(word))
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
        if let Err(error) = self.begin(&mut state, Verb::Write, "write") {
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
        let begun = self.begin(&mut state, Verb::Sync, "fdatasync");
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
        self.begin(&mut state, Verb::Truncate, "truncate")?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let file = state.file_node_mut(self.node);
        file.now.truncate(len);
        file.pending.push(Change::Truncate { len });
        Ok(())
    }

    fn allocate(&mut self, _len: u64) -> Result<(), DiskError> {
        self.begin(&mut self.state.lock(), Verb::Allocate, "fallocate")
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

//! The state of a simulated disk: as readers see it, and what is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use super::{DiskOperation, Fault};

/// Zeros of a lost write begin at a sector's start.
const SECTOR_BYTES: u64 = 512;
const ROOT: usize = 0;

#[derive(Debug)]
pub(super) struct State {
    pub(super) nodes: Vec<Node>,
    /// Changes of names that no `sync_dir` has made durable, oldest first.
    pub(super) names_pending: Vec<Renaming>,
    pub(super) faults: Vec<Fault>,
    /// How many more changes succeed before the power fails; `None` if it does not.
    pub(super) power: Option<u64>,
    pub(super) changes: u64,
    pub(super) life: u64,
    pub(super) handles: u64,
    pub(super) rng: u64,
    /// Whether a crash keeps any of the sectors written since the last sync, and not only a prefix.
    pub(super) reorders: bool,
}

#[derive(Debug)]
pub(super) enum Node {
    File(FileNode),
    Dir { now: BTreeMap<OsString, usize>, durable: BTreeMap<OsString, usize> },
}

#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub(super) now: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
    pub(super) locked_by: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

/// One change of names: what each name refers to after it.
#[derive(Debug)]
pub(super) struct Renaming {
    names: Vec<(usize, OsString, Option<usize>)>,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            nodes: vec![Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() }],
            names_pending: Vec::new(),
            faults: Vec::new(),
            power: None,
            changes: 0,
            life: 0,
            handles: 0,
            rng: seed,
            reorders: false,
        }
    }

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

    /// Counts a change; an error if it is to fail.
    pub(super) fn change(&mut self, operation: DiskOperation) -> Result<(), io::ErrorKind> {
        if self.power == Some(0) {
            return Err(io::ErrorKind::BrokenPipe);
        }
        self.power = self.power.map(|left| left - 1);
        self.changes += 1;
        let mut hit = None;
        for (i, fault) in self.faults.iter_mut().enumerate().filter(|(_, fault)| fault.operation == operation)
        {
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

    pub(super) fn lookup(&self, path: &Path) -> Result<usize, io::ErrorKind> {
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
    pub(super) fn locate<'a>(&self, path: &'a Path) -> Result<(usize, &'a OsStr), io::ErrorKind> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.lookup(path.parent().unwrap_or(Path::new("")))?;
        match &self.nodes[dir] {
            Node::Dir { .. } => Ok((dir, name)),
            Node::File(_) => Err(io::ErrorKind::NotADirectory),
        }
    }

    pub(super) fn file(&self, path: &Path) -> Result<usize, io::ErrorKind> {
        let node = self.lookup(path)?;
        match &self.nodes[node] {
            Node::File(_) => Ok(node),
            Node::Dir { .. } => Err(io::ErrorKind::IsADirectory),
        }
    }

    pub(super) fn file_node(&self, node: usize) -> &FileNode {
        match &self.nodes[node] {
            Node::File(file) => file,
            Node::Dir { .. } => unreachable!("a handle of a folder"),
        }
    }

    pub(super) fn file_node_mut(&mut self, node: usize) -> &mut FileNode {
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
    pub(super) fn rename_now(&mut self, names: Vec<(usize, OsString, Option<usize>)>) {
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
    pub(super) fn sync_dir(&mut self, dir: usize) {
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

    pub(super) fn crash(&mut self) {
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
            if self.reorders {
                self.keep_any(&mut durable, changes);
            } else {
                self.keep_prefix(&mut durable, changes);
            }
            let file = self.file_node_mut(node);
            file.now.clone_from(&durable);
            file.durable = durable;
        }
        self.faults.clear();
        self.power = None;
        self.life += 1;
    }

    fn keep_prefix(&mut self, durable: &mut Vec<u8>, changes: Vec<Change>) {
        let whole = self.up_to(changes.len());
        for (i, change) in changes.into_iter().enumerate().take(whole + 1) {
            match change {
                change if i < whole => apply(durable, &change),
                Change::Write { offset, bytes } => self.tear(durable, offset, &bytes),
                Change::Truncate { .. } => {}
            }
        }
    }

    /// Keeps any of the sectors that were written, in whole.
    fn keep_any(&mut self, durable: &mut Vec<u8>, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Write { mut offset, bytes } => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let sector = usize::try_from(SECTOR_BYTES - offset as u64 % SECTOR_BYTES);
                        let (part, later) = rest.split_at(rest.len().min(sector.unwrap_or(usize::MAX)));
                        if self.up_to(1) == 0 {
                            apply(durable, &Change::Write { offset, bytes: part.to_vec() });
                        }
                        offset += part.len();
                        rest = later;
                    }
                }
                Change::Truncate { .. } => {
                    if self.up_to(1) == 0 {
                        apply(durable, &change);
                    }
                }
            }
        }
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
            } else if offset == durable.len() {
                // The new length is there and the sector is the old one: zeros from the old end on.
                kept = 0;
                zeros = self.up_to(bytes.len());
            }
        }
        apply(durable, &Change::Write { offset, bytes: bytes[..kept].to_vec() });
        durable.resize(durable.len() + zeros, 0);
    }
}

pub(super) fn apply(contents: &mut Vec<u8>, change: &Change) {
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

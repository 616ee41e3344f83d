//! The keys and members of a 0.x directory, without migrating it.

use std::path::Path;

use shared::disk::{Disk, Open};
use shared::id::MemberId;
use shared::legacy::log::{LogEnd, Reader};
use shared::legacy::{Command, log_path};
use shared::store::Store;

use crate::error::MigrateError;
use crate::source::{ReplayStart, Source};
use crate::survey::empty_log;

/// The state of a 0.x server that starts on its directory.
pub struct Tree {
    /// Clients' keys below `/1`, 0.x's own below `/1/_etcd`.
    pub store: Store,
    /// The last entry that was replayed, or that of the snapshot.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The members, by name.
    pub members: Vec<TreeMember>,
    /// What is missing from the state.
    pub missing: Vec<String>,
    /// Damage that loses nothing.
    pub warnings: Vec<String>,
}

/// A member of 0.x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeMember {
    /// Its name.
    pub name: String,
    /// Its id in 2.x.
    pub id: MemberId,
    /// Where other members reach it.
    pub peer_url: String,
    /// Where clients reach it.
    pub client_url: String,
}

/// Replays the directory of a 0.x member up to the entry `to`; `None` for the whole log, as 0.x does not store a
/// reliable commit index. Damage ends the replay and is reported in [`Tree::missing`].
///
/// # Errors
/// If there is nothing to start from, or the disk fails.
pub fn tree<D: Disk>(disk: &D, data_dir: &Path, to: Option<u64>) -> Result<Tree, MigrateError> {
    let mut source = Source::read(disk, data_dir, true)?;
    let to = to.unwrap_or(u64::MAX);
    source.snapshot.take_if(|base| base.index > to);
    let mut start = source.start(data_dir, None, true)?;
    let check = start.check.take().map_or(0, |check| check.index);
    let mut tree = replay_log(disk, data_dir, start, to)?;
    if check > tree.index {
        // The log has lost its end: the snapshot is newer.
        source = Source::read(disk, data_dir, true)?;
        start = source.start(data_dir, Some(tree.index), true)?;
        tree = replay_log(disk, data_dir, start, to)?;
    }
    let lost = source.lost.iter().map(ToString::to_string);
    if source.first == Some(1) {
        // The log has all of it.
        tree.warnings.extend(lost);
    } else {
        tree.missing.splice(0..0, lost);
    }
    if to < u64::MAX && tree.index != to {
        tree.missing.push(format!("the tree is that of entry {}, {to} is not there", tree.index));
    }
    Ok(tree)
}

/// Applies the entries after the start.
fn replay_log<D: Disk>(disk: &D, data_dir: &Path, start: ReplayStart, to: u64) -> Result<Tree, MigrateError> {
    let ReplayStart { after: mut index, mut term, mut replay, .. } = start;
    let (mut missing, mut warnings) = (Vec::new(), Vec::new());
    let path = log_path(data_dir);
    if disk.kind(&path)?.is_none() {
        missing.push(format!("{} is missing: only the snapshot was taken", path.display()));
    } else {
        let mut reader = Reader::new(disk.open(&path, Open::Read)?)?;
        if reader.is_empty() {
            missing.push(empty_log(&path));
        }
        loop {
            let entry = match reader.next_entry() {
                Ok(Some(entry)) if entry.index <= to => entry,
                Ok(_) => break,
                Err(error) => {
                    missing.push(error.to_string());
                    break;
                }
            };
            if entry.index <= index {
                continue;
            }
            (index, term) = (entry.index, entry.term);
            match Command::decode(&entry.name, &entry.command) {
                Ok(command) => drop(replay.apply(&command)),
                Err(error) => missing.push(format!("entry {index} was left out: {error}")),
            }
        }
        if let LogEnd::Torn { offset, bytes, .. } = reader.end() {
            let path = path.display();
            warnings.push(format!(
                "{bytes} bytes from byte {offset} of {path} on are a part of an entry: left out, as 0.x does at its start"
            ));
        }
    }
    let machines = replay.registry().machines().iter();
    let members = machines
        .map(|(name, machine)| TreeMember {
            name: name.clone(),
            id: machine.id(),
            peer_url: machine.peer_url.clone(),
            client_url: machine.client_url.clone(),
        })
        .collect();
    Ok(Tree { store: replay.into_store(), index, term, members, missing, warnings })
}

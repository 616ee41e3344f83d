//! The keys and members of a 0.x directory, for who only looks.

use std::path::Path;

use shared::disk::{Disk, Open};
use shared::id::MemberId;
use shared::legacy::log::{End, Reader};
use shared::legacy::{Command, log_path};
use shared::store::Store;

use crate::error::MigrateError;
use crate::source::Source;

/// What a 0.x server made of its directory.
pub struct Tree {
    /// Clients' keys below `/1`, 0.x's own below `/1/_etcd`.
    pub store: Store,
    /// The last entry that was replayed, or that of the snapshot.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The members, by name.
    pub members: Vec<TreeMember>,
    /// What should have been there too and is not.
    pub missing: Vec<String>,
    /// The bytes of an entry at the log's end that was never written in full. 0.x drops it when it starts.
    pub torn_bytes: u64,
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

/// Replays the directory of a 0.x member up to the entry `to`, `None` for all of its log: 0.x does not keep how far that
/// is committed. Damage ends the replay and is told by [`Tree::missing`].
///
/// # Errors
/// Where there is nothing to begin with, or the disk fails.
pub fn tree<D: Disk>(disk: &D, data_dir: &Path, to: Option<u64>) -> Result<Tree, MigrateError> {
    let mut source = Source::read(disk, data_dir, true)?;
    let start = source.start(data_dir, to, true)?;
    let mut missing: Vec<String> = source.lost.iter().map(ToString::to_string).collect();
    let (mut index, mut term, mut replay) = (start.after, start.term, start.replay);
    let to = to.unwrap_or(u64::MAX);
    let mut torn_bytes = 0;
    let path = log_path(data_dir);
    if disk.kind(&path)?.is_some() {
        let mut reader = Reader::new(disk.open(&path, Open::Read)?)?;
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
        if let End::Torn { bytes, .. } = reader.end() {
            torn_bytes = bytes;
        }
    }
    if to < u64::MAX && index != to {
        missing.push(format!("the tree is that of entry {index}, {to} is not there"));
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
    Ok(Tree { store: replay.into_store(), index, term, members, missing, torn_bytes })
}

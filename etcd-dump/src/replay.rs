//! The tree that a snapshot and the entries after it make.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use shared::disk::RealDisk;
use shared::pb;
use shared::snap::{self, Snapshots};
use shared::store::Store;
use shared::time::UnixNanos;

use crate::entry::Content;
use crate::log::{Item, Log, Part};
use crate::members;

/// A tree, and what it is the tree of.
pub(crate) struct Replayed {
    pub(crate) store: Store,
    /// The last entry that was applied.
    pub(crate) index: u64,
    /// Its term.
    pub(crate) term: u64,
    /// What should have been there too and is not.
    pub(crate) missing: Option<anyhow::Error>,
}

/// Makes the tree of the member whose files are in `dir`, as of the entry `to`; `None`: of the last that is known to
/// be committed.
///
/// # Errors
/// If there is neither a snapshot to begin with nor the beginning of the log.
pub(crate) fn replay(dir: &Path, to: Option<u64>) -> Result<Replayed> {
    let (store, start) = newest(&dir.join("snap"), to.unwrap_or(u64::MAX))?;
    let at = pb::WalSnapshot { index: start.index, term: start.term };
    let log = Log::read(&dir.join("wal"), Part::After(at.index), Some(at))?;
    let commit = committed(&log, &start)?;
    let end = to.unwrap_or(commit).min(log.last);
    if end > commit {
        eprintln!("etcd-dump: only entries up to {commit} are known to be committed");
    } else if to.is_none() && log.last > commit {
        eprintln!("etcd-dump: left out, not known to be committed: entries {} to {}", commit + 1, log.last);
    }
    let mut made = Replayed { store, index: at.index, term: at.term, missing: None };
    log.each(|item| {
        match item {
            Item::Entry(entry) if entry.index <= end => made.apply(&entry),
            _ => {}
        }
        Ok(())
    })?;
    let (last, wanted) = (log.last, to.unwrap_or(commit));
    let checked = log.check(Some(at));
    made.missing = made.missing.or(checked.err());
    if wanted > last && made.missing.is_none() {
        made.missing = Some(anyhow!("the log ends at entry {last}, {wanted} is not there"));
    }
    Ok(made)
}

/// The newest good snapshot up to an entry, as a store; an empty one if there is none.
fn newest(dir: &Path, to: u64) -> Result<(Store, pb::SnapshotMetadata)> {
    for name in Snapshots::new(RealDisk, dir).names()?.into_iter().rev() {
        let file = dir.join(name);
        match read(&file, to) {
            Ok(None) => {}
            Ok(Some(found)) => return Ok(found),
            Err(error) => eprintln!("etcd-dump: passed over: {error:#}"),
        }
    }
    Ok((Store::new(1), pb::SnapshotMetadata::default()))
}

/// Reads a snapshot file, unless it is of a later entry.
fn read(file: &Path, to: u64) -> Result<Option<(Store, pb::SnapshotMetadata)>> {
    if snap::peek(&RealDisk, file)?.index > to {
        return Ok(None);
    }
    let snapshot = snap::read(&RealDisk, file)?;
    let store = Store::recover(&snapshot.data.unwrap_or_default(), 1)
        .with_context(|| format!("{} holds no store", file.display()))?;
    Ok(Some((store, snapshot.metadata)))
}

/// Up to which entry all is known to be committed: as the log says, or to its end if the member was alone.
fn committed(log: &Log, start: &pb::SnapshotMetadata) -> Result<u64> {
    if log.state.commit >= log.last || log.damage.is_some() {
        return Ok(log.state.commit);
    }
    let mut voters: BTreeSet<u64> = start.conf_state.nodes.iter().copied().collect();
    log.each(|item| {
        let Item::Entry(entry) = item else { return Ok(()) };
        if entry.kind != pb::ENTRY_NORMAL
            && let Content::Change(change) = Content::of(&entry)
        {
            match change.kind {
                pb::ADD_NODE => drop(voters.insert(change.node_id)),
                pb::REMOVE_NODE => drop(voters.remove(&change.node_id)),
                _ => {}
            }
        }
        Ok(())
    })?;
    let own = log.metadata.map(|metadata| metadata.node_id);
    let is_alone = voters.len() == 1 && voters.first().copied() == own;
    Ok(if is_alone { log.last } else { log.state.commit })
}

impl Replayed {
    fn apply(&mut self, entry: &pb::Entry) {
        (self.index, self.term) = (entry.index, entry.term);
        match Content::of(entry) {
            Content::Empty => {}
            Content::Request(request) if members::is_of_removed(&self.store, &request) => {}
            Content::Request(request) => {
                // A request that is refused is part of the log, too.
                drop(self.store.apply_quietly(&request, UnixNanos::ZERO));
            }
            Content::Change(change) => members::change(&mut self.store, &change),
            Content::Unreadable(..) => {
                let missing =
                    || anyhow!("entry {} holds nothing that can be read and was left out", entry.index);
                self.missing.get_or_insert_with(missing);
            }
        }
    }
}

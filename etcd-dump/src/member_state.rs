//! The store of a member, rebuilt from a snapshot and the entries after it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use shared::disk::RealDisk;
use shared::entry::{EntryContent, content};
use shared::log_replay::LogReplay;
use shared::pb;
use shared::snap;
use shared::wal::Frames;

use crate::log::{EntrySelection, Log, LogItem};
use crate::paths::MemberFiles;
use crate::raft_log::snapshot_names;

/// A store, with the entry that it is the state of.
pub(crate) struct MemberState {
    pub(crate) replay: LogReplay,
    /// What is missing from the state.
    pub(crate) missing: Option<anyhow::Error>,
}

/// Rebuilds the state of a member as of the entry `to`; `None`: of the last entry that is known to be committed.
///
/// # Errors
/// If there is neither a snapshot nor the beginning of the log.
pub(crate) fn rebuild(files: &MemberFiles, to: Option<u64>) -> Result<MemberState> {
    let known = match snap::highest_index(&RealDisk, &files.snap) {
        Err(error) if error.is_not_found() => 0,
        known => known?,
    };
    let replay = newest(&files.snap, to.unwrap_or(u64::MAX))?;
    let at = replay.applied();
    let log = Log::read(&files.wal, EntrySelection::After(at.index), Some(at))?;
    let commit = committed(&log, replay.voters().clone())?;
    let end = to.unwrap_or(commit).min(log.last);
    if end > commit {
        note!("etcd-dump: only entries up to {commit} are known to be committed");
    } else if to.is_none() && log.last > commit {
        note!("etcd-dump: left out, not known to be committed: entries {} to {}", commit + 1, log.last);
    }
    let mut state = MemberState { replay, missing: None };
    log.each(|item| {
        if let LogItem::Entry(entry) = item
            && entry.index <= end
            && let Err(error) = state.replay.apply(&entry)
        {
            state.missing.get_or_insert_with(|| anyhow!(error).context("an entry was left out"));
        }
        Ok(())
    })?;
    let (last, wanted) = (log.last, to.unwrap_or(commit));
    if let Some(tail) = log.tail()?.filter(|_| log.damage.is_none()) {
        note!("etcd-dump: left out, as a server does when it starts: {tail}");
    }
    let checked = log.check_whole(Some(at));
    state.missing = state.missing.or(checked.err());
    if wanted > last && state.missing.is_none() {
        state.missing = Some(anyhow!("the log ends at entry {last}, {wanted} is not there"));
    }
    if to.is_none() && known > last && state.missing.is_none() {
        state.missing = Some(anyhow!(
            "the log ends at entry {last}, and there is, or was, a snapshot of entry {known}: what came between them is lost"
        ));
    }
    Ok(state)
}

/// The newest good snapshot up to an entry; an empty state if there is none.
fn newest(dir: &Path, to: u64) -> Result<LogReplay> {
    for name in snapshot_names(dir)?.into_iter().rev() {
        let file = dir.join(name);
        match read(&file, to) {
            Ok(None) => {}
            Ok(Some(found)) => return Ok(found),
            Err(error) => note!("etcd-dump: passed over: {error:#}"),
        }
    }
    Ok(LogReplay::new(Frames::Any))
}

/// Reads a snapshot file, unless it is of a later entry.
fn read(file: &Path, to: u64) -> Result<Option<LogReplay>> {
    if snap::peek(&RealDisk, file)?.index > to {
        return Ok(None);
    }
    let snapshot = snap::read(&RealDisk, file)?;
    let replay = LogReplay::from_snapshot(&snapshot, Frames::Any);
    replay.map(Some).with_context(|| format!("{} holds no store", file.display()))
}

/// The index up to which entries are known to be committed: as the log says, or to its end for a single member.
fn committed(log: &Log, mut voters: BTreeSet<u64>) -> Result<u64> {
    if log.state.commit >= log.last {
        return Ok(log.state.commit);
    }
    log.each(|item| {
        let LogItem::Entry(entry) = item else { return Ok(()) };
        if entry.kind != pb::ENTRY_NORMAL
            && let Ok(EntryContent::Change(change)) = content(&entry, Frames::Any)
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

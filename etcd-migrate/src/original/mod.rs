//! The conversion of etcd-migrate 2.0.13, byte for byte, with its refusals.
//!
//! If it converted some members of a cluster and our own conversion the others, they would not agree; this conversion
//! makes them agree. What it loses is reported as warnings: creations that became updates of missing keys, times in
//! seconds that are read as nanoseconds, and one index step for each change of the cluster settings.
//!
//! The log of 2.0 is one file: sum, metadata, mark {0, 0}, state, one entry of zeros, the entries, mark of the
//! snapshot or {0, 0}. Only the list of ids in its snapshot is in random order in the original; ours is sorted.

mod snapshot;
mod translate;

use std::collections::BTreeMap;
use std::path::Path;

use shared::disk::{Disk, Open};
use shared::id::MemberId;
use shared::legacy::log::{HEAD_BYTES, LogEnd, LogEntry, Reader, TornPart};
use shared::legacy::{self, Command, FileError, LogError, conf_path, log_path};
use shared::pb;

use crate::engine::{CLUSTER_ID, TERM_OFFSET};
use crate::error::MigrateError;
use crate::output::MigrationOutput;
use crate::progress_counter::ProgressCounter;
use crate::report::{Report, ReportMember};
use crate::survey::empty_log;
use crate::{Options, Progress};

use snapshot::OriginalSnapshot;
use translate::{LossCounts, machine, translate};

/// See [`crate::migrate`].
pub(crate) fn migrate<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, MigrateError> {
    let snapshot = OriginalSnapshot::newest(disk, &legacy::snapshot_dir(data_dir))?;
    let conf = match legacy::conf(disk, data_dir) {
        Ok(Some(conf)) => conf,
        Ok(None) => {
            return refuse(format!("open {}: no such file or directory", conf_path(data_dir).display()));
        }
        Err(FileError::Disk(error)) => return Err(error.into()),
        Err(error) => return refuse(error.to_string()),
    };
    let mut log = OriginalLog::survey(disk, data_dir)?;
    let others: Vec<&str> = conf.peers.iter().map(|peer| peer.name.as_str()).collect();
    let Some((name, id)) = guess(&log.names, snapshot.as_ref(), &others, options.name.as_deref()) else {
        return refuse("Couldn't figure out the node ID from the log or flags, cannot convert".to_owned());
    };
    if log.entries == 0 {
        return refuse("it has no answer to a log without entries".to_owned());
    }
    let commit = conf.commit_index.max(snapshot.as_ref().map_or(0, |snapshot| snapshot.at.index));
    let state = pb::HardState { term: log.last.1 + TERM_OFFSET, vote: 0, commit };
    let mut out = match options.dry_run {
        true => None,
        false => {
            let metadata = pb::Metadata { node_id: id.0, cluster_id: CLUSTER_ID };
            let mut out = MigrationOutput::create(disk, data_dir, metadata)?;
            out.wal_mut().set_segment_bytes(u64::MAX);
            out.state(state);
            out.append(pb::ENTRY_NORMAL, 0, 0, Some(b""))?;
            out.wal_mut().skip_to(log.first - 1);
            Some(out)
        }
    };
    progress.begin(log.entries, log.bytes);
    log.convert(disk, data_dir, out.as_mut(), progress)?;
    if let Some(mut out) = out {
        match &snapshot {
            Some(OriginalSnapshot { at, ids, image, .. }) => {
                out.snapshot(*at, ids.clone(), |file| image.write_json_2_0(file))?
            }
            None => out.mark(pb::WalSnapshot::default())?,
        }
        out.finish()?;
    }
    Ok(report(data_dir, options, name, id, commit, &log, snapshot.as_ref()))
}

fn refuse<T>(words: String) -> Result<T, MigrateError> {
    Err(MigrateError::Original(words))
}

/// A summary of the log.
struct OriginalLog {
    first: u64,
    last: (u64, u64),
    entries: u64,
    bytes: u64,
    /// The members by name, as the log names them.
    names: BTreeMap<String, MemberId>,
    warnings: Vec<String>,
}

impl OriginalLog {
    fn survey<D: Disk>(disk: &D, data_dir: &Path) -> Result<OriginalLog, MigrateError> {
        let path = log_path(data_dir);
        let mut log = OriginalLog {
            first: 0,
            last: (0, 0),
            entries: 0,
            bytes: 0,
            names: BTreeMap::new(),
            warnings: Vec::new(),
        };
        if disk.kind(&path)?.is_none() {
            return refuse(format!("open {}: no such file or directory", path.display()));
        }
        let mut reader = Reader::new(disk.open(&path, Open::Read)?)?;
        log.bytes = reader.len();
        while let Some(entry) = next(&mut reader)? {
            if log.entries == 0 {
                log.first = entry.index;
            }
            log.last = (entry.index, entry.term);
            match &*entry.name {
                b"etcd:join" => {
                    if let Command::Join(join) = decode(&entry, log.entries)? {
                        let id = machine(&join.raft_url, &join.etcd_url)?.id();
                        log.names.insert(join.name.into_owned(), id);
                    }
                }
                b"etcd:remove" => {
                    if let Command::Remove(remove) = decode(&entry, log.entries)? {
                        log.names.remove(&*remove.name);
                    }
                }
                _ => {}
            }
            log.entries += 1;
        }
        match reader.end() {
            // The original treats an end before the first byte of a body as the end of the log.
            LogEnd::Torn { offset, rest: TornPart::Length, .. }
            | LogEnd::Torn { offset, bytes: 9, rest: TornPart::Body { .. } } => {
                const { assert!(HEAD_BYTES == 9) };
                log.warnings
                    .push(format!("{} ends with a part of an entry at byte {offset}", path.display()));
            }
            LogEnd::Torn { rest: TornPart::Body { .. }, .. } => {
                return refuse("failed decoding next log entry: unexpected EOF".to_owned());
            }
            LogEnd::Torn { rest: TornPart::Zeros, .. } => {
                return refuse("failed decoding next log entry: expected integer".to_owned());
            }
            LogEnd::Clean if reader.is_empty() => log.warnings.push(empty_log(&path)),
            LogEnd::Clean => {}
        }
        Ok(log)
    }

    /// Converts and writes all entries.
    fn convert<D: Disk>(
        &mut self,
        disk: &D,
        data_dir: &Path,
        mut out: Option<&mut MigrationOutput<D>>,
        progress: &mut dyn Progress,
    ) -> Result<(), MigrateError> {
        let mut reader = Reader::new(disk.open(&log_path(data_dir), Open::Read)?)?;
        let mut ids = BTreeMap::new();
        let mut losses = LossCounts::default();
        let mut index = 0;
        let mut counter = ProgressCounter::new(progress);
        while let Some(entry) = next(&mut reader)? {
            let command = decode(&entry, index)?;
            losses.count(&command);
            let (kind, data) = translate(&command, &mut ids)?;
            if let Some(out) = &mut out {
                out.append(kind, entry.term + TERM_OFFSET, entry.index, Some(&data))?;
            }
            index += 1;
            counter.entry(reader.offset());
        }
        counter.report(reader.offset());
        self.warnings.extend(losses.warnings());
        Ok(())
    }
}

fn next<F: shared::disk::DiskFile>(reader: &mut Reader<F>) -> Result<Option<LogEntry>, MigrateError> {
    match reader.next_entry() {
        Err(LogError::Disk(error)) => Err(error.into()),
        Err(error) => refuse(format!("failed decoding next log entry: {error}")),
        Ok(entry) => Ok(entry),
    }
}

/// Decodes the command of an entry; `index` is its number in the file, from 0 on, for the error text.
fn decode(entry: &LogEntry, index: u64) -> Result<Command<'_>, MigrateError> {
    let refusal = |words: String| MigrateError::Original(format!("Error converting entry {index}, {words}"));
    match Command::decode(&entry.name, &entry.command) {
        Ok(Command::TestAndSet(_) | Command::Get(_) | Command::Watch(_)) => {
            Err(refusal(format!("unregistered command type {}", String::from_utf8_lossy(&entry.name))))
        }
        Ok(command) => Ok(command),
        Err(error) => Err(refusal(error.to_string())),
    }
}

/// The member: the one with the given name, else the only one that is not another member.
fn guess(
    names: &BTreeMap<String, MemberId>,
    snapshot: Option<&OriginalSnapshot>,
    others: &[&str],
    given: Option<&str>,
) -> Option<(String, MemberId)> {
    let pair = |(name, id): (&String, &MemberId)| (name.clone(), *id);
    if let Some(given) = given {
        let in_snapshot = || snapshot.and_then(|snapshot| snapshot.names.get_key_value(given));
        if let Some(found) = names.get_key_value(given).or_else(in_snapshot) {
            return Some(pair(found));
        }
    }
    if let Some(snapshot) = snapshot {
        let mut left = snapshot.names.iter().filter(|(name, _)| !others.contains(&name.as_str()));
        if let (Some((only, _)), None) = (left.next(), left.next()) {
            // The original takes any member of the log; we prefer the remaining one if the log has it.
            let found = names.get_key_value(only).or_else(|| names.iter().next());
            if let Some(found) = found {
                return Some(pair(found));
            }
        }
    }
    let mut left = names.iter().filter(|(name, _)| !others.contains(&name.as_str()));
    let found = left.next().filter(|_| left.next().is_none())?;
    Some(pair(found))
}

fn report(
    data_dir: &Path,
    options: &Options,
    name: String,
    id: MemberId,
    commit: u64,
    log: &OriginalLog,
    snapshot: Option<&OriginalSnapshot>,
) -> Report {
    let mut names = log.names.clone();
    names.extend(snapshot.iter().flat_map(|snapshot| snapshot.names.clone()));
    let member = |(name, id): (String, MemberId)| ReportMember { name, id, peer_url: String::new() };
    Report {
        data_dir: data_dir.to_owned(),
        dry_run: options.dry_run,
        original: true,
        name,
        member_id: id,
        members: names.into_iter().map(member).collect(),
        entries: log.entries,
        first_index: log.first,
        last_index: log.last.0,
        commit_index: commit,
        warnings: log.warnings.clone(),
        ..Report::default()
    }
}

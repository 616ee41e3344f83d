//! `--verify` of a 0.x directory.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use shared::disk::RealDisk;
use shared::legacy::log::{LogEnd, LogEntry};
use shared::legacy::{self, Command, FileError, LogError, SnapshotError, snapshot};
use shared::store::Store;

use super::open;
use crate::dump_flags::Format;
use crate::verify::{Check, VerifyReport};

/// Checks the files of the 0.x member in `dir`.
///
/// # Errors
/// If the output cannot be written. What is wrong with the files is a finding.
pub(crate) fn verify(dir: &Path, format: Format, out: &mut impl Write) -> Result<bool> {
    let mut findings = VerifyReport::new(format, out);
    let conf = small_file(dir, "conf", legacy::conf(&RealDisk, dir), &mut findings)?;
    small_file(dir, "standby_info", legacy::standby_info(&RealDisk, dir), &mut findings)?;
    small_file(dir, "info", legacy::info(&RealDisk, dir), &mut findings)?;
    let snapshot = snapshots(dir, &mut findings)?;
    let (first, last) = log(dir, snapshot > 0, &mut findings)?;
    let path = legacy::log_path(dir);
    if let Some(first) = first.filter(|first| *first > snapshot + 1) {
        let flaw =
            format!("entries {} to {} are missing: no snapshot stands for them", snapshot + 1, first - 1);
        findings.flaw(Check::Indexes, &path, Some(0), flaw)?;
    }
    let commit = conf.map_or(0, |conf| conf.commit_index);
    findings.count_check(Check::States);
    if commit > last.max(snapshot) {
        let flaw = format!("entry {commit} is committed, the log ends at {}", last.max(snapshot));
        findings.flaw(Check::States, &legacy::conf_path(dir), None, flaw)?;
    }
    findings.finish()
}

/// Checks one of the files beside the log; it may be missing.
fn small_file<T>(
    dir: &Path,
    name: &str,
    read: Result<Option<T>, FileError>,
    findings: &mut VerifyReport<'_, impl Write>,
) -> Result<Option<T>> {
    match read {
        Ok(Some(content)) => {
            findings.file("file", &dir.join(name), &[])?;
            Ok(Some(content))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            findings.flaw(Check::Files, &dir.join(name), None, error.to_string())?;
            Ok(None)
        }
    }
}

/// Checks the snapshots; returns the index of the newest good one, 0 if there is none.
fn snapshots(dir: &Path, findings: &mut VerifyReport<'_, impl Write>) -> Result<u64> {
    let dir = legacy::snapshot_dir(dir);
    let mut newest = 0;
    for name in snapshot::names(&RealDisk, &dir)? {
        let file = dir.join(&name.file_name);
        findings.count_check(Check::Sums);
        findings.count_check(Check::Snapshots);
        let snapshot = match snapshot::read(&RealDisk, &file) {
            Ok(snapshot) => snapshot,
            Err(SnapshotError::Damaged { damage, .. }) => {
                findings.flaw(Check::Sums, &file, None, damage.to_string())?;
                continue;
            }
            Err(error) => {
                findings.flaw(Check::Files, &file, None, error.to_string())?;
                continue;
            }
        };
        let about = [
            ("index", snapshot.last_index),
            ("term", snapshot.last_term),
            ("members", snapshot.peers.len() as u64),
            ("storeBytes", snapshot.state.len() as u64),
        ];
        findings.file("snapshot", &file, &about)?;
        match Store::recover_legacy(&snapshot.state, 1, false) {
            Ok(_) => newest = newest.max(snapshot.last_index),
            Err(error) => findings.flaw(Check::Snapshots, &file, None, error.to_string())?,
        }
    }
    Ok(newest)
}

/// Checks the log; returns the indexes of its first and last good entry.
fn log(
    dir: &Path,
    has_snapshot: bool,
    findings: &mut VerifyReport<'_, impl Write>,
) -> Result<(Option<u64>, u64)> {
    let path = legacy::log_path(dir);
    let mut reader = match open(dir) {
        Ok(Some(reader)) => reader,
        // A machine that was always a standby has no log.
        Ok(None) if !has_snapshot => return Ok((None, 0)),
        Ok(None) => {
            findings.flaw(Check::Files, &path, None, "the log is missing".to_owned())?;
            return Ok((None, 0));
        }
        Err(error) => {
            findings.flaw(Check::Files, &path, None, error.to_string())?;
            return Ok((None, 0));
        }
    };
    let (mut first, mut last, mut entries) = (None, 0, 0);
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                entries += 1;
                first.get_or_insert(entry.index);
                last = entry.index;
                check_entry(&path, &entry, findings)?;
            }
            Ok(None) => break,
            Err(LogError::Damaged { offset, problem, .. }) => {
                findings.flaw(Check::Entries, &path, Some(offset), problem.to_string())?;
                // Check what follows it, too.
                reader.skip_damage()?;
            }
            Err(error) => {
                findings.flaw(Check::Files, &path, Some(reader.offset()), error.to_string())?;
                break;
            }
        }
    }
    if reader.is_empty() {
        let flaw = "the log is empty: what was written after the snapshot is missing".to_owned();
        findings.flaw(Check::Files, &path, Some(0), flaw)?;
    }
    if let LogEnd::Torn { offset, bytes, .. } = reader.end() {
        let flaw = format!("the log ends in a part of an entry, {bytes} bytes");
        findings.flaw(Check::Files, &path, Some(offset), flaw)?;
    }
    let about =
        [("entries", entries), ("from", first.unwrap_or_default()), ("to", last), ("bytes", reader.len())];
    findings.file("log", &path, &about)?;
    Ok((first, last))
}

fn check_entry(path: &Path, entry: &LogEntry, findings: &mut VerifyReport<'_, impl Write>) -> Result<()> {
    // The reader checks that indexes follow one another and that terms do not fall.
    for check in [Check::Indexes, Check::Terms, Check::Entries] {
        findings.count_check(check);
    }
    if let Err(error) = Command::decode(&entry.name, &entry.command) {
        let flaw = format!("entry {}: {error}", entry.index);
        findings.flaw(Check::Entries, path, Some(entry.offset), flaw)?;
    }
    Ok(())
}

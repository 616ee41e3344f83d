//! `etcd-dump salvage`: makes a data directory that starts from the readable part of a damaged one.
//!
//! It takes the newest good snapshot and the entries that follow it without a gap; without a snapshot, the log from
//! its start. It takes uncommitted entries too: the new directory is that of a cluster of one, which commits alone.
//! The damaged directory is only read.

mod log;
mod plan;
mod report;
mod snapshots;
#[cfg(test)]
mod tests;
mod unused;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use shared::disk::{Disk, DiskError, Kind, RealDisk};
use shared::flags::{Flag, FlagSet, Group};
use shared::id::MemberId;
use shared::snap::SnapError;
use shared::wal::WalError;

use crate::command_line::{Command, CommandLine, UsageError};
use crate::output;
use crate::paths::{is_dir, is_legacy_dir, not_a_directory};
use log::Log;
use report::Report;

pub(crate) const COMMAND: Command = Command {
    flags: FlagSet {
        program: "etcd-dump salvage",
        about: "Rebuilds a data directory from what is readable of a damaged one",
        operands: "DIR OUT",
        introduction: INTRODUCTION,
        environment: "",
        groups: &[Group {
            title: "flags",
            remark: "",
            hidden: false,
            flags: &[
                Flag::text("wal-dir", "", "Where the log of DIR is, if it is not in DIR/member/wal."),
                Flag::switch("json", "Write the report as JSON."),
            ],
        }],
    },
    run,
};

const INTRODUCTION: &str = "\
etcd-dump salvage makes a new data directory from what is readable of a damaged one of etcd 2.x.

usage: etcd-dump salvage [flags] DIR OUT

It takes the newest snapshot that is good and the log entries that follow it without a gap, committed or
not; without a snapshot, the log from its start. OUT becomes the directory of a cluster of one. It starts
as it is, also without -force-new-cluster:

  the member  keeps its id, its name and its peer URLs, if the log still says whose it is;
  the cluster gets a new id, so that what is left of the old one keeps away from it;
  all others  are removed by the last entries of its log.

OUT must not exist, or be empty. It gets its name only when it is complete. DIR is only read; stop its
server before, or a part of what it writes will be missing.

The report names all files that were read, where they are damaged, and what is missing.

examples:
  etcd-dump salvage default.etcd new.etcd && mv default.etcd broken.etcd && mv new.etcd default.etcd
  etcd-dump salvage --json m1.etcd /srv/m1.new > report.json

exit status:
  0  OUT holds all that DIR held, as far as its files tell
  1  OUT is there, but something is missing, which the report names; or the disk refused
  2  the command line makes no sense, or OUT is in use
  3  nothing could be salvaged
";

/// The exit status if nothing could be salvaged.
const NOTHING: u8 = 3;

/// Where the files of the damaged member are.
#[derive(Debug, Clone)]
struct DamagedMember {
    dir: PathBuf,
    snap: PathBuf,
    wal: PathBuf,
}

/// Why there is no new directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SalvageError {
    #[error("{0}")]
    NoDirectory(String),
    #[error("{} holds neither snapshots nor a log (member/snap, member/wal)", .0.display())]
    NotAMember(PathBuf),
    #[error(
        "{} is the data directory of an etcd 0.x member: etcd-migrate --salvage reads those",
        .0.display()
    )]
    Legacy(PathBuf),
    #[error(
        "{} was written by etcd 3.x: its keys of the v3 API would be lost, so no directory is made of it; \
         etcd-dump export shows its v2 keys",
        .0.display()
    )]
    Newer(PathBuf),
    #[error("no snapshot is good, and the log does not reach back to its start")]
    Nothing,
    #[error("{} is not empty; give a directory that does not exist", .0.display())]
    InTheWay(PathBuf),
    #[error(
        "{} would be written first, and is something else than what an interrupted salvage left; give another directory, \
         or move it away",
        .0.display()
    )]
    DraftInTheWay(PathBuf),
    #[error("{} is in {}, which must not be written", out.display(), dir.display())]
    Within { out: PathBuf, dir: PathBuf },
    #[error("member {member} cannot be removed or added: the snapshot and its store name other members")]
    Members { member: MemberId },
    #[error("entry {index} is not what it was a moment ago; stop the server of the directory first")]
    Changed { index: u64 },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Snapshot(#[from] SnapError),
    #[error(transparent)]
    Wal(#[from] WalError),
}

impl SalvageError {
    /// Whether it is an error of the command line.
    fn is_usage(&self) -> bool {
        matches!(
            self,
            SalvageError::NoDirectory(_)
                | SalvageError::InTheWay(_)
                | SalvageError::DraftInTheWay(_)
                | SalvageError::Within { .. }
        )
    }

    /// Whether nothing can be salvaged from the directory.
    fn is_nothing(&self) -> bool {
        matches!(
            self,
            SalvageError::Nothing
                | SalvageError::NotAMember(_)
                | SalvageError::Legacy(_)
                | SalvageError::Newer(_)
                | SalvageError::Members { .. }
        )
    }
}

fn run(line: &CommandLine) -> Result<ExitCode> {
    let (dir, out) = match line.operands.as_slice() {
        // Without a slash at its end: other names are derived from it.
        [dir, out] => (Path::new(dir), &*Path::new(out).components().collect::<PathBuf>()),
        [] => return Err(UsageError::NoDirectory.into()),
        [_] => {
            return Err(UsageError::Other("where to? Give a second directory, a new one".to_owned()).into());
        }
        [_, _, other, ..] => return Err(UsageError::TooMany(other.clone()).into()),
    };
    let wal_dir = Some(line.values.text("wal-dir")).filter(|dir| !dir.is_empty()).map(Path::new);
    let (report, error) = salvage(&RealDisk, dir, wal_dir, out);
    if let Some(report) = &report {
        let text = if line.values.switch("json") {
            let mut json = serde_json::to_vec_pretty(report)?;
            json.push(b'\n');
            json
        } else {
            report.to_string().into_bytes()
        };
        output::print(&text)?;
    }
    match error {
        None if report.is_some_and(|report| report.whole) => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
        Some(error) if error.is_usage() => Err(UsageError::Other(error.to_string()).into()),
        Some(error) if error.is_nothing() => {
            note!("etcd-dump salvage: {error}");
            Ok(ExitCode::from(NOTHING))
        }
        Some(error) => Err(error.into()),
    }
}

/// Makes `out`; returns a report if anything was read.
fn salvage<D: Disk>(
    disk: &D,
    dir: &Path,
    wal_dir: Option<&Path>,
    out: &Path,
) -> (Option<Report>, Option<SalvageError>) {
    let found = find(disk, dir, wal_dir).and_then(|source| {
        write::check_output(disk, dir, out)?;
        if source.wal.starts_with(out) {
            return Err(SalvageError::InTheWay(out.to_owned()));
        }
        Ok(source)
    });
    let source = match found {
        Ok(source) => source,
        Err(error) => return (None, Some(error)),
    };
    let mut notices = Vec::new();
    if log::is_in_use(disk, &source.wal) {
        notices.push("a server runs on it: what it writes meanwhile is not in the new directory".to_owned());
    }
    let mut unread = Vec::new();
    let mut snapshots = snapshots::list(disk, &source.snap).unwrap_or_else(|error| {
        let list = if error.is_not_found() { &mut notices } else { &mut unread };
        list.push(format!("no snapshots: {error}"));
        Vec::new()
    });
    let log = match log::read(disk, &source.wal) {
        Ok(log) => Some(log).filter(|log| !log.segments.is_empty()),
        Err(error) => {
            notices.push(format!("no log: {error}"));
            None
        }
    };
    let made = make(disk, &source, log.as_ref(), &mut snapshots, out);
    let mut report = Report::of(dir, log.as_ref(), &snapshots, notices);
    if let Some(log) = &log {
        let last = made.as_ref().map_or(0, plan::Plan::last);
        (report.unused, report.more_unused) = unused::list(disk, log, last);
    }
    match made {
        Ok(plan) => {
            report.add(&plan, log.as_ref(), &snapshots, unread, out);
            (Some(report), None)
        }
        Err(error) => {
            report.notices.extend(unread);
            (Some(report), Some(error))
        }
    }
}

/// Plans and writes.
fn make<D: Disk>(
    disk: &D,
    source: &DamagedMember,
    log: Option<&Log>,
    snapshots: &mut [snapshots::Snapshot],
    out: &Path,
) -> std::result::Result<plan::Plan, SalvageError> {
    let none = Log::default();
    let log = log.unwrap_or(&none);
    let backend = source.snap.join("db");
    if log.padded || disk.kind(&backend)? == Some(Kind::File) {
        return Err(SalvageError::Newer(source.dir.clone()));
    }
    let plan = plan::plan(disk, log, snapshots)?;
    write::write(disk, log, snapshots, &plan, out)?;
    Ok(plan)
}

/// Finds the files: below `member`, or, as in etcd 2.0.0, in the directory itself.
fn find<D: Disk>(
    disk: &D,
    dir: &Path,
    wal_dir: Option<&Path>,
) -> std::result::Result<DamagedMember, SalvageError> {
    if let Some(problem) = not_a_directory(disk, dir)? {
        return Err(SalvageError::NoDirectory(problem));
    }
    for member in [dir.join("member"), dir.to_owned()] {
        let (snap, wal) = (member.join("snap"), member.join("wal"));
        if is_dir(disk, &snap)? || is_dir(disk, &wal)? || (wal_dir.is_some() && is_dir(disk, &member)?) {
            let wal = wal_dir.map_or(wal, Path::to_owned);
            return Ok(DamagedMember { dir: dir.to_owned(), snap, wal });
        }
    }
    if is_legacy_dir(disk, dir)? {
        return Err(SalvageError::Legacy(dir.to_owned()));
    }
    Err(SalvageError::NotAMember(dir.to_owned()))
}

//! `etcd-dump doctor`: whether a data directory holds v2 data that etcd 3.6 would refuse.
//!
//! 3.6 still keeps its members in the v2 store, and nothing else. At its start it refuses a snapshot whose store
//!   holds more, and stops at the first v2 request of the log after it, except for the requests by which members of
//!   older versions publish themselves. It also stops at a member record that it cannot read. The doctor checks the
//!   same, and also reports v2 data that 3.6 would ignore. A file that cannot be read never counts as free of v2
//!   data.

mod findings;
mod members;
mod report;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use shared::disk::{Disk, DiskError, RealDisk};
use shared::flags::{Flag, FlagSet, Group};
use shared::snap::SnapError;
use shared::wal::WalError;

use crate::command_line::{Command, CommandLine};
use crate::output;
use crate::paths::{MemberFiles, is_dir, is_legacy_dir, not_a_directory};
use findings::examine;
pub(crate) use members::faults as member_faults;
use report::TextReport;

pub(crate) const COMMAND: Command = Command {
    flags: FlagSet {
        program: "etcd-dump doctor",
        about: "Says whether a data directory holds v2 data that etcd 3.6 would refuse",
        operands: "DIR",
        introduction: INTRODUCTION,
        environment: "",
        groups: &[Group {
            title: "flags",
            remark: "",
            hidden: false,
            flags: &[
                Flag::text("data-dir", "", "The data directory of a member, the same as DIR."),
                Flag::text("wal-dir", "", "Where the log is, if it is not in DIR/member/wal."),
                Flag::switch("all", "Name all keys, not only the first ones."),
                Flag::switch("json", "Write the findings as JSON, all keys included."),
            ],
        }],
    },
    run,
};

const INTRODUCTION: &str = "\
etcd-dump doctor says whether a data directory holds v2 data.

usage: etcd-dump doctor [flags] DIR

etcd 3.6 has no v2 API any more, and refuses to start where v2 keys, users or roles are left. DIR is the
data directory of a member of etcd 2.x or of 3.0 to 3.5; it is only read, and its server may be running.

The findings are the keys and the records of users and roles that are there now, since which index, whether
they stand in the snapshot or in the log, and what to do about them.

examples:
  etcd-dump doctor /var/lib/etcd
  etcd-dump doctor --json /var/lib/etcd | jq -r '.keys[].key'

exit status:
  0  there is no v2 data, and nothing of v2 in DIR that would keep 3.6 from starting
  1  there is some, or a record of a member that 3.6 cannot read
  2  the command line makes no sense
  3  a file of DIR cannot be read, or not to its end, and nothing was found before; or no record of
     the log can be read, so that it is not known which snapshot counts. The report names the file
";

const FOUND: u8 = 1;
const UNREADABLE: u8 = 3;

/// Why there are no findings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoctorError {
    #[error("{0}")]
    NoDirectory(String),
    #[error("{} is not the data directory of an etcd member: no member/wal", .0.display())]
    NotAMember(PathBuf),
    #[error("there is no log in {}; if it is elsewhere, --wal-dir names its folder", .0.display())]
    NoLog(PathBuf),
    #[error(
        "{} is the data directory of an etcd 0.x member, all of it older than the v2 store; see etcd-migrate",
        .0.display()
    )]
    Legacy(PathBuf),
    #[error("the log cannot be read: {0}")]
    Wal(#[from] WalError),
    #[error("the snapshots cannot be read: {0}")]
    Snapshot(#[from] SnapError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn run(line: &CommandLine) -> Result<ExitCode> {
    let dir = line.data_dir()?;
    let wal_dir = Some(line.values.text("wal-dir")).filter(|dir| !dir.is_empty()).map(Path::new);
    let findings = match find(&RealDisk, &dir, wal_dir).and_then(|member| examine(&RealDisk, &dir, &member)) {
        Ok(findings) => findings,
        Err(error) => {
            note!("etcd-dump doctor: {error}");
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let text = if line.values.switch("json") {
        let mut json = serde_json::to_vec_pretty(&findings)?;
        json.push(b'\n');
        json
    } else {
        TextReport { findings: &findings, all: line.values.switch("all") }.to_string().into_bytes()
    };
    output::unless_reader_left(output::print(&text))?;
    Ok(match (findings.found, &findings.unreadable) {
        (true, _) if findings.is_start_known => ExitCode::from(FOUND),
        (_, Some(_)) => ExitCode::from(UNREADABLE),
        (true, None) => ExitCode::from(FOUND),
        (false, None) => ExitCode::SUCCESS,
    })
}

/// Finds the files of a member: below `member`, or, as in etcd 2.0.0, in the directory itself.
fn find<D: Disk>(
    disk: &D,
    dir: &Path,
    wal_dir: Option<&Path>,
) -> std::result::Result<MemberFiles, DoctorError> {
    if let Some(problem) = not_a_directory(disk, dir)? {
        return Err(DoctorError::NoDirectory(problem));
    }
    for member in [dir.join("member"), dir.to_owned()] {
        let wal = wal_dir.map_or_else(|| member.join("wal"), Path::to_owned);
        let snap = member.join("snap");
        if is_dir(disk, &wal)? && (wal_dir.is_none() || is_dir(disk, &member)?) {
            return Ok(MemberFiles { snap, wal });
        }
        if is_dir(disk, &snap)? {
            return Err(DoctorError::NoLog(wal));
        }
    }
    if is_legacy_dir(disk, dir)? {
        return Err(DoctorError::Legacy(dir.to_owned()));
    }
    Err(DoctorError::NotAMember(dir.to_owned()))
}

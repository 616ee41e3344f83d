//! `etcd-dump doctor`: whether a data directory holds v2 data that etcd 3.6 would refuse.
//!
//! 3.6 keeps its members in the v2 store still, and nothing else. At its start it refuses a snapshot whose store holds
//! more, and stops at the first v2 request of the log after it, but for those by which members of older versions
//! publish themselves. The same is looked at here; in addition, what 3.6 would pass over in silence.

mod findings;
mod report;
#[cfg(test)]
pub(crate) mod tests;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use shared::disk::{Disk, DiskError, Kind, RealDisk};
use shared::flags::{Flag, FlagSet, Group};
use shared::snap::SnapError;
use shared::wal::WalError;

use crate::command_line::{Command, Line};
use findings::examine;
use report::Text;

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
  0  there is no v2 data, and nothing in DIR that would keep 3.6 from starting for its sake
  1  there is some
  2  the command line makes no sense
  3  DIR cannot be read, or not to its end, and nothing was found before
";

const FOUND: u8 = 1;
const UNREADABLE: u8 = 3;

/// Why there are no findings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoctorError {
    #[error("there is no directory {}", .0.display())]
    NoDirectory(PathBuf),
    #[error("{} is not the data directory of an etcd member: no member/wal", .0.display())]
    NotAMember(PathBuf),
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

fn run(line: &Line) -> Result<ExitCode> {
    let dir = line.data_dir()?;
    let wal_dir = Some(line.values.text("wal-dir")).filter(|dir| !dir.is_empty()).map(Path::new);
    let findings = match find(&RealDisk, &dir, wal_dir).and_then(|member| examine(&RealDisk, &dir, &member)) {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("etcd-dump doctor: {error}");
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let text = if line.values.switch("json") {
        let mut json = serde_json::to_vec_pretty(&findings)?;
        json.push(b'\n');
        json
    } else {
        Text { findings: &findings, all: line.values.switch("all") }.to_string().into_bytes()
    };
    io::stdout().lock().write_all(&text)?;
    Ok(match (findings.found, &findings.unreadable) {
        (true, _) => ExitCode::from(FOUND),
        (false, Some(_)) => ExitCode::from(UNREADABLE),
        (false, None) => ExitCode::SUCCESS,
    })
}

/// The two directories of a member.
#[derive(Debug)]
struct Member {
    snap: PathBuf,
    wal: PathBuf,
}

/// Finds them: below `member`, or, as etcd 2.0.0 had them, in the directory itself.
fn find<D: Disk>(disk: &D, dir: &Path, wal_dir: Option<&Path>) -> std::result::Result<Member, DoctorError> {
    let is_dir = |path: &Path| matches!(disk.kind(path), Ok(Some(Kind::Dir)));
    if !is_dir(dir) {
        return Err(DoctorError::NoDirectory(dir.to_owned()));
    }
    for member in [dir.join("member"), dir.to_owned()] {
        let wal = wal_dir.map_or_else(|| member.join("wal"), Path::to_owned);
        if is_dir(&wal) && (wal_dir.is_none() || is_dir(&member)) {
            return Ok(Member { snap: member.join("snap"), wal });
        }
    }
    let is_there = |name: &str| matches!(disk.kind(&dir.join(name)), Ok(Some(_)));
    if is_there("log") && (is_there("conf") || is_there("snapshot")) {
        return Err(DoctorError::Legacy(dir.to_owned()));
    }
    Err(DoctorError::NotAMember(dir.to_owned()))
}

//! `etcd-dump DIR`: finds out what the directory is, and shows what is asked for.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use shared::disk::{Disk, Kind, RealDisk};

use crate::command_line::Line;
use crate::flags::{View, What};
use crate::raft_log;
use crate::replay::replay;
use crate::{tree, verify};

/// Output is collected up to so many bytes.
const OUT_BYTES: usize = 256 * 1024;

/// What a directory is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A member of 2.x or 3.x; here `snap` and `wal` are.
    Member(PathBuf),
}

pub(crate) fn run(line: &Line) -> Result<ExitCode> {
    let what = What::new(line)?;
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    let shown = show(&what, &mut out);
    // What could be read is shown even if the rest could not.
    let flushed = out.flush();
    let status = shown?;
    flushed?;
    Ok(status)
}

fn show(what: &What, out: &mut impl Write) -> Result<ExitCode> {
    match (look(&what.data_dir)?, what.view) {
        (Found::Member(dir), View::Log) => raft_log::dump(&dir, what, out)?,
        (Found::Member(dir), View::Store) => {
            let made = replay(&dir, (what.to < u64::MAX).then_some(what.to))?;
            tree::show(&made, what.format, what.lengths, out)?;
            made.missing.map_or(Ok(()), Err)?;
        }
        (Found::Member(dir), View::Flaws) => {
            if !verify::member(&dir, what.format, out)? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Finds out what a directory is.
///
/// # Errors
/// If it is not there, or none that etcd made.
pub(crate) fn look(data_dir: &Path) -> Result<Found> {
    // Below `member`, or, as etcd 2.0.0 had it, in the directory itself.
    let candidates = [data_dir.join("member"), data_dir.to_owned()];
    match candidates.into_iter().find(|dir| is_dir(&dir.join("wal"))) {
        Some(dir) => Ok(Found::Member(dir)),
        None if !is_dir(data_dir) => bail!("there is no directory {}", data_dir.display()),
        None => {
            bail!("{} is not the data directory of an etcd member: no member/wal", data_dir.display())
        }
    }
}

fn is_dir(path: &Path) -> bool {
    matches!(RealDisk.kind(path), Ok(Some(Kind::Dir)))
}

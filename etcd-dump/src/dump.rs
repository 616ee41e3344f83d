//! `etcd-dump DIR`: detects the kind of directory, and shows the log, the store or the result of a check.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use shared::disk::RealDisk;
use shared::legacy::{self, FileError};
use shared::pb::WalSnapshot;

use crate::command_line::CommandLine;
use crate::dump_flags::{DumpOptions, View};
use crate::member_state::rebuild;
use crate::output::UntilReaderLeaves;
use crate::paths::{MemberFiles, is_dir, not_a_directory};
use crate::{bolt, members, old, raft_log, tree, verify};

/// Size of the output buffer.
const OUT_BYTES: usize = 256 * 1024;

/// The kind of a data directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DataDir {
    /// A member of 2.x or 3.x.
    Member(MemberFiles),
    /// A member of 0.x, or a standby.
    Old(PathBuf),
}

pub(crate) fn run(line: &CommandLine) -> Result<ExitCode> {
    let options = DumpOptions::new(line)?;
    if matches!(options.view, View::Verify | View::Bolt) {
        let mut out = BufWriter::with_capacity(OUT_BYTES, UntilReaderLeaves(io::stdout().lock()));
        let verdict = show(&options, &mut out);
        out.flush()?;
        return verdict;
    }
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    let shown = show(&options, &mut out);
    // What was read is shown even if the rest could not be read.
    let flushed = out.flush();
    let status = shown?;
    flushed?;
    Ok(status)
}

fn show(options: &DumpOptions, out: &mut impl Write) -> Result<ExitCode> {
    let to = (options.to < u64::MAX).then_some(options.to);
    let (format, lengths) = (options.format, options.lengths);
    if options.view == View::Bolt {
        return Ok(status(bolt::show(&options.data_dir, format, out)?));
    }
    match (detect(&options.data_dir, options.wal_dir.as_deref(), options.old)?, options.view) {
        (DataDir::Member(files), View::Log) => raft_log::dump(&files, options, out)?,
        (DataDir::Old(dir), View::Log) => old::dump(&dir, options, out)?,
        (DataDir::Member(files), View::Store) => {
            let made = rebuild(&files, to)?;
            let (store, at) = (made.replay.store(), made.replay.applied());
            tree::show(store, at, members::all(store), format, lengths, out)?;
            made.missing.map_or(Ok(()), Err)?;
        }
        (DataDir::Old(dir), View::Store) => {
            let (made, missing) = old::tree(&dir, to)?;
            let at = WalSnapshot { index: made.index, term: made.term };
            tree::show(&made.store, at, members::of_old(made.members), format, lengths, out)?;
            missing.map_or(Ok(()), Err)?;
        }
        (DataDir::Member(files), View::Verify) => return Ok(status(verify::member(&files, format, out)?)),
        (_, View::Bolt) => unreachable!("a file is no directory"),
        (DataDir::Old(dir), View::Verify) => return Ok(status(old::verify(&dir, format, out)?)),
    }
    Ok(ExitCode::SUCCESS)
}

fn status(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Detects the kind of a directory. With `old`, or if it holds nothing newer, it is one of 0.x. `wal_dir` is the
/// folder of the log if that is elsewhere.
///
/// # Errors
/// If it does not exist, or is not a data directory of etcd.
pub(crate) fn detect(data_dir: &Path, wal_dir: Option<&Path>, old: bool) -> Result<DataDir> {
    if let Some(problem) = not_a_directory(&RealDisk, data_dir)? {
        bail!(problem);
    }
    // Below `member`, or, as in etcd 2.0.0, in the directory itself.
    let candidates = [data_dir.join("member"), data_dir.to_owned()];
    let holds = if wal_dir.is_some() { "snap" } else { "wal" };
    for dir in candidates {
        if !old && is_dir(&RealDisk, &dir.join(holds))? {
            let wal = wal_dir.map_or_else(|| dir.join("wal"), Path::to_owned);
            return Ok(DataDir::Member(MemberFiles { snap: dir.join("snap"), wal }));
        }
    }
    let kind = if old { "etcd 0.x member" } else { "etcd member" };
    match legacy::detect(&RealDisk, data_dir) {
        Ok(legacy::LegacyDir::Nothing) => {
            let missing = match old {
                true => "no log, no snapshot",
                false if is_dir(&RealDisk, &data_dir.join("proxy"))? => {
                    "it is a proxy's, which holds no data"
                }
                false if is_dir(&RealDisk, &data_dir.join("member/snap"))? => {
                    "it has snapshots (member/snap), but no log (member/wal): -wal-dir says where the log is"
                }
                false => "no member/wal, no log of 0.x",
            };
            bail!("{} is not the data directory of an {kind}: {missing}", data_dir.display())
        }
        // A damaged file beside the log is reported when it is read.
        Ok(_) | Err(FileError::Damaged { .. }) => Ok(DataDir::Old(data_dir.to_owned())),
        Err(error) => Err(error.into()),
    }
}

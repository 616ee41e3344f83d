//! The directory of a 0.x member: its files, and the entries of its log.

mod command;
mod verify;

use std::io::Write;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use shared::disk::{Disk, Open, RealDisk};
use shared::legacy::log::{LogEnd, LogEntry, Reader};
use shared::legacy::{self, Conf, LogError, Snapshot, snapshot};

pub(crate) use verify::verify;

use crate::dump_flags::{DumpOptions, Format, LogStart};
use crate::fields::Value;
use crate::lines::Lines;
use crate::text;

/// Shows the log of the 0.x member in `dir`. Everything readable is written even if the result is an error.
pub(crate) fn dump(dir: &Path, options: &DumpOptions, out: &mut impl Write) -> Result<()> {
    let start = StartPoint::find(&options.from, &legacy::snapshot_dir(dir))?;
    let conf = legacy::conf(&RealDisk, dir).unwrap_or_else(|error| {
        note!("etcd-dump: passed over: {error}");
        None
    });
    let format = options.format;
    if format == Format::Text {
        out.write_all(start.text().as_bytes())?;
        out.write_all(conf_text(conf.as_ref()).as_bytes())?;
        let last = last_index(dir)?.unwrap_or_else(|| start.index());
        write!(out, "Log entries:\nlastIndex={}\n{}", last.min(options.to), text::COLUMNS)?;
    }
    let mut lines = Lines::new(format, options.lengths, out);
    if format != Format::Text {
        head(dir, conf.as_ref(), &mut lines)?;
    }
    let Some(mut reader) = open(dir)? else { return Ok(()) };
    while let Some(entry) = reader.next_entry()? {
        if entry.index > options.to {
            return Ok(());
        }
        if entry.index > start.index() {
            show(&entry, &mut lines)?;
        }
    }
    match reader.end() {
        LogEnd::Clean => Ok(()),
        LogEnd::Torn { offset, bytes, .. } => {
            let log = legacy::log_path(dir);
            bail!("{} ends in a part of an entry, {bytes} bytes from byte {offset} on", log.display())
        }
    }
}

/// Opens the log, if there is one: machines that were always standbys have none.
fn open(dir: &Path) -> Result<Option<Reader<<RealDisk as Disk>::File>>> {
    let log = legacy::log_path(dir);
    if RealDisk.kind(&log)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Reader::new(RealDisk.open(&log, Open::Read)?)?))
}

/// The index of the last entry that can be read.
fn last_index(dir: &Path) -> Result<Option<u64>> {
    let Some(mut reader) = open(dir)? else { return Ok(None) };
    let mut last = None;
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => last = Some(entry.index),
            // Damage is reported after the entries.
            Ok(None) | Err(LogError::Damaged { .. }) => return Ok(last),
            Err(error) => return Err(error.into()),
        }
    }
}

fn show(entry: &LogEntry, lines: &mut Lines<'_, impl Write>) -> Result<()> {
    if lines.is_text() {
        text::position(entry.term, entry.index, &mut lines.line);
        command::text(entry, lines.lengths, &mut lines.line);
        lines.line.push(b'\n');
        return lines.flush();
    }
    lines.add("index", Value::Number(entry.index));
    lines.add("term", Value::Number(entry.term));
    command::fields(entry, &mut lines.fields);
    lines.write("entry")
}

/// Writes what comes before the entries, in the formats that show everything.
fn head(dir: &Path, conf: Option<&Conf>, lines: &mut Lines<'_, impl Write>) -> Result<()> {
    if let Some(conf) = conf {
        lines.add("commit", Value::Number(conf.commit_index));
        lines.add("peers", Value::Texts(conf.peers.iter().map(|peer| peer.name.clone()).collect()));
        lines.write("conf")?;
    }
    match legacy::info(&RealDisk, dir) {
        Ok(Some(info)) => {
            lines.add("name", Value::Text(info.name.into()));
            lines.add("peerURLs", Value::Texts(vec![info.raft_url]));
            lines.add("clientURLs", Value::Texts(vec![info.etcd_url]));
            lines.write("info")?;
        }
        Ok(None) => {}
        Err(error) => note!("etcd-dump: passed over: {error}"),
    }
    match legacy::standby_info(&RealDisk, dir) {
        Ok(Some(standby)) => {
            lines.add("running", Value::Flag(standby.running));
            lines.add(
                "members",
                Value::Texts(standby.cluster.into_iter().map(|member| member.name).collect()),
            );
            lines.write("standby")?;
        }
        Ok(None) => {}
        Err(error) => note!("etcd-dump: passed over: {error}"),
    }
    let snapshots = legacy::snapshot_dir(dir);
    for name in snapshot::names(&RealDisk, &snapshots)? {
        let file = snapshots.join(&name.file_name);
        lines.add("file", Value::Text(name.file_name.into()));
        match snapshot::read(&RealDisk, &file) {
            Ok(snapshot) => {
                lines.add("index", Value::Number(snapshot.last_index));
                lines.add("term", Value::Number(snapshot.last_term));
                lines.add("members", Value::Texts(peers(&snapshot)));
            }
            Err(error) => lines.add("flaw", Value::Text(error.to_string().into())),
        }
        lines.write("snapshot")?;
    }
    Ok(())
}

fn peers(snapshot: &Snapshot) -> Vec<String> {
    snapshot.peers.iter().map(|peer| peer.name.clone()).collect()
}

fn conf_text(conf: Option<&Conf>) -> String {
    let Some(conf) = conf else { return "Conf:\nempty\n".to_owned() };
    let peers: Vec<&str> = conf.peers.iter().map(|peer| peer.name.as_str()).collect();
    format!("Conf:\ncommitIndex={} peers=[{}]\n", conf.commit_index, peers.join(" "))
}

/// The entry after which the log is shown.
enum StartPoint {
    Index(u64),
    Snapshot(Option<Snapshot>),
}

impl StartPoint {
    fn find(from: &LogStart, dir: &Path) -> Result<StartPoint> {
        let read = |name: &str| snapshot::read(&RealDisk, &dir.join(name));
        Ok(match from {
            LogStart::Beginning => StartPoint::Index(0),
            LogStart::Index(index) => StartPoint::Index(*index),
            LogStart::Snapshot(name) => StartPoint::Snapshot(Some(without_state(read(name)?))),
            LogStart::NewestSnapshot => {
                let mut newest = None;
                for name in snapshot::names(&RealDisk, dir)?.into_iter().rev() {
                    match read(&name.file_name) {
                        Ok(snapshot) => {
                            newest = Some(without_state(snapshot));
                            break;
                        }
                        Err(error) => note!("etcd-dump: passed over: {error}"),
                    }
                }
                StartPoint::Snapshot(newest)
            }
        })
    }

    fn index(&self) -> u64 {
        match self {
            StartPoint::Index(index) => *index,
            StartPoint::Snapshot(snapshot) => snapshot.as_ref().map_or(0, |at| at.last_index),
        }
    }

    fn text(&self) -> String {
        let start = "Start dumping log entries from snapshot.\n";
        match self {
            StartPoint::Index(index) => text::index_start(*index),
            StartPoint::Snapshot(None) => format!("Snapshot:\nempty\n{start}"),
            StartPoint::Snapshot(Some(at)) => {
                let (term, index, peers) = (at.last_term, at.last_index, peers(at).join(" "));
                format!("Snapshot:\nterm={term} index={index} nodes=[{peers}]\n{start}")
            }
        }
    }
}

/// The store in a snapshot is not needed to show the log.
fn without_state(snapshot: Snapshot) -> Snapshot {
    Snapshot { state: Vec::new(), ..snapshot }
}

/// The tree of the 0.x member in `dir` as of the entry `to`; `None`: as of the end of its log.
pub(crate) fn tree(dir: &Path, to: Option<u64>) -> Result<(etcd_migrate::Tree, Option<anyhow::Error>)> {
    let mut tree = etcd_migrate::tree(&RealDisk, dir, to)?;
    for warning in &tree.warnings {
        note!("etcd-dump: {warning}");
    }
    let missing = std::mem::take(&mut tree.missing);
    let missing = (!missing.is_empty()).then(|| anyhow!("{}", missing.join("; ")));
    Ok((tree, missing))
}

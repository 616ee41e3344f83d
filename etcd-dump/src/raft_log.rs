//! The directories of etcd 2.x: a snapshot, and the write-ahead log after it.
//!
//! The lines on stdout are those of etcd-dump-logs 2.3.8, misspelt words included: scripts read them.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost::Message;
use shared::disk::{Disk, DiskFile, Kind, Open, RealDisk};
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::snap::{self, Snapshots};
use shared::wal::{self, End, Inspected};

use crate::flags::{From, What};
use crate::go_text::{excerpt, time};

/// Bytes of a path that are shown at each end, and of a value at its beginning.
const PATH_BYTES: usize = 64;
const VALUE_BYTES: usize = 128;

/// Shows a directory. What can be read is written even if the result is an error.
pub(crate) fn dump(what: &What, out: &mut impl Write) -> Result<()> {
    let member = member_dir(&what.data_dir)?;
    let start = start(&what.from, &member.join("snap"), out)?;
    let (log, damage) = wal::inspect_damaged(&RealDisk, &member.join("wal"), start.index())
        .context("the log cannot be read")?;
    write_head(&log, out)?;
    let last = log.entries.last().map_or(start.index(), |entry| entry.index);
    writeln!(out, "WAL entries:\nlastIndex={last}\nterm\t     index\ttype\tdata")?;
    for entry in &log.entries {
        writeln!(out, "{:4}\t{:10}\t{}", entry.term, entry.index, describe(entry))?;
    }
    match damage {
        Some(damage) => Err(damage).context("the log is damaged, its entries end here"),
        None => check(&start, &log),
    }
}

/// Where `snap` and `wal` are: below `member`, or, as etcd 2.0.0 had it, in the directory itself.
fn member_dir(data_dir: &Path) -> Result<PathBuf> {
    let is_dir = |path: &Path| matches!(RealDisk.kind(path), Ok(Some(Kind::Dir)));
    let candidates = [data_dir.join("member"), data_dir.to_owned()];
    match candidates.into_iter().find(|dir| is_dir(&dir.join("wal"))) {
        Some(dir) => Ok(dir),
        None if !is_dir(data_dir) => bail!("there is no directory {}", data_dir.display()),
        None => {
            bail!("{} is not the data directory of an etcd 2.x member: no member/wal", data_dir.display())
        }
    }
}

/// After which entry the log is shown.
enum Start {
    Index(u64),
    /// The log must know this snapshot, or be a fresh one.
    Snapshot(pb::WalSnapshot),
}

impl Start {
    fn index(&self) -> u64 {
        match self {
            Start::Index(index) => *index,
            Start::Snapshot(at) => at.index,
        }
    }
}

/// Finds the place and shows the snapshot there.
fn start(from: &From, dir: &Path, out: &mut impl Write) -> Result<Start> {
    let snapshot = match from {
        From::Index(index) => {
            writeln!(out, "Start dumping log entries from index {index}.")?;
            return Ok(Start::Index(*index));
        }
        From::Snapshot(name) => Some(snap::read(&RealDisk, &dir.join(name))?),
        From::NewestSnapshot => {
            let skipped = |error: &snap::SnapError| eprintln!("etcd-dump: passed over: {error}");
            Snapshots::new(RealDisk, dir).peek_newest(skipped)?.map(|(snapshot, _)| snapshot)
        }
    };
    let mut at = pb::WalSnapshot::default();
    match snapshot {
        Some(pb::Snapshot { metadata, .. }) => {
            at = pb::WalSnapshot { index: metadata.index, term: metadata.term };
            let nodes: Vec<String> =
                metadata.conf_state.nodes.iter().map(|id| MemberId(*id).to_string()).collect();
            writeln!(out, "Snapshot:\nterm={} index={} nodes=[{}]", at.term, at.index, nodes.join(" "))?;
        }
        None => writeln!(out, "Snapshot:\nempty")?,
    }
    writeln!(out, "Start dupmping log entries from snapshot.")?;
    Ok(Start::Snapshot(at))
}

fn write_head(log: &Inspected, out: &mut impl Write) -> Result<()> {
    let metadata = log.metadata.unwrap_or_default();
    let (member, cluster) = (MemberId(metadata.node_id), ClusterId(metadata.cluster_id));
    let pb::HardState { term, vote, commit } = log.state;
    let vote = MemberId(vote);
    writeln!(
        out,
        "WAL metadata:\nnodeID={member} clusterID={cluster} term={term} commitIndex={commit} vote={vote}"
    )?;
    Ok(())
}

/// Says what a server would not accept as it is.
fn check(start: &Start, log: &Inspected) -> Result<()> {
    let (file, offset) = (log.last_file.display(), log.end_offset);
    match log.end {
        End::Clean => {}
        End::Torn => {
            let len = RealDisk.open(&log.last_file, Open::Read)?.len()?;
            bail!("{file} ends in a part of a record, bytes {offset} to {len}")
        }
        End::Zeros => bail!("{file} ends in zero bytes, from byte {offset} on"),
    }
    if log.metadata.is_none() {
        bail!("no metadata found in {file}");
    }
    match start {
        Start::Snapshot(at) if !log.snapshots.contains(at) => {
            bail!("the log has no record of the snapshot (index {}, term {})", at.index, at.term)
        }
        _ => Ok(()),
    }
}

/// Type and data of an entry.
fn describe(entry: &pb::Entry) -> String {
    let data = entry.data.clone().unwrap_or_default();
    match entry.kind {
        pb::ENTRY_NORMAL if data.is_empty() => "norm\t".to_owned(),
        pb::ENTRY_NORMAL => match pb::Request::decode(data) {
            Ok(request) => format!("norm\t{}", describe_request(&request)),
            Err(_) => "norm\t???".to_owned(),
        },
        pb::ENTRY_CONF_CHANGE => match pb::ConfChange::decode(data) {
            Ok(change) => {
                format!("conf\tmethod={} id={}", change_name(change.kind), MemberId(change.node_id))
            }
            Err(_) => "conf\t???".to_owned(),
        },
        kind => format!("{kind}\t???"),
    }
}

fn describe_request(request: &pb::Request) -> String {
    // Go prints the method as it is, whatever its bytes; all that the server writes are words.
    let method = String::from_utf8_lossy(&request.method);
    let path = excerpt(&request.path, PATH_BYTES, PATH_BYTES);
    match method.as_ref() {
        "" => "noop".to_owned(),
        "SYNC" => format!("method=SYNC time=\"{}\"", time(request.time)),
        "QGET" | "DELETE" => format!("method={method} path={path}"),
        _ => format!("method={method} path={path} val={}", excerpt(&request.val, VALUE_BYTES, 0)),
    }
}

fn change_name(kind: i32) -> String {
    match kind {
        pb::ADD_NODE => "ConfChangeAddNode".to_owned(),
        pb::REMOVE_NODE => "ConfChangeRemoveNode".to_owned(),
        pb::UPDATE_NODE => "ConfChangeUpdateNode".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn shown(kind: i32, data: Option<Vec<u8>>) -> String {
        describe(&pb::Entry { kind, term: 1, index: 1, data: data.map(Bytes::from) })
    }

    fn request(method: &'static str, val: &'static str) -> Option<Vec<u8>> {
        let request =
            pb::Request { method: method.into(), path: "/1/a".into(), val: val.into(), ..Default::default() };
        Some(request.encode_to_vec())
    }

    #[test]
    fn entries_are_shown_as_the_original_shows_them() {
        assert_eq!(shown(0, None), "norm\t");
        assert_eq!(shown(0, Some(vec![])), "norm\t");
        assert_eq!(shown(0, Some(vec![0xff])), "norm\t???");
        assert_eq!(shown(0, request("", "")), "norm\tnoop");
        assert_eq!(shown(0, request("PUT", "x y")), "norm\tmethod=PUT path=\"/1/a\" val=\"x y\"");
        assert_eq!(shown(0, request("DELETE", "")), "norm\tmethod=DELETE path=\"/1/a\"");
        assert_eq!(shown(0, request("SYNC", "")), "norm\tmethod=SYNC time=\"1970-01-01 00:00:00 +0000 UTC\"");
        let change = |kind| Some(pb::ConfChange { kind, node_id: 255, ..Default::default() }.encode_to_vec());
        assert_eq!(shown(1, change(2)), "conf\tmethod=ConfChangeUpdateNode id=ff");
        assert_eq!(shown(1, change(7)), "conf\tmethod=7 id=ff");
        assert_eq!(shown(1, Some(vec![0x08])), "conf\t???");
    }
}

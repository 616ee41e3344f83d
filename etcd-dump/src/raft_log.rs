//! Shows the log of a 2.x member, and the snapshot that it continues.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use shared::disk::RealDisk;
use shared::pb;
use shared::snap::{self, SnapError, Snapshots};

use crate::dump::Files;
use crate::entry::describe;
use crate::fields::Value;
use crate::flags::{Format, From, What};
use crate::lines::Lines;
use crate::log::{Item, Log, Part};
use crate::text;

/// Shows the log of a member. What can be read is written even if the result is an error.
pub(crate) fn dump(files: &Files, what: &What, out: &mut impl Write) -> Result<()> {
    let start = Start::find(&what.from, &files.snap)?;
    let is_text = what.format == Format::Text;
    if is_text {
        out.write_all(start.text().as_bytes())?;
    }
    let part = if is_text { Part::After(start.index()) } else { Part::Left(start.index()) };
    let mark = start.mark();
    let log = Log::read(&files.wal, part, mark)?;
    if is_text {
        out.write_all(text::head(log.metadata, log.state, log.last.min(what.to)).as_bytes())?;
    }
    let mut shown = Shown { lines: Lines::new(what.format, what.lengths, out), to: what.to };
    if !is_text {
        shown.head(&log, &files.snap)?;
    }
    log.each(|item| shown.item(&item, start.index()))?;
    log.check(mark.filter(|_| is_text))
}

/// The names of the snapshots in a folder, oldest first. There are none where it is missing, which is told.
///
/// # Errors
/// If the folder cannot be listed.
pub(crate) fn snapshot_names(dir: &Path) -> Result<Vec<OsString>> {
    match Snapshots::new(RealDisk, dir).names() {
        Err(SnapError::Disk(error)) if error.is_not_found() => {
            note!("etcd-dump: {} is missing: a server does not start without it", dir.display());
            Ok(Vec::new())
        }
        names => Ok(names?),
    }
}

/// After which entry the log is shown.
enum Start {
    Index(u64),
    /// After a snapshot, or, where there is none, after nothing. The log must know it, or be a fresh one.
    Snapshot(Option<pb::SnapshotMetadata>),
}

impl Start {
    fn find(from: &From, dir: &Path) -> Result<Start> {
        Ok(match from {
            From::Beginning => Start::Index(0),
            From::Index(index) => Start::Index(*index),
            From::Snapshot(name) => Start::Snapshot(Some(snap::peek(&RealDisk, &dir.join(name))?)),
            From::NewestSnapshot => {
                for name in snapshot_names(dir)?.into_iter().rev() {
                    match snap::peek(&RealDisk, &dir.join(name)) {
                        Ok(metadata) => return Ok(Start::Snapshot(Some(metadata))),
                        Err(error @ SnapError::Broken { .. }) => note!("etcd-dump: passed over: {error}"),
                        Err(error) => return Err(error.into()),
                    }
                }
                Start::Snapshot(None)
            }
        })
    }

    fn index(&self) -> u64 {
        match self {
            Start::Index(index) => *index,
            Start::Snapshot(snapshot) => snapshot.as_ref().map_or(0, |at| at.index),
        }
    }

    fn mark(&self) -> Option<pb::WalSnapshot> {
        let Start::Snapshot(snapshot) = self else { return None };
        let at = snapshot.as_ref().map(|at| pb::WalSnapshot { index: at.index, term: at.term });
        Some(at.unwrap_or_default())
    }

    fn text(&self) -> String {
        match self {
            Start::Index(index) => text::index_start(*index),
            Start::Snapshot(snapshot) => text::snapshot(snapshot.as_ref()),
        }
    }
}

/// The lines of a log.
struct Shown<'a, W> {
    lines: Lines<'a, W>,
    /// The last index that is shown.
    to: u64,
}

impl<W: Write> Shown<'_, W> {
    /// What stands above the entries, in the forms that show everything.
    fn head(&mut self, log: &Log, snap: &Path) -> Result<()> {
        if let Some(metadata) = log.metadata {
            self.lines.add("member", Value::Id(metadata.node_id));
            self.lines.add("cluster", Value::Id(metadata.cluster_id));
            self.lines.write("metadata")?;
        }
        self.lines.add("term", Value::Number(log.state.term));
        self.lines.add("vote", Value::Id(log.state.vote));
        self.lines.add("commit", Value::Number(log.state.commit));
        self.lines.write("state")?;
        for name in snapshot_names(snap)? {
            let file = snap.join(&name);
            self.lines.add("file", Value::Text(name.into_encoded_bytes().into()));
            match snap::peek(&RealDisk, &file) {
                Ok(at) => {
                    self.lines.add("index", Value::Number(at.index));
                    self.lines.add("term", Value::Number(at.term));
                    self.lines.add("members", Value::Ids(at.conf_state.nodes));
                }
                Err(error) => self.lines.add("flaw", Value::Text(error.to_string().into())),
            }
            self.lines.write("snapshot")?;
        }
        Ok(())
    }

    /// An entry, or a mark that tells of a snapshot at `from` or later.
    fn item(&mut self, item: &Item, from: u64) -> Result<()> {
        let is_text = self.lines.is_text();
        match item {
            Item::Entry(entry) if entry.index > self.to => {}
            Item::Entry(entry) if is_text => {
                text::entry(entry, self.lines.lengths, &mut self.lines.line);
                self.lines.flush()?;
            }
            Item::Entry(entry) => {
                self.lines.add("index", Value::Number(entry.index));
                self.lines.add("term", Value::Number(entry.term));
                describe(entry, &mut self.lines.fields);
                self.lines.write("entry")?;
            }
            Item::Mark(at) if !is_text && at.index >= from && at.index <= self.to => {
                self.lines.add("index", Value::Number(at.index));
                self.lines.add("term", Value::Number(at.term));
                self.lines.write("mark")?;
            }
            Item::Mark(_) => {}
        }
        Ok(())
    }
}

//! Shows the log of a 2.x member, and the snapshot that it continues.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use shared::disk::RealDisk;
use shared::pb;
use shared::snap::{self, SnapError, Snapshots};

use crate::dump_flags::{DumpOptions, Format, LogStart};
use crate::entry::describe;
use crate::fields::Value;
use crate::lines::Lines;
use crate::log::{EntrySelection, Log, LogItem};
use crate::paths::MemberFiles;
use crate::text;

/// Shows the log of a member. Everything readable is written even if the result is an error.
pub(crate) fn dump(files: &MemberFiles, options: &DumpOptions, out: &mut impl Write) -> Result<()> {
    let start = StartPoint::find(&options.from, &files.snap)?;
    let is_text = options.format == Format::Text;
    if is_text {
        out.write_all(start.text().as_bytes())?;
    }
    let selection =
        if is_text { EntrySelection::After(start.index()) } else { EntrySelection::Remaining(start.index()) };
    let mark = start.mark();
    let log = Log::read(&files.wal, selection, mark)?;
    if is_text {
        out.write_all(text::head(log.metadata, log.state, log.last.min(options.to)).as_bytes())?;
    }
    let mut printer = LogPrinter { lines: Lines::new(options.format, options.lengths, out), to: options.to };
    if !is_text {
        printer.head(&log, &files.snap)?;
    }
    log.each(|item| printer.item(&item, start.index()))?;
    log.check(mark.filter(|_| is_text))
}

/// The names of the snapshots in a folder, oldest first. If the folder is missing, prints that and returns none.
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

/// The entry after which the log is shown.
enum StartPoint {
    Index(u64),
    /// After a snapshot, or, if there is none, from the first entry. The log must have its mark, or be a fresh one.
    Snapshot(Option<pb::SnapshotMetadata>),
}

impl StartPoint {
    fn find(from: &LogStart, dir: &Path) -> Result<StartPoint> {
        Ok(match from {
            LogStart::Beginning => StartPoint::Index(0),
            LogStart::Index(index) => StartPoint::Index(*index),
            LogStart::Snapshot(name) => StartPoint::Snapshot(Some(snap::peek(&RealDisk, &dir.join(name))?)),
            LogStart::NewestSnapshot => {
                for name in snapshot_names(dir)?.into_iter().rev() {
                    match snap::peek(&RealDisk, &dir.join(name)) {
                        Ok(metadata) => return Ok(StartPoint::Snapshot(Some(metadata))),
                        Err(error @ SnapError::Broken { .. }) => note!("etcd-dump: passed over: {error}"),
                        Err(error) => return Err(error.into()),
                    }
                }
                StartPoint::Snapshot(None)
            }
        })
    }

    fn index(&self) -> u64 {
        match self {
            StartPoint::Index(index) => *index,
            StartPoint::Snapshot(snapshot) => snapshot.as_ref().map_or(0, |at| at.index),
        }
    }

    fn mark(&self) -> Option<pb::WalSnapshot> {
        let StartPoint::Snapshot(snapshot) = self else { return None };
        let at = snapshot.as_ref().map(|at| pb::WalSnapshot { index: at.index, term: at.term });
        Some(at.unwrap_or_default())
    }

    fn text(&self) -> String {
        match self {
            StartPoint::Index(index) => text::index_start(*index),
            StartPoint::Snapshot(snapshot) => text::snapshot(snapshot.as_ref()),
        }
    }
}

/// Prints the lines of a log.
struct LogPrinter<'a, W> {
    lines: Lines<'a, W>,
    /// The last index that is shown.
    to: u64,
}

impl<W: Write> LogPrinter<'_, W> {
    /// Writes what comes before the entries, in the formats that show everything.
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

    /// Prints an entry, or the mark of a snapshot at `from` or later.
    fn item(&mut self, item: &LogItem, from: u64) -> Result<()> {
        let is_text = self.lines.is_text();
        match item {
            LogItem::Entry(entry) if entry.index > self.to => {}
            LogItem::Entry(entry) if is_text => {
                text::entry(entry, self.lines.lengths, &mut self.lines.line);
                self.lines.flush()?;
            }
            LogItem::Entry(entry) => {
                self.lines.add("index", Value::Number(entry.index));
                self.lines.add("term", Value::Number(entry.term));
                describe(entry, &mut self.lines.fields);
                self.lines.write("entry")?;
            }
            LogItem::Mark(at) if !is_text && at.index >= from && at.index <= self.to => {
                self.lines.add("index", Value::Number(at.index));
                self.lines.add("term", Value::Number(at.term));
                self.lines.write("mark")?;
            }
            LogItem::Mark(_) => {}
        }
        Ok(())
    }
}

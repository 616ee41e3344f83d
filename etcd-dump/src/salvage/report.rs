//! The report of a salvage, as text and as JSON.

use std::fmt::{self, Display};
use std::path::Path;

use serde::Serialize;
use shared::id::{ClusterId, MemberId};
use shared::store::Store;
use shared::wal::{DamagedRange, SegmentEnd};

use super::log::{EntryRun, Log, Segment, SegmentState};
use super::plan::Plan;
use super::snapshots::Snapshot;
use super::unused::UnusedWrite;
use crate::tree;

/// How many unused writes the text shows, and how many characters of their values.
const UNUSED_SHOWN: usize = 20;
const VALUE_CHARS: usize = 60;

/// What was read, what the new directory holds and what is missing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) dir: String,
    /// The new directory; `None` if none was made.
    pub(crate) out: Option<String>,
    /// Whether the new directory holds everything that the files show the old one held.
    pub(crate) whole: bool,
    pub(crate) result: Option<SalvageResult>,
    pub(crate) files: Vec<File>,
    pub(crate) missing: Vec<MissingPart>,
    /// Writes that are readable but cannot be applied, because entries before them are missing.
    pub(super) unused: Vec<UnusedWrite>,
    /// Whether there are more of them than the list has.
    pub(super) more_unused: bool,
    pub(crate) notices: Vec<String>,
}

/// What the new directory holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SalvageResult {
    /// The file's name; `None` if the log reaches back to its start.
    pub(crate) snapshot: Option<String>,
    pub(crate) snapshot_index: u64,
    pub(crate) snapshot_term: u64,
    /// The number of entries of the old log after the snapshot.
    pub(crate) entries: u64,
    pub(crate) last_index: u64,
    /// The store's index, `X-Etcd-Index`.
    pub(crate) store_index: u64,
    pub(crate) keys: u64,
    pub(crate) directories: u64,
    pub(crate) auth_records: u64,
    /// In hexadecimal.
    pub(crate) member_id: String,
    pub(crate) cluster_id: String,
    /// How many other members the last entries remove.
    pub(crate) members_removed: usize,
}

/// A file that was read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct File {
    pub(crate) name: String,
    /// `good`, or what is wrong with the file as a whole.
    pub(crate) state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_entry: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_entry: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) damage: Vec<FileDamage>,
}

/// A damaged range of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileDamage {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) what: String,
    /// Whether the record there could be read nevertheless.
    pub(crate) recovered: bool,
}

/// Something that is, or may be, missing from the new directory.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MissingPart {
    pub(crate) what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to_index: Option<u64>,
}

impl MissingPart {
    fn range(what: &str, from: u64, to: u64) -> MissingPart {
        MissingPart { what: what.to_owned(), from_index: Some(from), to_index: Some(to) }
    }

    fn part(what: String) -> MissingPart {
        MissingPart { what, from_index: None, to_index: None }
    }
}

impl Report {
    /// A report of the files, before anything is written.
    pub(super) fn of(dir: &Path, log: Option<&Log>, snapshots: &[Snapshot], notices: Vec<String>) -> Report {
        let mut files: Vec<File> = snapshots.iter().map(snapshot_file).collect();
        files.extend(log.iter().flat_map(|log| &log.segments).map(segment_file));
        Report {
            dir: dir.display().to_string(),
            out: None,
            whole: false,
            result: None,
            files,
            missing: Vec::new(),
            unused: Vec::new(),
            more_unused: false,
            notices,
        }
    }

    /// Adds the new directory.
    ///
    /// `unread` lists what could not be read at all.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        log: Option<&Log>,
        snapshots: &[Snapshot],
        unread: Vec<String>,
        out: &Path,
    ) {
        let (keys, directories) = count(plan.replay.store(), b"/1");
        let (auth_records, _) = count(plan.replay.store(), b"/2");
        let metadata = plan.identity.metadata;
        let snapshot = plan.snapshot.map(|number| file_name(&snapshots[number].path));
        self.out = Some(out.display().to_string());
        self.result = Some(SalvageResult {
            snapshot,
            snapshot_index: plan.start.index,
            snapshot_term: plan.start.term,
            entries: plan.entries.len() as u64,
            last_index: plan.last(),
            store_index: plan.replay.store().index(),
            keys,
            directories,
            auth_records,
            member_id: MemberId(metadata.node_id).to_string(),
            cluster_id: ClusterId(metadata.cluster_id).to_string(),
            members_removed: plan.added.len() - usize::from(!plan.identity.is_old_member),
        });
        self.missing = missing(plan, log, snapshots);
        self.missing.extend(unread.into_iter().map(MissingPart::part));
        self.whole = self.missing.is_empty();
        self.notices.extend(plan.notices.iter().cloned());
        self.notices.extend(unproven(plan));
    }
}

/// The number of keys and directories below a directory, including hidden ones.
fn count(store: &Store, path: &[u8]) -> (u64, u64) {
    let (mut keys, mut directories) = (0, 0);
    if let Ok(listing) = store.get(path, true, false) {
        // Counting cannot fail.
        let _ = tree::walk(&listing, |_, node| {
            *if node.is_dir() { &mut directories } else { &mut keys } += 1;
            Ok(())
        });
    }
    (keys, directories)
}

/// What the files mention and the new directory lacks.
fn missing(plan: &Plan, log: Option<&Log>, snapshots: &[Snapshot]) -> Vec<MissingPart> {
    let last = plan.last();
    let mut missing = Vec::new();
    let Some(log) = log else {
        missing.push(MissingPart::part("the log: entries after the snapshot may have been in it".to_owned()));
        return missing;
    };
    if let Some(stopped) = &plan.stopped {
        missing.push(MissingPart::part(format!("what follows entry {last}: {stopped}")));
    }
    let beyond: Vec<(u64, u64)> = log
        .runs
        .iter()
        .filter(|run| run.last() > last)
        .map(|run| (run.first.max(last + 1), run.last()))
        .collect();
    let mut next = last + 1;
    for (from, to) in &beyond {
        if next < *from {
            missing.push(MissingPart::range("cannot be read", next, from - 1));
        }
        missing.push(MissingPart::range("readable, but useless without those before", *from, *to));
        next = to + 1;
    }
    let named = snapshots.iter().map(|snapshot| (snapshot.index(), "a snapshot that is broken"));
    let marks = log.marks.iter().map(|at| (at.index, "a snapshot that the log tells of"));
    let committed = (log.state.commit, "the commit index in the log");
    let known = named.chain(marks).chain([committed]).max_by_key(|(index, _)| *index);
    if let Some((known, source)) = known.filter(|(known, _)| *known >= next) {
        missing.push(MissingPart::range(&format!("not there, though {source} tells of it"), next, known));
    }
    if missing.is_empty() {
        missing = damage_behind(plan, log);
    }
    let reach =
        log.runs.iter().map(EntryRun::last).chain(log.marks.iter().map(|at| at.index)).max().unwrap_or(0);
    if missing.is_empty() && reach < plan.start.index {
        missing.push(MissingPart::part(format!(
            "the log ends at entry {reach}, before the snapshot of entry {}: entries after that may have been in it",
            plan.start.index
        )));
    }
    missing
}

/// Damage after the last used entry: there may have been entries.
fn damage_behind(plan: &Plan, log: &Log) -> Vec<MissingPart> {
    let (first, end) = plan.entries.last().map_or((0, 0), |entry| (entry.segment, entry.end));
    let mut missing = Vec::new();
    for (number, segment) in log.segments.iter().enumerate().skip(first) {
        let name = file_name(&segment.path);
        let survey = match &segment.state {
            SegmentState::Unreadable(error) => {
                missing.push(MissingPart::part(format!("what follows in {name}: {error}")));
                continue;
            }
            SegmentState::Surveyed(survey) => survey,
        };
        if segment.is_headless() {
            missing.push(MissingPart::part(format!(
                "what {name} had: no record is in its {} bytes",
                segment.bytes
            )));
            continue;
        }
        let behind = |flaw: &&DamagedRange| !flaw.kept && (number > first || flaw.from >= end);
        for DamagedRange { from, to, damage, .. } in survey.damaged_ranges.iter().filter(behind) {
            missing.push(MissingPart::part(format!("what {name} had in bytes {from} to {to}: {damage}")));
        }
        if survey.end == SegmentEnd::Torn {
            let (from, to) = (survey.end_offset, segment.bytes);
            missing.push(MissingPart::part(format!(
                "a part of a record at the end of {name}, bytes {from} to {to}"
            )));
        }
    }
    missing
}

/// Which of the used entries come after damage.
fn unproven(plan: &Plan) -> Option<String> {
    let index = |at: usize| plan.start.index + 1 + at as u64;
    let first = plan.entries.iter().position(|entry| entry.behind_damage && !entry.proven);
    let behind = plan.entries.iter().position(|entry| entry.behind_damage);
    match (first, behind) {
        (Some(at), _) => Some(format!(
            "entry {} stands right behind damage: it can be decoded, but no checksum proves it",
            index(at)
        )),
        (None, Some(at)) => Some(format!(
            "the entries from {} on stand behind damage; their checksums and indexes fit, so no entry was lost there",
            index(at)
        )),
        (None, None) => None,
    }
}

fn snapshot_file(snapshot: &Snapshot) -> File {
    let state = match &snapshot.state {
        Ok(_) => "good".to_owned(),
        Err(reason) => format!("broken: {reason}"),
    };
    let index = snapshot.state.as_ref().ok().map(|metadata| metadata.index);
    File {
        name: format!("snap/{}", file_name(&snapshot.path)),
        state,
        bytes: None,
        records: None,
        first_entry: None,
        last_entry: index,
        damage: Vec::new(),
    }
}

fn segment_file(segment: &Segment) -> File {
    let mut damage = Vec::new();
    let state = match &segment.state {
        SegmentState::Unreadable(error) => format!("unreadable: {error}"),
        SegmentState::Surveyed(survey) => {
            damage.extend(survey.damaged_ranges.iter().map(|flaw| FileDamage {
                from: flaw.from,
                to: flaw.to,
                what: flaw.damage.to_string(),
                recovered: flaw.kept,
            }));
            match survey.end {
                _ if !damage.is_empty() => "damaged",
                _ if segment.is_headless() => "holds no record",
                SegmentEnd::Torn => "ends in a part of a record",
                SegmentEnd::Zeros => "good, zeros at its end",
                SegmentEnd::Clean => "good",
            }
            .to_owned()
        }
    };
    File {
        name: format!("wal/{}", file_name(&segment.path)),
        state: if segment.after_gap { format!("{state}; segments before it are missing") } else { state },
        bytes: Some(segment.bytes),
        records: Some(segment.records),
        first_entry: segment.entries.map(|(first, _)| first),
        last_entry: segment.entries.map(|(_, last)| last),
        damage,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.out, &self.result) {
            (Some(out), Some(result)) => write_outcome(f, &self.dir, out, result)?,
            _ => writeln!(f, "nothing could be salvaged of {}", self.dir)?,
        }
        writeln!(f, "read:")?;
        for file in &self.files {
            write!(f, "  {}", file.name)?;
            if let Some(bytes) = file.bytes {
                write!(f, ", {bytes} bytes")?;
            }
            match (file.first_entry, file.last_entry) {
                (Some(first), Some(last)) => write!(f, ", entries {first} to {last}")?,
                (None, Some(last)) => write!(f, ", up to entry {last}")?,
                _ => {}
            }
            writeln!(f, ": {}", file.state)?;
            for FileDamage { from, to, what, recovered } in &file.damage {
                let recovered = if *recovered { "; the record could be read all the same" } else { "" };
                writeln!(f, "    bytes {from} to {to}: {what}{recovered}")?;
            }
        }
        if self.files.is_empty() {
            writeln!(f, "  no snapshot and no log")?;
        }
        if self.out.is_some() && self.missing.is_empty() {
            writeln!(f, "missing: nothing, as far as the files tell")?;
        }
        if !self.missing.is_empty() {
            writeln!(f, "missing:")?;
        }
        for MissingPart { what, from_index, to_index } in &self.missing {
            match (from_index, to_index) {
                (Some(from), Some(to)) if from == to => writeln!(f, "  entry {from}: {what}")?,
                (Some(from), Some(to)) => writeln!(f, "  entries {from} to {to}: {what}")?,
                _ => writeln!(f, "  {what}")?,
            }
        }
        write_unused(f, &self.unused)?;
        for (i, notice) in self.notices.iter().enumerate() {
            writeln!(f, "{}  {notice}", if i == 0 { "notes:\n" } else { "" })?;
        }
        Ok(())
    }
}

fn write_unused(f: &mut fmt::Formatter<'_>, unused: &[UnusedWrite]) -> fmt::Result {
    if unused.is_empty() {
        return Ok(());
    }
    writeln!(f, "writes that were readable and are not in the new directory:")?;
    for UnusedWrite { index, method, key, value, .. } in unused.iter().take(UNUSED_SHOWN) {
        write!(f, "  entry {index}: {method} {}", key.escape_debug())?;
        match value.char_indices().nth(VALUE_CHARS) {
            None if value.is_empty() => writeln!(f)?,
            None => writeln!(f, " \"{}\"", value.escape_debug())?,
            Some((end, _)) => writeln!(f, " \"{}\"...", value[..end].escape_debug())?,
        }
    }
    match unused.len().saturating_sub(UNUSED_SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more: --json lists them"),
    }
}

fn write_outcome(f: &mut fmt::Formatter<'_>, dir: &str, out: &str, result: &SalvageResult) -> fmt::Result {
    writeln!(f, "{out} holds what was readable of {dir}:")?;
    match &result.snapshot {
        Some(name) => writeln!(
            f,
            "  snapshot   {name} (index {}, term {})",
            result.snapshot_index, result.snapshot_term
        )?,
        None => writeln!(f, "  snapshot   none; the log is taken from its start")?,
    }
    let first = result.snapshot_index + 1;
    match result.entries {
        0 => writeln!(f, "  entries    none after it")?,
        count => writeln!(f, "  entries    {first} to {} ({count})", result.last_index)?,
    }
    let SalvageResult { keys, directories, store_index, auth_records, .. } = result;
    writeln!(f, "  keys       {keys} in {directories} directories, index {store_index}")?;
    if *auth_records > 0 {
        writeln!(f, "  auth       {auth_records} records of users and roles")?;
    }
    let removed = match result.members_removed {
        0 => String::new(),
        1 => "; one other member is removed".to_owned(),
        count => format!("; {count} other members are removed"),
    };
    writeln!(f, "  member     {}, alone in cluster {}{removed}", result.member_id, result.cluster_id)
}

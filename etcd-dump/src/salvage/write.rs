//! Writes the new directory: under a temporary name first; it gets its name when it is complete and durable.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use shared::disk::{Disk, Kind, Open, is_link, parent_of};
use shared::snap::{self, Snapshots};
use shared::wal::{self, EntryRef, Record, Stream, Wal};

use super::SalvageError;
use super::log::Log;
use super::plan::{EntryReader, Plan};
use super::snapshots::Snapshot;
use crate::paths::resolved;

/// Bytes of entries that are written and synced at once.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// The draft in a directory that already exists.
const DRAFT_WITHIN: &str = "member.salvaging";

/// A file that distinguishes a draft from anything else with its name.
const MARK: &str = "unfinished-salvage";

/// Checks that nothing is where the new directory will be, and that it is not within the old one.
///
/// # Errors
/// What is in the way.
pub(super) fn check_output<D: Disk>(disk: &D, dir: &Path, out: &Path) -> Result<(), SalvageError> {
    if resolved(out).starts_with(resolved(dir)) {
        return Err(SalvageError::Within { out: out.to_owned(), dir: dir.to_owned() });
    }
    match disk.kind(out)? {
        None => {}
        Some(Kind::Dir) if disk.list(out)?.iter().all(|name| name == DRAFT_WITHIN) => {}
        Some(_) => return Err(SalvageError::InTheWay(out.to_owned())),
    }
    check_draft(disk, &Draft::of(disk, out)?)
}

/// Writes the new directory. On return all of it is durable, and its log was read back.
///
/// # Errors
/// If the disk refuses, or the log that was read back is not as planned; then there is no `out`.
pub(super) fn write<D: Disk>(
    disk: &D,
    log: &Log,
    snapshots: &[Snapshot],
    plan: &Plan,
    out: &Path,
) -> Result<(), SalvageError> {
    let draft = Draft::of(disk, out)?;
    remove_draft(disk, &draft)?;
    let written = create_draft(disk, &draft).and_then(|()| {
        write_draft(disk, log, snapshots, plan, &draft.member)?;
        disk.rename(&draft.dir, &draft.location)?;
        disk.sync_dir(parent_of(&draft.location))?;
        disk.remove(&draft.location.join(MARK))?;
        Ok(disk.sync_dir(&draft.location)?)
    });
    if written.is_err() {
        // The first error is the one to report; the next run removes what remains.
        let _ = remove_draft(disk, &draft);
    }
    written
}

/// Creates the draft's folder, with the mark in it.
fn create_draft<D: Disk>(disk: &D, draft: &Draft) -> Result<(), SalvageError> {
    disk.create_dir_all(&draft.dir)?;
    disk.open(&draft.dir.join(MARK), Open::Create)?;
    Ok(())
}

fn write_draft<D: Disk>(
    disk: &D,
    log: &Log,
    snapshots: &[Snapshot],
    plan: &Plan,
    member: &Path,
) -> Result<(), SalvageError> {
    let (snap, wal) = (member.join("snap"), member.join("wal"));
    disk.create_dir_all(&snap)?;
    if let Some(number) = plan.snapshot {
        copy_snapshot(disk, &snapshots[number].path, &snap)?;
    }
    write_log(disk, log, plan, &wal)?;
    check_log(disk, plan, &wal)
}

/// The directory while it is incomplete; one rename gives it its name.
struct Draft {
    /// Its temporary path.
    dir: PathBuf,
    /// Its final path.
    location: PathBuf,
    /// The folder for the snapshots and the log: `dir` itself, or one in it.
    member: PathBuf,
}

impl Draft {
    /// A new directory is built beside its final path. An existing empty directory stays (it may be a mount point or
    /// a process's current directory): only `member` is made in it.
    fn of<D: Disk>(disk: &D, out: &Path) -> Result<Draft, SalvageError> {
        if disk.kind(out)?.is_some() {
            let dir = out.join(DRAFT_WITHIN);
            return Ok(Draft { member: dir.clone(), dir, location: out.join("member") });
        }
        let mut name: OsString = out.as_os_str().to_owned();
        name.push(".salvaging");
        let dir = PathBuf::from(name);
        Ok(Draft { member: dir.join("member"), dir, location: out.to_owned() })
    }
}

/// Checks that anything with the draft's name was left by an interrupted run.
fn check_draft<D: Disk>(disk: &D, draft: &Draft) -> Result<(), SalvageError> {
    let dir = &draft.dir;
    let is_ours = match disk.kind(dir)? {
        None => true,
        Some(Kind::Dir) if !is_link(disk, dir)? => {
            let names = disk.list(dir)?;
            names.is_empty() || names.iter().any(|name| name == MARK)
        }
        Some(_) => false,
    };
    if is_ours { Ok(()) } else { Err(SalvageError::DraftInTheWay(dir.clone())) }
}

/// Removes what an interrupted run left, and nothing else.
fn remove_draft<D: Disk>(disk: &D, draft: &Draft) -> Result<(), SalvageError> {
    check_draft(disk, draft)?;
    let Draft { dir, member, .. } = draft;
    if disk.kind(dir)?.is_none() {
        return Ok(());
    }
    for dir in [member.join("snap"), member.join("wal")] {
        if disk.kind(&dir)? == Some(Kind::Dir) && !is_link(disk, &dir)? {
            for name in disk.list(&dir)? {
                disk.remove(&dir.join(name))?;
            }
            disk.remove_dir(&dir)?;
        }
    }
    if member != dir && disk.kind(member)?.is_some() {
        disk.remove_dir(member)?;
    }
    // Last, so that an incomplete removal still counts as ours.
    if disk.kind(&dir.join(MARK))?.is_some() {
        disk.remove(&dir.join(MARK))?;
    }
    Ok(disk.remove_dir(dir)?)
}

fn copy_snapshot<D: Disk>(disk: &D, from: &Path, to: &Path) -> Result<(), SalvageError> {
    let snapshot = snap::read(disk, from)?;
    let metadata = &snapshot.metadata;
    let body = snapshot.data.as_deref().unwrap_or_default();
    let copies = Snapshots::new(disk.clone(), to);
    Ok(copies.save(metadata.term, metadata.index, &metadata.conf_state, |out| out.write_all(body))?)
}

fn write_log<D: Disk>(disk: &D, log: &Log, plan: &Plan, dir: &Path) -> Result<(), SalvageError> {
    let mut wal = Wal::create(disk.clone(), dir, plan.identity.metadata)?;
    if plan.snapshot.is_some() {
        wal.append_snapshot(plan.start)?;
    }
    let mut reader = EntryReader::new(disk, &log.segments);
    let mut waiting = 0;
    for (index, location) in (plan.start.index + 1..).zip(&plan.entries) {
        let entry =
            reader.read(location)?.filter(|entry| entry.index == index && entry.term == location.term);
        let Some(entry) = entry else { return Err(SalvageError::Changed { index }) };
        wal.append(std::iter::once(EntryRef::from(&entry)), None);
        waiting += location.end - location.offset;
        if waiting >= BATCH_BYTES {
            wal.sync()?;
            waiting = 0;
        }
    }
    wal.append(plan.added.iter().map(EntryRef::from), Some(plan.state));
    Ok(wal.close()?)
}

/// Reads the written log back, as a server will.
fn check_log<D: Disk>(disk: &D, plan: &Plan, dir: &Path) -> Result<(), SalvageError> {
    let segments = wal::segments_after(&wal::segments(disk, dir)?, dir, plan.start.index)?;
    let mut records = Stream::new(disk.clone(), dir, segments);
    let (mut last, mut state) = (plan.start.index, None);
    while let Some(record) = records.next_record()? {
        match record {
            Record::Entry(entry) if entry.index == last + 1 => last += 1,
            Record::State(found) => state = Some(found),
            _ => {}
        }
    }
    if last != plan.state.commit || state != Some(plan.state) {
        return Err(SalvageError::Changed { index: last });
    }
    Ok(())
}

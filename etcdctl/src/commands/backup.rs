//! `backup`: copies the snapshot and the log of a member, running or not, under new ids.
//!
//! The source is only read. The copy counts when its log has its final name, which it gets last and durably:
//! a copy that was interrupted has a folder [`PARTIAL`] in its log directory, and a server refuses it.

use std::io::Write;
use std::path::{Path, PathBuf};

use shared::disk::{Disk, DiskError, RealDisk};
use shared::pb;
use shared::snap::{self, SnapError, Snapshots};
use shared::time::UnixNanos;
use shared::wal::{self, EntryRef, Inspected, SegmentEnd, Stream, Wal, WalError};

/// Where the log of the copy is built. The name does not end in `.tmp`: to servers, this is a (bad) log.
const PARTIAL: &str = "backup.partial";
/// Bytes of entries that are written and synced at once.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often reading is tried when a running member removes segments that are being read.
const ATTEMPTS: usize = 3;

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("--{0} is not given")]
    Missing(&'static str),
    #[error("failed creating backup snapshot dir {}: {error}", dir.display())]
    SnapshotDir { dir: PathBuf, error: DiskError },
    #[error("the log in {} does not say whose it is", .0.display())]
    NoMetadata(PathBuf),
    #[error(
        "{} is the log of etcd 3.x: a copy in the form of 2.x would lose the keys of the v3 API. For these use \
         \"ETCDCTL_API=3 etcdctl snapshot save FILE\" of the etcd that wrote it, or copy the whole data directory while the \
         member is stopped. The keys of the v2 API: etcd-dump export DATA_DIR -o FILE",
        .0.display()
    )]
    Newer(PathBuf),
    #[error("{}: a segment without a record, the entries that were in it are lost; see etcd-dump salvage", .0.display())]
    Headless(PathBuf),
    #[error(
        "{snap} has, or had, a snapshot of entry {known}, but what can be read of it and of the log in {wal} ends with \
         entry {last}: the copy would lack what came between them; see etcd-dump salvage",
        snap = snap.display(),
        wal = wal.display()
    )]
    LogTooShort { snap: PathBuf, wal: PathBuf, known: u64, last: u64 },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Snapshot(#[from] SnapError),
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// Copies `data_dir` (and its log from `wal_dir`) to `backup_dir` (and `backup_wal_dir`); an empty path means
/// that it was not given. The new ids are made from `now`. Returns what the user should be told.
pub(crate) fn run(
    data_dir: &Path,
    wal_dir: &Path,
    backup_dir: &Path,
    backup_wal_dir: &Path,
    now: UnixNanos,
) -> Result<Vec<String>, BackupError> {
    let is_missing = |path: &Path| path.as_os_str().is_empty();
    for (name, path) in [("data-dir", data_dir), ("backup-dir", backup_dir)] {
        if is_missing(path) {
            return Err(BackupError::Missing(name));
        }
    }
    let dirs = |data: &Path, wal: &Path| MemberDirs {
        snap: data.join("member/snap"),
        wal: if is_missing(wal) { data.join("member/wal") } else { wal.to_owned() },
    };
    backup(&RealDisk, &dirs(data_dir, wal_dir), &dirs(backup_dir, backup_wal_dir), now)
}

/// The two directories of a member.
struct MemberDirs {
    snap: PathBuf,
    wal: PathBuf,
}

/// The contents to copy.
struct BackupSource {
    snapshot: Option<pb::Snapshot>,
    log: Inspected,
    notices: Vec<String>,
}

impl BackupSource {
    /// The snapshot that the log continues.
    fn start(&self) -> pb::WalSnapshot {
        self.snapshot.as_ref().map_or(pb::WalSnapshot::default(), |snapshot| pb::WalSnapshot {
            index: snapshot.metadata.index,
            term: snapshot.metadata.term,
        })
    }

    fn last_index(&self) -> u64 {
        self.log.entries.last().map_or(self.start().index, |entry| entry.index)
    }
}

fn backup<D: Disk>(
    disk: &D,
    from: &MemberDirs,
    to: &MemberDirs,
    now: UnixNanos,
) -> Result<Vec<String>, BackupError> {
    let source = read(disk, from)?;
    if wal::exists(disk, &to.wal)? {
        return Err(WalError::Exists(to.wal.clone()).into());
    }
    disk.create_dir_all(&to.snap)
        .map_err(|error| BackupError::SnapshotDir { dir: to.snap.clone(), error })?;
    // From here on a server refuses the copy until it is complete.
    let partial = to.wal.join(PARTIAL);
    disk.create_dir_all(&partial)?;
    if let Some(pb::Snapshot { data, metadata }) = &source.snapshot {
        let body = data.as_deref().unwrap_or_default();
        let save = |out: &mut dyn Write| out.write_all(body);
        let copies = Snapshots::new(disk.clone(), &to.snap);
        copies.save(metadata.term, metadata.index, &metadata.conf_state, save)?;
    }
    write_log(disk, &partial, &source, new_ids(now))?;
    // The first segment, with which a server begins to read, is renamed last.
    for name in disk.list(&partial)?.iter().rev() {
        disk.rename(&partial.join(name), &to.wal.join(name))?;
    }
    disk.sync_dir(&to.wal)?;
    disk.remove_dir(&partial)?;
    disk.sync_dir(&to.wal)?;
    Ok(source.notices)
}

/// Reads the newest good snapshot and the log after it.
fn read<D: Disk>(disk: &D, from: &MemberDirs) -> Result<BackupSource, BackupError> {
    let mut attempt = 1;
    loop {
        match read_once(disk, from) {
            Err(BackupError::Wal(WalError::FileNotFound(_))) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn read_once<D: Disk>(disk: &D, from: &MemberDirs) -> Result<BackupSource, BackupError> {
    let mut notices = Vec::new();
    // Before the log is read: a running server may write both.
    let known = match snap::highest_index(disk, &from.snap) {
        Err(error) if error.is_not_found() => 0,
        known => known?,
    };
    let snapshots = Snapshots::new(disk.clone(), &from.snap);
    let newest =
        snapshots.peek_newest(|error| notices.push(format!("An older snapshot is taken: {error}")))?;
    let snapshot = newest.map(|(snapshot, _)| snapshot);
    let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.metadata.index);
    let log = match wal::inspect(disk, &from.wal, after) {
        Err(WalError::Damaged { damage, .. }) if damage.is_padded_record() => {
            return Err(BackupError::Newer(from.wal.clone()));
        }
        log => log?,
    };
    if log.metadata.is_none() {
        return Err(BackupError::NoMetadata(from.wal.clone()));
    }
    if let Some(segment) = headless(disk, &from.wal)? {
        return Err(BackupError::Headless(segment));
    }
    let mut source = BackupSource { snapshot, log, notices };
    let start = source.start();
    if !source.log.snapshots.contains(&start) {
        // etcd 2.0 marks a snapshot in the log after it has stored it.
        source.notices.push(format!(
            "The log in {} does not know the snapshot of index {} and term {}; the copy's will.",
            from.wal.display(),
            start.index,
            start.term
        ));
    }
    let last = source.last_index();
    if known > last {
        return Err(BackupError::LogTooShort { snap: from.snap.clone(), wal: from.wal.clone(), known, last });
    }
    if source.log.state.commit > last {
        source.notices.push(format!(
            "The log says that entry {} is committed but ends with {last}; what is missing is not in the copy.",
            source.log.state.commit
        ));
        source.log.state.commit = last;
    }
    if source.log.end == SegmentEnd::Torn {
        source.notices.push(format!(
            "The log ends in a part of a record ({} from byte {} on), which is not in the copy; a crash leaves such.",
            source.log.last_file.display(),
            source.log.end_offset
        ));
    }
    if disk.kind(&from.snap.join("db"))?.is_some() {
        source.notices.push("The keys of the v3 API (member/snap/db) are not in the copy.".to_owned());
    }
    Ok(source)
}

/// Finds a segment without even a head record.
fn headless<D: Disk>(disk: &D, dir: &Path) -> Result<Option<PathBuf>, BackupError> {
    for name in wal::segments(disk, dir)?.into_iter().rev() {
        let mut records = Stream::new(disk.clone(), dir, [name]);
        let is_read = |record| matches!(record, Ok(Some(_)));
        let has_head = is_read(records.next_record()) && is_read(records.next_record());
        if !has_head {
            return Ok(Some(dir.join(name.to_string())));
        }
    }
    Ok(None)
}

/// New ids for the member and the cluster: from the clock, as etcd 2.x makes the ids of requests.
fn new_ids(now: UnixNanos) -> pb::Metadata {
    let millis = now.0.div_euclid(1_000_000).cast_unsigned();
    let base = (millis & 0xff_ffff_ffff) << 8;
    pb::Metadata { node_id: base + 1, cluster_id: base + 2 }
}

/// Writes the log of the copy, all of it synced.
fn write_log<D: Disk>(
    disk: &D,
    dir: &Path,
    source: &BackupSource,
    metadata: pb::Metadata,
) -> Result<(), BackupError> {
    let mut log = Wal::create(disk.clone(), dir, metadata)?;
    let start = source.start();
    if start != pb::WalSnapshot::default() {
        log.append_snapshot(start)?;
    }
    let mut waiting = 0;
    for entry in &source.log.entries {
        log.append(std::iter::once(EntryRef::from(entry)), None);
        waiting += entry.data.as_ref().map_or(0, |data| data.len());
        if waiting >= BATCH_BYTES {
            log.sync()?;
            waiting = 0;
        }
    }
    log.append(std::iter::empty(), Some(source.log.state));
    Ok(log.close()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::disk::SimDisk;

    const NOW: UnixNanos = UnixNanos(1_795_247_009_000_000_000);
    const METADATA: pb::Metadata = pb::Metadata { node_id: 1, cluster_id: 2 };

    fn from() -> MemberDirs {
        MemberDirs { snap: "/data/member/snap".into(), wal: "/data/member/wal".into() }
    }

    fn to() -> MemberDirs {
        MemberDirs { snap: "/backup/member/snap".into(), wal: "/backup/member/wal".into() }
    }

    fn entry(index: u64) -> pb::Entry {
        pb::Entry { kind: 0, term: 1, index, data: Some(format!("entry {index}").into()) }
    }

    /// A member that has taken a snapshot at 3 of its 5 entries; its log is still open, as if it ran.
    fn member(seed: u64) -> (SimDisk, Wal<SimDisk>) {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(&from().snap).unwrap();
        let mut log = Wal::create(disk.clone(), &from().wal, METADATA).unwrap();
        let state = pb::HardState { term: 1, vote: 1, commit: 4 };
        for index in 1..=5 {
            log.append([EntryRef::from(&entry(index))].into_iter(), Some(state));
            log.sync().unwrap();
            if index == 3 {
                log.append_snapshot(pb::WalSnapshot { index: 3, term: 1 }).unwrap();
                save(&disk, 3);
            }
        }
        (disk, log)
    }

    fn save(disk: &SimDisk, index: u64) {
        let conf_state = pb::ConfState { nodes: vec![1] };
        let files = Snapshots::new(disk.clone(), &from().snap);
        files.save(1, index, &conf_state, |out| out.write_all(b"{}")).unwrap();
    }

    fn restored(disk: &SimDisk) -> Result<(pb::Metadata, pb::HardState, Vec<pb::Entry>), WalError> {
        let at = pb::WalSnapshot { index: 3, term: 1 };
        let (_, log) = Wal::open(disk.clone(), &to().wal, at)?;
        Ok((log.metadata, log.state, log.entries))
    }

    #[test]
    fn a_running_member_is_copied_under_new_ids() {
        let (disk, _log) = member(1);
        let changes = disk.contents(&from().wal.join("0000000000000000-0000000000000000.wal")).unwrap();
        assert!(backup(&disk, &from(), &to(), NOW).unwrap().is_empty());
        // The copy is durable.
        disk.crash();
        let (metadata, state, entries) = restored(&disk).unwrap();
        assert_eq!(metadata.node_id + 1, metadata.cluster_id);
        assert_eq!(metadata.node_id & 0xff, 1);
        assert_eq!(state, pb::HardState { term: 1, vote: 1, commit: 4 });
        assert_eq!(entries, [entry(4), entry(5)]);
        let (snapshot, _) = Snapshots::new(disk.clone(), &to().snap).load_newest().unwrap().unwrap();
        assert_eq!((snapshot.metadata.index, snapshot.data.unwrap()), (3, "{}".into()));
        assert_eq!(disk.list(&to().wal).unwrap(), ["0000000000000000-0000000000000000.wal"]);
        let name = from().wal.join("0000000000000000-0000000000000000.wal");
        assert_eq!(disk.contents(&name).unwrap(), changes);
    }

    #[test]
    fn a_place_that_holds_a_log_is_refused() {
        let (disk, _log) = member(1);
        backup(&disk, &from(), &to(), NOW).unwrap();
        let error = backup(&disk, &from(), &to(), NOW).unwrap_err();
        assert!(matches!(error, BackupError::Wal(WalError::Exists(_))), "{error}");
        let none = MemberDirs { snap: "/none/member/snap".into(), wal: "/none/member/wal".into() };
        assert!(backup(&disk, &none, &to(), NOW).is_err());
        assert!(matches!(
            run(Path::new(""), Path::new(""), Path::new("b"), Path::new(""), NOW),
            Err(BackupError::Missing("data-dir"))
        ));
    }

    #[test]
    fn what_is_odd_about_the_source_is_told() {
        let (disk, mut log) = member(1);
        // A broken newer snapshot, one that the log does not know, and a commit index beyond the end.
        save(&disk, 4);
        disk.plant(&from().snap.join("0000000000000001-0000000000000005.snap"), b"junk").unwrap();
        log.append(std::iter::empty(), Some(pb::HardState { term: 2, vote: 1, commit: 9 }));
        log.sync().unwrap();
        let notices = backup(&disk, &from(), &to(), NOW).unwrap();
        assert_eq!(notices.len(), 3, "{notices:?}");
        assert!(notices[0].contains("0000000000000001-0000000000000005.snap"), "{notices:?}");
        assert!(notices[1].contains("index 4 and term 1"), "{notices:?}");
        assert!(notices[2].contains("entry 9"), "{notices:?}");
        let at = pb::WalSnapshot { index: 4, term: 1 };
        let (_, log) = Wal::open(disk, &to().wal, at).unwrap();
        assert_eq!((log.entries, log.state.commit), (vec![entry(5)], 5));
    }

    #[test]
    fn a_log_of_3_x_and_one_without_a_record_are_called_that() {
        // The first record that 3.x writes: a sum, padded to 8 bytes.
        let (disk, log) = member(1);
        drop(log);
        let name = from().wal.join("0000000000000000-0000000000000000.wal");
        let whole = disk.contents(&name).unwrap();
        let padded = [&[4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0][..], &[0; 64]].concat();
        for bytes in [padded.clone(), [&whole[..], &padded].concat()] {
            disk.plant(&name, &bytes).unwrap();
            let error = backup(&disk, &from(), &to(), NOW).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, BackupError::Newer(_)), "{text}");
            assert!(
                text.contains("etcd 3.x")
                    && text.contains("snapshot save")
                    && text.contains("etcd-dump export")
            );
        }
        disk.plant(&name, &whole).unwrap();
        let last = from().wal.join("0000000000000001-0000000000000006.wal");
        disk.plant(&last, b"").unwrap();
        let error = backup(&disk, &from(), &to(), NOW).unwrap_err();
        assert!(matches!(&error, BackupError::Headless(segment) if *segment == last), "{error}");
        assert!(disk.list(Path::new("/backup")).is_err(), "nothing is begun");
    }

    #[test]
    fn a_copy_that_was_interrupted_is_no_member() {
        let mut outcomes = [0, 0, 0];
        for seed in 0..300 {
            let (disk, log) = member(seed);
            drop(log);
            disk.fail_power_after(seed % 30);
            let done = backup(&disk, &from(), &to(), NOW).is_ok();
            disk.crash();
            let exists = wal::exists(&disk, &to().wal).unwrap();
            let outcome = match restored(&disk) {
                Ok((_, state, entries)) => {
                    assert_eq!((state.commit, entries.len()), (4, 2), "seed {seed}: a part of the log");
                    0
                }
                Err(error) if exists => {
                    assert!(!done, "seed {seed}: {error}");
                    1
                }
                Err(error) => {
                    assert!(!done, "seed {seed}: {error}");
                    // No log, so a server would begin anew: then there must be no snapshot either.
                    let names = disk.list(&to().snap).unwrap_or_default();
                    assert!(names.is_empty(), "seed {seed}: {names:?} without a log");
                    2
                }
            };
            outcomes[outcome] += 1;
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    }
}

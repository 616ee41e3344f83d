//! Reads the files beside the log, and decides where the replay begins.

use std::path::{Path, PathBuf};

use shared::disk::{Disk, Open};
use shared::legacy::files::FileError;
use shared::legacy::log::Reader;
use shared::legacy::{
    self, Conf, Info, LogError, SnapshotError, StandbyInfo, log_path, snapshot, snapshot_dir,
};
use shared::store::{Image, Store, is_state_of_0_1};

use crate::error::MigrateError;
use crate::legacy_replay::{HISTORY, LegacyReplay};
use crate::report::Loss;

/// The files that a migration reads, except for the log's entries.
pub(crate) struct Source {
    /// `conf`: the commit index that the member knew, and the other members.
    pub(crate) conf: Option<Conf>,
    /// `info`: the own name and addresses, of a member of 0.1 or 0.2.
    pub(crate) info: Option<Info>,
    /// `standby_info`: what it stored as a standby, before it became a member again.
    pub(crate) standby: Option<StandbyInfo>,
    /// The newest snapshot that can be read.
    pub(crate) snapshot: Option<BaseSnapshot>,
    /// The index of the log's first entry, if it has any.
    pub(crate) first: Option<u64>,
    /// What was lost of these files.
    pub(crate) lost: Vec<Loss>,
}

/// A snapshot that the replay may begin with.
pub(crate) struct BaseSnapshot {
    pub(crate) file: PathBuf,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) store: Store,
    /// Whether 0.1 wrote it; nodes of 0.1 have no indexes.
    of_0_1: bool,
}

/// Where the replay begins.
pub(crate) struct ReplayStart {
    /// The entry before the first one that is replayed.
    pub(crate) after: u64,
    /// That entry's term; 0 if there is no such entry.
    pub(crate) term: u64,
    /// The state after it.
    pub(crate) replay: LegacyReplay,
    /// A snapshot of a later entry, to compare the replayed state with.
    pub(crate) check: Option<SnapshotCheck>,
}

/// The state in a snapshot of an entry that is replayed too.
pub(crate) struct SnapshotCheck {
    pub(crate) file: PathBuf,
    pub(crate) index: u64,
    pub(crate) image: Image,
}

impl Source {
    /// Reads everything but the log.
    ///
    /// # Errors
    /// If something is damaged, without `salvage`.
    pub(crate) fn read<D: Disk>(disk: &D, data_dir: &Path, salvage: bool) -> Result<Source, MigrateError> {
        let mut lost = Vec::new();
        let conf = small_file(legacy::conf(disk, data_dir), salvage, &mut lost)?;
        let info = small_file(legacy::info(disk, data_dir), salvage, &mut lost)?;
        let standby = small_file(legacy::standby_info(disk, data_dir), salvage, &mut lost)?;
        let first = first_index(disk, data_dir, salvage)?;
        let mut snapshot = None;
        for name in snapshot::names(disk, &snapshot_dir(data_dir))?.into_iter().rev() {
            let file = snapshot_dir(data_dir).join(name.file_name);
            match read_snapshot(disk, &file, first) {
                Ok(base) => {
                    snapshot = Some(base);
                    break;
                }
                Err(MigrateError::Disk(error)) => return Err(error.into()),
                Err(error) if salvage => {
                    let to =
                        disk.open(&file, Open::Read).and_then(|file| shared::disk::DiskFile::len(&file))?;
                    let problem = match &error {
                        MigrateError::Snapshot { error: SnapshotError::Damaged { damage, .. }, .. } => {
                            damage.to_string()
                        }
                        MigrateError::Store { error, .. } => error.to_string(),
                        other => other.to_string(),
                    };
                    lost.push(Loss { file, from: 0, to, indexes: None, problem });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Source { conf, info, standby, snapshot, first, lost })
    }

    /// Decides where the replay begins: at the first entry if the log has it, else at the snapshot. `last` is the
    /// index of the last entry, if known: a snapshot of a later entry is preferred to the log.
    ///
    /// # Errors
    /// If the log begins too late, without `salvage`.
    pub(crate) fn start(
        &mut self,
        data_dir: &Path,
        last: Option<u64>,
        salvage: bool,
    ) -> Result<ReplayStart, MigrateError> {
        let members = self.conf.as_ref().map_or(0, |conf| conf.peers.len() + 1);
        let empty = || LegacyReplay::new(Store::new(HISTORY), members);
        let beyond = |base: &BaseSnapshot| last.is_some_and(|last| base.index > last);
        let first = match (self.first, self.snapshot.take()) {
            (Some(1), Some(base)) if !beyond(&base) => {
                let BaseSnapshot { file, index, store, of_0_1, .. } = base;
                let check = (!of_0_1).then(|| SnapshotCheck { file, index, image: store.image() });
                return Ok(ReplayStart { after: 0, term: 0, replay: empty(), check });
            }
            (Some(1), None) => return Ok(ReplayStart { after: 0, term: 0, replay: empty(), check: None }),
            (first, Some(BaseSnapshot { index, term, store, file, .. })) => {
                let gap = first.filter(|first| *first > index + 1);
                if let Some(first) = gap {
                    self.gap(
                        data_dir,
                        first,
                        format!("{} ends with entry {index}", file.display()),
                        index,
                        salvage,
                    )?;
                }
                return Ok(ReplayStart {
                    after: index,
                    term,
                    replay: LegacyReplay::new(store, members),
                    check: None,
                });
            }
            (Some(first), None) => first,
            (None, None) => {
                let commit = self.conf.as_ref().map_or(0, |conf| conf.commit_index);
                return Err(match commit {
                    0 => MigrateError::Nothing(data_dir.to_owned()),
                    commit => MigrateError::Emptied { data_dir: data_dir.to_owned(), commit },
                });
            }
        };
        let before = "no snapshot holds the entries before it".to_owned();
        self.gap(data_dir, first, before, 0, salvage)?;
        Ok(ReplayStart { after: first - 1, term: 0, replay: empty(), check: None })
    }

    /// Records that the entries between `after` and `first` are missing; an error without `salvage`.
    fn gap(
        &mut self,
        data_dir: &Path,
        first: u64,
        before: String,
        after: u64,
        salvage: bool,
    ) -> Result<(), MigrateError> {
        let file = log_path(data_dir);
        if !salvage {
            let advice = "another member's directory may be whole; with --salvage what is there is taken";
            return Err(MigrateError::Gap { file, first, before, advice });
        }
        let indexes = Some((after + 1, first - 1));
        self.lost.push(Loss { file, from: 0, to: 0, indexes, problem: format!("not there: {before}") });
        Ok(())
    }
}

/// The content of a small file; with `salvage`, `None` if it is damaged.
fn small_file<T>(
    read: Result<Option<T>, FileError>,
    salvage: bool,
    lost: &mut Vec<Loss>,
) -> Result<Option<T>, MigrateError> {
    match read {
        Err(FileError::Damaged { file, expected, problem }) if salvage => {
            let problem = format!("expected {expected}: {problem}");
            lost.push(Loss { file, from: 0, to: 0, indexes: None, problem });
            Ok(None)
        }
        other => Ok(other?),
    }
}

fn read_snapshot<D: Disk>(disk: &D, file: &Path, first: Option<u64>) -> Result<BaseSnapshot, MigrateError> {
    let snapshot = snapshot::read(disk, file).map_err(|error| match error {
        SnapshotError::Disk(error) => MigrateError::Disk(error),
        error @ SnapshotError::Damaged { .. } => MigrateError::Snapshot {
            error,
            advice: match first {
                Some(1) => "the log has all entries from 1 on: with --salvage the snapshot is left out and nothing lost",
                _ => "with --salvage an older snapshot or what the log holds is taken",
            },
        },
    })?;
    let store = Store::recover_legacy(&snapshot.state, HISTORY, true)
        .map_err(|error| MigrateError::Store { file: file.to_owned(), error })?;
    let (index, term) = (snapshot.last_index, snapshot.last_term);
    Ok(BaseSnapshot { file: file.to_owned(), index, term, store, of_0_1: is_state_of_0_1(&snapshot.state) })
}

/// The index of the first entry; with `salvage`, of the first readable one.
fn first_index<D: Disk>(disk: &D, data_dir: &Path, salvage: bool) -> Result<Option<u64>, MigrateError> {
    let path = log_path(data_dir);
    if disk.kind(&path)?.is_none() {
        return Ok(None);
    }
    let mut reader = Reader::new(disk.open(&path, Open::Read)?)?;
    loop {
        match reader.next_entry() {
            Ok(entry) => return Ok(entry.map(|entry| entry.index)),
            Err(LogError::Damaged { .. }) if salvage => drop(reader.skip_damage()?),
            Err(error) => return Err(error.into()),
        }
    }
}

//! The migration itself: decides, replays, writes.

use std::path::Path;

use shared::disk::{Disk, DiskFile, Kind, Open};
use shared::id::MemberId;
use shared::legacy::log::{LogEntry, Reader};
use shared::legacy::{Command, FileError, LegacyDir, LogError, detect, log_path};
use shared::{pb, wal};

use crate::error::MigrateError;
use crate::legacy_replay::{Converted, LegacyReplay};
use crate::output::{MigrationOutput, member_dir, remove_draft};
use crate::progress_counter::ProgressCounter;
use crate::registry::Machine;
use crate::report::{AlreadyMigrated, Loss, Report, ReportMember};
use crate::source::{ReplayStart, SnapshotCheck, Source};
use crate::survey::{Survey, command_error};
use crate::{Options, Progress, identity, original};

/// The id of every migrated cluster, as in etcd-migrate 2.0.
pub(crate) const CLUSTER_ID: u64 = 0x04_add5;
/// The terms of 0.x begin at 0, which means nothing in 2.x.
pub(crate) const TERM_OFFSET: u64 = 1;
/// See [`crate::migrate`].
pub(crate) fn migrate<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, MigrateError> {
    if disk.kind(data_dir)? != Some(Kind::Dir) {
        return Err(MigrateError::NoDirectory(data_dir.to_owned()));
    }
    if let Some(already) = find_migrated(disk, data_dir)? {
        return Ok(Report { data_dir: data_dir.to_owned(), already: Some(already), ..Report::default() });
    }
    match detect(disk, data_dir) {
        Ok(LegacyDir::Member) => {}
        Ok(LegacyDir::Standby(_)) => return Err(MigrateError::Standby(data_dir.to_owned())),
        Ok(LegacyDir::Nothing) => return Err(MigrateError::Nothing(data_dir.to_owned())),
        // With `salvage` the other files decide.
        Err(FileError::Damaged { .. }) if options.salvage => {}
        Err(error) => return Err(error.into()),
    }
    let _lock = lock(disk, data_dir)?;
    let migrated = match options.original {
        true => original::migrate(disk, data_dir, options, progress),
        false => convert(disk, data_dir, options, progress),
    };
    progress.end();
    if migrated.is_err() && !options.dry_run {
        // The first error is the one to report; the next run removes what remains.
        let _ = remove_draft(disk, data_dir);
    }
    migrated
}

/// Whether a directory has the files of 2.x.
fn find_migrated<D: Disk>(disk: &D, data_dir: &Path) -> Result<Option<AlreadyMigrated>, MigrateError> {
    let member = member_dir(data_dir);
    match disk.kind(&member)? {
        None => {
            let both =
                disk.kind(&data_dir.join("snap"))?.is_some() && wal::exists(disk, &data_dir.join("wal"))?;
            Ok(both.then_some(AlreadyMigrated::Layout20))
        }
        Some(Kind::Dir) if wal::exists(disk, &member.join("wal"))? => {
            let is_newer = disk.kind(&member.join("snap/db"))?.is_some();
            Ok(Some(if is_newer { AlreadyMigrated::Newer } else { AlreadyMigrated::Member }))
        }
        Some(_) => Err(MigrateError::InTheWay(member)),
    }
}

/// Locks the directory against a second migration, as long as the file is held.
fn lock<D: Disk>(disk: &D, data_dir: &Path) -> Result<Option<D::File>, MigrateError> {
    let log = log_path(data_dir);
    if disk.kind(&log)?.is_none() {
        return Ok(None);
    }
    let mut file = disk.open(&log, Open::Read)?;
    match file.lock() {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.is_locked() => Err(MigrateError::Busy(data_dir.to_owned())),
        // Not every file system can lock a file that is open for reading only. The lock is only a precaution.
        Err(_) => Ok(None),
    }
}

fn convert<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, MigrateError> {
    let salvage = options.salvage;
    let mut source = Source::read(disk, data_dir, salvage)?;
    let mut start = source.start(data_dir, None, salvage)?;
    let survey = |start: &ReplayStart| {
        Survey::read(disk, data_dir, start.after, start.replay.registry().clone(), salvage)
    };
    let mut found = survey(&start)?;
    if let Some(check) = start.check.take_if(|check| check.index > found.last) {
        // The log has lost its end: the snapshot is newer.
        source = Source::read(disk, data_dir, salvage)?;
        start = source.start(data_dir, Some(found.last), salvage)?;
        let last = found.last;
        found = survey(&start)?;
        found.warnings.push(format!(
            "{} ends with entry {last}, before {} (entry {}): the snapshot was taken, the log left out",
            log_path(data_dir).display(),
            check.file.display(),
            check.index
        ));
    }
    let mut migration = Migration::plan(disk, data_dir, options, &mut source, start, found)?;
    migration.run(progress)?;
    migration.report()
}

/// A migration whose inputs are known.
struct Migration<'a, D: Disk> {
    disk: &'a D,
    data_dir: &'a Path,
    options: &'a Options,
    survey: Survey,
    replay: LegacyReplay,
    check: Option<SnapshotCheck>,
    name: String,
    id: MemberId,
    /// Entries up to this index are in the state that the replay begins with.
    after: u64,
    /// The entry of the new snapshot.
    commit: u64,
    /// Entries from this index on are written.
    write_from: u64,
    /// Index and term of the last entry that was replayed.
    last: (u64, u64),
    out: Option<MigrationOutput<D>>,
}

impl<'a, D: Disk> Migration<'a, D> {
    fn plan(
        disk: &'a D,
        data_dir: &'a Path,
        options: &'a Options,
        source: &mut Source,
        start: ReplayStart,
        mut survey: Survey,
    ) -> Result<Migration<'a, D>, MigrateError> {
        let conf = source.conf.as_ref();
        let evidence = identity::Evidence {
            given: options.name.as_deref(),
            info: source.info.as_ref(),
            conf,
            standby: source.standby.as_ref(),
        };
        let name = identity::find(evidence, &mut survey)?;
        survey.registry.check_urls()?;
        let last = survey.last.max(start.after);
        // The first entry is always committed: the first member of a cluster commits it alone.
        let conf_commit = conf.map_or(0, |conf| conf.commit_index);
        if conf_commit > last {
            survey.warnings.push(format!(
                "\"conf\" says that entry {conf_commit} is committed, but the log ends with entry {last}: another member may \
                 know the entries that are missing here"
            ));
        }
        if conf.is_none() {
            survey.warnings.push(
                "the file \"conf\" is missing: how much of the log is committed shows later".to_owned(),
            );
        }
        let known = conf_commit
            .max(start.after)
            .max(1)
            .max(start.check.as_ref().map_or(0, |check| check.index))
            .min(last);
        let commit = survey.commit_from(known, &name);
        let Some(url) = survey.address(&name, commit) else {
            let problem = "no entry tells it".to_owned();
            return Err(MigrateError::Url { name, url: String::new(), problem });
        };
        let machine = Machine { peer_url: url.to_owned(), client_url: String::new() };
        survey.lost.splice(0..0, source.lost.drain(..));
        Ok(Migration {
            disk,
            data_dir,
            options,
            name,
            id: machine.id(),
            after: start.after,
            commit,
            write_from: if start.after == 0 { 1 } else { commit + 1 },
            last: (start.after, start.term),
            survey,
            replay: start.replay,
            check: start.check,
            out: None,
        })
    }

    fn run(&mut self, progress: &mut dyn Progress) -> Result<(), MigrateError> {
        progress.begin(self.survey.entries, self.survey.bytes);
        if !self.options.dry_run {
            let metadata = pb::Metadata { node_id: self.id.0, cluster_id: CLUSTER_ID };
            self.out = Some(MigrationOutput::create(self.disk, self.data_dir, metadata)?);
        }
        if self.commit == self.after {
            self.snapshot()?;
        }
        self.entries(progress)?;
        let Some(mut out) = self.out.take() else { return Ok(()) };
        out.state(pb::HardState { term: self.last.1 + TERM_OFFSET, vote: 0, commit: self.commit });
        out.finish()
    }

    /// Replays and writes the entries.
    fn entries(&mut self, progress: &mut dyn Progress) -> Result<(), MigrateError> {
        let path = log_path(self.data_dir);
        if self.survey.entries == 0 {
            return Ok(());
        }
        let mut reader = Reader::new(self.disk.open(&path, Open::Read)?)?;
        if reader.len() != self.survey.bytes {
            return Err(MigrateError::Changed(path));
        }
        let mut counter = ProgressCounter::new(progress);
        loop {
            let entry = match reader.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(LogError::Damaged { .. }) if self.options.salvage => {
                    // The survey has reported it.
                    reader.skip_damage()?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            counter.entry(reader.offset());
            if entry.index <= self.after {
                self.check_term(&entry);
                continue;
            }
            // Lost entries become empty ones, so that the indexes stay.
            for index in self.last.0 + 1..entry.index {
                self.entry(index, self.last.1, &Command::Nop)?;
            }
            match Command::decode(&entry.name, &entry.command) {
                Ok(command) => self.entry(entry.index, entry.term, &command)?,
                Err(error) if self.options.salvage => {
                    let (from, to) = (entry.offset, reader.offset());
                    let indexes = Some((entry.index, entry.index));
                    let problem = error.to_string();
                    self.survey.lost.push(Loss { file: path.clone(), from, to, indexes, problem });
                    self.entry(entry.index, entry.term, &Command::Nop)?;
                }
                Err(error) => return Err(command_error(&path, entry.offset, entry.index, error)),
            }
        }
        counter.report(reader.offset());
        Ok(())
    }

    /// Replays and writes one entry.
    fn entry(&mut self, index: u64, term: u64, command: &Command<'_>) -> Result<(), MigrateError> {
        let Converted { kind, data } = self.replay.apply(command);
        if let Some(out) = &mut self.out
            && index >= self.write_from
        {
            out.append(kind, term + TERM_OFFSET, index, data)?;
        }
        self.last = (index, term);
        if let Some(check) = self.check.take_if(|check| check.index == index) {
            self.compare(check);
        }
        if index == self.commit {
            self.snapshot()?;
        }
        Ok(())
    }

    /// Stores the state after the last entry.
    fn snapshot(&mut self) -> Result<(), MigrateError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let (index, term) = self.last;
        let at = pb::WalSnapshot { index, term: term + TERM_OFFSET };
        let image = self.replay.image();
        out.snapshot(at, self.replay.ids(), |file| image.write_json(file))
    }

    /// Compares a snapshot with the replayed state at its entry.
    fn compare(&mut self, mut check: SnapshotCheck) {
        let mut mine = self.replay.old_image();
        mine.remove_node(b"/1/_etcd");
        check.image.remove_node(b"/1/_etcd");
        let difference = mine.first_difference(&check.image, b"/1");
        let indexes = (mine.index(), check.image.index());
        if let Some(path) = &difference {
            self.survey.warnings.push(format!(
                "{} has something else at {} than the log says; the log was taken",
                check.file.display(),
                String::from_utf8_lossy(path.strip_prefix(b"/1").unwrap_or(path))
            ));
        } else if indexes.0 != indexes.1 {
            self.survey.warnings.push(format!(
                "{} has the etcd index {}, the log comes to {}; the log was taken",
                check.file.display(),
                indexes.1,
                indexes.0
            ));
        }
    }

    /// Checks that the log's entry at the snapshot's index has the snapshot's term.
    fn check_term(&mut self, entry: &LogEntry) {
        if (entry.index, entry.term) != (self.after, self.last.1) && entry.index == self.after {
            self.survey.warnings.push(format!(
                "the snapshot ends with entry {} of term {}, the log has it with term {}: they may be of two clusters",
                entry.index, self.last.1, entry.term
            ));
        }
    }

    fn report(self) -> Result<Report, MigrateError> {
        let Migration { survey, replay, .. } = self;
        let mut image = replay.image();
        image.remove_node(b"/1/_etcd");
        let count_nodes = image.count_nodes(b"/1");
        let mut warnings = survey.warnings;
        if replay.clamped() > 0 {
            warnings.push(format!(
                "{} expirations after April 2262 were brought forward to then: 2.x knows no later time",
                replay.clamped()
            ));
        }
        if replay.has_0_1_expirations() {
            warnings.push(
                "etcd 0.1 did not write down when keys expired: those whose time has come go when the new server starts"
                    .to_owned(),
            );
        }
        if survey.soles.iter().any(|(index, _)| *index > self.commit) {
            warnings.push(format!(
                "the members changed after entry {}, and this directory does not know that it is committed: bring this \
                 member up to date before migrating, or start it after the others",
                self.commit
            ));
        }
        let member = |(name, machine): (&String, &Machine)| ReportMember {
            name: name.clone(),
            id: machine.id(),
            peer_url: machine.peer_url.clone(),
        };
        Ok(Report {
            data_dir: self.data_dir.to_owned(),
            already: None,
            dry_run: self.options.dry_run,
            original: false,
            name: self.name,
            member_id: self.id,
            members: replay.registry().machines().iter().map(member).collect(),
            keys: count_nodes.keys,
            directories: count_nodes.directories,
            expiring: count_nodes.expiring,
            entries: survey.entries,
            first_index: survey.first,
            last_index: self.last.0,
            commit_index: self.commit,
            store_index: replay.index(),
            warnings,
            lost: survey.lost,
        })
    }
}

//! Makes the data directory of an etcd 0.1, 0.2 or 0.4 member that of a 2.x member.
//!
//! The log is replayed as the 0.x server did it. The result is a snapshot of exactly that state, and a log whose
//! entries keep their raft indexes and are converted to requests of 2.x. So the members of a cluster can be migrated
//! one by one on their machines, although their logs begin at different entries and their snapshots differ, and still
//! agree.
//!
//! - `survey` reads the log once: whether it is complete, its members, which of them this one is, the commit index.
//! - `registry` and `legacy_replay` apply each entry as 0.x did and convert it into an entry of 2.x. Pure.
//! - `engine` reads and writes: new files are written to `member.migrating`, which becomes `member` by one rename.
//! - `tree` replays without writing, for etcd-dump.
//! - `original` converts byte for byte as etcd-migrate 2.0.13 did.
//!
//! **Invariants.** The old files are never opened for writing. Memory holds the tree of keys, not the log. Every
//! member converts equal entries to equal bytes.

mod engine;
mod error;
mod identity;
mod legacy_replay;
mod original;
mod output;
mod progress_counter;
mod registry;
mod report;
mod source;
mod survey;
mod tree;

use std::path::Path;

use shared::disk::Disk;

pub use error::{MigrateError, NameProblem};
pub use report::{AlreadyMigrated, Loss, Report, ReportMember};
pub use tree::{Tree, TreeMember, tree};

/// The options of a migration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The member's name. Without it, or if no member has it, the name is derived from the directory if possible.
    pub name: Option<String>,
    /// Convert byte for byte as etcd-migrate 2.0.13 did, including what that loses.
    pub original: bool,
    /// Convert everything readable of a damaged directory, and list what is lost.
    pub salvage: bool,
    /// Do everything but write.
    pub dry_run: bool,
}

/// Receives the progress of a migration.
pub trait Progress {
    /// The total work: the log's entries and bytes.
    fn begin(&mut self, entries: u64, bytes: u64);
    /// Entries and bytes done since the last call.
    fn advance(&mut self, entries: u64, bytes: u64);
    /// The migration has ended, with or without success.
    fn end(&mut self);
}

/// Ignores the progress.
impl Progress for () {
    fn begin(&mut self, _entries: u64, _bytes: u64) {}
    fn advance(&mut self, _entries: u64, _bytes: u64) {}
    fn end(&mut self) {}
}

/// Migrates `data_dir`: writes `data_dir/member` and leaves everything else as it is.
///
/// A directory that already has `member` is not changed, see [`Report::already`]. The unfinished files of an earlier
/// run are removed. After an error, or a crash, there is no `member`, and the next run starts over.
///
/// # Errors
/// If there is nothing to migrate, something is damaged (see [`Options::salvage`]), the member's name is not known,
/// or the disk fails.
pub fn migrate<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, MigrateError> {
    engine::migrate(disk, data_dir, options, progress)
}

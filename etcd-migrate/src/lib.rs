//! Makes the data directory of an etcd 0.1, 0.2 or 0.4 member that of a 2.x member.
//!
//! The log is replayed as the 0.x server did it. What comes out is a snapshot of exactly that state, and a log whose
//! entries keep their raft indexes and say in 2.x's terms what they did: so the members of a cluster can be
//! migrated one by one on their machines, each with another start of its log and other snapshots, and agree.
//!
//! - `survey` reads the log once: is it whole, who are the members, who is this one, how far is it committed.
//! - `registry` and `legacy_replay` apply each entry as 0.x did and convert it into an entry of 2.x. Pure.
//! - `engine` reads and writes: all that is new goes to `member.migrating`, which becomes `member` by one rename.
//! - `tree` replays and writes nothing, for etcd-dump.
//! - `original` converts byte for byte as etcd-migrate 2.0.13 did.
//!
//! **Invariants.** The old files are never opened for writing. Memory holds the tree of keys, not the log. Of equal
//! entries every member makes equal bytes.

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

/// What the caller may choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The member's name. Without it, or if no such member is known, it is found out where that is possible.
    pub name: Option<String>,
    /// Convert byte for byte as etcd-migrate 2.0.13 did, with all that gets lost by it.
    pub original: bool,
    /// Take all that can be read of a damaged directory, and list what is lost.
    pub salvage: bool,
    /// Do everything but write.
    pub dry_run: bool,
}

/// Hears how far a migration has come.
pub trait Progress {
    /// The work ahead: the log's entries and bytes.
    fn begin(&mut self, entries: u64, bytes: u64);
    /// So much more of it is done.
    fn advance(&mut self, entries: u64, bytes: u64);
    /// All is done, or nothing more will be.
    fn end(&mut self);
}

/// Nobody listens.
impl Progress for () {
    fn begin(&mut self, _entries: u64, _bytes: u64) {}
    fn advance(&mut self, _entries: u64, _bytes: u64) {}
    fn end(&mut self) {}
}

/// Migrates `data_dir`: writes `data_dir/member` and leaves everything else as it is.
///
/// A directory that has it already is left alone, see [`Report::already`]. What an earlier try left unfinished is
/// removed. After an error, or a crash, there is no `member`, and the next try begins anew.
///
/// # Errors
/// Where there is nothing to migrate, where something is damaged (see [`Options::salvage`]), where the member's
/// name cannot be found out, and where the disk fails.
pub fn migrate<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, MigrateError> {
    engine::migrate(disk, data_dir, options, progress)
}

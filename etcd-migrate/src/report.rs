//! The result of a migration.

use std::fmt;
use std::path::PathBuf;

use shared::id::MemberId;

/// What a migration did, or, with [`Options::dry_run`](crate::Options::dry_run), would do. Prints as lines for the
/// operator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The directory.
    pub data_dir: PathBuf,
    /// Set if the directory was already migrated and nothing was done; then the other fields are empty.
    pub already: Option<AlreadyMigrated>,
    /// Whether it was a dry run, which writes nothing.
    pub dry_run: bool,
    /// Whether the conversion is that of etcd-migrate 2.0.13. Then keys, directories and TTLs are not counted: only a
    /// server that replays the log has them.
    pub original: bool,
    /// The member's name.
    pub name: String,
    /// The member's id in 2.x.
    pub member_id: MemberId,
    /// The members in the new snapshot.
    pub members: Vec<ReportMember>,
    /// Keys, at the last entry.
    pub keys: u64,
    /// Directories, at the last entry.
    pub directories: u64,
    /// Of both, those that expire.
    pub expiring: u64,
    /// How many entries were converted.
    pub entries: u64,
    /// The index of the first entry of the old log, 0 if it has none.
    pub first_index: u64,
    /// The index of the last entry.
    pub last_index: u64,
    /// Up to here the log is known to be committed; the new snapshot is of this entry.
    pub commit_index: u64,
    /// The store's index at the last entry, `X-Etcd-Index`.
    pub store_index: u64,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What was lost of a damaged directory.
    pub lost: Vec<Loss>,
}

/// Why a directory counts as already migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlreadyMigrated {
    /// It has `member`, of a 2.x server or of an earlier migration.
    Member,
    /// It has `member` with the database of the v3 API: a newer etcd than 2.x was started on it.
    Newer,
    /// It has `snap` and `wal`, of etcd-migrate 2.0 or of an etcd 2.0.
    Layout20,
}

/// A member in a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportMember {
    /// Its name.
    pub name: String,
    /// Its id in 2.x.
    pub id: MemberId,
    /// Where other members reach it; empty after a conversion as etcd-migrate 2.0.13 did it.
    pub peer_url: String,
}

/// A piece of a damaged directory that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The file.
    pub file: PathBuf,
    /// The first byte of it.
    pub from: u64,
    /// The byte after it; 0 if the whole file is lost or missing.
    pub to: u64,
    /// The first and the last index of the lost entries, if known.
    pub indexes: Option<(u64, u64)>,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.to > self.from {
            write!(f, ", bytes {} to {}", self.from, self.to)?;
        }
        match self.indexes {
            Some((first, last)) if first == last => write!(f, ", entry {first}")?,
            Some((first, last)) => write!(f, ", entries {first} to {last}")?,
            None => {}
        }
        write!(f, ": {}", self.problem)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_dir = self.data_dir.display();
        match self.already {
            Some(AlreadyMigrated::Member) => {
                return write!(
                    f,
                    "{data_dir} is migrated already: it has the folder \"member\"; nothing was done"
                );
            }
            Some(AlreadyMigrated::Newer) => {
                return write!(
                    f,
                    "{data_dir} is the data directory of an etcd with the v3 API (\"member/snap/db\"); nothing was done"
                );
            }
            Some(AlreadyMigrated::Layout20) => {
                return write!(
                    f,
                    "{data_dir} is migrated already: it has the folders \"snap\" and \"wal\" of etcd 2.0, which the \
                     server takes over when it starts; nothing was done"
                );
            }
            None => {}
        }
        writeln!(f, "member       {} ({})", self.name, self.member_id)?;
        writeln!(
            f,
            "cluster      {} member{}",
            self.members.len(),
            if self.members.len() == 1 { "" } else { "s" }
        )?;
        for member in &self.members {
            write!(f, "             {} ({})", member.name, member.id)?;
            match member.peer_url.as_str() {
                "" => writeln!(f)?,
                url => writeln!(f, " at {url}")?,
            }
        }
        match self.entries {
            0 => writeln!(f, "log          no entries after the snapshot")?,
            entries => {
                writeln!(f, "log          {entries} entries, {} to {}", self.first_index, self.last_index)?
            }
        }
        writeln!(f, "committed    up to entry {}", self.commit_index)?;
        if !self.original {
            writeln!(f, "keys         {}", self.keys)?;
            writeln!(f, "directories  {}", self.directories)?;
            writeln!(f, "TTLs         {}", self.expiring)?;
            writeln!(f, "etcd index   {}", self.store_index)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning      {warning}")?;
        }
        for loss in &self.lost {
            writeln!(f, "lost         {loss}")?;
        }
        if self.dry_run {
            write!(f, "{data_dir} can be migrated; nothing was written")
        } else {
            write!(
                f,
                "{data_dir} is migrated: the new files are in \"member\", the old ones are as they were"
            )
        }
    }
}

//! Why a directory is not migrated, and what to do next.

use std::fmt;
use std::path::PathBuf;

use shared::disk::DiskError;
use shared::legacy::{CommandError, FileError, LogError, SnapshotError};
use shared::snap::SnapError;
use shared::store::RecoverError;
use shared::wal::WalError;

/// Why a directory is not migrated. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The system refused an operation.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log is damaged.
    #[error("{0}; with --salvage all that is readable is taken and what is lost is listed")]
    Log(LogError),
    /// The newest snapshot is damaged.
    #[error("{error}; {advice}")]
    Snapshot {
        /// What is wrong.
        error: SnapshotError,
        /// What can be done about it.
        advice: &'static str,
    },
    /// The store in a snapshot is damaged.
    #[error("the store in {} is damaged: {error}; with --salvage it is left out", file.display())]
    Store {
        /// The snapshot.
        file: PathBuf,
        /// What is wrong.
        error: RecoverError,
    },
    /// One of the small files is damaged.
    #[error("{0}; with --salvage it is left out")]
    File(FileError),
    /// An entry holds a command that cannot be read.
    #[error("{} at byte {offset}: entry {index}: {error}; with --salvage the entry is left out", file.display())]
    Command {
        /// The log.
        file: PathBuf,
        /// Where the entry begins.
        offset: u64,
        /// The entry's index.
        index: u64,
        /// What is wrong.
        error: CommandError,
    },
    /// There is no such directory.
    #[error("{} is no directory; give the data directory of the old member", .0.display())]
    NoDirectory(PathBuf),
    /// There are no files of etcd 0.x, or only empty ones.
    #[error("{} holds no data of etcd 0.1 to 0.4: expected a file \"log\" with entries, or snapshots", .0.display())]
    Nothing(PathBuf),
    /// The log is empty or gone, though there were entries.
    #[error(
        "{} has no entries and no snapshot left, though \"conf\" says that entry {commit} is committed: the log is empty \
         or missing. Take another member's directory, or a backup",
        data_dir.display()
    )]
    Emptied {
        /// The directory.
        data_dir: PathBuf,
        /// Up to which entry the log was committed.
        commit: u64,
    },
    /// The directory is that of a standby.
    #[error(
        "{} belongs to a standby, which holds no data of the cluster: start the 2.x server on it, which \
         makes a proxy of it, or remove it and add a new member", .0.display()
    )]
    Standby(PathBuf),
    /// Something else stands where the new directory belongs.
    #[error("{} is in the way, and is no member's directory: move it away and try again", .0.display())]
    InTheWay(PathBuf),
    /// Another process is migrating the directory.
    #[error("another process is migrating {}: wait until it is done", .0.display())]
    Busy(PathBuf),
    /// The log grew or shrank between the two passes.
    #[error("{} changed while it was read: stop the old server, then try again", .0.display())]
    Changed(PathBuf),
    /// The log begins after the first entry that is needed.
    #[error("{} begins with entry {first}, but {before}; {advice}", file.display())]
    Gap {
        /// The log.
        file: PathBuf,
        /// Its first index.
        first: u64,
        /// What is there of the entries before.
        before: String,
        /// What can be done about it.
        advice: &'static str,
    },
    /// The name of the member that owns the directory is not known.
    #[error("{0}")]
    Name(NameProblem),
    /// The member was removed from its cluster.
    #[error(
        "member {name} was removed from its cluster by entry {index}: migrate the directories of the members that \
         are left, then add this machine as a new member with an empty directory"
    )]
    Removed {
        /// Its name.
        name: String,
        /// The entry.
        index: u64,
    },
    /// 2.x cannot use a member's address.
    #[error(
        "member {name} has the peer URL {url:?}: {problem}; a log with it could never have worked. Another member's \
         directory may be better"
    )]
    Url {
        /// The member's name.
        name: String,
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The new log could not be written.
    #[error("writing the new log: {0}")]
    Wal(WalError),
    /// The new snapshot could not be written.
    #[error("writing the new snapshot: {0}")]
    Snap(SnapError),
    /// A refusal of etcd-migrate 2.0.13.
    #[error("etcd-migrate 2.0.13 refuses this directory: {0}; without --original it may be migrated")]
    Original(String),
}

/// Why the member's name cannot be found out. Prints what is known and how to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameProblem {
    /// The name that was given, if any.
    pub given: Option<String>,
    /// The names that it may be, with peer URLs.
    pub candidates: Vec<(String, String)>,
    /// The names in `conf`: those of the other members.
    pub others: Vec<String>,
    /// Whether there is a `conf`.
    pub has_conf: bool,
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(given) => {
                write!(f, "no member is named {given:?}, and the directory's member is not known: ")?
            }
            None => write!(f, "the directory's member is not known: ")?,
        }
        if self.candidates.is_empty() {
            write!(f, "log and snapshots name no member")?;
        } else {
            write!(f, "log and snapshots name ")?;
            for (at, (name, url)) in self.candidates.iter().enumerate() {
                write!(f, "{}{name} ({url})", if at == 0 { "" } else { ", " })?;
            }
        }
        if !self.has_conf {
            write!(f, "; the file \"conf\", which would name the others, is missing")?;
        } else if !self.others.is_empty() {
            write!(f, "; \"conf\" names as the others {}", self.others.join(", "))?;
        }
        write!(
            f,
            ". Give --name: it is what the old server was started with (-name, ETCD_NAME or \"name\" in etcd.conf), \
             else the host's name; the member with this machine's address is the one"
        )
    }
}

impl From<LogError> for MigrateError {
    fn from(error: LogError) -> MigrateError {
        match error {
            LogError::Disk(error) => MigrateError::Disk(error),
            damaged @ LogError::Damaged { .. } => MigrateError::Log(damaged),
        }
    }
}

impl From<FileError> for MigrateError {
    fn from(error: FileError) -> MigrateError {
        match error {
            FileError::Disk(error) => MigrateError::Disk(error),
            damaged @ FileError::Damaged { .. } => MigrateError::File(damaged),
        }
    }
}

impl From<WalError> for MigrateError {
    fn from(error: WalError) -> MigrateError {
        MigrateError::Wal(error)
    }
}

impl From<SnapError> for MigrateError {
    fn from(error: SnapError) -> MigrateError {
        MigrateError::Snap(error)
    }
}

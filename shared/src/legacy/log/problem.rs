//! Errors of a log, with the position and what was expected.

use std::fmt;
use std::path::PathBuf;

use super::HEAD_BYTES;
use crate::disk::DiskError;

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryProblem {
    /// The length is not valid.
    Length([u8; HEAD_BYTES]),
    /// The length and the fields contradict each other.
    Fields {
        /// The length that stands before them.
        length: u64,
    },
    /// Not the fields of an entry.
    Encoding,
    /// Not the index that follows the one before.
    Index {
        /// The index that must come.
        wanted: u64,
        /// The index that stands there.
        found: u64,
    },
    /// A lower term than that of the entry before.
    Term {
        /// The term of the entry before.
        before: u64,
        /// The term that stands there.
        found: u64,
    },
    /// The bytes end too early: the file has become shorter.
    Shorter,
}

impl fmt::Display for EntryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryProblem::Length(found) => write!(
                f,
                "expected the length of an entry (8 hexadecimal digits and a newline), found \"{}\"",
                found.escape_ascii()
            ),
            EntryProblem::Fields { length } => {
                write!(
                    f,
                    "expected an entry of {length} bytes, as it says, but its fields have another length"
                )
            }
            EntryProblem::Encoding => {
                write!(f, "expected an entry (index, term, name and text of a command), found other bytes")
            }
            EntryProblem::Index { wanted, found } => {
                write!(f, "expected entry {wanted}, found entry {found}")
            }
            EntryProblem::Term { before, found } => {
                write!(f, "expected an entry of term {before} or later, found one of term {found}")
            }
            EntryProblem::Shorter => {
                write!(f, "expected more bytes: the file has become shorter while it was read")
            }
        }
    }
}

/// Why the next entry of a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The bytes could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// They are damaged.
    #[error("{} is damaged at byte {offset}: {problem}", file.display())]
    Damaged {
        /// The log.
        file: PathBuf,
        /// Where the bad entry begins.
        offset: u64,
        /// What is wrong with it.
        problem: EntryProblem,
    },
}

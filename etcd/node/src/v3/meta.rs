//! What the database says about itself: the last entry that is in it, and whether this version can continue it.

use bytes::Bytes;
use shared::lease::RecordError;
use shared::mvcc::Failure;
use shared::mvcc::db::{Bucket, Committed, Database};
use shared::version::Level;

use super::name;
use crate::machine::Position;

const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
/// The voters, since 3.5.
pub(super) const VOTERS: &[u8] = b"confState";
const AUTH_ENABLED: &[u8] = b"authEnabled";

/// Why a database cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error("the database cannot be read: {0}")]
    Database(String),
    /// A value has a form that no version writes.
    #[error("the database has no {what} at {key:?} of the bucket {bucket:?}")]
    Form {
        /// The bucket.
        bucket: &'static str,
        /// The key, in letters.
        key: String,
        /// What is expected there.
        what: &'static str,
    },
    /// A lease cannot be read.
    #[error("the database has a lease that cannot be read: {0}")]
    Lease(#[from] RecordError),
    /// Auth is on, which this version cannot check.
    #[error(
        "auth of version 3 is on in this directory, and this version cannot check it: start it with the etcd that wrote \
         it, or turn auth off there first (etcdctl auth disable)"
    )]
    Auth,
}

impl OpenError {
    pub(super) fn store<E: std::error::Error + 'static>(failure: Failure<E>) -> OpenError {
        OpenError::Database(failure.to_string())
    }

    pub(super) fn database(error: impl std::error::Error) -> OpenError {
        OpenError::Database(error.to_string())
    }

    pub(super) fn form(bucket: Bucket, key: &[u8], what: &'static str) -> OpenError {
        OpenError::Form { bucket: name(bucket), key: key.escape_ascii().to_string(), what }
    }
}

/// The last entry whose effects a database has; zeros for a new one.
///
/// # Errors
/// If it cannot be read.
pub fn position<C: Committed>(committed: &C) -> Result<Position, OpenError> {
    Ok(Position {
        index: number(committed, CONSISTENT_INDEX)?.unwrap_or(0),
        term: number(committed, TERM)?.unwrap_or(0),
    })
}

fn number<C: Committed>(committed: &C, key: &[u8]) -> Result<Option<u64>, OpenError> {
    let value = committed.get(Bucket::Meta, key).map_err(OpenError::database)?;
    let number = |bytes: Bytes| bytes[..].try_into().map(u64::from_be_bytes);
    value.map(number).transpose().map_err(|_| OpenError::form(Bucket::Meta, key, "number of eight bytes"))
}

/// Whether a database has the voters of its cluster, as those of 3.5 have.
///
/// # Errors
/// If it cannot be read.
pub fn has_voters<C: Committed>(committed: &C) -> Result<bool, OpenError> {
    Ok(committed.get(Bucket::Meta, VOTERS).map_err(OpenError::database)?.is_some())
}

/// Records the last entry; 3.4 does not know the term.
pub(super) fn put_position<C: Committed>(database: &mut Database<C>, at: Position, level: Level) {
    let bytes = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    database.put(Bucket::Meta, CONSISTENT_INDEX, bytes(at.index));
    if level >= Level::V3_5 {
        database.put(Bucket::Meta, TERM, bytes(at.term));
    }
}

/// Refuses a database whose users and roles would not be respected.
pub(super) fn check_auth<C: Committed>(database: &Database<C>) -> Result<(), OpenError> {
    let enabled = database.view().get(Bucket::Auth, AUTH_ENABLED).map_err(OpenError::database)?;
    if enabled.is_some_and(|value| value[..] != [0]) { Err(OpenError::Auth) } else { Ok(()) }
}

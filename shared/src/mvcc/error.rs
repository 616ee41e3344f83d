//! Why a request was refused, and why the store cannot go on.

use std::error;

use super::revision::Revision;

/// Why a request is refused: the client's doing, and the same on every member. The display is the text that clients
/// see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// A request without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// There is no such key, or an operation of a transaction says nothing.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value`, and a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease`, and a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction has more operations than allowed, or is nested too deep.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    /// A transaction puts a key twice, or puts one that it deletes.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// Neither an order nor a target of sorting has that number.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The revision has been compacted. What the compact revision is.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted(i64),
    /// The revision is yet to come. What the current one is.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision(i64),
}

impl Error {
    /// The text that clients see.
    pub fn text(self) -> &'static str {
        match self {
            Error::EmptyKey => "etcdserver: key is not provided",
            Error::KeyNotFound => "etcdserver: key not found",
            Error::ValueProvided => "etcdserver: value is provided",
            Error::LeaseProvided => "etcdserver: lease is provided",
            Error::TooManyOperations => "etcdserver: too many operations in txn request",
            Error::DuplicateKey => "etcdserver: duplicate key given in txn request",
            Error::InvalidSortOption => "etcdserver: invalid sort option",
            Error::LeaseNotFound => "etcdserver: requested lease not found",
            Error::Compacted(_) => "etcdserver: mvcc: required revision has been compacted",
            Error::FutureRevision(_) => "etcdserver: mvcc: required revision is a future revision",
        }
    }

    /// The gRPC status code.
    pub fn code(self) -> i32 {
        match self {
            Error::LeaseNotFound => 5,
            Error::Compacted(_) | Error::FutureRevision(_) => 11,
            _ => 3,
        }
    }
}

/// Why an operation did not succeed. After anything but a refusal the store must not be used any more.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E: error::Error + 'static> {
    /// The request was refused and had no effect.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The committed state of the database could not be read.
    #[error("the database cannot be read: {0}")]
    Database(#[source] E),
    /// The database lacks a record that the index knows, or has one that is none.
    #[error("the record of revision {0} is missing or damaged")]
    Corrupt(Revision),
    /// A key of bucket `key` or a mark in bucket `meta` is not a revision.
    #[error("bucket {bucket}: {key:?} is not a revision")]
    NotARevision {
        /// Where it is.
        bucket: &'static str,
        /// What is there.
        key: Vec<u8>,
    },
}

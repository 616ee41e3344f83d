//! Errors that stop a member.

use node::v3::StateError;
use shared::bolt::BoltError;
use shared::snap::SnapError;
use shared::wal::WalError;

/// An error that stops the member: it could no longer keep acknowledged data.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fatal {
    /// The log cannot be written, or is no longer where it was.
    #[error(transparent)]
    Log(#[from] WalError),
    /// A snapshot cannot be saved.
    #[error(transparent)]
    Snapshot(#[from] SnapError),
    /// The database cannot be written.
    #[error(transparent)]
    Database(#[from] BoltError),
    /// The database cannot be read, or an entry cannot be applied.
    #[error(transparent)]
    State(#[from] StateError),
    /// A part of the program has panicked.
    #[error("{0} panicked")]
    Panicked(&'static str),
}

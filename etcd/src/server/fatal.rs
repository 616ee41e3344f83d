//! Errors that stop a member.

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
    /// A part of the program has panicked.
    #[error("{0} panicked")]
    Panicked(&'static str),
}

//! What a member cannot go on after.

use shared::snap::SnapError;
use shared::wal::WalError;

/// An error that ends the member: it cannot keep what it has promised to keep.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fatal {
    /// The log cannot be written, or is no longer where it was.
    #[error(transparent)]
    Log(#[from] WalError),
    /// A snapshot cannot be saved.
    #[error(transparent)]
    Snapshot(#[from] SnapError),
    /// A part of the program has come to an end that it should not have.
    #[error("{0} panicked")]
    Panicked(&'static str),
}

//! The errors of a run. `main` alone converts them to exit statuses, and `output` alone prints them.

use std::io;

use shared::client::ClientError;

/// The error of a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// An unknown flag, or one with an invalid value.
    #[error("{reason}")]
    Usage {
        /// What is wrong with the command line.
        reason: String,
        /// The help of the command.
        help: String,
    },
    /// There is no such command; this was already printed.
    #[error("no such command")]
    NoTopic,
    /// There is no such output format. The command itself was carried out.
    #[error("unsupported output format: {0}")]
    Format(String),
    /// An argument is missing.
    #[error("{0}")]
    BadArguments(&'static str),
    /// No member could be reached.
    #[error("{0}")]
    Unreachable(#[source] ClientError),
    /// The cluster refused, or the answer is not that of a cluster.
    #[error("{0}")]
    Server(#[source] ClientError),
    /// The members publish no client URLs.
    #[error("{error}")]
    Unpublished {
        /// The endpoints that were queried.
        endpoints: Vec<String>,
        /// The error of the call.
        #[source]
        error: ClientError,
    },
    /// Any other error, as a text.
    #[error("{0}")]
    Failed(String),
    /// The failure was already printed.
    #[error("failed, as printed above")]
    Printed,
    /// The cluster is unhealthy; the details were already printed.
    #[error("the cluster is unhealthy")]
    Unhealthy,
    /// A lock was lost; this was already printed.
    #[error("the lock was lost")]
    LockLost,
    /// The exit status of the command that ran, or of the signal that ended this run.
    #[error("ended with status {0}")]
    Status(u8),
    /// Standard output cannot be written.
    #[error("write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// An error with the text of another one.
    pub(crate) fn failed(error: impl ToString) -> CliError {
        CliError::Failed(error.to_string())
    }
}

//! How a run can fail. `main` alone makes an exit status of it, and `output` alone prints it.

use std::io;

use shared::client::ClientError;

/// Why a run ends without what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A flag that is not known, or whose value is none.
    #[error("{reason}")]
    Usage {
        /// What is wrong with the command line.
        reason: String,
        /// The help of the command.
        help: String,
    },
    /// There is no such command; that has been printed.
    #[error("no such command")]
    NoTopic,
    /// The format of the answer does not exist. The command itself was carried out.
    #[error("unsupported output format: {0}")]
    Format(String),
    /// An argument is missing.
    #[error("{0}")]
    BadArguments(&'static str),
    /// Nobody could be reached.
    #[error("{0}")]
    Unreachable(#[source] ClientError),
    /// The cluster answered with a refusal, or not as a cluster does.
    #[error("{0}")]
    Server(#[source] ClientError),
    /// The members do not say how clients reach them.
    #[error("{error}")]
    Unpublished {
        /// The endpoints that were asked.
        endpoints: Vec<String>,
        /// What the call failed with.
        #[source]
        error: ClientError,
    },
    /// Anything that is told in one line.
    #[error("{0}")]
    Failed(String),
    /// What failed has been printed.
    #[error("failed, as told above")]
    Printed,
    /// The cluster is not well; which members are not has been printed.
    #[error("the cluster is unhealthy")]
    Unhealthy,
    /// A lock was lost; it has been told.
    #[error("the lock was lost")]
    LockLost,
    /// What ran for us, or the signal that ended us, has chosen the status.
    #[error("ended with status {0}")]
    Status(u8),
    /// Standard output cannot be written.
    #[error("write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// A failure that is told by its own text.
    pub(crate) fn failed(error: impl ToString) -> CliError {
        CliError::Failed(error.to_string())
    }
}

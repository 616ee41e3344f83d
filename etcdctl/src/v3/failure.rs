//! The errors of a run, with their exit statuses.

use shared::client::v3::RpcError;

use crate::error::CliError;

/// The error of a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A wrong flag.
    #[error("{reason}")]
    Usage {
        /// What is wrong.
        reason: String,
        /// The help of the command.
        help: String,
    },
    /// There is no such command.
    #[error("{0}")]
    UnknownCommand(String),
    /// A flag is given, and its variable too.
    #[error("both --{flag} and {variable} are given: leave one of them out")]
    Both {
        /// The flag.
        flag: String,
        /// The variable.
        variable: String,
    },
    /// Any other error with its exit status.
    #[error("{text}")]
    Told {
        /// The exit status.
        status: u8,
        /// What is wrong.
        text: String,
    },
    /// The exit status is all that is left to say.
    #[error("ended with status {0}")]
    Status(u8),
    /// Standard output cannot be written, or a password not be read.
    #[error(transparent)]
    Output(#[from] CliError),
}

impl Failure {
    fn told(status: u8, text: impl ToString) -> Failure {
        Failure::Told { status, text: text.to_string() }
    }

    /// The server refused, or the time was over.
    pub(crate) fn server(text: impl ToString) -> Failure {
        Failure::told(1, text)
    }

    /// There is no connection, or no right to have one.
    pub(crate) fn connection(text: impl ToString) -> Failure {
        Failure::told(2, text)
    }

    /// What came from standard input is not valid.
    pub(crate) fn input(text: impl ToString) -> Failure {
        Failure::told(3, text)
    }

    /// The value of a flag, or a format, is not supported.
    pub(crate) fn feature(text: impl ToString) -> Failure {
        Failure::told(4, text)
    }

    /// Something ended that should go on.
    pub(crate) fn interrupted(text: impl ToString) -> Failure {
        Failure::told(5, text)
    }

    /// The arguments are wrong.
    pub(crate) fn arguments(text: impl ToString) -> Failure {
        Failure::told(128, text)
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Usage { .. } | Failure::UnknownCommand(_) | Failure::Both { .. } => 1,
            Failure::Told { status, .. } | Failure::Status(status) => *status,
            // A closed pipe is not a failure.
            Failure::Output(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Failure::Output(_) => 1,
        }
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Failure {
        Failure::server(error)
    }
}

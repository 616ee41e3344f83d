//! Command lines: flags and operands in any order, help, and usage errors.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use shared::flags::{FlagError, FlagSet, Values};

/// The program or one of its sub-commands.
pub(crate) struct Command {
    /// Its flags. The name is that of the program and the sub-command: `etcd-dump doctor`.
    pub(crate) flags: FlagSet,
    /// Runs the command. A [`UsageError`] gives the exit status 2, any other error 1.
    pub(crate) run: fn(&CommandLine) -> anyhow::Result<ExitCode>,
}

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct CommandLine {
    /// The flags.
    pub(crate) values: Values,
    /// The other words.
    pub(crate) operands: Vec<String>,
}

/// A command line that is not valid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error("which directory? Give the data directory of a member")]
    NoDirectory,
    #[error("one word is too many: {0:?}")]
    TooMany(String),
    #[error("-{0} and -{1} exclude each other")]
    Both(&'static str, &'static str),
    #[error("{0}")]
    Other(String),
}

impl Command {
    /// Reads the words behind the command's name. Operands may stand before, between and after flags.
    ///
    /// # Errors
    /// [`FlagError::Help`] if the user wants the help, else the usage error.
    pub(crate) fn read(&self, words: impl IntoIterator<Item = OsString>) -> Result<CommandLine, UsageError> {
        let mut words: Vec<OsString> = words.into_iter().collect();
        let mut operands: Vec<String> = Vec::new();
        loop {
            let values = self.flags.parse(words.iter().cloned())?;
            // By Go's rules flags end at the first operand: remove it and parse the words after it.
            let Some(operand) = values.rest().first() else { return Ok(CommandLine { values, operands }) };
            operands.push(operand.clone());
            let at = words.len() - values.rest().len();
            words.remove(at);
        }
    }
}

impl CommandLine {
    /// The only operand, a directory; or the value of the flag `-data-dir`.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, UsageError> {
        let flag = self.values.is_set("data-dir").then(|| self.values.text("data-dir"));
        let mut dirs =
            flag.into_iter().chain(self.operands.iter().map(String::as_str)).filter(|dir| !dir.is_empty());
        match (dirs.next(), dirs.next()) {
            (None, _) => Err(UsageError::NoDirectory),
            (Some(dir), None) => Ok(PathBuf::from(dir)),
            (Some(_), Some(other)) => Err(UsageError::TooMany(other.to_owned())),
        }
    }
}

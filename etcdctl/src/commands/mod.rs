//! The commands: each is a struct with its arguments, and a `run`.

pub(crate) mod auth;
mod backup;
pub(crate) mod backup_flags;
pub(crate) mod completion;
pub(crate) mod doctor;
pub(crate) mod exec_watch;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod lock;
pub(crate) mod make;
pub(crate) mod member;
pub(crate) mod remove;
pub(crate) mod replace;
pub(crate) mod set;
mod single_member;
pub(crate) mod upgrade;
pub(crate) mod watch;

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use shared::time::UnixNanos;

use crate::cli::Command;
use crate::error::CliError;
use crate::output::Output;
use crate::session::Session;

impl Command {
    /// Runs the command.
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self {
            Command::Get(command) => command.run(session).await,
            Command::Ls(command) => command.run(session).await,
            Command::Set(command) => command.run(session).await,
            Command::Mk(command) => command.run(session).await,
            Command::Update(command) => command.run(session).await,
            Command::Rm(command) => command.run(session).await,
            Command::Mkdir(command) => command.run(session).await,
            Command::Setdir(command) => command.run(session).await,
            Command::Updatedir(command) => command.run(session).await,
            Command::Rmdir(command) => command.run(session).await,
            Command::Watch(command) => command.run(session).await,
            Command::ExecWatch(command) => command.run(session).await,
            Command::Lock(command) => command.run(session).await,
            Command::Elect(command) => command.run(session).await,
            Command::Member(command) => command.run(session).await,
            Command::ClusterHealth(command) => command.run(session).await,
            Command::Doctor(command) => command.run(session).await,
            Command::Backup(command) => command.run(),
            Command::Import(command) => command.run(session).await,
            Command::User(command) => command.run(session).await,
            Command::Role(command) => command.run(session).await,
            Command::Auth(command) => command.run(session).await,
            Command::Upgrade(command) => command.run(session).await,
            Command::Completion(command) => command.run(session.out),
            Command::Man(command) => command.run(session.out),
        }
    }
}

/// The value of a key: the argument, or the whole standard input.
fn value_or_stdin(value: Option<OsString>) -> Result<Vec<u8>, CliError> {
    if let Some(value) = value {
        return Ok(value.into_vec());
    }
    let mut text = Vec::new();
    match io::stdin().read_to_end(&mut text) {
        Ok(bytes) if bytes > 0 => Ok(text),
        _ => Err(CliError::BadArguments("value required")),
    }
}

/// Seconds to live: a negative number means none, as 0 does.
fn ttl_seconds(ttl: i64) -> u64 {
    u64::try_from(ttl).unwrap_or(0)
}

/// Prints a failure on standard output, as the original does, and fails.
fn fail_with_line(out: &mut Output, line: &str) -> Result<(), CliError> {
    out.line(line)?;
    Err(CliError::Printed)
}

/// The present time.
#[expect(clippy::disallowed_methods, reason = "the clock of the commands; the rest is given the time")]
fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Runs `work` to its end, or until the user interrupts it, which is not a failure.
async fn until_interrupted(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::select! {
        // The signal first, so that its handler is installed before the work begins.
        biased;
        _ = tokio::signal::ctrl_c() => Ok(()),
        outcome = work => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_be_any_bytes() {
        let bytes = vec![b'a', 0xff, b'-'];
        assert_eq!(value_or_stdin(Some(OsString::from_vec(bytes.clone()))).unwrap(), bytes);
        assert_eq!(value_or_stdin(Some("".into())).unwrap(), b"");
    }

    #[test]
    fn no_time_to_live_is_negative() {
        assert_eq!([-1, 0, 5].map(ttl_seconds), [0, 0, 5]);
    }
}

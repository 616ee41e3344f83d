//! `lock` and `elect`: wait for the lock or the leadership, hold it, release it.

mod hold;
mod run;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use shared::client::{ClientError, LockError, Queue};

use self::hold::{LockRequest, Signals};
use super::now;
use crate::error::CliError;
use crate::session::Session;
use shared::go_values;

/// Hold a lock while a command runs
///
/// Waits until the lock is free and all who came before had it, runs the command, and releases the lock when the
/// command ends. Its exit status is that of the command. Without a command it prints the lock's index and holds the
/// lock until it is interrupted.
///
/// etcdctl lock /deploy ./deploy.sh --now
///
/// The lock lasts --ttl seconds and is renewed at every third of that. If etcdctl dies or loses the cluster, others
/// get the lock when that time is over. Before it is over, the command gets SIGTERM, then SIGKILL, and the status is
/// 6.
///
/// The command finds the lock's index in ETCD_LOCK_INDEX, and its key in ETCD_LOCK_KEY. Each holder's index is larger
/// than that of all holders before: send it along with what you write, and let the receiver refuse smaller ones. That
/// protects even from a holder that was stopped for so long that it does not know that its time is over.
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl lock [OPTIONS] <KEY> [COMMAND [ARGUMENTS]...]")]
pub(crate) struct Lock {
    /// Seconds after which the lock is free when it is no longer renewed, at least 2
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = go_values::integer)]
    ttl: i64,
    /// Give up after so many seconds if it is not our turn by then; 0: do not wait at all
    #[arg(long, value_name = "SECONDS", value_parser = go_values::integer)]
    wait: Option<i64>,
    /// The name of the lock, with slashes if you like; it is no key of /v2/keys
    key: OsString,
    /// What to run while the lock is held
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Become the leader of an election, and stay it
///
/// Waits until all who came before have left, prints the index of the leadership and stays the leader until it is
/// interrupted; or runs a command, for as long as it leads at most. With a name only, prints the present leader.
///
/// etcdctl elect /scheduler "$(hostname)" ./scheduler
///
/// Proposals must differ from each other: who proposes what another one proposes shares its place, and both lead. For
/// --ttl, signals, the exit status and the environment of the command see `etcdctl help lock`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl elect [OPTIONS] <NAME> [PROPOSAL [COMMAND [ARGUMENTS]...]]")]
pub(crate) struct Elect {
    /// Seconds after which another one leads when the leadership is no longer renewed, at least 2
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = go_values::integer)]
    ttl: i64,
    /// Give up after so many seconds if it is not our turn by then; 0: do not wait at all
    #[arg(long, value_name = "SECONDS", value_parser = go_values::integer)]
    wait: Option<i64>,
    /// The name of the election
    name: OsString,
    /// What all others see of the leader, such as its address
    proposal: Option<OsString>,
    /// What to run while leading
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Lock {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let request = LockRequest {
            queue: Queue::Lock(self.key.as_bytes().to_vec()),
            key: self.key,
            value: own_name(),
            ttl_seconds: ttl(self.ttl)?,
            wait_seconds: self.wait.map(super::ttl_seconds),
            command: command(self.command),
        };
        hold::hold(request, session).await
    }
}

impl Elect {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let queue = Queue::Leader(self.name.as_bytes().to_vec());
        let Some(proposal) = self.proposal else {
            let client = session.connect().await?;
            let leader = super::super::session::within(session.settings.total_timeout, async {
                client.first(&queue).await.map_err(into_client)
            });
            return match leader.await.map_err(CliError::Server)?.as_str() {
                "" => Err(CliError::Failed("there is no leader".to_owned())),
                leader => session.out.line(leader),
            };
        };
        if proposal.is_empty() {
            return Err(CliError::BadArguments("proposal required"));
        }
        let request = LockRequest {
            queue,
            key: self.name,
            value: proposal.into_vec(),
            ttl_seconds: ttl(self.ttl)?,
            wait_seconds: self.wait.map(super::ttl_seconds),
            command: command(self.command),
        };
        hold::hold(request, session).await
    }
}

/// Converts a lock error to a client error.
fn into_client(error: LockError) -> ClientError {
    match error {
        LockError::Client(error) => error,
        error => ClientError::Refused(error.to_string()),
    }
}

fn ttl(seconds: i64) -> Result<u64, CliError> {
    // With less there is no time for a second attempt.
    match u64::try_from(seconds) {
        Ok(seconds @ 2..) => Ok(seconds),
        _ => Err(CliError::Failed(format!("--ttl is {seconds} seconds: it must be 2 or more"))),
    }
}

/// The words of a command, without a leading `--`.
fn command(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.first().is_some_and(|word| word == "--") {
        words.remove(0);
    }
    words
}

/// A unique value that tells others where this run is.
fn own_name() -> Vec<u8> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}:{:x}", std::process::id(), now().0).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_stand_behind_two_dashes() {
        let words = |words: &[&str]| command(words.iter().map(OsString::from).collect());
        assert_eq!(words(&["--", "sh", "-c", "--"]), ["sh", "-c", "--"]);
        assert_eq!(words(&["sh", "--", "x"]), ["sh", "--", "x"]);
        assert!(words(&[]).is_empty());
    }

    #[test]
    fn no_two_runs_have_one_name() {
        assert_ne!(own_name(), own_name());
    }
}

//! The command that runs while a lock is held.

use std::io::{self, ErrorKind, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use super::Signals;
use super::hold::{HeldLock, LockRequest, status_of};
use crate::error::CliError;

/// How long a command may take to end when its lock is already lost.
const GRACE: Duration = Duration::from_secs(1);

/// Why a command did not run to its end.
pub(super) enum RunError {
    /// The lock was lost; the command is ended.
    Lost(String),
    /// It could not be started: the exit status, and why.
    Start(u8, String),
    /// The system did not report how it ended.
    Wait(CliError),
}

/// Runs the command to its end, or until the lock is lost. Returns its status.
pub(super) async fn run(
    request: &LockRequest,
    held: &mut HeldLock<'_>,
    signals: &mut Signals,
) -> Result<Option<u8>, RunError> {
    let program = &request.command[0];
    let mut child = Command::new(program)
        .args(&request.command[1..])
        .env("ETCD_LOCK_KEY", &request.key)
        .env("ETCD_LOCK_INDEX", held.index.to_string())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            let status = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
            RunError::Start(status, format!("cannot run {}: {error}", program.to_string_lossy()))
        })?;
    let lost = loop {
        let id = child.id();
        tokio::select! {
            ended = child.wait() => return status(ended),
            signal = signals.next() => {
                // At a terminal the command receives Ctrl-C directly.
                if signal != Signal::INT || !io::stdin().is_terminal() {
                    send(id, signal);
                }
            }
            why = held.keep_renewed() => break why,
        }
    };
    // No other client can hold the lock before `until`; after it, another may.
    let now = Instant::now();
    end(&mut child, if held.until > now { held.until } else { now + GRACE }).await?;
    Err(RunError::Lost(lost))
}

/// Sends SIGTERM to the command, and SIGKILL at `deadline`.
async fn end(child: &mut Child, deadline: Instant) -> Result<(), RunError> {
    send(child.id(), Signal::TERM);
    if timeout_at(deadline, child.wait()).await.is_err() {
        child.kill().await.map_err(|error| RunError::Wait(CliError::failed(error)))?;
    }
    Ok(())
}

fn send(id: Option<u32>, signal: Signal) {
    // A process that has ended needs no signal.
    if let Some(pid) = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        let _ = kill_process(pid, signal);
    }
}

fn status(ended: io::Result<std::process::ExitStatus>) -> Result<Option<u8>, RunError> {
    let ended = ended.map_err(|error| RunError::Wait(CliError::failed(error)))?;
    let code = ended.code().map(|code| u8::try_from(code).unwrap_or(u8::MAX));
    Ok(Some(code.unwrap_or_else(|| status_of(ended.signal().unwrap_or_default()))))
}

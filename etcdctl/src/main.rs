//! The command-line client of the etcd v2 API.
//!
//! The steps of a run: [`command_line`] reorders the words, [`cli`] gives them types, [`settings`] joins flags and
//! environment, a command of [`commands`] works with the cluster through a [`session`], and [`output`] prints. This
//! file alone converts errors to exit statuses.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod command_line;
mod commands;
mod diagnosis;
mod error;
mod output;
mod password;
mod session;
mod settings;
mod suggest;
mod v3;

use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::ExitCode;

use crate::command_line::Invocation;
use crate::error::CliError;
use crate::output::Output;
use crate::session::Session;
use crate::settings::Settings;
use crate::v3::choice::{self, Choice};
use crate::v3::probe;

/// The version that `--version` prints, for scripts.
const VERSION: &str = "2.3.8";

fn main() -> ExitCode {
    shared::disk::report_size_limit();
    let mut out = Output::new();
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let api = env::var_os("ETCDCTL_API");
    let variables = env::vars_os().map(|(name, _)| name);
    let is_v3 = match choice::choose(&words, api.as_deref(), variables) {
        Choice::V2 => false,
        Choice::V3 => true,
        Choice::Either => is_v3_by_cluster(&words),
    };
    if is_v3 {
        return v3::main(words, &mut out);
    }
    let mut hints = Vec::new();
    let done = run(words, &mut out, &mut hints).and_then(|()| out.flush());
    let Err(error) = done else { return ExitCode::SUCCESS };
    let status = exit_status(&error);
    // If the error cannot be printed, the exit status remains.
    let _ = out.failure(&error);
    for hint in hints {
        output::note(&format!("{hint}\n"));
    }
    ExitCode::from(status)
}

/// Asks the cluster which API a command is for that both have.
fn is_v3_by_cluster(words: &[OsString]) -> bool {
    // What version 2 cannot read, such as a global flag behind the command, is of version 3.
    let Ok(Invocation::Run(cli)) = command_line::read(words.to_vec()) else { return true };
    let settings = Settings::new(cli.global);
    if settings.discovery.is_some() {
        return false;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return false;
    };
    let choice = runtime.block_on(probe::probe(&settings));
    runtime.shutdown_background();
    choice == Choice::V3
}

/// Runs the command line. On a failure, adds hints to `hints`.
fn run(words: Vec<OsString>, out: &mut Output, hints: &mut Vec<String>) -> Result<(), CliError> {
    match command_line::read(words)? {
        Invocation::Help(text) => out.text(&text),
        Invocation::Version => out.line(&format!("etcdctl version {VERSION}")),
        Invocation::NoTopic(name, meant) => {
            out.line(&format!("No help topic for '{name}'"))?;
            meant.map_or(Ok(()), |meant| out.note(&format!("{meant}\n")))?;
            Err(CliError::NoTopic)
        }
        Invocation::Run(cli) => {
            for warning in suggest::about_variables(env::vars_os().map(|(name, _)| name)) {
                out.note(&format!("{warning}\n"))?;
            }
            let settings = Settings::new(cli.global);
            let Some(command) = cli.command else { return Ok(()) };
            // One thread: a run does one thing at a time, and some scripts start it many times a second.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
            let outcome = runtime.block_on(async {
                let mut session =
                    Session { settings: &settings, out, endpoints_answered: false, scheme_differs: false };
                let outcome = command.run(&mut session).await;
                if let Err(error) = &outcome {
                    hints.extend(
                        diagnosis::diagnose(
                            &settings,
                            error,
                            session.endpoints_answered,
                            session.scheme_differs,
                        )
                        .await,
                    );
                }
                outcome
            });
            // Do not wait for a pending name lookup.
            runtime.shutdown_background();
            outcome
        }
    }
}

fn exit_status(error: &CliError) -> u8 {
    match error {
        CliError::BadArguments(_) | CliError::Failed(_) | CliError::Printed => 1,
        CliError::Usage { .. } | CliError::NoTopic | CliError::Format(_) | CliError::Unreachable(_) => 2,
        CliError::Server(_) | CliError::Unpublished { .. } => 4,
        CliError::Unhealthy => 5,
        CliError::LockLost => 6,
        CliError::Status(status) => *status,
        // A closed pipe is not a failure.
        CliError::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
        CliError::Output(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use shared::client::ClientError;

    use super::*;

    #[test]
    fn each_failure_has_the_originals_status() {
        let usage = CliError::Usage { reason: String::new(), help: String::new() };
        for (error, status) in [
            (CliError::BadArguments("key required"), 1),
            (CliError::Failed(String::new()), 1),
            (CliError::Printed, 1),
            (usage, 2),
            (CliError::NoTopic, 2),
            (CliError::Format("yaml".to_owned()), 2),
            (CliError::Unreachable(ClientError::DeadlineExceeded), 2),
            (CliError::Server(ClientError::DeadlineExceeded), 4),
            (CliError::Unpublished { endpoints: vec![], error: ClientError::NoEndpoints }, 4),
            (CliError::Unhealthy, 5),
            (CliError::LockLost, 6),
            (CliError::Status(42), 42),
            (CliError::Output(ErrorKind::BrokenPipe.into()), 0),
            (CliError::Output(ErrorKind::StorageFull.into()), 1),
        ] {
            assert_eq!(exit_status(&error), status, "{error:?}");
        }
    }
}

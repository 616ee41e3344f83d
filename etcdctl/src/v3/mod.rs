//! The commands of the v3 API.
//!
//! [`table`] has every command and flag once; [`words`] reads a command line by them, [`help`] and [`documents`] describe
//! them. [`settings`] joins flags and environment, a command of [`commands`] calls the cluster through a [`run`]'s
//! session, and [`print`] prints the answer in the chosen form. [`choice`] decides whether a command line is one of
//! version 3 or of version 2.

pub(crate) mod choice;
mod commands;
mod definition;
mod documents;
mod failure;
mod help;
mod numbers;
mod print;
pub(crate) mod probe;
mod run;
mod settings;
mod table;
mod words;

use std::ffi::OsString;
use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use self::definition::{Action, Command};
use self::failure::Failure;
use self::run::Run;
use self::words::Line;
use crate::output::{Output, note};

/// The version whose commands these are.
const VERSION: &str = "3.5.30";
/// The version of the API.
const API_VERSION: &str = "3.5";

/// Runs a command line without the program's name.
pub(crate) fn main(words: Vec<OsString>, out: &mut Output) -> ExitCode {
    let outcome = words::read(words).and_then(|line| run(&line, out)).and_then(|()| Ok(out.flush()?));
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    // If the error cannot be printed, the exit status remains.
    let _ = report(&failure, out);
    ExitCode::from(failure.status())
}

fn report(failure: &Failure, out: &mut Output) -> Result<(), Failure> {
    match failure {
        Failure::Usage { reason, help } => {
            out.text(help)?;
            out.note(&format!("Error: {reason}\n\nError: {reason}\n"))?;
        }
        Failure::UnknownCommand(reason) => {
            out.note(&format!("Error: {reason}\nRun 'etcdctl --help' for usage.\nError: {reason}\n"))?;
        }
        // Programs expect a log line here.
        Failure::Both { .. } if !stderr().is_terminal() => {
            out.note(&format!(
                "{{\"level\":\"fatal\",\"msg\":{}}}\n",
                shared::quote::quote(failure.to_string())
            ))?;
        }
        Failure::Told { .. } | Failure::Both { .. } => out.note(&format!("Error: {failure}\n"))?,
        Failure::Status(_) | Failure::Output(_) => out.flush()?,
    }
    Ok(())
}

fn run(line: &Line, out: &mut Output) -> Result<(), Failure> {
    let action = line.path.last().and_then(|command| command.action);
    let Some(action) = action.filter(|_| !line.flags.is_on(definition::HELP)) else {
        return Ok(out.text(&line.help())?);
    };
    match action {
        Action::Help => return help_for(line, out),
        Action::Version => {
            return Ok(out.text(&format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}\n"))?);
        }
        Action::Completion => {
            let shell = line.path.last().map_or("", |command| command.name);
            return Ok(out.text(&documents::completion(shell))?);
        }
        _ => {}
    }
    // One thread: a run does one thing at a time, and some scripts start it many times a second.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::server(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(commands::run(action, Run { line, out }));
    // Do not wait for a pending name lookup.
    runtime.shutdown_background();
    outcome
}

/// The help of the command that the arguments name.
fn help_for(line: &Line, out: &mut Output) -> Result<(), Failure> {
    let mut path: Vec<&'static Command> = Vec::new();
    for word in &line.arguments {
        let above = path.last().copied().unwrap_or(&table::ROOT);
        match word.to_str().and_then(|name| above.find(name)) {
            Some(command) => path.push(command),
            None if path.is_empty() => {
                note(&format!("Unknown help topic `{}`\n", word.to_string_lossy()));
                break;
            }
            None => break,
        }
    }
    Ok(out.text(&help::text(&path))?)
}

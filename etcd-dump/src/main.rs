//! `etcd-dump` shows what is in the data directory of a member, checks it, and salvages damaged ones.
//!
//! It only reads: it takes no lock, repairs nothing and may be used on a running member. Only `salvage` writes, into
//! a new directory.

#![warn(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;

mod bolt;
mod command_line;
mod doctor;
mod dump;
mod dump_flags;
mod entry;
mod export;
mod fields;
mod go_text;
mod lines;
mod log;
mod member_state;
mod members;
mod old;
mod overwrites;
mod paths;
mod raft_log;
mod salvage;
mod text;
mod tree;
mod verify;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use shared::flags::{FlagError, document};
use shared::suggest::closest;

use command_line::{Command, UsageError};

/// The sub-commands. A first word that is one of these is not a directory.
const COMMANDS: [(&str, &Command); 3] =
    [("export", &export::COMMAND), ("doctor", &doctor::COMMAND), ("salvage", &salvage::COMMAND)];

fn main() -> ExitCode {
    shared::disk::report_size_limit();
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(document_text) = document(
        &words,
        &[
            &dump_flags::COMMAND.flags,
            &export::COMMAND.flags,
            &doctor::COMMAND.flags,
            &salvage::COMMAND.flags,
        ],
    ) {
        return document_text
            .map_err(|error| UsageError::Flag(error).into())
            .and_then(|text| print(&text))
            .unwrap_or_else(|error| report_failure(&dump_flags::COMMAND, &error));
    }
    let named = words.first().and_then(|word| COMMANDS.iter().find(|(name, _)| *word == **name));
    let command = match named {
        Some((_, command)) => {
            words.remove(0);
            command
        }
        None => &dump_flags::COMMAND,
    };
    // A misspelt sub-command looks like a directory.
    let first = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let meant = match named {
        None if !Path::new(&first).exists() => closest(&first, COMMANDS.iter().map(|(name, _)| *name)),
        _ => None,
    };
    let result = match command.read(words) {
        Ok(line) => (command.run)(&line),
        Err(UsageError::Flag(FlagError::Help)) => print(&command.flags.help()),
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| {
        let status = report_failure(command, &error);
        if let Some(meant) = meant {
            note!("Did you mean '{} {meant}'?", dump_flags::COMMAND.flags.program);
        }
        status
    })
}

fn print(text: &str) -> Result<ExitCode> {
    output::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints an error and returns the exit status. A closed pipe (`| head`) is not a failure.
fn report_failure(command: &Command, error: &anyhow::Error) -> ExitCode {
    let program = command.flags.program;
    if let Some(error) = error.downcast_ref::<UsageError>() {
        let hint = match error {
            UsageError::Flag(error) => command.flags.hint(error),
            _ => None,
        };
        let hint = hint.map(|hint| format!("{hint}\n")).unwrap_or_default();
        note!("{program}: {error}\n{hint}Try '{program} --help'.");
        return ExitCode::from(2);
    }
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    note!("{program}: {error:#}");
    ExitCode::FAILURE
}

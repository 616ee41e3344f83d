//! `etcd-migrate`: makes the data directory of an etcd 0.x member that of a 2.x member.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod flags;
mod progress;

use std::io::{self, Write as _};
use std::process::ExitCode;

use shared::disk::{RealDisk, reason};

use flags::Invocation;
use progress::TerminalProgress;

fn main() -> ExitCode {
    shared::disk::report_size_limit();
    match flags::read(std::env::args_os().skip(1)) {
        Ok(Invocation::Text(text)) => print(&text),
        Ok(Invocation::Migrate(dir, options)) => {
            match etcd_migrate::migrate(&RealDisk, &dir, &options, &mut TerminalProgress::default()) {
                Ok(report) => print(&format!("{report}\n")),
                Err(error) => {
                    print_error(&format!("{} is not migrated: {error}", dir.display()));
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            let hint = flags::hint(&error).map(|hint| format!("{hint}\n")).unwrap_or_default();
            print_error(&format!("{error}\n{hint}Try 'etcd-migrate --help'."));
            ExitCode::from(2)
        }
    }
}

/// Prints a result. A closed pipe is not an error; a full disk is.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            print_error(&format!("write to standard output: {}", reason(&error)));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print_error(text: &str) {
    let _ = io::stderr().write_all(format!("etcd-migrate: {text}\n").as_bytes());
}

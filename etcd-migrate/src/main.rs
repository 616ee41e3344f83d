//! `etcd-migrate`: makes the data directory of an etcd 0.x member that of a 2.x member.

mod flags;
mod progress;

use std::io::{self, Write as _};
use std::process::ExitCode;

use shared::disk::RealDisk;

use flags::Request;
use progress::Bar;

fn main() -> ExitCode {
    match flags::read(std::env::args_os().skip(1)) {
        Ok(Request::Text(text)) => {
            show(&text);
            ExitCode::SUCCESS
        }
        Ok(Request::Migrate(dir, options)) => {
            match etcd_migrate::migrate(&RealDisk, &dir, &options, &mut Bar::default()) {
                Ok(report) => {
                    show(&format!("{report}\n"));
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    complain(&format!("{} is not migrated: {error}", dir.display()));
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            let hint = flags::hint(&error).map(|hint| format!("{hint}\n")).unwrap_or_default();
            complain(&format!("{error}\n{hint}Try 'etcd-migrate --help'."));
            ExitCode::from(2)
        }
    }
}

/// Whoever closed the pipe does not want to know.
fn show(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = io::stderr().write_all(format!("etcd-migrate: {text}\n").as_bytes());
}

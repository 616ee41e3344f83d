//! `etcd-dump` shows what is in the data directory of a member: its newest snapshot and the log after it.
//!
//! It only reads: it takes no lock, repairs nothing and may look at a running member.

mod flags;
mod go_text;
mod raft_log;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use flags::Request;

fn main() -> ExitCode {
    match flags::read(std::env::args_os().skip(1)) {
        Ok(Request::Help(text)) => finish(io::stdout().lock().write_all(text.as_bytes()).map_err(Into::into)),
        Ok(Request::Dump(what)) => {
            let mut out = BufWriter::new(io::stdout().lock());
            let dumped = raft_log::dump(&what, &mut out);
            // What could be read is shown even if the rest could not.
            let flushed = out.flush().map_err(Into::into);
            finish(dumped.and(flushed))
        }
        Err(error) => {
            eprintln!("etcd-dump: {error}\nTry 'etcd-dump --help'.");
            ExitCode::from(2)
        }
    }
}

/// 0 if all was shown, 1 if not. A reader that has seen enough (`| head`) is no failure.
fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("etcd-dump: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

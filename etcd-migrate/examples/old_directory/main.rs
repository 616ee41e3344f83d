//! Makes a directory of an etcd 0.4 member with a log of many entries, to measure migrations with.
//!
//! ```text
//! cargo run --release -p etcd-migrate --example old_directory -- DIR ENTRIES [KEYS]
//! ```

mod generate;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let (Some(dir), Some(entries)) = (words.first(), number(1)) else {
        eprintln!("usage: old_directory DIR ENTRIES [KEYS]");
        return ExitCode::from(2);
    };
    match generate::directory(&PathBuf::from(dir), entries, number(2).unwrap_or(100_000)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("old_directory: {error}");
            ExitCode::FAILURE
        }
    }
}

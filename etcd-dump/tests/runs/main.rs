//! Runs of the program itself, on directories that are made here and on a server that plays a part.

#![expect(clippy::unwrap_used, reason = "a run that cannot be made fails its test")]

mod damage;
mod directory;
mod doctor;
mod dump;
mod export;
mod odd_files;
mod old;
mod pipes;
mod salvage;
mod store;
mod verify;

use std::process::{Command, Output};

/// Runs the program; gives its status, standard output and standard error.
fn run(words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_etcd-dump")).args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The output of a run that finds nothing wrong.
fn good(words: &[&str]) -> String {
    let (status, out, error) = run(words);
    assert_eq!((status, error.as_str()), (0, ""), "{words:?}: {out}");
    out
}

//! Output that nobody reads, or that a disk has no room for.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::directory::{Directory, damage};

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-dump"));
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs that say something on standard error, with their statuses.
fn talkative(directory: &Directory) -> [(Vec<&str>, i32); 5] {
    let path = directory.path();
    [
        (vec!["export", path], 0),
        (vec!["--store", path], 0),
        (vec!["--nonsense"], 2),
        (vec!["salvge", path], 1),
        (vec!["doctor", "/nowhere/at/all"], 3),
    ]
}

#[test]
fn a_standard_error_that_nobody_reads_changes_nothing() {
    let directory = Directory::with_keys();
    let segment = directory.segments().remove(0);
    damage(&segment, |bytes| bytes.truncate(bytes.len() - 40));
    for (words, status) in talkative(&directory) {
        let expected = command(&words).output().unwrap();
        assert!(!expected.stderr.is_empty(), "{words:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let found = command(&words).stderr(writer).output().unwrap();
        assert_eq!(found.status.code(), Some(if words[0] == "salvge" { 2 } else { status }), "{words:?}");
        assert_eq!((found.stdout, found.status), (expected.stdout, expected.status), "{words:?}");
    }
}

#[test]
fn a_standard_output_that_nobody_reads_is_no_failure_and_a_full_disk_is_one() {
    let directory = Directory::with_keys();
    let path = directory.path();
    let scratch = tempfile::tempdir().unwrap();
    for words in [
        &["--help"][..],
        &["--man"],
        &["--completion", "bash"],
        &["export", "--help"],
        &[path],
        &["--store", path],
        &["--verify", path],
        &["export", path],
        &["export", path, "-o", "/dev/stdout"],
        &["doctor", path],
        &["salvage", path, scratch.path().join("one").to_str().unwrap()],
        &["salvage", path, scratch.path().join("two").to_str().unwrap()],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let found = command(words).stdout(writer).output().unwrap();
        assert!(found.status.code().is_some(), "{words:?}: {found:?}");
        assert_eq!(String::from_utf8(found.stderr).unwrap(), "", "{words:?}");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let found = command(words).stdout(full).output().unwrap();
        let said = String::from_utf8(found.stderr).unwrap();
        let is_again = words[0] == "salvage";
        assert!(found.status.code().is_some_and(|status| status > 0), "{words:?}: {said}");
        assert!(is_again || said.to_lowercase().contains("no space left"), "{words:?}: {said}");
    }
}

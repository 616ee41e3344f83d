//! Files of other kinds than regular ones: where an export goes to, and in the place of a member's files.

use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::directory::Directory;
use crate::{good, old, run};

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// A run that must end, whatever it says.
fn ends(words: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let said =
        |name: &str| std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join(name));
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcd-dump"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(said("said").unwrap())
        .stderr(said("said").unwrap())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{words:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    (status.code().unwrap(), std::fs::read_to_string(folder.path().join("said")).unwrap())
}

#[test]
fn an_export_is_written_into_what_is_no_regular_file() {
    let directory = Directory::with_keys();
    let path = directory.path();
    let wanted = good(&["export", path]);
    for out in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        assert_eq!(good(&["export", path, "-o", out]), wanted, "{out}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let text = |name: &str| file(name).to_str().unwrap().to_owned();
    symlink("/dev/null", file("null")).unwrap();
    good(&["export", path, "-o", &text("null")]);
    assert!(std::fs::metadata(file("null")).unwrap().file_type().is_char_device());
    assert!(std::fs::symlink_metadata(file("null")).unwrap().is_symlink());

    symlink("keys", file("link")).unwrap();
    for _ in 0..2 {
        good(&["export", path, "-o", &text("link")]);
        assert!(std::fs::symlink_metadata(file("link")).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(file("keys")).unwrap(), wanted);
    }

    fifo(&file("fifo"));
    let reader = std::thread::spawn({
        let fifo = file("fifo");
        move || std::fs::read_to_string(fifo).unwrap()
    });
    good(&["export", path, "-o", &text("fifo")]);
    assert_eq!(reader.join().unwrap(), wanted);
    assert!(std::fs::metadata(file("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "nothing else is left");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let directory = Directory::with_keys();
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (out, why) in [
        (folder.path().to_str().unwrap().to_owned(), "is a directory"),
        (inside("new/"), "is a directory"),
        (inside("none/keys"), "none/keys: no such file or directory"),
        ("/dev/full".to_owned(), "/dev/full: no space left"),
    ] {
        let (status, _, error) = run(&["export", directory.path(), "-o", &out]);
        assert!(status == 1 && error.contains(why), "{out}: {status}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_fifo_among_a_members_files_is_named_and_not_waited_for() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["wal/0000000000000001-0000000000000009.wal", "snap/0000000000000002-0000000000000008.snap"] {
        let directory = Directory::with_keys();
        let odd = directory.snap_dir().join("..").join(name);
        fifo(&odd);
        let bare = name.split('/').next_back().unwrap();
        let out = scratch.path().join(bare);
        for (words, status) in [
            (&[directory.path()][..], 1),
            (&["--format=full", directory.path()], i32::from(name.starts_with("wal"))),
            (&["--store", directory.path()], i32::from(name.starts_with("wal"))),
            (&["--verify", directory.path()], 1),
            (&["export", directory.path()], i32::from(name.starts_with("wal"))),
            (&["doctor", directory.path()], if name.starts_with("wal") { 3 } else { 1 }),
            (&["salvage", directory.path(), out.to_str().unwrap()], i32::from(name.starts_with("wal"))),
        ] {
            let (found, said) = ends(words);
            assert!(found == status && said.contains("it is a FIFO"), "{words:?}: {found}: {said}");
        }
    }
    // A link to a regular file is one.
    let directory = Directory::with_keys();
    let segment = directory.segments().remove(0);
    let elsewhere = scratch.path().join("elsewhere");
    std::fs::copy(&segment, &elsewhere).unwrap();
    std::fs::remove_file(&segment).unwrap();
    symlink(&elsewhere, &segment).unwrap();
    good(&["--verify", directory.path()]);
}

#[test]
fn a_fifo_in_the_place_of_a_log_of_0_x() {
    let (dir, log) = old::directory();
    std::fs::remove_file(&log).unwrap();
    fifo(&log);
    let path = dir.path().to_str().unwrap();
    for words in [&[path][..], &["--store", path], &["--verify", path], &["export", path]] {
        let (status, said) = ends(words);
        assert!(status == 1 && said.contains("it is a FIFO"), "{words:?}: {said}");
    }
}

#[test]
fn a_log_of_0_x_that_is_empty_is_told() {
    let (dir, log) = old::directory();
    let path = dir.path().to_str().unwrap();
    crate::directory::damage(&log, Vec::clear);
    let (status, out, _) = run(&["--verify", path]);
    assert!(status == 1 && out.contains("the log is empty"), "{out}");
    let (status, _, error) = run(&["export", path]);
    assert!(status == 1 && error.contains("entry 6 is committed"), "{error}");
}

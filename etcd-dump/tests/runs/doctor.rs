//! `etcd-dump doctor` as a program.

use serde_json::Value;

use crate::directory::{Directory, damage, find};
use crate::{good, run};

#[test]
fn keys_are_found_and_named() {
    let old = Directory::with_keys();
    let (status, text, error) = run(&["doctor", old.path()]);
    assert_eq!((status, error.as_str()), (1, ""), "{text}");
    assert!(text.starts_with("There is v2 data: etcd 3.6 refuses to start on it.\n"), "{text}");
    assert!(
        text.contains("  /_hidden/b\n") && text.contains("  /ttl  until 2096-10-02T07:06:40.12Z\n"),
        "{text}"
    );
    let (status, text, _) = run(&["doctor", "--json", "-data-dir", old.path()]);
    let findings: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &findings["refused"], &findings["release"]), (1, &Value::Bool(true), &"2.x".into()));
    assert_eq!(findings["keys"].as_array().unwrap().len(), 5);
    assert_eq!((&findings["since"], &findings["log"]["v2Requests"]), (&3.into(), &5.into()));
}

#[test]
fn a_clean_directory_an_unreadable_one_and_nonsense() {
    let clean = Directory::new();
    let text = good(&["doctor", clean.path()]);
    assert!(text.starts_with("There is no v2 data that etcd 3.6 would refuse.\n"), "{text}");

    let old = Directory::with_keys();
    let segment = old.segments().remove(0);
    let at = find(&segment, b"p:255");
    damage(&segment, |bytes| bytes[at] ^= 1);
    let (status, text, _) = run(&["doctor", old.path()]);
    assert_eq!(status, 3, "{text}");
    assert!(text.contains("Not read to the end: walpb: crc mismatch"), "{text}");
    let (status, _, error) = run(&["doctor", "/nowhere/at/all"]);
    assert_eq!(status, 3);
    assert!(error.contains("there is no directory /nowhere/at/all"), "{error}");

    assert_eq!(run(&["doctor", segment.to_str().unwrap()]).0, 3, "not a directory");

    for words in [&["doctor"][..], &["doctor", old.path(), "x"], &["doctor", "--nope", old.path()]] {
        assert_eq!(run(words).0, 2, "{words:?}");
    }
    assert!(good(&["doctor", "--help"]).contains("exit status"));
}

#[test]
fn an_empty_log_is_no_clean_bill() {
    for bytes in [Vec::new(), vec![0; 512]] {
        let mut made = Directory::with_keys();
        made.snapshot(2, 8, SNAPSHOT);
        let segment = made.segments().remove(0);
        damage(&segment, |old| old.clone_from(&bytes));
        let name = segment.file_name().unwrap().to_str().unwrap();
        let (status, text, _) = run(&["doctor", made.path()]);
        assert!(status == 3 && text.contains(name) && text.contains("/kept"), "{status}: {text}");
        let (status, text, _) = run(&["doctor", "--json", made.path()]);
        let findings: Value = serde_json::from_str(&text).unwrap();
        assert!(status == 3 && findings["unreadable"].as_str().unwrap().contains(name), "{status}: {text}");
        // No other view takes it for a good one either.
        let (status, text, _) = run(&["--verify", made.path()]);
        assert!(status == 1 && text.contains(name), "{text}");
        let (status, text, error) = run(&["export", made.path()]);
        assert!(
            status == 1 && error.contains("is not complete") && !text.contains("\"end\""),
            "{text}{error}"
        );
        let out = tempfile::tempdir().unwrap();
        let (status, text, _) = run(&["salvage", made.path(), out.path().join("new").to_str().unwrap()]);
        assert!(status == 1 && text.contains("no record is in its"), "{status}: {text}");
    }
}

#[test]
fn what_the_system_refuses_is_not_an_absent_directory() {
    let made = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("member", made.path().join("member")).unwrap();
    let path = made.path().to_str().unwrap();
    let out = made.path().join("../new").to_str().unwrap().to_owned();
    for (words, status) in [
        (&["doctor", path][..], 3),
        (&["--verify", path], 1),
        (&["--store", path], 1),
        (&["export", path], 1),
        (&["salvage", path, &out], 1),
    ] {
        let (found, _, error) = run(words);
        assert!(found == status && error.contains("symbolic links"), "{words:?}: {found}: {error}");
    }
}

#[test]
fn snapshots_without_a_log() {
    let mut made = Directory::new();
    made.snapshot(2, 8, SNAPSHOT);
    std::fs::remove_dir_all(made.segments()[0].parent().unwrap()).unwrap();
    let (status, _, error) = run(&["doctor", made.path()]);
    assert!(status == 3 && error.contains("there is no log in") && error.contains("member/wal"), "{error}");
    let (status, _, error) = run(&["--verify", made.path()]);
    assert!(status == 1 && error.contains("it has snapshots"), "{error}");
}

const SNAPSHOT: &str = "{\"Root\":{\"Path\":\"/\",\"Children\":{\"1\":{\"Path\":\"/1\",\"Children\":{\"kept\":{\"Path\":\
                        \"/1/kept\",\"Value\":\"x\",\"CreatedIndex\":3,\"ModifiedIndex\":3}}}}},\"CurrentIndex\":7}";

//! `etcd-dump salvage` as a program: its words, its report and its status.

use std::path::Path;

use serde_json::Value;

use crate::directory::{Directory, damage, find, put, state};
use crate::{good, run};

/// A place for the new directory; nothing is there.
fn out(scratch: &Path) -> String {
    scratch.join("new.etcd").to_str().unwrap().to_owned()
}

#[test]
fn a_good_directory_is_whole_and_the_same() {
    let old = Directory::with_keys();
    let scratch = tempfile::tempdir().unwrap();
    let out = out(scratch.path());
    let text = good(&["salvage", old.path(), &out]);
    assert!(text.starts_with(&format!("{out} holds what was readable of {}:\n", old.path())), "{text}");
    assert!(text.contains("  entries    1 to 8 (8)\n"), "{text}");
    assert!(text.contains("  keys       4 in 1 directories, index 7\n"), "{text}");
    assert!(text.contains("\nmissing: nothing, as far as the files tell\n"), "{text}");
    assert_eq!(good(&["--store", &out]), good(&["--store", old.path()]));
    good(&["--verify", &out]);
    assert_eq!(good(&["export", &out]), good(&["export", old.path()]));
}

#[test]
fn what_is_missing_is_named() {
    let old = Directory::with_keys();
    let segment = old.segments().remove(0);
    let at = find(&segment, b"vvvv");
    damage(&segment, |bytes| bytes[at] ^= 1);
    let scratch = tempfile::tempdir().unwrap();
    let out = out(scratch.path());
    let (status, text, error) = run(&["salvage", old.path(), &out, "--json"]);
    assert_eq!((status, error.as_str()), (1, ""), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["whole"], &report["out"]), (&Value::Bool(false), &Value::String(out.clone())));
    assert_eq!((&report["result"]["lastIndex"], &report["result"]["keys"]), (&4.into(), &1.into()));
    assert_eq!(
        (&report["missing"][0]["fromIndex"], &report["missing"][1]["toIndex"]),
        (&5.into(), &8.into())
    );
    assert_eq!(report["files"][0]["damage"][0]["what"], "walpb: crc mismatch");
    assert!(good(&["--store", &out]).contains("\"/1/a\" = \"1\""));
}

#[test]
fn a_newer_snapshot_stands_for_damaged_entries() {
    let mut old = Directory::with_keys();
    let body = r#"{"Root":{"Path":"/","Children":{"1":{"Children":{"b":{"Value":"c","CreatedIndex":3}}}}},"CurrentIndex":9}"#;
    old.snapshot(2, 8, body);
    old.append(&[put(2, 9, "/1/c", "d")], state(2, 9));
    let segment = old.segments().remove(0);
    let at = find(&segment, b"vvvv");
    damage(&segment, |bytes| bytes[at] ^= 1);
    let scratch = tempfile::tempdir().unwrap();
    let out = out(scratch.path());
    let text = good(&["salvage", old.path(), &out]);
    assert!(text.contains("walpb: crc mismatch") && text.contains("(index 8, term 2)"), "{text}");
    assert!(text.contains("  entries    9 to 9 (1)\n") && text.contains("  keys       2 in 0"), "{text}");
}

#[test]
fn nothing_and_nonsense() {
    let scratch = tempfile::tempdir().unwrap();
    let out = out(scratch.path());
    let old = Directory::with_keys();
    let first = old.segments().remove(0);
    damage(&first, Vec::clear);
    let (status, text, error) = run(&["salvage", old.path(), &out]);
    assert_eq!(status, 3, "{text}");
    assert!(text.starts_with("nothing could be salvaged"), "{text}");
    assert!(error.contains("no snapshot is good"), "{error}");
    assert!(!Path::new(&out).exists());
    let empty = scratch.path().to_str().unwrap();
    let (status, _, error) = run(&["salvage", empty, &out]);
    assert_eq!(status, 3, "{error}");

    let old = Directory::with_keys();
    let full = scratch.path().join("full");
    std::fs::create_dir_all(full.join("x")).unwrap();
    for words in [
        &["salvage"][..],
        &["salvage", old.path()],
        &["salvage", old.path(), &out, "third"],
        &["salvage", "--nope", old.path(), &out],
        &["salvage", &format!("{}/none", old.path()), &out],
        &["salvage", old.path(), full.to_str().unwrap()],
        &["salvage", old.path(), &format!("{}/within", old.path())],
    ] {
        let (status, text, error) = run(words);
        assert_eq!((status, text.as_str()), (2, ""), "{words:?}: {error}");
        assert!(error.starts_with("etcd-dump salvage: "), "{words:?}: {error}");
    }
    let help = good(&["salvage", "--help"]);
    assert!(help.contains("--json") && help.contains("--wal-dir") && help.contains("exit status"), "{help}");
}

#[test]
fn the_new_directory_may_have_any_name() {
    let old = Directory::with_keys();
    let scratch = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (dot, dots, target) = (folder("dot"), folder("dots"), folder("target"));
    std::os::unix::fs::symlink("target", scratch.path().join("link")).unwrap();
    for (place, name, made) in [
        (scratch.path(), "slash/", scratch.path().join("slash")),
        (scratch.path(), "more///", scratch.path().join("more")),
        (scratch.path(), "./deep/er/.", scratch.path().join("deep/er")),
        (&*dot, ".", dot.clone()),
        (&*dots, "./", dots.clone()),
        (scratch.path(), "link/", target.clone()),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_etcd-dump"))
            .args(["salvage", old.path(), name])
            .current_dir(place)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let names: Vec<_> = std::fs::read_dir(&made).unwrap().map(|name| name.unwrap().file_name()).collect();
        assert_eq!(names, ["member"], "{name}");
        let made = made.to_str().unwrap();
        assert_eq!(good(&["--store", made]), good(&["--store", old.path()]), "{name}");
    }
    // Nothing is written into the directory that is salvaged, by whatever way it is named.
    let inside = old.snap_dir();
    std::os::unix::fs::symlink(&inside, scratch.path().join("within")).unwrap();
    let (status, _, error) =
        run(&["salvage", old.path(), scratch.path().join("within/new").to_str().unwrap()]);
    assert!(status == 2 && error.contains("must not be written"), "{status}: {error}");
}

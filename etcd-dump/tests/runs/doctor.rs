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

    for words in [&["doctor"][..], &["doctor", old.path(), "x"], &["doctor", "--nope", old.path()]] {
        assert_eq!(run(words).0, 2, "{words:?}");
    }
    assert!(good(&["doctor", "--help"]).contains("exit status"));
}

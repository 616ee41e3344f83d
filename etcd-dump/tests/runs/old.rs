//! Directories of 0.x.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shared::legacy::log::encode;

use crate::directory::{Directory, damage, find};
use crate::{good, run};

const NEVER: &str = "\"expireTime\":\"0001-01-01T00:00:00Z\"";

fn join() -> String {
    r#"{"minVersion":2,"maxVersion":2,"name":"o1","raftURL":"http://a:1","etcdURL":"http://a:2"}"#.to_owned()
}

fn set(key: &str, value: &str) -> String {
    format!("{{\"key\":\"{key}\",\"value\":\"{value}\",{NEVER},\"dir\":false}}\n")
}

/// A member that was alone: entries 1 to 6.
pub(crate) fn directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let create = format!("{{\"key\":\"/q\",\"value\":\"first\",{NEVER},\"unique\":true,\"dir\":false}}\n");
    let mut bytes = Vec::new();
    for (index, name, command) in [
        (1, "etcd:join", Some(join())),
        (2, "raft:nop", None),
        (3, "etcd:set", Some(set("/a", "1"))),
        (4, "etcd:create", Some(create)),
        (5, "etcd:sync", Some("{\"time\":\"2026-11-21T08:05:09.5Z\"}\n".to_owned())),
        (6, "etcd:set", Some(set("/_hidden", "2"))),
    ] {
        encode(index, 0, name, command.as_deref().map(str::as_bytes), &mut bytes);
    }
    write(&log, &bytes);
    write(&dir.path().join("conf"), b"{\"commitIndex\":6,\"peers\":[]}");
    (dir, log)
}

#[expect(clippy::disallowed_methods, reason = "a test makes its files as it likes")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_log_is_shown_in_three_forms() {
    let (dir, _) = directory();
    let path = dir.path().to_str().unwrap();
    assert_eq!(
        good(&[path]),
        "Snapshot:\nempty\nStart dumping log entries from snapshot.\nConf:\ncommitIndex=6 peers=[]\n\
         Log entries:\nlastIndex=6\nterm\t     index\ttype\tdata\n   \
         0\t         1\tconf\tmethod=etcd:join name=\"o1\" peerURLs=\"http://a:1\"\n   \
         0\t         2\tnorm\t\n   \
         0\t         3\tnorm\tmethod=etcd:set path=\"/a\" val=\"1\"\n   \
         0\t         4\tnorm\tmethod=etcd:create path=\"/q\" val=\"first\"\n   \
         0\t         5\tnorm\tmethod=etcd:sync time=2026-11-21T08:05:09.5Z\n   \
         0\t         6\tnorm\tmethod=etcd:set path=\"/_hidden\" val=\"2\"\n"
    );
    assert_eq!(
        good(&["--format=full", "--from=3", "--to=4", path]),
        "conf commit=6 peers=\n\
         entry index=3 term=0 kind=request method=etcd:set path=\"/a\" value=\"1\"\n\
         entry index=4 term=0 kind=request method=etcd:create path=\"/q\" value=\"first\" unique=true\n"
    );
    let json = good(&["--format=json", path]);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["name"]), (7, &serde_json::json!("o1")));
}

#[test]
fn the_tree_is_that_of_0_x() {
    let (dir, _) = directory();
    let path = dir.path().to_str().unwrap();
    let out = good(&["--store", path]);
    assert!(out.starts_with("store index=4 entry=6 term=0\nmember member="), "{out}");
    assert!(out.contains(" name=\"o1\" peerURLs=\"http://a:1\" clientURLs=\"http://a:2\"\n"), "{out}");
    assert!(out.contains("\n\"/1/a\" = \"1\"\n\"/1/q\" (dir)\n\"/1/q/3\" = \"first\"\n"), "{out}");
    assert!(!good(&["--store", "--to=3", path]).contains("/1/q"));
    let export = good(&["export", path]);
    assert!(
        export.contains("{\"key\":\"/_hidden\",\"value\":\"2\",\"createdIndex\":4,\"modifiedIndex\":4}\n")
    );
    assert!(export.contains("{\"key\":\"/_etcd/machines/o1\","), "{export}");
    assert!(export.ends_with(",\"index\":4}}\n"), "{export}");
}

#[test]
fn flaws_are_found() {
    let (dir, log) = directory();
    let path = dir.path().to_str().unwrap();
    assert!(good(&["--verify", path]).ends_with("result good=true flaws=0\n"));
    let at = find(&log, b"\"value\":\"first\"");
    damage(&log, |bytes| bytes[at + 1] ^= 1);
    let (status, out, _) = run(&["--verify", path]);
    assert!(status == 1 && out.contains("check=entries flaw=\"entry 4: "), "{out}");
    // It is shown as it is, and the tree is made without it.
    assert!(good(&["--format=full", path]).contains("entry index=4 term=0 kind=unreadable"));
    let (status, out, error) = run(&["--store", path]);
    assert!(status == 1 && out.contains("/1/_hidden") && error.contains("entry 4 was left out"), "{error}");

    damage(&log, |bytes| bytes.truncate(at));
    let (status, out, error) = run(&[path]);
    assert!(status == 1 && out.contains("lastIndex=3") && error.contains("ends in a part"), "{error}");
    let (status, out, _) = run(&["--verify", path]);
    assert!(status == 1 && out.contains("check=files flaw=\"the log ends in a part"), "{out}");
    assert!(out.contains("check=states flaw=\"entry 6 is committed, the log ends at 3\""), "{out}");
}

#[test]
fn the_snapshot_is_used_where_the_log_does_not_reach() {
    let (dir, log) = directory();
    let path = dir.path().to_str().unwrap();
    let state = STANDARD.encode(
        r#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"",
           "Children":{"s":{"Path":"/s","CreatedIndex":9,"ModifiedIndex":9,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"",
           "Value":"snap","Children":null}}},"CurrentIndex":9,"CurrentVersion":2}"#,
    );
    let content = format!(r#"{{"lastIndex":7,"lastTerm":0,"peers":[],"state":"{state}","path":"x"}}"#);
    std::fs::create_dir(dir.path().join("snapshot")).unwrap();
    let file = dir.path().join("snapshot/0_7.ss");
    write(&file, format!("{:08x}\n{content}", crc32fast::hash(content.as_bytes())).as_bytes());
    // It holds more than the log, which ends before it.
    let out = good(&["--store", path]);
    assert!(out.starts_with("store index=9 entry=7") && out.contains("\"/1/s\" = \"snap\"\n"), "{out}");
    let out = good(&["--store", "--to=6", path]);
    assert!(out.contains("entry=6") && out.contains("/1/q/3") && !out.contains("/1/s"), "{out}");
    assert!(good(&[path]).starts_with("Snapshot:\nterm=0 index=7 nodes=[]\n"));
    // A broken one is not missed, as the log has all entries.
    damage(&file, |bytes| bytes[20] ^= 1);
    let (status, out, error) = run(&["export", path]);
    assert!(status == 0 && out.contains("/q/3") && error.contains("checksum"), "{error}");
    assert!(good(&["--format=full", path]).contains("snapshot file=\"0_7.ss\" flaw="));
    damage(&log, |bytes| bytes.truncate(20));
    assert_eq!(run(&["--verify", path]).0, 1);
}

#[test]
fn old_files_beside_new_ones_are_shown_when_asked_for() {
    let (old, _) = directory();
    let new = Directory::with_keys();
    let path = new.path();
    assert_eq!(run(&["--old", path]).0, 1);
    for name in ["log", "conf"] {
        std::fs::copy(old.path().join(name), Path::new(path).join(name)).unwrap();
    }
    assert!(good(&[path]).contains("ConfChangeAddNode"));
    assert!(good(&["--old", path]).contains("etcd:join"));
    assert!(good(&["export", "--old", path]).contains("\"/q/3\""));
}

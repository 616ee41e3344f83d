//! The log in its three forms.

use crate::directory::{Directory, damage, empty, find, of, put, request, state};
use crate::{good, run};

#[test]
fn the_text_is_that_of_etcd_dump_logs() {
    let directory = Directory::with_keys();
    let long = "v".repeat(128);
    assert_eq!(
        good(&[directory.path()]),
        format!(
            "Snapshot:\nempty\nStart dupmping log entries from snapshot.\n\
             WAL metadata:\nnodeID=ff clusterID=c1 term=2 commitIndex=8 vote=ff\n\
             WAL entries:\nlastIndex=8\nterm\t     index\ttype\tdata\n   \
             1\t         1\tconf\tmethod=ConfChangeAddNode id=ff\n   \
             2\t         2\tnorm\t\n   \
             2\t         3\tnorm\tmethod=PUT path=\"/0/members/ff/attributes\" \
             val=\"{{\\\"name\\\":\\\"one\\\",\\\"clientURLs\\\":[\\\"http://c:1\\\"]}}\"\n   \
             2\t         4\tnorm\tmethod=PUT path=\"/1/a\" val=\"1\"\n   \
             2\t         5\tnorm\tmethod=PUT path=\"/1/long\" val=\"{long}\"...\"\"\n   \
             2\t         6\tnorm\tmethod=PUT path=\"/1/_hidden/b\" val=\"\\xff\\x00\"\n   \
             2\t         7\tnorm\tmethod=PUT path=\"/1/ttl\" val=\"\"\n   \
             2\t         8\tnorm\tmethod=PUT path=\"/1/a\" val=\"2\"\n"
        )
    );
    let part = good(&["--from", "4", "--to", "4", directory.path()]);
    assert!(part.starts_with("Start dumping log entries from index 3.\n"), "{part}");
    assert!(part.contains("\nlastIndex=4\n"), "{part}");
    assert_eq!(part.lines().last(), Some("   2\t         4\tnorm\tmethod=PUT path=\"/1/a\" val=\"1\""));
    let whole = good(&["--values", "whole", "--from=5", "--to=5", directory.path()]);
    assert!(whole.ends_with(&format!("val=\"{}\"\n", "v".repeat(200))), "{whole}");
}

#[test]
fn the_full_form_shows_everything() {
    let mut directory = Directory::with_keys();
    let name = directory.snapshot(2, 8, "{}");
    directory.append(&[request(2, 9, of("DELETE", "/1/a"))], state(2, 9));
    let shown = good(&["--format", "full", directory.path()]);
    let long = "v".repeat(128);
    assert_eq!(
        shown,
        format!(
            "metadata member=ff cluster=c1\n\
             state term=2 vote=ff commit=9\n\
             snapshot file=\"{name}\" index=8 term=2 members=ff\n\
             mark index=0 term=0\n\
             entry index=1 term=1 kind=change change=add member=ff name=\"m255\" peerURLs=\"http://p:255\"\n\
             entry index=2 term=2 kind=empty\n\
             entry index=3 term=2 kind=request method=PUT path=\"/0/members/ff/attributes\" \
             value=\"{{\\\"name\\\":\\\"one\\\",\\\"clientURLs\\\":[\\\"http://c:1\\\"]}}\"\n\
             entry index=4 term=2 kind=request method=PUT path=\"/1/a\" value=\"1\"\n\
             entry index=5 term=2 kind=request method=PUT path=\"/1/long\" value=\"{long}\"... value_bytes=200\n\
             entry index=6 term=2 kind=request method=PUT path=\"/1/_hidden/b\" value=\"\\xff\\x00\"\n\
             entry index=7 term=2 kind=request method=PUT path=\"/1/ttl\" value=\"\" \
             expiration=2096-10-02T07:06:40.12Z\n\
             entry index=8 term=2 kind=request method=PUT path=\"/1/a\" value=\"2\" prevExist=true\n\
             mark index=8 term=2\n\
             entry index=9 term=2 kind=request method=DELETE path=\"/1/a\"\n"
        )
    );
    let after = good(&["--format", "full", "--after-snapshot", directory.path()]);
    let last: Vec<&str> = after.lines().filter(|line| line.starts_with("entry")).collect();
    assert_eq!(last, ["entry index=9 term=2 kind=request method=DELETE path=\"/1/a\""]);
}

#[test]
fn json_has_a_line_for_each_thing_and_loses_nothing() {
    let directory = Directory::with_keys();
    let shown = good(&["--format", "json", directory.path()]);
    let lines: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types[..3], ["metadata", "state", "mark"]);
    let entries = &lines[3..];
    let indexes: Vec<u64> = entries.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(entries[0]["peerURLs"], serde_json::json!(["http://p:255"]));
    assert_eq!(entries[4]["value"].as_str().unwrap().len(), 200);
    assert_eq!(entries[5]["value_base64"], "/wA=");
    let cut = good(&["--format", "json", "--values", "cut", "--from", "5", "--to", "5", directory.path()]);
    assert!(cut.contains(",\"value_bytes\":200"), "{cut}");
}

#[test]
fn what_was_overwritten_is_not_shown() {
    let mut directory = Directory::with_keys();
    directory.append(&[put(2, 9, "/1/x", "old"), put(2, 10, "/1/x", "old")], state(2, 8));
    directory.append(&[empty(3, 9), put(3, 10, "/1/x", "new"), put(3, 11, "/1/y", "new")], state(3, 8));
    directory.append(&[put(4, 11, "/1/y", "newer")], state(4, 11));
    let shown = good(&["--from", "9", directory.path()]);
    let entries: Vec<&str> = shown.lines().skip_while(|line| !line.starts_with("term\t")).skip(1).collect();
    assert_eq!(
        entries,
        [
            "   3\t         9\tnorm\t",
            "   3\t        10\tnorm\tmethod=PUT path=\"/1/x\" val=\"new\"",
            "   4\t        11\tnorm\tmethod=PUT path=\"/1/y\" val=\"newer\"",
        ]
    );
    let json = good(&["--format", "json", directory.path()]);
    assert!(!json.contains("old"), "{json}");
}

#[test]
fn a_leaders_snapshot_may_replace_entries() {
    let mut directory = Directory::with_keys();
    directory.snapshot(3, 100, "{}");
    directory.append(&[put(3, 101, "/1/z", "1")], state(3, 101));
    let shown = good(&[directory.path()]);
    assert!(shown.ends_with("\n   3\t       101\tnorm\tmethod=PUT path=\"/1/z\" val=\"1\"\n"), "{shown}");
    let full = good(&["--format", "full", directory.path()]);
    assert!(full.contains("\nentry index=8 "), "{full}");
    assert!(full.contains("\nmark index=100 term=3\nentry index=101 "), "{full}");
}

#[test]
fn many_segments_are_one_log() {
    let mut directory = Directory::with_keys();
    directory.wal().set_segment_bytes(300);
    for index in 9..60 {
        directory.append(&[put(2, index, "/1/x", "y")], state(2, index));
    }
    assert!(directory.segments().len() > 3);
    let full = good(&["--format", "full", directory.path()]);
    assert_eq!(full.lines().filter(|line| line.starts_with("entry ")).count(), 59);
    // Older ones are purged: what is left is shown.
    std::fs::remove_file(&directory.segments()[0]).unwrap();
    let full = good(&["--format", "full", directory.path()]);
    assert!(!full.contains("index=1 ") && full.contains("index=59 "), "{full}");
    let (status, _, error) = run(&[directory.path()]);
    assert_eq!(status, 1);
    assert!(error.contains("file not found"), "{error}");
    // One in the middle is no purge.
    std::fs::remove_file(&directory.segments()[1]).unwrap();
    let (status, full, error) = run(&["--format", "full", directory.path()]);
    assert!(status == 1 && full.contains("index=59 "), "{full}");
    assert!(error.contains("a segment is missing between"), "{error}");
}

#[test]
fn damage_is_told_after_what_stands_before_it() {
    let directory = Directory::with_keys();
    let segment = directory.segments().remove(0);
    let at = find(&segment, b"/1/_hidden/b");
    damage(&segment, |bytes| bytes[at] ^= 1);
    for form in ["text", "full", "json"] {
        let (status, out, error) = run(&["--format", form, directory.path()]);
        assert_eq!(status, 1);
        assert!(out.contains("/1/long") && !out.contains("/1/ttl"), "{out}");
        assert!(
            error.contains("walpb: crc mismatch") && error.contains(segment.to_str().unwrap()),
            "{error}"
        );
    }
    damage(&segment, |bytes| bytes.truncate(at));
    let (status, out, error) = run(&[directory.path()]);
    assert_eq!(status, 1);
    assert!(out.contains("lastIndex=5"), "{out}");
    assert!(error.contains("ends in a part of a record"), "{error}");
}

#[test]
fn broken_snapshots_are_passed_over() {
    let mut directory = Directory::with_keys();
    directory.snapshot(2, 4, "{\"Root\":{}}");
    let name = directory.snapshot(2, 8, "{\"Root\":{}}");
    damage(&directory.snap_dir().join(&name), |bytes| bytes[20] ^= 1);
    let (status, out, error) = run(&[directory.path()]);
    assert_eq!(status, 0, "{error}");
    assert!(out.starts_with("Snapshot:\nterm=2 index=4 nodes=[ff]\n"), "{out}");
    assert!(error.contains("passed over") && error.contains(&name), "{error}");
    let (status, out, _) = run(&["--start-snap", "0000000000000002-0000000000000004.snap", directory.path()]);
    assert_eq!(status, 0);
    assert!(out.contains("\nlastIndex=8\n") && !out.contains("/1/a\" val=\"1\""), "{out}");
}

#[test]
fn a_snapshot_of_a_later_entry_tells_that_some_are_lost() {
    let mut directory = Directory::with_keys();
    let name = directory.snapshot(2, 256, "{\"Root\":{}}");
    damage(&directory.snap_dir().join(name), |bytes| bytes[20] ^= 1);
    for words in [&["--store"][..], &["export"]] {
        let (status, out, error) = run(&[words, &[directory.path()]].concat());
        assert!(status == 1 && out.contains("/ttl"), "{words:?}: {out}");
        assert!(error.contains("a snapshot of entry 256"), "{error}");
    }
    assert_eq!(run(&["--store", "--to", "4", directory.path()]).0, 0);
}

#[test]
fn an_export_does_not_overwrite_what_it_reads() {
    let directory = Directory::with_keys();
    let wanted = good(&["export", directory.path()]);
    let log = directory.segments().remove(0);
    for out in [log.clone(), directory.snap_dir().join("new"), log.parent().unwrap().join("../wal/new")] {
        let (status, _, error) = run(&["export", directory.path(), "-o", out.to_str().unwrap()]);
        assert!(status == 2 && error.contains("must not be written"), "{}: {error}", out.display());
    }
    assert_eq!(good(&["export", directory.path()]), wanted);
}

#[test]
fn the_log_may_be_elsewhere() {
    let directory = Directory::with_keys();
    let elsewhere = tempfile::tempdir().unwrap();
    let wal = elsewhere.path().join("log");
    let wanted = good(&[directory.path()]);
    let export = good(&["export", directory.path()]);
    std::fs::create_dir(&wal).unwrap();
    for segment in directory.segments() {
        std::fs::copy(&segment, wal.join(segment.file_name().unwrap())).unwrap();
        std::fs::remove_file(&segment).unwrap();
    }
    std::fs::remove_dir(directory.snap_dir().parent().unwrap().join("wal")).unwrap();
    let wal = wal.to_str().unwrap();
    assert_eq!(good(&["--wal-dir", wal, directory.path()]), wanted);
    assert_eq!(good(&["export", "--wal-dir", wal, directory.path()]), export);
    assert_eq!(run(&[directory.path()]).0, 1);
}

#[test]
fn a_folder_of_snapshots_that_is_missing_hides_nothing() {
    let directory = Directory::with_keys();
    std::fs::remove_dir(directory.snap_dir()).unwrap();
    for words in [&[][..], &["--format=json"], &["--store"], &["export"]] {
        let (status, out, error) = run(&[words, &[directory.path()]].concat());
        assert!(status == 0 && out.contains("/ttl"), "{words:?}: {out}");
        assert!(error.contains("snap is missing"), "{error}");
    }
    assert_eq!(run(&["--verify", directory.path()]).0, 1);
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (status, _, error) = run(&[path]);
    assert_eq!(status, 1);
    assert!(error.contains("is not the data directory"), "{error}");
    let (status, _, error) = run(&[&format!("{path}/nothing")]);
    assert!(status == 1 && error.contains("there is no directory"), "{error}");
    assert_eq!(run(&["--format", "xml", path]).0, 2);
    assert_eq!(run(&[]).0, 2);
}

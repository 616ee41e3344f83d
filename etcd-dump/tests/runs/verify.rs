//! `--verify`: what is good, and each flaw with its place.

use crate::directory::{Directory, damage, find, put, state};
use crate::{good, run};

fn flaws(directory: &Directory) -> Vec<String> {
    let (status, out, error) = run(&["--verify", directory.path()]);
    assert_eq!((status, error.as_str()), (1, ""), "{out}");
    assert!(out.lines().last().unwrap().starts_with("result good=false"), "{out}");
    out.lines().filter(|line| line.starts_with("flaw ")).map(str::to_owned).collect()
}

#[track_caller]
fn one_flaw(directory: &Directory, parts: &[&str]) {
    let flaws = flaws(directory);
    let fits = |flaw: &String| parts.iter().all(|part| flaw.contains(part));
    assert!(flaws.len() == 1 && fits(&flaws[0]), "{parts:?}: {flaws:#?}");
}

const EMPTY_STORE: &str = "{\"Root\":{\"Path\":\"/\",\"Children\":{}},\"CurrentIndex\":7}";

/// Some segments and a snapshot.
fn whole() -> Directory {
    let mut directory = Directory::with_keys();
    directory.snapshot(2, 8, EMPTY_STORE);
    directory.wal().set_segment_bytes(1);
    for index in 9..12 {
        directory.append(&[put(2, index, "/1/x", "y")], state(2, index));
    }
    directory
}

#[test]
fn a_good_directory_is_good() {
    let directory = whole();
    let out = good(&["--verify", directory.path()]);
    assert!(out.ends_with("result good=true flaws=0\n"), "{out}");
    assert!(out.contains("checked check=indexes looked=11 flaws=0\n"), "{out}");
    assert!(out.contains("checked check=chain looked=4 flaws=0\n"), "{out}");
    let json = good(&["--verify", "--format=json", directory.path()]);
    assert!(json.ends_with("{\"type\":\"result\",\"good\":true,\"flaws\":0}\n"), "{json}");
    // What was overwritten is no flaw.
    let mut directory = Directory::with_keys();
    directory.append(&[put(2, 9, "/1/x", "y")], state(2, 8));
    directory.append(&[put(3, 9, "/1/x", "y")], state(3, 9));
    good(&["--verify", directory.path()]);
}

#[test]
fn a_wrong_byte_is_found_wherever_it_is() {
    let directory = whole();
    let segment = directory.segments().remove(0);
    let at = find(&segment, b"/1/long");
    damage(&segment, |bytes| bytes[at] ^= 1);
    let flaws = flaws(&directory);
    assert!(flaws[0].contains("check=sums") && flaws[0].contains("walpb: crc mismatch"), "{flaws:#?}");
    assert!(flaws[0].contains(&format!("file=\"{}\" offset=", segment.display())), "{flaws:#?}");
}

#[test]
fn segments_must_follow_one_another() {
    let directory = whole();
    std::fs::remove_file(&directory.segments()[2]).unwrap();
    let flaws = flaws(&directory);
    assert!(flaws[0].contains("check=chain") && flaws[0].contains("is missing between"), "{flaws:#?}");
    // Another log's segment has another sum.
    let (directory, other) = (whole(), {
        let mut other = Directory::with_keys();
        other.wal().set_segment_bytes(1);
        other.append(&[put(2, 9, "/1/other", "y")], state(2, 9));
        other
    });
    std::fs::copy(&other.segments()[0], &directory.segments()[0]).unwrap();
    let flaws = self::flaws(&directory);
    assert!(flaws.iter().any(|flaw| flaw.contains("begins with the sum")), "{flaws:#?}");
}

#[test]
fn entries_and_states_must_make_sense() {
    let mut directory = Directory::with_keys();
    directory.append_raw(&[put(2, 10, "/1/x", "y")], state(2, 10));
    one_flaw(&directory, &["check=indexes", "entry 10 follows entry 8"]);
    let mut directory = Directory::with_keys();
    directory.append_raw(&[put(1, 9, "/1/x", "y")], state(2, 9));
    one_flaw(&directory, &["check=terms", "entry 9 has term 1, the one before it 2"]);
    let mut directory = Directory::with_keys();
    directory.append_raw(&[put(3, 8, "/1/x", "y")], state(3, 8));
    one_flaw(&directory, &["check=indexes", "entry 8 comes again"]);
    let mut directory = Directory::with_keys();
    directory.append_raw(&[], state(2, 12));
    one_flaw(&directory, &["check=states", "commits entry 12, the log ends at 8"]);
    let mut directory = Directory::with_keys();
    directory.append_raw(&[put(2, 9, "/1/x", "y")], state(2, 3));
    one_flaw(&directory, &["check=states", "the commit index falls from 8 to 3"]);
    let mut directory = Directory::with_keys();
    directory.append_raw(&[put(3, 9, "/1/x", "y")], state(2, 9));
    one_flaw(&directory, &["check=states", "the state has term 2, the last entry 3"]);
}

#[test]
fn the_end_must_be_whole() {
    let directory = Directory::with_keys();
    let segment = directory.segments().remove(0);
    damage(&segment, |bytes| bytes.extend([0; 100]));
    one_flaw(&directory, &["check=files", "ends in zero bytes"]);
    damage(&segment, |bytes| bytes.truncate(bytes.len() - 103));
    one_flaw(&directory, &["check=files", "ends in a part of a record"]);
}

#[test]
fn snapshots_must_be_good_and_known() {
    let mut directory = Directory::with_keys();
    let name = directory.snapshot(2, 8, EMPTY_STORE);
    let file = directory.snap_dir().join(&name);
    damage(&file, |bytes| bytes[15] ^= 1);
    one_flaw(&directory, &["check=sums", &name, "crc mismatch"]);
    std::fs::remove_file(&file).unwrap();
    let out = good(&["--verify", directory.path()]);
    assert!(out.contains("note file="), "{out}");

    let mut directory = Directory::with_keys();
    directory.snapshot(2, 8, "{\"Root\":");
    one_flaw(&directory, &["check=snapshots", "store's JSON"]);

    let mut directory = Directory::with_keys();
    let name = directory.snapshot(2, 8, EMPTY_STORE);
    std::fs::copy(directory.snap_dir().join(&name), directory.snap_dir().join(name.replace("8.", "9.")))
        .unwrap();
    one_flaw(&directory, &["check=snapshots", "the name is not that of its entry"]);

    let mut directory = Directory::with_keys();
    directory.snapshot(1, 8, EMPTY_STORE);
    one_flaw(&directory, &["check=snapshots", "marks a snapshot at index 8, term 1; that entry has term 2"]);

    let (directory, mut other) = (Directory::with_keys(), Directory::with_keys());
    let name = other.snapshot(2, 8, EMPTY_STORE);
    std::fs::copy(other.snap_dir().join(&name), directory.snap_dir().join(&name)).unwrap();
    one_flaw(&directory, &["check=snapshots", &name, "the log does not know this snapshot"]);
}

#[test]
fn what_holds_no_record_or_is_not_looked_at_is_told() {
    for bytes in [Vec::new(), vec![0; 1000]] {
        let directory = Directory::new();
        let segment = directory.segments().remove(0);
        damage(&segment, |old| old.clone_from(&bytes));
        one_flaw(&directory, &["check=sums", "no head", segment.to_str().unwrap()]);
    }
    // The last of several.
    let directory = whole();
    let segment = directory.segments().pop().unwrap();
    damage(&segment, Vec::clear);
    let found = flaws(&directory);
    assert!(found[0].contains("no head") && found[0].contains(segment.to_str().unwrap()), "{found:#?}");

    let directory = whole();
    for name in ["snap/db", "snap/x.snap.broken", "wal/0.wal", "wal/1.tmp"] {
        let file = directory.snap_dir().join("..").join(name);
        std::fs::copy(directory.segments().remove(0), file).unwrap();
    }
    let out = good(&["--verify", directory.path()]);
    let notes: Vec<&str> = out.lines().filter(|line| line.starts_with("note ")).collect();
    assert!(notes.len() == 4 && notes[0].contains("the database of the v3 API"), "{notes:#?}");
}

#[test]
fn a_member_without_raft_attributes_is_a_flaw() {
    let mut directory = Directory::with_keys();
    let store = "{\"Root\":{\"Path\":\"/\",\"Children\":{\"0\":{\"Path\":\"/0\",\"Children\":{\"members\":{\"Path\":\
                 \"/0/members\",\"Children\":{\"a1\":{\"Path\":\"/0/members/a1\",\"Children\":{}}}}}}}},\"CurrentIndex\":7}";
    directory.snapshot(2, 8, store);
    one_flaw(&directory, &["check=snapshots", "/0/members/a1: it has no raftAttributes"]);
    let (status, text, _) = run(&["doctor", directory.path()]);
    assert!(status == 1 && text.contains("/0/members/a1: it has no raftAttributes"), "{text}");
}

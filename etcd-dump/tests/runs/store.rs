//! The tree that the log makes.

use crate::directory::{Directory, join, of, put, request, state};
use crate::{good, run};

#[test]
fn the_tree_has_all_keys_and_members() {
    let directory = Directory::with_keys();
    assert_eq!(
        good(&["--store", "--format", "full", directory.path()]),
        format!(
            "store index=7 entry=8 term=2\n\
             member member=ff name=\"one\" peerURLs=\"http://p:255\" clientURLs=\"http://c:1\"\n\
             node path=\"/0\" dir=true createdIndex=0 modifiedIndex=0\n\
             node path=\"/0/members\" dir=true createdIndex=1 modifiedIndex=1\n\
             node path=\"/0/members/ff\" dir=true createdIndex=1 modifiedIndex=1\n\
             node path=\"/0/members/ff/attributes\" value=\"{{\\\"name\\\":\\\"one\\\",\\\"clientURLs\\\":\
             [\\\"http://c:1\\\"]}}\" createdIndex=2 modifiedIndex=2\n\
             node path=\"/0/members/ff/raftAttributes\" value=\"{{\\\"peerURLs\\\":[\\\"http://p:255\\\"]}}\" \
             createdIndex=1 modifiedIndex=1\n\
             node path=\"/1\" dir=true createdIndex=0 modifiedIndex=0\n\
             node path=\"/1/_hidden\" dir=true createdIndex=5 modifiedIndex=5\n\
             node path=\"/1/_hidden/b\" value=\"\\xff\\x00\" createdIndex=5 modifiedIndex=5\n\
             node path=\"/1/a\" value=\"2\" createdIndex=3 modifiedIndex=7\n\
             node path=\"/1/long\" value=\"{}\"... value_bytes=200 createdIndex=4 modifiedIndex=4\n\
             node path=\"/1/ttl\" value=\"\" expiration=2096-10-02T07:06:40.12Z createdIndex=6 modifiedIndex=6\n",
            "v".repeat(128)
        )
    );
    let text = good(&["--store", directory.path()]);
    assert!(text.contains("\n\"/1/_hidden\" (dir)\n\"/1/_hidden/b\" = \"\\xff\\x00\"\n"), "{text}");
    assert!(text.ends_with("\"/1/ttl\" = \"\" until 2096-10-02T07:06:40.12Z\n"), "{text}");
    let json = good(&["--store", "--format", "json", directory.path()]);
    for line in json.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(json.contains("{\"type\":\"node\",\"path\":\"/1/a\",\"value\":\"2\","), "{json}");
}

#[test]
fn the_tree_is_shown_as_of_any_entry() {
    let mut directory = Directory::with_keys();
    let body = "{\"Root\":{\"Path\":\"/\",\"Children\":{\"1\":{\"Path\":\"/1\",\"Children\":{\"s\":{\"Value\":\"x\"}}}}},\
                \"CurrentIndex\":7}";
    directory.snapshot(2, 8, body);
    directory.append(&[request(2, 9, of("DELETE", "/1/s"))], state(2, 9));
    let value = |to: &str| good(&["--store", "--to", to, directory.path()]);
    assert!(value("4").contains("\"/1/a\" = \"1\"\n"));
    assert!(value("8").contains("\"/1/s\" = \"x\"\n"), "the snapshot is used from its index on");
    assert!(!value("9").contains("/1/s"));
    let (status, out, error) = run(&["--store", "--to", "99", directory.path()]);
    assert!(out.starts_with("store index=8 entry=9"), "{out}");
    assert!(status == 1 && error.contains("the log ends at entry 9"), "{error}");
}

#[test]
fn what_is_not_committed_is_left_out() {
    let mut directory = Directory::with_keys();
    // Alone, a member has decided all that it has written.
    directory.append(&[put(2, 9, "/1/x", "y")], state(2, 8));
    assert!(good(&["--store", directory.path()]).contains("/1/x"));
    directory.append(&[join(2, 10, 7), put(2, 11, "/1/z", "y")], state(2, 10));
    let (status, out, error) = run(&["--store", directory.path()]);
    assert_eq!(status, 0);
    assert!(out.contains("/1/x") && out.contains("member=7 ") && !out.contains("/1/z"), "{out}");
    assert!(error.contains("entries 11 to 11"), "{error}");
    let (status, out, error) = run(&["--store", "--to", "11", directory.path()]);
    assert!(status == 0 && out.contains("/1/z"), "{out}");
    assert!(error.contains("only entries up to 10"), "{error}");
}

#[test]
fn a_log_without_its_beginning_makes_no_tree() {
    let mut directory = Directory::with_keys();
    directory.wal().set_segment_bytes(1);
    directory.append(&[put(2, 9, "/1/x", "y")], state(2, 9));
    directory.append(&[put(2, 10, "/1/x", "y")], state(2, 10));
    std::fs::remove_file(&directory.segments()[0]).unwrap();
    let (status, out, error) = run(&["--store", directory.path()]);
    assert!(status == 1 && out.is_empty() && error.contains("file not found"), "{out}{error}");
}

use std::io::{self, Write};

use super::*;
use crate::store::{Counter, RecoverError};

/// The start of a snapshot's body, for tests that care for nothing else.
fn with_root(children: &str) -> String {
    format!(
        r#"{{"Root":{{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{{{children}}}}},"CurrentIndex":7}}"#
    )
}

fn problem(json: &str) -> (usize, &'static str) {
    let RecoverError { offset, problem } = Store::recover(json.as_bytes(), 10).map(drop).unwrap_err();
    (offset, problem)
}

#[test]
fn an_empty_store_has_all_members() {
    assert_eq!(
        String::from_utf8(image(&Store::new(2))).unwrap(),
        concat!(
            r#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"#,
            r#""0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}},"#,
            r#""1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}}}},"#,
            r#""WatcherHub":{"EventHistory":{"Queue":{"Events":[null,null],"Size":0,"Front":0,"Back":0,"Capacity":2},"StartIndex":0,"LastIndex":0}},"#,
            r#""CurrentIndex":0,"Stats":{"getsSuccess":0,"getsFail":0,"setsSuccess":0,"setsFail":0,"deleteSuccess":0,"deleteFail":0,"updateSuccess":0,"updateFail":0,"createSuccess":0,"createFail":0,"compareAndSwapSuccess":0,"compareAndSwapFail":0,"compareAndDeleteSuccess":0,"compareAndDeleteFail":0,"expireCount":0,"watchers":0},"CurrentVersion":2}"#
        )
    );
}

#[test]
fn the_ring_of_events_turns() {
    let mut store = Store::new(3);
    let ring = |store: &Store| {
        let json: serde_json::Value = serde_json::from_slice(&image(store)).unwrap();
        let history = &json["WatcherHub"]["EventHistory"];
        let slots = history["Queue"]["Events"].as_array().unwrap().iter();
        let slots: Vec<u64> =
            slots.map(|event| event["node"]["modifiedIndex"].as_u64().unwrap_or(0)).collect();
        let number = |name: &str| history["Queue"][name].as_u64().unwrap();
        let ends = ["StartIndex", "LastIndex"].map(|name| history[name].as_u64().unwrap());
        (slots, ["Size", "Front", "Back", "Capacity"].map(number), ends)
    };
    set(&mut store, "/1/a", "");
    set(&mut store, "/1/a", "");
    assert_eq!(ring(&store), (vec![1, 2, 0], [2, 0, 2, 3], [1, 2]));
    let mut copy = Store::recover(&image(&store), 3).unwrap();
    for store in [&mut store, &mut copy] {
        for _ in 0..5 {
            set(store, "/1/a", "");
        }
        assert_eq!(ring(store), (vec![7, 5, 6], [3, 1, 1, 3], [5, 7]));
    }
    assert_eq!(image(&copy), image(&store));
    assert_eq!(image(&Store::recover(&image(&store), 3).unwrap()), image(&store));
    // Another length keeps the newest.
    assert_eq!(ring(&Store::recover(&image(&store), 2).unwrap()), (vec![6, 7], [2, 0, 0, 2], [6, 7]));
    assert_eq!(
        ring(&Store::recover(&image(&store), 5).unwrap()),
        (vec![5, 6, 7, 0, 0], [3, 0, 3, 5], [5, 7])
    );
}

#[test]
fn recovery_brings_everything_back() {
    let mut store = Store::new(20);
    set(&mut store, "/1/a", "<&>\"\\\n\u{2028}é");
    store.set(b"/1/d/t", false, b"v", after(10), NOW).unwrap();
    store.update(b"/1/d", b"", after(20), NOW).unwrap();
    store.set(b"/1/a", false, b"", Expiry { refresh: true, ..after(5) }, NOW).unwrap();
    store.delete(b"/1/d/t", false, false, NOW).unwrap();
    store.get(b"/1/none", false, false).unwrap_err();
    let json = image(&store);
    assert!(str::from_utf8(&json).unwrap().contains(r#""createdIndex":4},"prevNode":{"key":"/1/a","value":"\u003c\u0026\u003e\"\\\n\u2028é","modifiedIndex":1,"createdIndex":1},"refresh":true}"#));
    let mut copy = Store::recover(&json, 20).unwrap();
    assert_eq!(image(&copy), json);
    assert_eq!((copy.index(), copy.has_expiring()), (5, true));
    assert_eq!(copy.stats().get(Counter::GetFail), 1);
    assert_eq!(copy.watch(b"/1/a", false, false, 4).unwrap().try_next().map(|event| event.index), None);
    assert_eq!(
        copy.watch(b"/1/a", false, false, 1).unwrap().try_next().unwrap().node().value(),
        Some("<&>\"\\\n\u{2028}é".as_bytes())
    );
    assert_eq!(copy.delete_expired(after(30).at.unwrap(), NOW), 2);
}

#[test]
fn bytes_that_are_no_text_become_replacements_after_a_recovery() {
    let mut store = Store::new(1);
    store.set(b"/1/\xff", false, b"first", NEVER, NOW).unwrap();
    store.set(b"/1/\xfe", false, b"\xff", after(1), NOW).unwrap();
    let copy = Store::recover(&image(&store), 1).unwrap();
    // In the order of the bytes the other one came last, and both have the same name now.
    assert_eq!(copy.get("/1/\u{fffd}".as_bytes(), false, false).unwrap().node().value(), Some(&b"first"[..]));
    assert!(!copy.has_expiring());
    assert_eq!(copy.get(b"/1", false, false).unwrap().node().children().count(), 1);
}

#[test]
fn members_come_in_any_order_and_case() {
    let json = r#" {"unknown":[{"a":[]}], "CURRENTVERSION":2, "currentindex" : 9,
        "Stats":{"SetsSuccess":4,"other":1},
        "WatcherHub":{"EventHistory":{"LastIndex":1,"Queue":{"Back":1,"Capacity":3,"Front":0,"Size":1,
            "Events":[{"node":{"createdIndex":1,"KEY":"/1/a","value":"x","nodes":null},"action":"set","prevNode":null},null,null]}}},
        "root":{"children":{"1":{"Children":{
            "b":{"Value":"2","ModifiedIndex":3,"ACL":"","ExpireTime":"2024-01-01T01:00:00.5+01:00","CreatedIndex":2,"Children":null,"Path":"/1/b"},
            "a":{"value":"1"}},"Path":"/1"}}}}  "#;
    let store = Store::recover(json.as_bytes(), 3).unwrap();
    assert_eq!(store.index(), 9);
    assert_eq!(
        read(&store, "/1"),
        r#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/a","value":"1"},{"key":"/b","value":"2","expiration":"2024-01-01T00:00:00.5Z","ttl":1,"modifiedIndex":3,"createdIndex":2}]}}"#
    );
    assert!(store.has_expiring());
    assert_eq!(store.stats().get(Counter::SetSuccess), 4);
}

#[test]
fn times_beyond_what_requests_can_say_are_kept_as_the_last() {
    let child = |time: &str| format!(r#""a":{{"ExpireTime":"{time}","Children":null}}"#);
    let expiration = |time: &str| {
        let store = Store::recover(with_root(&child(time)).as_bytes(), 1).unwrap();
        store.get(b"/a", false, false).unwrap().node().expiration()
    };
    assert_eq!(expiration("0001-01-01T00:00:00Z"), None);
    assert_eq!(expiration("0001-01-01T01:00:00+01:00"), None);
    assert_eq!(expiration("1970-01-01T00:00:00Z"), Some(UnixNanos(0)));
    assert_eq!(expiration("9999-12-01T00:00:00Z"), Some(UnixNanos(i64::MAX)));
    assert_eq!(expiration("0001-01-01T00:00:01Z"), Some(UnixNanos(i64::MIN)));
    assert_eq!(problem(&with_root(&child("tomorrow"))).1, "no time");
}

#[test]
fn a_text_that_is_no_snapshot_says_where() {
    assert_eq!(problem(""), (0, "no object"));
    assert_eq!(problem("{}"), (2, "there is no root"));
    assert_eq!(problem(r#"{"Root":{"Children":null}}"#), (25, "the root is no directory"));
    assert_eq!(problem(r#"{"Root":null}"#), (8, "no node"));
    assert_eq!(problem(&with_root(r#""a":null"#)).1, "no node");
    assert_eq!(problem(&with_root(r#""":{}"#)).1, "a name that no path leads to");
    assert_eq!(problem(&with_root(r#""a/b":{}"#)).1, "a name that no path leads to");
    assert_eq!(problem(&with_root(r#""a":{"CreatedIndex":-1}"#)).1, "no number from 0 to 2^64-1");
    assert_eq!(problem(&(with_root("") + "x")).1, "more after the end");
    let history = |events: &str, size, front| {
        let root = with_root("");
        let root = root.trim_end_matches('}');
        format!(r#"{root},"WatcherHub":{{"EventHistory":{{"Queue":{{"Events":[{events}],"Size":{size},"Front":{front}}}}}}}}}"#)
            .replace(r#""CurrentIndex":7"#, r#""CurrentIndex":7"#)
    };
    let event = r#"{"action":"set","node":{"key":"/1/a","value":"","modifiedIndex":1}}"#;
    assert_eq!(problem(&history("null", 1, 0)).1, "the history has fewer events than it says");
    assert_eq!(problem(&history(event, 2, 0)).1, "the history has other slots than it says");
    assert_eq!(problem(&history(event, 1, 1)).1, "the history has other slots than it says");
    assert_eq!(problem(&history(r#"{"action":"jump","node":{}}"#, 1, 0)).1, "an unknown action");
    assert_eq!(problem(&history(r#"{"action":"set"}"#, 1, 0)).1, "an event without an action or a node");
    let root = with_root("");
    for end in 0..root.len() {
        assert!(Store::recover(&root.as_bytes()[..end], 1).is_err(), "cut at {end}");
    }
    Store::recover(root.as_bytes(), 1).unwrap();
}

#[test]
fn an_image_is_written_in_pieces() {
    struct Pieces(Vec<usize>);
    impl Write for Pieces {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.push(piece.len());
            Ok(piece.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut store = Store::new(10);
    for number in 0..3_000 {
        set(&mut store, &format!("/1/{number}"), &"v".repeat(100));
    }
    let image = store.image();
    assert_eq!(image.index(), 3_000);
    let mut pieces = Pieces(Vec::new());
    image.write_json(&mut pieces).unwrap();
    assert!(pieces.0.len() > 5);
    assert!(pieces.0.iter().all(|length| *length < 70_000), "{:?}", pieces.0);

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(image.write_json(&mut Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn images_may_go_to_another_thread() {
    let mut store = Store::new(10);
    set(&mut store, "/1/a", "before");
    let want = image(&store);
    let picture = store.image();
    let writer = std::thread::spawn(move || {
        let mut json = Vec::new();
        picture.write_json(&mut json).unwrap();
        json
    });
    for number in 0..1_000 {
        set(&mut store, &format!("/1/{number}"), "after");
    }
    assert_eq!(writer.join().unwrap(), want);
}

/// The next write would count on from it.
#[test]
fn an_index_that_no_store_comes_to_is_refused() {
    let snapshot =
        |index: u64| with_root("").replace(r#""CurrentIndex":7"#, &format!(r#""CurrentIndex":{index}"#));
    assert!(Store::recover(snapshot(1 << 40).as_bytes(), 10).is_ok());
    for index in [u64::MAX, 1 << 63] {
        let error = Store::recover(snapshot(index).as_bytes(), 10).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("CurrentIndex")), "{index}");
    }
}

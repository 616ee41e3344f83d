use super::*;
use crate::event::Action;
use crate::store::Counter;

fn code(answer: Result<Event, ApiError>) -> (u16, String, u64) {
    let error = answer.unwrap_err();
    (error.code(), String::from_utf8(error.cause.clone()).unwrap(), error.index)
}

/// `/1/a` = "one" at 1, `/1/d/x` = "two" at 2, `/1/d/e` an empty directory at 3.
fn store() -> Store {
    let mut store = Store::new(100);
    set(&mut store, "/1/a", "one");
    set(&mut store, "/1/d/x", "two");
    store.create(b"/1/d/e", true, b"", false, NEVER, NOW).unwrap();
    store
}

#[test]
fn a_new_store_has_two_directories() {
    let store = Store::new(100);
    assert_eq!(store.index(), 0);
    assert_eq!(read(&store, "/1"), r#"{"action":"get","node":{"dir":true}}"#);
    let names: Vec<_> =
        store.get(b"/", false, false).unwrap().node().children().map(|c| c.name().to_vec()).collect();
    assert_eq!(names, [b"0", b"1"]);
}

#[test]
fn get_reads_keys_and_lists_directories() {
    let store = store();
    assert_eq!(
        read(&store, "/1/a"),
        r#"{"action":"get","node":{"key":"/a","value":"one","modifiedIndex":1,"createdIndex":1}}"#
    );
    assert_eq!(
        read(&store, "/1"),
        r#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/a","value":"one","modifiedIndex":1,"createdIndex":1},{"key":"/d","dir":true,"modifiedIndex":2,"createdIndex":2}]}}"#
    );
    let all = store.get(b"/1/d", true, true).unwrap();
    assert_eq!(all.index, 3);
    assert_eq!(
        json(&Ok(all)),
        r#"{"action":"get","node":{"key":"/d","dir":true,"nodes":[{"key":"/d/e","dir":true,"modifiedIndex":3,"createdIndex":3},{"key":"/d/x","value":"two","modifiedIndex":2,"createdIndex":2}],"modifiedIndex":2,"createdIndex":2}}"#
    );
    assert_eq!(code(store.get(b"/1/b/c/d", false, false)), (100, "/1/b".into(), 3));
    assert_eq!(code(store.get(b"/1/a/b/c", false, false)), (104, "/1/a".into(), 3));
}

#[test]
fn a_read_keeps_what_it_saw() {
    let mut store = store();
    let before = store.get(b"/1", true, false).unwrap();
    let text = json(&Ok(before.clone()));
    set(&mut store, "/1/d/x", "other");
    set(&mut store, "/1/d/y", "new");
    store.delete(b"/1/a", false, false, NOW).unwrap();
    assert_eq!(json(&Ok(before)), text);
    assert_ne!(json(&store.get(b"/1", true, false)), text);
}

#[test]
fn hidden_nodes_are_read_by_their_name_only() {
    let mut store = store();
    set(&mut store, "/1/d/_h/k", "secret");
    set(&mut store, "/1/d/e/_k", "secret");
    assert!(!json(&store.get(b"/1", true, false)).contains("secret"));
    assert!(json(&store.get(b"/1/d/_h", true, false)).contains("secret"));
    assert_eq!(
        read(&store, "/1/d/e"),
        r#"{"action":"get","node":{"key":"/d/e","dir":true,"modifiedIndex":3,"createdIndex":3}}"#
    );
    // The server itself sees them.
    assert!(store.get(b"/1/d", true, false).unwrap().node().child(b"_h").unwrap().child(b"k").is_some());
}

#[test]
fn set_replaces_keys_but_no_directories() {
    let mut store = store();
    let event = set(&mut store, "/1/a", "three");
    assert!(!event.is_created());
    assert_eq!(
        json(&Ok(event)),
        r#"{"action":"set","node":{"key":"/a","value":"three","modifiedIndex":4,"createdIndex":4},"prevNode":{"key":"/a","value":"one","modifiedIndex":1,"createdIndex":1}}"#
    );
    assert!(set(&mut store, "/1/new/er", "x").is_created());
    assert_eq!(store.get(b"/1/new", false, false).unwrap().node().created_index(), 5);
    assert_eq!(code(store.set(b"/1/d", false, b"", NEVER, NOW)), (102, "/1/d".into(), 5));
    assert_eq!(code(store.set(b"/1/d", true, b"", NEVER, NOW)), (102, "/1/d".into(), 5));
    assert_eq!(code(store.set(b"/1/a/b", false, b"", NEVER, NOW)), (104, "/1/a".into(), 5));
    let event = store.set(b"/1/a", true, b"ignored", NEVER, NOW).unwrap();
    assert_eq!(
        json(&Ok(event)),
        r#"{"action":"set","node":{"key":"/a","dir":true,"modifiedIndex":6,"createdIndex":6},"prevNode":{"key":"/a","value":"three","modifiedIndex":4,"createdIndex":4}}"#
    );
}

#[test]
fn create_refuses_what_exists() {
    let mut store = store();
    assert_eq!(code(store.create(b"/1/a", false, b"", false, NEVER, NOW)), (105, "/1/a".into(), 3));
    assert_eq!(code(store.create(b"/1/d", true, b"", false, NEVER, NOW)), (105, "/1/d".into(), 3));
    assert_eq!(code(store.create(b"/1/a/b/c", false, b"", false, NEVER, NOW)), (104, "/1/a".into(), 3));
    let event = store.create(b"/1/b/c", false, b"v", false, NEVER, NOW).unwrap();
    assert!(event.is_created());
    assert_eq!(
        json(&Ok(event)),
        r#"{"action":"create","node":{"key":"/b/c","value":"v","modifiedIndex":4,"createdIndex":4}}"#
    );
}

#[test]
fn in_order_keys_have_twenty_digits() {
    let mut store = store();
    let event = store.create(b"/1/q", false, b"job", true, NEVER, NOW).unwrap();
    assert_eq!(event.key(), b"/1/q/00000000000000000004");
    assert_eq!(store.create(b"/", true, b"", true, NEVER, NOW).unwrap().key(), b"/00000000000000000005");
    assert_eq!(code(store.create(b"/1/a", false, b"", true, NEVER, NOW)), (104, "/1/a".into(), 5));
}

#[test]
fn update_keeps_the_creation_index() {
    let mut store = store();
    let event = store.update(b"/1/a", b"new", NEVER, NOW).unwrap();
    assert_eq!(
        json(&Ok(event)),
        r#"{"action":"update","node":{"key":"/a","value":"new","modifiedIndex":4,"createdIndex":1},"prevNode":{"key":"/a","value":"one","modifiedIndex":1,"createdIndex":1}}"#
    );
    assert_eq!(code(store.update(b"/1/b", b"", NEVER, NOW)), (100, "/1/b".into(), 4));
    assert_eq!(code(store.update(b"/1/d", b"v", NEVER, NOW)), (102, "/1/d".into(), 4));
    // Of a directory only the event shows the new index.
    let event = store.update(b"/1/d", b"", after(10), NOW).unwrap();
    assert_eq!(
        json(&Ok(event)),
        r#"{"action":"update","node":{"key":"/d","dir":true,"expiration":"2024-01-01T00:00:10Z","ttl":10,"modifiedIndex":5,"createdIndex":2},"prevNode":{"key":"/d","dir":true,"modifiedIndex":2,"createdIndex":2}}"#
    );
    let dir = store.get(b"/1/d", false, false).unwrap();
    assert_eq!((dir.node().modified_index(), dir.node().expiration()), (2, after(10).at));
}

#[test]
fn swaps_compare_value_and_index() {
    let mut store = store();
    let mut swap =
        |value: &str, index| store.compare_and_swap(b"/1/a", value.as_bytes(), index, b"new", NEVER, NOW);
    assert_eq!(code(swap("two", 0)), (101, "[two != one]".into(), 3));
    assert_eq!(code(swap("", 2)), (101, "[2 != 1]".into(), 3));
    assert_eq!(code(swap("two", 2)), (101, "[two != one] [2 != 1]".into(), 3));
    assert_eq!(code(swap("one", 2)), (101, "[2 != 1]".into(), 3));
    assert_eq!(
        json(&swap("one", 1)),
        r#"{"action":"compareAndSwap","node":{"key":"/a","value":"new","modifiedIndex":4,"createdIndex":1},"prevNode":{"key":"/a","value":"one","modifiedIndex":1,"createdIndex":1}}"#
    );
    assert_eq!(code(store.compare_and_swap(b"/1/d", b"x", 0, b"", NEVER, NOW)), (102, "/1/d".into(), 4));
    assert_eq!(code(store.compare_and_swap(b"/1/b", b"x", 0, b"", NEVER, NOW)), (100, "/1/b".into(), 4));
    assert_eq!(code(store.compare_and_swap(b"/1/a/b", b"x", 0, b"", NEVER, NOW)), (104, "/1/a".into(), 4));
}

#[test]
fn delete_needs_dir_for_empty_and_recursive_for_full_directories() {
    let mut store = store();
    assert_eq!(code(store.delete(b"/1/d", false, false, NOW)), (102, "/1/d".into(), 3));
    assert_eq!(code(store.delete(b"/1/d", true, false, NOW)), (108, "/1/d".into(), 3));
    assert_eq!(code(store.delete(b"/1/b", false, false, NOW)), (100, "/1/b".into(), 3));
    assert_eq!(
        json(&store.delete(b"/1/d/e", true, false, NOW)),
        r#"{"action":"delete","node":{"key":"/d/e","dir":true,"modifiedIndex":4,"createdIndex":3},"prevNode":{"key":"/d/e","dir":true,"modifiedIndex":3,"createdIndex":3}}"#
    );
    store.delete(b"/1/d", false, true, NOW).unwrap();
    assert_eq!(code(store.get(b"/1/d/x", false, false)), (100, "/1/d".into(), 5));
    assert_eq!(
        json(&store.delete(b"/1/a", false, false, NOW)),
        r#"{"action":"delete","node":{"key":"/a","modifiedIndex":6,"createdIndex":1},"prevNode":{"key":"/a","value":"one","modifiedIndex":1,"createdIndex":1}}"#
    );
}

#[test]
fn compared_deletes_take_keys_only() {
    let mut store = store();
    assert_eq!(code(store.compare_and_delete(b"/1/a", b"x", 9, NOW)), (101, "[x != one] [9 != 1]".into(), 3));
    assert_eq!(code(store.compare_and_delete(b"/1/d", b"", 2, NOW)), (102, "/1/d".into(), 3));
    assert_eq!(code(store.compare_and_delete(b"/1/b", b"", 2, NOW)), (100, "/1/b".into(), 3));
    assert_eq!(
        json(&store.compare_and_delete(b"/1/a", b"one", 1, NOW)),
        r#"{"action":"compareAndDelete","node":{"key":"/a","modifiedIndex":4,"createdIndex":1},"prevNode":{"key":"/a","value":"one","modifiedIndex":1,"createdIndex":1}}"#
    );
}

#[test]
fn the_roots_are_read_only() {
    let mut store = store();
    for path in ["/", "/0", "/1", "//1/", "/1/a/.."] {
        let path = path.as_bytes();
        let want = (107, "/".to_owned(), 3);
        assert_eq!(code(store.set(path, false, b"", NEVER, NOW)), want);
        assert_eq!(code(store.create(path, true, b"", false, NEVER, NOW)), want);
        assert_eq!(code(store.update(path, b"", NEVER, NOW)), want);
        assert_eq!(code(store.compare_and_swap(path, b"", 1, b"", NEVER, NOW)), want);
        assert_eq!(code(store.delete(path, true, true, NOW)), want);
        assert_eq!(store.compare_and_delete(path, b"", 1, NOW).unwrap_err().code(), 102);
    }
    assert_eq!(
        json(&store.compare_and_delete(b"/1", b"", 1, NOW)),
        r#"{"errorCode":102,"message":"Not a file","index":3}"#
    );
    // The third one is not.
    set(&mut store, "/2/enabled", "true");
    store.delete(b"/2", false, true, NOW).unwrap();
}

#[test]
fn seconds_left_are_rounded_up() {
    let mut store = store();
    let expiry = Expiry { at: Some(UnixNanos(NOW.0 + 2 * SECOND + 1)), refresh: false };
    let event = store.set(b"/1/t", false, b"", expiry, NOW).unwrap();
    let at = |now: i64| {
        let mut json = Vec::new();
        store.get(b"/1/t", false, false).unwrap().write_json(&mut json, UnixNanos(NOW.0 + now));
        String::from_utf8(json).unwrap()
    };
    let want = |ttl: &str| {
        format!(
            r#"{{"action":"get","node":{{"key":"/t","value":"","expiration":"2024-01-01T00:00:02.000000001Z"{ttl},"modifiedIndex":4,"createdIndex":4}}}}"#
        )
    };
    assert_eq!(at(0), want(r#","ttl":3"#));
    assert_eq!(at(1), want(r#","ttl":2"#));
    assert_eq!(at(2 * SECOND), want(r#","ttl":1"#));
    assert_eq!(at(2 * SECOND + 1), want(""));
    assert_eq!(at(3 * SECOND), want(""));
    assert_eq!(at(3 * SECOND + 1), want(r#","ttl":-1"#));
    // What happened keeps the number of the moment.
    let mut late = Vec::new();
    event.write_json(&mut late, UnixNanos(NOW.0 + 100 * SECOND));
    assert!(String::from_utf8(late).unwrap().contains(r#""ttl":3"#));
}

#[test]
fn nodes_expire_in_their_order_with_all_below() {
    let mut store = store();
    assert!(!store.has_expiring());
    store.set(b"/1/late", false, b"", after(9), NOW).unwrap();
    store.update(b"/1/d", b"", after(2), NOW).unwrap();
    store.set(b"/1/d/own", false, b"", after(3), NOW).unwrap();
    store.set(b"/1/soon", false, b"v", after(1), NOW).unwrap();
    assert!(store.has_expiring());
    let mut watcher = store.watch(b"/1", true, true, 0).unwrap();
    let sync = Request { time: NOW.0 + 3 * SECOND, ..request("SYNC", "", "") };
    let answer = store.apply(&sync, NOW).unwrap();
    assert_eq!((answer.index, answer.key()), (9, &b""[..]));
    let events: Vec<_> =
        std::iter::from_fn(|| watcher.try_next()).map(|event| json(&Ok(Event::clone(&event)))).collect();
    assert_eq!(
        events,
        [
            r#"{"action":"expire","node":{"key":"/soon","modifiedIndex":8,"createdIndex":7},"prevNode":{"key":"/soon","value":"v","expiration":"2024-01-01T00:00:01Z","ttl":1,"modifiedIndex":7,"createdIndex":7}}"#,
            r#"{"action":"expire","node":{"key":"/d","modifiedIndex":9,"createdIndex":2},"prevNode":{"key":"/d","dir":true,"expiration":"2024-01-01T00:00:02Z","ttl":2,"modifiedIndex":2,"createdIndex":2}}"#,
        ]
    );
    assert_eq!(store.expirations.check(), 1, "only /1/late is left");
    assert_eq!(store.stats().get(Counter::ExpireCount), 2);
}

#[test]
fn the_expiration_follows_the_last_write() {
    let mut store = store();
    store.set(b"/1/a", false, b"", after(5), NOW).unwrap();
    store.update(b"/1/a", b"", after(7), NOW).unwrap();
    assert_eq!(store.delete_expired(after(6).at.unwrap(), NOW), 0);
    store.compare_and_swap(b"/1/a", b"", 5, b"x", NEVER, NOW).unwrap();
    assert!(!store.has_expiring());
    store.set(b"/1/a", true, b"", after(5), NOW).unwrap();
    store.set(b"/1/a/b", false, b"", after(5), NOW).unwrap();
    assert_eq!(store.expirations.check(), 2);
    store.delete(b"/1/a", false, true, NOW).unwrap();
    assert_eq!(store.expirations.check(), 0);
}

#[test]
fn new_nodes_take_times_before_2000_for_never() {
    let mut store = store();
    let expiry = |at| Expiry { at: Some(UnixNanos(at)), refresh: false };
    let old = 946_684_800 * SECOND;
    assert_eq!(store.set(b"/1/a", false, b"", expiry(old - 1), NOW).unwrap().node().expiration(), None);
    assert!(store.set(b"/1/a", false, b"", expiry(old), NOW).unwrap().node().expiration().is_some());
    assert!(store.update(b"/1/a", b"", expiry(1), NOW).unwrap().node().expiration().is_some());
}

#[test]
fn a_refresh_moves_the_time_only() {
    let mut store = store();
    let mut watcher = store.watch(b"/1/a", false, true, 0).unwrap();
    let refresh = Expiry { refresh: true, ..after(5) };
    let event = store.set(b"/1/a", false, b"ignored", refresh, NOW).unwrap();
    assert_eq!((event.node().value(), event.refresh), (Some(&b"one"[..]), true));
    assert!(store.update(b"/1/a", b"ignored", refresh, NOW).unwrap().refresh);
    let event = store.compare_and_swap(b"/1/a", b"one", 0, b"ignored", refresh, NOW).unwrap();
    assert_eq!(event.node().value(), Some(&b"one"[..]));
    assert!(!json(&Ok(event)).contains("refresh"), "clients do not see it");
    assert!(watcher.try_next().is_none());
    assert_eq!(code(store.set(b"/1/b", false, b"", refresh, NOW)), (100, "/1/b".into(), 6));
    assert_eq!(code(store.set(b"/1/d", false, b"", refresh, NOW)), (102, "/1/d".into(), 6));
    // A creation is one.
    let event = store.create(b"/1/c", false, b"v", false, refresh, NOW).unwrap();
    assert_eq!((event.node().value(), event.refresh), (Some(&b"v"[..]), false));
}

#[test]
fn requests_find_their_verb() {
    let mut store = store();
    let mut action = |request: Request| store.apply(&request, NOW).map(|event| event.action);
    assert_eq!(action(request("PUT", "/1/k", "1")), Ok(Action::Set));
    assert_eq!(action(request("POST", "/1/k2", "1")), Ok(Action::Create));
    assert_eq!(
        action(Request { prev_exist: Some(false), prev_index: 4, ..request("PUT", "/1/m", "") }),
        Ok(Action::Create)
    );
    assert_eq!(action(Request { prev_exist: Some(true), ..request("PUT", "/1/k", "1") }), Ok(Action::Update));
    assert_eq!(
        action(Request { prev_exist: Some(true), prev_value: "1".into(), ..request("PUT", "/1/k", "2") }),
        Ok(Action::CompareAndSwap)
    );
    assert_eq!(action(Request { prev_index: 8, ..request("PUT", "/1/k", "3") }), Ok(Action::CompareAndSwap));
    assert_eq!(action(request("QGET", "/1/k", "")), Ok(Action::Get));
    assert_eq!(
        action(Request { prev_value: "3".into(), ..request("DELETE", "/1/k", "") }),
        Ok(Action::CompareAndDelete)
    );
    assert_eq!(action(request("DELETE", "/1/m", "")), Ok(Action::Delete));
    let expiring = Request { expiration: after(3).at.unwrap().0, ..request("PUT", "/1/t", "") };
    assert_eq!(store.apply(&expiring, NOW).unwrap().node().expiration(), after(3).at);
}

#[test]
fn names_are_any_bytes() {
    let mut store = store();
    store.set(b"/1/\xff/\x00 \"", false, b"\xfe", NEVER, NOW).unwrap();
    assert_eq!(
        json(&store.get(b"/1/\xff", true, false)),
        r#"{"action":"get","node":{"key":"/\ufffd","dir":true,"nodes":[{"key":"/\ufffd/\u0000 \"","value":"\ufffd","modifiedIndex":4,"createdIndex":4}],"modifiedIndex":4,"createdIndex":4}}"#
    );
    assert_eq!(store.get(b"/1/\xff/\x00 \"", false, false).unwrap().node().value(), Some(&b"\xfe"[..]));
}

#[test]
fn directories_of_any_size_list_in_order() {
    let mut store = Store::new(10);
    for number in 0..3_000_u32 {
        let scrambled = number.wrapping_mul(2_654_435_761) % 3_001;
        set(&mut store, &format!("/1/d/{scrambled}"), "v");
    }
    let event = store.get(b"/1/d", false, true).unwrap();
    let names: Vec<_> = event.node().children().map(|child| child.name().to_vec()).collect();
    assert!(names.is_sorted());
    for name in &names {
        assert!(store.get(&[b"/1/d/", &name[..]].concat(), false, false).is_ok());
        store.delete(&[b"/1/d/", &name[..]].concat(), false, false, NOW).unwrap();
    }
    store.delete(b"/1/d", true, false, NOW).unwrap();
}

#[test]
fn a_big_directory_is_freed_by_the_writes_after_its_removal() {
    let mut store = Store::new(10);
    for number in 0..2_000 {
        set(&mut store, &format!("/1/d/{number}"), "v");
    }
    store.delete(b"/1/d", false, true, NOW).unwrap();
    assert!(!store.garbage.is_empty());
    for _ in 0..100 {
        set(&mut store, "/1/other", "v");
    }
    assert!(store.garbage.is_empty());
}

#[test]
fn a_path_may_be_as_deep_as_a_request_is_long() {
    // With a stack on which any recursion along the path would end.
    let test = || {
        let path = [&b"/1"[..], &b"/d".repeat(3_000)].concat();
        let mut store = Store::new(10);
        store.set(&path, false, b"deep", NEVER, NOW).unwrap();
        let _watcher = store.watch(&path, false, true, 0).unwrap();
        assert!(json(&store.get(b"/1", true, false)).contains("deep"));
        let json = image(&store);
        let mut copy = Store::recover(&json, 10).unwrap();
        assert_eq!(image(&copy), json);
        assert_eq!(copy.get(&path, false, false).unwrap().node().value(), Some(&b"deep"[..]));
        copy.restore(&json).unwrap();
        store.update(&path, b"deeper", after(1), NOW).unwrap();
        assert_eq!(store.delete_expired(after(2).at.unwrap(), NOW), 1);
        let read = store.get(b"/", true, false);
        store.delete(b"/1/d", false, true, NOW).unwrap();
        drop((store, copy));
        drop(read);
    };
    std::thread::Builder::new().stack_size(128 * 1024).spawn(test).unwrap().join().unwrap();
}

#[test]
fn some_refusals_count_as_successes() {
    let mut store = store();
    let _ = store.update(b"/1", b"", NEVER, NOW);
    let _ = store.update(b"/1/d", b"v", NEVER, NOW);
    let _ = store.update(b"/1/none", b"v", NEVER, NOW);
    let _ = store.delete(b"/1", true, true, NOW);
    let _ = store.delete(b"/1/d", false, false, NOW);
    let _ = store.compare_and_swap(b"/1", b"", 1, b"", NEVER, NOW);
    let _ = store.compare_and_swap(b"/1/a", b"", 9, b"", NEVER, NOW);
    let _ = store.compare_and_delete(b"/1/a", b"", 9, NOW);
    let _ = store.compare_and_delete(b"/1/none", b"", 9, NOW);
    let _ = store.create(b"/1/a/b", false, b"", false, NEVER, NOW);
    let _ = store.set(b"/1/a/b", false, b"", NEVER, NOW);
    let _ = store.get(b"/1/a", false, false);
    let _ = store.get(b"/1/none", true, false);
    let mut json = Vec::new();
    store.stats().write_json(&mut json);
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"getsSuccess":1,"getsFail":1,"setsSuccess":2,"setsFail":2,"deleteSuccess":1,"deleteFail":1,"updateSuccess":2,"updateFail":1,"createSuccess":1,"createFail":1,"compareAndSwapSuccess":1,"compareAndSwapFail":1,"compareAndDeleteSuccess":1,"compareAndDeleteFail":1,"expireCount":0,"watchers":0}"#
    );
    assert_eq!(store.stats().writes(Action::Create), 3);
}

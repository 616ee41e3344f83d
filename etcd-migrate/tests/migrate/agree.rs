//! Members of one cluster, migrated one by one, agree.

use crate::common::{Member, files, migrated, recorded};

/// Migrates the members of a recorded cluster and compares them entry by entry and state by state.
fn agree(cluster: &str, names: &[&str], keys: &[(&str, (u64, u64))]) {
    let mut members: Vec<Member> = Vec::new();
    for name in names {
        let (report, member) = migrated(&files(&recorded(cluster).join(name)));
        assert_eq!(report.name, *name);
        assert_eq!(report.warnings, Vec::<String>::new(), "{name}");
        assert_eq!(member.metadata.node_id, report.member_id.0);
        assert_eq!(member.metadata.cluster_id, 0x4add5);
        assert_eq!(member.snapshot.conf_state.nodes.len(), names.len(), "{name}");
        assert!(member.snapshot.conf_state.nodes.is_sorted(), "{name}");
        assert!(member.snapshot.conf_state.nodes.contains(&member.metadata.node_id), "{name}");
        assert_eq!(member.state.commit, member.snapshot.index, "{name}");
        members.push(member);
    }
    let mut compared = 0;
    for (at, one) in members.iter().enumerate() {
        for other in &members[at + 1..] {
            assert_eq!(one.snapshot.conf_state, other.snapshot.conf_state);
            for (index, entry) in &one.entries {
                if let Some(same) = other.entries.get(index) {
                    assert_eq!(entry, same, "entry {index}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 0, "no entry was compared");
    let from = members.iter().map(|member| member.snapshot.index).max().unwrap();
    let last = members.iter().map(Member::last).min().unwrap();
    assert!(last >= from, "they have no entry in common");
    for index in from..=last {
        let mut states = members.iter_mut().map(|member| {
            member.apply_to(index);
            member.keys()
        });
        let first = states.next().unwrap();
        assert!(states.all(|state| state == first), "another state after entry {index}");
    }
    for (key, indexes) in keys {
        assert_eq!(members[0].indexes(key), *indexes, "{key}");
    }
}

#[test]
fn three_members_two_leader_changes() {
    agree("cluster3", &["n0", "n1", "n2"], &[("/cas", (11, 12)), ("/upd", (19, 20))]);
}

#[test]
fn three_members_each_with_a_snapshot_of_its_own() {
    // 0.4's snapshots have lost that /cas was changed later; the events in them have not.
    agree("cluster3-snapshot", &["s0", "s1", "s2"], &[("/cas", (11, 12)), ("/end", (312, 312))]);
}

#[test]
fn three_of_four_members_after_a_removal() {
    agree("cluster-removed-member", &["m0", "m1", "m2"], &[("/three", (34, 34))]);
}

#[test]
fn three_members_and_a_standby() {
    agree("cluster-standby", &["a0", "a1", "a3"], &[("/queue/10", (10, 10)), ("/queue/12", (12, 12))]);
}

/// A member whose log begins later, behind a snapshot, makes the same entries as one with the whole log.
#[test]
fn a_log_from_the_start_and_one_from_a_snapshot() {
    use crate::common::{OldLog, member_files};
    use shared::legacy::snapshot::{self, Snapshot};

    let fill = |log: &mut OldLog, cut: u64| -> Vec<u8> {
        let mut state = 0;
        let mut note = |log: &OldLog| {
            if log.index == cut {
                state = log.bytes.len();
            }
        };
        log.join("b", "http://b:1");
        for round in 0..20 {
            log.set("/k", &round.to_string());
            note(log);
            log.write("create", "/queue", "job", r#","unique":true,"dir":false"#);
            note(log);
            log.write("create", &format!("/made/{round}"), "x", r#","unique":false,"dir":false"#);
            note(log);
            log.entry(
                "etcd:delete",
                &format!(r#"{{"key":"/made/{}","recursive":false,"dir":false}}"#, round / 2),
            );
            note(log);
        }
        log.bytes[state..].to_vec()
    };
    let mut whole = OldLog::new("a", "http://a:1");
    fill(&mut whole, 0);
    let (_, mut from_start) = migrated(&member_files(&whole.bytes, 4, &["b"]));

    // The snapshot after entry 44 is what a member has that stopped there.
    let cut = 44;
    let mut part = OldLog::new("a", "http://a:1");
    let rest = fill(&mut part, cut);
    let head = whole.bytes.len() - rest.len();
    let (_, stopped) = migrated(&member_files(&whole.bytes[..head], cut, &["a"]));
    let state = old_state(&stopped);
    let snapshot = Snapshot { last_index: cut, last_term: 0, peers: Vec::new(), state };
    let mut with_snapshot = member_files(&rest, 4, &["a"]);
    with_snapshot.insert("snapshot/0_44.ss".into(), snapshot::encode(&snapshot));
    let (report, mut from_snapshot) = migrated(&with_snapshot);
    assert_eq!((report.first_index, report.commit_index, &*report.name), (cut + 1, cut, "b"));
    let last = from_start.last();
    assert_eq!(last, from_snapshot.last());
    for (index, entry) in &from_snapshot.entries {
        assert_eq!(entry, &from_start.entries[index]);
    }
    for index in cut..=last {
        from_start.apply_to(index);
        from_snapshot.apply_to(index);
        assert_eq!(from_start.keys(), from_snapshot.keys(), "after entry {index}");
    }
    assert_eq!(from_start.value("/k").as_deref(), Some("19"));
}

/// The store of a migrated member in the form of 0.x.
fn old_state(member: &Member) -> Vec<u8> {
    let (mut root, index) = member.keys();
    let (root_map, never) = (root["Children"].as_object_mut().unwrap(), "0001-01-01T00:00:00Z");
    let node = |value: String, children: serde_json::Value| serde_json::json!({"CreatedIndex": 1, "ModifiedIndex": 1, "ExpireTime": never, "Value": value, "Children": children});
    let machine =
        |name: &str| node(format!("etcd=http://c-{name}:1&raft=http://{name}:1"), serde_json::Value::Null);
    let machines = node(String::new(), serde_json::json!({"a": machine("a"), "b": machine("b")}));
    root_map["_etcd"]["Children"].as_object_mut().unwrap().insert("machines".to_owned(), machines);
    serde_json::to_vec(&serde_json::json!({"Root": root, "CurrentIndex": index, "CurrentVersion": 2}))
        .unwrap()
}

/// What 2.x makes of the new entries is what 0.x made of the old ones, whatever they are: a snapshot early in the log
/// with all entries after it comes to the same as a snapshot of the end.
#[test]
fn entries_say_what_the_snapshot_holds() {
    use crate::common::{OldLog, member_files};

    const COMMANDS: usize = 300;
    for seed in 1..=30_u64 {
        let mut state = seed;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut log = OldLog::new("a", "http://a:1");
        log.join("b", "http://b:1");
        for step in 0..COMMANDS {
            let key = ["/", "/a", "a", "/a/b", "/a/../c", "/c", "/c/d/e", "/_h/x", "/q", "/q/9"][random(10)];
            let value = ["", "1", "2", "x\\u2028\\n<&>"][random(4)];
            let time = match random(5) {
                0 => {
                    format!("2014-01-01T00:{:02}:{:02}.{:09}Z", random(60), random(60), random(1_000_000_000))
                }
                1 => "1970-01-01T00:00:00Z".to_owned(),
                2 => "2077-01-01T00:00:00+02:00".to_owned(),
                _ => "0001-01-01T00:00:00Z".to_owned(),
            };
            let dir = random(4) == 0;
            let index = [0, 0, random(step + 4), random(step + 4)][random(4)];
            let timed = format!(r#""key":"{key}","value":"{value}","expireTime":"{time}""#);
            let compared = format!(r#""prevValue":"{}","prevIndex":{index}"#, ["", "1", "2"][random(3)]);
            let (name, text) = match random(12) {
                0..4 => ("set", format!(r#"{{{timed},"dir":{dir}}}"#)),
                4 => ("create", format!(r#"{{{timed},"unique":true,"dir":{dir}}}"#)),
                5 => ("create", format!(r#"{{{timed},"unique":false,"dir":{dir}}}"#)),
                6 => ("update", format!("{{{timed}}}")),
                7 => ("delete", format!(r#"{{"key":"{key}","recursive":{},"dir":{dir}}}"#, random(3) == 0)),
                8 => ("compareAndSwap", format!("{{{timed},{compared}}}")),
                9 => ("compareAndDelete", format!(r#"{{"key":"{key}",{compared}}}"#)),
                10 => ("sync", format!(r#"{{"time":"2014-01-01T00:{:02}:30Z"}}"#, random(60))),
                _ => ("get", format!(r#"{{"key":"{key}","recursive":{dir},"Sorted":false}}"#)),
            };
            log.entry(&format!("etcd:{name}"), &text);
        }
        let (report, mut early) = migrated(&member_files(&log.bytes, 4, &["b"]));
        let (_, late) = migrated(&member_files(&log.bytes, log.index, &["b"]));
        assert_eq!((early.applied, late.applied), (4, log.index));
        assert!(early.entries == late.entries, "seed {seed}");
        early.apply_to(log.index);
        assert_eq!(early.keys(), late.keys(), "seed {seed}");
        assert_eq!(report.store_index, late.keys().1);
        assert!(report.store_index > 40, "hardly any command did anything");
    }
}

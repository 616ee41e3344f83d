//! What a migration makes of each kind of entry and directory.

use std::path::Path;

use etcd_migrate::{AlreadyMigrated, MigrateError, Options};
use prost::Message as _;
use shared::disk::Disk;
use shared::pb;

use crate::common::{
    DIR, Member, OldLog, contents, files, member_files, migrate, migrated, planted, recorded,
};

fn single(log: &OldLog) -> (etcd_migrate::Report, Member) {
    migrated(&member_files(&log.bytes, 1, &[]))
}

fn request(member: &Member, index: u64) -> pb::Request {
    pb::Request::decode(member.entries[&index].data.clone().unwrap()).unwrap()
}

#[test]
fn creations_names_and_comparisons_by_index_are_what_they_were() {
    let mut log = OldLog::new("one", "http://one:1");
    log.write("create", "/made", "v", r#","unique":false,"dir":false"#);
    log.write("create", "/made", "again", r#","unique":false,"dir":false"#);
    log.write("create", "/queue", "job", r#","unique":true,"dir":false"#);
    log.write("compareAndSwap", "/made", "w", r#","prevValue":"","prevIndex":3"#);
    log.write("compareAndSwap", "/made", "no", r#","prevValue":"","prevIndex":3"#);
    log.write("compareAndSwap", "/made", "x", r#","prevValue":"","prevIndex":0"#);
    log.write("compareAndSwap", "/queue", "", r#","prevValue":"","prevIndex":0"#);
    let (report, member) = single(&log);
    assert_eq!((report.keys, report.directories, report.store_index), (2, 1, 6));
    assert_eq!((member.value("/made").as_deref(), member.indexes("/made")), (Some("x"), (3, 6)));
    assert_eq!(member.value("/queue/4").as_deref(), Some("job"), "the plain name of 0.x");
    assert_eq!(request(&member, 4).prev_exist, Some(false));
    assert_eq!(&*request(&member, 6).path, b"/1/queue/4");
    assert_eq!(member.entries[&10].data, None, "a swap of a directory has no counterpart");
    // Terms begin at 1, indexes stay.
    assert_eq!((member.entries[&4].term, member.state.term), (1, 1));
}

#[test]
fn expirations_are_kept_to_the_nanosecond() {
    let mut log = OldLog::new("one", "http://one:1");
    let with = |key: &str, time: &str, more: &str| {
        format!(r#"{{"key":"{key}","value":"v","expireTime":"{time}"{more}}}"#)
    };
    log.entry("etcd:set", &with("/long", "2100-01-02T03:04:05.123456789+02:00", r#","dir":false"#));
    log.entry("etcd:set", &with("/gone", "2014-01-01T00:00:00Z", r#","dir":false"#));
    log.entry("etcd:sync", r#"{"time":"2014-01-01T00:00:01Z"}"#);
    log.entry("etcd:set", &with("/late", "2500-01-01T00:00:00Z", r#","dir":false"#));
    log.entry("etcd:set", &with("/old", "1970-01-01T00:00:00Z", r#","dir":false"#));
    log.entry("etcd:update", &with("/long", "2101-01-01T00:00:00Z", ""));
    let (report, member) = single(&log);
    assert_eq!((report.keys, report.expiring, report.store_index), (3, 2, 8));
    assert!(report.warnings.iter().any(|warning| warning.contains("1 expirations after April 2262")));
    assert_eq!(request(&member, 4).expiration, 4_102_535_045_123_456_789);
    assert_eq!(request(&member, 6).method, "SYNC");
    assert_eq!(request(&member, 8).expiration, 0);
    assert_eq!(member.value("/gone"), None);
    let time = request(&member, 9).expiration;
    assert_eq!(time, 4_133_980_800_000_000_000);
}

#[test]
fn members_come_and_go_as_0_4_had_it() {
    let mut log = OldLog::new("one", "http://one:1");
    log.join("two", "http://two:1").join("three", "http://three:1");
    log.join("copy", "http://two:1").join("two", "http://two:1");
    log.entry("etcd:setClusterConfig", r#"{"config":{"activeSize":3,"removeDelay":2.5,"syncInterval":1}}"#);
    log.join("four", "http://four:1").remove("nobody").remove("three");
    log.join("two", "http://two:2").set("/k", "v");
    let (report, member) = migrated(&member_files(&log.bytes, log.index, &["two"]));
    let names: Vec<&str> = report.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!((names, report.store_index), (vec!["one", "two"], 8));
    let kind = |index: u64| {
        let entry = &member.entries[&index];
        let change = || pb::ConfChange::decode(entry.data.clone().unwrap()).unwrap().kind;
        (entry.kind == pb::ENTRY_CONF_CHANGE).then(change)
    };
    let kinds: Vec<_> = (1..=13).map(kind).collect();
    let (add, remove, update) = (Some(pb::ADD_NODE), Some(pb::REMOVE_NODE), Some(pb::UPDATE_NODE));
    assert_eq!(
        kinds,
        [add, None, None, add, add, None, None, None, None, None, remove, update, None],
        "refused and repeated joins change nothing"
    );
    let two = report.members.iter().find(|member| member.name == "two").unwrap();
    assert_eq!(two.peer_url, "http://two:2");
    let path = format!("/0/members/{}/raftAttributes", two.id);
    assert_eq!(member.store.image().indexes(path.as_bytes()), Some((3, 7)));
    assert!(member.store.image().indexes(b"/0/removed_members").is_some());
    assert_eq!(
        member.value("/_etcd/config").unwrap(),
        r#"{"activeSize":3,"removeDelay":2.5,"syncInterval":1}"#
    );
    assert!(member.store.get(b"/1/_etcd/machines", false, false).is_err());
}

#[test]
fn a_member_alone_is_committed_to_its_end_others_as_far_as_they_know() {
    let mut log = OldLog::new("one", "http://one:1");
    log.set("/a", "1").set("/b", "2");
    assert_eq!(single(&log).0.commit_index, 5);
    log.join("two", "http://two:1").set("/c", "3");
    let (report, member) = migrated(&member_files(&log.bytes, 1, &["two"]));
    assert_eq!((report.commit_index, member.snapshot.index, report.last_index), (6, 6, 7));
    assert_eq!(member.value("/c"), None, "not in the snapshot");
    assert_eq!(report.keys, 3, "but there");
    let (report, _) = migrated(&member_files(&log.bytes, 90, &["two"]));
    assert_eq!(report.commit_index, 7);
    assert!(report.warnings[0].contains("entry 90 is committed, but the log ends with entry 7"), "{report}");
}

#[test]
fn directories_of_0_1_and_0_2() {
    let (report, member) = migrated(&files(&recorded("v0.1.2").join("old")));
    assert_eq!(member.value("/message").as_deref(), Some("by test and set"));
    assert_eq!(member.value("/foo/sub/x").as_deref(), Some("2"));
    assert_eq!((report.keys, report.expiring, report.first_index, report.last_index), (4, 1, 1, 11));
    let (report, member) = migrated(&files(&recorded("v0.2.0").join("mike")));
    assert_eq!(report.store_index, 41);
    assert_eq!(member.value("/casidx").as_deref(), Some("b"));
}

#[test]
fn a_snapshot_of_0_1() {
    let never = "1970-01-01T00:00:00Z";
    let leaf = |value: &str| {
        format!(
            r#"{{"InternalNode":{{"value":"{value}","expireTime":"{never}"}},"Dir":false,"NodeMap":null}}"#
        )
    };
    let dir = |children: &str| {
        format!(
            r#"{{"InternalNode":{{"value":"","expireTime":"{never}"}},"Dir":true,"NodeMap":{{{children}}}}}"#
        )
    };
    let machine = leaf("raft=http://o:1&etcd=http://o:2&raftVersion=v0.1.2");
    let machines = dir(&format!(r#""machines":{}"#, dir(&format!(r#""old":{machine}"#))));
    let root = dir(&format!(r#""_etcd":{machines},"a":{}"#, leaf("1")));
    let state = format!(r#"{{"Tree":{{"Root":{root}}},"ResponseMap":{{}},"Index":30}}"#);
    let snapshot = shared::legacy::Snapshot {
        last_index: 30,
        last_term: 0,
        peers: Vec::new(),
        state: state.into_bytes(),
    };
    let mut log = OldLog::after(28);
    log.nop().nop();
    log.entry("etcd:set", r#"{"key":"b","value":"2","expireTime":"1970-01-01T00:00:00Z"}"#);
    let mut files = member_files(&log.bytes, 1, &[]);
    files.insert("snapshot/0_30.ss".into(), shared::legacy::snapshot::encode(&snapshot));
    let (report, member) = migrated(&files);
    assert_eq!((&*report.name, report.keys, report.store_index), ("old", 2, 31));
    assert_eq!((member.value("/a").as_deref(), member.value("/b").as_deref()), (Some("1"), Some("2")));
    assert_eq!(member.indexes("/b"), (31, 31));
}

#[test]
fn swaps_of_0_1() {
    let mut log = OldLog::after(0);
    log.entry(
        "etcd:join",
        r#"{"raftVersion":"v0.1.2","name":"old","raftURL":"http://o:1","etcdURL":"http://o:2"}"#,
    );
    let swap = |key: &str, value: &str, prev: &str| {
        format!(
            r#"{{"key":"{key}","value":"{value}","PrevValue":"{prev}","expireTime":"1970-01-01T00:00:00Z"}}"#
        )
    };
    log.entry("etcd:testAndSet", &swap("new", "", ""));
    log.entry("etcd:testAndSet", &swap("new", "1", ""));
    log.entry("etcd:testAndSet", &swap("new", "no", ""));
    log.entry("etcd:testAndSet", &swap("new", "2", "1"));
    log.entry("etcd:testAndSet", &swap("other", "no", "x"));
    log.entry("etcd:get", r#"{"key":"new"}"#).entry("etcd:watch", r#"{"key":"new","sinceIndex":0}"#);
    let (report, member) = single(&log);
    assert_eq!((member.value("/new").as_deref(), report.keys), (Some("2"), 1));
    assert_eq!(request(&member, 7).method, "QGET");
}

#[test]
fn a_snapshot_whose_entries_the_log_has_is_only_compared() {
    let mut found = files(&recorded("two-snapshots").join("echo"));
    let (report, member) = migrated(&found);
    assert_eq!(report.warnings, Vec::<String>::new());
    // As the live server had it, where the snapshot has lost the second index.
    assert_eq!(member.indexes("/cas"), (9, 10));
    let file = Path::new("snapshot/0_122.ss");
    let mut snapshot = shared::legacy::snapshot::decode(found[file].clone()).unwrap();
    let state = String::from_utf8(snapshot.state).unwrap();
    snapshot.state = state.replace("Hello etcd", "Hello Etcd").into_bytes();
    found.insert(file.to_owned(), shared::legacy::snapshot::encode(&snapshot));
    let (report, _) = migrated(&found);
    assert!(report.warnings[0].contains("0_122.ss has something else at /message than the log"), "{report}");
}

#[test]
fn a_log_shorter_than_its_snapshot_gives_way_to_it() {
    let mut found = files(&recorded("two-snapshots").join("echo"));
    let log = found.get_mut(Path::new("log")).unwrap();
    log.truncate(5000);
    let (report, member) = migrated(&found);
    assert!(report.warnings.iter().any(|warning| warning.contains("the snapshot was taken")), "{report}");
    assert_eq!((report.last_index, report.commit_index), (122, 122));
    assert!(member.value("/two/0039").is_some());
}

#[test]
fn a_second_migration_does_nothing() {
    let disk = planted(0, &files(&recorded("v0.2.0").join("mike")));
    let dry = migrate(&disk, &Options { dry_run: true, ..Options::default() }).unwrap();
    assert!(disk.kind(&Path::new(DIR).join("member")).unwrap().is_none(), "a dry run wrote something");
    let first = migrate(&disk, &Options::default()).unwrap();
    assert_eq!((dry.dry_run, dry.keys), (true, first.keys));
    let before = contents(&disk, Path::new(DIR));
    assert_eq!(migrate(&disk, &Options::default()).unwrap().already, Some(AlreadyMigrated::Member));
    assert!(contents(&disk, Path::new(DIR)) == before);
}

#[test]
fn what_cannot_be_migrated_is_told() {
    let refused = |found: &std::collections::BTreeMap<_, _>, options: &Options| {
        let disk = planted(0, found);
        let error = migrate(&disk, options).unwrap_err();
        assert!(disk.kind(&Path::new(DIR).join("member")).unwrap().is_none());
        assert!(disk.kind(&Path::new(DIR).join("member.migrating")).unwrap().is_none());
        error
    };
    let any = Options::default();
    assert!(matches!(
        refused(&files(&recorded("cluster-standby").join("a2")), &any),
        MigrateError::Standby(_)
    ));
    assert!(matches!(refused(&member_files(b"", 0, &[]), &any), MigrateError::Nothing(_)));
    let mut log = OldLog::after(40);
    log.set("/a", "1");
    let error = refused(&member_files(&log.bytes, 1, &[]), &any).to_string();
    assert!(error.contains("begins with entry 41, but no snapshot holds the entries before it"), "{error}");
    let mut log = OldLog::new("one", "http://one:1");
    log.entry("etcd:shrink", "{}");
    let error = refused(&member_files(&log.bytes, 1, &[]), &any).to_string();
    assert!(error.contains("entry 4: no etcd from 0.1 to 0.4 knows the command \"etcd:shrink\""), "{error}");
    let original = Options { original: true, ..Options::default() };
    let error = refused(&files(&recorded("v0.1.2").join("old")), &original).to_string();
    assert!(error.contains("Error converting entry 8, unregistered command type etcd:testAndSet"), "{error}");
}

/// Directories, members, and the SHA-1 of the log that etcd-migrate 2.0.13 made of them.
pub(crate) const ORIGINAL: &[(&str, &str, &str)] = &[
    ("cluster3", "n0", "1cba1c71cdef74af154b9b2098ce5735a6e1aac1"),
    ("cluster3", "n1", "b663a3b2ecfaedf999f9ea2e4d01681c35c781d0"),
    ("cluster3", "n2", "1981b9e2ce060c2ea94cbc79de44810dd7ad496d"),
    ("cluster3-snapshot", "s0", "df7877a376435241dcb1869ffe64b600e9e17e0b"),
    ("cluster3-snapshot", "s1", "575bd03e95cfdd7e7816740553adeeaebf0a1cb9"),
    ("cluster3-snapshot", "s2", "67a94a810dcabf609168f55a805782b461c9e458"),
    ("cluster-removed-member", "m0", "9acceeca6ff64c16d5186e595ad1c732d30c3d07"),
    ("cluster-removed-member", "m1", "ac9e3ff83203c316913fa329a1dbe816e6328721"),
    ("cluster-removed-member", "m2", "edc0538216aa759153e422e82c5dbb58db722674"),
    ("cluster-standby", "a0", "563a3e0727641df632f01ce6210c4c3869dcbd1f"),
    ("cluster-standby", "a1", "84619d803b808bd68e36e77c75d77bbe9820f4e6"),
    ("cluster-standby", "a3", "f22c2649eaf75ada10735fed47c7dff5e221ec6a"),
    ("two-snapshots", "echo", "3264f2be47d584b12217a9960f72c09c43b8de10"),
    ("v0.2.0", "mike", "74a86d719bac366bae852295d19016b669dda10f"),
];

#[test]
fn the_original_conversion_is_the_same_to_the_byte() {
    use std::fmt::Write as _;

    use sha1::{Digest as _, Sha1};

    for (dir, member, sum) in ORIGINAL {
        let disk = planted(0, &files(&recorded(dir).join(member)));
        let options = Options { original: true, name: Some((*member).to_owned()), ..Options::default() };
        let report = migrate(&disk, &options).unwrap();
        assert!(report.original);
        let written = contents(&disk, &Path::new(DIR).join("member/wal"));
        assert_eq!(written.len(), 1, "{dir} {member}");
        let mut found = String::new();
        for byte in Sha1::digest(written.values().next().unwrap()) {
            write!(found, "{byte:02x}").unwrap();
        }
        assert_eq!(found, *sum, "{dir} {member}");
    }
}

#[test]
fn what_stands_in_the_way_is_told() {
    use shared::disk::{DiskFile as _, Open};

    let mut log = OldLog::new("one", "http://one:1");
    log.set("/a", "1");
    let files = member_files(&log.bytes, 1, &[]);
    let disk = planted(0, &files);
    let mut other = disk.open(&Path::new(DIR).join("log"), Open::Read).unwrap();
    other.lock().unwrap();
    assert!(matches!(migrate(&disk, &Options::default()), Err(MigrateError::Busy(_))));
    drop(other);
    // Not a member's.
    disk.plant(&Path::new(DIR).join("member/notes"), b"mine").unwrap();
    let error = migrate(&disk, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("/d/member is in the way"), "{error}");
    // What etcd-migrate 2.0 leaves.
    let disk = planted(0, &files);
    disk.create_dir_all(&Path::new(DIR).join("snap")).unwrap();
    disk.plant(&Path::new(DIR).join("wal/0000000000000000-0000000000000000.wal"), b"").unwrap();
    let report = migrate(&disk, &Options::default()).unwrap();
    assert_eq!(report.already, Some(AlreadyMigrated::Layout20));
    assert!(report.to_string().contains("migrated already"));
    let nowhere = etcd_migrate::migrate(&disk, Path::new("/nowhere"), &Options::default(), &mut ());
    assert!(matches!(nowhere, Err(MigrateError::NoDirectory(_))));
}

/// A report has all that the operator asks for.
#[test]
fn a_report_is_for_people() {
    let (report, _) = migrated(&files(&recorded("cluster3").join("n1")));
    let text = report.to_string();
    for line in [
        "member       n1 (1c84a9f3679016d9)",
        "cluster      3 members",
        "             n0 (3b5f048a483f2803) at http://localhost:22118",
        "log          70 entries, 1 to 70",
        "committed    up to entry 64",
        "keys         21",
        "directories  9",
        "TTLs         0",
        "etcd index   42",
        "/d is migrated: the new files are in \"member\", the old ones are as they were",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
}

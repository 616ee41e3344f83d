//! Damaged directories: never a panic, never a loss that nobody is told of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etcd_migrate::{Options, Report};
use shared::legacy::files::ConfPeer;
use shared::legacy::snapshot::{self, Snapshot};

use crate::common::{Member, OldLog, member_files, migrate, migrated, planted};

/// A small directory with every kind of entry.
fn small() -> (BTreeMap<PathBuf, Vec<u8>>, OldLog) {
    let mut log = OldLog::new("one", "http://one:1");
    log.set("/a", "1");
    log.write("create", "/q", "2", r#","unique":true,"dir":false"#);
    log.write("update", "/a", "3", "");
    log.write("compareAndSwap", "/a", "4", r#","prevValue":"3","prevIndex":0"#);
    log.entry("etcd:compareAndDelete", r#"{"key":"/a","prevValue":"","prevIndex":6}"#);
    log.entry("etcd:delete", r#"{"key":"/q","recursive":true,"dir":true}"#);
    log.entry("etcd:sync", r#"{"time":"2014-01-01T00:00:01Z"}"#);
    log.set("/z", "9");
    (member_files(&log.bytes, 1, &[]), log)
}

fn dry(files: &BTreeMap<PathBuf, Vec<u8>>, salvage: bool) -> Result<Report, String> {
    let options = Options { dry_run: true, salvage, ..Options::default() };
    migrate(&planted(0, files), &options).map_err(|error| error.to_string())
}

/// What a report says must be said: as many entries as there were, or a word about it.
fn check(what: &str, whole: &Report, found: Result<Report, String>) {
    match found {
        Err(error) => assert!(!error.is_empty()),
        Ok(report) => {
            let told = !report.warnings.is_empty() || !report.lost.is_empty();
            let same = (report.first_index, report.last_index, report.entries)
                == (whole.first_index, whole.last_index, whole.entries);
            assert!(same || told, "{what}: entries went without a word:\n{report}");
        }
    }
}

#[test]
fn every_cut_of_the_log() {
    let (mut files, log) = small();
    let whole = dry(&files, false).unwrap();
    for cut in 0..log.bytes.len() {
        files.insert("log".into(), log.bytes[..cut].to_vec());
        let whole_entries = log.ends.iter().filter(|end| **end <= cut).count() as u64;
        let clean = cut == 0 || log.ends.contains(&cut);
        for salvage in [false, true] {
            match dry(&files, salvage) {
                // Without the first entry nobody knows whose it is.
                Err(error) => assert!(whole_entries == 0, "cut at {cut}: {error}"),
                Ok(report) => {
                    assert_eq!(report.entries, whole_entries, "cut at {cut}");
                    assert_eq!(report.warnings.is_empty(), clean, "cut at {cut}: {report}");
                }
            }
        }
    }
    assert_eq!(whole.entries, log.ends.len() as u64);
}

#[test]
fn every_byte_of_the_log_flipped() {
    let (mut files, log) = small();
    let whole = dry(&files, false).unwrap();
    for at in 0..log.bytes.len() {
        for flip in [1 << (at % 8), 0x80] {
            let mut bytes = log.bytes.clone();
            bytes[at] ^= flip;
            files.insert("log".into(), bytes);
            let what = format!("byte {at} ^ {flip:#x}");
            check(&what, &whole, dry(&files, false));
            check(&what, &whole, dry(&files, true));
        }
    }
}

#[test]
fn every_byte_of_conf_cut_and_flipped() {
    let (mut files, _) = small();
    let whole = dry(&files, false).unwrap();
    let conf = files[&PathBuf::from("conf")].clone();
    for at in 0..conf.len() {
        let mut flipped = conf.clone();
        flipped[at] ^= 1 << (at % 8);
        for bytes in [flipped, conf[..at].to_vec()] {
            files.insert("conf".into(), bytes);
            check(&format!("conf, byte {at}"), &whole, dry(&files, false));
            check(&format!("conf, byte {at}"), &whole, dry(&files, true));
        }
    }
}

/// A member with a snapshot and the log after it.
fn with_snapshot() -> BTreeMap<PathBuf, Vec<u8>> {
    let never = r#""ExpireTime":"0001-01-01T00:00:00Z","ACL":"""#;
    let node = |path: &str, value: &str, children: &str| {
        let name = path.rsplit('/').next().unwrap();
        format!(
            r#""{name}":{{"Path":"{path}","CreatedIndex":1,"ModifiedIndex":1,{never},"Value":"{value}","Children":{children}}}"#
        )
    };
    let machine = node("/_etcd/machines/one", "etcd=http%3A%2F%2Fc%3A1&raft=http%3A%2F%2Fone%3A1", "null");
    let machines = node("/_etcd/machines", "", &format!("{{{machine}}}"));
    let etcd = node("/_etcd", "", &format!("{{{machines}}}"));
    let key = node("/k", "v", "null");
    let root = node("/", "", &format!("{{{etcd},{key}}}"));
    let state =
        format!(r#"{{{},"CurrentIndex":3,"CurrentVersion":2}}"#, root.replacen(r#""""#, r#""Root""#, 1));
    let peers = vec![ConfPeer { name: "one".to_owned(), connection_string: String::new() }];
    let snapshot = Snapshot { last_index: 20, last_term: 0, peers, state: state.into_bytes() };
    let mut log = OldLog::after(18);
    log.nop().nop().set("/a", "1").set("/b", "2");
    let mut files = member_files(&log.bytes, 1, &[]);
    files.insert("snapshot/0_20.ss".into(), snapshot::encode(&snapshot));
    files
}

#[test]
fn every_byte_of_a_snapshot_cut_and_flipped() {
    let mut files = with_snapshot();
    let whole = dry(&files, false).unwrap();
    assert_eq!((whole.keys, whole.store_index, whole.commit_index), (3, 5, 22));
    let file = PathBuf::from("snapshot/0_20.ss");
    let good = files[&file].clone();
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        let harmless = flipped.eq_ignore_ascii_case(&good) && at < 8;
        for (bytes, harmless) in [(flipped, harmless), (good[..at].to_vec(), false)] {
            files.insert(file.clone(), bytes);
            assert_eq!(dry(&files, false).is_ok(), harmless, "byte {at}");
            // Nothing is left that names the member.
            assert!(dry(&files, true).is_ok() == harmless);
        }
    }
}

#[test]
fn a_salvage_takes_what_is_there_and_lists_the_rest() {
    let (mut files, log) = small();
    let (from, to) = (log.ends[4], log.ends[6]);
    let mut bytes = log.bytes.clone();
    bytes[from..to - 3].fill(b'?');
    files.insert("log".into(), bytes);
    assert!(dry(&files, false).unwrap_err().contains(&format!("damaged at byte {from}")));
    let disk = planted(0, &files);
    let report = migrate(&disk, &Options { salvage: true, ..Options::default() }).unwrap();
    let member = Member::read(&disk);
    assert_eq!(report.lost.len(), 1, "{report}");
    let loss = &report.lost[0];
    assert_eq!((loss.from, loss.to, loss.indexes), (from as u64, to as u64, Some((6, 7))));
    assert_eq!(member.value("/z").as_deref(), Some("9"));
    assert_eq!(
        (member.entries[&6].data.clone(), member.last()),
        (None, log.index),
        "lost entries keep their places"
    );
}

#[test]
fn a_salvage_of_a_command_a_conf_and_a_gap() {
    let mut log = OldLog::new("one", "http://one:1");
    log.set("/a", "1").entry("etcd:set", r#"{"key":"/b"}"#).set("/c", "3");
    let mut files = member_files(&log.bytes, 1, &[]);
    files.insert("conf".into(), b"{".to_vec());
    assert!(dry(&files, false).unwrap_err().contains("conf is damaged"));
    let report = dry(&files, true).unwrap();
    let lost: Vec<String> = report.lost.iter().map(ToString::to_string).collect();
    assert!(lost[0].contains("conf") && lost[1].contains("entry 5: the text of etcd:set"), "{lost:?}");
    assert_eq!(report.keys, 2);
    files.insert("standby_info".into(), b"?".to_vec());
    assert!(dry(&files, false).unwrap_err().contains("standby_info is damaged"));
    assert_eq!(dry(&files, true).unwrap().lost.len(), 3);

    let mut late = OldLog::after(100);
    late.join("one", "http://one:1").set("/a", "1");
    let disk = planted(0, &member_files(&late.bytes, 1, &[]));
    let report = migrate(&disk, &Options { salvage: true, ..Options::default() }).unwrap();
    assert_eq!(report.lost[0].indexes, Some((1, 100)));
    let member = Member::read(&disk);
    assert_eq!((member.value("/a").as_deref(), member.snapshot.index), (Some("1"), 102));
}

#[test]
fn a_torn_end_is_left_out_with_a_warning() {
    let (mut files, log) = small();
    files.insert("log".into(), log.bytes[..log.bytes.len() - 5].to_vec());
    let (report, member) = migrated(&files);
    assert_eq!((report.last_index, member.value("/z")), (log.index - 1, None));
    assert!(report.warnings[0].contains("never written in full"), "{report}");
}

#[test]
fn a_snapshot_alone_is_enough() {
    let mut files = with_snapshot();
    files.insert("log".into(), Vec::new());
    let (report, member) = migrated(&files);
    assert_eq!((report.entries, report.last_index, report.commit_index), (0, 20, 20));
    assert_eq!((member.value("/k").as_deref(), member.state.term), (Some("v"), 1));
    files.remove(&PathBuf::from("log"));
    let (report, member) = migrated(&files);
    assert!(report.warnings[0].contains("log is missing"), "{report}");
    assert_eq!(member.value("/k").as_deref(), Some("v"));
}

/// Whatever stands in the files: an error, or a member that can be read.
#[test]
fn anything_in_the_files() {
    const ROUNDS: u32 = 1500;
    let (plain, _) = small();
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut taken = 0;
    for round in 0..ROUNDS {
        let mut files = if round % 2 == 0 { plain.clone() } else { with_snapshot() };
        let name = ["log", "log", "log", "conf", "snapshot/0_20.ss"][random(5)];
        let Some(bytes) = files.get_mut(&PathBuf::from(name)) else { continue };
        for _ in 0..=random(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random(bytes.len());
            let end = (at + random(60)).min(bytes.len());
            match random(4) {
                0 => bytes[at] = [0, b' ', b'\n', 0x7f, 0xff][random(5)],
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => bytes[at..end].fill(b'9'),
            }
        }
        for salvage in [false, true] {
            let disk = planted(0, &files);
            if migrate(&disk, &Options { salvage, ..Options::default() }).is_ok() {
                let mut member = Member::read(&disk);
                member.apply_to(member.last());
                taken += 1;
            }
        }
    }
    assert!(taken > ROUNDS / 4, "only {taken} were taken");
}

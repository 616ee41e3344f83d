//! Every kind of damage, on a simulated disk: what comes out is a state that the member once had, or nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message as _;
use shared::disk::{Disk, DiskOperation, Fault, Open, SimDisk};
use shared::id::MemberId;
use shared::log_replay::LogReplay;
use shared::pb;
use shared::snap::{Snapshots, file_name};
use shared::store::Store;
use shared::wal::{self, EntryRef, Frames, Wal};

use super::report::Report;
use super::{SalvageError, salvage};

const DIR: &str = "/old";
const OUT: &str = "/new/member.etcd";
const ID: u64 = 0x1e03_c8d3_5c34_dbbd;
const METADATA: pb::Metadata = pb::Metadata { node_id: ID, cluster_id: 7 };

fn entry(term: u64, index: u64, kind: i32, data: Vec<u8>) -> pb::Entry {
    pb::Entry { kind, term, index, data: (!data.is_empty()).then(|| data.into()) }
}

fn join(index: u64, id: u64) -> pb::Entry {
    let context = format!("{{\"id\":{id},\"peerURLs\":[\"http://p:{id}\"],\"name\":\"m{index}\"}}");
    let change = pb::ConfChange { id: 0, kind: pb::ADD_NODE, node_id: id, context: Some(context.into()) };
    entry(1, index, pb::ENTRY_CONF_CHANGE, change.encode_to_vec())
}

fn put(term: u64, index: u64, key: &str) -> pb::Entry {
    let request = pb::Request {
        id: index,
        method: "PUT".into(),
        path: format!("/1/{key}").into(),
        val: format!("value of {index}").into(),
        ..pb::Request::default()
    };
    entry(term, index, pb::ENTRY_NORMAL, request.encode_to_vec())
}

/// A join, the first entry of a term, and keys: entries 1 to `last`.
fn history(last: u64) -> Vec<pb::Entry> {
    let keys = (3..=last).map(|index| put(2, index, &format!("key{}", index % 5)));
    [join(1, ID), entry(2, 2, pb::ENTRY_NORMAL, Vec::new())].into_iter().chain(keys).collect()
}

/// A member that has written these entries, and snapshots behind some of them.
struct Old {
    disk: SimDisk,
    entries: Vec<pb::Entry>,
}

impl Old {
    fn new(entries: Vec<pb::Entry>, snapshots: &[u64], segment_bytes: u64) -> Old {
        let disk = SimDisk::new(1);
        disk.create_dir_all(&Path::new(DIR).join("member/snap")).unwrap();
        let mut log = Wal::create(disk.clone(), &wal_dir(), METADATA).unwrap();
        log.set_segment_bytes(segment_bytes);
        let mut replay = LogReplay::new(Frames::V2);
        for entry in &entries {
            let state = pb::HardState { term: entry.term, vote: ID, commit: entry.index };
            log.append([EntryRef::from(entry)].into_iter(), Some(state));
            log.sync().unwrap();
            replay.apply(entry).unwrap();
            if snapshots.contains(&entry.index) {
                log.append_snapshot(replay.applied()).unwrap();
                let conf_state = pb::ConfState { nodes: replay.voters().iter().copied().collect() };
                let files = Snapshots::new(disk.clone(), &snap_dir());
                files
                    .save(entry.term, entry.index, &conf_state, |out| replay.store().image().write_json(out))
                    .unwrap();
            }
        }
        log.close().unwrap();
        Old { disk, entries }
    }

    fn salvage(&self) -> (Report, Option<SalvageError>) {
        let before = self.files(Path::new(DIR));
        let (report, error) = salvage(&self.disk, Path::new(DIR), None, Path::new(OUT));
        assert!(before == self.files(Path::new(DIR)), "the damaged directory was written");
        let left = self.disk.list(Path::new("/new")).unwrap_or_default();
        let expected: &[&str] = if error.is_none() { &["member.etcd"] } else { &[] };
        assert_eq!(left, expected, "a draft was left");
        (report.unwrap(), error)
    }

    /// Salvages, and checks that the result is the state after one of the entries; gives that.
    fn saved(&self) -> (Report, u64) {
        let (report, error) = self.salvage();
        assert!(error.is_none(), "{error:?}");
        let (replay, metadata) = reopened(&self.disk);
        let last = report.result.as_ref().unwrap().last_index;
        let mut wanted = LogReplay::new(Frames::V2);
        let upto = self.entries.iter().take_while(|entry| entry.index <= last);
        upto.for_each(|entry| drop(wanted.apply(entry).unwrap()));
        assert_eq!(wanted.applied().index, last);
        assert!(tree(replay.store()) == tree(wanted.store()), "not the state after entry {last}");
        assert_eq!(replay.store().index(), wanted.store().index());
        assert_eq!(replay.voters().iter().copied().collect::<Vec<_>>(), [metadata.node_id]);
        assert_ne!(metadata.cluster_id, METADATA.cluster_id, "another cluster");
        (report, last)
    }

    fn nothing(&self) -> (Report, SalvageError) {
        let (report, error) = self.salvage();
        assert!(report.out.is_none() && !report.whole);
        (report, error.unwrap())
    }

    fn files(&self, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for name in ["member/snap", "member/wal"] {
            for file in self.disk.list(&dir.join(name)).unwrap_or_default() {
                let path = dir.join(name).join(file);
                files.insert(path.clone(), self.disk.contents(&path).unwrap());
            }
        }
        files
    }

    fn segments(&self) -> Vec<PathBuf> {
        self.disk.list(&wal_dir()).unwrap().iter().map(|name| wal_dir().join(name)).collect()
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.disk.contents(path).unwrap();
        change(&mut bytes);
        self.disk.plant(path, &bytes).unwrap();
    }

    /// Damages the data of the first record that holds these bytes.
    fn damage(&self, path: &Path, bytes: &[u8]) {
        self.change(path, |file| {
            let at = file.windows(bytes.len()).position(|window| window == bytes).unwrap();
            file[at] ^= 0x20;
        });
    }

    fn remove(&self, path: &Path) {
        self.disk.remove(path).unwrap();
    }
}

fn wal_dir() -> PathBuf {
    Path::new(DIR).join("member/wal")
}

fn snap_dir() -> PathBuf {
    Path::new(DIR).join("member/snap")
}

fn snapshot(term: u64, index: u64) -> PathBuf {
    snap_dir().join(file_name(term, index))
}

/// Opens the new directory as a server does, and replays it.
fn reopened(disk: &SimDisk) -> (LogReplay, pb::Metadata) {
    let snapshots = Snapshots::new(disk.clone(), &Path::new(OUT).join("member/snap"));
    let mut replay = match snapshots.load_newest().unwrap() {
        Some((snapshot, _)) => LogReplay::from_snapshot(&snapshot, Frames::V2).unwrap(),
        None => LogReplay::new(Frames::V2),
    };
    let (_, log) = Wal::open(disk.clone(), &Path::new(OUT).join("member/wal"), replay.applied()).unwrap();
    assert_eq!(log.repaired, None);
    for entry in &log.entries {
        replay.apply(entry).unwrap();
    }
    assert_eq!(log.state.commit, replay.applied().index);
    assert!(log.state.term >= replay.applied().term);
    (replay, log.metadata)
}

/// A node: its path, its value, and the indexes of its creation and last change.
type Node = (Vec<u8>, Option<Vec<u8>>, u64, u64);

/// What is in a store, but for its history and counters.
fn tree(store: &Store) -> Vec<Node> {
    let mut nodes = Vec::new();
    let listing = store.get(b"/", true, false).unwrap();
    crate::tree::walk(&listing, |path, node| {
        let value = node.value().map(<[u8]>::to_vec);
        nodes.push((path.to_vec(), value, node.created_index(), node.modified_index()));
        Ok(())
    })
    .unwrap();
    nodes
}

fn said(report: &Report) -> String {
    report.to_string()
}

#[test]
fn a_good_directory_is_whole() {
    for (snapshots, segment_bytes) in [(&[][..], 1 << 20), (&[10, 20], 1 << 20), (&[10, 20], 500)] {
        let (report, last) = Old::new(history(30), snapshots, segment_bytes).saved();
        assert_eq!((report.whole, last), (true, 30), "{report}");
        let result = report.result.unwrap();
        assert_eq!(result.snapshot_index, snapshots.last().copied().unwrap_or(0));
        assert_eq!((result.keys, result.store_index), (5, 29));
        assert_eq!(result.member_id, MemberId(ID).to_string());
    }
}

#[test]
fn damage_before_the_snapshot_costs_nothing() {
    let old = Old::new(history(30), &[20], 1 << 20);
    old.damage(&old.segments()[0], b"value of 7");
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (true, 30), "{report}");
    assert!(said(&report).contains("walpb: crc mismatch"), "{report}");
}

#[test]
fn damage_behind_the_snapshot_ends_the_log() {
    let old = Old::new(history(30), &[10], 1 << 20);
    old.damage(&old.segments()[0], b"value of 25");
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (false, 24), "{report}");
    let missing: Vec<_> = report.missing.iter().map(|what| (what.from_index, what.to_index)).collect();
    assert_eq!(missing, [(Some(25), Some(25)), (Some(26), Some(30))], "{report}");
    let unused: Vec<_> = report.unused.iter().map(|write| (write.index, write.value.as_str())).collect();
    assert_eq!(unused[0], (26, "value of 26"));
    assert_eq!((unused.len(), report.more_unused), (5, false));
    assert!(said(&report).contains("  entry 30: PUT /key0 \"value of 30\"\n"), "{report}");
    // Where the sum or the length is damaged rather than the data, nothing is lost.
    for at in [0, 11] {
        let old = Old::new(history(30), &[10], 1 << 20);
        old.change(&old.segments()[0], |file| {
            let value = b"value of 25";
            let at_value = file.windows(value.len()).position(|window| window == value).unwrap();
            let start = (0..at_value).rev().find(|start| is_frame(file, *start, at_value)).unwrap();
            file[start + at] ^= 1;
        });
        let (report, last) = old.saved();
        assert_eq!((report.whole, last), (true, 30), "byte {at}: {report}");
        assert!(said(&report).contains("could be read all the same"), "byte {at}: {report}");
    }
}

/// Whether an entry's record begins there that holds the byte `at`.
fn is_frame(file: &[u8], start: usize, at: usize) -> bool {
    let length = u64::from_le_bytes(*file[start..].first_chunk().unwrap());
    file[start + 8..].starts_with(&[8, 2, 16]) && length < 1000 && at - start < 1000
}

#[test]
fn lost_segments_and_snapshots() {
    let old = || Old::new(history(60), &[20, 40], 400);
    let count = old().segments().len();
    assert!(count > 8, "{count} segments");
    for lost in 0..count {
        let old = old();
        old.remove(&old.segments()[lost]);
        let (report, last) = old.saved();
        assert!(last >= 40, "{report}");
        // The segments before the snapshot are not needed. Of the last one nothing else tells.
        if lost + 1 < count {
            assert_eq!(report.whole, last == 60, "segment {lost}: {report}");
        }
        if lost > 0 && lost + 1 < count {
            assert!(said(&report).contains("segments before it are missing"), "{report}");
        }
    }
    // Without the newest snapshot the one before it has to do, then the log alone.
    let old = old();
    old.change(&snapshot(2, 40), |file| file[100] ^= 1);
    let (report, last) = old.saved();
    assert_eq!(
        (report.whole, last, report.result.as_ref().unwrap().snapshot_index),
        (true, 60, 20),
        "{report}"
    );
    assert!(said(&report).contains("broken: crc mismatch"), "{report}");
    old.disk.rename(Path::new(OUT), Path::new("/aside")).unwrap();
    old.change(&snapshot(2, 20), Vec::clear);
    let (report, last) = old.saved();
    assert_eq!(
        (report.whole, last, report.result.as_ref().unwrap().snapshot_index),
        (true, 60, 0),
        "{report}"
    );
    // Both, and a segment between: nothing leads to the later entries.
    old.disk.rename(Path::new(OUT), Path::new("/aside2")).unwrap();
    old.remove(&old.segments()[4]);
    let (report, last) = old.saved();
    assert!(!report.whole && last < 40, "{report}");
    assert!(said(&report).contains(": cannot be read"), "{report}");
    old.disk.rename(Path::new(OUT), Path::new("/aside3")).unwrap();
    old.remove(&old.segments()[0]);
    let (report, error) = old.nothing();
    assert!(matches!(error, SalvageError::Nothing), "{error}");
    assert!(report.files.len() > 8 && said(&report).starts_with("nothing could be salvaged"), "{report}");
    assert!(report.unused.len() > 40 && said(&report).contains("more: --json lists them"), "{report}");
}

#[test]
fn a_snapshot_alone_and_a_log_alone() {
    let old = Old::new(history(30), &[20], 1 << 20);
    old.remove(&old.segments()[0]);
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (false, 20), "{report}");
    // It does not need the log to know who it is: it was alone.
    assert_eq!(report.result.unwrap().member_id, MemberId(ID).to_string());

    let old = Old::new(history(30), &[20], 1 << 20);
    old.remove(&snapshot(2, 20));
    old.disk.remove_dir(&snap_dir()).unwrap();
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (true, 30), "{report}");

    // A good checksum does not make it a store.
    let old = Old::new(history(30), &[], 1 << 20);
    let files = Snapshots::new(old.disk.clone(), &snap_dir());
    files.save(2, 28, &pb::ConfState { nodes: vec![ID] }, |out| out.write_all(b"{}")).unwrap();
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (true, 30), "{report}");
    assert!(said(&report).contains("there is no root"), "{report}");
}

#[test]
fn what_a_server_has_set_aside_is_looked_at_too() {
    let old = Old::new(history(60), &[40], 400);
    let aside = snap_dir().join(format!("{}.broken", file_name(2, 40)));
    old.disk.rename(&snapshot(2, 40), &aside).unwrap();
    old.remove(&old.segments()[0]);
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (true, 60), "{report}");
}

#[test]
fn ends_that_are_torn_or_zero() {
    let old = Old::new(history(12), &[], 1 << 20);
    old.change(&old.segments()[0], |file| file.resize(file.len() + 4096, 0));
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (true, 12), "{report}");

    let old = Old::new(history(12), &[], 1 << 20);
    old.change(&old.segments()[0], |file| file.truncate(file.len() - 60));
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (false, 11), "{report}");
}

#[test]
fn a_log_that_does_not_say_whose_it_is() {
    // Alone, it can be nobody else.
    let broken = |entries| {
        let old = Old::new(entries, &[], 1 << 20);
        old.change(&old.segments()[0], |file| file[12 + 8 + 10..12 + 8 + 20].fill(0xff));
        old
    };
    let (report, _) = broken(history(12)).saved();
    assert_eq!(report.result.unwrap().member_id, MemberId(ID).to_string());
    // One of three is nobody: it gets an id and the default URLs.
    let mut three = history(12);
    three.extend([join(13, 20), join(14, 30)]);
    three.iter_mut().for_each(|entry| entry.term = entry.term.max(if entry.index > 2 { 2 } else { 1 }));
    let old = broken(three);
    let (report, error) = old.salvage();
    assert!(error.is_none(), "{error:?}");
    let (replay, metadata) = reopened(&old.disk);
    assert_eq!(replay.voters().iter().copied().collect::<Vec<_>>(), [metadata.node_id]);
    assert!(![ID, 20, 30].contains(&metadata.node_id));
    let urls = format!("/0/members/{}/raftAttributes", MemberId(metadata.node_id));
    let urls = replay.store().get(urls.as_bytes(), false, false).unwrap();
    assert_eq!(
        urls.node().value().unwrap(),
        br#"{"peerURLs":["http://localhost:2380","http://localhost:7001"]}"#
    );
    assert!(said(&report).contains("does not say which member's it is"), "{report}");
    assert_eq!(report.result.unwrap().members_removed, 3);
}

#[test]
fn all_other_members_are_removed() {
    let mut entries = history(12);
    entries.extend([join(13, 20), join(14, 30)].map(|entry| pb::Entry { term: 2, ..entry }));
    let old = Old::new(entries, &[], 1 << 20);
    let (report, error) = old.salvage();
    assert!(error.is_none(), "{error:?}");
    let (replay, metadata) = reopened(&old.disk);
    assert_eq!(metadata.node_id, ID);
    assert_eq!(replay.voters().iter().copied().collect::<Vec<_>>(), [ID]);
    assert!(
        shared::log_replay::is_removed(replay.store(), 20)
            && shared::log_replay::is_removed(replay.store(), 30)
    );
    assert_eq!((report.whole, report.result.unwrap().members_removed), (true, 2));
}

#[test]
fn every_cut_leaves_a_state_of_before() {
    let whole = Old::new(history(9), &[], 1 << 20);
    let path = whole.segments()[0].clone();
    let bytes = whole.disk.contents(&path).unwrap();
    let mut lasts = Vec::new();
    for len in 0..bytes.len() {
        let old = Old { disk: SimDisk::new(1), entries: whole.entries.clone() };
        old.disk.plant(&path, &bytes[..len]).unwrap();
        let (_, error) = salvage(&old.disk, Path::new(DIR), None, Path::new(OUT));
        match error {
            Some(error) => {
                assert!(matches!(error, SalvageError::Nothing) && lasts.is_empty(), "{len}: {error}")
            }
            None => {
                old.disk.rename(Path::new(OUT), Path::new("/aside")).unwrap();
                let (report, last) = old.saved();
                assert!(report.whole == (last == report_end(&report)), "{len}: {report}");
                lasts.push(last);
            }
        }
    }
    assert!(lasts.is_sorted() && lasts.first() == Some(&1) && lasts.last() == Some(&9), "{lasts:?}");
}

/// The last entry if nothing says that there were more.
fn report_end(report: &Report) -> u64 {
    if report.missing.is_empty() {
        report.result.as_ref().map_or(0, |result| result.last_index)
    } else {
        u64::MAX
    }
}

#[test]
fn every_flipped_bit_leaves_a_state_of_before() {
    let whole = Old::new(history(8), &[5], 1 << 20);
    let paths = [whole.segments()[0].clone(), snapshot(2, 5)];
    let files = whole.files(Path::new(DIR));
    let mut ends = BTreeMap::new();
    for path in &paths {
        // Of the snapshot one bit of each byte has to do.
        let is_log = path.starts_with(wal_dir());
        let bits = (0..files[path].len().min(1500)).flat_map(|at| (0..8).map(move |bit| (at, bit)));
        for (at, bit) in bits.filter(|(at, bit)| is_log || at % 8 == *bit) {
            let old = Old { disk: SimDisk::new(1), entries: whole.entries.clone() };
            for (other, bytes) in &files {
                old.disk.plant(other, bytes).unwrap();
            }
            old.change(path, |bytes| bytes[at] ^= 1 << bit);
            let (report, last) = old.saved();
            assert!(last >= 5, "bit {bit} of byte {at}: {report}");
            assert!(report.whole == (last == 8) || !report.missing.is_empty(), "{at}: {report}");
            *ends.entry(last).or_insert(0) += 1;
        }
    }
    assert!(ends[&8] > 5000 && ends.len() == 4, "{ends:?}");
}

#[test]
fn what_stands_behind_damage_may_be_another_history() {
    // Term 2 ends with entry 8, which nobody else has; term 3 begins with another entry 8.
    let mut entries = history(8);
    let old = Old::new(entries.clone(), &[], 1 << 20);
    let (mut log, _) = Wal::open(old.disk.clone(), &wal_dir(), pb::WalSnapshot::default()).unwrap();
    let later = [entry(3, 8, 0, Vec::new()), put(3, 9, "lost"), put(3, 10, "kept")];
    let state = pb::HardState { term: 3, vote: ID, commit: 10 };
    log.append(later.iter().map(EntryRef::from), Some(state));
    log.close().unwrap();
    // Without damage the later entries count.
    entries.truncate(7);
    entries.extend(later);
    let old = Old { entries, ..old };
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (true, 10), "{report}");
    // Entry 8 of term 3 is lost: entry 9 must not go on behind entry 8 of term 2.
    old.disk.rename(Path::new(OUT), Path::new("/aside")).unwrap();
    let path = old.segments()[0].clone();
    old.change(&path, |file| {
        let empty: &[u8] = &[0x1a, 6, 8, 0, 16, 3, 24, 8];
        let at = file.windows(8).position(|window| window == empty).unwrap();
        file[at + 3] = 0x80;
    });
    let (report, error) = old.salvage();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(report.result.as_ref().unwrap().last_index, 8, "{report}");
    assert!(!report.whole && said(&report).contains("9 to 10"), "{report}");
}

#[test]
fn places_that_are_refused() {
    let old = Old::new(history(9), &[], 1 << 20);
    let refused = |out: &str| salvage(&old.disk, Path::new(DIR), None, Path::new(out)).1.unwrap();
    for out in [DIR, "/old/new", "/old/member/wal/x"] {
        let error = refused(out);
        assert!(error.is_usage(), "{error}");
    }
    old.disk.plant(Path::new("/full/x"), b"x").unwrap();
    assert!(matches!(refused("/full"), SalvageError::InTheWay(_)));
    assert!(matches!(refused("/full/x"), SalvageError::InTheWay(_)));
    let none = salvage(&old.disk, Path::new("/none"), None, Path::new(OUT)).1.unwrap();
    assert!(matches!(none, SalvageError::NoDirectory(_)) && none.is_usage());
    let other = salvage(&old.disk, Path::new("/full"), None, Path::new(OUT)).1.unwrap();
    assert!(matches!(other, SalvageError::NotAMember(_)) && other.is_nothing());
    // An empty directory is taken, with what an interrupted run has left in it; the log may be elsewhere.
    // What has the draft's name but was not left by such a run is left alone.
    let draft = Path::new(OUT).join("member.salvaging");
    old.disk.plant(&draft.join("snap/x"), b"x").unwrap();
    assert!(matches!(refused(OUT), SalvageError::DraftInTheWay(found) if found == draft));
    old.disk.plant(Path::new("/fresh.salvaging/member/wal/x"), b"x").unwrap();
    assert!(matches!(refused("/fresh"), SalvageError::DraftInTheWay(_)));
    assert!(old.disk.contents(Path::new("/fresh.salvaging/member/wal/x")).is_ok());
    old.disk.plant(&draft.join("unfinished-salvage"), b"").unwrap();
    old.disk.create_dir_all(Path::new(OUT)).unwrap();
    old.disk.create_dir_all(Path::new("/bare/member")).unwrap();
    let (report, error) = salvage(&old.disk, Path::new("/bare"), Some(&wal_dir()), Path::new(OUT));
    assert!(error.is_none() && report.unwrap().whole);
    assert_eq!(old.disk.list(Path::new(OUT)).unwrap(), ["member"]);
    // Directories of 3.x hold more than can be saved here.
    old.disk.plant(&snap_dir().join("db"), b"x").unwrap();
    let newer = salvage(&old.disk, Path::new(DIR), None, Path::new("/new/other")).1.unwrap();
    assert!(matches!(newer, SalvageError::Newer(_)) && newer.is_nothing());
}

#[test]
fn numbers_without_bound_are_damage() {
    let entries = history(9);
    let old = Old::new(entries, &[], 1 << 20);
    let (mut log, _) = Wal::open(old.disk.clone(), &wal_dir(), pb::WalSnapshot::default()).unwrap();
    log.append_snapshot(pb::WalSnapshot { index: u64::MAX - 1, term: 2 }).unwrap();
    log.append([EntryRef::from(&put(2, u64::MAX, "x"))].into_iter(), None);
    log.append(std::iter::empty(), Some(pb::HardState { term: u64::MAX, vote: 0, commit: u64::MAX }));
    log.close().unwrap();
    let files = Snapshots::new(old.disk.clone(), &snap_dir());
    files.save(u64::MAX, u64::MAX, &pb::ConfState::default(), |out| out.write_all(b"{}")).unwrap();
    let name = "ffffffffffffffff-ffffffffffffffff.wal";
    old.disk.plant(&wal_dir().join(name), b"junk").unwrap();
    old.disk.plant(&wal_dir().join("ffffffffffffffff-fffffffffffffffe.wal"), b"junk").unwrap();
    let (report, last) = old.saved();
    assert_eq!((report.whole, last), (false, 9), "{report}");
    let findings = crate::doctor::tests::looked(&old.disk, Path::new(DIR));
    assert!(findings.is_err() || findings.is_ok_and(|found| found), "an answer, whatever it is");
}

#[test]
fn a_server_that_runs_is_noticed() {
    let old = Old::new(history(9), &[], 1 << 20);
    let (log, _) = Wal::open(old.disk.clone(), &wal_dir(), pb::WalSnapshot::default()).unwrap();
    let (report, _) = old.saved();
    assert!(said(&report).contains("a server runs on it"), "{report}");
    drop(log);
    old.disk.rename(Path::new(OUT), Path::new("/aside")).unwrap();
    assert!(!said(&old.saved().0).contains("a server runs on it"));
}

#[test]
fn a_disk_that_is_full_leaves_no_draft() {
    let mut refused = 0;
    for after in 0..12 {
        let old = Old::new(history(30), &[20], 1 << 20);
        old.disk.inject(Fault {
            operation: DiskOperation::Write,
            after,
            kind: std::io::ErrorKind::StorageFull,
        });
        let (_, error) = old.salvage();
        refused += usize::from(error.is_some_and(|error| !error.is_nothing() && !error.is_usage()));
    }
    assert!(refused > 2, "{refused}");
}

#[test]
fn power_may_fail_at_any_moment() {
    let mut outcomes = [0, 0];
    for after in 0..40 {
        let old = Old::new(history(30), &[20], 1 << 20);
        old.disk.fail_power_after(after);
        let (_, error) = salvage(&old.disk, Path::new(DIR), None, Path::new(OUT));
        old.disk.crash();
        let there = old.disk.open(&Path::new(OUT).join("member/wal"), Open::Read).is_ok()
            || wal::exists(&old.disk, &Path::new(OUT).join("member/wal")).unwrap();
        assert!(there || error.is_some(), "{after}: not durable");
        if there {
            assert_eq!(reopened(&old.disk).0.applied().index, 30, "{after}: a part only");
            old.disk.rename(Path::new(OUT), Path::new("/aside")).unwrap();
        }
        outcomes[usize::from(there)] += 1;
        // Another run clears up and succeeds.
        let (report, last) = old.saved();
        assert_eq!((report.whole, last), (true, 30), "{after}: {report}");
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[test]
fn a_log_that_ends_before_its_snapshot_has_lost_entries() {
    let old = Old::new(history(12), &[8], u64::MAX);
    let segment = old.segments().pop().unwrap();
    // Behind a whole record: nothing of what follows is left.
    let whole = old.disk.contents(&segment).unwrap();
    let key = format!("value of {}", 5);
    let in_fifth = whole.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    let ends: Vec<usize> = (in_fifth..whole.len()).filter(|end| whole_records(&whole[..*end])).collect();
    old.change(&segment, |bytes| bytes.truncate(ends[0]));
    let (report, last) = old.saved();
    assert_eq!(last, 8);
    assert!(!report.whole && report.to_string().contains("the log ends at entry"), "{report}");
}

/// Whether a log ends behind a whole record.
fn whole_records(mut log: &[u8]) -> bool {
    while let Some((length, rest)) = log.split_first_chunk::<8>() {
        let length = usize::try_from(i64::from_le_bytes(*length)).unwrap();
        let Some(rest) = rest.get(length..) else { return false };
        log = rest;
    }
    log.is_empty()
}

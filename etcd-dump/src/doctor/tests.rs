//! Directories of 3.x as their servers write them, and what is found in them.

use std::path::{Path, PathBuf};

use prost::Message as _;
use shared::disk::{Disk as _, SimDisk};
use shared::log_replay::LogReplay;
use shared::pb;
use shared::snap::{Snapshots, file_name};
use shared::wal::{EntryRef, Frames, Wal};

use super::findings::{Findings, examine};
use super::report::TextReport;
use super::{DoctorError, find};

const ID: u64 = 0x1e03_c8d3_5c34_dbbd;

/// A member of 3.4 or 3.5, and the state of its store.
struct V3 {
    disk: SimDisk,
    bytes: Vec<u8>,
    crc: u32,
    replay: LogReplay,
    /// Whether snapshots that are taken are kept as files.
    keeps: bool,
}

impl V3 {
    /// One that has joined and published itself, as 3.5 does.
    fn new() -> V3 {
        let replay = LogReplay::new(Frames::Any);
        let mut made = V3 { disk: SimDisk::new(1), bytes: Vec::new(), crc: 0, replay, keeps: true };
        made.disk.plant(&snap_dir().join("db"), b"bolt").unwrap();
        made.record(4, None);
        made.record(1, Some(pb::Metadata { node_id: ID, cluster_id: 7 }.encode_to_vec()));
        made.record(5, Some(pb::WalSnapshot::default().encode_to_vec()));
        let context = format!("{{\"id\":{ID},\"peerURLs\":[\"http://p:1\"],\"name\":\"m\"}}");
        let change = pb::ConfChange { id: 0, kind: pb::ADD_NODE, node_id: ID, context: Some(context.into()) };
        made.entry(pb::ENTRY_CONF_CHANGE, change.encode_to_vec());
        made.entry(0, Vec::new());
        made.union(1301, &[&[8][..], &varint(ID), b"\x12\x09\x0a\x01m\x12\x04u://"].concat());
        made.union(1300, b"\x0a\x053.5.0");
        made
    }

    /// A record in a frame that is padded to 8 bytes.
    fn record(&mut self, kind: u8, data: Option<Vec<u8>>) {
        self.crc = crc32c::crc32c_append(self.crc, data.as_deref().unwrap_or_default());
        let mut body = [&[8, kind, 16][..], &varint(self.crc.into())].concat();
        if let Some(data) = data {
            body.push(26);
            body.extend(varint(data.len() as u64));
            body.extend(data);
        }
        let pad = (8 - body.len() % 8) % 8;
        let mark = if pad > 0 { (0x80 | pad as u64) << 56 } else { 0 };
        self.bytes.extend((body.len() as u64 | mark).to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + pad, 0);
    }

    fn entry(&mut self, kind: i32, data: Vec<u8>) {
        let index = self.replay.applied().index + 1;
        let entry = pb::Entry { kind, term: 2, index, data: (!data.is_empty()).then(|| data.into()) };
        self.record(2, Some(entry.encode_to_vec()));
        self.record(3, Some(pb::HardState { term: 2, vote: ID, commit: index }.encode_to_vec()));
        self.replay.apply(&entry).unwrap();
    }

    /// A request of the v3 API: a header and one field.
    fn union(&mut self, field: u32, message: &[u8]) {
        let key = varint(u64::from(field) << 3 | 2);
        let bytes = [b"\xa2\x06\x02\x08\x05", &key[..], &varint(message.len() as u64), message].concat();
        self.entry(0, bytes);
    }

    /// A request of the v2 API stands alone, in 3.x too.
    fn v2(&mut self, method: &'static str, path: &str) {
        let request = pb::Request {
            id: 1,
            method: method.into(),
            path: path.to_owned().into(),
            val: "v".into(),
            recursive: method == "DELETE",
            dir: method == "DELETE",
            ..pb::Request::default()
        };
        self.entry(0, request.encode_to_vec());
    }

    fn put(&mut self, path: &str) {
        self.v2("PUT", path);
    }

    /// What 3.4 publishes by v2 requests.
    fn publish(&mut self) {
        self.put_value(
            &format!("/0/members/{ID:x}/attributes"),
            "{\"name\":\"m\",\"clientURLs\":[\"u://\"]}",
        );
        self.put_value("/0/version", "3.4.0");
    }

    fn put_value(&mut self, path: &str, value: &'static str) {
        let val = value.into();
        let request = pb::Request {
            id: 1,
            method: "PUT".into(),
            path: path.to_owned().into(),
            val,
            ..Default::default()
        };
        self.entry(0, request.encode_to_vec());
    }

    fn snapshot(&mut self) {
        let at = self.replay.applied();
        // The mark of 3.5 names the voters.
        let voters = [&[0x1a, 12, 8][..], &varint(ID), &[0x28, 0]].concat();
        self.record(5, Some([at.encode_to_vec(), voters].concat()));
        if self.keeps {
            let members = pb::ConfState { nodes: vec![ID] };
            let files = Snapshots::new(self.disk.clone(), &snap_dir());
            let image = self.replay.store().image();
            files.save(at.term, at.index, &members, |out| image.write_json(out)).unwrap();
        }
    }

    fn findings(&self) -> Findings {
        let zeros = [&self.bytes[..], &[0; 8192]].concat();
        self.disk.plant(&segment(), &zeros).unwrap();
        look(&self.disk)
    }
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

fn snap_dir() -> PathBuf {
    Path::new("/d/member/snap").to_owned()
}

fn segment() -> PathBuf {
    Path::new("/d/member/wal/0000000000000000-0000000000000000.wal").to_owned()
}

fn look(disk: &SimDisk) -> Findings {
    let findings = examine(disk, Path::new("/d"), &find(disk, Path::new("/d"), None).unwrap()).unwrap();
    // A report of anything has words for it, and says what the numbers say.
    for all in [false, true] {
        let text = TextReport { findings: &findings, all }.to_string();
        assert_eq!(text.contains("refuses to start"), findings.refused, "{text}");
        assert_eq!(text.contains("what to do"), findings.found, "{text}");
        let named = findings.keys.iter().chain(&findings.auth).chain(&findings.other);
        assert!(!all || named.into_iter().all(|node| text.contains(&node.key)), "{text}");
    }
    findings
}

/// Whether anything is found in a directory, or cannot be read.
pub(crate) fn looked(disk: &SimDisk, dir: &Path) -> Result<bool, DoctorError> {
    find(disk, dir, None)
        .and_then(|member| examine(disk, dir, &member))
        .map(|findings| findings.found || findings.unreadable.is_some())
}

/// Whether there is anything, whether 3.6 refuses it, and how many keys, records of users and v2 requests there are.
fn summary(findings: &Findings) -> (bool, bool, usize, usize, u64) {
    let Findings { found, refused, keys, auth, log, .. } = findings;
    (*found, *refused, keys.len(), auth.len(), log.v2_requests)
}

#[test]
fn a_member_that_knows_v3_only_is_clean() {
    let mut made = V3::new();
    made.union(4, b"\x0a\x01k\x12\x01v");
    let findings = made.findings();
    assert_eq!(summary(&findings), (false, false, 0, 0, 0));
    assert_eq!((findings.release, findings.log.v3_requests, findings.since), ("3.x", 3, None));
    assert_eq!(made.replay.store().index(), 3, "members and version stand in the v2 store");
    // 3.4 publishes itself and the version by v2 requests, which 3.6 replays.
    made.publish();
    assert_eq!(summary(&made.findings()), (false, false, 0, 0, 0));
    made.snapshot();
    let findings = made.findings();
    assert_eq!(summary(&findings), (false, false, 0, 0, 0));
    assert_eq!(findings.snapshot.map(|snapshot| (snapshot.index, snapshot.refused)), Some((7, false)));
}

#[test]
fn keys_in_the_log_and_in_the_snapshot() {
    let mut made = V3::new();
    made.put("/1/dir/a");
    made.put("/1/b");
    let findings = made.findings();
    assert_eq!(summary(&findings), (true, true, 3, 0, 2));
    let keys: Vec<&str> = findings.keys.iter().map(|node| node.key.as_str()).collect();
    assert_eq!(keys, ["/b", "/dir", "/dir/a"]);
    assert_eq!((findings.since, findings.keys[0].created_index), (Some(4), 5));
    assert_eq!(findings.log.first_v2_request.as_ref().map(|request| request.index), Some(5));
    made.snapshot();
    made.union(4, b"\x0a\x01k\x12\x01v");
    let findings = made.findings();
    assert_eq!(summary(&findings), (true, true, 3, 0, 0));
    assert!(findings.snapshot.as_ref().unwrap().refused);
    assert_eq!(findings.since, Some(4));
    // Deleted, the snapshot tells of them still, and the log of the deletion.
    made.v2("DELETE", "/1/dir");
    made.v2("DELETE", "/1/b");
    let findings = made.findings();
    assert_eq!(summary(&findings), (true, true, 0, 0, 2));
    let text = TextReport { findings: &findings, all: false }.to_string();
    assert!(text.contains("The keys are gone already"), "{text}");
    // The next snapshot is clean.
    made.snapshot();
    assert_eq!(summary(&made.findings()), (false, false, 0, 0, 0));
}

#[test]
fn a_snapshot_that_the_log_does_not_know_is_none() {
    let mut made = V3::new();
    made.put("/1/a");
    made.v2("DELETE", "/1/a");
    made.snapshot();
    let newest = snap_dir().join(file_name(2, 9));
    made.disk.plant(&newest, &made.disk.contents(&snap_dir().join(file_name(2, 6))).unwrap()).unwrap();
    let findings = made.findings();
    assert_eq!(findings.snapshot.as_ref().map(|snapshot| snapshot.index), Some(6));
    // A broken one is passed over, the one before it counts.
    made.disk.plant(&newest, b"junk").unwrap();
    let findings = made.findings();
    assert_eq!(findings.snapshot.as_ref().map(|snapshot| snapshot.index), Some(6));
    // What was in it is not known, so this is not the same as finding nothing.
    assert!(!findings.found && findings.notices.len() == 2, "{:?}", findings.notices);
    assert!(findings.unreadable.is_some_and(|reason| reason.contains(&file_name(2, 9))));
}

#[test]
fn users_and_roles() {
    let mut made = V3::new();
    for path in ["/2/enabled", "/2/users/root", "/2/roles/guest"] {
        made.put(path);
    }
    made.snapshot();
    let findings = made.findings();
    assert_eq!(summary(&findings), (true, true, 0, 5, 0));
    assert!(findings.auth.iter().any(|node| node.key == "/2/roles/guest" && !node.dir));
    // Once all are removed, what is left is no harm.
    made.v2("DELETE", "/2/users/root");
    made.v2("DELETE", "/2/roles/guest");
    made.snapshot();
    assert_eq!(summary(&made.findings()), (false, false, 0, 3, 0));
}

#[test]
fn hidden_keys_are_lost_without_a_word() {
    let mut made = V3::new();
    made.put("/1/_secret");
    made.snapshot();
    let findings = made.findings();
    assert_eq!(summary(&findings), (true, false, 1, 0, 0));
    let text = TextReport { findings: &findings, all: false }.to_string();
    assert!(text.contains("no client could read it any more"), "{text}");
}

#[test]
fn damage_and_what_is_no_directory() {
    let mut made = V3::new();
    made.put("/1/a");
    let (whole, mut flawed) = (made.bytes.clone(), made.bytes.clone());
    let member = || find(&made.disk, Path::new("/d"), None).unwrap();
    let at = whole.windows(2).rposition(|window| window == b"/a").unwrap();
    flawed[at] ^= 1;
    made.disk.plant(&segment(), &flawed).unwrap();
    let findings = examine(&made.disk, Path::new("/d"), &member()).unwrap();
    assert!(!findings.found && findings.unreadable.unwrap().contains("crc mismatch"));
    // A log whose beginning is gone, without a snapshot, says nothing.
    made.disk.remove(&segment()).unwrap();
    made.disk.plant(&segment().with_file_name("0000000000000001-0000000000000009.wal"), &whole).unwrap();
    let findings = examine(&made.disk, Path::new("/d"), &member()).unwrap();
    assert!(!findings.found && !findings.is_start_known);
    assert!(findings.unreadable.unwrap().contains("no segments in /d/member/wal"));

    let disk = SimDisk::new(1);
    assert!(matches!(find(&disk, Path::new("/none"), None).unwrap_err(), DoctorError::NoDirectory(_)));
    disk.plant(Path::new("/old/log"), b"").unwrap();
    assert!(matches!(find(&disk, Path::new("/old"), None).unwrap_err(), DoctorError::NotAMember(_)));
    disk.plant(Path::new("/old/conf"), b"").unwrap();
    assert!(matches!(find(&disk, Path::new("/old"), None).unwrap_err(), DoctorError::Legacy(_)));
}

/// What cannot be read of a directory, of which the log or the snapshots were changed.
#[track_caller]
fn unreadable(made: &V3, wanted: &str) -> Findings {
    let findings = look(&made.disk);
    let reason = findings.unreadable.clone().unwrap_or_default();
    assert!(reason.contains(wanted), "{wanted}: {reason:?}");
    let text = TextReport { findings: &findings, all: false }.to_string();
    assert!(text.contains(wanted) && !text.contains("There is no v2 data that"), "{text}");
    findings
}

#[test]
fn a_log_without_a_record_never_counts_as_free_of_v2_data() {
    for bytes in [&b""[..], &[0; 4096], &[0; 7]] {
        let mut made = V3::new();
        made.put("/1/a");
        made.snapshot();
        made.disk.plant(&segment(), bytes).unwrap();
        let findings = unreadable(&made, "0000000000000000-0000000000000000.wal");
        assert!(!findings.is_start_known && findings.keys.len() == 1, "the snapshot is looked at still");
        // The same without any snapshot.
        made.disk.remove(&snap_dir().join(file_name(2, 5))).unwrap();
        assert!(!unreadable(&made, "0000000000000000-0000000000000000.wal").found);
    }
    // The last of several segments: what it held may have been v2 requests.
    let made = V3::new();
    made.disk.plant(&segment(), &made.bytes).unwrap();
    assert_eq!(look(&made.disk).unreadable, None);
    let last = "0000000000000001-0000000000000005.wal";
    made.disk.plant(&segment().with_file_name(last), b"").unwrap();
    assert!(!unreadable(&made, last).found);
    made.disk.remove(&segment().with_file_name(last)).unwrap();
    made.disk.remove(&segment()).unwrap();
    unreadable(&made, "there are no segments in /d/member/wal");
}

#[test]
fn what_cannot_be_read_to_its_end_is_named() {
    let mut made = V3::new();
    made.snapshot();
    let newest = snap_dir().join(file_name(2, 4));
    let image = made.disk.contents(&newest).unwrap();
    // A snapshot that is damaged, although the log reaches back to its start.
    made.disk.plant(&segment(), &made.bytes).unwrap();
    assert_eq!(look(&made.disk).unreadable, None);
    for bad in [&b""[..], &image[..image.len() - 1], b"junk"] {
        made.disk.plant(&newest, bad).unwrap();
        assert!(!unreadable(&made, &file_name(2, 4)).found);
    }
    // One that the log does not reach.
    made.disk.plant(&newest, &image).unwrap();
    let far = snap_dir().join(file_name(2, 99));
    let members = pb::ConfState { nodes: vec![ID] };
    let image = made.replay.store().image();
    let files = Snapshots::new(made.disk.clone(), &snap_dir());
    files.save(2, 99, &members, |out| image.write_json(out)).unwrap();
    unreadable(&made, "does not reach entry 99");
    made.disk.remove(&far).unwrap();
    // A part of a record at the end.
    made.disk.plant(&segment(), &made.bytes[..made.bytes.len() - 5]).unwrap();
    unreadable(&made, "ends in a part of a record");
    // The log ends before what it says is committed.
    let mut made = V3::new();
    made.record(3, Some(pb::HardState { term: 2, vote: ID, commit: 50 }.encode_to_vec()));
    made.disk.plant(&segment(), &made.bytes).unwrap();
    unreadable(&made, "entry 50 is committed, but the log ends at 4");
}

#[test]
fn a_member_that_3_6_cannot_read_is_found() {
    // A member that was removed has published itself later.
    let mut made = V3::new();
    let at = made.replay.applied();
    let store = "{\"Root\":{\"Path\":\"/\",\"Children\":{\"0\":{\"Path\":\"/0\",\"Children\":{\"members\":{\"Path\":\
                 \"/0/members\",\"Children\":{\"abc\":{\"Path\":\"/0/members/abc\",\"Children\":{\"attributes\":{\
                 \"Path\":\"/0/members/abc/attributes\",\"Value\":\"{}\"}}}}}}}}},\"CurrentIndex\":5}";
    let members = pb::ConfState { nodes: vec![ID] };
    let files = Snapshots::new(made.disk.clone(), &snap_dir());
    files.save(at.term, at.index, &members, |out| out.write_all(store.as_bytes())).unwrap();
    made.record(5, Some(at.encode_to_vec()));
    let findings = made.findings();
    assert!(findings.found && findings.refused && findings.keys.is_empty());
    assert_eq!(findings.members, ["/0/members/abc: it has no raftAttributes"]);
    let text = TextReport { findings: &findings, all: false }.to_string();
    assert!(text.starts_with("There is no v2 data, but a member that etcd 3.6 cannot read"), "{text}");

    // In the log: the record of no member, and one that is not JSON.
    let mut made = V3::new();
    made.v2("PUT", &format!("/0/members/{ID:x}/attributes"));
    let findings = made.findings();
    assert!(findings.refused, "the value is \"v\"");
    assert!(findings.members.iter().any(|fault| fault.starts_with("entry 5: PUT")), "{:?}", findings.members);
}

#[test]
fn every_cut_and_every_flipped_bit_is_survived() {
    let mut made = V3::new();
    made.put("/1/a");
    made.snapshot();
    made.put("/1/b");
    let snapshot = snap_dir().join(file_name(2, 5));
    let image = made.disk.contents(&snapshot).unwrap();
    let member = crate::paths::MemberFiles { snap: snap_dir(), wal: segment().parent().unwrap().to_owned() };
    let examined = |log: &[u8], image: &[u8]| {
        made.disk.plant(&segment(), log).unwrap();
        made.disk.plant(&snapshot, image).unwrap();
        examine(&made.disk, Path::new("/d"), &member)
    };
    for at in 0..made.bytes.len() {
        if let Ok(findings) = examined(&made.bytes[..at], &image) {
            assert!(findings.keys.len() <= 2, "cut at {at}");
        }
        let mut flawed = made.bytes.clone();
        flawed[at] ^= 1 << (at % 8);
        if let Ok(findings) = examined(&flawed, &image) {
            let keys = findings.keys.iter().all(|node| ["/a", "/b"].contains(&node.key.as_str()));
            assert!(keys && (findings.found || findings.unreadable.is_some()), "byte {at}");
        }
    }
    // In a snapshot nothing is overlooked: it is passed over, and the log reaches back to the start.
    for at in 0..image.len().min(400) {
        let mut flawed = image.clone();
        flawed[at] ^= 1 << (at % 8);
        let findings = examined(&made.bytes, &flawed).unwrap();
        assert_eq!((findings.found, findings.keys.len()), (true, 2), "byte {at} of the snapshot");
    }
}

#[test]
fn directories_of_2_x_are_read_too() {
    let disk = SimDisk::new(1);
    let metadata = pb::Metadata { node_id: ID, cluster_id: 7 };
    let mut log = Wal::create(disk.clone(), segment().parent().unwrap(), metadata).unwrap();
    let findings = look(&disk);
    assert_eq!((summary(&findings), findings.release), ((false, false, 0, 0, 0), "2.x"));
    let request = pb::Request {
        method: "PUT".into(),
        path: "/1/a".into(),
        expiration: 4_000_000_000_000_000_000,
        ..Default::default()
    };
    let data = Some(request.encode_to_vec().into());
    let entry = pb::Entry { kind: 0, term: 1, index: 1, data };
    log.append([EntryRef::from(&entry)].into_iter(), Some(pb::HardState { term: 1, vote: 0, commit: 1 }));
    log.sync().unwrap();
    let findings = look(&disk);
    assert_eq!(summary(&findings), (true, true, 1, 0, 1));
    assert_eq!(findings.keys[0].expiration.as_deref(), Some("2096-10-02T07:06:40Z"));
}

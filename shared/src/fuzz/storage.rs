//! Bodies for the formats on disk and for URLs.

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::disk::SimDisk;
use crate::log_replay::LogReplay;
use crate::url::{InitialCluster, Urls};
use crate::wal::{self, Frames, Reader, Record, Wal};
use crate::{bolt, entry, pb, snap};

/// Decodes a segment. The good records must be the same if only they are there.
///
/// # Panics
/// If that is not so.
pub fn wal_reader(bytes: &[u8]) {
    let (records, end) = read_all(bytes);
    assert!(end <= bytes.len(), "records end at {end} of {}", bytes.len());
    let (again, again_end) = read_all(&bytes[..end]);
    assert!(records == again && end == again_end, "a prefix of whole records reads otherwise");
}

/// Surveys a segment, as one of 2.x and of 3.x. It must find what a reader finds; proven records must be readable in
/// a log of only those; spans must not overlap, and the bytes between them must be reported as damaged.
///
/// # Panics
/// If that is not so.
pub fn wal_survey(bytes: &[u8]) {
    for frames in [Frames::V2, Frames::Any] {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut found = Vec::new();
        let survey =
            wal::survey(bytes.clone(), Some(0), frames, &mut |place, record| found.push((place, record)));
        let Ok(survey) = survey else { panic!("bytes in memory can be read") };
        let mut reader = Reader::of(bytes.clone(), 0, frames);
        let mut good = 0;
        while let Ok(Some(record)) = reader.next_record() {
            // The first record has the sum, the second the ids, and no other has: what says otherwise is another one
            // with a damaged type.
            let place = match record {
                Record::Crc(_) => 0,
                Record::Metadata(_) => 1,
                _ => good.max(2),
            };
            if place != good {
                break;
            }
            assert!(found.get(good).is_some_and(|(_, found)| *found == record), "record {good} is not found");
            good += 1;
        }
        let mut at = 0;
        for (place, record) in &found {
            assert!(at <= place.offset && place.offset < place.end, "{place:?} behind {at}");
            let told =
                |to: u64, damage: &wal::DamagedRange| if damage.from <= to { to.max(damage.to) } else { to };
            let told = survey.damaged_ranges.iter().fold(at, told);
            assert!(told >= place.offset, "bytes from {told} on are passed over");
            if let Record::Entry(entry) = record {
                let again = wal::entry_at(&mut bytes.clone(), place.offset, place.end, frames);
                assert!(matches!(again, Ok(Some(again)) if again == *entry), "{place:?} reads otherwise");
            }
            at = place.end;
        }
    }
}

/// Decodes what an entry holds, as one of 2.x and of 3.x, and replays it.
///
/// # Panics
/// If 2.x reads what 3.x does not, or an entry that cannot be decoded is applied.
pub fn entry_content(bytes: &[u8]) {
    let Some((kind, data)) = bytes.split_first() else { return };
    let data = Some(Bytes::copy_from_slice(data));
    let entry = pb::Entry { kind: i32::from(*kind % 3), term: 1, index: 1, data };
    let [old, any] = [Frames::V2, Frames::Any].map(|frames| entry::content(&entry, frames));
    assert!(old.is_err() || any.is_ok(), "only 2.x reads {old:?}");
    for (frames, content) in [(Frames::V2, old), (Frames::Any, any)] {
        let mut replay = LogReplay::new(frames);
        let applied = replay.apply(&entry);
        assert!(applied.is_ok() == content.is_ok(), "{content:?} is applied as {applied:?}");
        assert!((replay.applied().index == 1) == applied.is_ok(), "an entry that is refused counts");
    }
}

/// All good records, and where they end.
fn read_all(bytes: &[u8]) -> (Vec<Record>, usize) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes), 0);
    let mut records = Vec::new();
    while let Ok(Some(record)) = reader.next_record() {
        records.push(record);
    }
    (records, usize::try_from(reader.offset()).unwrap_or(usize::MAX))
}

/// Opens a log of one segment: it is refused and unchanged, or opens, and then always opens with the same contents.
///
/// # Panics
/// If that is not so.
#[expect(clippy::expect_used, reason = "a body panics when a promise is broken")]
pub fn wal_open(bytes: &[u8]) {
    let dir = Path::new("/wal");
    let file = dir.join("0000000000000000-0000000000000000.wal");
    let disk = SimDisk::new(0);
    disk.plant(&file, bytes).expect("the simulated disk has room");
    let start = pb::WalSnapshot::default();
    let inspected = wal::inspect(&disk, dir, 0);
    assert!(disk.contents(&file).expect("the file is there") == bytes, "looking changed the segment");
    let Ok((log, recovered)) = Wal::open(disk.clone(), dir, start) else {
        assert!(disk.contents(&file).expect("the file is there") == bytes, "a refused segment was changed");
        return;
    };
    let inspected = inspected.expect("what opens can be looked at");
    assert!(inspected.entries == recovered.entries, "looking and opening find other entries");
    drop(log);
    let (mut log, again) = Wal::open(disk.clone(), dir, start).expect("it opened before");
    assert!(again.repaired.is_none(), "repaired twice");
    assert!(again.entries == recovered.entries && again.state == recovered.state, "opens otherwise");
    if let Some(index) = log.last_index().checked_add(1) {
        let entry = wal::EntryRef { kind: pb::ENTRY_NORMAL, term: 1, index, data: Some(b"more") };
        log.append([entry].into_iter(), None);
        log.sync().expect("the simulated disk has room");
    }
}

/// Decodes a snapshot file; what is accepted is the same when it is saved and read again.
///
/// # Panics
/// If that is not so.
#[expect(clippy::expect_used, reason = "a body panics when a promise is broken")]
pub fn snapshot(bytes: &[u8]) {
    let Ok(snapshot) = snap::decode(Bytes::copy_from_slice(bytes)) else { return };
    let disk = SimDisk::new(0);
    let metadata = &snapshot.metadata;
    let body = snapshot.data.clone().unwrap_or_default();
    let saved = snap::Snapshots::new(disk, Path::new("/"));
    saved
        .save(metadata.term, metadata.index, &metadata.conf_state, |out| out.write_all(&body))
        .expect("the simulated disk has room");
    let (again, _) = saved.load_newest().expect("it can be read").expect("it was saved");
    assert!(again.metadata == snapshot.metadata && again.data.unwrap_or_default() == body, "saved otherwise");
}

/// Decodes every message of the log; what is accepted is the same when it is written and read again.
///
/// # Panics
/// If that is not so.
pub fn protobuf(bytes: &[u8]) {
    again::<pb::Request>(bytes);
    again::<pb::Entry>(bytes);
    again::<pb::ConfChange>(bytes);
    again::<pb::HardState>(bytes);
    again::<pb::Metadata>(bytes);
    again::<pb::WalSnapshot>(bytes);
    again::<pb::Snapshot>(bytes);
}

fn again<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(Bytes::copy_from_slice(bytes)) else { return };
    let written = message.encode_to_vec();
    assert!(M::decode(written.as_slice()).as_ref() == Ok(&message), "{message:?} is written otherwise");
}

/// Parses URL lists; what is accepted prints as a text that is accepted and equal.
///
/// # Panics
/// If that is not so.
pub fn urls(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(urls) = Urls::parse(text) {
        assert!(Urls::parse(&urls.to_string()).as_ref() == Ok(&urls), "{urls} parses otherwise");
        for url in &urls {
            let _ = (url.host(), url.port());
        }
    }
    if let Ok(cluster) = InitialCluster::parse(text) {
        let again = InitialCluster::parse(&cluster.to_string());
        assert!(again.as_ref() == Ok(&cluster), "{cluster} parses otherwise");
    }
}

/// Checks a bolt file, reads all of it from both ends, copies and changes it. What reads without an error is the same
/// in a copy; nothing is read that a check of a sound file does not count.
///
/// # Panics
/// If that is not so.
#[expect(clippy::expect_used, reason = "a body panics when a promise is broken")]
pub fn bolt_pages(bytes: &[u8]) {
    let path = Path::new("/db");
    let disk = SimDisk::new(0);
    disk.plant(path, bytes).expect("the simulated disk has room");
    let report = bolt::check(&disk, path);
    if let Ok(view) = bolt::read(&disk, path, 64 * 1024) {
        let report = report.expect("what opens can be checked");
        let content = bolt_content(&view);
        assert!(content.is_ok() || !report.is_sound(), "the check does not find {content:?}");
        let mut copy = Vec::new();
        view.copy_to(&mut copy).expect("the simulated disk can be read");
        let other = SimDisk::new(0);
        other.plant(path, &copy).expect("the simulated disk has room");
        let copied = bolt::read(&other, path, 0).and_then(|view| bolt_content(&view));
        assert!(
            content.is_err() || copied.is_ok_and(|copied| Ok(copied) == content.map_err(drop)),
            "a copy differs"
        );
    }
    let mut changes = bolt::Changes::new();
    for bucket in [&b"key"[..], b"meta"] {
        changes.put(bucket, "more", vec![7; 3000]);
        changes.delete(bucket, "k0");
    }
    if let Ok(mut file) = bolt::Bolt::open(&disk, path, bolt::Options::default()) {
        // Damage is an error here too.
        let _ = file.commit(&changes);
        let _ = file.commit(&bolt::Changes::new());
    }
}

type BoltContent = Vec<(Bytes, Vec<(Bytes, Bytes)>)>;

fn bolt_content(view: &bolt::View) -> Result<BoltContent, bolt::BoltError> {
    let mut content = Vec::new();
    for name in view.buckets()? {
        let Some(bucket) = view.bucket(&name)? else { continue };
        bucket.range_back(..).try_for_each(|pair| pair.map(drop))?;
        content.push((name, bucket.range(..).collect::<Result<_, _>>()?));
    }
    Ok(content)
}

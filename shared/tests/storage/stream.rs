//! A log that is read record by record says what one that is read as a whole does.

use std::path::Path;

use shared::disk::SimDisk;
use shared::wal::{
    Damage, Frames, Record, SegmentEnd, Stream, Wal, WalError, inspect_damaged, segments, segments_after,
};

use crate::common::{DIR, FIRST, GO_2_0_TORN, METADATA, dir, entry, files, refs, state};

/// All records up to the end or the first error, as texts.
fn read(disk: &SimDisk, frames: Frames) -> (Vec<Record>, Result<(SegmentEnd, u64), String>) {
    let names = segments_after(&segments(disk, dir()).unwrap(), dir(), 0).unwrap();
    let mut stream = Stream::of(disk.clone(), dir(), names, frames);
    let mut records = Vec::new();
    loop {
        match stream.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, Ok(stream.end())),
            Err(error) => {
                assert!(stream.next_record().unwrap().is_none(), "it is over after an error");
                return (records, Err(error.to_string()));
            }
        }
    }
}

fn compare(disk: &SimDisk) {
    let (whole, damage) = inspect_damaged(disk, dir(), 0).unwrap();
    // That an entry is missing is for who reads to see: here, a type that changed made something else of it.
    if matches!(damage, Some(WalError::Damaged { damage: Damage::Gap { .. }, .. })) {
        return;
    }
    let (records, end) = read(disk, Frames::V2);
    let entries = records.iter().filter_map(|record| match record {
        Record::Entry(entry) => Some(entry),
        _ => None,
    });
    assert!(entries.eq(&whole.entries));
    match damage {
        Some(damage) => assert_eq!(end, Err(damage.to_string())),
        None => assert_eq!(end, Ok((whole.end, whole.end_offset))),
    }
}

#[test]
fn whole_and_damaged_logs_are_read_alike() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.set_segment_bytes(100);
    for index in 1..8 {
        wal.append(refs(&[entry(1, index, "data")]), state(1, 0, index));
        wal.sync().unwrap();
    }
    wal.close().unwrap();
    compare(&disk);
    assert_eq!(read(&disk, Frames::Any), read(&disk, Frames::V2), "nothing is padded");
    let good = files(&disk, dir());
    assert!(good.len() > 2, "there are several segments");
    let disk = SimDisk::new(2);
    for (name, bytes) in &good {
        let path = Path::new(DIR).join(name);
        for (name, bytes) in &good {
            disk.plant(&Path::new(DIR).join(name), bytes).unwrap();
        }
        for at in 0..bytes.len() {
            let mut flawed = bytes.clone();
            flawed[at] ^= 1 << (at % 8);
            disk.plant(&path, &flawed).unwrap();
            compare(&disk);
            disk.plant(&path, &bytes[..at]).unwrap();
            compare(&disk);
        }
        disk.plant(&path, bytes).unwrap();
    }
    let disk = SimDisk::new(3);
    disk.plant(Path::new(FIRST), GO_2_0_TORN).unwrap();
    compare(&disk);
}

//! Snapshot files: Go's bytes, any damage, any size.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use bytes::Bytes;
use shared::disk::{Disk, DiskOperation, Fault, SimDisk};
use shared::pb;
use shared::snap::{self, SnapError, Snapshots};

use crate::common::files;

const DIR: &str = "/member/snap";
const GO: &[u8] = include_bytes!("../data/go-2.3.8.snap");

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn snapshots(disk: &SimDisk) -> Snapshots<SimDisk> {
    Snapshots::new(disk.clone(), Path::new(DIR))
}

fn path(term: u64, index: u64) -> std::path::PathBuf {
    Path::new(DIR).join(snap::file_name(term, index))
}

fn members() -> pb::ConfState {
    pb::ConfState { nodes: vec![0x1e03_c8d3_5c34_dbbd, 2, 300] }
}

#[test]
fn a_snapshot_of_go_is_written_byte_for_byte() {
    let original = snap::decode(Bytes::from_static(GO)).unwrap();
    let metadata = original.metadata;
    assert_eq!((metadata.term, metadata.index, metadata.conf_state.nodes.len()), (2, 0x1f, 1));
    let body = original.data.unwrap();
    assert!(body.starts_with(b"{\"Root\":{\"Path\":\"/\""));
    let disk = disk();
    let save = |out: &mut dyn Write| body.chunks(100).try_for_each(|piece| out.write_all(piece));
    snapshots(&disk).save(2, 0x1f, &metadata.conf_state, save).unwrap();
    assert!(disk.contents(&path(2, 0x1f)).unwrap() == GO);
    assert_eq!(files(&disk, Path::new(DIR)).len(), 1);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_noticed() {
    let whole = snap::decode(Bytes::from_static(GO)).unwrap();
    for len in 0..GO.len() {
        snap::decode(Bytes::from_static(&GO[..len])).unwrap_err();
    }
    // The whole of the head and the tail, and every 7th byte of the body.
    for at in (0..GO.len()).filter(|at| *at < 300 || *at > GO.len() - 300 || at % 7 == 0) {
        for bit in 0..8 {
            let mut bytes = GO.to_vec();
            bytes[at] ^= 1 << bit;
            if let Ok(snapshot) = snap::decode(bytes.into()) {
                assert_eq!(snapshot, whole, "bit {bit} of byte {at} changes what is read");
            }
        }
    }
}

#[test]
fn the_newest_good_one_counts_and_broken_ones_are_set_aside() {
    let disk = disk();
    assert!(snapshots(&disk).load_newest().unwrap().is_none());
    for (term, index) in [(1, 9), (2, 5), (2, 7), (2, 0x10)] {
        snapshots(&disk).save(term, index, &members(), |out| write!(out, "{index}")).unwrap();
    }
    // The newest by term, then index, is cut off; the one before is empty.
    let newest = disk.contents(&path(2, 0x10)).unwrap();
    disk.plant(&path(2, 0x10), &newest[..newest.len() - 1]).unwrap();
    disk.plant(&path(2, 7), b"").unwrap();
    disk.plant(&Path::new(DIR).join("db"), b"not a snapshot").unwrap();
    let before = files(&disk, Path::new(DIR));
    let mut skipped = Vec::new();
    let (snapshot, file) =
        snapshots(&disk).peek_newest(|error| skipped.push(error.to_string())).unwrap().unwrap();
    let (crc, empty) = (path(2, 0x10), path(2, 7));
    let told = [
        format!("corrupted snapshot file {}: ", crc.display()),
        format!("corrupted snapshot file {}: unexpected empty snapshot", empty.display()),
    ];
    assert!(skipped.iter().zip(&told).all(|(said, told)| said.starts_with(told)), "{skipped:?}");
    assert_eq!(skipped.len(), 2);
    assert_eq!((snapshot.metadata.index, file), (5, path(2, 5)));
    assert!(files(&disk, Path::new(DIR)) == before);
    let (snapshot, file) = snapshots(&disk).load_newest().unwrap().unwrap();
    assert_eq!((snapshot.metadata.index, file), (5, path(2, 5)));
    assert_eq!(snapshot.metadata.conf_state, members());
    assert_eq!(snapshot.data.unwrap(), "5");
    let names: Vec<String> = files(&disk, Path::new(DIR)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".snap.broken")).count(), 2, "{names:?}");
    // The renames are durable.
    disk.crash();
    assert_eq!(files(&disk, Path::new(DIR)).len(), names.len());
}

#[test]
fn the_next_snapshot_removes_what_an_interrupted_one_left() {
    let disk = disk();
    for litter in
        ["0000000000000001-0000000000000001.snap.tmp", "0000000000000001-0000000000000002.snap.tmp2"]
    {
        disk.plant(&Path::new(DIR).join(litter), b"half").unwrap();
    }
    snapshots(&disk).save(1, 3, &members(), |out| out.write_all(b"{}")).unwrap();
    let names: Vec<String> = files(&disk, Path::new(DIR)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [snap::file_name(1, 3)]);
}

#[test]
fn a_missing_folder_is_an_error() {
    let error = snapshots(&SimDisk::new(1)).load_newest().unwrap_err();
    assert!(matches!(&error, SnapError::Disk(error) if error.is_not_found()), "{error}");
}

/// A body of so many bytes that depends on `salt`.
fn body(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap() ^ salt).collect()
}

#[test]
fn bodies_of_every_size_are_read_back() {
    const MIB: usize = 1 << 20;
    let disk = disk();
    let mut rewritten = 0;
    let sizes = [0, 1, 110, 127, 128, 16_383, 16_384, MIB, 2 * MIB - 17, 2 * MIB - 1, 2 * MIB, 5 * MIB + 3];
    // A big body whose sum takes fewer than five bytes, one in sixteen, is written twice.
    let cases = sizes.iter().map(|size| (*size, 0)).chain((1..60).map(|salt| (2 * MIB + 64, salt)));
    for (size, salt) in cases {
        let body = body(size, salt);
        let changes = disk.changes();
        let save = |out: &mut dyn Write| body.chunks(MIB + 1).try_for_each(|piece| out.write_all(piece));
        snapshots(&disk).save(3, 4, &members(), save).unwrap();
        let bytes = disk.contents(&path(3, 4)).unwrap();
        let head: Vec<u8> = prost_head(&bytes);
        if size > 2 * MIB && head.len() != 16 {
            rewritten += 1;
            assert!(disk.changes() - changes > 10);
        }
        assert_eq!(files(&disk, Path::new(DIR)).len(), 1, "temporary files are left");
        let snapshot = snap::decode(bytes.into()).unwrap();
        assert!(snapshot.data.unwrap() == body, "{size} bytes, salt {salt}");
        assert_eq!((snapshot.metadata.term, snapshot.metadata.index), (3, 4));
    }
    assert!(rewritten > 0, "no body with a shorter head: change the salts");
}

/// The bytes before the body; asserts that every number in them is as short as Go writes it.
fn prost_head(bytes: &[u8]) -> Vec<u8> {
    let mut at = 0;
    for tag in [0x08, 0x12, 0x0a] {
        assert_eq!(bytes[at], tag);
        at += 1;
        while bytes[at] >= 0x80 {
            at += 1;
        }
        assert!(bytes[at] != 0 || bytes[at - 1] == tag, "a number longer than need be");
        at += 1;
    }
    bytes[..at].to_vec()
}

#[test]
fn a_failure_leaves_no_snapshot_and_no_litter() {
    let big = body(3 << 20, 0);
    let faults = [
        (DiskOperation::Create, 0),
        (DiskOperation::Write, 0),
        (DiskOperation::Write, 1),
        (DiskOperation::Sync, 0),
        (DiskOperation::Sync, 1),
        (DiskOperation::Rename, 0),
    ];
    for (operation, after) in faults {
        let disk = disk();
        disk.inject(Fault { operation, after, kind: ErrorKind::StorageFull });
        let error = snapshots(&disk).save(1, 1, &members(), |out| out.write_all(&big)).unwrap_err();
        assert!(
            matches!(&error, SnapError::Disk(error) if error.kind() == ErrorKind::StorageFull),
            "{error}"
        );
        assert!(files(&disk, Path::new(DIR)).is_empty(), "{operation:?} {after}");
    }
    let disk = disk();
    let failing = |out: &mut dyn Write| {
        out.write_all(&big)?;
        Err(io::Error::other("the store would not"))
    };
    let error = snapshots(&disk).save(1, 1, &members(), failing).unwrap_err();
    assert_eq!(error.to_string(), "snapshot body: the store would not");
    assert!(files(&disk, Path::new(DIR)).is_empty());
}

/// A big body whose head has another size than the gap that is left for it, so that it is written twice.
fn rewritten_body() -> Vec<u8> {
    let disk = disk();
    let mut bodies = (0..=255).map(|salt| body((2 << 20) + 100, salt));
    bodies
        .find(|body| {
            snapshots(&disk).save(1, 1, &members(), |out| out.write_all(body)).unwrap();
            prost_head(&disk.contents(&path(1, 1)).unwrap()).len() != 16
        })
        .unwrap()
}

#[test]
fn a_snapshot_is_durable_when_saved_and_whole_or_absent_before() {
    let bodies = [body(1000, 1), body((2 << 20) + 100, 2), rewritten_body()];
    for (body, seeds) in bodies.iter().zip([120, 60, 120]) {
        let mut saves = 0;
        for seed in 0..seeds {
            let disk = SimDisk::new(seed);
            disk.create_dir_all(Path::new(DIR)).unwrap();
            disk.fail_power_after(seed % 20);
            let saved = snapshots(&disk).save(1, 1, &members(), |out| out.write_all(body)).is_ok();
            saves += u64::from(saved);
            disk.crash();
            match snapshots(&disk).load_newest().unwrap() {
                Some((snapshot, _)) => assert!(snapshot.data.unwrap() == body, "seed {seed}"),
                None => {
                    assert!(!saved, "seed {seed}: a saved snapshot is gone");
                    let broken =
                        files(&disk, Path::new(DIR)).iter().any(|(name, _)| name.ends_with(".broken"));
                    assert!(!broken, "seed {seed}: half a snapshot had its name");
                }
            }
        }
        assert!((1..seeds).contains(&saves), "the power failed {} times in {seeds}", seeds - saves);
    }
}

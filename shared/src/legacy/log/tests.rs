//! Logs whole, cut and damaged.

use std::path::Path;

use super::*;
use crate::disk::{Disk, Open, SimDisk, SimFile};

fn reader(bytes: &[u8]) -> Reader<SimFile> {
    let disk = SimDisk::new(0);
    disk.plant(Path::new("/log"), bytes).unwrap();
    Reader::new(disk.open(Path::new("/log"), Open::Read).unwrap()).unwrap()
}

fn three() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(7, 0, "raft:nop", None, &mut bytes);
    encode(8, 0, "etcd:delete", Some(b"{\"key\":\"/a\"}\n"), &mut bytes);
    encode(9, 1, "etcd:delete", Some(b"{\"key\":\"/b\"}\n"), &mut bytes);
    bytes
}

fn read(bytes: &[u8]) -> (Vec<u64>, Result<LogEnd, String>) {
    let mut reader = reader(bytes);
    let mut found = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => found.push(entry.index),
            Ok(None) => return (found, Ok(reader.end())),
            Err(error) => return (found, Err(error.to_string())),
        }
    }
}

#[test]
fn reads_what_goraft_writes() {
    let bytes = b"       e\n\x08\x02\x10\x00\x1a\x08raft:nop      22\n\x08\x03\x10\x00\x1a\x0betcd:delete\"\x0f{\"key\":\"/abc\"}\n";
    let mut reader = reader(bytes);
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!((entry.index, entry.term, &*entry.name), (2, 0, &b"raft:nop"[..]));
    assert!(entry.command.is_empty());
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!((entry.index, &*entry.command, entry.offset), (3, &b"{\"key\":\"/abc\"}\n"[..], 23));
    assert!(reader.next_entry().unwrap().is_none());
    assert_eq!(reader.end(), LogEnd::Clean);
}

#[test]
fn any_cut_is_a_torn_entry() {
    let bytes = three();
    let starts: Vec<usize> = {
        let mut reader = reader(&bytes);
        let mut starts = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            starts.push(usize::try_from(entry.offset).unwrap());
        }
        starts
    };
    for cut in 0..bytes.len() {
        let whole = starts.iter().filter(|start| **start <= cut).count().saturating_sub(1);
        let (found, end) = read(&bytes[..cut]);
        assert_eq!(found.len(), whole, "cut at {cut}");
        let end = end.unwrap();
        if starts.contains(&cut) {
            assert_eq!(end, LogEnd::Clean, "cut at {cut}");
        } else {
            let LogEnd::Torn { offset, bytes: left, .. } = end else { panic!("cut at {cut}: {end:?}") };
            assert_eq!(offset + left, cut as u64);
        }
        // Zeros in the place of what is missing.
        let mut zeros = bytes[..cut].to_vec();
        zeros.resize(bytes.len() + 50, 0);
        let (found, end) = read(&zeros);
        assert_eq!(found.len(), whole, "zeros from {cut}");
        assert!(matches!(end, Ok(LogEnd::Torn { rest: TornPart::Zeros, .. })), "zeros from {cut}: {end:?}");
    }
}

#[test]
fn a_wrong_length_is_damage_and_not_a_torn_end() {
    let mut bytes = three();
    bytes[..8].copy_from_slice(b"1000000e");
    let (found, end) = read(&bytes);
    assert!(found.is_empty());
    assert!(end.unwrap_err().contains("/log is damaged at byte 0: expected an entry of"), "a long length");
    let mut bytes = three();
    bytes[3] = b'z';
    let error = read(&bytes).1.unwrap_err();
    assert!(error.contains("expected the length of an entry") && error.contains("z"), "{error}");
}

#[test]
fn indexes_and_terms_must_follow() {
    let mut bytes = three();
    encode(11, 1, "raft:nop", None, &mut bytes);
    assert!(read(&bytes).1.unwrap_err().contains("expected entry 10, found entry 11"));
    let mut bytes = three();
    encode(10, 0, "raft:nop", None, &mut bytes);
    assert!(read(&bytes).1.unwrap_err().contains("term 1 or later, found one of term 0"));
}

#[test]
fn damage_can_be_passed_over() {
    let mut bytes = three();
    let start = bytes.len();
    encode(10, 1, "raft:nop", None, &mut bytes);
    encode(11, 1, "etcd:delete", Some(b"{\"key\":\"/c\"}\n"), &mut bytes);
    bytes[start + 2] = b'?';
    let mut reader = reader(&bytes);
    for _ in 0..3 {
        reader.next_entry().unwrap().unwrap();
    }
    reader.next_entry().unwrap_err();
    let skipped = reader.skip_damage().unwrap();
    assert_eq!((skipped.after, skipped.next, skipped.from), (9, Some(11), start as u64));
    assert_eq!(reader.next_entry().unwrap().unwrap().index, 11);
    assert!(reader.next_entry().unwrap().is_none());
    // More than the gap has room for cannot be missing.
    let mut far = bytes[..start].to_vec();
    far.extend_from_slice(b"garbage that takes the place of two\n");
    encode(1000, 1, "raft:nop", None, &mut far);
    encode(11, 1, "raft:nop", None, &mut far);
    let mut reader = self::reader(&far);
    while let Ok(Some(_)) = reader.next_entry() {}
    assert_eq!(reader.skip_damage().unwrap().next, Some(11));
    // Nothing good after it.
    let mut reader = self::reader(b"garbage that is no log at all");
    reader.next_entry().unwrap_err();
    assert_eq!(reader.skip_damage().unwrap().next, None);
    assert!(reader.next_entry().unwrap().is_none());
}

//! Every truncation and every flipped bit of a log: the same data, a shorter valid prefix or a precise error,
//! never a panic, never wrong data; and after an error the folder is as it was.

use std::path::Path;

use shared::disk::SimDisk;
use shared::pb;
use shared::wal::{self, Damage, Recovered, SegmentEnd, Wal, WalError};

use crate::common::{
    FIRST, GO_2_0_TORN, GO_2_3, GO_2_3_FRESH, METADATA, START, dir, entry, files, refs, state,
};

fn open(disk: &SimDisk) -> Result<Recovered, WalError> {
    Wal::open(disk.clone(), dir(), START).map(|(_, recovered)| recovered)
}

fn planted(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.plant(Path::new(FIRST), bytes).unwrap();
    disk
}

fn whole(bytes: &[u8]) -> Recovered {
    open(&planted(bytes)).unwrap()
}

/// Opens a damaged log and checks the outcome against the undamaged one.
fn check(disk: &SimDisk, whole: &Recovered, what: &str) -> Result<Recovered, WalError> {
    let before = files(disk, dir());
    let result = open(disk);
    match &result {
        Ok(recovered) => {
            assert!(whole.entries.starts_with(&recovered.entries), "{what}: wrong entries");
            assert_eq!(recovered.metadata, whole.metadata, "{what}");
            assert!(recovered.state.commit <= recovered.entries.len() as u64, "{what}");
            let again = open(disk).unwrap();
            assert_eq!((&again.entries, again.state), (&recovered.entries, recovered.state), "{what}");
            assert_eq!(again.repaired, None, "{what}: repaired twice");
        }
        Err(_) => assert!(files(disk, dir()) == before, "{what}: changed despite the error"),
    }
    result
}

#[test]
fn every_truncation_is_a_prefix() {
    let whole = whole(GO_2_3);
    for len in 0..GO_2_3.len() {
        let disk = planted(&GO_2_3[..len]);
        let what = format!("cut at {len}");
        match check(&disk, &whole, &what) {
            Ok(recovered) => {
                let copy = recovered.repaired.and_then(|repaired| repaired.copy);
                if let Some(copy) = copy {
                    assert_eq!(disk.contents(&copy).unwrap(), &GO_2_3[..len], "{what}: copy");
                }
            }
            // Without the snapshot record at its head a log says nothing.
            Err(WalError::NoMetadata(_) | WalError::SnapshotNotFound(_)) => assert!(len < 73, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// All logs that differ from `bytes` in one bit.
fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, u32, Vec<u8>)> {
    (0..bytes.len()).flat_map(move |at| {
        (0..8).map(move |bit| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << bit;
            (at, bit, bytes)
        })
    })
}

/// Where the last record begins.
fn last_record(bytes: &[u8]) -> usize {
    let mut last = 0;
    let mut at = 0;
    while at < bytes.len() {
        last = at;
        let length = u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        at += 8 + usize::try_from(length).unwrap();
    }
    last
}

#[test]
fn every_flipped_bit_is_an_error_but_for_a_lost_tail() {
    for original in [GO_2_3_FRESH, GO_2_3] {
        let whole = whole(original);
        let last = last_record(original);
        for (at, bit, bytes) in flips(original) {
            let what = format!("bit {bit} of byte {at}");
            match check(&planted(&bytes), &whole, &what) {
                // Some bits say nothing, such as those of a tag before a zero.
                Ok(recovered) if recovered == whole => {}
                Ok(recovered) => {
                    assert!(at >= last, "{what}: a damaged record in the middle was accepted");
                    assert!(recovered.repaired.is_some(), "{what}: a record is gone without a word");
                }
                Err(WalError::Damaged { offset, .. }) => {
                    // A changed sum at the head of the segment shows in the record after it, at 12.
                    assert!(offset <= at as u64 || (at < 12 && offset == 12), "{what}: found at {offset}");
                    assert!(offset + 200 > at as u64, "{what}: found at {offset}, far before it");
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
}

/// The bytes of a state record; its sum is that of nothing before it.
fn state_record(state: &pb::HardState) -> Vec<u8> {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    let before = disk.contents(Path::new(FIRST)).unwrap().len();
    wal.append([].into_iter(), Some(*state));
    wal.close().unwrap();
    disk.contents(Path::new(FIRST)).unwrap().split_off(before)
}

/// A log of three segments.
fn segments() -> SimDisk {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.set_segment_bytes(150);
    for i in 1..=5 {
        wal.append(refs(&[entry(1, i, "twenty bytes of data")]), state(1, 0, i));
        wal.sync().unwrap();
    }
    wal.close().unwrap();
    disk
}

#[test]
fn every_flipped_bit_in_an_older_segment_is_an_error() {
    let original = files(&segments(), dir());
    assert_eq!(original.len(), 3);
    let whole = open(&segments()).unwrap();
    for (place, (name, bytes)) in original.iter().enumerate().take(2) {
        for (at, bit, bytes) in flips(bytes) {
            let disk = segments();
            disk.plant(&dir().join(name), &bytes).unwrap();
            let what = format!("segment {place}, bit {bit} of byte {at}");
            assert!(
                check(&disk, &whole, &what).map_or(true, |recovered| recovered == whole),
                "{what}: accepted"
            );
        }
        for len in 0..bytes.len() {
            let disk = segments();
            disk.plant(&dir().join(name), &bytes[..len]).unwrap();
            let what = format!("segment {place} cut at {len}");
            check(&disk, &whole, &what).expect_err(&what);
        }
    }
}

#[test]
fn a_damaged_record_is_named_with_file_and_offset() {
    let mut bytes = GO_2_3.to_vec();
    bytes[4060] ^= 1;
    let error = open(&planted(&bytes)).unwrap_err();
    let WalError::Damaged { file, offset, damage: Damage::RecordCrc } = &error else { panic!("{error}") };
    assert_eq!(file, Path::new(FIRST));
    assert!((3990..4060).contains(offset), "{offset}");
    assert_eq!(error.to_string(), format!("walpb: crc mismatch ({FIRST} at byte {offset})"));
    // One who only looks is shown what stands before it.
    let (inspected, damage) = wal::inspect_damaged(&planted(&bytes), dir(), 0).unwrap();
    assert!(whole(GO_2_3).entries.starts_with(&inspected.entries) && inspected.entries.len() > 20);
    assert_eq!(damage.unwrap().to_string(), error.to_string());
    wal::inspect(&planted(&bytes), dir(), 0).unwrap_err();
}

#[test]
fn absurd_lengths_are_errors() {
    for length in [-1, i64::MIN] {
        let mut bytes = GO_2_3.to_vec();
        let at = last_record(&bytes);
        bytes[at..at + 8].copy_from_slice(&i64::to_le_bytes(length));
        let error = open(&planted(&bytes)).unwrap_err();
        assert!(matches!(error, WalError::Damaged { damage, .. } if damage == Damage::Length(length)));
    }
    // Too long, and the record after it shows that it never was that long.
    let mut bytes = GO_2_3.to_vec();
    let at = last_record(&bytes);
    bytes[at..at + 8].copy_from_slice(&i64::MAX.to_le_bytes());
    let error = open(&planted(&bytes)).unwrap_err();
    assert!(matches!(error, WalError::Damaged { damage: Damage::Length(i64::MAX), .. }), "{error}");
    // Alone it is what is left of a record that was never written in full.
    for length in [i64::MAX, -1] {
        let mut bytes = GO_2_3.to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        assert_eq!(open(&planted(&bytes)).unwrap().repaired.unwrap().cut_bytes, 8);
    }
}

#[test]
fn zeros_are_the_end_of_the_log_and_are_cut_off() {
    let whole = whole(GO_2_3);
    for zeros in [1, 7, 8, 9, 511, 4096, 300_000] {
        let mut bytes = GO_2_3.to_vec();
        bytes.resize(bytes.len() + zeros, 0);
        let disk = planted(&bytes);
        let recovered = check(&disk, &whole, "zeros").unwrap();
        assert_eq!(recovered.entries, whole.entries);
        let repaired = recovered.repaired.unwrap();
        assert_eq!((repaired.cut_bytes, repaired.copy), (zeros as u64, None));
        assert_eq!(disk.contents(Path::new(FIRST)).unwrap(), GO_2_3);
        assert_eq!(files(&disk, dir()).len(), 1);
        // With something behind them that is no record they are what is left of a write.
        bytes.push(1);
        let recovered = check(&planted(&bytes), &whole, "zeros and more").unwrap();
        assert_eq!(recovered.repaired.unwrap().cut_bytes, zeros as u64 + 1);
    }
}

#[test]
fn a_last_write_whose_sectors_are_zero_was_never_synced() {
    let last = last_record(GO_2_3);
    let whole = whole(GO_2_3);
    for extra in [0, 100, 5000] {
        let mut bytes = GO_2_3.to_vec();
        // One more entry, which spans sectors; all but the first of them are lost.
        let start = bytes.len();
        bytes.extend_from_slice(&2000u64.to_le_bytes());
        bytes.extend_from_slice(&[0x08, 2, 0x10, 1, 0x1a]);
        bytes.resize(start.next_multiple_of(512), 7);
        bytes.resize(start + 2008 + extra, 0);
        let recovered = check(&planted(&bytes), &whole, "lost sectors").unwrap();
        assert_eq!(recovered.entries, whole.entries);
        assert_eq!(recovered.repaired.unwrap().kept_bytes, start as u64);
        // With a record behind it that was written later, it is damage.
        let committed = pb::HardState { term: 9, vote: 1, commit: whole.entries.len() as u64 + 1 };
        bytes.extend_from_slice(&state_record(&committed));
        check(&planted(&bytes), &whole, "damage").unwrap_err();
    }
    assert!(last < GO_2_3.len());
}

#[test]
fn a_commit_beyond_the_torn_entry_is_refused() {
    let disk = planted(GO_2_0_TORN);
    let before = files(&disk, dir());
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, WalError::CommitBeyondEnd { commit: 42, last: 41, .. }), "{error}");
    assert!(error.to_string().starts_with("state.commit 42 is out of range [0, 41]"), "{error}");
    assert!(files(&disk, dir()) == before);
    // To look at it is allowed.
    let inspected = wal::inspect(&disk, dir(), 0).unwrap();
    assert_eq!((inspected.end, inspected.entries.len()), (SegmentEnd::Torn, 41));
    assert!(files(&disk, dir()) == before);
}

#[test]
fn looking_changes_nothing_and_needs_no_lock() {
    let disk = planted(&GO_2_3[..GO_2_3.len() - 3]);
    let before = files(&disk, dir());
    let inspected = wal::inspect(&disk, dir(), 0).unwrap();
    assert_eq!(inspected.end, SegmentEnd::Torn);
    assert!(files(&disk, dir()) == before);
    let (wal, recovered) = Wal::open(disk.clone(), dir(), START).unwrap();
    assert!(recovered.repaired.is_some());
    assert_eq!(wal::inspect(&disk, dir(), 0).unwrap().entries, recovered.entries);
    drop(wal);
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = segments();
    let names = files(&disk, dir());
    shared::disk::Disk::remove(&disk, &dir().join(&names[1].0)).unwrap();
    assert!(matches!(open(&disk), Err(WalError::FileNotFound(_))));
    let disk = SimDisk::new(1);
    assert!(!wal::exists(&disk, dir()).unwrap());
    assert!(matches!(open(&disk), Err(WalError::Disk(error)) if error.is_not_found()));
}

#[test]
fn entries_must_follow_one_another() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a")]), state(1, 0, 1));
    // A snapshot from the leader lets the log jump; without the snapshot it cannot be continued.
    wal.append_snapshot(pb::WalSnapshot { index: 5, term: 1 }).unwrap();
    wal.append(refs(&[entry(1, 6, "f")]), state(1, 0, 6));
    wal.close().unwrap();
    let (_, recovered) = Wal::open(disk.clone(), dir(), pb::WalSnapshot { index: 5, term: 1 }).unwrap();
    assert_eq!(recovered.entries, [entry(1, 6, "f")]);
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, WalError::Damaged { damage: Damage::Gap { last: 1, found: 6 }, .. }), "{error}");
}

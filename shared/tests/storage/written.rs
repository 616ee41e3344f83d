//! Our bytes are those of Go etcd 2.3.8.

use std::path::Path;

use shared::disk::SimDisk;
use shared::pb;
use shared::wal::{self, EntryRef, Form, Options, Record, Wal, WalError};

use crate::common::{
    DIR, FIRST, GO_2_3, GO_2_3_FRESH, GO_3_4, GO_3_5, METADATA, START, dir, entry, files, records, refs,
    state,
};

#[test]
fn a_new_log_begins_as_go_begins_it() {
    let disk = SimDisk::new(1);
    let metadata = pb::Metadata { node_id: 0x1e03_c8d3_5c34_dbbd, cluster_id: 0xf01c_6442_dbe9_904e };
    let mut wal = Wal::create(disk.clone(), dir(), metadata).unwrap();
    wal.append([EntryRef { kind: 0, term: 2, index: 1, data: None }].into_iter(), None);
    wal.sync().unwrap();
    let expected = "0400000000000000 08041000\
        1f00000000000000 080110b5f2eb960b1a15 08bdb7d3e1b59af2811e 10cea0a6dfad88998ef001\
        0e00000000000000 080510f68de8d8081a04 08001000";
    let expected: String = expected.split_whitespace().collect();
    let bytes = disk.contents(Path::new(FIRST)).unwrap();
    let hex: String = bytes.iter().take(73).map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, expected);
    assert_eq!(bytes.len(), 73 + 8 + 16, "the entry without data takes 16 bytes");
}

/// Writes the records of a log of Go's anew. The only member is its voter.
fn rewrite(original: &'static [u8], form: Form) -> Vec<u8> {
    let disk = SimDisk::new(1);
    let options = Options { form, segment_bytes: 20_000 };
    let mut wal = None;
    for (place, record) in records(original).into_iter().enumerate() {
        match (record, place) {
            (Record::Crc(crc), _) => assert_eq!(crc, 0),
            (Record::Metadata(metadata), _) => {
                wal = Some(Wal::create_with(disk.clone(), Path::new(DIR), metadata, options).unwrap());
            }
            (Record::Snapshot(at), 2) => assert_eq!(at, START, "made with the log"),
            (Record::Snapshot(at), _) => {
                let wal: &mut Wal<SimDisk> = wal.as_mut().unwrap();
                wal.append_snapshot_of(at, &[wal.metadata().node_id]).unwrap();
            }
            (Record::Entry(entry), _) => wal.as_mut().unwrap().append(refs(&[entry]), None),
            (Record::State(state), _) => wal.as_mut().unwrap().append(refs(&[]), Some(state)),
        }
    }
    wal.unwrap().close().unwrap();
    disk.contents(Path::new(FIRST)).unwrap()
}

#[test]
fn the_records_of_go_are_written_byte_for_byte() {
    assert!(rewrite(GO_2_3, Form::V2) == GO_2_3);
    assert!(rewrite(GO_2_3_FRESH, Form::V2) == GO_2_3_FRESH);
    for (original, form) in [(GO_3_4, Form::V3_4), (GO_3_5, Form::V3_5)] {
        let written = rewrite(original, form);
        let (records, rest) = written.split_at(original.len());
        assert!(records == original, "{form:?}");
        assert!(rest.len() == 20_000 - original.len() && rest.iter().all(|byte| *byte == 0), "{form:?}");
    }
}

#[test]
fn a_closed_segment_of_3_x_ends_with_its_last_record() {
    const LONG: &str = match std::str::from_utf8(&[b'x'; 150]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let disk = SimDisk::new(1);
    let options = Options { form: Form::V3_5, segment_bytes: 200 };
    let mut wal = Wal::create_with(disk.clone(), dir(), METADATA, options).unwrap();
    wal.append(refs(&[entry(1, 1, LONG)]), state(1, 0, 1));
    wal.sync().unwrap();
    wal.append(refs(&[entry(1, 2, "b")]), state(1, 0, 2));
    wal.close().unwrap();
    let lens: Vec<usize> = files(&disk, dir()).iter().map(|(_, bytes)| bytes.len()).collect();
    assert!(lens[0] > 200 && lens[0].is_multiple_of(8), "{lens:?}");
    assert_eq!(lens[1..], [200]);
    let (_, recovered) = Wal::open_with(disk, dir(), START, options).unwrap();
    assert_eq!((recovered.entries.len(), recovered.repaired), (2, None));
}

#[test]
fn a_log_is_continued_where_it_ended() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a"), entry(1, 2, "b")]), state(1, 0, 1));
    wal.sync().unwrap();
    wal.close().unwrap();
    for i in 3..6 {
        let (mut wal, recovered) = Wal::open(disk.clone(), dir(), START).unwrap();
        assert_eq!((recovered.metadata, recovered.entries.len() as u64), (METADATA, i - 1));
        assert_eq!(recovered.repaired, None);
        assert_eq!(wal.last_index(), i - 1);
        wal.append(refs(&[entry(1, i, "c")]), state(1, 0, i - 1));
        wal.sync().unwrap();
    }
    let (_, recovered) = Wal::open(disk.clone(), dir(), START).unwrap();
    assert_eq!(recovered.state, pb::HardState { term: 1, vote: 0, commit: 4 });
    assert_eq!(recovered.entries[4], entry(1, 5, "c"));
    assert_eq!(files(&disk, dir()).len(), 1);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a"), entry(1, 2, "b"), entry(1, 3, "c")]), state(1, 0, 1));
    wal.append(refs(&[entry(2, 2, "B")]), state(2, 0, 1));
    wal.close().unwrap();
    let (_, recovered) = Wal::open(disk, dir(), START).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, "a"), entry(2, 2, "B")]);
}

/// What is in a log behind a snapshot at entry 3 of term 2.
fn recovered_after_snapshot(write: impl FnOnce(&mut Wal<SimDisk>)) -> (u64, Vec<pb::Entry>) {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    write(&mut wal);
    wal.close().unwrap();
    let (wal, recovered) = Wal::open(disk, dir(), pb::WalSnapshot { index: 3, term: 2 }).unwrap();
    (wal.last_index(), recovered.entries)
}

#[test]
fn entries_that_were_replaced_before_a_snapshot_do_not_come_back_after_it() {
    let mark = pb::WalSnapshot { index: 3, term: 2 };
    let old = || (1..=5).map(|i| entry(1, i, "old")).collect::<Vec<_>>();
    let (last, found) = recovered_after_snapshot(|wal| {
        wal.append(refs(&old()), state(1, 0, 1));
        wal.append(refs(&[entry(2, 2, "new"), entry(2, 3, "new")]), state(2, 0, 3));
        wal.append_snapshot(mark).unwrap();
    });
    assert_eq!((last, found), (3, Vec::new()));
    // A snapshot of the leader's, in the place of a log that went another way.
    let (last, found) = recovered_after_snapshot(|wal| {
        wal.append(refs(&old()), state(1, 0, 1));
        wal.append_snapshot(mark).unwrap();
        wal.append(refs(&[]), state(2, 0, 3));
    });
    assert_eq!((last, found), (3, Vec::new()));
    let (last, found) = recovered_after_snapshot(|wal| {
        wal.append(refs(&old()), state(1, 0, 1));
        wal.append_snapshot(mark).unwrap();
        wal.append(refs(&[entry(2, 4, "new")]), state(2, 0, 3));
    });
    assert_eq!((last, found), (4, vec![entry(2, 4, "new")]));
}

#[test]
fn entries_after_a_snapshot_of_ones_own_stay() {
    let (last, found) = recovered_after_snapshot(|wal| {
        wal.append(refs(&[entry(1, 1, "a"), entry(1, 2, "b")]), state(1, 0, 1));
        wal.append(refs(&[entry(2, 3, "c"), entry(2, 4, "d")]), state(2, 0, 3));
        wal.append_snapshot(pb::WalSnapshot { index: 3, term: 2 }).unwrap();
        wal.append(refs(&[entry(2, 5, "e")]), state(2, 0, 4));
    });
    assert_eq!((last, found), (5, vec![entry(2, 4, "d"), entry(2, 5, "e")]));
}

#[test]
fn segments_chain_and_are_released_and_purged() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.set_segment_bytes(150);
    for i in 1..=10 {
        wal.append(refs(&[entry(1, i, "twenty bytes of data")]), state(1, 9, i));
        wal.sync().unwrap();
    }
    let names = |disk: &SimDisk| files(disk, dir()).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let all = names(&disk);
    assert!(all.len() >= 4, "{all:?}");
    assert_eq!(all[1], "0000000000000001-0000000000000003.wal");
    let at = pb::WalSnapshot { index: 8, term: 1 };
    wal.append_snapshot(at).unwrap();
    // Everything is locked: nothing goes.
    assert!(wal::purge(&disk, dir(), 1, u64::MAX).unwrap().is_empty());
    assert!(matches!(Wal::open(disk.clone(), dir(), at), Err(error) if error.is_locked()));
    wal.release_before(8);
    let removed = wal::purge(&disk, dir(), 1, u64::MAX).unwrap();
    assert_eq!(removed.len(), all.len() - names(&disk).len());
    assert!(!removed.is_empty());
    wal.close().unwrap();
    let (wal, recovered) = Wal::open(disk.clone(), dir(), at).unwrap();
    assert_eq!(recovered.entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [9, 10]);
    assert_eq!(recovered.state, pb::HardState { term: 1, vote: 9, commit: 10 });
    drop(wal);
    assert!(matches!(Wal::open(disk, dir(), START), Err(WalError::FileNotFound(_))));
}

#[test]
fn release_keeps_one_segment_more_than_needed() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.set_segment_bytes(1);
    for i in 1..=4 {
        wal.append(refs(&[entry(1, i, "x")]), None);
        wal.sync().unwrap();
    }
    // Names hold the indexes 0, 2, 3, 4 and 5.
    for (index, left) in [(0, 5), (2, 5), (3, 4), (4, 3), (9, 1)] {
        wal.release_before(index);
        let keep = wal::purge(&disk, dir(), 1, u64::MAX).map(|_| files(&disk, dir()).len()).unwrap();
        assert_eq!(keep, left, "released before {index}");
    }
}

#[test]
fn the_snapshot_must_be_in_the_log() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a")]), state(1, 0, 1));
    wal.append_snapshot(pb::WalSnapshot { index: 1, term: 1 }).unwrap();
    wal.close().unwrap();
    let open = |index, term| Wal::open(disk.clone(), dir(), pb::WalSnapshot { index, term }).map(|(_, r)| r);
    assert!(open(1, 1).unwrap().entries.is_empty());
    assert!(matches!(open(1, 2), Err(WalError::SnapshotMismatch { log_term: 1, .. })));
    assert!(matches!(open(3, 1), Err(WalError::SnapshotNotFound(_))));
    assert!(matches!(Wal::create(disk.clone(), dir(), METADATA), Err(WalError::Exists(_))));
}

#[test]
fn a_commit_index_alone_waits_for_the_next_sync() {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a"), entry(1, 2, "b")]), state(1, 5, 0));
    wal.sync().unwrap();
    let changes = disk.changes();
    wal.append(refs(&[]), state(1, 5, 1));
    wal.sync().unwrap();
    assert_eq!(disk.changes(), changes, "a commit index went to the disk alone");
    wal.append(refs(&[]), state(2, 5, 1));
    wal.sync().unwrap();
    assert_eq!(disk.changes(), changes + 2, "a new term is one write and one sync");
    wal.append(refs(&[]), state(2, 6, 1));
    wal.sync().unwrap();
    assert_eq!(disk.changes(), changes + 4, "a new vote too");
    wal.append(refs(&[]), state(2, 6, 2));
    wal.close().unwrap();
    let (_, recovered) = Wal::open(disk, dir(), START).unwrap();
    assert_eq!(recovered.state.commit, 2);
}

#[test]
#[should_panic(expected = "gap in the log: entry 3 after 1")]
fn a_gap_is_not_written() {
    let mut wal = Wal::create(SimDisk::new(1), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a"), entry(1, 3, "c")]), None);
}

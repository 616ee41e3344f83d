//! Files that are removed, renamed or replaced under a running server: nothing more counts as durable, and what
//! counted is still found.

use std::path::{Path, PathBuf};

use shared::disk::{Disk, DiskFile, Open, RealDisk, SimDisk};
use shared::snap::Snapshots;
use shared::wal::{self, Wal};
use shared::{pb, snap};

use crate::common::{DIR, FIRST, METADATA, START, dir, entry, refs, state};

/// A log of some segments of two entries each, the last of them just begun.
fn log(disk: &SimDisk, entries: u64) -> Wal<SimDisk> {
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.set_segment_bytes(200);
    for i in 1..=entries {
        wal.append(refs(&[entry(1, i, "twenty bytes of data")]), state(1, 9, i));
        wal.sync().unwrap();
    }
    wal
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.list(dir()).unwrap().into_iter().map(|name| dir().join(name)).collect()
}

/// Writes one more entry, which is not to be durable; says why.
fn refusal(wal: &mut Wal<SimDisk>, what: &str) -> String {
    wal.append(refs(&[entry(1, wal.last_index() + 1, "more")]), None);
    let error = wal.sync().expect_err(what);
    assert!(error.is_displaced(), "{what}: {error}");
    assert!(matches!(wal.sync(), Err(wal::WalError::Failed)), "{what}");
    error.to_string()
}

#[test]
fn no_entry_counts_in_a_segment_that_lost_its_name() {
    type Change = fn(&SimDisk);
    let changes: [(&str, Change); 6] = [
        ("removed", |disk| disk.remove(Path::new(FIRST)).unwrap()),
        ("renamed", |disk| disk.rename(Path::new(FIRST), &dir().join("x.wal")).unwrap()),
        ("replaced", |disk| {
            disk.remove(Path::new(FIRST)).unwrap();
            disk.plant(Path::new(FIRST), b"another file").unwrap();
        }),
        ("folder renamed", |disk| disk.rename(dir(), Path::new("/member/wal.old")).unwrap()),
        ("data dir renamed", |disk| disk.rename(Path::new("/member"), Path::new("/old")).unwrap()),
        ("folder removed", |disk| {
            segments(disk).iter().for_each(|path| disk.remove(path).unwrap());
            disk.remove_dir(dir()).unwrap();
        }),
    ];
    for (what, change) in changes {
        let disk = SimDisk::new(1);
        let mut wal = log(&disk, 1);
        change(&disk);
        assert!(refusal(&mut wal, what).starts_with(&format!("check {FIRST}: ")), "{what}");
        // A mark of a snapshot does not count either, nor does a commit index that is written in the end.
        let disk = SimDisk::new(1);
        let mut wal = log(&disk, 1);
        change(&disk);
        assert!(
            wal.append_snapshot(pb::WalSnapshot { index: 1, term: 1 }).unwrap_err().is_displaced(),
            "{what}"
        );
        let disk = SimDisk::new(1);
        let mut wal = log(&disk, 1);
        change(&disk);
        assert!(wal.check_in_place().unwrap_err().is_displaced(), "{what}");
        wal.append([].into_iter(), state(1, 9, 1));
        wal.flush().unwrap_err();
    }
}

#[test]
fn older_segments_that_a_start_needs_are_missed_too() {
    for lost in 0..3 {
        let disk = SimDisk::new(1);
        let mut wal = log(&disk, 7);
        let all = segments(&disk);
        assert_eq!(all.len(), 4);
        disk.remove(&all[lost]).unwrap();
        assert!(refusal(&mut wal, "an older one").starts_with(&format!("check {}: ", all[lost].display())));
    }
    // One that no start needs any more may go.
    let disk = SimDisk::new(1);
    let mut wal = log(&disk, 7);
    let all = segments(&disk);
    assert!(all[2].ends_with("0000000000000002-0000000000000005.wal"), "{all:?}");
    wal.append_snapshot(pb::WalSnapshot { index: 5, term: 1 }).unwrap();
    wal.release_before(5);
    disk.remove(&all[0]).unwrap();
    disk.remove(&all[1]).unwrap();
    wal.append(refs(&[entry(1, 8, "more")]), None);
    wal.sync().unwrap();
    wal.check_in_place().unwrap();
    // However many there are, a few syncs look for all of them.
    let disk = SimDisk::new(1);
    let mut wal = log(&disk, 21);
    wal.set_segment_bytes(1 << 20);
    disk.remove(&segments(&disk)[5]).unwrap();
    let noticed = (22..30).find(|index| {
        wal.append(refs(&[entry(1, *index, "x")]), None);
        wal.sync().is_err()
    });
    assert!(noticed.is_some());
}

#[test]
fn what_was_removed_is_written_back() {
    for lost in [vec![0], vec![3], vec![1, 3], vec![0, 1, 2, 3]] {
        let disk = SimDisk::new(1);
        let mut wal = log(&disk, 7);
        let all = segments(&disk);
        let before: Vec<Vec<u8>> = all.iter().map(|path| disk.contents(path).unwrap()).collect();
        lost.iter().for_each(|place| disk.remove(&all[*place]).unwrap());
        refusal(&mut wal, "removed");
        let written = wal.write_back().unwrap();
        assert_eq!(written, lost.iter().map(|place| all[*place].clone()).collect::<Vec<_>>());
        drop(wal);
        disk.crash();
        for (path, bytes) in all.iter().zip(&before) {
            assert!(disk.contents(path).unwrap().starts_with(bytes), "{}", path.display());
        }
        let (_, recovered) = Wal::open(disk, dir(), START).unwrap();
        assert!(recovered.entries.len() >= 7);
    }
    // Nothing is put over another file, and nothing into a folder that is gone.
    let disk = SimDisk::new(1);
    let mut wal = log(&disk, 1);
    disk.remove(Path::new(FIRST)).unwrap();
    disk.plant(Path::new(FIRST), b"another file").unwrap();
    refusal(&mut wal, "replaced");
    assert!(wal.write_back().unwrap().is_empty());
    assert_eq!(disk.contents(Path::new(FIRST)).unwrap(), b"another file");
    disk.rename(dir(), Path::new("/gone")).unwrap();
    assert!(wal.write_back().unwrap().is_empty());
    assert_eq!(disk.kind(Path::new(DIR)).unwrap(), None);
}

#[test]
fn a_real_file_knows_its_path() {
    let temporary = tempfile::tempdir().unwrap();
    let (path, other) = (temporary.path().join("f"), temporary.path().join("g"));
    let mut file = RealDisk.open(&path, Open::Create).unwrap();
    file.append(b"x").unwrap();
    file.check_in_place().unwrap();
    RealDisk.rename(&path, &other).unwrap();
    assert!(file.check_in_place().unwrap_err().is_displaced());
    drop(RealDisk.open(&path, Open::Create).unwrap());
    assert!(file.check_in_place().unwrap_err().is_displaced(), "another file");
    RealDisk.rename(&other, &path).unwrap();
    file.check_in_place().unwrap();
    RealDisk.remove(&path).unwrap();
    assert!(file.check_in_place().unwrap_err().is_displaced());
}

#[test]
fn segments_are_kept_for_the_newest_snapshot_that_is_there() {
    let disk = SimDisk::new(1);
    let mut wal = log(&disk, 9);
    let snapshots = Snapshots::new(disk.clone(), Path::new("/member/snap"));
    disk.create_dir_all(snapshots.dir()).unwrap();
    for index in [3, 8] {
        wal.append_snapshot(pb::WalSnapshot { index, term: 1 }).unwrap();
        snapshots.save(1, index, &pb::ConfState::default(), |out| out.write_all(b"{}")).unwrap();
        wal.release_before(index);
    }
    assert!(snapshots.file_len(1, 8).unwrap().is_some());
    let newest = || snap::newest_index(&disk, snapshots.dir()).unwrap();
    assert_eq!(newest(), Some(8));
    // Somebody removes the newest one: the log is to reach back to the one before, or to its start.
    disk.remove(&snapshots.dir().join(snap::file_name(1, 8))).unwrap();
    assert!(snapshots.file_len(1, 8).unwrap().is_none());
    let at = pb::WalSnapshot { index: newest().unwrap(), term: 1 };
    assert_eq!(at.index, 3);
    let purge = |index| wal::purge(&disk, dir(), 1, index).unwrap().len();
    assert_eq!(purge(0), 0);
    assert!(purge(3) > 0);
    drop(wal);
    assert_eq!(Wal::open(disk.clone(), dir(), at).unwrap().1.entries.len(), 6);
    disk.remove(&snapshots.dir().join(snap::file_name(1, 3))).unwrap();
    assert_eq!(newest(), None);
}

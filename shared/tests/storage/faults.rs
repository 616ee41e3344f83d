//! A disk that fails: nothing is written after it, and what was synced before is there.

use std::io::ErrorKind;

use shared::disk::{DiskOperation, Fault, SimDisk};
use shared::wal::{Wal, WalError};

use crate::common::{METADATA, START, dir, entry, files, refs};

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let disk = SimDisk::new(3);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a")]), None);
    wal.sync().unwrap();
    disk.inject(Fault { operation: DiskOperation::Sync, after: 0, kind: ErrorKind::Other });
    wal.append(refs(&[entry(1, 2, "b")]), None);
    let error = wal.sync().unwrap_err();
    assert!(error.to_string().starts_with("fdatasync /member/wal/"), "{error}");
    let changes = disk.changes();
    wal.append(refs(&[entry(1, 3, "c")]), None);
    assert!(matches!(wal.sync(), Err(WalError::Failed)));
    assert!(matches!(wal.append_snapshot(START), Err(WalError::Failed)));
    assert!(matches!(wal.close(), Err(WalError::Failed)));
    assert_eq!(disk.changes(), changes);
    // What the failed sync did not bring to the disk is seen until a crash, and never after it: unless a start has
    // relied on it, which writes it once more.
    assert_eq!(Wal::open(disk.clone(), dir(), START).unwrap().1.entries.len(), 2);
    disk.crash();
    assert_eq!(Wal::open(disk, dir(), START).unwrap().1.entries, [entry(1, 1, "a"), entry(1, 2, "b")]);
}

#[test]
fn a_full_disk_leaves_a_tail_that_is_repaired() {
    let disk = SimDisk::new(3);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a")]), None);
    wal.sync().unwrap();
    disk.inject(Fault { operation: DiskOperation::Write, after: 0, kind: ErrorKind::StorageFull });
    wal.append(refs(&[entry(1, 2, "b")]), None);
    let error = wal.sync().unwrap_err();
    assert!(matches!(&error, WalError::Disk(error) if error.kind() == ErrorKind::StorageFull), "{error}");
    assert!(matches!(wal.sync(), Err(WalError::Failed)));
    drop(wal);
    let (_, recovered) = Wal::open(disk, dir(), START).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, "a")]);
    assert!(recovered.repaired.is_some());
}

#[test]
fn a_failed_cut_loses_nothing() {
    for operation in [
        DiskOperation::Create,
        DiskOperation::Write,
        DiskOperation::Sync,
        DiskOperation::Rename,
        DiskOperation::SyncDir,
    ] {
        let disk = SimDisk::new(3);
        let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
        wal.set_segment_bytes(1);
        wal.append(refs(&[entry(1, 1, "a")]), None);
        let after = u64::from(matches!(operation, DiskOperation::Write | DiskOperation::Sync));
        disk.inject(Fault { operation, after, kind: ErrorKind::Other });
        wal.sync().unwrap_err();
        assert!(matches!(wal.sync(), Err(WalError::Failed)), "{operation:?}");
        disk.crash();
        let (mut wal, recovered) = Wal::open(disk.clone(), dir(), START).unwrap();
        assert_eq!(recovered.entries, [entry(1, 1, "a")], "{operation:?}");
        let litter = files(&disk, dir()).iter().any(|(name, _)| name.ends_with(".tmp"));
        assert!(!litter, "{operation:?}: half a segment is left");
        wal.set_segment_bytes(1);
        wal.append(refs(&[entry(1, 2, "b")]), None);
        wal.sync().unwrap();
        drop(wal);
        assert_eq!(Wal::open(disk, dir(), START).unwrap().1.entries.len(), 2, "{operation:?}");
    }
}

#[test]
fn a_disk_without_room_to_reserve_may_have_room_to_write() {
    let disk = SimDisk::new(3);
    Wal::create(disk.clone(), dir(), METADATA).unwrap().close().unwrap();
    let full = Fault { operation: DiskOperation::Allocate, after: 0, kind: ErrorKind::StorageFull };
    disk.inject(full);
    let (mut wal, _) = Wal::open(disk.clone(), dir(), START).unwrap();
    wal.set_segment_bytes(1);
    for index in 1..4 {
        disk.inject(full);
        wal.append(refs(&[entry(1, index, "a")]), None);
        wal.sync().unwrap();
    }
    drop(wal);
    assert_eq!(files(&disk, dir()).len(), 4);
    disk.inject(Fault { kind: ErrorKind::Other, ..full });
    let error = Wal::open(disk, dir(), START).unwrap_err();
    assert!(error.to_string().starts_with("fallocate /member/wal/0000000000000003-"), "{error}");
}

//! The same on files of this machine.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use shared::disk::{Disk, DiskFile, Kind, Open, RealDisk};
use shared::wal::{self, Wal};
use shared::{pb, snap};

use crate::common::{METADATA, START, entry, refs, state};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn modes_lengths_and_locks() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("data/member/wal");
    let mut wal = Wal::create(RealDisk, &dir, METADATA).unwrap();
    assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o700, 0o700));
    let first = dir.join("0000000000000000-0000000000000000.wal");
    assert_eq!(mode(&first), 0o600);
    wal.append(refs(&[entry(1, 1, "a"), entry(1, 2, "b")]), state(1, 0, 1));
    wal.sync().unwrap();
    let error = Wal::open(RealDisk, &dir, START).unwrap_err();
    assert!(error.is_locked(), "{error}");
    assert!(error.to_string().starts_with("file already locked"), "{error}");
    wal.close().unwrap();
    let len = first.metadata().unwrap().len();
    let (mut wal, recovered) = Wal::open(RealDisk, &dir, START).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, "a"), entry(1, 2, "b")]);
    assert_eq!(first.metadata().unwrap().len(), len, "reserved space must not show in the length");
    wal.set_segment_bytes(1);
    wal.append(refs(&[entry(1, 3, "c")]), None);
    wal.sync().unwrap();
    wal.append(refs(&[entry(1, 4, "d")]), None);
    wal.sync().unwrap();
    drop(wal);
    let names = RealDisk.list(&dir).unwrap();
    assert_eq!(names.len(), 3, "{names:?}");
    let (_, recovered) = Wal::open(RealDisk, &dir, START).unwrap();
    assert_eq!(recovered.entries.len(), 4);
}

#[test]
fn a_torn_tail_is_copied_and_cut_off() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("wal");
    let mut wal = Wal::create(RealDisk, &dir, METADATA).unwrap();
    wal.append(refs(&[entry(1, 1, "a"), entry(1, 2, "b")]), None);
    wal.close().unwrap();
    let path = dir.join("0000000000000000-0000000000000000.wal");
    let mut file = RealDisk.open(&path, Open::Append).unwrap();
    let len = file.len().unwrap();
    file.truncate(len - 3).unwrap();
    let (_, recovered) = Wal::open(RealDisk, &dir, START).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, "a")]);
    let repaired = recovered.repaired.unwrap();
    assert_eq!(repaired.kept_bytes + repaired.cut_bytes, len - 3);
    assert_eq!(repaired.copy.unwrap().metadata().unwrap().size(), len - 3);
    assert_eq!(path.metadata().unwrap().len(), repaired.kept_bytes);
}

#[test]
fn errors_name_verb_and_path() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("file");
    RealDisk.open(&file, Open::Create).unwrap().append(b"x").unwrap();
    let below = file.join("below");
    let error = RealDisk.create_dir_all(&below).unwrap_err();
    assert_eq!(error.to_string(), format!("stat {}: not a directory", below.display()));
    let error = RealDisk.create_dir_all(&file).unwrap_err();
    assert_eq!(error.to_string(), format!("mkdir {}: file exists", file.display()));
    let error = RealDisk.create_dir_all(Path::new("/proc/none/member")).unwrap_err();
    assert_eq!((error.verb(), error.path()), ("mkdir", Path::new("/proc/none")));
    let none = temporary.path().join("none");
    assert_eq!(RealDisk.kind(&none).unwrap(), None);
    assert_eq!(RealDisk.kind(temporary.path()).unwrap(), Some(Kind::Dir));
    let lengths = [&none, temporary.path(), &file].map(|path| RealDisk.file_len(path).unwrap());
    assert_eq!(lengths, [None, None, Some(1)]);
    let error = RealDisk.remove(&none).unwrap_err();
    assert_eq!(error.to_string(), format!("remove {}: no such file or directory", none.display()));
    assert!(!wal::exists(&RealDisk, &none).unwrap());
    assert!(wal::exists(&RealDisk, temporary.path()).unwrap(), "any name counts");
}

#[test]
fn old_snapshots_are_purged() {
    let temporary = tempfile::tempdir().unwrap();
    let snapshots = snap::Snapshots::new(RealDisk, temporary.path());
    for index in 1..=4 {
        let conf_state = pb::ConfState { nodes: vec![1] };
        snapshots.save(1, index, &conf_state, |out| out.write_all(b"{}")).unwrap();
    }
    assert!(snap::purge(&RealDisk, temporary.path(), 0).unwrap().is_empty());
    let removed = snap::purge(&RealDisk, temporary.path(), 3).unwrap();
    assert_eq!(removed, [temporary.path().join(snap::file_name(1, 1))]);
    let (newest, _) = snapshots.load_newest().unwrap().unwrap();
    assert_eq!(newest.metadata.index, 4);
    assert_eq!(mode(&temporary.path().join(snap::file_name(1, 4))), 0o600);
}

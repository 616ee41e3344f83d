//! Power losses and failing operations at every point of commits.

use std::io::ErrorKind;

use shared::bolt::{Bolt, BoltError, Changes};
use shared::disk::{Disk, DiskOperation, Fault, SimDisk};

use crate::common::{Content, Random, SMALL, TINY, apply, assert_sound, content, path};

/// A file with some content, and what is in it.
fn prepared(seed: u64) -> (SimDisk, Content, Random) {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(path().parent().unwrap()).unwrap();
    let mut random = Random(seed);
    let mut model = Content::new();
    let mut bolt = Bolt::create(&disk, path(), if seed.is_multiple_of(2) { SMALL } else { TINY }).unwrap();
    for _ in 0..8 {
        let changes = random.changes(&model);
        bolt.commit(&changes).unwrap();
        apply(&mut model, &changes);
    }
    (disk, model, random)
}

/// Commits until the disk fails; returns the last acknowledged content and the one under way.
fn commit_until_failure(
    bolt: &mut Bolt<SimDisk>,
    model: Content,
    random: &mut Random,
    commits: usize,
) -> [Content; 2] {
    let mut acknowledged = model;
    for _ in 0..commits {
        let changes = random.changes(&acknowledged);
        let mut next = acknowledged.clone();
        apply(&mut next, &changes);
        match bolt.commit(&changes) {
            Ok(committed) => {
                assert_eq!(content(&committed.view).unwrap(), next);
                acknowledged = next;
            }
            Err(_) => return [acknowledged, next],
        }
    }
    [acknowledged.clone(), acknowledged]
}

fn crash_at(seed: u64, changes: u64, reorders: bool) -> bool {
    let (disk, model, mut random) = prepared(seed);
    if reorders {
        disk.reorder_writes();
    }
    let mut bolt = Bolt::open(&disk, path(), SMALL).unwrap();
    disk.fail_power_after(changes);
    let possible = commit_until_failure(&mut bolt, model, &mut random, 4);
    let reached = disk.is_without_power();
    disk.crash();
    drop(bolt);
    assert_sound(&disk, path());
    let mut bolt = Bolt::open(&disk, path(), SMALL).unwrap();
    let found = content(&bolt.view()).unwrap();
    assert!(possible.contains(&found), "seed {seed}, {changes} changes: other content");
    // The next commits build on what was found.
    let [after, _] = commit_until_failure(&mut bolt, found, &mut random, 3);
    drop(bolt);
    disk.crash();
    assert_sound(&disk, path());
    let bolt = Bolt::open(&disk, path(), SMALL).unwrap();
    assert_eq!(content(&bolt.view()).unwrap(), after, "seed {seed}, {changes} changes: not durable");
    reached
}

#[test]
fn a_crash_leaves_the_last_commit_or_the_one_under_way() {
    for seed in 0..8 {
        for reorders in [false, true] {
            let mut changes = 0;
            while crash_at(seed, changes, reorders) {
                changes += 1;
            }
            assert!(changes > 3, "seed {seed}: only {changes} operations");
        }
    }
}

#[test]
fn after_a_failed_operation_nothing_is_written_and_the_file_has_one_of_two_states() {
    for operation in
        [DiskOperation::Write, DiskOperation::Sync, DiskOperation::Truncate, DiskOperation::Allocate]
    {
        let mut failed = 0;
        for (seed, after) in (0..8).flat_map(|seed| (0..4).map(move |after| (seed, after))) {
            for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
                let (disk, model, mut random) = prepared(seed);
                let mut bolt = Bolt::open(&disk, path(), SMALL).unwrap();
                disk.inject(Fault { operation, after, kind });
                let possible = commit_until_failure(&mut bolt, model, &mut random, 12);
                let mut more = Changes::new();
                more.put(b"key", "after", "x");
                let changes = disk.changes();
                if operation == DiskOperation::Allocate {
                    // It changes nothing, so the next commit may do it.
                    bolt.commit(&more).unwrap();
                    continue;
                }
                if let Err(error) = bolt.commit(&more) {
                    failed += 1;
                    assert!(matches!(error, BoltError::Failed), "{error}");
                    assert_eq!(disk.changes(), changes, "it has written after a failure");
                    drop(bolt);
                    disk.crash();
                    assert_sound(&disk, path());
                    let bolt = Bolt::open(&disk, path(), SMALL).unwrap();
                    assert!(possible.contains(&content(&bolt.view()).unwrap()), "{operation:?}, seed {seed}");
                }
            }
        }
        assert!(failed > 0 || operation == DiskOperation::Allocate, "{operation:?} never failed");
    }
}

#[test]
fn a_new_file_is_there_as_a_whole_or_not_at_all() {
    for (seed, changes) in (0..20).flat_map(|seed| (0..8).map(move |changes| (seed, changes))) {
        let disk = SimDisk::new(seed);
        disk.reorder_writes();
        disk.create_dir_all(path().parent().unwrap()).unwrap();
        disk.fail_power_after(changes);
        let created = Bolt::create(&disk, path(), SMALL).is_ok();
        disk.crash();
        let kind = disk.kind(path()).unwrap();
        assert!(kind.is_some() || !created, "an acknowledged file is gone");
        if kind.is_some() {
            assert_sound(&disk, path());
        }
        let mut bolt = match kind {
            Some(_) => Bolt::open(&disk, path(), SMALL).unwrap(),
            None => Bolt::create(&disk, path(), SMALL).unwrap(),
        };
        bolt.commit(&Random(seed).changes(&Content::new())).unwrap();
    }
}

//! A migration that a power loss interrupts at any of its writes, syncs and renames, and is tried again.

use std::path::Path;

use etcd_migrate::{AlreadyMigrated, Options};
use shared::disk::Disk;

use crate::common::{DIR, contents, files, migrate, planted, recorded};

fn crashes(cluster: &str, member: &str, options: &Options) {
    let old = files(&recorded(cluster).join(member));
    let whole = planted(0, &old);
    let before = whole.changes();
    migrate(&whole, options).unwrap();
    let changes = whole.changes() - before;
    let member_dir = Path::new(DIR).join("member");
    let want = contents(&whole, &member_dir);
    assert!(changes > 10 && !want.is_empty(), "{changes} changes, {} files", want.len());
    for seed in 0..3 {
        for at in 0..changes {
            let disk = planted(seed, &old);
            disk.fail_power_after(at);
            migrate(&disk, options).unwrap_err();
            disk.crash();
            for (path, bytes) in &old {
                assert!(disk.contents(&Path::new(DIR).join(path)).unwrap() == *bytes, "an old file changed");
            }
            let complete = disk.kind(&member_dir).unwrap().is_some();
            if complete {
                assert!(
                    contents(&disk, &member_dir) == want,
                    "change {at}: the name came before the contents"
                );
            }
            let report = migrate(&disk, options).unwrap();
            assert_eq!(report.already, complete.then_some(AlreadyMigrated::Member));
            assert!(contents(&disk, &member_dir) == want, "change {at}, seed {seed}: another result");
            assert!(disk.kind(&Path::new(DIR).join("member.migrating")).unwrap().is_none());
        }
    }
}

#[test]
fn of_a_member_with_its_whole_log() {
    crashes("cluster3", "n1", &Options::default());
}

#[test]
fn of_a_member_with_a_snapshot() {
    crashes("cluster3-snapshot", "s0", &Options::default());
}

#[test]
fn of_the_original_conversion() {
    crashes("cluster-removed-member", "m0", &Options { original: true, ..Options::default() });
}

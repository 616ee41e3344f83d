//! What the writer promises besides.

use shared::bolt::{Bolt, BoltError, Changes, KEY_BYTES_MAX, Options, check};
use shared::disk::{Disk, SimDisk};

use crate::common::{SMALL, assert_sound, content, path};

fn new_file() -> (SimDisk, Bolt<SimDisk>) {
    let disk = SimDisk::new(1);
    disk.create_dir_all(path().parent().unwrap()).unwrap();
    let bolt = Bolt::create(&disk, path(), SMALL).unwrap();
    (disk, bolt)
}

#[test]
fn a_file_has_one_writer_and_is_not_made_twice() {
    let (disk, bolt) = new_file();
    assert!(Bolt::open(&disk, path(), SMALL).unwrap_err().is_locked());
    assert!(matches!(Bolt::create(&disk, path(), SMALL), Err(BoltError::Exists(_))));
    drop(bolt);
    Bolt::open(&disk, path(), SMALL).unwrap();
    let missing = path().with_file_name("none");
    assert!(
        matches!(Bolt::open(&disk, &missing, SMALL), Err(BoltError::Disk(error)) if error.is_not_found())
    );
}

#[test]
fn what_the_format_cannot_hold_is_refused_and_nothing_changed() {
    let (disk, mut bolt) = new_file();
    let refused = |bolt: &mut Bolt<SimDisk>, bucket: &[u8], key: Vec<u8>| {
        let mut changes = Changes::new();
        changes.put(b"a", "good", "x");
        changes.put(bucket, key, "x");
        bolt.commit(&changes).unwrap_err()
    };
    let before = disk.changes();
    assert!(matches!(refused(&mut bolt, b"a", Vec::new()), BoltError::KeyRequired));
    assert!(matches!(refused(&mut bolt, b"", b"k".to_vec()), BoltError::KeyRequired));
    let long = vec![1; KEY_BYTES_MAX + 1];
    assert!(matches!(refused(&mut bolt, b"a", long), BoltError::KeyTooLarge(_)));
    assert_eq!(disk.changes(), before);
    let mut changes = Changes::new();
    for i in 0..20 {
        changes.put(b"a", vec![i; KEY_BYTES_MAX], vec![i; 100]);
    }
    bolt.commit(&changes).unwrap();
    assert_sound(&disk, path());
    assert_eq!(content(&bolt.view()).unwrap()[&b"a"[..]].len(), 20);
}

#[test]
fn without_effect_nothing_is_written() {
    let (disk, mut bolt) = new_file();
    let mut changes = Changes::new();
    changes.put(b"a", "k", "v");
    changes.create_bucket("empty");
    assert!(bolt.commit(&changes).unwrap().pages_written > 0);
    let (before, txid) = (disk.changes(), bolt.view().txid());
    changes.delete(b"a", "none");
    assert_eq!(bolt.commit(&changes).unwrap().pages_written, 0);
    assert_eq!(bolt.commit(&Changes::new()).unwrap().pages_written, 0);
    assert_eq!((disk.changes(), bolt.view().txid()), (before, txid));
    assert_eq!(bolt.view().buckets().unwrap(), ["a", "empty"]);
}

#[test]
fn keys_added_at_the_end_leave_full_pages() {
    let (disk, mut bolt) = new_file();
    for round in 0..100_u64 {
        let mut changes = Changes::new();
        for i in 0..50 {
            changes.put(b"key", (round * 50 + i).to_be_bytes().to_vec(), vec![7; 100]);
        }
        bolt.commit(&changes).unwrap();
    }
    let report = check(&disk, path()).unwrap();
    let pages = report.buckets[0].pages;
    // 29 keys fill 90 per cent of a page.
    assert_eq!(pages.leaf, 5000_u64.div_ceil(29));
    assert_sound(&disk, path());
}

#[test]
fn the_file_shrinks_when_its_end_is_free() {
    let (disk, mut bolt) = new_file();
    let mut changes = Changes::new();
    for i in 0..2000_u32 {
        changes.put(b"key", i.to_be_bytes().to_vec(), vec![7; 500]);
    }
    bolt.commit(&changes).unwrap();
    let large = bolt.file_bytes();
    let mut changes = Changes::new();
    for i in 10..2000_u32 {
        changes.delete(b"key", i.to_be_bytes().to_vec());
    }
    let view = bolt.view();
    bolt.commit(&changes).unwrap();
    for i in 0..20_u8 {
        let mut changes = Changes::new();
        changes.put(b"key", "x", vec![i; 100]);
        bolt.commit(&changes).unwrap();
    }
    assert!(bolt.file_bytes() >= large, "a view needs it");
    assert_eq!(view.bucket(b"key").unwrap().unwrap().range(..).count(), 2000);
    drop(view);
    for i in 0..20_u8 {
        let mut changes = Changes::new();
        changes.put(b"key", "x", vec![i; 200]);
        bolt.commit(&changes).unwrap();
    }
    assert!(bolt.file_bytes() < large / 20, "{} of {large} bytes", bolt.file_bytes());
    assert_eq!(disk.file_len(path()).unwrap(), Some(bolt.file_bytes()));
    assert_sound(&disk, path());
}

#[test]
fn a_file_that_is_removed_is_no_longer_written_to() {
    let (disk, mut bolt) = new_file();
    disk.remove(path()).unwrap();
    let mut changes = Changes::new();
    changes.put(b"a", "k", "v");
    assert!(matches!(bolt.commit(&changes), Err(BoltError::Disk(error)) if error.is_displaced()));
}

#[test]
fn readers_on_other_threads_see_their_state_while_commits_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut bolt = Bolt::create(&shared::disk::RealDisk, &path, Options::default()).unwrap();
    let mut changes = Changes::new();
    for i in 0..20_000_u32 {
        changes.put(b"key", i.to_be_bytes().to_vec(), i.to_le_bytes().repeat(20));
    }
    bolt.commit(&changes).unwrap();
    let view = bolt.view();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let view = view.clone();
            std::thread::spawn(move || {
                let bucket = view.bucket(b"key").unwrap().unwrap();
                for i in (0..20_000_u32).step_by(7) {
                    let value = bucket.get(&i.to_be_bytes()).unwrap().unwrap();
                    assert_eq!(value, i.to_le_bytes().repeat(20));
                }
                bucket.range(..).map(Result::unwrap).count()
            })
        })
        .collect();
    for round in 0..20_u32 {
        let mut changes = Changes::new();
        for i in (round..20_000).step_by(500) {
            changes.put(b"key", i.to_be_bytes().to_vec(), vec![1; 90]);
        }
        bolt.commit(&changes).unwrap();
    }
    for reader in readers {
        assert_eq!(reader.join().unwrap(), 20_000);
    }
    assert_sound(&shared::disk::RealDisk, &path);
}

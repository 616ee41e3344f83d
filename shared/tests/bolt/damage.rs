//! Files that end early, and files with flipped bits.

use shared::bolt::{Bolt, BoltError, Changes, check, read};
use shared::disk::SimDisk;

use crate::common::{Content, Random, TINY, apply, content, path};

/// A small file of two states with all kinds of pages, and the two states.
fn small_file() -> (Vec<u8>, [Content; 2]) {
    let disk = SimDisk::new(1);
    disk.plant(&path().with_file_name("other"), b"").unwrap();
    let mut bolt = Bolt::create(&disk, path(), TINY).unwrap();
    let mut random = Random(3);
    let mut states = [Content::new(), Content::new()];
    for round in 0..3_u64 {
        let mut changes = Changes::new();
        for i in 0..20 {
            changes.put(b"key", format!("{:03}", i * (round + 1)), random.value(60));
        }
        changes.put(b"big", format!("b{round}"), random.value(1100));
        changes.put(b"meta", "consistent_index", random.value(8));
        bolt.commit(&changes).unwrap();
        states[0] = states[1].clone();
        apply(&mut states[1], &changes);
    }
    drop(bolt);
    (disk.contents(path()).unwrap(), states)
}

/// Opens, reads, checks and changes a damaged file: content, or an error that says what is wrong. Never a panic.
fn use_all(bytes: &[u8]) -> Result<Content, BoltError> {
    let disk = SimDisk::new(0);
    disk.plant(path(), bytes).unwrap();
    let checked = check(&disk, path());
    let found = read(&disk, path(), 0).and_then(|view| {
        let mut copy = Vec::new();
        view.copy_to(&mut copy)?;
        for name in view.buckets()? {
            let bucket = view.bucket(&name)?;
            for pair in bucket.into_iter().flat_map(|bucket| bucket.range_back(..)) {
                let (key, _) = pair?;
                view.bucket(&name)?.map(|bucket| bucket.get(&key)).transpose()?;
            }
        }
        content(&view)
    });
    let mut changes = Changes::new();
    for bucket in [&b"key"[..], b"big", b"meta", b"new"] {
        changes.put(bucket, "055", "x");
        changes.delete(bucket, "007");
    }
    let commit = Bolt::open(&disk, path(), TINY).and_then(|mut bolt| {
        bolt.commit(&changes)?;
        bolt.commit(&changes)
    });
    if let Err(error) = commit {
        let is_known =
            error.is_damage() || matches!(error, BoltError::Incompatible(_) | BoltError::Exhausted);
        assert!(is_known, "{error:?}");
    }
    match (&checked, &found) {
        (Err(error), _) => assert!(error.is_damage(), "{error}"),
        (Ok(report), Err(error)) => assert!(!report.is_sound(), "the check does not find: {error}"),
        (Ok(_), Ok(_)) => {}
    }
    found
}

#[test]
fn a_file_that_ends_early_is_refused_at_every_length() {
    let (bytes, states) = small_file();
    assert_eq!(use_all(&bytes).unwrap(), states[1]);
    for len in 0..bytes.len() {
        match use_all(&bytes[..len]) {
            // The pages at the end may be free.
            Ok(found) => assert_eq!(found, states[1], "{len} bytes"),
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
    }
    assert!(matches!(use_all(&bytes[..100]), Err(BoltError::Short { .. } | BoltError::Metas { .. })));
}

#[test]
fn a_flipped_bit_in_the_newest_meta_page_brings_back_the_older_state() {
    let (bytes, states) = small_file();
    let txid = |slot: usize| u64::from_le_bytes(bytes[slot * 1024 + 64..][..8].try_into().unwrap());
    let newest = usize::from(txid(1) > txid(0));
    for (at, bit) in (16..80).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = bytes.clone();
        flipped[newest * 1024 + at] ^= 1 << bit;
        assert!(use_all(&flipped).unwrap() == states[0], "byte {at}, bit {bit}");
        flipped[(1 - newest) * 1024 + at] ^= 1 << bit;
        assert!(matches!(use_all(&flipped), Err(BoltError::Metas { .. })), "both are bad");
    }
}

#[test]
fn a_flipped_bit_elsewhere_gives_content_or_an_error() {
    let (bytes, _) = small_file();
    let (mut errors, mut random) = (0, Random(1));
    for at in 2048..bytes.len() {
        // Headers and element tables, and some of the rest.
        if at % 1024 < 150 || random.below(5) == 0 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << random.below(8);
            errors += usize::from(use_all(&flipped).is_err());
        }
    }
    assert!(errors > 100, "only {errors} errors");
}

//! Random commits against a model.

use std::ops::Bound;

use proptest::prelude::*;
use shared::bolt::{Bolt, View, check};
use shared::disk::SimDisk;

use crate::common::{Content, Random, SMALL, TINY, apply, assert_sound, content, path};

fn new_file(seed: u64) -> (SimDisk, Bolt<SimDisk>) {
    let disk = SimDisk::new(seed);
    shared::disk::Disk::create_dir_all(&disk, path().parent().unwrap()).unwrap();
    let options = if seed.is_multiple_of(2) { TINY } else { SMALL };
    let bolt = Bolt::create(&disk, path(), options).unwrap();
    (disk, bolt)
}

/// What single reads and bounded ranges of a view say.
fn compare_reads(random: &mut Random, view: &View, model: &Content) {
    for (name, keys) in model {
        let bucket = view.bucket(name).unwrap().unwrap();
        for _ in 0..5 {
            let bound = |random: &mut Random| {
                let key = match random.below(3) {
                    0 => format!("{}", random.below(500)).into_bytes(),
                    1 => format!("z{:024}", random.below(500)).into_bytes(),
                    _ => keys
                        .keys()
                        .nth(usize::try_from(random.below(keys.len() as u64 + 1)).unwrap())
                        .cloned()
                        .unwrap_or_default(),
                };
                match random.below(3) {
                    0 => Bound::Included(key),
                    1 => Bound::Excluded(key),
                    _ => Bound::Unbounded,
                }
            };
            let (from, to) = (bound(random), bound(random));
            if let Bound::Included(key) | Bound::Excluded(key) = &from {
                let got = bucket.get(key).unwrap();
                assert_eq!(got.as_deref(), keys.get(key).map(Vec::as_slice));
            }
            let is_within = |key: &Vec<u8>| {
                (match &from {
                    Bound::Included(from) => key >= from,
                    Bound::Excluded(from) => key > from,
                    Bound::Unbounded => true,
                }) && (match &to {
                    Bound::Included(to) => key <= to,
                    Bound::Excluded(to) => key < to,
                    Bound::Unbounded => true,
                })
            };
            let expected: Vec<&Vec<u8>> = keys.keys().filter(|key| is_within(key)).collect();
            let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
            let forward: Vec<_> = bucket.range(bounds).map(|pair| pair.unwrap().0).collect();
            assert_eq!(forward, expected);
            let mut backward: Vec<_> = bucket.range_back(bounds).map(|pair| pair.unwrap().0).collect();
            backward.reverse();
            assert_eq!(backward, expected);
        }
    }
}

/// A copy of a view is a sound file with the same content.
fn compare_copy(view: &View, model: &Content) {
    let mut bytes = Vec::new();
    let len = view.copy_to(&mut bytes).unwrap();
    assert_eq!((len, view.size()), (bytes.len() as u64, bytes.len() as u64));
    let disk = SimDisk::new(0);
    disk.plant(path(), &bytes).unwrap();
    assert_sound(&disk, path());
    // Also when the newest meta page is bad, and after another commit.
    for slot in 0..2 {
        let mut bytes = bytes.clone();
        bytes[slot * view.page_size() + 70] ^= 1;
        disk.plant(path(), &bytes).unwrap();
        assert_eq!(&content(&shared::bolt::read(&disk, path(), 0).unwrap()).unwrap(), model);
    }
    disk.plant(path(), &bytes).unwrap();
    let mut copy = Bolt::open(&disk, path(), SMALL).unwrap();
    let mut changes = shared::bolt::Changes::new();
    changes.put(b"new", "a", "b");
    copy.commit(&changes).unwrap();
    let mut model = model.clone();
    apply(&mut model, &changes);
    drop(copy);
    let copy = Bolt::open(&disk, path(), SMALL).unwrap();
    assert_eq!(content(&copy.view()).unwrap(), model);
}

fn run(seed: u64, commits: usize) {
    let mut random = Random(seed);
    let (disk, mut bolt) = new_file(seed);
    let mut model = Content::new();
    let mut held: Vec<(View, Content)> = Vec::new();
    for _ in 0..commits {
        let changes = random.changes(&model);
        let committed = bolt.commit(&changes).unwrap();
        apply(&mut model, &changes);
        assert_eq!(content(&committed.view).unwrap(), model);
        let report = check(&disk, path()).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        let view = bolt.view();
        let size = u64::from(report.page_size);
        assert_eq!(view.size_in_use(), (report.high_water - report.free_pages) * size);
        assert_eq!((report.txid, report.high_water * size), (view.txid(), view.size()));
        match random.below(12) {
            0..=2 => held.push((view, model.clone())),
            3..=5 if !held.is_empty() => {
                let at = usize::try_from(random.below(held.len() as u64)).unwrap();
                held.swap_remove(at);
            }
            6 => compare_reads(&mut random, &view, &model),
            7 => {
                if let Some((view, model)) = held.first() {
                    compare_copy(view, model);
                }
                compare_copy(&view, &model);
            }
            8 => {
                drop(view);
                held.clear();
                drop(bolt);
                bolt = Bolt::open(&disk, path(), SMALL).unwrap();
                assert_eq!(content(&bolt.view()).unwrap(), model);
            }
            _ => {}
        }
        for (view, model) in &held {
            assert_eq!(&content(view).unwrap(), model, "an older state has changed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn random_commits(seed: u64, commits in 1..60_usize) {
        run(seed, commits);
    }
}

#[test]
fn many_commits() {
    run(7, 300);
}

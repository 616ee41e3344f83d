//! What a power failure leaves at the end of a log is cut off, whatever it looks like; what was synced stays, and
//! damage of it is refused.

use std::io::ErrorKind;
use std::path::Path;

use shared::disk::{Disk, DiskOperation, Fault, SimDisk};
use shared::pb;
use shared::wal::{self, Damage, Recovered, Wal, WalError};

use crate::common::{FIRST, METADATA, START, dir, entry, files, refs, state};

const TEXT: &str = "some thirty bytes of a value, no more";

/// A log of three entries, all committed, and the bytes of one more write.
fn log_and_write(more: &[pb::Entry]) -> (Vec<u8>, Vec<u8>) {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    for index in 1..=3 {
        wal.append(refs(&[entry(1, index, TEXT)]), state(1, 9, index - 1));
        wal.sync().unwrap();
    }
    wal.append([].into_iter(), state(1, 9, 3));
    wal.flush().unwrap();
    let synced = disk.contents(Path::new(FIRST)).unwrap();
    wal.append(refs(more), state(1, 9, 3));
    wal.close().unwrap();
    let write = disk.contents(Path::new(FIRST)).unwrap().split_off(synced.len());
    (synced, write)
}

fn open(disk: &SimDisk) -> Result<(Wal<SimDisk>, Recovered), WalError> {
    Wal::open(disk.clone(), dir(), START)
}

/// The log opens, holds what was synced, and goes on: also after one more start.
fn goes_on(bytes: &[u8], what: &str) -> Recovered {
    let disk = SimDisk::new(1);
    disk.plant(Path::new(FIRST), bytes).unwrap();
    let looked = wal::inspect(&disk, dir(), 0);
    let (mut wal, recovered) = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(recovered.entries.len() >= 3, "{what}: synced entries are gone");
    assert!(
        recovered.entries[..3].iter().all(|entry| entry.data.as_deref() == Some(TEXT.as_bytes())),
        "{what}"
    );
    assert_eq!(looked.unwrap().entries, recovered.entries, "{what}: one who only looks sees something else");
    let next = recovered.entries.len() as u64 + 1;
    wal.append(refs(&[entry(2, next, "later")]), state(2, 9, next));
    wal.sync().unwrap();
    drop(wal);
    let (_, again) = open(&disk).unwrap_or_else(|error| panic!("{what}, later: {error}"));
    assert_eq!(again.entries.len() as u64, next, "{what}");
    assert_eq!(again.repaired, None, "{what}");
    recovered
}

/// The log is refused, and stays as it is.
fn refused(bytes: &[u8], what: &str) -> WalError {
    let disk = SimDisk::new(1);
    disk.plant(Path::new(FIRST), bytes).unwrap();
    let before = files(&disk, dir());
    let error = match open(&disk) {
        Ok((_, recovered)) => panic!("{what}: accepted with {} entries", recovered.entries.len()),
        Err(error) => error,
    };
    assert!(error.to_string().contains(FIRST), "{what}: {error}");
    assert!(files(&disk, dir()) == before, "{what}: changed");
    error
}

/// Bytes that look like chance.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..size)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[3]
        })
        .collect()
}

/// Where the records of a write end.
fn record_ends(write: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < write.len() {
        at += 8 + usize::try_from(u64::from_le_bytes(*write[at..].first_chunk().unwrap())).unwrap();
        ends.push(at);
    }
    ends
}

#[test]
fn a_write_that_broke_off_anywhere_is_cut_off() {
    let (synced, write) = log_and_write(&[entry(1, 4, TEXT), entry(1, 5, "x")]);
    let ends = record_ends(&write);
    for cut in 0..=write.len() {
        let torn = [&synced[..], &write[..cut]].concat();
        goes_on(&torn, &format!("cut at {cut}"));
        // The file system had made the file longer already.
        for zeros in [1, 2, 7, 8, 9, 20, 100, 511, 512, 513, 1024] {
            let torn = [&torn[..], &vec![0; zeros]].concat();
            // A record that is there in full, with one byte wrong.
            if zeros == 1 && ends.contains(&(cut + 1)) {
                continue;
            }
            goes_on(&torn, &format!("cut at {cut}, then {zeros} zeros"));
        }
    }
}

#[test]
fn what_looks_like_the_start_of_a_record_is_cut_off() {
    let (synced, _) = log_and_write(&[]);
    for length in [1, 5, 9, 21, 100, 1 << 20, 1 << 40, i64::MAX, -1, i64::MIN] {
        for junk in [&[][..], &[0xab, 0xcd], &[0x08], &[0x08, 2, 0x10], &[0; 20], &[0xff; 20], &noise(3, 700)]
        {
            // A record that is there in full is another matter.
            if usize::try_from(length)
                .is_ok_and(|length| length <= junk.len() && !junk.iter().all(|b| *b == 0))
            {
                continue;
            }
            let torn = [&synced[..], &length.to_le_bytes(), junk].concat();
            let recovered = goes_on(&torn, &format!("a length of {length}, then {junk:x?}"));
            let repaired = recovered.repaired.unwrap();
            assert_eq!(
                (repaired.kept_bytes, repaired.cut_bytes),
                (synced.len() as u64, 8 + junk.len() as u64)
            );
        }
    }
    for seed in 0..200 {
        let size = usize::try_from(seed % 50).unwrap() * 20 + 1;
        goes_on(&[&synced[..], &noise(seed, size)].concat(), &format!("noise {seed}"));
    }
}

/// 3.x went on in this segment: what it wrote is not for this reader to cut off.
#[test]
fn the_start_of_a_padded_record_is_not_a_torn_tail() {
    let (synced, _) = log_and_write(&[]);
    let length: i64 = -0x7bff_ffff_ffff_ff9c;
    for junk in [&[][..], &[0xab, 0xcd], &[0; 20], &noise(3, 700)] {
        let log = [&synced[..], &length.to_le_bytes(), junk].concat();
        let error = refused(&log, "a padded length");
        assert!(error.to_string().contains("etcd 3.x"), "{error}");
    }
}

#[test]
fn any_sectors_of_the_last_write_may_be_missing() {
    let big = "v".repeat(1500);
    let big: &'static str = Box::leak(big.into_boxed_str());
    let small: Vec<pb::Entry> =
        (4..16).map(|index| entry(1, index, "an entry of a hundred bytes, or nearly so many")).collect();
    for (what, more) in [("one large entry", vec![entry(1, 4, big)]), ("many small entries", small)] {
        let (synced, write) = log_and_write(&more);
        // Wherever the write begins in its sector.
        for shift in [0, 1, 5, 100, 300] {
            let (synced, write) = shifted(&synced, &write, shift);
            let whole = [&synced[..], &write[..]].concat();
            let first = synced.len() / 512;
            let sectors = whole.len().div_ceil(512) - first;
            for kept in 0..1_u32 << sectors {
                let mut torn = whole.clone();
                for sector in (0..sectors).filter(|sector| kept & (1 << sector) == 0) {
                    let from = ((first + sector) * 512).max(synced.len());
                    let to = ((first + sector + 1) * 512).min(whole.len());
                    torn[from..to].fill(0);
                }
                let name = format!("{what}, shifted by {shift}, sectors {kept:b} of {sectors}");
                goes_on(&torn, &name);
                // The file may be as long as what has reached the disk.
                let last = (0..sectors).rev().find(|sector| kept & (1 << sector) != 0);
                let len = last.map_or(synced.len(), |sector| ((first + sector + 1) * 512).min(whole.len()));
                torn.truncate(len);
                goes_on(&torn, &format!("{name}, short"));
            }
        }
    }
}

/// The same log and write, with the write some bytes further in the file: the first entry's value is longer. (The sums
/// are made anew.)
fn shifted(synced: &[u8], write: &[u8], shift: usize) -> (Vec<u8>, Vec<u8>) {
    if shift == 0 {
        return (synced.to_vec(), write.to_vec());
    }
    let disk = SimDisk::new(1);
    disk.plant(Path::new(FIRST), &[synced, write].concat()).unwrap();
    let entries = wal::inspect(&disk, dir(), 0).unwrap().entries;
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.append(refs(&entries[..3]), state(1, 9, 3));
    // An entry that was replaced takes the room.
    wal.append(refs(&[pb::Entry { data: Some(vec![b'r'; shift].into()), ..entries[3].clone() }]), None);
    wal.append(refs(&[entries[2].clone()]), state(1, 9, 3));
    wal.sync().unwrap();
    let synced = disk.contents(Path::new(FIRST)).unwrap();
    wal.append(refs(&entries[3..]), state(1, 9, 3));
    wal.close().unwrap();
    let write = disk.contents(Path::new(FIRST)).unwrap().split_off(synced.len());
    (synced, write)
}

/// A log of sixty entries, each synced before the next, as a server writes them.
fn long_log() -> Vec<u8> {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    for index in 1..=60 {
        wal.append(refs(&[entry(1, index, TEXT)]), state(1, 9, index - 1));
        wal.sync().unwrap();
    }
    wal.append([].into_iter(), state(1, 9, 60));
    wal.close().unwrap();
    disk.contents(Path::new(FIRST)).unwrap()
}

#[test]
fn damage_of_what_was_synced_is_refused() {
    let log = long_log();
    let sectors = log.len() / 512;
    assert!(sectors > 7);
    for sector in 0..sectors {
        // A lost page, and one of something else.
        let mut zeros = log.clone();
        zeros[sector * 512..(sector + 1) * 512].fill(0);
        refused(&zeros, &format!("sector {sector} of zeros"));
        let mut other = log.clone();
        other[sector * 512..(sector + 1) * 512].copy_from_slice(&noise(7, 512));
        refused(&other, &format!("sector {sector} of noise"));
    }
    let mut pages = log.clone();
    pages[1024..3072].fill(0);
    refused(&pages, "four sectors of zeros");
    // The last record, in full.
    let (synced, write) = log_and_write(&[entry(1, 4, TEXT)]);
    let all = [&synced[..], &write[..]].concat();
    let length = u64::from_le_bytes(*write.first_chunk().unwrap());
    let last = synced.len() + 8 + usize::try_from(length).unwrap();
    for at in synced.len()..last {
        for bit in 0..8 {
            let mut bytes = all[..last].to_vec();
            bytes[at] ^= 1 << bit;
            // Bits of a tag may say nothing; a length may be one that was cut off.
            let disk = SimDisk::new(1);
            disk.plant(Path::new(FIRST), &bytes).unwrap();
            match open(&disk) {
                Ok((_, recovered)) => {
                    assert_eq!(recovered.entries.len(), 4, "bit {bit} of byte {at}: cut off")
                }
                Err(WalError::Damaged { offset, .. }) => assert_eq!(offset, synced.len() as u64),
                Err(error) => panic!("bit {bit} of byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn copies_of_what_is_cut_off_are_numbered() {
    let (synced, _) = log_and_write(&[]);
    let torn = |byte: u8| [&synced[..], &[100, 0, 0, 0, 0, 0, 0, 0, byte]].concat();
    let disk = SimDisk::new(1);
    for (byte, name) in [(1, ".broken"), (2, ".broken.1"), (3, ".broken.2"), (2, ".broken.1")] {
        disk.plant(Path::new(FIRST), &torn(byte)).unwrap();
        let copy = open(&disk).unwrap().1.repaired.unwrap().copy.unwrap();
        assert_eq!(copy, Path::new(&format!("{FIRST}{name}")));
        assert_eq!(disk.contents(&copy).unwrap(), torn(byte));
    }
    assert_eq!(files(&disk, dir()).len(), 4);
}

#[test]
fn a_full_disk_does_not_keep_a_torn_log_from_its_repair() {
    let (synced, _) = log_and_write(&[]);
    let tail = [100, 0, 0, 0, 0, 0, 0, 0, 7];
    let torn = [&synced[..], &tail].concat();
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge] {
        for operation in [
            DiskOperation::Write,
            DiskOperation::Create,
            DiskOperation::Sync,
            DiskOperation::Rename,
            DiskOperation::SyncDir,
        ] {
            for failures in 1..=2 {
                let disk = SimDisk::new(1);
                disk.plant(Path::new(FIRST), &torn).unwrap();
                (0..failures).for_each(|_| disk.inject(Fault { operation, after: 0, kind }));
                let what = format!("{failures} failures of {operation:?}: {kind}");
                let (_, recovered) = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(recovered.entries.len(), 3, "{what}");
                let copy = recovered.repaired.unwrap().copy;
                // Of a name that is not synced the file may be there all the same.
                if operation != DiskOperation::SyncDir {
                    let kept = copy.map(|copy| disk.contents(&copy).unwrap());
                    assert_eq!(kept, (failures == 1).then(|| tail.to_vec()), "{what}");
                }
                assert_eq!(disk.contents(Path::new(FIRST)).unwrap(), synced, "{what}");
                assert!(files(&disk, dir()).iter().all(|(name, _)| !name.ends_with(".tmp")), "{what}");
            }
        }
    }
}

#[test]
fn a_repair_that_is_cut_short_is_done_again() {
    let (synced, write) = log_and_write(&[entry(1, 4, TEXT)]);
    let torn = [&synced[..], &write[..50]].concat();
    for changes in 0..20 {
        for seed in 0..5 {
            let disk = SimDisk::new(seed);
            disk.plant(Path::new(FIRST), &torn).unwrap();
            disk.fail_power_after(changes);
            let _ = open(&disk);
            disk.crash();
            let (_, recovered) = open(&disk).unwrap();
            assert_eq!(recovered.entries.len(), 3);
            let copies: Vec<_> =
                files(&disk, dir()).into_iter().filter(|(name, _)| name.contains("broken")).collect();
            assert!(copies.len() <= 1 && copies.iter().all(|(_, bytes)| *bytes == torn), "{changes} {seed}");
        }
    }
}

/// A log of some segments, of two entries each.
fn segments() -> SimDisk {
    let disk = SimDisk::new(1);
    let mut wal = Wal::create(disk.clone(), dir(), METADATA).unwrap();
    wal.set_segment_bytes(200);
    for index in 1..=6 {
        wal.append(refs(&[entry(1, index, TEXT)]), state(1, 9, index));
        wal.sync().unwrap();
    }
    wal.close().unwrap();
    disk
}

/// Segments with these contents instead of the last ones, of which a whole head is given to make some of.
fn with_last(contents: &[Vec<u8>]) -> SimDisk {
    let disk = segments();
    let all = files(&disk, dir());
    for ((name, _), bytes) in all[all.len() - contents.len()..].iter().zip(contents) {
        disk.plant(&dir().join(name), bytes).unwrap();
    }
    disk
}

#[test]
fn a_last_segment_that_was_just_begun_gets_its_head() {
    let whole = files(&segments(), dir());
    let (name, head) = whole.last().unwrap();
    assert!(whole.len() >= 3 && head.len() < 100, "the last segment holds its head only");
    let mut contents: Vec<Vec<u8>> = (0..head.len()).map(|len| head[..len].to_vec()).collect();
    contents.extend((1..head.len()).map(|len| [&head[..len], &[0; 600]].concat()));
    contents.push([&100_u64.to_le_bytes()[..], &[7, 7]].concat());
    for content in contents {
        let what = format!("{} bytes {:x?}", content.len(), &content[..content.len().min(60)]);
        let disk = with_last(std::slice::from_ref(&content));
        let (mut wal, recovered) = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((recovered.entries.len(), recovered.state.commit), (6, 6), "{what}");
        wal.append(refs(&[entry(2, 7, "more")]), state(2, 9, 7));
        wal.sync().unwrap();
        drop(wal);
        let (_, again) = open(&disk).unwrap_or_else(|error| panic!("{what}, later: {error}"));
        assert_eq!((again.entries.len(), again.state.term), (7, 2), "{what}");
        // The segment begins as it would have begun: Go would open it too.
        let now = disk.contents(&dir().join(name)).unwrap();
        assert!(now.starts_with(head), "{what}: {now:x?}");
    }
    // At any moment of that the power may fail.
    for changes in 0..20 {
        for seed in 0..5 {
            let disk = SimDisk::new(seed);
            for (name, bytes) in &whole[..whole.len() - 1] {
                disk.plant(&dir().join(name), bytes).unwrap();
            }
            disk.plant(&dir().join(name), b"").unwrap();
            disk.fail_power_after(changes);
            let _ = open(&disk);
            disk.crash();
            assert_eq!(open(&disk).unwrap().1.entries.len(), 6, "{changes} {seed}");
        }
    }
}

#[test]
fn a_segment_without_a_head_that_was_more_than_begun_is_refused() {
    let whole = files(&segments(), dir());
    let check = |disk: &SimDisk, what: &str| {
        let before = files(disk, dir());
        for _ in 0..2 {
            match open(disk) {
                Err(WalError::Damaged { damage: Damage::Head, .. }) => {}
                Err(error) => panic!("{what}: {error}"),
                Ok(_) => panic!("{what}: accepted"),
            }
        }
        assert!(files(disk, dir()) == before, "{what}: changed");
    };
    for content in [vec![], vec![0; 100]] {
        // The last two: the name of the second tells of entries in the first.
        check(&with_last(&[content.clone(), content.clone()]), "two segments");
        check(&with_last(&[content.clone(), whole.last().unwrap().1.clone()]), "one in the middle");
        // The name tells of entries that are nowhere.
        let disk = with_last(std::slice::from_ref(&content));
        let (last, _) = whole.last().unwrap();
        let later = format!("{}-{:016x}.wal", &last[..16], 99);
        disk.rename(&dir().join(last), &dir().join(&later)).unwrap();
        check(&disk, "a name with another index");
        // The only one does not say whose it is: something may have been acknowledged.
        let disk = SimDisk::new(1);
        disk.plant(Path::new(FIRST), &content).unwrap();
        for _ in 0..2 {
            assert!(matches!(open(&disk), Err(WalError::NoMetadata(_))));
        }
        assert_eq!(disk.contents(Path::new(FIRST)).unwrap(), content);
    }
    // Nothing but zeros: a segment gets its name with its head in it, so there was one, and entries maybe.
    for size in [1, 8, 12, 511, 512, 4096, 70_000] {
        check(&with_last(&[vec![0; size]]), "zeros");
    }
    // Entries behind a lost head.
    let disk = SimDisk::new(1);
    let mut bytes = whole[1].1.clone();
    bytes[..4].fill(0);
    for (name, content) in [&whole[0], &(whole[1].0.clone(), bytes)] {
        disk.plant(&dir().join(name), content).unwrap();
    }
    assert!(open(&disk).is_err());
    // A head of another log, or of another place in this one.
    let (_, head) = whole.last().unwrap();
    let mut crc = head.clone();
    crc[12] ^= 1;
    assert!(matches!(open(&with_last(&[crc])), Err(WalError::Damaged { damage: Damage::ChainCrc, .. })));
}

#[test]
fn a_segment_whose_head_tells_no_state_gets_one() {
    let whole = files(&segments(), dir());
    let (_, head) = whole.last().unwrap();
    // The crc record and the metadata: the state is missing.
    let length = |at: usize| usize::try_from(u64::from_le_bytes(*head[at..].first_chunk().unwrap())).unwrap();
    let metadata = 8 + length(0);
    let state_from = metadata + 8 + length(metadata);
    assert!(state_from < head.len());
    let disk = with_last(&[head[..state_from].to_vec()]);
    let (wal, recovered) = open(&disk).unwrap();
    drop(wal);
    assert_eq!(recovered.state, state(1, 9, 6).unwrap());
    assert_eq!(files(&disk, dir()).last().unwrap().1, *head);
}

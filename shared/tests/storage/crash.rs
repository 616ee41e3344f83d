//! Power fails at any moment of appending, syncing, cutting, marking and saving snapshots, purging and
//! reopening: what was acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use shared::disk::{Disk, DiskOperation, Fault, SimDisk};
use shared::pb;
use shared::snap::{self, Snapshots};
use shared::wal::{self, EntryRef, Form, Options, Wal};

use crate::common::{METADATA, dir, files};

const SNAP_DIR: &str = "/member/snap";
const LIVES: u64 = 4;
const SEEDS: u64 = 400;

/// When a write counts as acknowledged.
#[derive(Clone, Copy, PartialEq)]
enum Acknowledge {
    AfterSync,
    /// The planted bug.
    BeforeSync,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What the clients of this log know.
#[derive(Default)]
struct Acknowledged {
    created: bool,
    entries: BTreeMap<u64, String>,
    commit: u64,
    snapshot: Option<pb::WalSnapshot>,
}

struct Member {
    wal: Wal<SimDisk>,
    snapshots: Snapshots<SimDisk>,
    disk: SimDisk,
    next: u64,
    term: u64,
}

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

fn options(form: Form) -> Options {
    Options { form, segment_bytes: 600 }
}

/// Starts as the server does: newest snapshot, log from there. Checks that nothing is missing.
fn start(disk: &SimDisk, known: &Acknowledged, form: Form) -> Anything<Member> {
    disk.create_dir_all(Path::new(SNAP_DIR))?;
    let snapshots = Snapshots::new(disk.clone(), Path::new(SNAP_DIR));
    let loaded = snapshots.load_newest()?;
    let broken = files(disk, Path::new(SNAP_DIR)).iter().any(|(name, _)| name.ends_with(".broken"));
    assert!(!broken, "a snapshot was left half written under its name");
    let at = loaded.map_or(pb::WalSnapshot::default(), |(snapshot, _)| pb::WalSnapshot {
        index: snapshot.metadata.index,
        term: snapshot.metadata.term,
    });
    if let Some(snapshot) = known.snapshot {
        assert!(at.index >= snapshot.index, "snapshot {snapshot:?} was stored, {at:?} is there");
    }
    let exists = wal::exists(disk, dir())?;
    assert!(exists || !known.created, "the log is gone");
    let (wal, next, term) = if exists {
        let (wal, recovered) = Wal::open_with(disk.clone(), dir(), at, options(form))?;
        assert_eq!(recovered.metadata, METADATA);
        let found: BTreeMap<u64, String> = recovered
            .entries
            .iter()
            .map(|entry| (entry.index, String::from_utf8_lossy(entry.data.as_deref().unwrap()).into_owned()))
            .collect();
        for (index, text) in known.entries.range(at.index + 1..) {
            assert_eq!(found.get(index), Some(text), "acknowledged entry {index} is lost");
        }
        assert!(recovered.state.commit >= known.commit.min(at.index), "the commit index went back");
        let next = at.index + recovered.entries.len() as u64 + 1;
        (wal, next, recovered.state.term + 1)
    } else {
        (Wal::create_with(disk.clone(), dir(), METADATA, options(form))?, 1, 1)
    };
    Ok(Member { wal, snapshots, disk: disk.clone(), next, term })
}

/// Works until the power fails.
fn work(
    random: &mut Random,
    member: &mut Member,
    known: &mut Acknowledged,
    when: Acknowledge,
) -> Anything<()> {
    loop {
        match random.below(10) {
            0 if !known.entries.is_empty() => snapshot(random, member, known)?,
            1 => {
                let newest = snap::newest_index(&member.disk, Path::new(SNAP_DIR))?;
                wal::purge(&member.disk, dir(), 2, newest.unwrap_or(0))?;
                snap::purge(&member.disk, Path::new(SNAP_DIR), 2)?;
            }
            _ => batch(random, member, known, when)?,
        }
    }
}

fn batch(
    random: &mut Random,
    member: &mut Member,
    known: &mut Acknowledged,
    when: Acknowledge,
) -> Anything<()> {
    let count = random.below(4);
    let texts: Vec<String> = (0..count)
        .map(|i| {
            let size = if random.below(8) == 0 { 1500 } else { random.below(40) };
            // Values of zeros are told from lost sectors too.
            let fill = if random.below(2) == 0 { "\0" } else { "x" };
            format!("{}-{}-{}", member.next + i, member.term, fill.repeat(usize::try_from(size).unwrap()))
        })
        .collect();
    let entries = texts.iter().enumerate().map(|(i, text)| EntryRef {
        kind: pb::ENTRY_NORMAL,
        term: member.term,
        index: member.next + i as u64,
        data: Some(text.as_bytes()),
    });
    let last = member.next + count - 1;
    let state = pb::HardState { term: member.term, vote: 1, commit: last };
    member.wal.append(entries, Some(state));
    if when == Acknowledge::AfterSync {
        member.wal.sync()?;
    }
    for (i, text) in texts.into_iter().enumerate() {
        known.entries.insert(member.next + i as u64, text);
    }
    known.commit = last;
    member.next += count;
    if when == Acknowledge::BeforeSync {
        member.wal.sync()?;
    }
    Ok(())
}

fn snapshot(random: &mut Random, member: &mut Member, known: &mut Acknowledged) -> Anything<()> {
    let index = member.next - 1;
    if index == 0 || known.snapshot.is_some_and(|at| at.index >= index) {
        return Ok(());
    }
    let at = pb::WalSnapshot { index, term: member.term };
    member.wal.append_snapshot(at)?;
    let pieces = random.below(50);
    let conf_state = pb::ConfState { nodes: vec![METADATA.node_id] };
    member.snapshots.save(at.term, at.index, &conf_state, |out| {
        (0..pieces).try_for_each(|_| out.write_all(b"a piece of the store, "))
    })?;
    known.snapshot = Some(at);
    member.wal.release_before(index);
    Ok(())
}

/// Several lives of one member, each ended by a power failure; panics if something acknowledged is lost.
fn run(seed: u64, when: Acknowledge, form: Form) {
    let disk = SimDisk::new(seed);
    let mut random = Random(seed ^ 0xabcd);
    let mut known = Acknowledged::default();
    for life in 0..LIVES {
        let bound = if life == 0 { 30 } else { 120 };
        disk.fail_power_after(random.below(bound));
        if let Ok(mut member) = start(&disk, &known, form) {
            known.created = true;
            let end = work(&mut random, &mut member, &mut known, when).unwrap_err();
            assert!(end.to_string().contains("broken pipe"), "{form:?}, seed {seed}: {end}");
        }
        disk.crash();
    }
    if let Err(error) = start(&disk, &known, form) {
        panic!("{form:?}, seed {seed}: {error}");
    }
}

#[test]
fn what_was_acknowledged_survives() {
    for form in [Form::V2, Form::V3_4, Form::V3_5] {
        for seed in 0..SEEDS {
            run(seed, Acknowledge::AfterSync, form);
        }
    }
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = (0..SEEDS)
        .filter(|seed| std::panic::catch_unwind(|| run(*seed, Acknowledge::BeforeSync, Form::V2)).is_err())
        .count();
    std::panic::set_hook(quiet);
    assert!(caught > 10, "the planted bug was seen in {caught} of {SEEDS} runs only");
}

#[test]
fn a_seed_repeats() {
    let trace = |seed| {
        let disk = SimDisk::new(seed);
        let mut random = Random(seed);
        let mut known = Acknowledged::default();
        disk.fail_power_after(60);
        let mut member = start(&disk, &known, Form::V2).unwrap();
        let _ = work(&mut random, &mut member, &mut known, Acknowledge::AfterSync);
        disk.crash();
        (known.entries, files(&disk, dir()))
    };
    assert!(trace(7) == trace(7));
    assert!(trace(7) != trace(8));
}

/// A process is killed between its write and its sync, the next one reads what the system still knows, and only
/// then the power fails.
#[test]
fn what_a_start_has_read_is_durable() {
    for operation in [DiskOperation::Sync, DiskOperation::SyncDir] {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            let mut member = start(&disk, &Acknowledged::default(), Form::V2).unwrap();
            member.wal.set_segment_bytes(200);
            disk.inject(Fault { operation, after: 2, kind: std::io::ErrorKind::BrokenPipe });
            let mut random = Random(seed);
            while batch(&mut random, &mut member, &mut Acknowledged::default(), Acknowledge::AfterSync)
                .is_ok()
            {}
            drop(member);
            let read = |disk: &SimDisk| {
                Wal::open(disk.clone(), dir(), pb::WalSnapshot::default()).unwrap().1.entries
            };
            let before = read(&disk);
            disk.crash();
            assert_eq!(read(&disk).len(), before.len(), "{operation:?}, seed {seed}");
        }
    }
}

/// A sync fails, the next process starts on what the system still shows, and only then the power fails: what that
/// process relied on is there.
#[test]
fn a_start_after_a_failed_sync_relies_on_the_disk_alone() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut member = start(&disk, &Acknowledged::default(), Form::V2).unwrap();
        disk.inject(Fault {
            operation: DiskOperation::Sync,
            after: 3,
            kind: std::io::ErrorKind::StorageFull,
        });
        let mut random = Random(seed);
        while batch(&mut random, &mut member, &mut Acknowledged::default(), Acknowledge::AfterSync).is_ok() {}
        drop(member);
        let open = || Wal::open(disk.clone(), dir(), pb::WalSnapshot::default()).unwrap();
        let (mut wal, before) = open();
        let next = before.entries.last().map_or(1, |entry| entry.index + 1);
        wal.append([EntryRef { kind: 0, term: 9, index: next, data: Some(b"later") }].into_iter(), None);
        wal.sync().unwrap();
        drop(wal);
        disk.crash();
        let after = open().1.entries;
        assert_eq!(after.len(), before.entries.len() + 1, "seed {seed}");
    }
}

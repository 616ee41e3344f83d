//! A member on a disk that forgets what was not synced. Everything that was acknowledged before the power
//! failed must exist afterwards; and the check must notice a member that acknowledges too early.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use node::Outcome;
use node::member::{Applied, Member, Output, RequestId};
use node::time::{Moment, Now};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::disk::SimDisk;
use shared::pb;
use shared::time::UnixNanos;
use shared::v2;

use super::begin::{Beginning, Founding};
use super::data_dir::{self, Layout};
use super::start::{self, Opened};
use crate::config::{self, Config, Invocation};

/// When a member counts a batch as durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acknowledge {
    AfterSync,
    /// The mistake that the check must notice.
    BeforeSync,
}

/// Acknowledged keys and values.
type Acked = BTreeMap<String, String>;

/// The power failed. No other error may happen.
struct PowerFailed;

const NOW: Now = Now { moment: Moment::after(std::time::Duration::ZERO), wall: UnixNanos(2) };
const SNAPSHOT_COUNT: u64 = 20;
const WRITES_PER_RUN_MAX: usize = 60;

fn config() -> Config {
    let words = ["-name=m", "-data-dir=/d", "-initial-cluster=m=http://127.0.0.1:2380"];
    let more = ["-initial-advertise-peer-urls=http://127.0.0.1:2380", "-heartbeat-interval=10"];
    let words = words.into_iter().chain(more).map(OsString::from);
    match config::read(words, [], |_| panic!("no file is named")) {
        Invocation::Run(start) => start.config,
        Invocation::Exit(early_exit) => panic!("{early_exit:?}"),
    }
}

/// One run of a member, from its start to a power failure or until it has written enough.
struct MemberRun {
    opened: OpenMember,
    acknowledge: Acknowledge,
    pending: BTreeMap<RequestId, (String, String)>,
    last_snapshot: u64,
}

struct OpenMember {
    member: Member,
    files: Opened<SimDisk>,
}

impl MemberRun {
    fn begin(disk: &SimDisk, acknowledge: Acknowledge, seed: u64) -> Result<MemberRun, PowerFailed> {
        let config = config();
        let layout = Layout::new(Path::new("/d"), None);
        data_dir::prepare(disk, &layout).map_err(|_| PowerFailed)?;
        let beginning = if layout.has_log(disk).map_err(|_| PowerFailed)? {
            Beginning::Restart
        } else {
            let founding = Founding::new(&config, config.initial_cluster.clone());
            Beginning::Found(founding.unwrap_or_else(|error| panic!("seed {seed}: {error}")))
        };
        let mut files =
            start::open(disk, &layout, &config, beginning, UnixNanos(1), seed).map_err(|_| PowerFailed)?;
        let last_snapshot = files.start.snapshot.index;
        let begin = std::mem::replace(&mut files.start, nothing());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let member = Member::new(begin, &files.machine.tree, &logger);
        let opened = OpenMember { member, files };
        let mut run = MemberRun { opened, acknowledge, pending: BTreeMap::new(), last_snapshot };
        run.turn(&mut Acked::new())?;
        assert!(run.opened.member.status().alone, "seed {seed}: the member is not in its own cluster");
        run.opened.member.campaign();
        run.turn(&mut Acked::new())?;
        Ok(run)
    }

    fn write(&mut self, key: String, value: String) {
        let request = v2::Request {
            verb: v2::Verb::Put,
            path: format!("/1/{key}").into(),
            val: value.clone().into(),
            ..v2::Request::default()
        };
        let id = self.opened.member.propose(request);
        self.pending.insert(id, (key, value));
    }

    /// Carries out the member's outputs.
    fn turn(&mut self, acked: &mut Acked) -> Result<(), PowerFailed> {
        let OpenMember { member, files } = &mut self.opened;
        while let Some(output) = member.poll() {
            match output {
                Output::Persist(batch) => {
                    files.wal.append(batch.entries(), batch.state);
                    if batch.must_sync && self.acknowledge == Acknowledge::AfterSync {
                        files.wal.sync().map_err(|_| PowerFailed)?;
                    }
                    if batch.must_sync {
                        member.persisted(batch.id);
                    }
                }
                Output::Apply(committed) => {
                    member.apply(committed, &mut files.machine.tree, NOW, |applied| {
                        if let Applied::Command(id, Outcome::V2(Ok(_))) = applied {
                            acked.extend(self.pending.remove(&id));
                        }
                    });
                }
                Output::Send(_) | Output::Install(_) | Output::ReadReady { .. } | Output::GivenUp(_) => {}
            }
        }
        if self.acknowledge == Acknowledge::BeforeSync {
            files.wal.sync().map_err(|_| PowerFailed)?;
        }
        self.snapshot_if_due()
    }

    fn snapshot_if_due(&mut self) -> Result<(), PowerFailed> {
        let OpenMember { member, files } = &mut self.opened;
        let tail = member.tail();
        if tail.index - self.last_snapshot <= SNAPSHOT_COUNT {
            return Ok(());
        }
        let mark = pb::WalSnapshot { index: tail.index, term: tail.term };
        files.wal.append_snapshot(mark).map_err(|_| PowerFailed)?;
        let image = files.machine.tree.image();
        files
            .snapshots
            .save(tail.term, tail.index, &tail.conf_state, |out| image.write_json(out))
            .map_err(|_| PowerFailed)?;
        files.wal.release_before(tail.index);
        self.last_snapshot = tail.index;
        member.snapshot_saved(tail);
        Ok(())
    }
}

/// A placeholder for a start that was taken out.
fn nothing() -> node::member::Start {
    node::member::Start {
        id: shared::id::MemberId(0),
        cluster_id: shared::id::ClusterId(0),
        snapshot: pb::SnapshotMetadata::default(),
        state: pb::HardState::default(),
        entries: Vec::new(),
        election_ticks: 1,
        level: node::version::Level::V2_3,
        seed: 0,
        now: UnixNanos(0),
    }
}

/// Several runs on one disk, each ended by a power failure; returns the keys that are missing at the end.
fn lost_keys(seed: u64, acknowledge: Acknowledge) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = SimDisk::new(seed);
    let mut acked = Acked::new();
    let mut next = 0;
    for _ in 0..4 {
        disk.fail_power_after(rng.random_range(1..120));
        if let Ok(mut run) = MemberRun::begin(&disk, acknowledge, seed) {
            for _ in 0..WRITES_PER_RUN_MAX {
                for _ in 0..rng.random_range(1..4) {
                    run.write(format!("k{}", next % 40), format!("v{next}"));
                    next += 1;
                }
                if run.turn(&mut acked).is_err() {
                    break;
                }
            }
        }
        disk.crash();
    }
    let Ok(run) = MemberRun::begin(&disk, Acknowledge::AfterSync, seed) else {
        panic!("seed {seed}: the member does not start on what the crash left");
    };
    let missing = acked.iter().filter(|(key, value)| {
        let found = run.opened.files.machine.tree.get(format!("/1/{key}").as_bytes(), false, false);
        // A later write without an acknowledgement may have survived too.
        let found = found.ok().and_then(|event| event.node().value().map(<[u8]>::to_vec));
        found.is_none_or(|found| number(&found) < number(value.as_bytes()))
    });
    missing.map(|(key, value)| format!("{key}={value}")).collect()
}

/// The number of a value `vN`; values are written in their order.
fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(&value[1..]).unwrap().parse().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    for seed in 0..300 {
        let lost = lost_keys(seed, Acknowledge::AfterSync);
        assert!(lost.is_empty(), "seed {seed}: {lost:?} was acknowledged and is gone");
    }
}

#[test]
fn an_acknowledgement_before_the_sync_is_noticed() {
    let noticed = (0..100).filter(|seed| !lost_keys(*seed, Acknowledge::BeforeSync).is_empty()).count();
    assert!(noticed > 0, "100 seeds of a member that acknowledges too early lost nothing");
}

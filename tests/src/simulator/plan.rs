//! The settings of one run: everything that differs from seed to seed, drawn before the run begins.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Microseconds of simulated time.
pub type Micros = u64;

/// A millisecond.
pub(super) const MILLISECOND: Micros = 1000;
/// A second.
pub(super) const SECOND: Micros = 1000 * MILLISECOND;

/// One heartbeat interval by an exact clock.
pub(super) const TICK: Micros = 100 * MILLISECOND;
/// The election timeout in ticks, at least; at most twice as many.
pub(super) const ELECTION_TICKS: usize = 10;

/// How long messages take, and how many are lost, repeated or late.
#[derive(Debug, Clone, Copy)]
pub(super) struct NetworkConditions {
    /// Shortest and longest delay of an ordinary message.
    pub(super) delay: (Micros, Micros),
    /// Messages lost, of a thousand.
    pub(super) lost: u32,
    /// Messages that arrive twice, of a thousand.
    pub(super) repeated: u32,
    /// Messages that arrive seconds late, of a thousand.
    pub(super) late: u32,
    /// Whether messages from one member to another keep their order, as on one connection.
    pub(super) in_order: bool,
}

/// The relative frequency of each kind of fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) crash: u32,
    pub(super) blackout: u32,
    pub(super) disk: u32,
    pub(super) partition: u32,
    pub(super) one_way: u32,
    pub(super) calm: u32,
    pub(super) slow_disk: u32,
    pub(super) pause: u32,
    pub(super) clock: u32,
    pub(super) membership: u32,
    pub(super) election: u32,
    pub(super) handover: u32,
    pub(super) features: u32,
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Members at the beginning.
    pub(super) members: u64,
    pub(super) clients: usize,
    /// Keys that clients share.
    pub(super) keys: usize,
    /// The time in which faults happen.
    pub(super) faults_for: Micros,
    /// The mean time between two of them.
    pub(super) fault_every: Micros,
    /// The mean time between an answer and the client's next request.
    pub(super) think: Micros,
    pub(super) conditions: NetworkConditions,
    pub(super) weights: Weights,
    /// Shortest and longest sync of a healthy disk.
    pub(super) sync: (Micros, Micros),
    /// A segment of the log is closed at this length.
    pub(super) segment_bytes: u64,
    /// The request timeout of members.
    pub(super) request_timeout: Micros,
    /// Entries between two snapshots.
    pub(super) snapshot_count: u64,
    /// Entries that stay in memory below a snapshot.
    pub(super) catch_up: u64,
    /// Whether members use the extensions: pre-vote, check-quorum and read-index.
    pub(super) extended: bool,
    /// Whether messages are encoded and decoded on the network.
    pub(super) wire: bool,
    /// The largest drift of the clocks, in parts per million.
    pub(super) drift: i64,
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn of(seed: u64) -> Plan {
        // Not the generator of the run itself: a change here does not change its choices.
        let rng = &mut StdRng::seed_from_u64(seed ^ 0x706c_616e);
        let quick = rng.random_bool(0.7);
        let rough = rng.random_bool(0.5);
        let delay = if quick { (200, 3 * MILLISECOND) } else { (MILLISECOND, 80 * MILLISECOND) };
        let mut weight = |most: u32| if rng.random_bool(0.35) { 0 } else { rng.random_range(1..=most) };
        let weights = Weights {
            crash: weight(7),
            blackout: weight(5),
            disk: weight(2),
            partition: weight(6),
            one_way: weight(4),
            calm: 1 + weight(3),
            slow_disk: weight(3),
            pause: weight(4),
            clock: weight(2),
            membership: weight(5),
            election: weight(5),
            handover: weight(2),
            features: weight(1),
        };
        Plan {
            members: [3, 3, 3, 4, 5, 5, 6, 7][rng.random_range(0..8)],
            clients: rng.random_range(2..=6),
            keys: rng.random_range(1..=3),
            faults_for: rng.random_range(8 * SECOND..30 * SECOND),
            fault_every: rng.random_range(250 * MILLISECOND..3500 * MILLISECOND),
            think: rng.random_range(20 * MILLISECOND..250 * MILLISECOND),
            conditions: NetworkConditions {
                delay,
                lost: if rough { rng.random_range(0..120) } else { 0 },
                repeated: if rough { rng.random_range(0..100) } else { 0 },
                late: if rough { rng.random_range(0..30) } else { 0 },
                in_order: rng.random_bool(0.4),
            },
            weights,
            sync: match rng.random_range(0..10) {
                0..5 => (200, 4 * MILLISECOND),
                5..8 => (2 * MILLISECOND, 60 * MILLISECOND),
                _ => (10 * MILLISECOND, 400 * MILLISECOND),
            },
            segment_bytes: rng.random_range(1500..20_000),
            snapshot_count: rng.random_range(8..60),
            catch_up: rng.random_range(0..30),
            extended: rng.random_bool(0.6),
            wire: rng.random_bool(0.3),
            drift: rng.random_range(0..30_000),
            request_timeout: rng.random_range(SECOND..7 * SECOND),
        }
    }
}

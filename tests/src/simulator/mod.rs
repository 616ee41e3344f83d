//! A whole cluster in one thread, from one number.
//!
//! Members, their stores and their files are the real ones; the network, the disks, the clocks and the clients are
//! simulated, and a seed decides what happens to them. `Documentation/simulator.md` tells what is checked, and how a
//! run is repeated.
//!
//! - `plan` draws what a run is made of; `world` takes what happens from the `queue`; `messages`, `requests` and `lives`
//!   tell what comes of it, `faults` and `network` make it hard, `settle` looks how it ends;
//! - `process` is one life of a member, the stand-in for the server's loop and threads;
//! - `clients` ask and remember, `history` looks whether what they saw is possible, `oracle` compares the members.

mod clients;
mod faults;
mod history;
mod lives;
mod messages;
mod network;
mod oracle;
mod plan;
mod process;
mod queue;
mod requests;
mod settle;
mod trace;
mod world;

use std::cell::Cell;

use shared::planted::plant;

pub use oracle::Violation;
pub use plan::Micros;
pub use shared::planted::Bug;

use world::World;

/// Which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// A mistake to be made, none as a rule.
    pub bug: Option<Bug>,
    /// Whether what happens is printed.
    pub trace: bool,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Equal for equal runs only.
    pub hash: u64,
    /// How many things happened.
    pub events: u64,
    /// Faults among them.
    pub faults: u64,
    /// Snapshots that members took over from a leader.
    pub installed: u64,
    /// Entries that were applied.
    pub entries: u64,
    /// Operations that clients called on keys whose history is checked.
    pub operations: usize,
    /// Requests that were answered.
    pub answers: u64,
    /// Keys whose history was too long to be checked.
    pub gave_up: u64,
    /// The simulated time that it took.
    pub took: Micros,
    /// What must not have been, if there was such a thing.
    pub result: Result<(), Violation>,
}

impl Report {
    /// The command that shows this run.
    pub fn rerun_command(&self, bug: Option<Bug>) -> String {
        let bug = bug.map_or(String::new(), |bug| format!(" --bug {bug}"));
        format!("cargo run -p tests --bin simulator -- --seed {}{bug} --trace", self.seed)
    }
}

/// Runs a seed. A member that panics has violated what it asserts itself; where panics abort the program
/// ([`print_seed_on_panic`]) there is no report.
pub fn run(options: Options) -> Report {
    RUNNING.set(Some(options.seed));
    plant(options.bug);
    let done = std::panic::catch_unwind(|| run_unguarded(options));
    plant(None);
    RUNNING.set(None);
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
        let result = Err(Violation::new(format!("a member panics: {text}")));
        Report {
            seed: options.seed,
            hash: 0,
            events: 0,
            faults: 0,
            installed: 0,
            entries: 0,
            operations: 0,
            answers: 0,
            gave_up: 0,
            took: 0,
            result,
        }
    })
}

thread_local! {
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Lets every panic be followed by the seed that was running, also where panics abort the program.
pub fn print_seed_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if let Some(seed) = RUNNING.get() {
            eprintln!("this was seed {seed}");
        }
    }));
}

fn run_unguarded(options: Options) -> Report {
    let mut world = World::new(options.seed, options.bug.is_some(), options.trace);
    let mut result = world.run();
    let mut gave_up = 0;
    if result.is_ok() {
        match world.clients.check() {
            Ok(count) => gave_up = count,
            Err(violation) => result = Err(violation),
        }
    }
    Report {
        seed: options.seed,
        hash: world.trace.hash(),
        events: world.events(),
        faults: world.faults,
        installed: world.installed,
        entries: world.oracle.entries(),
        operations: world.clients.operations(),
        answers: world.clients.acknowledged(),
        gave_up,
        took: world.now,
        result,
    }
}

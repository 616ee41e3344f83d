//! A whole cluster in one thread, from one seed.
//!
//! Members, their stores and their files are the real ones; the network, the disks, the clocks and the clients
//! are simulated, and a seed decides what happens to them. `Documentation/simulator.md` lists the checks, and
//! how a run is repeated.
//!
//! - `plan` draws the settings of a run; `world` handles the events of the `queue`; `messages`, `requests` and
//!   `lives` handle their kinds of events, `faults` and `network` cause the faults, `settle` checks the end;
//! - `process` is one run of a member, the stand-in for the server's loop and threads;
//! - `clients` sends requests and records answers, `history` checks that these are linearizable, `oracle`
//!   compares the members.

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

/// The options of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The seed: it determines the run.
    pub seed: u64,
    /// A bug to plant; `None` as a rule.
    pub bug: Option<Bug>,
    /// Whether events are printed.
    pub trace: bool,
}

/// The results of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash of the run, equal for equal runs only.
    pub hash: u64,
    /// The number of events.
    pub events: u64,
    /// The number of faults.
    pub faults: u64,
    /// Received snapshots that members installed.
    pub installed: u64,
    /// Entries that any member applied.
    pub entries: u64,
    /// Operations on keys whose history is checked.
    pub operations: usize,
    /// Answered requests.
    pub answers: u64,
    /// Keys whose check gave up.
    pub gave_up: u64,
    /// The simulated time of the run.
    pub took: Micros,
    /// The violation, if there was one.
    pub result: Result<(), Violation>,
}

impl Report {
    /// The command that repeats this run with a trace.
    pub fn rerun_command(&self, bug: Option<Bug>) -> String {
        let bug = bug.map_or(String::new(), |bug| format!(" --bug {bug}"));
        format!("cargo run -p tests --bin simulator -- --seed {}{bug} --trace", self.seed)
    }
}

/// Runs a seed. A panic of a member is a violation; where panics abort the program ([`print_seed_on_panic`])
/// there is no report.
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

/// Prints the running seed after every panic, also where panics abort the program.
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

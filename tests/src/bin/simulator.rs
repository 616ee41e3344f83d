//! Runs seeds of the simulator: `simulator --seeds 20000`, or one with all that happens in it:
//! `simulator --seed 7 --trace`.

use std::process::ExitCode;
use std::time::Instant;

use shared::planted::UnknownBug;
use tests::simulator::{self, Bug, Options, Report};

const USAGE: &str = "\
usage: simulator [--seeds COUNT] [--from SEED] [--bug NAME] [--jobs COUNT]
       simulator --seed SEED [--bug NAME] [--trace]";

/// A parsed command line.
struct Arguments {
    from: u64,
    seeds: u64,
    bug: Option<Bug>,
    trace: bool,
    jobs: u64,
}

fn main() -> ExitCode {
    let arguments = match read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    simulator::print_seed_on_panic();
    let started = Instant::now();
    let results = simulate(&arguments);
    let seconds = started.elapsed().as_secs_f64();
    let failed = results.iter().filter(|report| report.result.is_err()).count();
    let sum = |of: fn(&Report) -> u64| results.iter().map(of).sum::<u64>();
    println!(
        "{} seeds, {failed} failed, {:.1} s, {:.1} ms a seed; {} events, {} faults, {} snapshots sent, {} entries, {} answers, \
         {} keys not checked",
        results.len(),
        seconds,
        seconds * 1000.0 / (results.len().max(1) as f64),
        sum(|report| report.events),
        sum(|report| report.faults),
        sum(|report| report.installed),
        sum(|report| report.entries),
        sum(|report| report.answers),
        sum(|report| report.gave_up),
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { from: 0, seeds: 100, bug: None, trace: false, jobs: 1 };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let number = |value: String| value.parse::<u64>().map_err(|error| format!("{value:?}: {error}"));
        match word.as_str() {
            "--seeds" => arguments.seeds = number(value()?)?,
            "--from" => arguments.from = number(value()?)?,
            "--seed" => (arguments.from, arguments.seeds) = (number(value()?)?, 1),
            "--jobs" => arguments.jobs = number(value()?)?.max(1),
            "--bug" => arguments.bug = Some(value()?.parse().map_err(|error: UnknownBug| error.to_string())?),
            "--trace" => arguments.trace = true,
            _ => return Err(format!("what is {word}?")),
        }
    }
    Ok(arguments)
}

/// Runs all seeds, on as many threads as wanted; each run has one.
fn simulate(arguments: &Arguments) -> Vec<Report> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.jobs)
            .map(|job| {
                scope.spawn(move || {
                    let all = arguments.from..arguments.from.saturating_add(arguments.seeds);
                    let step = usize::try_from(arguments.jobs).unwrap_or(1);
                    let skip = usize::try_from(job).unwrap_or(0);
                    all.skip(skip).step_by(step).map(|seed| simulate_one(arguments, seed)).collect::<Vec<_>>()
                })
            })
            .collect();
        // A panicking thread has printed the reason and the seed.
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    })
}

fn simulate_one(arguments: &Arguments, seed: u64) -> Report {
    let options = Options { seed, bug: arguments.bug, trace: arguments.trace };
    let report = simulator::run(options);
    if arguments.trace {
        println!("trace hash {:016x}, {} events", report.hash, report.events);
    }
    if let Err(violation) = &report.result {
        println!("seed {seed} failed: {violation}\n  run it again: {}", report.rerun_command(arguments.bug));
    }
    report
}

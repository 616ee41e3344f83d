//! Simulated clusters: hundreds of seeds are run, and mistakes that are made on purpose are noticed.

use tests::simulator::{self, Bug, Options, Report};
use tests::{Check, fail};

/// Seeds that must pass.
const SEEDS: u64 = 300;
/// The least that these must have come to: a run in which nothing happens proves nothing.
const FAULTS_MIN: u64 = 1000;
const ANSWERS_MIN: u64 = 10_000;
const SNAPSHOTS_MIN: u64 = 50;
/// Within so many seeds each mistake must be noticed once.
const SEEDS_FOR_A_BUG: u64 = 400;

fn run(seed: u64, bug: Option<Bug>) -> Report {
    simulator::run(Options { seed, bug, trace: false })
}

/// Runs seeds on two threads; each run has one.
fn run_all(seeds: u64) -> Vec<Report> {
    let half = |first: u64| (first..seeds).step_by(2).map(|seed| run(seed, None)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let even = scope.spawn(|| half(0));
        let mut reports = half(1);
        reports.extend(even.join().unwrap_or_default());
        reports
    })
}

#[test]
fn clusters_keep_what_they_promise() -> Check {
    let reports = run_all(SEEDS);
    let failed: Vec<String> = reports
        .iter()
        .filter_map(|report| {
            let violation = report.result.as_ref().err()?;
            Some(format!("seed {}: {violation}\n  replay: {}", report.seed, report.replay(None)))
        })
        .collect();
    if !failed.is_empty() {
        fail!("{}", failed.join("\n"));
    }
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (faults, answers) = (sum(|report| report.faults), sum(|report| report.answers));
    let (snapshots, unchecked) = (sum(|report| report.installed), sum(|report| report.gave_up));
    println!(
        "{} seeds: {faults} faults, {answers} answers, {snapshots} snapshots sent, {unchecked} keys not checked",
        reports.len()
    );
    assert!(reports.len() as u64 == SEEDS && unchecked == 0);
    assert!(faults > FAULTS_MIN && answers > ANSWERS_MIN && snapshots > SNAPSHOTS_MIN);
    Ok(())
}

#[test]
fn a_seed_repeats() {
    for seed in 0..8 {
        let (one, two) = (run(seed, None), run(seed, None));
        assert_eq!(one, two, "seed {seed} went another way the second time");
    }
    assert_ne!(run(0, None).hash, run(1, None).hash);
}

/// The first seed at which a mistake is noticed.
fn noticed(bug: Bug) -> Check<(u64, String)> {
    for seed in 0..SEEDS_FOR_A_BUG {
        if let Err(violation) = run(seed, Some(bug)).result {
            // The same run without the mistake is a good one.
            assert_eq!(run(seed, None).result, Ok(()), "seed {seed}");
            return Ok((seed, violation.to_string()));
        }
    }
    fail!("{SEEDS_FOR_A_BUG} seeds passed with the mistake {bug}");
}

fn is_noticed(bug: Bug, by: &[&str]) -> Check {
    let (seed, violation) = noticed(bug)?;
    println!("{bug} is noticed at seed {seed}: {violation}");
    assert!(by.iter().any(|by| violation.starts_with(by)), "{violation}");
    Ok(())
}

#[test]
fn an_acknowledgement_before_the_sync_is_noticed() -> Check {
    is_noticed(
        Bug::AckBeforeSync,
        &[
            "logs differ",
            "answers",
            "what clients saw",
            "no progress",
            "acknowledged",
            "a request happened twice",
        ],
    )
}

#[test]
fn entries_that_are_applied_before_they_are_committed_are_noticed() -> Check {
    is_noticed(
        Bug::NoCommitCheck,
        &["logs differ", "answers", "what clients saw", "events differ", "a request happened twice"],
    )
}

#[test]
fn a_stale_read_is_noticed() -> Check {
    is_noticed(Bug::StaleRead, &["what clients saw"])
}

#[test]
fn a_lost_vote_is_noticed() -> Check {
    is_noticed(Bug::LostVote, &["two leaders", "logs differ"])
}

#[test]
fn keys_that_expire_by_each_clock_are_noticed() -> Check {
    is_noticed(Bug::OwnExpiry, &["events differ", "answers", "stores differ"])
}

#[test]
fn a_proposal_that_is_taken_too_late_is_noticed() -> Check {
    is_noticed(Bug::LateProposals, &["a request happened twice", "what clients saw"])
}

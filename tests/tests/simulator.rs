//! Simulated clusters: thousands of seeds pass, and planted bugs are noticed.

use tests::simulator::{self, Bug, Options, Report};
use tests::{Check, fail};

/// Seeds that must pass.
const SEEDS: u64 = 2000;
/// The lowest counts of all these runs: a run in which nothing happens proves nothing.
const FAULTS_MIN: u64 = 10_000;
const ANSWERS_MIN: u64 = 100_000;
const SNAPSHOTS_MIN: u64 = 500;
/// Within this many seeds each planted bug must be detected once.
const SEEDS_FOR_A_BUG: u64 = 2000;

fn run(seed: u64, bug: Option<Bug>) -> Report {
    simulator::run(Options { seed, bug, trace: false })
}

/// Runs seeds on two threads, each run on one of them.
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
            Some(format!("seed {}: {violation}\n  run it again: {}", report.seed, report.rerun_command(None)))
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

/// The first seed at which a bug is noticed.
fn noticed(bug: Bug) -> Check<(u64, String)> {
    for seed in 0..SEEDS_FOR_A_BUG {
        if let Err(violation) = run(seed, Some(bug)).result {
            // The same run without the bug passes.
            assert_eq!(run(seed, None).result, Ok(()), "seed {seed}");
            return Ok((seed, violation.to_string()));
        }
    }
    fail!("{SEEDS_FOR_A_BUG} seeds passed with the mistake {bug}");
}

fn is_noticed(bug: Bug, by: &[&str]) -> Check {
    let (seed, violation) = noticed(bug)?;
    println!("{bug} is noticed at seed {seed}: {violation}");
    assert!(by.iter().any(|by| violation.contains(by)), "{violation}");
    Ok(())
}

/// One test for each planted bug, with the check that detects it.
macro_rules! noticed {
    ($($name:ident: $bug:ident by $by:expr;)*) => {
        $(
            #[test]
            fn $name() -> Check {
                is_noticed(Bug::$bug, &$by)
            }
        )*

        #[test]
        fn every_mistake_has_a_test() {
            assert_eq!([$(Bug::$bug),*], Bug::ALL);
        }
    };
}

/// Members that diverged are detected by several checks.
const APART: &str = "differ";
const CLIENTS: &str = "what clients saw";

noticed! {
    an_acknowledgement_before_the_sync_is_noticed: AckBeforeSync
        by [APART, CLIENTS, "no progress", "acknowledged", "a request happened twice", "does not start"];
    a_vote_that_is_not_saved_is_noticed: VoteNotSaved by ["two leaders", APART];
    an_entry_that_is_applied_before_it_is_committed_is_noticed: CommitOffByOne
        by [APART, CLIENTS, "a request happened twice"];
    entries_of_a_leader_whose_term_is_over_are_noticed: NoTermCheck
        by [APART, CLIENTS, "a request happened twice", "panics"];
    a_stale_read_is_noticed: StaleRead by [CLIENTS];
    a_read_before_all_is_applied_is_noticed: ReadBeforeApply by [CLIENTS];
    an_entry_that_is_applied_twice_is_noticed: AppliedTwice by [APART];
    a_snapshot_that_counts_before_it_is_safe_is_noticed: InstallBeforeSync by ["does not start"];
    a_log_that_is_cut_before_the_snapshot_is_safe_is_noticed: LogCutEarly by ["does not start"];
    a_removal_that_snapshots_do_not_know_is_noticed: LostRemoval by [APART, "voter", "two leaders"];
    keys_that_expire_by_each_clock_are_noticed: OwnExpiry by [APART];
    a_watcher_that_is_not_told_is_noticed: WatcherSkipped by ["was not told"];
    a_request_id_that_is_used_again_is_noticed: RequestIdReused by [CLIENTS, "a request happened twice"];
    a_compare_with_the_wrong_index_is_noticed: CompareWrongIndex by [CLIENTS];
    a_folder_that_is_not_synced_is_noticed: NoFolderSync by [APART, CLIENTS, "does not start", "acknowledged"];
    a_torn_tail_that_is_kept_is_noticed: TornTailKept by ["does not start"];
    a_tail_of_zeros_that_is_kept_is_noticed: ZeroTailKept by ["does not start"];
    a_proposal_that_is_taken_too_late_is_noticed: LateProposals by ["a request happened twice", CLIENTS];
    a_read_at_an_old_leader_is_noticed: OldLeaderReads by [CLIENTS];
    an_answer_that_counts_twice_is_noticed: CountedTwice by [APART, CLIENTS, "no progress", "acknowledged"];
}

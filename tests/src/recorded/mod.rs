//! Recorded scenarios, played against real programs.
//!
//! A scenario is a list of steps with the answers that a real etcd 2.3.8 gave. The scenarios lie under
//! `data/` as they were recorded; [`http`] and [`ctl`] each read one kind (everything that can be wrong with
//! a file is found when it is read), play the steps and compare. What must pass is a committed list that only
//! grows: [`passes`].

pub mod ctl;
pub mod glob;
pub mod http;
pub mod kit;
pub mod passes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// How a scenario went.
#[derive(Debug, Clone, Default)]
pub struct ScenarioResult {
    /// The scenario.
    pub name: String,
    /// Steps that compare something, by number from 1, and were as recorded.
    pub passed: BTreeSet<usize>,
    /// What was wrong, by step. A step that only prepares something is here too if it failed.
    pub failed: BTreeMap<usize, String>,
}

impl ScenarioResult {
    /// A scenario whose steps all fail for one reason, such as a server that does not start.
    pub fn all_failed(name: &str, steps: impl IntoIterator<Item = usize>, why: &str) -> Self {
        let failed = steps.into_iter().map(|step| (step, why.to_owned())).collect();
        ScenarioResult { name: name.to_owned(), failed, ..ScenarioResult::default() }
    }
}

/// Plays all scenarios on `threads` threads, those that `weight` says are longest first; each thread has a
/// place of its own for what its scenarios share. The results are in the order of the scenarios.
pub fn play_all<S: Sync, P>(
    scenarios: &[S],
    threads: usize,
    weight: impl Fn(&S) -> usize,
    new_place: impl Fn(usize) -> P + Sync,
    play: impl Fn(&mut P, &S) -> ScenarioResult + Sync,
) -> Vec<ScenarioResult> {
    let mut order: Vec<usize> = (0..scenarios.len()).collect();
    order.sort_by_key(|&at| weight(&scenarios[at]));
    let waiting = Mutex::new(order);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for number in 0..threads.max(1) {
            let (waiting, results, new_place, play) = (&waiting, &results, &new_place, &play);
            scope.spawn(move || {
                let mut place = new_place(number);
                loop {
                    let Some(at) = lock(waiting).pop() else { break };
                    let result = play(&mut place, &scenarios[at]);
                    lock(results).insert(at, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// What a mutex holds: a thread that panicked has failed its test already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many scenarios to play side by side: `JOBS=N`, or 2.
pub fn jobs() -> usize {
    std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(2)
}

/// Whether a scenario matches `ONLY=GLOB` (always, without that variable).
pub fn wanted(name: &str) -> bool {
    std::env::var("ONLY").map_or(true, |pattern| glob::matches(&pattern, name))
}

/// Whether all scenarios are played.
pub fn complete() -> bool {
    std::env::var_os("ONLY").is_none()
}

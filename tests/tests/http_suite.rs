//! The recorded HTTP scenarios, against our server (or another: see [`tests::programs`]).

use tests::recorded::http::case::Scenario;
use tests::recorded::http::{Worker, player, scenarios};
use tests::recorded::{self, passes, play_all};
use tests::server::Server;
use tests::{Check, files, programs};

#[test]
fn answers_are_as_recorded() -> Check {
    let scenarios = scenarios(&files::data("http"))?;
    let results = play_all(
        &scenarios,
        recorded::jobs(),
        // Long ones first; those that share a server go last, in whatever gaps there are.
        |scenario| if scenario.fresh { 1000 + scenario.steps.len() } else { scenario.steps.len() },
        Worker::new,
        |worker, scenario| worker.play(scenario),
    );
    passes::print("http", &results);
    if programs::find()?.foreign {
        return passes::demand_all(&results);
    }
    passes::judge(&files::data("http.passes"), &results, recorded::complete())
}

/// The runner itself must be able to fail: without a server, no step passes.
#[test]
fn nothing_passes_on_a_closed_port() -> Check {
    let folder = files::scratch("closed-port")?;
    let scenario = Scenario::read(&files::data("http/keys_basic.json"))?;
    let mut servers = vec![Server::new(folder.path(), "nobody")?];
    let result = player::play(&scenario, &mut servers);
    assert_eq!(result.passed.len(), 0, "{:?}", result.passed);
    assert_eq!(result.failed.len(), scenario.compared_steps().count());
    Ok(())
}

/// And it sees another server's answers: a scenario played a second time on the same data must differ.
#[test]
fn other_answers_are_seen() -> Check {
    let scenario = Scenario::read(&files::data("http/keys_basic.json"))?;
    let mut worker = Worker::new(9);
    let first = worker.play(&Scenario { fresh: false, ..scenario });
    let scenario = Scenario::read(&files::data("http/keys_basic.json"))?;
    let second = worker.play(&Scenario { fresh: false, ..scenario });
    assert!(
        second.passed.len() < first.passed.len(),
        "{} steps, then {}",
        first.passed.len(),
        second.passed.len()
    );
    Ok(())
}

//! The recorded runs of etcdctl, with our client and our server (or others: see [`tests::programs`]).

use std::collections::BTreeSet;
use std::path::Path;

use tests::recorded::ctl::case::ExpectedText;
use tests::recorded::ctl::player::{self, Nodes};
use tests::recorded::ctl::{Worker, scenarios};
use tests::recorded::{self, ScenarioResult, passes, play_all};
use tests::{Check, Failure, files, programs};

/// What etcd 2.3.8 itself does not do as recorded: the recording is of another version.
fn is_of_2_3_8(oracle: Option<&str>) -> bool {
    oracle.is_none()
}

#[test]
fn runs_are_as_recorded() -> Check {
    let programs = programs::find()?;
    let mut scenarios = scenarios(&files::data("etcdctl"))?;
    if programs.foreign {
        scenarios.retain(|scenario| is_of_2_3_8(scenario.oracle.as_deref()));
    }
    let results = play_all(
        &scenarios,
        recorded::jobs(),
        |scenario| scenario.steps.len() + if scenario.nodes > 1 { 1000 } else { 0 },
        |_| Worker::new(&programs.etcdctl),
        |worker, scenario| match worker {
            Ok(worker) => worker.play(scenario),
            Err(why) => {
                ScenarioResult::all_failed(&scenario.name, scenario.compared_steps(), &why.to_string())
            }
        },
    );
    passes::print("etcdctl", &results);
    if programs.foreign {
        return passes::demand_all(&results);
    }
    passes::judge(&files::data("etcdctl.passes"), &results, recorded::complete())
}

/// The runner itself must be able to fail: a client without output passes only where none is recorded.
#[test]
fn a_silent_client_passes_only_silence() -> Check {
    let scenario = scenarios(&files::data("etcdctl"))?
        .into_iter()
        .find(|scenario| scenario.name == "18_wire/requests")
        .ok_or_else(|| Failure::new("no scenario 18_wire/requests"))?;
    let is_silent = |wanted: &ExpectedText| matches!(wanted, ExpectedText::Text(text) if text.is_empty());
    let silent: BTreeSet<usize> = scenario
        .compared_steps()
        .filter(|step| {
            let answer = &scenario.steps[step - 1].answer;
            answer.exit.unwrap_or(0) == 0 && answer.texts.values().all(is_silent)
        })
        .collect();
    let result = Worker::new(Path::new("/bin/true"))?.play(&scenario);
    assert_eq!(result.passed, silent);
    assert!(silent.len() < scenario.compared_steps().count() / 4, "{} silent steps", silent.len());
    Ok(())
}

/// There is no server: no step that needs one passes.
#[test]
fn nothing_passes_on_a_closed_port() -> Check {
    let folder = files::scratch("closed-port")?;
    let mut nodes = Nodes::new(folder.path())?;
    let scenarios = scenarios(&files::data("etcdctl"))?;
    let scenario = scenarios.iter().find(|scenario| scenario.server && !scenario.fresh);
    let scenario = scenario.ok_or_else(|| Failure::new("no scenario with a server"))?;
    let result = player::play(scenario, &mut nodes, Path::new("/bin/true"), "", "/g", folder.path());
    assert!(result.is_err(), "played without a server: {result:?}");
    Ok(())
}

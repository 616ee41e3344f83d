//! The recorded runs of etcdctl, with our client and our server (or others: see [`tests::programs`]).

use std::path::Path;

use tests::replay::ctl::{Place, scenarios};
use tests::replay::{self, Played, passes, play_all};
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
        replay::jobs(),
        |scenario| scenario.steps.len() + if scenario.nodes > 1 { 1000 } else { 0 },
        |_| Place::new(&programs.etcdctl),
        |place, scenario| match place {
            Ok(place) => place.play(scenario),
            Err(why) => Played::all_failed(&scenario.name, scenario.compared_steps(), &why.to_string()),
        },
    );
    println!("etcdctl suite: {}", passes::summary(&results));
    if programs.foreign {
        return passes::demand_all(&results);
    }
    passes::judge(&files::data("etcdctl.passes"), &results, replay::complete())
}

/// The runner itself must be able to fail: a client that says nothing passes nothing that says something.
#[test]
fn a_silent_client_passes_nothing() -> Check {
    let scenario = scenarios(&files::data("etcdctl"))?
        .into_iter()
        .find(|scenario| scenario.name == "18_wire/requests")
        .ok_or_else(|| Failure::new("no scenario 18_wire/requests"))?;
    let played = Place::new(Path::new("/bin/true"))?.play(&scenario);
    assert_eq!(played.passed.len(), 0, "{:?}", played.passed);
    assert_eq!(played.failed.len(), scenario.compared_steps().count());
    Ok(())
}

//! Suites that a kit beside the project plays: recorded answers of etcd 3.5, and data directories of etcd 3.
//!
//! The kit is the folder `../shared`, or the one that `SHARED=DIR` names; where there is none, a suite says that it
//! is left out. Its runners are Python programs that say how each step went. Here they are started, and what they
//! say becomes the same results as those of the suites that lie in the project.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use regex::Regex;

use super::{ScenarioResult, jobs, passes};
use crate::process::clean_environment;
use crate::{Check, Context, fail, files, ports, programs};

/// Runs a program of Python whose children end by an interrupt, also where it is ignored, as it is in the background of a
/// shell: they would inherit that.
const UNINTERRUPTED: &str = "import runpy, signal, sys\n\
                             signal.signal(signal.SIGINT, signal.default_int_handler)\n\
                             del sys.argv[0]\n\
                             runpy.run_path(sys.argv[0], run_name='__main__')";

/// How many ports a suite gets: clusters of three for each job, and none is used again at once.
const PORT_COUNT: u16 = 100;

/// A server for the kit's runners that runs and listens nowhere.
pub const NOBODY: &str =
    "sh -c 'exec sleep 60' nobody {name} {data_dir} {client_url} {peer_url} {initial_cluster}";

/// The number of a step that stands for its whole scenario: the runner counts from 1.
pub const WHOLE: usize = 0;

/// The folder of the kit, if it is there.
///
/// # Errors
/// `SHARED` names a folder that is not there.
pub fn folder() -> Check<Option<PathBuf>> {
    if let Some(named) = env::var_os("SHARED").filter(|value| !value.is_empty()) {
        // Tests run in the folder of their package; people name folders from the top.
        let named = files::repository().join(named);
        if !named.is_dir() {
            fail!("SHARED={} is no folder", named.display());
        }
        return Ok(Some(named));
    }
    Ok(files::repository().parent().map(|beside| beside.join("shared")).filter(|kit| kit.is_dir()))
}

/// A command line for the kit's runners: the server, with the flags of all suites of version 3.
///
/// # Errors
/// When there is no server.
pub fn server_command() -> Check<String> {
    let programs = programs::find()?;
    let program = programs.etcd.display().to_string().replace('\'', r"'\''");
    let mut command = format!("'{program}'");
    for flag in ["name", "data-dir", "initial-cluster"] {
        command += &format!(" --{flag} {{{}}}", flag.replace('-', "_"));
    }
    for (flag, url) in [
        ("listen-client-urls", "client_url"),
        ("advertise-client-urls", "client_url"),
        ("listen-peer-urls", "peer_url"),
        ("initial-advertise-peer-urls", "peer_url"),
    ] {
        command += &format!(" --{flag} {{{url}}}");
    }
    // The recorded leases are as short as these timings let them be.
    command += " --heartbeat-interval 50 --election-timeout 500";
    if !programs.foreign {
        command += " --cluster-level 3.5";
    }
    Ok(command)
}

/// Plays one of the suites below `conformance/` and holds it against its list; `false` if it is left out.
///
/// # Errors
/// As [`passes::judge`], and if the runner does not come to its end.
pub fn play(name: &str, list: &str, args: &[&str]) -> Check<bool> {
    let Some(results) = results(name, &server_command()?, args)? else { return Ok(false) };
    passes::print(name, &results);
    if programs::find()?.foreign {
        passes::demand_all(&results)?;
    } else {
        passes::judge(&files::data(list), &results, super::complete())?;
    }
    Ok(true)
}

/// What the runner of a suite below `conformance/` says of this server; `None` without a kit.
///
/// # Errors
/// If the runner does not come to its end, or says something else than it counts.
pub fn results(name: &str, server: &str, args: &[&str]) -> Check<Option<Vec<ScenarioResult>>> {
    let Some(kit) = folder()? else {
        println!("{name} suite: left out, there is no kit beside the project");
        return Ok(None);
    };
    let ports = ports::take_many(PORT_COUNT)?;
    let mut command = Command::new("python3");
    command.args(["-c", UNINTERRUPTED]).arg(kit.join("conformance").join(name).join("run.py"));
    let range = format!("{}-{}", ports.first, ports.last);
    command.args(["-v", "-j", &jobs().to_string(), "--ports", &range, "--server", server]);
    if args.contains(&"--only") {
        return run(command.args(args)).map(Some);
    }
    if let Ok(only) = env::var("ONLY") {
        // The runners know scenarios by the last part of their names.
        command.args(["--only", only.rsplit('/').next().unwrap_or(&only)]);
    }
    let mut results = run(command.args(args))?;
    results.retain(|result| super::wanted(&result.name));
    Ok(Some(results))
}

/// Runs a runner to its end and reads what it says.
///
/// # Errors
/// If it cannot be started, does not come to its end, or its count is not that of its lines.
pub fn run(command: &mut Command) -> Check<Vec<ScenarioResult>> {
    let output = clean_environment(command).stdin(Stdio::null()).output().context("run python3")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let results = read(&said);
    let passed: usize = results.iter().map(|result| result.passed.len()).sum();
    let last = said.lines().last().unwrap_or_default();
    if !last.starts_with(&format!("{passed} passed, ")) {
        let complaint = String::from_utf8_lossy(&output.stderr);
        fail!("a runner ended with {last:?}, its lines have {passed} passes: {}", complaint.trim_end());
    }
    Ok(results)
}

/// The lines of a runner:
///
/// ```text
/// ok   kv_sort.json step 3 [...]          FAIL 01_kv.json/put_get step 4 [...]
/// FAIL kv_sort.json: why                  PASS d01-plain (words)
/// ```
///
/// Below a failure stand lines that are set in, which say why.
fn read(said: &str) -> Vec<ScenarioResult> {
    let mut results = BTreeMap::new();
    let mut failure: Option<(String, usize)> = None;
    for line in said.lines() {
        if let (Some((name, step)), Some(why)) = (&failure, line.strip_prefix("     ")) {
            note(&mut results, name).failed.entry(*step).and_modify(|text| *text += &format!("\n     {why}"));
            continue;
        }
        failure = None;
        let Some(Line { name, step, passed, words }) = line_of(line) else { continue };
        let result = note(&mut results, &name);
        if passed {
            result.passed.insert(step);
        } else {
            result.failed.insert(step, words);
            failure = Some((name, step));
        }
    }
    results.into_values().collect()
}

fn note<'a>(results: &'a mut BTreeMap<String, ScenarioResult>, name: &str) -> &'a mut ScenarioResult {
    let new = || ScenarioResult { name: name.to_owned(), ..ScenarioResult::default() };
    results.entry(name.to_owned()).or_insert_with(new)
}

struct Line {
    name: String,
    step: usize,
    passed: bool,
    words: String,
}

fn line_of(line: &str) -> Option<Line> {
    static STEP: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^(ok  |PASS|FAIL) ([^\s:]+)(?: step (\d+)| \(|:|$)\s*(.*)$").ok());
    let found = STEP.as_ref()?.captures(line)?;
    Some(Line {
        name: found[2].replacen(".json", "", 1),
        step: found.get(3).map_or(Some(WHOLE), |step| step.as_str().parse().ok())?,
        passed: &found[1] != "FAIL",
        words: found[4].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_runners_become_results() {
        let said = "ok   kv_sort.json step 1 [put]\nFAIL kv_sort.json step 2 [range] a note\n     wanted: 1\n     \
                    got: 2\nkv_sort.json: 1 passed, 1 failed\nFAIL 01_kv.json/put_get: no server\nSKIP d02: why\n\
                    PASS d01-plain (back as well)\n2 passed, 2 failed\n";
        let results = read(said);
        let names: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
        assert_eq!(names, ["01_kv/put_get", "d01-plain", "kv_sort"]);
        assert_eq!(results[0].failed, BTreeMap::from([(WHOLE, "no server".to_owned())]));
        assert!(results[1].passed.contains(&WHOLE) && results[1].failed.is_empty());
        assert!(results[2].passed.contains(&1));
        assert_eq!(results[2].failed[&2], "[range] a note\n     wanted: 1\n     got: 2");
    }

    #[test]
    fn a_runner_that_breaks_off_is_no_result() {
        let said = |text: &str| run(Command::new("printf").arg(text));
        assert!(said("PASS a (b)\n1 passed, 0 failed\n").is_ok());
        assert!(said("PASS a (b)\n").is_err());
        assert!(said("PASS a (b)\n2 passed, 0 failed\n").is_err());
    }
}

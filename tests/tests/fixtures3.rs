//! Data directories that members of etcd 3.4 and 3.5 left behind: our server goes on with what they hold, and an
//! etcd 3.4 goes on after it.
//!
//! `OTHER_ETCD3=PATH` names that etcd; else it is `/usr/bin/etcd`, where that is one of version 3.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::recorded::{self, ScenarioResult, kit, passes};
use tests::{Check, Context, fail, files, ports, programs};

/// Client URLs: the checker takes them one after the other, 190 of them at most.
const PORT_COUNT: u16 = 200;

/// In one test: two checkers at a time would want the same peer ports, which stand in the directories.
#[test]
fn directories_of_etcd_3_go_on() -> Check {
    if kit::folder()?.is_none() {
        println!("fixtures3 suite: left out, there is no kit beside the project");
        return Ok(());
    }
    let alone = play("fixtures3", &kit::server_command()?, &[]);
    let back = match other_etcd()? {
        None => {
            println!("fixtures3-back suite: left out, there is no etcd 3 to go on");
            Ok(())
        }
        // At the level of 3.5 there is no way back to 3.4.
        Some(other) => {
            let server = kit::server_command()?.replace("--cluster-level 3.5", "--cluster-level 3.4");
            play("fixtures3-back", &server, &["--skip", "e*", "--other-etcd", &other.display().to_string()])
        }
    };
    alone.and(back)
}

/// The checker itself must be able to fail: from a server that only waits, nothing is served or refused.
#[test]
fn nothing_passes_without_a_server() -> Check {
    let impatient = ["--only", "d01*", "--only", "d17*", "--timeout", "2", "--refuse-secs", "2"];
    let Some(results) = check(kit::NOBODY, &impatient)? else { return Ok(()) };
    assert_eq!(results.len(), 2, "{results:?}");
    assert!(results.iter().all(|result| result.passed.is_empty()), "{results:?}");
    Ok(())
}

fn play(name: &str, server: &str, args: &[&str]) -> Check {
    let only = env::var("ONLY").ok();
    let mut args = args.to_vec();
    if let Some(only) = &only {
        args.extend(["--only", only]);
    }
    let results = check(server, &args)?.unwrap_or_default();
    passes::print(name, &results);
    if programs::find()?.foreign {
        return passes::demand_all(&results);
    }
    passes::judge(&files::data(&format!("{name}.passes")), &results, recorded::complete())
}

/// What the kit's checker says; `None` without a kit.
fn check(server: &str, args: &[&str]) -> Check<Option<Vec<ScenarioResult>>> {
    let Some(kit) = kit::folder()? else { return Ok(None) };
    let ports = ports::take_many(PORT_COUNT)?;
    let folder = files::scratch("fixtures3")?;
    let mut command = Command::new("python3");
    command.arg(kit.join("fixtures3/check3.py")).args(["-v", "--server", server]);
    command.arg("--port-base").arg(ports.first.to_string()).arg("--dir").arg(folder.path());
    kit::run(command.args(args)).map(Some)
}

/// An etcd 3 that goes on with what ours has left.
fn other_etcd() -> Check<Option<PathBuf>> {
    let named = env::var_os("OTHER_ETCD3").filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = named.as_deref().unwrap_or(Path::new("/usr/bin/etcd"));
    if path.is_file() {
        let output = Command::new(path).arg("--version").output().context(path.display())?;
        if String::from_utf8_lossy(&output.stdout).starts_with("etcd Version: 3.") {
            return Ok(Some(path.to_path_buf()));
        }
    }
    if named.is_some() {
        fail!("OTHER_ETCD3={} is no etcd 3", path.display());
    }
    Ok(None)
}

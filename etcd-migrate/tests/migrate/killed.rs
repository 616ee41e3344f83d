//! The program itself, killed at random moments of a migration and called again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::files;
use crate::generate;

const ENTRIES: u64 = 8_000;
const KILLS: u64 = 6;

fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-migrate"));
    command.arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_killed_migration_is_done_again_with_the_same_result() {
    let temporary = tempfile::tempdir().unwrap();
    let undisturbed = temporary.path().join("undisturbed");
    generate::directory(&undisturbed, ENTRIES, 100).unwrap();
    let old = files(&undisturbed);
    let started = std::time::Instant::now();
    assert!(program(&undisturbed).status().unwrap().success());
    let took = started.elapsed();
    let want = files(&undisturbed.join("member"));
    let mut killed = 0;
    for round in 0..KILLS {
        let dir = temporary.path().join(format!("killed-{round}"));
        generate::directory(&dir, ENTRIES, 100).unwrap();
        let mut child = program(&dir).spawn().unwrap();
        std::thread::sleep(took.mul_f64((round as f64 + 0.5) / KILLS as f64).max(Duration::from_millis(1)));
        child.kill().unwrap();
        killed += u64::from(!child.wait().unwrap().success());
        for (path, bytes) in &old {
            assert!(std::fs::read(dir.join(path)).unwrap() == *bytes, "{} changed", path.display());
        }
        assert!(program(&dir).status().unwrap().success());
        assert!(files(&dir.join("member")) == want, "another result after a kill in round {round}");
        assert!(!dir.join("member.migrating").exists());
    }
    assert!(killed > 0, "no migration was killed half-way");
}

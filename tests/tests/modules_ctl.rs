//! `etcdctl lock` and `etcdctl elect` before one member: what they hold, how they end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::process::{Process, clean_environment, describe};
use tests::server::Server;
use tests::{Check, Context, fail, files, programs};

/// What a run does at most.
const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    folder: tempfile::TempDir,
    member: Server,
}

impl Bench {
    fn new() -> Check<Bench> {
        let folder = files::scratch("locks")?;
        let member = Server::new(folder.path(), "m1")?.started()?;
        Ok(Bench { folder, member })
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a run whose output goes to a file of this name.
    fn start(&self, name: &str, arguments: &[&str]) -> Check<Process> {
        let mut command = Command::new(&programs::find()?.etcdctl);
        clean_environment(&mut command);
        command
            .env("ETCDCTL_ENDPOINTS", self.member.client_url())
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        Process::spawn(&mut command, &self.log(name))
    }

    /// A run to its end, which is to be this: its output.
    fn run(&self, name: &str, arguments: &[&str], wanted: &str) -> Check<String> {
        let mut process = self.start(name, arguments)?;
        ended(&mut process, wanted).context(format!("{arguments:?}"))?;
        files::read(&self.log(name))
    }

    fn ask(&self, method: &str, target: &str) -> Check<String> {
        Ok(self.member.call(method, target)?.text().trim().to_owned())
    }
}

fn ended(process: &mut Process, wanted: &str) -> Check {
    let how = describe(process.wait(LIMIT));
    if how != wanted {
        fail!("{how}, not {wanted}: {}", process.said());
    }
    Ok(())
}

/// Waits until a file contains this.
fn says(path: &Path, wanted: &str) -> Check<String> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let said = files::read(path).unwrap_or_default();
        if said.contains(wanted) {
            return Ok(said);
        }
        thread::sleep(Duration::from_millis(10));
    }
    fail!("{} does not say {wanted:?}", path.display())
}

#[test]
fn a_lock_is_held_while_the_command_runs_and_its_status_is_ours() -> Check {
    let bench = Bench::new()?;
    let script = "echo $ETCD_LOCK_KEY $ETCD_LOCK_INDEX \"$@\"; exit 7";
    let said = bench.run("a", &["lock", "/a", "sh", "-c", script, "sh", "-x", "--ttl"], "exit 7")?;
    if !said.starts_with("/a ") || !said.ends_with(" -x --ttl\n") {
        fail!("the command has seen {said}");
    }
    bench.run("b", &["lock", "/a", "--", "true"], "exit 0")?;
    bench.run("c", &["lock", "/a", "/nowhere/nothing"], "exit 127")?;
    bench.run("d", &["lock", "/a", "sh", "-c", "kill -9 $$"], "exit 137")?;
    bench.run("e", &["lock", "--ttl", "1", "/a", "true"], "exit 1")?;
    // Longer than its TTL: it is renewed, and no other client gets the lock.
    let mut held = bench.start("f", &["lock", "--ttl", "2", "/a", "sh", "-c", "echo in; sleep 3.5"])?;
    says(&bench.log("f"), "in")?;
    bench.run("g", &["lock", "--wait", "0", "/a", "true"], "exit 1")?;
    bench.run("h", &["lock", "--wait", "1", "/a", "true"], "exit 1")?;
    let holder = bench.ask("GET", "/mod/v2/lock/a?field=index")?;
    let mut next = bench.start("i", &["lock", "/a", "sh", "-c", "echo $ETCD_LOCK_INDEX"])?;
    thread::sleep(Duration::from_millis(1500));
    if bench.ask("GET", "/mod/v2/lock/a?field=index")? != holder || !next.alive() {
        fail!("the lock was not renewed");
    }
    ended(&mut held, "exit 0")?;
    ended(&mut next, "exit 0")
}

#[test]
fn signals_and_a_lost_lock_end_the_command_first() -> Check {
    let bench = Bench::new()?;
    let command = ["lock", "/a", "sh", "-c", "trap 'echo bye; exit 3' TERM; echo in; sleep 9 & wait"];
    let mut run = bench.start("a", &command)?;
    says(&bench.log("a"), "in\n")?;
    run.signal(Signal::TERM);
    ended(&mut run, "exit 3")?;
    says(&bench.log("a"), "bye\n")?;
    // It is released by now, not only once its time is over.
    let mut run = bench.start("b", &command)?;
    says(&bench.log("b"), "in\n")?;
    let index = bench.ask("GET", "/mod/v2/lock/a?field=index")?;
    bench.ask("DELETE", &format!("/mod/v2/lock/a?index={index}"))?;
    thread::sleep(Duration::from_millis(300));
    run.signal(Signal::HUP);
    ended(&mut run, "exit 129")?;
    // A command that ignores signals, with a lock that is lost at the first renewal.
    let mut run =
        bench.start("c", &["lock", "--ttl", "3", "/a", "sh", "-c", "trap '' TERM; echo in; sleep 9"])?;
    says(&bench.log("c"), "in\n")?;
    let index = bench.ask("GET", "/mod/v2/lock/a?field=index")?;
    bench.ask("DELETE", &format!("/mod/v2/lock/a?index={index}"))?;
    let before = Instant::now();
    ended(&mut run, "exit 6")?;
    if before.elapsed() > Duration::from_secs(5) {
        fail!("the command went on for {:?}", before.elapsed());
    }
    says(&bench.log("c"), "the lock was lost: ")?;
    // A member that stops: the command ends before the time does.
    let mut bench = bench;
    let mut run = bench.start("d", &["lock", "--ttl", "3", "/a", "sh", "-c", "echo in; sleep 9"])?;
    says(&bench.log("d"), "in\n")?;
    bench.member.kill();
    let before = Instant::now();
    while !files::read(&bench.log("d"))?.contains("the lock was lost") && before.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(20));
    }
    if before.elapsed() > Duration::from_millis(3300) {
        fail!("the loss was seen after {:?}", before.elapsed());
    }
    ended(&mut run, "exit 6")
}

#[test]
fn a_leader_stays_until_it_is_interrupted() -> Check {
    let bench = Bench::new()?;
    bench.run("a", &["elect", "/e"], "exit 1")?;
    let mut first = bench.start("b", &["elect", "/e", "host1"])?;
    says(&bench.log("b"), "\n")?;
    let mut second = bench.start("c", &["elect", "--ttl", "5", "/e", "host2", "sh", "-c", "echo leads"])?;
    if bench.run("d", &["elect", "/e"], "exit 0")? != "host1\n" {
        fail!("not the first leads");
    }
    // One that waits leaves the queue when it is interrupted.
    let mut third = bench.start("e", &["elect", "/e", "host3"])?;
    let end = Instant::now() + LIMIT;
    while !bench.ask("GET", "/v2/keys/_etcd/mod/lock/e")?.contains("host3") && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    third.signal(Signal::INT);
    ended(&mut third, "exit 130")?;
    first.signal(Signal::INT);
    ended(&mut first, "exit 0")?;
    ended(&mut second, "exit 0")?;
    says(&bench.log("c"), "leads\n")?;
    bench.run("f", &["elect", "/e"], "exit 1")?;
    Ok(())
}

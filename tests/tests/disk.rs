//! Files that go, break, or may not grow: a server notices before it acknowledges what would be lost, and says what
//! to do.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tests::process::clean_environment;
use tests::server::{START_LIMIT, STOP_LIMIT, Server};
use tests::{Check, Context, fail, files, programs};

fn member_dir(server: &Server, kind: &str) -> PathBuf {
    server.data_dir.join("member").join(kind)
}

/// The files of a folder that end so, oldest first.
fn ending(dir: &Path, suffix: &str) -> Check<Vec<PathBuf>> {
    let mut found = files::walk(dir, &|_| true)?;
    found.retain(|path| path.to_string_lossy().ends_with(suffix));
    found.sort();
    Ok(found)
}

/// Waits until the server ends by itself with status 1, and has logged this.
fn ends_with(server: &mut Server, said: &str) -> Check {
    let status = server.wait_exit(START_LIMIT).context("it goes on")?;
    if status.code() != Some(1) || !server.said().contains(said) {
        fail!("{status}, without {said:?}: {}", server.last_words());
    }
    Ok(())
}

/// Starts a server that is to refuse, twice.
fn refuses(server: &mut Server, said: &str) -> Check {
    for _ in 0..2 {
        server.start()?;
        ends_with(server, said)?;
    }
    Ok(())
}

/// Writes until the server does not acknowledge any more; the number of the last write that it acknowledged.
fn write_until_refused(server: &Server, value: &str) -> Check<u64> {
    for number in 1..10_000 {
        if server.set("/last", &format!("{number} {value}")).is_err() {
            return Ok(number - 1);
        }
    }
    fail!("it acknowledges without end")
}

fn wait_for(what: &str, mut is_done: impl FnMut() -> Check<bool>) -> Check {
    let end = Instant::now() + START_LIMIT;
    while !is_done()? {
        if Instant::now() > end {
            fail!("{what}: not after {} s", START_LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn nothing_is_acknowledged_in_a_segment_that_was_removed() -> Check {
    for renamed in [false, true] {
        let folder = files::scratch("displaced")?;
        let mut server = Server::new(folder.path(), "m1")?.started()?;
        server.set("/first", "1")?;
        let segment = ending(&member_dir(&server, "wal"), ".wal")?.remove(0);
        if renamed {
            RenameOnly(&segment).to(&folder.path().join("elsewhere"))?;
        } else {
            fs::remove_file(&segment).context(segment.display())?;
        }
        // Whatever is answered now fails, and soon nothing answers.
        if let Ok(response) = server.set("/second", "2") {
            fail!("acknowledged: {}", response.text());
        }
        ends_with(&mut server, &format!("check {}: the open file is no longer", segment.display()))?;
        // The acknowledged entries are in the segment that was written back.
        server.start()?;
        server.wait_ready(START_LIMIT)?;
        if !server.call("GET", "/v2/keys/first")?.text().contains("\"1\"") {
            fail!("an acknowledged write is gone");
        }
    }
    Ok(())
}

/// A rename by another tool.
struct RenameOnly<'a>(&'a Path);

impl RenameOnly<'_> {
    fn to(&self, to: &Path) -> Check {
        let status = Command::new("mv").arg(self.0).arg(to).status().context("mv")?;
        if status.success() { Ok(()) } else { fail!("mv {}: {status}", self.0.display()) }
    }
}

#[test]
fn a_data_directory_that_goes_is_noticed_without_a_write() -> Check {
    let folder = files::scratch("moved")?;
    let mut server = Server::new(folder.path(), "m1")?.started()?;
    server.set("/first", "1")?;
    RenameOnly(&server.data_dir).to(&folder.path().join("moved"))?;
    ends_with(&mut server, "is no longer at this path")?;
    if server.data_dir.exists() {
        fail!("something was written where the directory was");
    }
    let mut server = Server::new(folder.path(), "m2")?.started()?;
    fs::remove_dir_all(&server.data_dir).context("rm -r")?;
    ends_with(&mut server, "is no longer at this path")?;
    if server.data_dir.exists() {
        fail!("what was removed is back");
    }
    Ok(())
}

#[test]
fn a_snapshot_that_is_removed_is_replaced() -> Check {
    let folder = files::scratch("unsnapped")?;
    let mut server = Server::new(folder.path(), "m1")?.with_args(["--snapshot-count", "20"]).started()?;
    let snap = member_dir(&server, "snap");
    let mut count = 0;
    while ending(&snap, ".snap")?.is_empty() {
        count += 1;
        server.set(&format!("/key{count}"), "1")?;
    }
    thread::sleep(Duration::from_millis(200));
    for path in ending(&snap, ".snap")? {
        fs::remove_file(&path).context(path.display())?;
    }
    // No write is needed.
    wait_for("another snapshot", || Ok(!ending(&snap, ".snap")?.is_empty()))?;
    server.stop().context("it does not stop")?;
    let mut again = server.started()?;
    for number in 1..=count {
        if again.call("GET", &format!("/v2/keys/key{number}"))?.status != 200 {
            fail!("key {number} of {count} is gone");
        }
    }
    again.stop().context("it does not stop")?;
    Ok(())
}

#[test]
fn a_snapshot_that_is_cut_off_is_replaced() -> Check {
    let folder = files::scratch("cutsnap")?;
    let server = Server::new(folder.path(), "m1")?.with_args(["--snapshot-count", "20"]).started()?;
    let snap = member_dir(&server, "snap");
    while ending(&snap, ".snap")?.is_empty() {
        server.set("/a", "1")?;
    }
    // The server knows its length after its first check.
    thread::sleep(Duration::from_millis(2500));
    let newest = ending(&snap, ".snap")?.pop().context("a snapshot")?;
    OpenOptions::new().write(true).open(&newest).context("open")?.set_len(10).context("truncate")?;
    wait_for("another snapshot", || {
        let newest = ending(&snap, ".snap")?.pop().context("a snapshot")?;
        Ok(fs::metadata(&newest).context("stat")?.len() > 10)
    })?;
    if !server.said().contains("has 10 bytes, and had") {
        fail!("nothing says so: {}", server.last_words());
    }
    Ok(())
}

#[test]
fn a_log_that_is_cut_off_while_it_is_written_takes_nothing_more() -> Check {
    for left in [0, 100] {
        let folder = files::scratch("cutlog")?;
        let mut server = Server::new(folder.path(), "m1")?.started()?;
        for number in 0..20 {
            server.set("/a", &number.to_string())?;
        }
        let segment = ending(&member_dir(&server, "wal"), ".wal")?.remove(0);
        OpenOptions::new().write(true).open(&segment).context("open")?.set_len(left).context("truncate")?;
        if let Ok(response) = server.set("/b", "1") {
            fail!("acknowledged: {}", response.text());
        }
        ends_with(&mut server, &format!("it has {left} bytes, and had"))?;
    }
    Ok(())
}

#[test]
fn a_log_that_ends_before_a_snapshot_is_refused() -> Check {
    let folder = files::scratch("shortlog")?;
    let mut server = Server::new(folder.path(), "m1")?.started()?;
    server.set("/a", "1")?;
    server.stop().context("it does not stop")?;
    // The remains of a snapshot of an entry that the log does not have.
    let lost = member_dir(&server, "snap").join("0000000000000002-0000000000000100.snap.broken");
    files::write(&lost, "x")?;
    refuses(&mut server, "a snapshot of entry 256, but what can be read of it and of the log in")?;
    let backup = Command::new(&programs::find()?.etcdctl)
        .args(["backup", "--data-dir"])
        .arg(&server.data_dir)
        .arg("--backup-dir")
        .arg(folder.path().join("copy"))
        .output()
        .context("etcdctl")?;
    if backup.status.success() || !String::from_utf8_lossy(&backup.stderr).contains("a snapshot of entry 256")
    {
        fail!("{}: {}", backup.status, String::from_utf8_lossy(&backup.stderr));
    }
    fs::remove_file(&lost).context("rm")?;
    server.start()?;
    server.wait_ready(START_LIMIT)
}

#[test]
fn a_log_whose_disk_is_not_mounted_in_the_usual_place_is_missed() -> Check {
    let folder = files::scratch("usual")?;
    let mut server = Server::new(folder.path(), "m1")?.started()?;
    server.set("/a", "1")?;
    server.stop().context("it does not stop")?;
    let (wal, away) = (member_dir(&server, "wal"), folder.path().join("away"));
    RenameOnly(&wal).to(&away)?;
    fs::create_dir(&wal).context("mkdir")?;
    refuses(&mut server, "and there is none now")?;
    fs::remove_dir(&wal).context("rmdir")?;
    RenameOnly(&away).to(&wal)?;
    let server = server.started()?;
    if !server.call("GET", "/v2/keys/a")?.text().contains("\"1\"") {
        fail!("an acknowledged write is gone");
    }
    Ok(())
}

#[test]
fn snapshots_without_their_log_are_no_new_member() -> Check {
    let folder = files::scratch("loglost")?;
    let mut server = Server::new(folder.path(), "m1")?.with_args(["--snapshot-count", "20"]).started()?;
    let snap = member_dir(&server, "snap");
    while ending(&snap, ".snap")?.is_empty() {
        server.set("/a", "1")?;
    }
    server.stop().context("it does not stop")?;
    fs::remove_dir_all(member_dir(&server, "wal")).context("rm -r")?;
    let before = files::listing(&server.data_dir)?;
    refuses(&mut server, "holds snapshots, but there is no log in")?;
    server.args.push("--force-new-cluster".to_owned());
    refuses(&mut server, "etcd-dump salvage")?;
    if files::listing(&server.data_dir)? != before {
        fail!("something was written: {:#?}", files::listing(&server.data_dir)?);
    }
    Ok(())
}

#[test]
fn a_log_on_a_disk_that_is_not_mounted_is_missed() -> Check {
    let folder = files::scratch("unmounted")?;
    let disk = folder.path().join("disk");
    let wal_dir = disk.to_string_lossy().into_owned();
    let mut server = Server::new(folder.path(), "m1")?.with_args(["--wal-dir", &wal_dir]).started()?;
    server.set("/a", "1")?;
    server.stop().context("it does not stop")?;
    // Not one snapshot was saved.
    let away = folder.path().join("away");
    RenameOnly(&disk).to(&away)?;
    fs::create_dir(&disk).context("mkdir")?;
    refuses(&mut server, "and there is none now")?;
    server.args.clear();
    refuses(&mut server, "and there is none now")?;
    fs::remove_dir(&disk).context("rmdir")?;
    RenameOnly(&away).to(&disk)?;
    refuses(&mut server, &format!("start with -wal-dir={wal_dir}"))?;
    server.args = vec!["--wal-dir".to_owned(), wal_dir];
    let server = server.started()?;
    if !server.call("GET", "/v2/keys/a")?.text().contains("\"1\"") {
        fail!("an acknowledged write is gone");
    }
    Ok(())
}

#[test]
fn what_looks_like_the_start_of_a_record_is_cut_off() -> Check {
    let folder = files::scratch("torn")?;
    let mut server = Server::new(folder.path(), "m1")?.started()?;
    server.set("/a", "1")?;
    for junk in [&b"\xff\xff"[..], &[0; 20]] {
        server.stop().context("it does not stop")?;
        let segment = ending(&member_dir(&server, "wal"), ".wal")?.remove(0);
        let mut file = OpenOptions::new().append(true).open(&segment).context(segment.display())?;
        file.write_all(&[&[90, 0, 0, 0, 0, 0, 0, 0], junk].concat()).context("write")?;
        server = server.started()?;
        if !server.call("GET", "/v2/keys/a")?.text().contains("\"1\"") {
            fail!("an acknowledged write is gone");
        }
    }
    let copies = files::listing(&member_dir(&server, "wal"))?;
    if copies.iter().filter(|line| line.contains(".wal.broken")).count() != 2 {
        fail!("the torn logs were not kept: {copies:#?}");
    }
    Ok(())
}

#[test]
fn a_limit_on_the_size_of_files_is_named() -> Check {
    let folder = files::scratch("fsize")?;
    let mut server = Server::new(folder.path(), "m1")?.started()?;
    // What the server says is limited too, and shorter than this.
    server.set("/large", &"v".repeat(200_000))?;
    let segment = ending(&member_dir(&server, "wal"), ".wal")?.remove(0);
    let limit = segment.metadata().context("stat")?.len() + 3000;
    let id = server.process().context("no process")?.id();
    let pid = Pid::from_raw(i32::try_from(id).context("pid")?).context("pid")?;
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    prlimit(Some(pid), Resource::Fsize, limit).context("prlimit")?;
    let acknowledged = write_until_refused(&server, &"x".repeat(500))?;
    ends_with(&mut server, &format!("write {}: file too large", segment.display()))?;
    server.start()?;
    server.wait_ready(START_LIMIT)?;
    let found = server.call("GET", "/v2/keys/last")?.text();
    if !found.contains(&format!("\"{acknowledged} x")) {
        fail!("write {acknowledged} was acknowledged, found {found}");
    }
    server.stop().context("it does not stop")?;
    tools_name_it(&server, folder.path())
}

/// Runs a tool that may write 4096 bytes into a file.
fn limited(program: &Path, args: &[&Path]) -> Check<Output> {
    let mut command = Command::new("sh");
    clean_environment(&mut command);
    command.args(["-c", "ulimit -f 8; exec \"$@\"", "sh"]).arg(program).args(args);
    command.output().context("sh")
}

fn tools_name_it(server: &Server, folder: &Path) -> Check {
    let programs = programs::find()?;
    let (data, out) = (&server.data_dir, folder.join("out"));
    let words = [Path::new("backup"), Path::new("--data-dir"), data, Path::new("--backup-dir"), &out];
    let backup = limited(&programs.etcdctl, &words)?;
    let salvage = limited(&programs.etcd_dump, &[Path::new("salvage"), data, &folder.join("salvaged")])?;
    let export =
        limited(&programs.etcd_dump, &[Path::new("export"), data, Path::new("-o"), &folder.join("keys")])?;
    for (what, output) in [("backup", backup), ("salvage", salvage), ("export", export)] {
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let by_signal = output.status.signal();
        if output.status.success() || by_signal.is_some() || !said.to_lowercase().contains("file too large") {
            fail!("{what}: {} {said}", output.status);
        }
    }
    Ok(())
}

#[test]
fn a_log_that_cannot_be_written_to_stderr_is_no_reason_to_end() -> Check {
    let folder = files::scratch("stderr")?;
    let mut server = Server::new(folder.path(), "m1")?;
    // A full disk, and no standard error at all.
    for redirected in ["2>/dev/full", "2>&-"] {
        let script = folder.path().join("etcd.sh");
        let program = programs::find()?.etcd.display().to_string();
        files::write(&script, format!("#!/bin/sh\nexec {program} \"$@\" {redirected}\n"))?;
        files::set_mode(&script, 0o755)?;
        server.set_program(&script);
        server = server.started()?;
        server.set("/a", redirected)?;
        server.stop().context("it does not stop")?;
        let _ = server.wait_exit(STOP_LIMIT);
    }
    Ok(())
}

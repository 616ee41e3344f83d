//! Commands whose exit status is a verdict: it stays the same when nobody reads their output.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::programs;
use tests::server::Server;
use tests::{Check, Context, files, ports};

/// The exit status of a command whose standard output is read, and of one whose reader has left.
fn statuses(name: &str, args: &[&str]) -> Check<[Option<i32>; 2]> {
    let programs = programs::find()?;
    let path = if name == "etcdctl" { &programs.etcdctl } else { &programs.etcd_dump };
    let command = || -> Check<Command> {
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    };
    let read = command()?.output()?.status.code();
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let unread = command()?.stdout(Stdio::from(writer)).status()?.code();
    Ok([read, unread])
}

/// A member's directory, whose log lost its first half.
fn damaged(folder: &Path) -> Check<String> {
    let mut server = Server::new(folder, "damaged")?.started()?;
    server.set("/a", "1")?;
    server.stop().context("it does not stop")?;
    let wal = server.data_dir.join("member/wal");
    let log = fs::read_dir(&wal)?.flatten().map(|entry| entry.path());
    let log = log.filter(|path| path.extension().is_some_and(|name| name == "wal")).min().context("a log")?;
    let bytes = fs::read(&log)?;
    let mut file = fs::OpenOptions::new().write(true).open(&log)?;
    std::io::Write::write_all(&mut file, &vec![0xff; bytes.len().min(200)])?;
    Ok(server.data_dir.display().to_string())
}

#[test]
fn a_verdict_does_not_depend_on_a_reader() -> Check {
    let folder = files::scratch("verdicts")?;
    let dir = damaged(folder.path())?;
    assert_eq!(statuses("etcd-dump", &["--verify", &dir])?, [Some(1); 2]);
    let [read, unread] = statuses("etcd-dump", &["doctor", &dir])?;
    assert!(read == unread && read != Some(0), "doctor: {read:?} and {unread:?}");
    let nobody = format!("http://127.0.0.1:{}", ports::take()?);
    let [read, unread] = statuses("etcdctl", &["--endpoints", &nobody, "cluster-health"])?;
    assert!(read == unread && read != Some(0), "cluster-health: {read:?} and {unread:?}");
    Ok(())
}

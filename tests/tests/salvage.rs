//! A member whose files are damaged is salvaged by `etcd-dump`, and serves what was saved.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::process::clean_environment;
use tests::server::{START_LIMIT, STOP_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files, programs};

/// The files of a kind in a member's folder, oldest first.
fn member_files(server: &Server, kind: &str) -> Check<Vec<PathBuf>> {
    let mut found = files::walk(&server.data_dir.join("member").join(kind), &|_| true)?;
    found.retain(|path| path.extension().is_some_and(|ending| ending == "wal" || ending == "snap"));
    found.sort();
    Ok(found)
}

/// Flips a bit of the last occurrence of these bytes.
fn damage(path: &Path, wanted: &[u8]) -> Check {
    let mut bytes = std::fs::read(path).context(path.display())?;
    let at = bytes.windows(wanted.len()).rposition(|window| window == wanted);
    bytes[at.context(format!("{} is not in {}", String::from_utf8_lossy(wanted), path.display()))?] ^= 1;
    files::write(path, bytes)
}

/// Salvages; gives the status and the report.
fn salvage(from: &Path, to: &Path) -> Check<(i32, String)> {
    let mut command = Command::new(&programs::find()?.etcd_dump);
    clean_environment(&mut command);
    let output = command.arg("salvage").arg(from).arg(to).output().context("run etcd-dump salvage")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
}

fn value(server: &Server, key: &str) -> Check<String> {
    Ok(server.call("GET", &format!("/v2/keys/{key}"))?.text())
}

/// Starts on a salvaged directory, in the place of the member that wrote it.
fn start_on(old: &Server, data_dir: &Path) -> Check<Server> {
    let folder = data_dir.parent().context("a directory without a folder")?;
    let mut server = Server::at(folder, &old.name, old.client_port, old.peer_port)?;
    data_dir.clone_into(&mut server.data_dir);
    server.started()
}

#[test]
fn a_member_with_a_broken_snapshot_and_a_broken_log_serves_again() -> Check {
    let folder = files::scratch("salvage")?;
    let mut server = Server::new(folder.path(), "m1")?.with_args(["--snapshot-count", "50"]).started()?;
    let mut count = 0;
    while count < 240 || member_files(&server, "snap")?.len() < 2 {
        server.set(&format!("/key{count}"), &format!("value-{count}."))?;
        count += 1;
        if count > 20_000 {
            fail!("no second snapshot after {count} writes");
        }
    }
    // The newest snapshot is at least fifty entries younger than the one before it.
    let lost = count - 10;
    server.stop().context("it does not stop")?;
    let snapshots = member_files(&server, "snap")?;
    // The newest snapshot, an entry before the one that is left, and one behind it.
    let newest = snapshots.last().context("no snapshot")?;
    damage(newest, b"value-1.")?;
    let log = member_files(&server, "wal")?.remove(0);
    damage(&log, b"value-10.")?;
    damage(&log, format!("value-{lost}.").as_bytes())?;
    let saved = folder.path().join("saved.etcd");
    let (status, report) = salvage(&server.data_dir, &saved)?;
    if status != 1 || !report.contains("broken: crc mismatch") || !report.contains("walpb: crc mismatch") {
        fail!("status {status}: {report}");
    }
    // Neither can a server start on the old one.
    server.start()?;
    if server.wait_exit(START_LIMIT).is_none_or(|status| status.success()) {
        fail!("a damaged log was accepted");
    }
    let again = start_on(&server, &saved)?;
    for n in [0, 10, 100, lost - 1] {
        let text = value(&again, &format!("key{n}"))?;
        if !text.contains(&format!("value-{n}.")) {
            fail!("key{n}: {text}");
        }
    }
    if !value(&again, &format!("key{lost}"))?.contains("Key not found") {
        fail!("a damaged entry was taken");
    }
    again.set(&format!("/key{lost}"), "new")?;
    Ok(())
}

#[test]
fn one_member_of_three_goes_on_alone() -> Check {
    let folder = files::scratch("salvage3")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &[])?;
    members[0].set("/a", "1")?;
    members[1].set("/b", "2")?;
    // All members have both.
    for member in &members {
        let _ = member.call("GET", "/v2/keys/b?quorum=true")?;
    }
    for member in &mut members {
        member.kill();
        let _ = member.wait_exit(STOP_LIMIT);
    }
    let saved = folder.path().join("saved.etcd");
    let (status, report) = salvage(&members[2].data_dir, &saved)?;
    if status > 1 || !report.contains("2 other members are removed") {
        fail!("status {status}: {report}");
    }
    // Without -force-new-cluster, and in spite of what -initial-cluster says.
    let alone = start_on(&members[2], &saved)?;
    for (key, wanted) in [("a", "\"1\""), ("b", "\"2\"")] {
        let text = value(&alone, key)?;
        if !text.contains(wanted) {
            fail!("{key}: {text}");
        }
    }
    let listed = alone.call("GET", "/v2/members")?.text();
    if listed.matches("\"id\"").count() != 1 || !listed.contains(&alone.peer_url()) {
        fail!("{listed}");
    }
    alone.set("/c", "3")?;
    // The others, started again, do not take it for one of theirs.
    members[0].start()?;
    members[1].start()?;
    members[0].wait_ready(START_LIMIT)?;
    members[0].set("/d", "4")?;
    if !value(&alone, "d")?.contains("Key not found") {
        fail!("two clusters have become one");
    }
    alone.set("/e", "5")?;
    Ok(())
}

#[test]
fn a_start_names_a_fifo_and_a_log_of_3_x_and_ends() -> Check {
    let folder = files::scratch("odd-files")?;
    for (name, wanted) in [
        ("wal/0000000000000001-0000000000000100.wal", "it is a FIFO, not a regular file"),
        ("snap/0000000000000009-0000000000000100.snap", "it is a FIFO, not a regular file"),
        ("wal/0000000000000000-0000000000000000.wal", "this is the log of etcd 3.x"),
        ("snap/db", "etcd-dump export"),
    ] {
        let mut server = Server::new(folder.path(), &name.replace('/', "-"))?.started()?;
        server.set("/a", "1")?;
        server.stop();
        let path = server.data_dir.join("member").join(name);
        match wanted {
            "this is the log of etcd 3.x" => {
                let first = [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0];
                files::write(&path, [&first[..], &[0; 4096]].concat())?;
            }
            "etcd-dump export" => files::write(&path, b"bolt")?,
            _ => {
                let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                    .context("make a FIFO")?;
            }
        }
        let log = server.data_dir.join("member/wal/0000000000000000-0000000000000000.wal");
        let before = std::fs::metadata(&log)?.len();
        server.start()?;
        let status = server.wait_exit(START_LIMIT);
        assert_eq!(std::fs::metadata(&log)?.len(), before, "{name}: a refused start leaves the log as it is");
        let said = server.said();
        if status.is_none_or(|status| status.success()) || !said.contains(wanted) {
            fail!("{name}: {status:?}: {}", server.last_words());
        }
    }
    Ok(())
}

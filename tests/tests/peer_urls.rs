//! A member whose peer URL in the cluster is not the one that it listens on: it says so, and how to mend it, and a
//! second member is not added without a warning.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::process::clean_environment;
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files, ports, programs};

/// What the log says where the flags ask for another peer URL than the cluster has.
const KEPT: &str = "the cluster keeps ";

/// What a run of etcdctl prints: standard output, standard error.
fn etcdctl(server: &Server, words: &[&str]) -> Check<(String, String)> {
    let mut command = Command::new(&programs::find()?.etcdctl);
    clean_environment(&mut command);
    let output = command.env("ETCDCTL_ENDPOINTS", server.client_url()).args(words).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        fail!("{words:?} ended with {}: {err}", output.status);
    }
    Ok((out, err))
}

/// The line that tells of the kept URL, which comes soon after the start.
fn kept(server: &Server, times: usize) -> Check<String> {
    let begun = Instant::now();
    loop {
        let said = server.said();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(KEPT)).collect();
        match lines.len() {
            n if n == times => return Ok(lines[times - 1].to_owned()),
            n if n > times => fail!("too many lines: {lines:#?}"),
            _ if begun.elapsed() > START_LIMIT => fail!("no line {times} with {KEPT:?} in {said}"),
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The command that a line ends with, as words behind `etcdctl`.
fn advice(line: &str) -> Check<Vec<String>> {
    let (_, command) = line.rsplit_once("etcdctl ").context("a command")?;
    Ok(command.split(' ').map(str::to_owned).collect())
}

/// Starts a member again with other ports for members.
fn move_to_other_port(server: &mut Server) -> Check {
    server.stop();
    server.peer_port = ports::take()?;
    server.start()?;
    server.wait_ready(START_LIMIT)
}

#[test]
fn a_forced_cluster_says_that_it_keeps_the_old_peer_url() -> Check {
    let folder = files::scratch("peer-urls")?;
    let names = ["m1", "m2"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &[])?;
    let mut second = members.pop().context("two members")?;
    let mut server = members.pop().context("two members")?;
    second.stop();
    assert!(!server.said().contains(KEPT), "nothing is wrong yet");
    let old = server.peer_url();

    server.args.push("--force-new-cluster".to_owned());
    move_to_other_port(&mut server)?;
    server.args.pop();
    let line = kept(&server, 1)?;
    let id = etcdctl(&server, &["member", "list"])?.0;
    let id = id.split(':').next().context("an id")?.to_owned();
    assert!(line.contains(&format!("{KEPT}{old} as")), "{line}");
    let advised = advice(&line)?;
    assert_eq!(advised, ["member", "update", &id, &server.peer_url()]);
    // So it is at every start, forced or not, until the advice is taken.
    move_to_other_port(&mut server)?;
    let words = advice(&kept(&server, 2)?)?;
    assert_eq!(words[3], server.peer_url());
    etcdctl(&server, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    server.stop();
    server.start()?;
    server.wait_ready(START_LIMIT)?;
    assert_eq!(server.said().matches(KEPT).count(), 2);

    // Then another one can be added, and starts.
    let mut third = Server::new(folder.path(), "m3")?;
    let (out, err) = etcdctl(&server, &["member", "add", "m3", &third.peer_url()])?;
    assert!(out.starts_with("Added member named m3 with ID ") && err.is_empty(), "{out}{err}");
    third.initial_cluster = format!("m1={},m3={}", server.peer_url(), third.peer_url());
    third.initial_cluster_state = "existing";
    third.started()?.set("/k", "v")?;
    Ok(())
}

#[test]
fn adding_a_member_that_cannot_find_the_only_one_brings_a_warning() -> Check {
    let folder = files::scratch("peer-urls-add")?;
    let mut server = Server::new(folder.path(), "m1")?.started()?;
    let old = server.peer_url();
    move_to_other_port(&mut server)?;
    let new_url = format!("http://127.0.0.1:{}", ports::take()?);
    let (out, err) = etcdctl(&server, &["member", "add", "m2", &new_url])?;
    assert!(out.starts_with("Added member named m2 with ID "), "{out}");
    assert!(
        err.starts_with("warning: ") && err.contains(&format!("{old}, where no program listens")),
        "{err}"
    );
    assert!(err.contains("etcdctl member update "), "{err}");

    // Another server listens there.
    let mut server = Server::new(folder.path(), "m3")?.started()?;
    let old_port = server.peer_port;
    move_to_other_port(&mut server)?;
    let other = Server::at(folder.path(), "other", ports::take()?, old_port)?;
    // With the same token it would have the same ids.
    let _other = other.with_args(["--initial-cluster-token", "other"]).started()?;
    let (_, err) = etcdctl(&server, &["member", "add", "m4", &new_url])?;
    assert!(err.contains("where a member of another cluster answers"), "{err}");

    // Known by a loopback address, to one on another machine.
    let server = Server::new(folder.path(), "m5")?.started()?;
    let (_, err) = etcdctl(&server, &["member", "add", "m6", "http://192.0.2.1:2380"])?;
    assert!(err.contains("which is a loopback address"), "{err}");
    Ok(())
}

//! Command lines of etcd 0.x: members that find each other by `-peers`, as real processes.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::http::{PATIENCE, Request, Response, call};
use tests::process::{Process, clean_environment};
use tests::{Check, Context, fail, files, ports, programs};

/// How long a cluster may take until it is what a test waits for.
const LIMIT: Duration = Duration::from_secs(60);

/// A process and where it listens.
struct Node {
    client_port: u16,
    peer_port: u16,
    process: Process,
}

/// Starts `line` in `folder`, where `C` and `P` stand for ports of its own.
fn start(folder: &Path, log: &str, line: &str) -> Check<Node> {
    start_at(folder, log, line, ports::take()?, ports::take()?)
}

fn start_at(folder: &Path, log: &str, line: &str, client_port: u16, peer_port: u16) -> Check<Node> {
    let mut command = Command::new(&programs::find()?.etcd);
    clean_environment(&mut command);
    // An address of this machine, and the sign itself.
    let line = line.replace('@', "127.0.0.1:").replace("AT", "@");
    command.current_dir(folder).args(["-heartbeat-interval", "50", "-election-timeout", "500"]);
    command.args(line.split(' ').map(|word| {
        word.replace("PEER", &peer_port.to_string()).replace("CLIENT", &client_port.to_string())
    }));
    let process = Process::spawn(&mut command, &folder.join(log))?;
    Ok(Node { client_port, peer_port, process })
}

impl Node {
    fn send(&self, request: &Request) -> Check<Response> {
        call(self.client_port, request, PATIENCE)
    }

    /// Waits until this node lists this many machines.
    fn wait_for_machines(&mut self, wanted: usize) -> Check {
        let end = Instant::now() + LIMIT;
        loop {
            let machines = self.send(&Request::new("GET", "/machines")).map(|answer| answer.text());
            if machines.as_ref().is_ok_and(|list| list.matches("http://").count() == wanted) {
                return Ok(());
            }
            if !self.process.alive() {
                fail!("the server ended");
            }
            if Instant::now() > end {
                fail!("{wanted} machines are wanted, got {machines:?}");
            }
            sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn the_cluster_of_the_first_readme() -> Check {
    let folder = files::scratch("old-lines")?;
    let folder = folder.path();
    let mut first = start(folder, "1.log", "-s PEER -c CLIENT -d nodes/node1")?;
    first.wait_for_machines(1)?;
    let others = format!("-c CLIENT -s PEER -C @{} -d nodes", first.peer_port);
    // Both at once: one of them has to wait until the cluster can add it.
    let mut second = start(folder, "2.log", &format!("{others}/node2"))?;
    let mut third = start(folder, "3.log", &format!("{others}/node3"))?;
    for node in [&mut first, &mut second, &mut third] {
        node.wait_for_machines(3)?;
    }
    let written = third.send(&Request::new("POST", "/v1/keys/foo").form(&[("value", "bar")]))?;
    assert!(written.text().starts_with(r#"{"action":"SET","key":"/foo","value":"bar","newKey":true"#));

    // With data it needs no other member to find its cluster.
    second.process.terminate(Duration::from_secs(8)).context("the second did not stop")?;
    let line = "-c CLIENT -s PEER -C @1 -d nodes/node2";
    let mut second = start_at(folder, "2.log", line, second.client_port, second.peer_port)?;
    second.wait_for_machines(3)?;
    let read = second.send(&Request::new("GET", "/v2/keys/foo?quorum=true"))?;
    assert!(read.text().contains(r#""value":"bar""#), "{}", read.text());
    Ok(())
}

/// The log of a process that does not start.
fn refusal(folder: &Path, log: &str, line: &str, ports: Option<(u16, u16)>) -> Check<String> {
    let (client, peer) = match ports {
        Some(ports) => ports,
        None => (ports::take()?, ports::take()?),
    };
    let mut node = start_at(folder, log, line, client, peer)?;
    let status = node.process.wait(LIMIT).context("the process goes on")?;
    assert_eq!(status.code(), Some(1), "{line}");
    Ok(files::read(&folder.join(log)).unwrap_or_default())
}

#[test]
fn lines_of_0_4_join_or_say_why_not() -> Check {
    let folder = files::scratch("old-lines-0.4")?;
    let folder = folder.path();
    let line = "-name a -addr @CLIENT -peer-addr @PEER -peer-bind-addr @PEER -bind-addr @CLIENT";
    // A member that is named alone founds the cluster.
    let mut first = start(folder, "a.log", &format!("{line} -peers @PEER"))?;
    first.wait_for_machines(1)?;
    let second_line = line.replace("-name a", "-name b");
    files::write(&folder.join("peers"), format!("127.0.0.1:1\n127.0.0.1:{}\n", first.peer_port))?;
    let mut second = start(folder, "b.log", &format!("{second_line} -peers-file peers"))?;
    second.wait_for_machines(2)?;
    let machines = call(first.peer_port, &Request::new("GET", "/v2/admin/machines"), PATIENCE)?.text();
    assert!(machines.contains(r#""name":"a""#) && machines.contains(r#""name":"b""#), "{machines}");

    let said = refusal(folder, "c.log", &format!("{line} -data-dir c -peers @1,@2"), None)?;
    assert!(said.contains("none of the peers answers (http://127.0.0.1:1, http://127.0.0.1:2)"), "{said}");
    let said = refusal(folder, "d.log", &format!("{line} -data-dir d -peers-file nowhere"), None)?;
    assert!(said.contains("the file of -peers-file cannot be read") && said.contains("nowhere"), "{said}");
    // The second starts again without its data: it must not vote.
    let (client, peer) = (second.client_port, second.peer_port);
    second.process.terminate(Duration::from_secs(8)).context("the second did not stop")?;
    let lost = format!("{second_line} -data-dir lost -peers @{}", first.peer_port);
    let said = refusal(folder, "b2.log", &lost, Some((client, peer)))?;
    assert!(said.contains("if it was this one and its data is lost, remove it first"), "{said}");
    Ok(())
}

#[test]
fn a_cluster_with_auth_wants_a_user() -> Check {
    let folder = files::scratch("old-lines-auth")?;
    let folder = folder.path();
    let line = "-name a -addr @CLIENT -peer-addr @PEER -peer-bind-addr @PEER -bind-addr @CLIENT";
    let mut first = start(folder, "a.log", line)?;
    first.wait_for_machines(1)?;
    let mut user = Request::new("PUT", "/v2/auth/users/root");
    user.body = br#"{"user":"root","password":"p@ss"}"#.to_vec();
    assert_eq!(first.send(&user)?.status, 201);
    assert_eq!(first.send(&Request::new("PUT", "/v2/auth/enable"))?.status, 200);

    let line = line.replace("-name a", "-name b");
    let joins = |data: &str, peer: &str| format!("{line} -data-dir {data} -peers {peer}");
    let said = refusal(folder, "b1.log", &joins("b1", &format!("@{}", first.peer_port)), None)?;
    assert!(said.contains("the cluster wants a user who may add members, since auth is on"), "{said}");
    let at = |user: &str| format!("{user}AT127.0.0.1:{}", first.peer_port);
    let said = refusal(folder, "b2.log", &joins("b2", &at("root:nonsense")), None)?;
    assert!(said.contains("the cluster does not let \"root\" add members"), "{said}");
    assert!(!said.contains("nonsense"), "{said}");
    let mut second = start(folder, "b3.log", &joins("b3", &at("root:p%40ss")))?;
    second.wait_for_machines(2)
}

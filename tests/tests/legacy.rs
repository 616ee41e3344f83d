//! Allow-legacy mode: which program starts on which data, with a stand-in for etcd 0.4 that records how it was
//! started, and stand-ins for its members.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use shared::legacy::{self, snapshot};
use tempfile::TempDir;
use tests::http::{Request, call};
use tests::process::{Process, clean_environment, describe};
use tests::recorded::ctl::stub::{SilentServer, Stub};
use tests::recorded::ctl::text::Names;
use tests::server::Server;
use tests::{Check, Context, fail, files, ports, programs};

/// How long a program may take until the expected effect.
const LIMIT: Duration = Duration::from_secs(30);

/// The exit status of the stand-in for etcd 0.4.
const OLD_STATUS: &str = "exit 7";

/// A machine with the programs of both versions and a data directory.
struct Machine {
    folder: TempDir,
    words: Vec<String>,
    env: Vec<(String, String)>,
    client_port: u16,
}

impl Machine {
    fn new() -> Check<Machine> {
        let folder = files::scratch("legacy")?;
        let (client_port, peer_port) = (ports::take()?, ports::take()?);
        let machine = Machine {
            words: vec![
                "-name=m".into(),
                format!("-data-dir={}", folder.path().join("data").display()),
                "-addr".into(),
                format!("127.0.0.1:{client_port}"),
                format!("-peer-addr=127.0.0.1:{peer_port}"),
            ],
            env: vec![
                ("ETCD_ALLOW_LEGACY_MODE".into(), "true".into()),
                ("ETCD_BINARY_DIR".into(), folder.path().join("bin").display().to_string()),
            ],
            folder,
            client_port,
        };
        let old = machine.path("bin/1");
        make_folder(&old)?;
        files::write(
            &old,
            format!(
                "#!/bin/sh\necho $$ > {record}.pid\nenv > {record}.env\nfor word; do echo \"$word\"; done > {record}\nexit 7\n",
                record = machine.record().display()
            ),
        )?;
        files::set_mode(&old, 0o755)?;
        Ok(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the stand-in writes.
    fn record(&self) -> PathBuf {
        self.path("record")
    }

    /// Puts a file into the data directory.
    fn data(&self, name: &str, content: impl AsRef<[u8]>) -> Check {
        let path = self.path("data").join(name);
        make_folder(&path)?;
        files::write(&path, content)
    }

    /// A standby whose cluster has members at these URLs for clients and for peers.
    fn standby(&self, members: &[(&str, &str)]) -> Check {
        let members: Vec<String> = (1..)
            .zip(members)
            .map(|(number, (client, peer))| {
                format!(
                    r#"{{"name":"o{number}","state":"follower","clientURL":"{client}","peerURL":"{peer}"}}"#
                )
            })
            .collect();
        let members = members.join(",");
        self.data(
            "standby_info",
            format!("{{\"Running\":true,\"Cluster\":[{members}],\"SyncInterval\":5}}\n"),
        )
    }

    fn start(&self) -> Check<Process> {
        let mut command = Command::new(&programs::find()?.etcd);
        clean_environment(&mut command);
        command.args(&self.words).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path());
        // Remove the output of an earlier start.
        files::write(&self.path("log"), "")?;
        Process::spawn(&mut command, &self.path("log"))
    }

    /// Starts and expects that it is etcd 0.4 in the end: the same process, with the words and variables as they are.
    fn expect_old(&self) -> Check {
        let mut process = self.start()?;
        let status = describe(process.wait(LIMIT));
        if status != OLD_STATUS {
            fail!("etcd 0.4 was not started: {status}: {}", process.said());
        }
        assert!(process.said().contains("starter: start etcd version 1\n"), "{}", process.said());
        assert_eq!(files::read(&self.record())?, format!("{}\n", self.words.join("\n")));
        assert_eq!(files::read(&self.path("record.pid"))?.trim(), process.id().to_string());
        let env = files::read(&self.path("record.env"))?;
        for (name, value) in &self.env {
            assert!(env.lines().any(|line| line == format!("{name}={value}")), "{name} in {env}");
        }
        Ok(())
    }

    /// Starts and expects that this program goes on by itself, as what the log says.
    fn expect_new(&self, version: &str) -> Check<Process> {
        let mut process = self.start()?;
        let line = format!("starter: start etcd version {version}\n");
        wait(&mut process, &line, |said| said.contains(&line))?;
        assert!(!self.record().exists(), "etcd 0.4 was started");
        Ok(process)
    }

    /// Starts and expects that nothing starts, for a reason that has these words.
    fn expect_refusal(&self, words: &[&str]) -> Check {
        let mut process = self.start()?;
        assert_eq!(describe(process.wait(LIMIT)), "exit 1", "{}", process.said());
        let said = process.said();
        for word in words {
            assert!(said.contains(word), "{word} in {said}");
        }
        assert!(!self.record().exists(), "etcd 0.4 was started");
        Ok(())
    }
}

fn make_folder(of: &Path) -> Check {
    let folder = of.parent().context("no folder")?;
    std::fs::create_dir_all(folder).context(folder.display())
}

/// Waits until a program has printed a text.
fn wait(process: &mut Process, what: &str, is_said: impl Fn(&str) -> bool) -> Check {
    let begun = Instant::now();
    loop {
        let alive = process.alive();
        let said = process.said();
        if is_said(&said) {
            return Ok(());
        }
        if !alive || begun.elapsed() > LIMIT {
            fail!("{what:?} was not said: {said}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The log of a member of 0.4 that has set these keys.
fn log_of(keys: &[(&str, &str)]) -> Vec<u8> {
    let mut log = Vec::new();
    let join = br#"{"minVersion":2,"maxVersion":2,"name":"m","raftURL":"http://127.0.0.1:7001","etcdURL":"http://127.0.0.1:4001"}"#;
    legacy::log::encode(1, 0, "etcd:join", Some(join), &mut log);
    for (index, (key, value)) in (2..).zip(keys) {
        let command =
            format!(r#"{{"key":"{key}","value":"{value}","expireTime":"0001-01-01T00:00:00Z","dir":false}}"#);
        legacy::log::encode(index, 0, "etcd:set", Some(command.as_bytes()), &mut log);
    }
    log
}

/// The key by which a cluster is told to upgrade, as the store in a snapshot has it.
fn snapshot_of(next: &str) -> Vec<u8> {
    let node = |path: &str, rest: &str| {
        format!(
            r#"{{"Path":"{path}","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z",{rest}}}"#
        )
    };
    let key = node("/_etcd/next-internal-version", &format!(r#""Value":"{next}","Children":null"#));
    let dir = node("/_etcd", &format!(r#""Value":"","Children":{{"next-internal-version":{key}}}"#));
    let root = node("/", &format!(r#""Value":"","Children":{{"_etcd":{dir}}}"#));
    let state = format!(r#"{{"Root":{root},"CurrentIndex":9,"CurrentVersion":2}}"#).into_bytes();
    snapshot::encode(&snapshot::Snapshot { last_index: 9, last_term: 0, peers: Vec::new(), state })
}

/// A server that answers by a script.
fn stub(routes: &str) -> Check<(Stub, String)> {
    let port = ports::take()?;
    Ok((
        Stub::start(port, serde_json::from_str(routes)?, Names::default())?,
        format!("http://127.0.0.1:{port}"),
    ))
}

/// A member of 0.4.7 or of 2.0, as those who ask for its version see it.
fn member(internal: &str) -> Check<(Stub, String)> {
    stub(&format!(
        r#"{{"GET /version":{{"body":"{{\"releaseVersion\":\"x\",\"internalVersion\":\"{internal}\"}}"}}}}"#
    ))
}

/// A peer of 0.4, of which clients find the member at this URL.
fn peer(client_url: &str) -> Check<(Stub, String)> {
    stub(&format!(r#"{{"GET /etcdURL":{{"body":"{client_url}"}}}}"#))
}

const NEXT: &str = "/_etcd/next-internal-version";

#[test]
fn the_data_of_a_member_decide() -> Check {
    let machine = Machine::new()?;
    machine.data("conf", r#"{"commitIndex":3,"peers":[]}"#)?;
    machine.data("log", log_of(&[("/a", "1"), (NEXT, "1")]))?;
    machine.expect_old()?;

    let mut machine = Machine::new()?;
    machine.data("conf", r#"{"commitIndex":3,"peers":[]}"#)?;
    machine.data("log", log_of(&[("/a", "1"), (NEXT, "2")]))?;
    // The flags are those that 0.4 had; some of them would stop 2.x.
    machine.words.extend([
        "-peers=127.0.0.1:1".into(),
        "-max-result-buffer".into(),
        "1024".into(),
        "-f".into(),
    ]);
    for _ in ["the data of 0.4", "those of 2.x"] {
        let mut process = machine.expect_new("2")?;
        wait_serves(&mut process, machine.client_port)?;
        process.terminate(LIMIT).context("it did not stop")?;
    }

    let machine = Machine::new()?;
    machine.data("snapshot/0_9.ss", snapshot_of("2"))?;
    drop(machine.expect_new("2")?);

    let machine = Machine::new()?;
    machine.data("snapshot/0_9.ss", snapshot_of("1"))?;
    machine.expect_old()?;

    // Flags of 2.x select 2.x, also in the environment; and outside of the mode there is no choice.
    let mut machine = Machine::new()?;
    machine.data("log", log_of(&[("/a", "1")]))?;
    machine.env.push(("ETCD_INITIAL_CLUSTER".into(), "m=http://127.0.0.1:1".into()));
    drop(machine.expect_new("2")?);
    machine.env = vec![("ETCD_ALLOW_LEGACY_MODE".into(), "false".into())];
    let mut process = machine.start()?;
    wait(&mut process, "a version", |said| said.contains("etcdmain: "))?;
    assert!(!process.said().contains("starter"), "{}", process.said());
    Ok(())
}

#[test]
fn what_cannot_be_told_is_refused() -> Check {
    let mut machine = Machine::new()?;
    machine.data("log", "neither an entry nor torn: damaged\n".repeat(40))?;
    machine.expect_refusal(&["cannot tell which version the data in ", "log is damaged at byte 0"])?;

    machine = Machine::new()?;
    machine.words.retain(|word| !word.starts_with("-data-dir"));
    machine.expect_refusal(&["please set -data-dir or ETCD_DATA_DIR"])?;

    machine = Machine::new()?;
    machine.env[0].1 = "maybe".into();
    machine.expect_refusal(&["failed to parse ETCD_ALLOW_LEGACY_MODE=maybe as bool"])?;

    machine = Machine::new()?;
    machine.data("log", log_of(&[("/a", "1")]))?;
    machine.env[1].1 = machine.path("nowhere").display().to_string();
    machine.expect_refusal(&["nowhere/1: ", "`etcdctl upgrade` has not been run", "ETCD_BINARY_DIR"])?;

    // A link to this program would start itself for ever.
    let folder = machine.path("myself");
    make_folder(&folder.join("1"))?;
    std::os::unix::fs::symlink(&programs::find()?.etcd, folder.join("1"))?;
    machine.env[1].1 = folder.display().to_string();
    machine.expect_refusal(&["should be etcd 0.4, and is this program"])
}

#[test]
fn a_standby_goes_with_its_members() -> Check {
    let machine = Machine::new()?;
    let (asked, old) = member("1")?;
    let dead = format!("http://127.0.0.1:{}", ports::take()?);
    machine.standby(&[(&dead, &dead), (&old, &old)])?;
    machine.expect_old()?;
    assert_eq!(asked.take_requests(), ["GET /version"]);

    // There is no answer: 0.4 continues to ask.
    let port = ports::take()?;
    let _silent = SilentServer::listen(port)?;
    let silent = format!("http://127.0.0.1:{port}");
    let machine = Machine::new()?;
    machine.standby(&[(&dead, &dead), (&silent, &silent)])?;
    machine.expect_old()
}

#[test]
fn a_standby_of_an_upgraded_cluster_becomes_a_proxy() -> Check {
    let mut machine = Machine::new()?;
    // A member in the mode tells the protocol; the variable is no unknown one.
    let mut member = Server::new(machine.folder.path(), "o1")?;
    member.env = vec![("ETCD_ALLOW_LEGACY_MODE".into(), "true".into())];
    let member = member.started()?;
    let version = member.call("GET", "/version")?.text();
    assert_eq!(version, r#"{"etcdserver":"2.3.8","etcdcluster":"2.3.0","internalVersion":"2"}"#);
    assert!(!member.said().contains("unrecognized environment variable"), "{}", member.said());
    member.set("/a", "1")?;

    machine.standby(&[(&member.client_url(), &member.peer_url())])?;
    // What brought the standby to its cluster would now be in the way.
    machine.words.push("-peers=127.0.0.1:1".into());
    machine.env.push(("ETCD_DISCOVERY".into(), "http://127.0.0.1:1/token".into()));
    for _ in ["as a standby", "as a proxy"] {
        let mut proxy = machine.expect_new("2.proxy")?;
        wait_serves(&mut proxy, machine.client_port)?;
        let version = call(machine.client_port, &Request::new("GET", "/version"), LIMIT)?.text();
        assert!(version.contains(r#""internalVersion":"2""#), "{version}");
        let cluster = files::read(&machine.path("data/proxy/cluster"))?;
        assert_eq!(cluster, format!("{{\"PeerURLs\":[\"{}\"]}}", member.peer_url()));
        proxy.terminate(LIMIT).context("the proxy did not stop")?;
    }
    Ok(())
}

fn wait_serves(process: &mut Process, port: u16) -> Check {
    let begun = Instant::now();
    let request = Request::new("GET", "/v2/keys/a");
    while !call(port, &request, LIMIT).is_ok_and(|answer| answer.text().contains("\"value\":\"1\"")) {
        if !process.alive() || begun.elapsed() > LIMIT {
            fail!("it does not serve: {}", process.said());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn without_data_the_peers_decide() -> Check {
    let (_old, old) = member("1")?;
    let (asked, old_peer) = peer(&old)?;
    let dead = format!("127.0.0.1:{}", ports::take()?);

    let mut machine = Machine::new()?;
    machine.words.push(format!("-peers={dead},{}", old_peer.trim_start_matches("http://")));
    machine.expect_old()?;
    assert_eq!(asked.take_requests(), ["GET /etcdURL"]);

    let (_new, new) = member("2")?;
    let (_asked, new_peer) = peer(&new)?;
    let mut machine = Machine::new()?;
    files::write(&machine.path("peers"), new_peer.trim_start_matches("http://"))?;
    machine.words.push(format!("-peers-file={}", machine.path("peers").display()));
    drop(machine.expect_new("2")?);

    let mut machine = Machine::new()?;
    machine.words.push(format!("-peers={dead}"));
    machine.expect_refusal(&["none of the peers http://127.0.0.1:", "-initial-cluster"])?;

    drop(Machine::new()?.expect_new("2")?);
    Ok(())
}

#[test]
fn without_data_a_discovery_service_names_the_peers() -> Check {
    let (_old, old) = member("1")?;
    let (_asked, old_peer) = peer(&old)?;
    let folder = files::scratch("discovery")?;
    let service = Server::new(folder.path(), "d")?.started()?;
    let found = |token: &str| -> Check<Machine> {
        let mut machine = Machine::new()?;
        machine.words.push(format!("-discovery={}/v2/keys/{token}", service.client_url()));
        Ok(machine)
    };
    service.set("/old/one", &old_peer)?;
    found("old")?.expect_old()?;
    service.set("/new/8e9e05c52164694d", "one=http://127.0.0.1:1")?;
    drop(found("new")?.expect_new("2")?);
    drop(found("nobody")?.expect_new("2")?);
    // The other members do not answer.
    service.set("/gone/one", "http://127.0.0.1:1")?;
    found("gone")?.expect_refusal(&["none of the peers http://127.0.0.1:1 "])
}

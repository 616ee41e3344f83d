//! What comes with the programs: the unit files, the cluster of a developer's machine, the `Procfile`, the
//! `Dockerfile`.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::process::{Process, clean_environment, describe};
use tests::server::{START_LIMIT, STOP_LIMIT, Server};
use tests::{Check, Context, examples, fail, files, ports, programs};

fn run(command: &mut Command) -> Check<Output> {
    command.stdin(Stdio::null()).output().context(command.get_program().to_string_lossy())
}

#[test]
fn systemd_understands_the_units() -> Check {
    if run(Command::new("systemd-analyze").arg("--version")).is_err() {
        println!("left out: systemd-analyze is not installed");
        return Ok(());
    }
    let folder = files::scratch("units")?;
    let units = files::repository().join("contrib/systemd");
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()));
    // The program need not be installed, and man need not have its page.
    let etcd = programs::find()?.etcd.display().to_string();
    for unit in files::walk(&units, &|_| false)? {
        let text =
            files::read(&unit)?.replace("/usr/bin/etcd", &etcd).replace("Documentation=man:etcd(1)\n", "");
        let copy = folder.path().join(unit.file_name().context("a unit has a name")?);
        files::write(&copy, text)?;
        verify.arg(copy);
    }
    let output = run(&mut verify)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Units of the machine itself may be found fault with.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("etcd")).collect();
    if !output.status.success() || !ours.is_empty() {
        fail!("{said}");
    }
    Ok(())
}

#[test]
fn the_unit_gives_the_server_what_it_needs() -> Check {
    let unit = files::read(&files::repository().join("contrib/systemd/etcd.service"))?;
    for line in [
        "Type=notify",
        "User=etcd",
        "EnvironmentFile=-/etc/default/etcd",
        "Restart=on-failure",
        "StateDirectoryMode=0700",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    // A variable that means nothing would only be a warning in the log.
    let defaults = files::read(&files::repository().join("contrib/debian/etcd.default"))?;
    let mut variables = 0;
    for line in unit.lines().map(|line| line.trim_start_matches("Environment=")).chain(defaults.lines()) {
        let Some((name, value)) = line.trim_start_matches('#').split_once('=') else { continue };
        if name.starts_with("ETCD_") {
            let flag = etcd::config::FLAGS.flags().find(|flag| flag.env_name("ETCD_") == name);
            let flag = flag.context(format!("no flag has the variable {name}"))?;
            etcd::config::FLAGS.no_values().set(flag, value).context(name)?;
            variables += 1;
        }
    }
    assert!(variables > 8, "{variables}");
    Ok(())
}

/// The first of consecutive free ports.
fn ports_in_a_row(count: u16) -> Check<u16> {
    let (mut first, mut last) = (ports::take()?, None);
    loop {
        if last.unwrap_or(first) + 1 == first + count {
            return Ok(first);
        }
        let next = ports::take()?;
        if next == last.unwrap_or(first) + 1 {
            last = Some(next);
        } else {
            (first, last) = (next, None);
        }
    }
}

fn etcdctl(endpoints: &str, words: &[&str]) -> Check<String> {
    let mut command = Command::new(&programs::find()?.etcdctl);
    clean_environment(&mut command)
        .arg(format!("--endpoints={endpoints}"))
        .arg("--total-timeout=20s")
        .args(words);
    let output = run(&mut command)?;
    if !output.status.success() {
        fail!("etcdctl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Until a command succeeds.
fn eventually(what: impl Fn() -> Check<String>) -> Check<String> {
    let end = Instant::now() + START_LIMIT;
    loop {
        match what() {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(100)),
            result => return result,
        }
    }
}

fn local_cluster(folder: &Path, port: u16) -> Check<Process> {
    let mut command = Command::new(files::repository().join("contrib/local-cluster"));
    clean_environment(&mut command)
        .arg("--etcd")
        .arg(&programs::find()?.etcd)
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder.join("cluster"))
        .args(["--", "--heartbeat-interval=20", "--election-timeout=200"]);
    Process::spawn(&mut command, &folder.join("log"))
}

/// The last output of the members of a local cluster.
fn last_lines(folder: &Path) -> Check<String> {
    let mut all = String::new();
    for member in 1..=3 {
        let log = files::read(&folder.join(format!("cluster/m{member}.log")))?;
        let lines: Vec<&str> = log.lines().rev().take(6).collect();
        all.push_str(&format!("m{member}:\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n")));
    }
    Ok(all)
}

#[test]
fn one_command_starts_a_cluster_and_ends_it() -> Check {
    let folder = files::scratch("local-cluster")?;
    let port = ports_in_a_row(6)?;
    for round in 0..2 {
        let mut cluster = local_cluster(folder.path(), port)?;
        let end = Instant::now() + START_LIMIT;
        let started = || cluster.said().matches("export ETCDCTL_ENDPOINTS=").count() == round + 1;
        while !started() {
            if Instant::now() > end {
                fail!("the cluster does not say that it runs: {}", cluster.said());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let said = cluster.said();
        let endpoints = said.rsplit("export ETCDCTL_ENDPOINTS=").next().unwrap_or_default().trim();
        assert_eq!(endpoints.split(',').count(), 3, "{said}");
        assert!(said.contains("3 members run; ^C stops them."), "{said}");
        if round == 0 {
            eventually(|| etcdctl(endpoints, &["set", "/a", "kept"]))?;
        }
        for endpoint in endpoints.split(',') {
            assert_eq!(eventually(|| etcdctl(endpoint, &["--no-sync", "get", "--quorum", "/a"]))?, "kept\n");
        }
        // ^C goes to the whole group; what it started is in sessions of its own.
        cluster.signal(Signal::INT);
        let status = cluster.wait(STOP_LIMIT);
        assert_eq!(describe(status), "exit 130", "{}\n{}", cluster.said(), last_lines(folder.path())?);
        for at in 0..6 {
            let connection = std::net::TcpStream::connect(("127.0.0.1", port + at));
            assert!(connection.is_err(), "somebody listens on {}", port + at);
        }
    }
    Ok(())
}

#[test]
fn a_cluster_that_cannot_start_says_why() -> Check {
    let folder = files::scratch("local-cluster-port")?;
    let port = ports_in_a_row(6)?;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port + 3))?;
    let mut cluster = local_cluster(folder.path(), port)?;
    let status = cluster.wait(START_LIMIT);
    let said = cluster.said();
    assert_eq!(describe(status), "exit 1", "{said}");
    assert!(said.contains("m2 has ended:") && said.contains("bind: address already in use"), "{said}");
    Ok(())
}

#[test]
fn the_procfile_makes_a_cluster_with_a_proxy() -> Check {
    let folder = files::scratch("procfile")?;
    let text = files::read(&files::repository().join("Procfile"))?;
    let mut text = text.replace("target/release/etcd", &programs::find()?.etcd.display().to_string());
    let mut ports = Vec::new();
    for written in ["12379", "22379", "32379", "12380", "22380", "32380", "2379"] {
        let port = ports::take()?.to_string();
        text = text.replace(&format!("127.0.0.1:{written}"), &format!("127.0.0.1:{port}"));
        ports.push(port);
    }
    let mut processes = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, command) = line.split_once(": ").context("a line is a name and a command")?;
        let mut shell = Command::new("sh");
        clean_environment(&mut shell).args(["-c", &format!("exec {command}")]).current_dir(folder.path());
        processes.push(Process::spawn(&mut shell, &folder.path().join(format!("{name}.log")))?);
    }
    assert_eq!(processes.len(), 4);
    let member = format!("http://127.0.0.1:{}", ports[0]);
    let proxy = format!("http://127.0.0.1:{}", ports[6]);
    eventually(|| etcdctl(&member, &["set", "/a", "1"]))?;
    assert_eq!(eventually(|| etcdctl(&proxy, &["--no-sync", "get", "--quorum", "/a"]))?, "1\n");
    let health = eventually(|| etcdctl(&member, &["cluster-health"]))?;
    assert_eq!(health.matches(" is healthy: ").count(), 3, "{health}");
    Ok(())
}

/// It is not built here; at least it builds what the packages hold, and copies programs that exist.
#[test]
fn the_dockerfile_holds_what_packages_hold() -> Check {
    let repository = files::repository();
    let dockerfile = files::read(&repository.join("Dockerfile"))?;
    let manifest: toml::Table = files::read(&repository.join("Cargo.toml"))?.parse().context("Cargo.toml")?;
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().context("a version")?;
    assert!(dockerfile.contains(&format!("FROM rust:{rust}")), "the image is not of Rust {rust}");
    assert!(manifest["profile"]["dist"].is_table(), "no profile for packages");
    assert!(dockerfile.contains("RUN cargo build --profile dist"));
    assert!(files::read(&repository.join("contrib/package"))?.contains("\nprofile=dist\nfolder=dist\n"));
    for member in manifest["workspace"]["default-members"].as_array().into_iter().flatten() {
        let program = format!("/src/target/dist/{}", member.as_str().unwrap_or_default());
        assert!(dockerfile.split_whitespace().any(|word| word == program), "{program} is not copied");
    }
    assert!(dockerfile.contains("\nUSER etcd\n"));
    Ok(())
}

#[test]
fn the_examples_of_the_page_are_true() -> Check {
    let folder = files::scratch("packaging")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    examples::play("packaging.md", &server, folder.path())
}

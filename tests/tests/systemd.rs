//! The server under a service manager: its notifications, and sockets that were opened for it.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::http::{self, PATIENCE, Request};
use tests::process::{Process, append, clean_environment};
use tests::server::{START_LIMIT, STOP_LIMIT, Server};
use tests::{Check, Context, fail, files, ports, programs};

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Manager {
    fn new(folder: &Path) -> Check<Manager> {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).context("listen for notifications")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Manager { socket, path, heard: Vec::new() })
    }

    fn variables(&self, watchdog: Duration) -> Vec<(String, String)> {
        let watchdog = watchdog.as_micros().to_string();
        let socket = self.path.display().to_string();
        vec![("NOTIFY_SOCKET".to_owned(), socket), ("WATCHDOG_USEC".to_owned(), watchdog)]
    }

    /// Waits for a message with this line, and returns it whole.
    fn wait_for(&mut self, line: &str) -> Check<String> {
        let end = Instant::now() + START_LIMIT;
        let mut space = [0; 4096];
        while Instant::now() < end {
            let Ok(length) = self.socket.recv(&mut space) else { continue };
            let message = String::from_utf8_lossy(&space[..length]).into_owned();
            self.heard.push(message.clone());
            if message.lines().any(|found| found == line) {
                return Ok(message);
            }
        }
        fail!("no {line:?}, but {:?}", self.heard)
    }
}

#[test]
fn a_member_tells_that_it_serves_lives_and_stops() -> Check {
    let folder = files::scratch("notify")?;
    let mut manager = Manager::new(folder.path())?;
    let mut server = Server::new(folder.path(), "m")?;
    server.env = manager.variables(Duration::from_millis(400));
    server.start()?;
    manager.wait_for("READY=1")?;
    assert!(
        manager.heard.iter().any(|message| message.starts_with("STATUS=starting: ")),
        "{:?}",
        manager.heard
    );
    // No client has to try twice.
    assert_eq!(server.call("GET", "/v2/keys/")?.status, 200);
    // It may have sent it together with READY, or before.
    let state = "STATUS=the only member";
    if !manager.heard.iter().any(|message| message.lines().any(|line| line == state)) {
        manager.wait_for(state)?;
    }
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1")?;
    }
    // A stopped process sends no notification.
    let process = server.process().context("there is a process")?;
    process.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(300));
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
    std::thread::sleep(Duration::from_millis(600));
    assert!(manager.socket.recv(&mut [0; 4096]).is_err());
    process.signal(Signal::CONT);
    manager.wait_for("WATCHDOG=1")?;

    let status = server.stop().context("the server did not stop")?;
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    manager.wait_for("STOPPING=1")?;
    Ok(())
}

/// Members are started one after the other, and the first must not hold up the others.
#[test]
fn a_member_is_ready_without_the_others() -> Check {
    let folder = files::scratch("notify-alone")?;
    let mut manager = Manager::new(folder.path())?;
    let mut server = Server::new(folder.path(), "a")?;
    server.initial_cluster += &format!(",b=http://127.0.0.1:{}", ports::take()?);
    server.env = manager.variables(Duration::ZERO);
    server.start()?;
    let message = manager.wait_for("READY=1")?;
    assert!(message.contains("STATUS=no leader: 2 of the 2 members must reach each other"), "{message}");
    assert!(!manager.heard.iter().any(|message| message.contains("WATCHDOG")), "{:?}", manager.heard);
    Ok(())
}

fn listener(port: u16) -> Check<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context(format!("listen on {port}"))
}

/// Starts a command with two sockets as its descriptors 3 and 4, as a service manager does.
fn activate(
    command: &Command,
    sockets: (&TcpListener, &TcpListener),
    names: &str,
    log: &Path,
) -> Check<Process> {
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"";
    clean_environment(&mut shell)
        .args(["-c", script, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .stdin(OwnedFd::from(sockets.0.try_clone()?))
        .stdout(OwnedFd::from(sockets.1.try_clone()?))
        .stderr(append(log)?);
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    Process::spawn_with(&mut shell, log)
}

fn member(folder: &Path, scheme: &str, client_port: u16, peer_port: u16) -> Check<Command> {
    let mut command = Command::new(&programs::find()?.etcd);
    let (client, peer) =
        (format!("{scheme}://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    command.arg("-data-dir").arg(folder.join("data")).args(["-listen-client-urls", &client]).args([
        "-advertise-client-urls",
        &client,
        "-listen-peer-urls",
        &peer,
        "-initial-advertise-peer-urls",
        &peer,
        "-initial-cluster",
        &format!("default={peer}"),
    ]);
    Ok(command)
}

fn keys(port: u16) -> Check<u16> {
    Ok(http::call(port, &Request::new("GET", "/v2/keys/"), PATIENCE)?.status)
}

#[test]
fn sockets_are_taken_by_name_and_outlive_the_server() -> Check {
    let folder = files::scratch("sockets")?;
    let (client, peer) = (ports::take()?, ports::take()?);
    // The URLs say other ports: the names decide.
    let command = member(folder.path(), "http", ports::take()?, ports::take()?)?;
    let (clients, peers) = (listener(client)?, listener(peer)?);
    let log = folder.path().join("log");
    for round in 0..2 {
        let mut process = activate(&command, (&peers, &clients), "peer:client", &log)?;
        // The connection waits in the socket until the server is there.
        assert_eq!(keys(client)?, 200, "round {round}: {}", process.last_words());
        let members = http::call(peer, &Request::new("GET", "/members"), PATIENCE)?;
        assert_eq!(members.status, 200);
        process.terminate(STOP_LIMIT).context("the server did not stop")?;
    }
    Ok(())
}

#[test]
fn sockets_are_taken_by_address_and_others_are_opened() -> Check {
    let folder = files::scratch("sockets-address")?;
    let (client, second, peer) = (ports::take()?, ports::take()?, ports::take()?);
    let mut command = member(folder.path(), "http", client, peer)?;
    command.arg(format!("-listen-client-urls=http://127.0.0.1:{second},http://localhost:{client}"));
    let (clients, peers) = (listener(client)?, listener(peer)?);
    let process =
        activate(&command, (&clients, &peers), "etcd.socket:etcd.socket", &folder.path().join("log"))?;
    assert_eq!(keys(client)?, 200, "{}", process.last_words());
    assert_eq!(keys(second)?, 200);
    Ok(())
}

#[test]
fn a_socket_that_nobody_wants_ends_the_server() -> Check {
    let folder = files::scratch("sockets-wrong")?;
    let (client, peer, other) = (ports::take()?, ports::take()?, ports::take()?);
    let command = member(folder.path(), "http", client, peer)?;
    let (others, peers) = (listener(other)?, listener(peer)?);
    let connection = std::net::TcpStream::connect(("127.0.0.1", peer))?;
    let (accepted, _) = peers.accept()?;
    let accepted = TcpListener::from(OwnedFd::from(accepted));
    for (sockets, names, said) in [
        (
            (&peers, &others),
            "peer:web",
            format!("the descriptor 4 named \"web\" at 127.0.0.1:{other}, which belongs"),
        ),
        ((&peers, &accepted), "peer:client", "which cannot be listened on: it is a connection".to_owned()),
    ] {
        let log = folder.path().join(names);
        let mut process = activate(&command, sockets, names, &log)?;
        let status = process.wait(START_LIMIT).context("the server runs")?;
        assert_eq!((status.code(), process.said().contains(&said)), (Some(1), true), "{}", process.said());
        assert!(!folder.path().join("data").exists(), "something was written");
    }
    drop(connection);
    Ok(())
}

#[test]
fn tls_works_on_a_socket_of_the_manager() -> Check {
    let folder = files::scratch("sockets-tls")?;
    let (client, peer) = (ports::take()?, ports::take()?);
    let certs = files::data("etcdctl/certs");
    let mut command = member(folder.path(), "https", client, peer)?;
    command.arg("-cert-file").arg(certs.join("server.crt")).arg("-key-file").arg(certs.join("server.key"));
    let (clients, peers) = (listener(client)?, listener(peer)?);
    let process = activate(&command, (&clients, &peers), "client:peer", &folder.path().join("log"))?;
    let mut set = Command::new(&programs::find()?.etcdctl);
    clean_environment(&mut set)
        .arg(format!("--endpoints=https://127.0.0.1:{client}"))
        .arg("--ca-file")
        .arg(certs.join("ca.crt"))
        // The connection waits in the socket until the server is there.
        .args(["--timeout=30s", "--total-timeout=60s"])
        .args(["set", "/a", "encrypted"]);
    let output = set.stdin(Stdio::null()).output().context("run etcdctl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "encrypted\n", "{said} {}", process.last_words());
    Ok(())
}

#[test]
fn a_proxy_tells_the_same_and_takes_the_clients_socket() -> Check {
    let folder = files::scratch("sockets-proxy")?;
    let member = Server::new(folder.path(), "m")?.started()?;
    let mut manager = Manager::new(folder.path())?;
    let (client, peer) = (ports::take()?, ports::take()?);
    let (clients, peers) = (listener(client)?, listener(peer)?);
    let mut command = Command::new(&programs::find()?.etcd);
    command.args(["-proxy", "on", "-initial-cluster", &member.initial_cluster]).arg("-data-dir");
    command.arg(folder.path().join("proxy")).arg(format!("-listen-client-urls=http://127.0.0.1:{client}"));
    command.envs(manager.variables(Duration::from_millis(400)));
    let mut process = activate(&command, (&clients, &peers), "client:peer", &folder.path().join("log"))?;
    let message = manager.wait_for("READY=1")?;
    assert!(message.contains("STATUS=proxy: 1 of 1 endpoints can be used"), "{message}");
    assert_eq!(keys(client)?, 200, "{}", process.last_words());
    manager.wait_for("WATCHDOG=1")?;
    process.terminate(STOP_LIMIT).context("the proxy did not stop")?;
    manager.wait_for("STOPPING=1")?;
    Ok(())
}

/// With systemd's own activator, where it is installed.
#[test]
fn systemd_socket_activate_starts_the_server() -> Check {
    let folder = files::scratch("sockets-systemd")?;
    let (client, peer) = (ports::take()?, ports::take()?);
    let command = member(folder.path(), "http", client, peer)?;
    let mut activator = Command::new("systemd-socket-activate");
    clean_environment(&mut activator)
        .args(["-l", &format!("127.0.0.1:{client}"), "-l", &format!("127.0.0.1:{peer}")])
        .arg("--fdname=client:peer")
        .arg(command.get_program())
        .args(command.get_args());
    if Command::new("systemd-socket-activate").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("left out: systemd-socket-activate is not installed");
        return Ok(());
    }
    let process = Process::spawn(&mut activator, &folder.path().join("log"))?;
    let end = Instant::now() + START_LIMIT;
    while keys(client).is_err() {
        if Instant::now() > end {
            fail!("nobody serves: {}", process.said());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(process.said().contains("is served on the descriptor 3 named \"client\""), "{}", process.said());
    Ok(())
}

#[test]
fn variables_of_others_and_nonsense_are_told_apart() -> Check {
    let folder = files::scratch("sockets-variables")?;
    let etcd = &programs::find()?.etcd;
    let said = |script: &str| -> Check<(Option<i32>, String)> {
        let mut shell = Command::new("sh");
        let output = clean_environment(&mut shell)
            .args(["-c", script, "sh"])
            .arg(etcd)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    for count in ["x", "-1", "257", "99999999999999999999"] {
        let (status, text) = said(&format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$1\""))?;
        assert_eq!(status, Some(1), "{text}");
        assert!(
            text.contains(&format!("LISTEN_FDS={count} is not a number of sockets from 0 to 256")),
            "{text}"
        );
    }
    let (status, text) = said("exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$1\"")?;
    assert!(status == Some(1) && text.contains("the descriptor 3, which cannot be listened on"), "{text}");
    // Sockets for an earlier process id are ignored: a wrong flag is found later.
    let (_, text) = said(
        "exec 3</dev/null; LISTEN_PID=1 LISTEN_FDS=1 exec \"$1\" -force-new-cluster -data-dir /dev/null",
    )?;
    assert!(text.contains("/dev/null") && !text.contains("descriptor"), "{text}");
    Ok(())
}

//! Servers with few descriptors, and clients that use all they can get.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tests::http::{self, Connection, Request};
use tests::server::Server;
use tests::{Check, Context, fail, files};

const PATIENCE: Duration = Duration::from_secs(20);

/// This process needs a descriptor for each connection, too.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If the system refuses there are fewer connections, and the tests print that.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn idle(port: u16, count: usize) -> Check<Vec<TcpStream>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (0..count)
        .map(|number| TcpStream::connect_timeout(&address, PATIENCE).context(format!("connection {number}")))
        .collect()
}

fn put(connection: &mut Connection, server: &Server, number: u32) -> Check {
    let request = Request::new("PUT", "/v2/keys/a").form(&[("value", &number.to_string())]);
    let answer = connection.call(&request, &server.host())?;
    if !matches!(answer.status, 200 | 201) {
        fail!("write {number} was answered with {}: {}", answer.status, answer.text());
    }
    Ok(())
}

fn wait_for_line(server: &mut Server, line: &str) -> Check {
    let end = Instant::now() + PATIENCE;
    loop {
        if !server.alive() {
            fail!("the server ended: {}", server.last_words());
        }
        if files::read(&server.log)?.contains(line) {
            return Ok(());
        }
        if Instant::now() > end {
            fail!("no line {line:?} in the log");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn survives_idle_connections(to_peers: bool) -> Check {
    raise_own_limit();
    let folder = files::scratch("descriptors")?;
    let mut server = Server::new(folder.path(), "m")?.with_args(["-snapshot-count", "100"]);
    server.nofile = Some(256);
    let mut server = server.started()?;
    let mut working = Connection::open(server.client_port, PATIENCE)?;
    put(&mut working, &server, 0)?;
    let port = if to_peers { server.peer_port } else { server.client_port };
    let crowd = idle(port, 600)?;
    for number in 1..150 {
        put(&mut working, &server, number)?;
    }
    wait_for_line(&mut server, "saved snapshot at index")?;
    // A new client is served on both ports, though none of the others has disconnected.
    server.set("/b", "1")?;
    let members = http::call(server.peer_port, &Request::new("GET", "/members"), PATIENCE)?;
    assert_eq!(members.status, 200);
    drop(crowd);
    Ok(())
}

#[test]
fn idle_clients_leave_descriptors_for_snapshots_and_for_others() -> Check {
    survives_idle_connections(false)
}

#[test]
fn idle_connections_to_the_peer_port_leave_descriptors_for_snapshots_and_for_others() -> Check {
    survives_idle_connections(true)
}

#[test]
fn connections_that_asked_once_go_for_new_ones() -> Check {
    raise_own_limit();
    let folder = files::scratch("descriptors")?;
    let mut server = Server::new(folder.path(), "m")?;
    server.nofile = Some(256);
    let server = server.started()?;
    let mut crowd = Vec::new();
    for number in 0..200 {
        let mut connection = Connection::open(server.client_port, PATIENCE)?;
        let target = if number % 2 == 0 { "/v2/keys/" } else { "/v2/stats/self" };
        let answer = connection.call(&Request::new("GET", target), &server.host())?;
        assert_eq!(answer.status, 200);
        crowd.push(connection);
    }
    // A watch does not count as an idle connection.
    let mut watch = Connection::open(server.client_port, PATIENCE)?;
    watch.send(&Request::new("GET", "/v2/keys/watched?wait=true").bytes(&server.host()))?;
    for _ in 0..200 {
        let mut connection = Connection::open(server.client_port, PATIENCE)?;
        assert_eq!(connection.call(&Request::new("GET", "/version"), &server.host())?.status, 200);
        crowd.push(connection);
    }
    server.set("/watched", "1")?;
    assert_eq!(watch.response("GET")?.status, 200);
    Ok(())
}

#[test]
fn a_request_that_never_ends_does_not_hold_what_others_need() -> Check {
    raise_own_limit();
    let folder = files::scratch("descriptors")?;
    let mut server = Server::new(folder.path(), "m")?;
    server.nofile = Some(256);
    let server = server.started()?;
    let mut crowd = Vec::new();
    let head = "POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nX-Etcd-Cluster-Id: ";
    let cluster = server.call("GET", "/version")?.header("X-Etcd-Cluster-Id").unwrap_or_default();
    for number in 0..200 {
        for (port, start) in [
            (server.peer_port, "GET /mem".to_owned()),
            (server.peer_port, format!("{head}{cluster}\r\n\r\nx")),
            (server.client_port, "GET /v2/ke".to_owned()),
            (server.client_port, "GET /v2/keys HTTP/1.1\r\nHost:".to_owned()),
            (
                server.client_port,
                "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Type: \
                application/x-www-form-urlencoded\r\n\r\nv"
                    .to_owned(),
            ),
        ] {
            let mut connection =
                Connection::open(port, PATIENCE).context(format!("round {number}, {start}"))?;
            connection.send(start.as_bytes())?;
            crowd.push(connection);
        }
    }
    server.set("/b", "1")?;
    let members = http::call(server.peer_port, &Request::new("GET", "/members"), PATIENCE)?;
    assert_eq!(members.status, 200);
    Ok(())
}

#[test]
fn a_snapshot_waits_for_a_descriptor() -> Check {
    let folder = files::scratch("descriptors")?;
    let mut server = Server::new(folder.path(), "m")?.with_args(["-snapshot-count", "100"]).started()?;
    let pid = server.process().context("a process")?.pid().context("a process id")?;
    let mut working = Connection::open(server.client_port, PATIENCE)?;
    put(&mut working, &server, 0)?;
    // Not even one more file can be opened: open ones stay open.
    let before = prlimit(
        Some(pid),
        Resource::Nofile,
        Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum },
    )?;
    for number in 1..150 {
        put(&mut working, &server, number)?;
    }
    wait_for_line(&mut server, "trying again until descriptors are free")?;
    for number in 150..300 {
        put(&mut working, &server, number)?;
    }
    prlimit(Some(pid), Resource::Nofile, before)?;
    wait_for_line(&mut server, "saved snapshot at index")?;
    server.set("/b", "1")?;
    // One that stops does not wait.
    prlimit(
        Some(pid),
        Resource::Nofile,
        Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum },
    )?;
    // The checks of the log and the snapshots, one a second, need no descriptor.
    let looked = Instant::now() + Duration::from_millis(2_500);
    let mut number = 300;
    while number < 600 || Instant::now() < looked {
        put(&mut working, &server, number)?;
        number += 1;
    }
    assert!(server.stop().is_some(), "SIGTERM was not enough");
    Ok(())
}

#[test]
fn a_limit_that_is_too_low_is_named_at_the_start() -> Check {
    let folder = files::scratch("descriptors")?;
    for (name, args) in [("m", &[][..]), ("p", &["-proxy", "on"][..])] {
        let mut server = Server::new(folder.path(), name)?.with_args(args);
        server.nofile = Some(64);
        server.start()?;
        let status = server.wait_exit(PATIENCE).context("the server goes on")?;
        assert_eq!(status.code(), Some(1));
        let log = files::read(&server.log)?;
        assert!(log.contains("file descriptor limit[64]") && log.contains("ulimit -n"), "{log}");
    }
    Ok(())
}

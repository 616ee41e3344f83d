//! A server whose clients are served by threads of their own (`-client-threads`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::http::{Connection, PATIENCE, Request};
use tests::server::Server;
use tests::{Check, Context, fail, files};

const CONNECTIONS: usize = 24;
const ROUNDS: usize = 20;
const WATCHERS: usize = 60;
const READS: usize = 3000;

fn server(folder: &Path, threads: &str) -> Check<Server> {
    Server::new(folder, "threads")?.with_args(["-client-threads", threads]).started()
}

/// The names of the process's threads.
fn threads(server: &mut Server) -> Check<Vec<String>> {
    let id = server.process().context("it does not run")?.id();
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        names.push(fs::read_to_string(task?.path().join("comm"))?.trim().to_owned());
    }
    names.retain(|name| name.starts_with("clients"));
    names.sort();
    Ok(names)
}

fn connections(server: &Server, count: usize) -> Check<Vec<Connection>> {
    (0..count).map(|_| Connection::open(server.client_port, PATIENCE)).collect()
}

#[test]
fn a_write_is_seen_on_every_thread_once_it_is_answered() -> Check {
    let folder = files::scratch("client-threads")?;
    let mut server = server(folder.path(), "3")?;
    let mut connections = connections(&server, CONNECTIONS)?;
    let host = server.host();
    for round in 0..ROUNDS {
        let (key, value) = (format!("/v2/keys/a{}", round % 3), format!("{round}"));
        let writer = round % CONNECTIONS;
        let put = Request::new("PUT", &key).form(&[("value", &value)]);
        let answer = connections[writer].call(&put, &host)?;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
        let index = answer.number("X-Etcd-Index");
        for (number, reader) in connections.iter_mut().enumerate() {
            let read = reader.call(&Request::new("GET", &key), &host)?;
            let text = read.text();
            assert!(
                text.contains(&format!("\"value\":\"{value}\"")),
                "round {round}, reader {number}: {text}"
            );
            assert!(read.number("X-Etcd-Index") >= index, "round {round}, reader {number}");
        }
    }
    assert_eq!(threads(&mut server)?, ["clients 0", "clients 1", "clients 2"]);
    Ok(())
}

#[test]
fn watches_on_every_thread_get_each_event_and_end_with_the_server() -> Check {
    let folder = files::scratch("client-threads")?;
    let mut server = server(folder.path(), "2")?;
    let host = server.host();
    let mut watchers = connections(&server, WATCHERS)?;
    let request = Request::new("GET", "/v2/keys/watched?wait=true&stream=true&recursive=true");
    for watcher in &mut watchers {
        watcher.send(&request.bytes(&host))?;
        let head = watcher.head()?;
        assert_eq!(head.status, 200);
    }
    for round in 0..3 {
        server.set("/watched/key", &format!("round {round}"))?;
        for (number, watcher) in watchers.iter_mut().enumerate() {
            let event = watcher.chunk()?.context("the stream ended")?;
            let event = String::from_utf8_lossy(&event).into_owned();
            assert!(event.contains(&format!("round {round}")), "watcher {number}: {event}");
        }
    }
    // More than 32 watches: none has moved to the thread for watches, which only relieves the main thread.
    assert_eq!(threads(&mut server)?, ["clients 0", "clients 1"]);
    let status = server.process().context("it does not run")?.terminate(PATIENCE);
    if status.is_none() {
        fail!("the server does not end while clients watch");
    }
    for watcher in &mut watchers {
        watcher.expect_closed(Duration::from_secs(1))?;
    }
    Ok(())
}

#[test]
fn what_is_answered_holds_on_every_thread() -> Check {
    let folder = files::scratch("client-threads")?;
    let server = server(folder.path(), "3")?;
    let host = server.host();
    let json = |method: &str, target: &str, body: &str| Request {
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: body.as_bytes().to_vec(),
        ..Request::new(method, target)
    };
    // "root:r"
    let as_root = |mut request: Request| {
        request.headers.push(("Authorization".to_owned(), "Basic cm9vdDpy".to_owned()));
        request
    };
    let mut connections = connections(&server, 4)?;
    let user = json("PUT", "/v2/auth/users/root", r#"{"user":"root","password":"r"}"#);
    assert_eq!(connections[0].call(&user, &host)?.status, 201);
    for round in 0..ROUNDS {
        let others = [1 + round % 3, 1 + (round + 1) % 3];
        let enabled = connections[0].call(&Request::new("PUT", "/v2/auth/enable"), &host)?;
        assert_eq!(enabled.status, 200, "{}", enabled.text());
        for other in others {
            let list = connections[other].call(&Request::new("GET", "/v2/auth/users"), &host)?;
            assert_eq!(list.status, 401, "round {round}: auth is on");
        }
        let disabled = connections[0].call(&as_root(Request::new("DELETE", "/v2/auth/enable")), &host)?;
        assert_eq!(disabled.status, 200, "{}", disabled.text());
    }
    let added = json("POST", "/v2/members", r#"{"peerURLs":["http://127.0.0.1:1"]}"#);
    assert_eq!(connections[0].call(&added, &host)?.status, 201);
    let listed = connections[1].call(&Request::new("GET", "/v2/members"), &host)?.text();
    assert!(listed.contains("http://127.0.0.1:1\""), "{listed}");
    Ok(())
}

#[test]
fn reads_that_look_twice_do_not_wait_for_a_write_in_between() -> Check {
    let folder = files::scratch("client-threads")?;
    let server = server(folder.path(), "3")?;
    // No key of this name is in the store: the server looks for one, and then for the members.
    let read = Request::new("GET", "/v2/keys/_etcd/machines?recursive=true");
    let write = Request::new("PUT", "/v2/keys/a").form(&[("value", "1")]);
    std::thread::scope(|scope| {
        let calls = |request: &Request| {
            let (request, port, host) = (request.clone(), server.client_port, server.host());
            scope.spawn(move || -> Check {
                let mut connection = Connection::open(port, PATIENCE)?;
                for _ in 0..READS {
                    let status = connection.call(&request, &host)?.status;
                    assert!(matches!(status, 200 | 201), "{status}");
                }
                Ok(())
            })
        };
        let threads: Vec<_> = [&read, &read, &read, &write, &write, &write].map(calls).into();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| fail!("a client panicked")))
    })
}

#[test]
fn no_threads_are_started_where_none_are_asked_for() -> Check {
    let folder = files::scratch("client-threads")?;
    let mut server = server(folder.path(), "0")?;
    server.set("/a", "1")?;
    assert!(threads(&mut server)?.is_empty());
    Ok(())
}

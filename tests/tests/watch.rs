//! Many watchers over real sockets.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::http::{Connection, PATIENCE, Request};
use tests::json::Json;
use tests::server::Server;
use tests::{Check, Context, fail, files};

const WATCHERS: usize = 1000;

/// Room for the sockets of a test, here and in the server that is started next.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is not permitted, the test says so when it runs out of them.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn watch(server: &Server, query: &str) -> Check<Vec<Connection>> {
    let mut watchers = Vec::new();
    let request = Request::new("GET", format!("/v2/keys/watched?{query}"));
    for number in 0..WATCHERS {
        let mut connection =
            Connection::open(server.client_port, PATIENCE).context(format!("watcher {number}"))?;
        connection.send(&request.bytes(&server.host()))?;
        watchers.push(connection);
    }
    // The heads come at once: from here on the server knows of all of them.
    for (number, connection) in watchers.iter_mut().enumerate() {
        let head = connection.head().context(format!("watcher {number}"))?;
        if head.status != 200 {
            fail!("watcher {number} was answered with {}", head.status);
        }
    }
    Ok(watchers)
}

/// The next event of a watcher: its value and its index.
fn event(connection: &mut Connection) -> Check<(String, i128)> {
    let chunk = connection.chunk()?.context("the stream ended")?;
    let event = Json::parse(&String::from_utf8_lossy(&chunk))?;
    match (event.at("node.value").and_then(Json::text), event.at("node.modifiedIndex")) {
        (Some(value), Some(Json::Integer(index))) => Ok((value.to_owned(), *index)),
        _ => fail!("{} is no event of ours", event.write_go()),
    }
}

#[test]
fn a_thousand_streams_get_each_event_once() -> Check {
    raise_descriptor_limit();
    let folder = files::scratch("watch")?;
    let server = Server::new(folder.path(), "watch")?.started()?;
    let mut watchers = watch(&server, "wait=true&stream=true&recursive=true")?;
    let mut last = 0;
    for round in 0..3 {
        let value = format!("event {round}");
        let begun = Instant::now();
        server.set(&format!("/watched/{round}"), &value)?;
        server.set("/elsewhere", &value)?;
        let mut index = None;
        for (number, watcher) in watchers.iter_mut().enumerate() {
            let (got, at) = event(watcher).context(format!("round {round}, watcher {number}"))?;
            assert_eq!(got, value, "round {round}, watcher {number}");
            assert_eq!(*index.get_or_insert(at), at, "round {round}, watcher {number}");
        }
        assert!(index > Some(last), "round {round}: index {index:?} after {last}");
        last = index.unwrap_or(last);
        println!("round {round}: {WATCHERS} streams after {:?}", begun.elapsed());
    }
    // Nothing more came to any of them.
    for (number, watcher) in watchers.iter_mut().enumerate() {
        watcher.set_patience(Some(Duration::from_millis(1)))?;
        assert!(watcher.chunk().is_err(), "watcher {number} got an event too many");
    }
    Ok(())
}

#[test]
fn a_thousand_polls_get_the_event_and_end() -> Check {
    raise_descriptor_limit();
    let folder = files::scratch("watch")?;
    let server = Server::new(folder.path(), "watch")?.started()?;
    let mut watchers = watch(&server, "wait=true")?;
    server.set("/watched", "now")?;
    for (number, watcher) in watchers.iter_mut().enumerate() {
        let (got, _) = event(watcher).context(format!("watcher {number}"))?;
        assert_eq!(got, "now", "watcher {number}");
        assert_eq!(watcher.chunk()?, None, "watcher {number}: the answer is complete after one event");
    }
    Ok(())
}

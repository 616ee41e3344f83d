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
    // If that is not permitted, the test prints it when it runs out of descriptors.
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
    // The heads come at once: from here on the server has registered all of them.
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
    // None of them received anything else.
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

/// The next chunk, and how long it took.
fn timed(connection: &mut Connection) -> Check<(Option<Vec<u8>>, Duration)> {
    let begun = Instant::now();
    Ok((connection.chunk()?, begun.elapsed()))
}

#[test]
fn who_asks_for_signs_of_life_gets_them_in_silence() -> Check {
    let folder = files::scratch("progress")?;
    let server = Server::new(folder.path(), "watch")?.started()?;
    let open = |query: &str| -> Check<(Connection, Option<u64>)> {
        let mut connection = Connection::open(server.client_port, PATIENCE)?;
        let request = Request::new("GET", format!("/v2/keys/watched?wait=true{query}"));
        connection.send(&request.bytes(&server.host()))?;
        let head = connection.head()?;
        if head.status != 200 {
            fail!("{query} was answered with {}", head.status);
        }
        Ok((connection, head.number("X-Etcd-Progress")))
    };
    let (mut poll, told) = open("&progress=1s")?;
    let (mut stream, told_stream) = open("&stream=true&progress=2")?;
    let (mut silent, told_nothing) = open("")?;
    assert_eq!((told, told_stream, told_nothing), (Some(1), Some(2), None));
    for round in 0..2 {
        let (notice, after) = timed(&mut poll)?;
        assert_eq!(notice.as_deref(), Some(&b"\n"[..]), "round {round}");
        assert!(
            after > Duration::from_millis(700) && after < Duration::from_secs(3),
            "round {round}: {after:?}"
        );
    }
    server.set("/watched", "one")?;
    assert_eq!(event(&mut poll)?.0, "one");
    assert_eq!(poll.chunk()?, None, "the long poll is over");
    // Two or fewer notices came; the next comes after silence, and the stream continues after it.
    let mut chunk = stream.chunk()?.context("the stream ended")?;
    if chunk == b"\n" {
        chunk = stream.chunk()?.context("the stream ended")?;
    }
    assert!(String::from_utf8_lossy(&chunk).contains("\"value\":\"one\""));
    let (notice, after) = timed(&mut stream)?;
    assert_eq!(notice.as_deref(), Some(&b"\n"[..]));
    assert!(after > Duration::from_millis(1000), "the event restarts the time: {after:?}");
    server.set("/watched", "two")?;
    assert_eq!(event(&mut stream)?.0, "two");
    // A watch without the parameter received the event only.
    assert_eq!(event(&mut silent)?.0, "one");
    assert_eq!(silent.chunk()?, None);
    let refused = server.call("GET", "/v2/keys/watched?wait=true&progress=often")?;
    assert!(
        refused.status == 400 && refused.text().contains("invalid value for \\\"progress\\\""),
        "{}",
        refused.text()
    );
    // Without a watch there are no notices.
    assert_eq!(server.call("GET", "/v2/keys/watched?progress=often")?.status, 200);
    Ok(())
}

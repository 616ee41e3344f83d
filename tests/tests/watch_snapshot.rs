//! Watches at a follower that was away for so long that it gets a snapshot of the leader: no event is passed over
//! without a word.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::guarded;
use tests::http::{Connection, PATIENCE, Request};
use tests::json::Json;
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files};

/// More entries than a leader keeps below a snapshot, and has on their way to a member that does not answer.
const ENTRIES: usize = 10_000;

/// How long a member rests at most before it saves another snapshot, and the time to do it.
const SNAPSHOTS_REST: Duration = Duration::from_millis(2500);

/// `-snapshot-count`.
const SNAPSHOT_COUNT: usize = 300;

/// Clients that write side by side.
const WRITERS: usize = 16;

fn signal(member: &mut Server, signal: Signal) -> Check {
    member.process().context("the member does not run")?.signal(signal);
    Ok(())
}

/// Lets many clients send the same request a number of times in total.
fn repeat(member: &Server, count: usize, request: impl Fn(usize) -> Request) -> Check {
    let (port, host) = (member.client_port, member.host());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (host, request) = (host.clone(), request(writer));
            thread::spawn(move || -> Check {
                let mut connection = Connection::open(port, PATIENCE)?;
                for _ in 0..count.div_ceil(WRITERS) {
                    connection.call(&request, &host)?;
                }
                Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.join().ok().context("a writer has panicked")??;
    }
    Ok(())
}

/// Changes keys.
fn change(member: &Server, count: usize) -> Check {
    repeat(member, count, |writer| {
        Request::new("PUT", format!("/v2/keys/much/{writer}")).form(&[("value", "x")])
    })
}

/// Makes entries of the log that change nothing.
fn fail_to_change(member: &Server, count: usize) -> Check {
    repeat(member, count, |_| Request::new("PUT", "/v2/keys/missing?prevExist=true").form(&[("value", "x")]))
}

fn watch(member: &Server, query: &str) -> Check<Connection> {
    watch_by("", member, query)
}

/// A watch of this user, a guest if that is empty.
fn watch_by(who: &str, member: &Server, query: &str) -> Check<Connection> {
    let mut connection = Connection::open(member.client_port, PATIENCE)?;
    connection.send(&guarded::by(who, "GET", &format!("/v2/keys{query}")).bytes(&member.host()))?;
    let head = connection.head()?;
    if head.status != 200 {
        fail!("{query} was answered with {}", head.status);
    }
    Ok(connection)
}

/// The index of the next event; `None` when the connection was closed in the middle of the answer.
fn next(connection: &mut Connection) -> Check<Option<u64>> {
    let Ok(chunk) = connection.chunk() else {
        // Not for want of patience: the connection is closed indeed.
        connection.expect_closed(Duration::from_secs(5))?;
        return Ok(None);
    };
    index_of(&chunk.context("the answer has ended in order")?).map(Some)
}

fn index_of(chunk: &[u8]) -> Check<u64> {
    let event = Json::parse(&String::from_utf8_lossy(chunk))?;
    match event.at("node.modifiedIndex") {
        Some(Json::Integer(index)) => u64::try_from(*index).context("an index"),
        _ => fail!("{} is no event", event.write_go()),
    }
}

/// Freezes the member while `meanwhile` goes on at another one, and lets it get a snapshot.
fn snapshot(members: &mut [Server], meanwhile: impl Fn(&Server) -> Check) -> Check {
    let installed = |member: &Server| member.said().matches("finished applying incoming snapshot").count();
    let before = installed(&members[2]);
    signal(&mut members[2], Signal::STOP)?;
    meanwhile(&members[0])?;
    // Snapshots keep their distance in time; one more is due then, and drops what the frozen one would need.
    thread::sleep(SNAPSHOTS_REST);
    fail_to_change(&members[0], SNAPSHOT_COUNT + 20)?;
    thread::sleep(SNAPSHOTS_REST);
    signal(&mut members[2], Signal::CONT)?;
    let begun = Instant::now();
    while installed(&members[2]) == before {
        if begun.elapsed() > START_LIMIT {
            fail!("m3 got no snapshot: {}", members[2].last_words());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn three(folder: &str) -> Check<(tempfile::TempDir, Vec<Server>)> {
    let folder = files::scratch(folder)?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let count = SNAPSHOT_COUNT.to_string();
    let args = ["--snapshot-count", &count, "--heartbeat-interval", "50", "--election-timeout", "500"];
    let members = cluster(folder.path(), &names, &args.map(str::to_owned))?;
    Ok((folder, members))
}

#[test]
fn watches_at_a_follower_that_gets_a_snapshot_miss_nothing() -> Check {
    let (_folder, mut members) = three("watch-snapshot")?;
    let start = members[2].index()?;

    // First the snapshot's history reaches back far enough.
    let mut stream = watch(&members[2], "/?wait=true&stream=true&recursive=true")?;
    let mut poll = watch(&members[2], "/much?wait=true&recursive=true")?;
    let mut future = watch(&members[2], &format!("/much?wait=true&recursive=true&waitIndex={}", start + 40))?;
    snapshot(&mut members, |member| {
        fail_to_change(member, ENTRIES)?;
        change(member, 320)
    })?;
    let last = members[0].index()?;
    assert!(last >= start + 320, "{start} to {last}");
    for wanted in start + 1..=last {
        assert_eq!(next(&mut stream)?, Some(wanted));
    }
    assert_eq!(next(&mut poll)?, Some(start + 1));
    assert_eq!(next(&mut future)?, Some(start + 40));

    // Then it does not: the watches end, and a new one gets an error.
    let mut quiet = watch(&members[2], "/quiet?wait=true")?;
    let mut later = watch(&members[2], &format!("/?wait=true&recursive=true&waitIndex={}", last + 100_000))?;
    snapshot(&mut members, |member| change(member, ENTRIES))?;
    let end = members[0].index()?;
    let mut seen = last;
    // What lay on the way to the frozen member is applied at one go: if that is more than may wait for a watch, this
    // one ends in order, as that of any slow reader.
    while let Ok(Some(chunk)) = stream.chunk() {
        let index = index_of(&chunk)?;
        assert_eq!(index, seen + 1, "an event was passed over");
        seen = index;
    }
    assert!(seen < end, "the stream broke off with nothing missing");
    assert_eq!(next(&mut quiet)?, None, "what happened to its key nobody knows");
    let again =
        members[2].call("GET", &format!("/v2/keys/?wait=true&recursive=true&waitIndex={}", seen + 1))?;
    assert_eq!(again.status, 400);
    assert!(again.text().contains("\"errorCode\":401"), "{}", again.text());
    // One that waits for the future has missed nothing.
    later.set_patience(Some(Duration::from_millis(200)))?;
    assert!(later.chunk().is_err());
    later.expect_closed(Duration::from_millis(200)).expect_err("it goes on");
    Ok(())
}

#[test]
fn a_snapshot_tells_nobody_what_they_may_not_see_any_more() -> Check {
    let (_folder, mut members) = three("watch-snapshot-auth")?;
    guarded::change(&members[0], "", "users/root", r#"{"user":"root","password":"rootpw"}"#)?;
    let permissions = r#""permissions":{"kv":{"read":["/pub/*"],"write":["/*"]}}"#;
    guarded::change(&members[0], "", "roles/guest", &format!(r#"{{"role":"guest",{permissions}}}"#))?;
    let mut guest = watch(&members[2], "/?wait=true&stream=true&recursive=true")?;
    let mut silent = watch(&members[2], "/nothing?wait=true")?;
    let mut public = watch(&members[2], "/pub/x?wait=true&stream=true")?;
    let mut root = watch_by("root:rootpw", &members[2], "/secret?wait=true&stream=true")?;
    snapshot(&mut members, |member| {
        fail_to_change(member, ENTRIES)?;
        guarded::change(member, "", "enable", "")?;
        for key in ["/secret", "/pub/x"] {
            assert_eq!(member.send(&guarded::put("", key, "1"))?.status, 201);
        }
        Ok(())
    })?;
    assert_eq!((next(&mut guest)?, next(&mut silent)?), (None, None));
    let seen =
        (next(&mut root)?.context("root is closed")?, next(&mut public)?.context("guests are closed")?);
    assert_eq!(seen.1, seen.0 + 1);
    Ok(())
}

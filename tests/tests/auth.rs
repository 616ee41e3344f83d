//! Auth in a cluster: what is changed at one member holds at the others, after a restart, after a snapshot from the
//! leader, and through a proxy.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::http::{Connection, PATIENCE, Request, Response};
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, examples, fail, files};

/// How long a change may take from one member to another.
const SPREAD_LIMIT: Duration = Duration::from_secs(10);

/// How many entries a leader keeps below a snapshot: a member that missed more gets the snapshot.
const ENTRIES_KEPT: usize = 5000;

/// `-snapshot-count`.
const SNAPSHOT_COUNT: usize = 300;

/// How long a member rests at most before it saves another snapshot, and the time to do it.
const SNAPSHOTS_REST: Duration = Duration::from_millis(2500);

/// More than a leader sends to a member that does not answer: that many it gets once it is awake again.
const ENTRIES_ON_THEIR_WAY: usize = 5000;

/// Clients that write side by side.
const WRITERS: usize = 16;

const ROOT: &str = "cm9vdDpyb290cHc=";
const ANN: &str = "YW5uOmFubnB3";
const ANN_LATER: &str = "YW5uOmxhdGVy";

/// A request by the user with this name and password in base64; by a guest if it is empty.
fn by(who: &str, method: &str, target: &str) -> Request {
    let mut request = Request::new(method, target);
    if !who.is_empty() {
        request.headers.push(("Authorization".to_owned(), format!("Basic {who}")));
    }
    request
}

fn change(member: &Server, who: &str, page: &str, body: &str) -> Check<Response> {
    let mut request = by(who, "PUT", &format!("/v2/auth/{page}"));
    request.body = body.as_bytes().to_vec();
    let response = member.send(&request)?;
    if !matches!(response.status, 200 | 201) {
        fail!("{page} {body} was answered with {}: {}", response.status, response.text());
    }
    Ok(response)
}

fn status(member: &Server, who: &str, method: &str, key: &str) -> Check<u16> {
    let request = by(who, method, &format!("/v2/keys{key}"));
    let request = if method == "PUT" { request.form(&[("value", "v")]) } else { request };
    let mut connection = Connection::open(member.client_port, PATIENCE)?;
    connection.send(&request.bytes(&member.host()))?;
    // Of a watch there is nothing but a head.
    Ok(connection.head()?.status)
}

/// Waits until a member answers so: it applies what others decided a moment later.
fn comes_to(member: &Server, who: &str, method: &str, key: &str, wanted: &[u16]) -> Check {
    let end = Instant::now() + SPREAD_LIMIT;
    loop {
        let found = status(member, who, method, key)?;
        if wanted.contains(&found) {
            return Ok(());
        }
        if Instant::now() > end {
            fail!("{}: {method} {key} is answered with {found}, not {wanted:?}", member.name);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A user `root`, a user `ann` whose role may read `/app/*` and write `/app/w/*`, and guests who may do nothing.
fn switch_on(member: &Server) -> Check {
    change(member, "", "users/root", r#"{"user":"root","password":"rootpw"}"#)?;
    change(
        member,
        "",
        "roles/app",
        r#"{"role":"app","permissions":{"kv":{"read":["/app/*"],"write":["/app/w/*"]}}}"#,
    )?;
    change(member, "", "users/ann", r#"{"user":"ann","password":"annpw","roles":["app"]}"#)?;
    change(member, "", "roles/guest", r#"{"role":"guest"}"#)?;
    change(member, "", "enable", "")?;
    Ok(())
}

/// What holds once auth is on, at any member.
fn rights_hold(member: &Server, ann: &str) -> Check {
    comes_to(member, "", "GET", "/app/x", &[401])?;
    comes_to(member, ROOT, "GET", "/app/x", &[200])?;
    comes_to(member, ann, "GET", "/app/x", &[200])?;
    for (who, method, key, wanted) in [
        ("", "PUT", "/app/w/k", 401),
        (ann, "PUT", "/app/x", 401),
        (ann, "GET", "/app", 401),
        (ann, "GET", "/app/?recursive=true", 200),
        (ann, "GET", "/app/x?wait=true", 200),
        (ann, "GET", "/other?wait=true", 401),
        (ann, "GET", "/other?quorum=true", 401),
        (ann, "HEAD", "/app/x", 200),
    ] {
        let found = status(member, who, method, key)?;
        if found != wanted {
            fail!("{}: {method} {key} is answered with {found}, not {wanted}", member.name);
        }
    }
    comes_to(member, ann, "PUT", "/app/w/k", &[200, 201])?;
    for page in ["/v2/members/1234", "/v2/auth/users/ann", "/v2/auth/enable"] {
        let refused = member.send(&by(ann, "DELETE", page))?;
        assert_eq!(
            (refused.status, refused.text()),
            (401, r#"{"message":"Insufficient credentials"}"#.to_owned())
        );
    }
    assert_eq!(member.call("GET", "/v2/auth/enable")?.text(), "{\"enabled\":true}\n");
    assert_eq!(member.call("GET", "/v2/members")?.status, 200, "reading members needs no rights");
    Ok(())
}

fn signal(member: &mut Server, signal: Signal) -> Check {
    member.process().context("the member does not run")?.signal(signal);
    Ok(())
}

/// Writes many keys with many clients.
fn write_much(member: &Server, count: usize) -> Check {
    let (port, host) = (member.client_port, member.host());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let host = host.clone();
            thread::spawn(move || -> Check {
                let mut connection = Connection::open(port, PATIENCE)?;
                let put = by(ROOT, "PUT", &format!("/v2/keys/much/{writer}")).form(&[("value", "x")]);
                for _ in 0..count.div_ceil(WRITERS) {
                    // The number of entries matters; a write that is lost with a leader does no harm.
                    let status = connection.call(&put, &host)?.status;
                    if !matches!(status, 200 | 201 | 500) {
                        fail!("a write was answered with {status}");
                    }
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

#[test]
fn what_is_changed_at_one_member_holds_at_all() -> Check {
    let folder = files::scratch("auth")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let count = SNAPSHOT_COUNT.to_string();
    let args = ["--snapshot-count", &count, "--heartbeat-interval", "50", "--election-timeout", "500"];
    let args = args.map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &args)?;
    members[0].set("/app/x", "1")?;
    members[0].set("/other", "1")?;
    // One that is frozen meanwhile learns of it from a snapshot, and from nothing else: it does not start again.
    signal(&mut members[2], Signal::STOP)?;
    write_much(&members[0], ENTRIES_KEPT + ENTRIES_ON_THEIR_WAY)?;
    switch_on(&members[0])?;
    for member in &members[..2] {
        rights_hold(member, ANN)?;
    }
    // Snapshots keep their distance in time; one more is due then, and drops what the frozen one would need.
    thread::sleep(SNAPSHOTS_REST);
    write_much(&members[0], SNAPSHOT_COUNT + 20)?;
    thread::sleep(SNAPSHOTS_REST);
    signal(&mut members[2], Signal::CONT)?;
    let begun = Instant::now();
    while !members[2].said().contains("finished applying incoming snapshot") {
        if begun.elapsed() > START_LIMIT {
            fail!("m3 got no snapshot: {}", members[2].last_words());
        }
        thread::sleep(Duration::from_millis(50));
    }
    rights_hold(&members[2], ANN)?;

    // A password is another at once where it was changed, and a moment later elsewhere.
    change(&members[1], ROOT, "users/ann", r#"{"user":"ann","password":"later"}"#)?;
    assert_eq!(status(&members[1], ANN, "GET", "/app/x")?, 401);
    for member in &members {
        comes_to(member, ANN, "GET", "/app/x", &[401])?;
        rights_hold(member, ANN_LATER)?;
    }
    change(&members[2], ROOT, "roles/app", r#"{"role":"app","grant":{"kv":{"read":["/other"]}}}"#)?;
    assert_eq!(status(&members[2], ANN_LATER, "GET", "/other")?, 200);
    for member in &members {
        comes_to(member, ANN_LATER, "GET", "/other", &[200])?;
    }
    change(&members[2], ROOT, "roles/app", r#"{"role":"app","revoke":{"kv":{"read":["/other"]}}}"#)?;

    // All start again, from a snapshot and the log: members need no password among themselves.
    for member in &mut members {
        member.stop();
        member.start()?;
    }
    for member in &members {
        let begun = Instant::now();
        while !member
            .send(&by(ROOT, "GET", "/v2/keys/app/x?quorum=true"))
            .is_ok_and(|read| read.status == 200)
        {
            if begun.elapsed() > START_LIMIT {
                fail!("{} does not serve: {}", member.name, member.last_words());
            }
            thread::sleep(Duration::from_millis(50));
        }
        rights_hold(member, ANN_LATER)?;
    }
    assert_eq!(members[1].send(&by(ROOT, "DELETE", "/v2/auth/enable"))?.status, 200);
    for member in &members {
        comes_to(member, "", "PUT", "/open", &[200, 201])?;
    }
    Ok(())
}

#[test]
fn a_proxy_passes_credentials_on() -> Check {
    let folder = files::scratch("auth-proxy")?;
    let member = Server::new(folder.path(), "m")?.started()?;
    member.set("/app/x", "1")?;
    switch_on(&member)?;
    let mut proxy = Server::new(folder.path(), "proxy")?.with_args(["-proxy", "on"]);
    proxy.initial_cluster = member.initial_cluster.clone();
    proxy.start()?;
    let begun = Instant::now();
    while !proxy.call("GET", "/version").is_ok_and(|answer| answer.status == 200) {
        if begun.elapsed() > START_LIMIT {
            fail!("the proxy does not serve: {}", proxy.last_words());
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(status(&proxy, ANN, "GET", "/app/x")?, 200);
    assert_eq!(status(&proxy, "", "GET", "/app/x")?, 401);
    assert_eq!(status(&proxy, ANN, "PUT", "/app/x")?, 401);
    Ok(())
}

#[test]
fn the_documents_examples_do_what_they_say() -> Check {
    let folder = files::scratch("auth-examples")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    examples::play("auth.md", &server, folder.path())
}

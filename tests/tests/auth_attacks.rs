//! What a client without the right to do so tries against a server with authentication switched on.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::guarded::{LIMIT, WONDER, ask, by, change, guarded, put, read_status};
use tests::http::{Connection, Request};
use tests::process::{Process, clean_environment, describe};
use tests::server::Server;
use tests::{Check, Context, fail, files, programs};

#[test]
fn who_may_write_a_key_does_not_become_root_by_it() -> Check {
    let (_folder, member) = guarded("auth-names")?;
    let evil = "../../1/pub/evil";
    for (key, name) in [("/pub/evil", "evil"), ("/pub/far", evil), ("/pub/root", "root")] {
        let record = format!(r#"{{"user":"{name}","password":"{WONDER}","roles":["root"]}}"#);
        assert_eq!(member.send(&put("ann:annpw", key, &record))?.status, 201);
    }
    for who in [
        "../../1/pub/evil:wonder",
        "../../1/pub/far:wonder",
        "../../1/pub/root:wonder",
        ".././../1/pub/evil:wonder",
        "root/../../../1/pub/evil:wonder",
        "%2e%2e/%2e%2e/1/pub/evil:wonder",
        "..%2f..%2f1/pub/evil:wonder",
        "../users/root:rootpw",
        "./root:rootpw",
        "root\0:rootpw",
        ":wonder",
        "..:wonder",
    ] {
        for (method, target) in [
            ("GET", "/v2/keys/secret"),
            ("GET", "/v1/keys/secret"),
            ("GET", "/mod/dashboard/api/keys/secret"),
            ("GET", "/mod/dashboard/api/node/secret"),
            ("GET", "/mod/v2/lock/x"),
            ("GET", "/v2/auth/users"),
            ("DELETE", "/v2/auth/enable"),
            ("DELETE", "/v2/members/1234"),
            ("PUT", "/v2/admin/config"),
        ] {
            let response = member.send(&by(who, method, target))?;
            assert_eq!(response.status, 401, "{who:?} {method} {target}: {}", response.text());
        }
        let session = member.send(&by(who, "GET", "/mod/dashboard/api/session"))?.text();
        assert_eq!(session, r#"{"auth":true,"known":false}"#, "{who:?}");
    }
    assert_eq!(read_status(&member, "root:rootpw", "/secret")?, 200);
    Ok(())
}

#[test]
fn names_on_the_pages_and_in_bodies_are_names() -> Check {
    let (_folder, member) = guarded("auth-pages")?;
    let long = "x".repeat(1025);
    for name in ["%00", "a%0ab", "%ff", "%c2%85", "a%2fb", "a%2f..%2fb%2f", &long] {
        for page in ["users", "roles"] {
            for method in ["GET", "PUT", "DELETE"] {
                let response = ask(&member, "root:rootpw", method, &format!("/v2/auth/{page}/{name}"), "{}")?;
                // What has `..` in it leads to a redirect before.
                assert!(matches!(response.status, 400 | 301), "{method} {page}/{name}: {}", response.status);
                assert!(response.status == 301 || response.text().starts_with(r#"{"message":"#));
            }
        }
    }
    // The body does not say otherwise than the address.
    for body in [
        r#"{"user":"../../1/pub/x","password":"p"}"#,
        r#"{"user":"","password":"p"}"#,
        r#"{"user":"root","password":"p"}"#,
        r#"{"user":"bob","password":"p","roles":["../../1/pub/r"]}"#,
        r#"{"user":"bob","password":"p","roles":[""]}"#,
        r#"{"user":"bob","grant":["a/b"]}"#,
    ] {
        let response = ask(&member, "root:rootpw", "PUT", "/v2/auth/users/bob", body)?;
        assert_eq!(response.status, 400, "{body}: {}", response.text());
    }
    let response =
        ask(&member, "root:rootpw", "PUT", "/v2/auth/users/_x", r#"{"user":"_x","password":"p"}"#)?;
    assert_eq!(
        (response.status, response.text()),
        (400, r#"{"message":"auth: invalid user name \"_x\": a new name cannot start with _"}"#.to_owned())
    );
    // Names that people have.
    for (name, path) in [("a.b@c d", "a.b@c%20d"), ("é", "%c3%a9"), ("...", "..."), ("a%2fb", "a%252fb")] {
        let body = format!(r#"{{"user":"{name}","password":"p","roles":["pub"]}}"#);
        change(&member, "root:rootpw", &format!("users/{path}"), &body)?;
        assert_eq!(read_status(&member, &format!("{name}:p"), "/pub/none")?, 404, "{name}");
    }
    Ok(())
}

#[test]
fn no_page_leads_out_of_the_keys() -> Check {
    let (_folder, member) = guarded("auth-paths")?;
    for target in [
        "/v2/keys/../2/users/root",
        "/v2/keys/%2e%2e/2/users/root",
        "/v2/keys/..%2f2/users/root",
        "/v2/keys/pub/../secret",
        "/v2/keys/pub/%2e%2e/secret",
        "/v2/keys/pub/..%2fsecret",
        "/v2/keys/pub//x",
        "/v1/keys/../2/users/root",
        "/v1/keys/pub/%2e%2e/secret",
        "/v1/watch/pub/%2e%2e/secret",
        "/mod/v2/lock/../../2/users/root",
        "/mod/v2/lock/%2e%2e/%2e%2e/%2e%2e/%2e%2e/2/users/root",
        "/mod/v2/leader/..%2f..%2f..%2f..%2f2/users/root",
        "/mod/dashboard/api/keys/%2e%2e/2/users",
        "/mod/dashboard/api/node/%2e%2e/2/users",
        "/mod/dashboard/api/node/pub/..%2f..",
        "/mod/dashboard/api/search/pub/%2e%2e?text=s",
    ] {
        for (who, method) in
            [("ann:annpw", "GET"), ("ann:annpw", "PUT"), ("root:rootpw", "GET"), ("root:rootpw", "POST")]
        {
            let mut connection = Connection::open(member.client_port, LIMIT)?;
            let request = by(who, method, target).form(&[("value", "owned"), ("ttl", "9")]);
            let response = connection.call(&request, &member.host())?;
            // It is sent to the clean address, which is judged as any other.
            assert_eq!(response.status, 301, "{who} {method} {target}: {}", response.text());
        }
    }
    // An escape of an escape is a name like any other.
    let odd = "/pub/%252e%252e";
    assert_eq!(member.send(&put("ann:annpw", odd, "v"))?.status, 201);
    assert_eq!(read_status(&member, "ann:annpw", odd)?, 200);
    assert_eq!(member.send(&put("ann:annpw", "/secret", "v"))?.status, 401);
    assert_eq!(read_status(&member, "ann:annpw", "/secret")?, 401);
    Ok(())
}

#[test]
fn etcdctl_says_in_words_what_is_not_a_name() -> Check {
    let folder = files::scratch("auth-ctl")?;
    let member = Server::new(folder.path(), "m")?.started()?;
    let run = |number: usize, arguments: &[&str]| -> Check<(String, String)> {
        let mut command = Command::new(&programs::find()?.etcdctl);
        clean_environment(&mut command);
        command.env("ETCDCTL_ENDPOINTS", member.client_url()).args(arguments).stdin(Stdio::null());
        let log = folder.path().join(format!("ctl-{number}"));
        let mut process = Process::spawn(&mut command, &log)?;
        let how = describe(process.wait(LIMIT));
        Ok((how, files::read(&log)?))
    };
    let (one, _) = run(0, &["user", "get", "nobody"])?;
    for (number, (arguments, words)) in [
        (&["user", "add", ":p"][..], "The user name is empty"),
        (&["user", "add", ""], "The user name is empty"),
        (&["user", "get", ""], "The user name is empty"),
        (&["user", "remove", ""], "The user name is empty"),
        (&["user", "passwd", ""], "The user name is empty"),
        (&["user", "grant", "--roles", "r", ""], "The user name is empty"),
        (&["user", "grant", "--roles", "", "ann"], "The role name is empty"),
        (&["user", "revoke", "--roles", "a/b", "ann"], "a name cannot contain /"),
        (&["user", "add", "..:p"], "a name cannot be . or .."),
        (&["user", "add", "../enable:p"], "a name cannot contain /"),
        (&["user", "add", "_x:p"], "a new name cannot start with _"),
        (&["user", "get", "../roles"], "a name cannot contain /"),
        (&["role", "add", ""], "The role name is empty"),
        (&["role", "get", "."], "a name cannot be . or .."),
        (&["role", "remove", "a/b"], "a name cannot contain /"),
        (&["role", "grant", "--path", "/a", "--read", ""], "The role name is empty"),
    ]
    .into_iter()
    .enumerate()
    {
        let (how, said) = run(number + 1, arguments)?;
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert_eq!(how, one, "{arguments:?}: as for other names that are wrong");
    }
    // A key does not lead to another page either.
    let (_, said) = run(100, &["set", "../auth/enable", "x"])?;
    assert!(said.trim() == "x", "{said}");
    let value = member.call("GET", "/v2/keys/auth/enable")?.text();
    assert!(value.contains(r#""value":"x""#), "{value}");
    assert!(member.call("GET", "/v2/auth/enable")?.text().contains("false"));
    member.call("GET", "/version").context("the member lives")?;
    Ok(())
}

/// Logins that come at once.
const FLOOD: usize = 600;

/// How many of them may be computed while another user logs in. All waiting ones would be some hundred.
const COMPUTED_MAX: usize = 40;

/// Sends logins with wrong passwords at once, and does not wait for the answers.
fn flood(member: &Server, who: impl Fn(usize) -> String) -> Check<Vec<Connection>> {
    let mut logins = (0..FLOOD)
        .map(|_| Connection::open(member.client_port, LIMIT))
        .collect::<Check<Vec<Connection>>>()?;
    for (number, connection) in logins.iter_mut().enumerate() {
        connection.send(&by(&who(number), "GET", "/v2/keys/pub/x").bytes(&member.host()))?;
    }
    Ok(logins)
}

/// A right login of a user `uN`, which must not wait for many others.
fn login(member: &Server, number: usize) -> Check {
    let computed = || {
        let said = member.said();
        ["auth: incorrect password", "auth: no such user"]
            .map(|words| said.matches(words).count())
            .iter()
            .sum()
    };
    let before: usize = computed();
    assert_eq!(read_status(member, &format!("u{number}:u{number}pw"), "/pub/x")?, 404);
    let meanwhile: usize = computed() - before;
    if meanwhile > COMPUTED_MAX {
        fail!("{meanwhile} wrong passwords were computed before the right one");
    }
    Ok(())
}

#[test]
fn a_flood_of_wrong_passwords_holds_up_nobody_else() -> Check {
    let (_folder, mut member) = guarded("auth-flood")?;
    for user in ["u0", "u1", "u2"] {
        let body = format!(r#"{{"user":"{user}","password":"{user}pw","roles":["pub"]}}"#);
        change(&member, "root:rootpw", &format!("users/{user}"), &body)?;
    }
    // Wrong passwords of one user, and of users that are not there, each another: all from this machine.
    let wrong = flood(&member, |number| format!("root:wrong{number}"))?;
    login(&member, 0)?;
    let unknown = flood(&member, |number| format!("nobody{number}:x{number}"))?;
    login(&member, 1)?;
    // Those of clients that have left are not computed.
    drop((wrong, unknown));
    login(&member, 2)?;
    assert_eq!(read_status(&member, "root:rootpw", "/secret")?, 200);
    // Beyond the bound there is an error.
    let mut later = flood(&member, |number| format!("root:later{number}"))?;
    let refused =
        later.iter_mut().map(|connection| connection.response("GET")).find_map(|response| match response {
            Ok(response) if response.status == 503 => Some(response),
            _ => None,
        });
    let refused = refused.context("no login was refused")?;
    assert_eq!(refused.header("Retry-After").as_deref(), Some("1"));
    assert!(refused.text().contains(r#""errorCode":110"#), "{}", refused.text());
    // A running computation does not delay the end of the process.
    let begun = Instant::now();
    let ended = describe(member.stop());
    assert!(!ended.contains('9'), "it had to be killed after {:?}: {ended}", begun.elapsed());
    Ok(())
}

/// Less than any comparison of a password takes, and more than an answer without one.
const COMPARISON_MIN: Duration = Duration::from_millis(8);

#[test]
fn unknown_users_are_computed_like_wrong_passwords() -> Check {
    let (_folder, member) = guarded("auth-time")?;
    for who in ["ann", "nobody", "..", "", "../../1/pub/evil", "a\\0b"] {
        for number in 0..3 {
            let begun = Instant::now();
            assert_eq!(read_status(&member, &format!("{who}:wrong{number}"), "/pub/x")?, 401);
            // A busy machine makes it longer, and no machine compares in that time.
            let took = begun.elapsed();
            assert!(took > COMPARISON_MIN, "{who:?}: {took:?}");
        }
    }
    Ok(())
}

/// A watch that has begun.
fn watch(member: &Server, who: &str, target: &str) -> Check<Connection> {
    let mut connection = Connection::open(member.client_port, LIMIT)?;
    connection.send(&by(who, "GET", target).bytes(&member.host()))?;
    let head = connection.head()?;
    if head.status != 200 {
        fail!("{who:?} {target}: {}", head.status);
    }
    Ok(connection)
}

#[test]
fn a_watch_ends_with_the_right_to_it() -> Check {
    let folder = files::scratch("auth-watch")?;
    let member = Server::new(folder.path(), "m")?.started()?;
    let targets = [
        "/v2/keys/secret?wait=true",
        "/v2/keys/secret?wait=true&stream=true",
        "/v2/keys/?wait=true&recursive=true&stream=true",
        "/v1/watch/secret",
        "/mod/dashboard/api/keys/secret?wait=true",
    ];
    // Begun before there is any authentication.
    let mut guests: Vec<Connection> =
        targets.iter().map(|target| watch(&member, "", target)).collect::<Check<_>>()?;
    let mut wrong = watch(&member, "root:wrong", targets[0])?;
    let mut root = watch(&member, "root:rootpw", targets[0])?;
    let mut stranger = watch(&member, "", "/v2/keys/pub/a?wait=true")?;
    change(&member, "", "users/root", r#"{"user":"root","password":"rootpw"}"#)?;
    let permissions = r#""permissions":{"kv":{"read":["/pub/*"],"write":["/pub/*"]}}"#;
    for role in ["pub", "guest"] {
        change(&member, "", &format!("roles/{role}"), &format!(r#"{{"role":"{role}",{permissions}}}"#))?;
    }
    change(&member, "", "users/ann", r#"{"user":"ann","password":"annpw","roles":["pub"]}"#)?;
    change(&member, "", "enable", "")?;
    for guest in guests.iter_mut().chain([&mut wrong]) {
        guest.expect_closed(LIMIT)?;
    }
    assert!(matches!(member.send(&put("root:rootpw", "/secret", "1"))?.status, 200 | 201));
    let event = root.chunk()?.context("an event")?;
    assert!(String::from_utf8_lossy(&event).contains(r#""value":"1""#));

    // A right that is taken, a password that is changed, a user that is removed.
    let begin = || watch(&member, "ann:annpw", "/v2/keys/pub/b?wait=true&stream=true");
    let event = |connection: &mut Connection, value: &str| -> Check {
        assert_eq!(member.send(&put("root:rootpw", "/pub/b", value))?.status / 100, 2);
        let event = connection.chunk()?.context("an event")?;
        assert!(String::from_utf8_lossy(&event).contains(&format!(r#""value":"{value}""#)));
        Ok(())
    };
    let mut ann = begin()?;
    event(&mut ann, "1")?;
    // Of no concern to this watch.
    change(&member, "root:rootpw", "roles/other", r#"{"role":"other"}"#)?;
    event(&mut ann, "2")?;
    change(&member, "root:rootpw", "users/ann", r#"{"user":"ann","revoke":["pub"]}"#)?;
    assert_eq!(member.send(&put("root:rootpw", "/pub/b", "3"))?.status, 200);
    ann.expect_closed(LIMIT)?;
    assert_eq!(read_status(&member, "ann:annpw", "/pub/b")?, 401);
    change(&member, "root:rootpw", "users/ann", r#"{"user":"ann","grant":["pub"]}"#)?;
    let mut ann = begin()?;
    change(&member, "root:rootpw", "users/ann", r#"{"user":"ann","password":"new"}"#)?;
    ann.expect_closed(LIMIT)?;
    let mut ann = watch(&member, "ann:new", "/v2/keys/pub/b?wait=true")?;
    assert_eq!(ask(&member, "root:rootpw", "DELETE", "/v2/auth/users/ann", "")?.status, 200);
    ann.expect_closed(LIMIT)?;
    // Users who keep the right continue.
    assert_eq!(member.send(&put("root:rootpw", "/pub/a", "9"))?.status, 201);
    let event = stranger.chunk()?.context("an event")?;
    assert!(String::from_utf8_lossy(&event).contains(r#""value":"9""#));
    Ok(())
}

#[test]
fn a_wait_for_a_lock_ends_with_the_right_to_it() -> Check {
    let (_folder, member) = guarded("auth-lock")?;
    let locks =
        r#"{"role":"pub","grant":{"kv":{"read":["/_etcd/mod/lock/*"],"write":["/_etcd/mod/lock/*"]}}}"#;
    change(&member, "root:rootpw", "roles/pub", locks)?;
    let held = member.send(&by("root:rootpw", "POST", "/mod/v2/lock/x?ttl=100"))?;
    assert_eq!(held.status, 200);
    let mut waiting = Connection::open(member.client_port, LIMIT)?;
    waiting.send(&by("ann:annpw", "POST", "/mod/v2/lock/x?ttl=100&value=ann").bytes(&member.host()))?;
    let begun = Instant::now();
    let queue = "/v2/keys/_etcd/mod/lock/x";
    while !member.send(&by("root:rootpw", "GET", queue))?.text().contains(r#""value":"ann""#) {
        assert!(begun.elapsed() < LIMIT, "ann does not wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    change(&member, "root:rootpw", "users/ann", r#"{"user":"ann","revoke":["pub"]}"#)?;
    let answer = waiting.response("POST")?;
    assert_eq!((answer.status, answer.text()), (401, r#"{"message":"Insufficient credentials"}"#.to_owned()));
    // Its place is given up.
    while member.send(&by("root:rootpw", "GET", queue))?.text().contains(r#""value":"ann""#) {
        assert!(begun.elapsed() < LIMIT, "ann still waits");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn what_shows_or_changes_the_process_is_for_root() -> Check {
    let (_folder, member) = guarded("auth-process")?;
    let level = |who: &str| -> Check<u16> {
        Ok(ask(&member, who, "PUT", "/config/local/log", r#"{"Level":"INFO"}"#)?.status)
    };
    assert_eq!((level("")?, level("ann:annpw")?, level("root:wrong")?), (401, 401, 401));
    assert_eq!(level("root:rootpw")?, 204);
    let shows_flags = |who: &str| -> Check<bool> {
        let response = member.send(&by(who, "GET", "/debug/vars"))?;
        assert!(response.status == 200 && response.text().contains("raft.status"));
        Ok(response.text().contains("data-dir"))
    };
    assert_eq!((shows_flags("")?, shows_flags("ann:annpw")?, shows_flags("root:x")?), (false, false, false));
    assert!(shows_flags("root:rootpw")?);
    assert_eq!(ask(&member, "root:rootpw", "DELETE", "/v2/auth/enable", "")?.status, 200);
    assert!(shows_flags("")? && level("")? == 204);
    Ok(())
}

#[test]
fn a_strangers_large_body_is_not_taken_in() -> Check {
    let (_folder, member) = guarded("auth-body")?;
    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";
    for (who, target, kind) in [
        ("", "/v2/keys/secret", FORM),
        ("ann:annpw", "/v2/keys/secret", FORM),
        ("ann:wrong", "/v2/keys/pub/x", FORM),
        ("", "/v1/keys/secret", FORM),
        ("", "/mod/dashboard/api/keys/secret", FORM),
        ("", "/mod/v2/lock/x", FORM),
        ("", "/v2/auth/users/x", JSON),
        ("ann:annpw", "/v2/members/1", JSON),
        ("", "/v2/admin/config", JSON),
        ("", "/config/local/log", JSON),
        // No page wants these.
        ("", "/v2/keys/secret", "text/plain"),
        ("", "/v2/members", "text/plain"),
        ("", "/mod/v2/lock/x", "text/plain"),
    ] {
        let mut request = by(who, "PUT", target);
        request.headers.push(("Content-Type".to_owned(), kind.to_owned()));
        request.headers.push(("Content-Length".to_owned(), "1000000".to_owned()));
        request.body = b"value=".to_vec();
        let mut connection = Connection::open(member.client_port, LIMIT)?;
        // The rest is never sent.
        let response = connection.call(&request, &member.host())?;
        assert_eq!(response.status, 401, "{who:?} {target}: {}", response.text());
    }
    // Users with the right to write it do.
    let value = "v".repeat(1_000_000);
    assert_eq!(member.send(&put("ann:annpw", "/pub/large", &value))?.status, 201);
    assert_eq!(member.send(&put("", "/pub/large", &value))?.status, 200);
    Ok(())
}

#[test]
fn bodies_of_all_connections_share_a_room() -> Check {
    let folder = files::scratch("auth-bodies")?;
    let member = Server::new(folder.path(), "m")?.started()?;
    let length = 16 * 1000 * 1000;
    let head = format!(
        "PUT /v2/keys/x HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\nvalue="
    );
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, member.client_port))?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.write_all(head.as_bytes())?;
        // All but the end.
        socket.write_all(&vec![b'v'; length - 6 - 1])?;
        held.push(socket);
    }
    let value = "v".repeat(8 * 1000 * 1000);
    let mut last = Connection::open(member.client_port, LIMIT)?;
    let request = Request::new("PUT", "/v2/keys/y").form(&[("value", &value)]);
    // It waits for room, and gets that of stalled bodies.
    last.send(&request.bytes(&member.host()))?;
    assert_eq!(last.response("PUT")?.status, 201);
    // Small ones need no room.
    member.set("/small", "v")?;
    let mut cut_off = 0;
    for socket in &mut held {
        socket.set_read_timeout(Some(LIMIT))?;
        let mut answer = [0; 64];
        let length = socket.read(&mut answer).unwrap_or(0);
        cut_off += usize::from(answer[..length].starts_with(b"HTTP/1.1 503"));
        if cut_off > 0 {
            break;
        }
    }
    assert!(cut_off > 0, "nobody had to give up room");
    drop(held);
    assert_eq!(member.send(&request)?.status, 200);
    Ok(())
}

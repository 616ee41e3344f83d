//! Requests that do not arrive whole: on no port, by no page and by no method do they change anything.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::http::{Connection, PATIENCE};
use tests::server::{START_LIMIT, Server};
use tests::{Check, Context, fail, files};

/// The beginning of bodies: their headers, and the part that is sent before the client disconnects.
const BROKEN: [(&str, &str); 10] = [
    ("Content-Length: 10", ""),
    ("Content-Length: 10", "value=new"),
    ("Content-Length: 300000", "value=new"),
    ("Transfer-Encoding: chunked", ""),
    ("Transfer-Encoding: chunked", "5"),
    ("Transfer-Encoding: chunked", "9\r\nvalue"),
    ("Transfer-Encoding: chunked", "9\r\nvalue=new\r\n"),
    ("Transfer-Encoding: chunked", "9\r\nvalue=new\r\n0\r\n"),
    ("Connection: close\r\nContent-Length: 10", "value=new"),
    // It does not wait for leave to send its body.
    ("Expect: 100-continue\r\nContent-Length: 10", "value=new"),
];

/// Invalid bodies, whether or not the client disconnects.
const MALFORMED: [(&str, &str); 4] = [
    ("Transfer-Encoding: chunked", "zz\r\nvalue=new\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "9\r\nvalue=new!\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "fffffffffffffffff\r\nvalue=new\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "-9\r\nvalue=new\r\n0\r\n\r\n"),
];

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The requests on a client port, also of a proxy: method, target, content type.
fn of_keys() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut requests = Vec::new();
    for content_type in ["", "text/plain", FORM, "multipart/form-data; boundary=x", JSON] {
        requests.extend([
            ("PUT", "/v2/keys/kept", content_type),
            ("PUT", "/v2/keys/kept?value=new", content_type),
            ("PUT", "/v2/keys/kept?prevValue=old&value=new", content_type),
            ("PUT", "/v2/keys/kept?ttl=1&prevExist=true", content_type),
            ("PUT", "/v2/keys/made?dir=true", content_type),
            ("POST", "/v2/keys/queue?value=new", content_type),
            ("DELETE", "/v2/keys/kept", content_type),
            ("DELETE", "/v2/keys/dir?recursive=true", content_type),
        ]);
    }
    requests
}

/// Further requests on a client port.
fn of_pages(member: &str) -> Vec<(&'static str, String, &'static str)> {
    let mut requests = Vec::new();
    for (method, target, content_type) in [
        ("PUT", "/v1/keys/kept?value=new", ""),
        ("POST", "/v1/keys/kept?value=new", FORM),
        ("DELETE", "/v1/keys/kept", ""),
        ("PUT", "/mod/dashboard/api/keys/kept?value=new", "text/plain"),
        ("DELETE", "/mod/dashboard/api/keys/kept", ""),
        ("POST", "/mod/v2/lock/l?ttl=60&value=x", ""),
        ("PUT", "/mod/v2/leader/l?ttl=60&name=x", FORM),
        ("DELETE", "/mod/v2/lock/held?index=1&value=", ""),
        ("DELETE", "/mod/v2/leader/held?name=holder", ""),
        ("PUT", "/v2/auth/users/u", JSON),
        ("DELETE", "/v2/auth/users/kept", JSON),
        ("PUT", "/v2/auth/roles/r", JSON),
        ("DELETE", "/v2/auth/roles/kept", ""),
        ("PUT", "/v2/auth/enable", ""),
        ("DELETE", "/v2/auth/enable", ""),
        ("POST", "/v2/members", JSON),
        ("PUT", "/v2/admin/config", JSON),
        ("DELETE", "/v2/admin/machines/m", ""),
        ("PUT", "/config/local/log", JSON),
    ] {
        requests.push((method, target.to_owned(), content_type));
    }
    requests.push(("PUT", format!("/v2/members/{member}"), JSON));
    requests.push(("DELETE", format!("/v2/members/{member}"), ""));
    requests
}

/// How a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientExit {
    /// It closes its side, and reads what there is to read.
    Fin,
    /// It closes the connection.
    Reset,
}

/// Sends what there is of a request, and goes. The answer, where one may come.
fn break_off(port: u16, head: &str, body: &str, end: ClientExit) -> Check<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    if end == ClientExit::Reset {
        // With an answer unread, the kernel resets the connection when it is closed.
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")?;
        stream.peek(&mut [0])?;
    }
    // The server may have closed before: it needs no more to refuse the request.
    let sent = stream.write_all(format!("{head}{body}").as_bytes());
    if end == ClientExit::Reset {
        return Ok(String::new());
    }
    if sent.is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn head(method: &str, target: &str, content_type: &str, framing: &str) -> String {
    let content_type =
        if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{content_type}{framing}\r\n\r\n")
}

/// Everything that a request could have changed. Reading it writes nothing.
fn state(server: &Server) -> Check<Vec<String>> {
    let mut state = vec![server.index()?.to_string()];
    for target in [
        "/v2/keys/?recursive=true",
        "/v2/keys/_etcd?recursive=true",
        "/v2/members",
        "/v2/auth/users",
        "/v2/auth/roles",
        "/v2/auth/enable",
    ] {
        let text = server.call("GET", target)?.text();
        // Its time goes on.
        state.push(
            text.split("\"ttl\":")
                .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
                .collect(),
        );
    }
    Ok(state)
}

fn prepared(folder: &Path) -> Check<(Server, String)> {
    let server = Server::new(folder, "m")?.started()?;
    server.set("/kept", "old")?;
    server.set("/dir/below", "old")?;
    let put = |target: &str, body: &str| {
        server.send(&tests::http::Request {
            method: "PUT".into(),
            target: target.into(),
            headers: vec![("Content-Type".into(), JSON.into())],
            body: body.into(),
        })
    };
    assert_eq!(put("/v2/auth/users/kept", r#"{"user":"kept","password":"p"}"#)?.status, 201);
    assert_eq!(
        put("/v2/auth/roles/kept", r#"{"role":"kept","permissions":{"kv":{"read":[],"write":[]}}}"#)?.status,
        201
    );
    let held = server.send(&tests::http::Request::new("POST", "/mod/v2/lock/held?ttl=3600&value=holder"))?;
    assert_eq!(held.status, 200, "{}", held.text());
    let members = server.call("GET", "/v2/members")?.text();
    let id = members.split('"').nth(5).context("no id")?.to_owned();
    Ok((server, id))
}

fn check_all(server: &Server, port: u16, requests: &[(&str, String, &str)], answers: bool) -> Check {
    let before = state(server)?;
    for (method, target, content_type) in requests {
        let ends = [ClientExit::Fin, ClientExit::Reset];
        let broken = BROKEN.iter().chain(&MALFORMED).flat_map(|body| ends.map(|end| (body, end)));
        for ((framing, body), end) in broken {
            let what = format!("{method} {target} ({content_type}; {framing}; {body:?}; {end:?})");
            let answer = break_off(port, &head(method, target, content_type, framing), body, end)
                .context(what.clone())?;
            let last = answer.rsplit("HTTP/1.1 ").next().unwrap_or_default();
            let status = last.split(' ').next().unwrap_or_default();
            // A peer port may close without an answer; `100 Continue` comes before the answer.
            let refused = status.starts_with('4') || status.starts_with('5');
            let is_silent = answer.is_empty() || status == "100";
            if end == ClientExit::Fin && !refused && (answers || !is_silent) {
                fail!("{what} was answered {answer:?}");
            }
        }
        let after = state(server)?;
        assert_eq!(after, before, "{method} {target} ({content_type}) has changed something");
    }
    Ok(())
}

#[test]
fn a_write_that_breaks_off_changes_no_key() -> Check {
    let folder = files::scratch("broken-keys")?;
    let (server, _) = prepared(folder.path())?;
    let requests: Vec<_> =
        of_keys().into_iter().map(|(method, target, kind)| (method, target.to_owned(), kind)).collect();
    check_all(&server, server.client_port, &requests, true)
}

#[test]
fn a_request_that_breaks_off_does_nothing_on_any_page() -> Check {
    let folder = files::scratch("broken-pages")?;
    let (mut server, member) = prepared(folder.path())?;
    let level = |server: &Server| server.said().matches("globalLogLevel set").count();
    check_all(&server, server.client_port, &of_pages(&member), true)?;
    let of_peers: Vec<_> = [
        ("PUT", "/v2/admin/config", JSON),
        ("DELETE", "/v2/admin/machines/m", ""),
        ("DELETE", "/remove/m", ""),
        ("POST", "/raft", "application/protobuf"),
        ("POST", "/raft/snapshot", "application/octet-stream"),
    ]
    .map(|(method, target, kind)| (method, target.to_owned(), kind))
    .into();
    check_all(&server, server.peer_port, &of_peers, false)?;
    assert!(server.alive());
    assert_eq!(level(&server), 0);
    Ok(())
}

#[test]
fn a_proxy_passes_no_broken_body_on() -> Check {
    let folder = files::scratch("broken-proxy")?;
    let (server, _) = prepared(folder.path())?;
    let mut proxy = Server::new(folder.path(), "proxy")?.with_args(["-proxy", "on"]);
    proxy.initial_cluster = server.initial_cluster.clone();
    proxy.start()?;
    let begun = Instant::now();
    while !proxy.call("GET", "/v2/keys").is_ok_and(|answer| answer.status == 200) {
        if begun.elapsed() > START_LIMIT {
            fail!("the proxy does not serve: {}", proxy.last_words());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let requests: Vec<_> =
        of_keys().into_iter().map(|(method, target, kind)| (method, target.to_owned(), kind)).collect();
    check_all(&server, proxy.client_port, &requests[..16], true)?;
    // Complete requests succeed.
    let framing = "Transfer-Encoding: chunked";
    let mut client = Connection::open(proxy.client_port, PATIENCE)?;
    client.send(head("PUT", "/v2/keys/whole?value=1", "text/plain", framing).as_bytes())?;
    client.send(b"3\r\nabc\r\n0\r\n\r\n")?;
    assert_eq!(client.response("PUT")?.status, 201);
    Ok(())
}

#[test]
fn a_client_that_closes_its_side_behind_a_whole_request_is_answered() -> Check {
    let folder = files::scratch("whole")?;
    let (server, _) = prepared(folder.path())?;
    for (method, target, content_type, framing, body, wanted) in [
        ("PUT", "/v2/keys/a", FORM, "Content-Length: 7", "value=1", "201"),
        ("PUT", "/v2/keys/b?value=1", "text/plain", "Content-Length: 3", "abc", "201"),
        ("PUT", "/v2/keys/c?value=1", "", "Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", "201"),
        (
            "PUT",
            "/v2/keys/d",
            FORM,
            "Transfer-Encoding: chunked",
            "7;x=y\r\nvalue=1\r\n0\r\nX: y\r\n\r\n",
            "201",
        ),
        ("POST", "/v2/keys/q?value=1", "text/plain", "Connection: close\r\nContent-Length: 3", "abc", "201"),
        ("DELETE", "/v2/keys/a", FORM, "Content-Length: 3", "abc", "200"),
        ("PUT", "/v1/keys/e?value=1", "", "Content-Length: 3", "abc", "200"),
        ("PUT", "/v2/admin/config", JSON, "Content-Length: 2", "{}", "200"),
        ("DELETE", "/v2/auth/users/kept", JSON, "Content-Length: 3", "abc", "200"),
    ] {
        let answer = break_off(
            server.client_port,
            &head(method, target, content_type, framing),
            body,
            ClientExit::Fin,
        )?;
        assert_eq!(answer.split(' ').nth(1), Some(wanted), "{method} {target}: {answer}");
    }
    // A body that the page does not use is read to its end, however long, and the connection stays open.
    let long = "x".repeat(400_000);
    let request = head("PUT", "/v2/keys/long?value=1", "text/plain", "Content-Length: 400000");
    let again = head("GET", "/v2/keys/long", "", "X: y");
    let answer = break_off(server.client_port, &request, &format!("{long}{again}"), ClientExit::Fin)?;
    assert_eq!(answer.matches("\"key\":\"/long\"").count(), 2, "{answer}");
    Ok(())
}

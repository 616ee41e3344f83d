//! What a client without the right to do so tries against a server with authentication switched on.

use std::process::{Command, Stdio};
use std::time::Duration;

use tests::http::{Connection, Request, Response};
use tests::process::{Process, clean_environment, describe};
use tests::server::Server;
use tests::{Check, Context, fail, files, programs};

/// What one answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// `wonder`, hashed by Go.
const WONDER: &str = "$2a$10$HD7Nhmkhvrsn5arHARu3ju8nYZ8mH9sj2is9kNHP2fhjTDy6AVj2i";

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let at = (group >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { char::from(ALPHABET[at as usize]) } else { '=' });
        }
    }
    out
}

/// A request of a user, `NAME:PASSWORD`; of a guest if that is empty.
fn by(who: &str, method: &str, target: &str) -> Request {
    let mut request = Request::new(method, target);
    if !who.is_empty() {
        let value = format!("Basic {}", base64(who.as_bytes()));
        request.headers.push(("Authorization".to_owned(), value));
    }
    request
}

fn with_body(mut request: Request, body: impl Into<Vec<u8>>) -> Request {
    request.body = body.into();
    request
}

fn ask(member: &Server, who: &str, method: &str, target: &str, body: &str) -> Check<Response> {
    member.send(&with_body(by(who, method, target), body))
}

/// The same, which must succeed.
fn change(member: &Server, who: &str, page: &str, body: &str) -> Check {
    let response = ask(member, who, "PUT", &format!("/v2/auth/{page}"), body)?;
    if !matches!(response.status, 200 | 201) {
        fail!("{page} {body}: {} {}", response.status, response.text());
    }
    Ok(())
}

fn put(who: &str, key: &str, value: &str) -> Request {
    by(who, "PUT", &format!("/v2/keys{key}")).form(&[("value", value)])
}

fn read_status(member: &Server, who: &str, key: &str) -> Check<u16> {
    Ok(member.send(&by(who, "GET", &format!("/v2/keys{key}")))?.status)
}

/// A member with the users `root` and `ann`, whose role may read and write `/pub/*`, guests that may do the same, and
/// authentication switched on.
fn guarded(name: &str) -> Check<(tempfile::TempDir, Server)> {
    let folder = files::scratch(name)?;
    let member = Server::new(folder.path(), "m")?.started()?;
    member.set("/secret", "s")?;
    change(&member, "", "users/root", r#"{"user":"root","password":"rootpw"}"#)?;
    let pub_only = r#""permissions":{"kv":{"read":["/pub/*"],"write":["/pub/*"]}}"#;
    for role in ["pub", "guest"] {
        change(&member, "", &format!("roles/{role}"), &format!(r#"{{"role":"{role}",{pub_only}}}"#))?;
    }
    change(&member, "", "users/ann", r#"{"user":"ann","password":"annpw","roles":["pub"]}"#)?;
    change(&member, "", "enable", "")?;
    Ok((folder, member))
}

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

//! Requests as browsers send them on behalf of pages that their users opened elsewhere.

use tests::http::{self, Connection, PATIENCE, Request, Response};
use tests::server::Server;
use tests::{Check, files};

const EVIL: (&str, &str) = ("Origin", "http://evil.example");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn ask(port: u16, method: &str, target: &str, body: &str, headers: &[(&str, &str)]) -> Check<Response> {
    let mut request = Request::new(method, target);
    request.body = body.as_bytes().to_vec();
    request.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    http::call(port, &request, PATIENCE)
}

#[test]
fn a_page_of_another_origin_changes_nothing_but_keys() -> Check {
    let folder = files::scratch("browsers")?;
    let server = Server::new(folder.path(), "m")?.with_args(["-cors", "http://friend.example"]).started()?;
    let port = server.client_port;
    let changes = [
        ("PUT", "/mod/dashboard/api/keys/a", "value=1", FORM),
        ("POST", "/mod/v2/lock/a?ttl=60", "value=1", FORM),
        ("PUT", "/mod/v2/leader/a?ttl=60", "name=x", FORM),
        (
            "POST",
            "/v2/members",
            "{\"peerURLs\":[\"http://127.0.0.1:1\"]}",
            ("Content-Type", "application/json"),
        ),
        ("PUT", "/v2/auth/users/root", "{\"user\":\"root\",\"password\":\"x\"}", FORM),
        ("PUT", "/v2/auth/enable", "", FORM),
        ("PUT", "/v2/admin/config", "{}", FORM),
        ("PUT", "/config/local/log", "{\"Level\":\"DEBUG\"}", FORM),
    ];
    for (method, target, body, kind) in changes {
        for headers in [
            &[EVIL, kind][..],
            &[("Sec-Fetch-Site", "cross-site"), kind],
            &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://127.0.0.1:1"), kind],
            &[("Origin", "null"), kind],
        ] {
            let answer = ask(port, method, target, body, headers)?;
            assert_eq!(answer.status, 403, "{method} {target} {headers:?}: {}", answer.text());
            assert!(answer.text().contains("-cors"), "{}", answer.text());
        }
    }
    assert_eq!(server.call("GET", "/v2/keys/a")?.status, 404);
    assert_eq!(server.call("GET", "/v2/members")?.text().matches("peerURLs").count(), 1);
    // The body of a refused request is not taken for a request.
    let mut connection = Connection::open(port, PATIENCE)?;
    let mut request = Request::new("PUT", "/mod/dashboard/api/keys/a").form(&[("value", "1")]);
    request.headers.push((EVIL.0.to_owned(), EVIL.1.to_owned()));
    for _ in 0..2 {
        assert_eq!(connection.call(&request, &server.host())?.status, 403);
    }
    let own = format!("http://{}", server.host());
    for origin in [own.as_str(), "http://friend.example"] {
        let answer = ask(port, "PUT", "/mod/dashboard/api/keys/b", "value=1", &[("Origin", origin), FORM])?;
        assert!(matches!(answer.status, 200 | 201), "{origin}: {}", answer.text());
    }
    let behind_a_proxy = [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://etcd.example"), FORM];
    let answer = ask(port, "PUT", "/mod/dashboard/api/keys/b", "value=1", &behind_a_proxy)?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Keys are open as they always were.
    assert_eq!(ask(port, "PUT", "/v2/keys/c", "value=1", &[EVIL, FORM])?.status, 201);
    assert_eq!(ask(port, "GET", "/mod/dashboard/api/cluster", "", &[EVIL])?.status, 200);
    assert_eq!(ask(port, "OPTIONS", "/v2/members", "", &[EVIL])?.status, 200);
    // Nor does such a page change anything by the peer port.
    for (method, target) in [
        ("PUT", "/v2/admin/config"),
        ("DELETE", "/v2/admin/machines/m"),
        ("DELETE", "/remove/m"),
        ("POST", "/raft"),
    ] {
        let answer = ask(server.peer_port, method, target, "{}", &[("Origin", &server.peer_url()), FORM])?;
        assert_eq!(answer.status, 403, "{method} {target}: {}", answer.text());
    }
    Ok(())
}

#[test]
fn keys_are_closed_where_that_is_wanted() -> Check {
    let folder = files::scratch("browsers")?;
    let server = Server::new(folder.path(), "m")?.with_args(["-keys-same-origin"]).started()?;
    let port = server.client_port;
    server.set("/a", "1")?;
    for (method, target) in
        [("PUT", "/v2/keys/a"), ("POST", "/v2/keys/a"), ("DELETE", "/v2/keys/a"), ("POST", "/v1/keys/a")]
    {
        let answer = ask(port, method, target, "value=2", &[EVIL, FORM])?;
        assert_eq!(answer.status, 403, "{method} {target}: {}", answer.text());
    }
    assert!(ask(port, "GET", "/v2/keys/a", "", &[EVIL])?.text().contains("\"value\":\"1\""));
    let own = format!("http://{}", server.host());
    assert_eq!(ask(port, "PUT", "/v2/keys/a", "value=2", &[("Origin", &own), FORM])?.status, 200);
    Ok(())
}

#[test]
fn requests_for_other_hosts_are_refused_everywhere() -> Check {
    let folder = files::scratch("browsers")?;
    let args = ["-host-whitelist", "etcd.example,127.0.0.1"];
    let member = Server::new(folder.path(), "m")?.with_args(args).started()?;
    let mut proxy = Server::new(folder.path(), "p")?.with_args(args).with_args(["-proxy", "on"]);
    proxy.initial_cluster = member.initial_cluster.clone();
    let proxy = proxy.started()?;
    let pages =
        ["/v2/keys/a", "/v2/keys?wait=true", "/v2/members", "/version", "/health", "/metrics", "/no/page"];
    for server in [&member, &proxy] {
        let port = server.client_port;
        for target in pages {
            for method in ["GET", "PUT", "OPTIONS"] {
                let answer = ask(port, method, target, "", &[("Host", "evil.example:2379")])?;
                assert_eq!(answer.status, 421, "{method} {target}: {}", answer.text());
                assert!(answer.text().contains("-host-whitelist"), "{}", answer.text());
            }
        }
        // On one connection, which was used for a host that is known.
        let mut connection = Connection::open(port, PATIENCE)?;
        for (host, wanted) in
            [("etcd.example", 404), ("evil.example", 421), ("127.0.0.1:1", 404), ("evil", 421)]
        {
            let answer = connection.call(&Request::new("GET", "/v2/keys/a"), host)?;
            assert_eq!(answer.status, wanted, "{host}: {}", answer.text());
        }
    }
    Ok(())
}

#[test]
fn the_dashboard_is_not_served_to_names_of_others() -> Check {
    let folder = files::scratch("browsers")?;
    let server =
        Server::new(folder.path(), "m")?.with_args(["-host-whitelist", "*,door.example"]).started()?;
    let port = server.client_port;
    for target in ["/mod/dashboard/", "/mod/dashboard/api/cluster", "/mod/dashboard/api/keys/"] {
        assert_eq!(ask(port, "GET", target, "", &[("Host", "evil.example")])?.status, 421, "{target}");
        for host in ["localhost:2379", "127.0.0.1", "[::1]:80", "door.example"] {
            assert_eq!(ask(port, "GET", target, "", &[("Host", host)])?.status, 200, "{target} {host}");
        }
    }
    assert_eq!(ask(port, "GET", "/v2/keys/", "", &[("Host", "evil.example")])?.status, 200);
    Ok(())
}

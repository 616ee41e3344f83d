//! Pages of a running member: HEAD, media types, times to live.

use tests::http::{self, PATIENCE, Request, Response};
use tests::server::Server;
use tests::{Check, files};

fn head_and_get(port: u16, target: &str) -> Check<(Response, Response)> {
    let [head, get] = ["HEAD", "GET"].map(|method| http::call(port, &Request::new(method, target), PATIENCE));
    Ok((head?, get?))
}

#[test]
fn head_is_answered_as_get_on_all_ports() -> Check {
    let folder = files::scratch("head")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    for (port, target) in [
        (server.client_port, "/health"),
        (server.client_port, "/debug/vars"),
        (server.client_port, "/v2/auth/enable"),
        (server.peer_port, "/version"),
        (server.peer_port, "/members"),
        (server.peer_port, "/raft/probing"),
        (server.peer_port, "/name"),
        (server.peer_port, "/etcdURL"),
        (server.peer_port, "/v2/admin/machines"),
    ] {
        let (head, get) = head_and_get(port, target)?;
        assert_eq!((head.status, get.status), (200, 200), "{target}");
        assert_eq!(head.body.len(), 0, "{target}");
        assert_eq!(head.header("Content-Type"), get.header("Content-Type"), "{target}");
        assert!(head.number("Content-Length").is_some_and(|length| length > 0), "{target}: {head:?}");
    }
    // As recorded of the original.
    for target in ["/version", "/v2/members", "/v2/stats/self"] {
        assert_eq!(head_and_get(server.client_port, target)?.0.status, 405, "{target}");
    }
    // A stream for other members does not exist for HEAD.
    assert_eq!(head_and_get(server.peer_port, "/raft/stream/message/1")?.0.status, 405);
    Ok(())
}

#[test]
fn peers_are_not_served_what_two_would_read_differently() -> Check {
    let folder = files::scratch("coding")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    for coding in ["gzip, chunked", "chunked, chunked"] {
        for target in ["/raft", "/v2/admin/config", "/version"] {
            let mut request = Request::new("POST", target);
            request.headers.push(("Transfer-Encoding".into(), coding.into()));
            request.body = b"0\r\n\r\n".to_vec();
            let answer = http::call(server.peer_port, &request, PATIENCE)?;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (501, "Unsupported transfer encoding"),
                "{target}"
            );
        }
    }
    Ok(())
}

#[test]
fn members_are_added_by_json_of_any_charset() -> Check {
    let folder = files::scratch("charset")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    for (number, content_type) in
        [(1, "application/json; charset=utf-8"), (2, "Application/JSON"), (3, "application/json")].into_iter()
    {
        let mut request = Request::new("PUT", "/v2/members/abc");
        request.headers.push(("Content-Type".into(), content_type.into()));
        request.body = format!("{{\"peerURLs\":[\"http://127.0.0.1:{number}\"]}}").into_bytes();
        assert_eq!(server.send(&request)?.status, 404, "{content_type}");
        request.method = "POST".into();
        request.target = "/v2/members".into();
        request.body = b"{\"peerURLs\":[]}".to_vec();
        let answer = server.send(&request)?;
        assert_eq!((answer.status, answer.text().as_str()), (400, "{\"message\":\"no valid URLs given\"}"));
    }
    for content_type in ["application/jsonp", "text/json", "application/json; ;"] {
        let mut request = Request::new("POST", "/v2/members");
        request.headers.push(("Content-Type".into(), content_type.into()));
        request.body = b"{\"peerURLs\":[]}".to_vec();
        assert_eq!(server.send(&request)?.status, 415, "{content_type}");
    }
    Ok(())
}

#[test]
fn no_time_to_live_is_taken_for_another_one() -> Check {
    let folder = files::scratch("ttl")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    // Beyond April 2262 there is no time: such keys stay, also where the number would wrap around to now or to
    // before.
    for ttl in
        ["9223372036854775807", "9223372036854775808", "18446744073709551615", "9223372037", "18446744074"]
    {
        for (method, target) in [
            ("PUT", format!("/v2/keys/a?value=2&ttl={ttl}")),
            ("PUT", format!("/v2/keys/a?refresh=true&prevExist=true&ttl={ttl}")),
            ("PUT", format!("/v2/keys/a?value=2&prevExist=true&ttl={ttl}")),
            ("PUT", format!("/v2/keys/d{ttl}?dir=true&ttl={ttl}")),
            ("POST", format!("/v2/keys/q?value=2&ttl={ttl}")),
            ("PUT", format!("/v1/keys/one?value=2&ttl={ttl}")),
        ] {
            // What v1 takes has a sign.
            if target.starts_with("/v1/") && ttl.parse::<i64>().is_err() {
                continue;
            }
            let answer = server.call(method, &target)?;
            assert!(matches!(answer.status, 200 | 201), "{target}: {}", answer.text());
            assert!(!answer.text().contains("expiration"), "{target}: {}", answer.text());
        }
    }
    // By then they would have gone: a key that lives for a second has.
    server.call("PUT", "/v2/keys/short?value=1&ttl=1")?;
    let begun = std::time::Instant::now();
    while server.call("GET", "/v2/keys/short")?.status == 200 {
        assert!(begun.elapsed() < PATIENCE, "the short one stays");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let listing = server.call("GET", "/v2/keys/?recursive=true")?.text();
    assert!(
        !listing.contains("expiration") && listing.contains("\"/a\"") && listing.contains("\"/one\""),
        "{listing}"
    );
    assert_eq!(listing.matches("\"/q/").count(), 5, "{listing}");
    // Until 2262 every time is kept.
    let answer = server.call("PUT", "/v2/keys/late?value=1&ttl=7000000000")?;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(answer.text().contains("\"ttl\":7000000000,"), "{}", answer.text());
    assert_eq!(server.call("GET", "/v2/keys/late")?.status, 200);
    for target in
        ["/v2/keys/a?wait=true&waitIndex=18446744073709551616", "/v2/keys/a?prevIndex=18446744073709551616"]
    {
        assert_eq!(server.call("GET", target)?.status, 400, "{target}");
    }
    Ok(())
}

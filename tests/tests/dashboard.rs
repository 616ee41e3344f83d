//! The dashboard's API, without a browser: the page's headers, its requests, read-only mode, off, auth.

use serde_json::Value;
use tests::http::Request;
use tests::server::{self, Server};
use tests::{Check, Context, fail, files};

const PAGE: &str = "/mod/dashboard/";

fn member(args: &[&str]) -> Check<(tempfile::TempDir, Server)> {
    let folder = files::scratch("dashboard")?;
    let member = Server::new(folder.path(), "m1")?.with_args(args).started()?;
    Ok((folder, member))
}

fn json(member: &Server, target: &str) -> Check<Value> {
    let answer = member.call("GET", target)?;
    if answer.status != 200 {
        fail!("GET {target}: {} {}", answer.status, answer.text());
    }
    Ok(serde_json::from_slice(&answer.body)?)
}

fn with(method: &str, target: &str, header: &str, value: &str) -> Request {
    let mut request = Request::new(method, target);
    request.headers.push((header.into(), value.into()));
    request
}

#[test]
fn the_page_is_served_with_a_strict_policy_and_kept_by_its_content() -> Check {
    let (_folder, member) = member(&[])?;
    let moved = member.call("GET", "/mod/dashboard")?;
    assert_eq!((moved.status, moved.header("Location").as_deref()), (302, Some(PAGE)));

    let page = member.call("GET", PAGE)?;
    let header = |name: &str| page.header(name).unwrap_or_default();
    assert_eq!((page.status, header("Content-Type").as_str()), (200, "text/html; charset=utf-8"));
    assert_eq!(
        header("Content-Security-Policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(header("X-Content-Type-Options"), "nosniff");
    assert_eq!(header("Referrer-Policy"), "no-referrer");
    assert_eq!(header("Cache-Control"), "no-cache");

    let tag = header("ETag");
    assert_eq!(member.send(&with("GET", PAGE, "If-None-Match", &tag))?.status, 304);
    assert_eq!(member.send(&with("GET", PAGE, "If-None-Match", "\"another\""))?.status, 200);
    let head = member.call("HEAD", PAGE)?;
    assert_eq!((head.status, head.body.len()), (200, 0));

    let text = page.text();
    let named: Vec<&str> = text.split('"').filter(|part| part.starts_with("assets/")).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    for path in named {
        let file = member.call("GET", &format!("{PAGE}{path}"))?;
        assert_eq!(file.status, 200);
        assert!(file.header("Cache-Control").is_some_and(|keep| keep.contains("immutable")), "{path}");
        // A request for another version's file gets this version's, without caching.
        let name = path.rsplit('/').next().unwrap_or_default();
        let other = member.call("GET", &format!("{PAGE}assets/0123456789abcdef/{name}"))?;
        assert_eq!((other.status, other.header("Cache-Control").as_deref()), (200, Some("no-cache")));
        assert_eq!(other.body, file.body);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for target in [PAGE, "/mod/dashboard/api/cluster", "/mod/dashboard/api/node/"] {
            let answer = member.call(method, target)?;
            assert_eq!(
                (answer.status, answer.header("Allow").as_deref()),
                (405, Some("GET,HEAD")),
                "{method}"
            );
        }
    }
    for nowhere in ["assets/", "assets/x/../../keys", "assets/x/nope.js", "api", "api/", "api/nope", "x"] {
        let status = member.call("GET", &format!("{PAGE}{nowhere}"))?.status;
        assert!(matches!(status, 301 | 404), "{nowhere}: {status}");
    }
    Ok(())
}

#[test]
fn nodes_are_told_byte_for_byte_and_hidden_ones_on_demand() -> Check {
    let (_folder, member) = member(&[])?;
    let mut put = Request::new("PUT", "/v2/keys/d/a%FE%3Cb%3E?ttl=100");
    put.headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
    put.body = b"value=%00%FF%0D%0A".to_vec();
    assert_eq!(member.send(&put)?.status, 201);
    member.set("/d/_hidden", "secret")?;

    let listed = |query: &str| -> Check<Vec<String>> {
        let node = json(&member, &format!("/mod/dashboard/api/node/d/{query}"))?;
        let entries = node["entries"].as_array().context("entries")?;
        Ok(entries.iter().filter_map(|entry| Some(entry["name"].as_str()?.to_owned())).collect())
    };
    assert_eq!(listed("")?, ["a%FE%3Cb%3E"]);
    assert_eq!(listed("?hidden=true")?, ["_hidden", "a%FE%3Cb%3E"]);
    assert_eq!(listed("?hidden=true&after=_hidden")?, ["a%FE%3Cb%3E"]);
    let node = json(&member, "/mod/dashboard/api/node/d/a%FE%3Cb%3E")?;
    assert_eq!(node["value"], "AP8NCg==");
    assert!(node["expiration"].is_string(), "{node}");
    let found = json(&member, "/mod/dashboard/api/search/?text=SECRET&values=true&hidden=true")?;
    assert_eq!(found["entries"].as_array().map(Vec::len), Some(0), "letters of values count as they are");
    let found = json(&member, "/mod/dashboard/api/search/?text=secret&values=true&hidden=true")?;
    assert_eq!(found["entries"][0]["name"], "/d/_hidden");

    let missing = member.call("GET", "/mod/dashboard/api/node/nope")?;
    assert_eq!(missing.status, 404);
    assert!(missing.text().starts_with("{\"errorCode\":100,"), "{}", missing.text());
    for bad in ["node/?hidden=%zz", "search/?text=%zz", "search/", "search/?text="] {
        assert_eq!(member.call("GET", &format!("/mod/dashboard/api/{bad}"))?.status, 400, "{bad}");
    }
    // Its requests for keys are answered like those of /v2/keys.
    let keys = member.call("GET", "/mod/dashboard/api/keys/d?recursive=true")?;
    assert_eq!(keys.body, member.call("GET", "/v2/keys/d?recursive=true")?.body);
    Ok(())
}

#[test]
fn read_only_is_enforced_and_off_is_off() -> Check {
    let (_folder, mut member) = member(&["-dashboard=read-only"])?;
    member.set("/a", "1")?;
    assert_eq!(json(&member, "/mod/dashboard/api/cluster")?["read_only"], true);
    for (method, target) in [("PUT", "/a?value=2"), ("POST", "/q?value=2"), ("DELETE", "/a")] {
        let refused = member.call(method, &format!("/mod/dashboard/api/keys{target}"))?;
        assert_eq!(refused.status, 403, "{method}");
        assert!(refused.text().contains("-dashboard=read-only"), "{}", refused.text());
    }
    let refused = member.call("PUT", "/mod/dashboard/api/keys/a?value=2")?.text();
    let documented = files::read(&files::repository().join("Documentation/dashboard.md"))?;
    assert!(
        documented.lines().any(|line| line == refused),
        "Documentation/dashboard.md does not show {refused}"
    );
    assert_eq!(member.call("GET", "/mod/dashboard/api/keys/a")?.status, 200);
    assert!(member.call("GET", "/v2/keys/a")?.text().contains("\"value\":\"1\""));

    member.stop();
    member.args = vec!["-dashboard=off".to_owned()];
    let member = member.started()?;
    for target in ["", "/", "/api/cluster", "/api/member", "/api/keys/a", "/api/node/a"] {
        assert_eq!(member.call("GET", &format!("/mod/dashboard{target}"))?.status, 404, "{target}");
    }
    assert_eq!(member.call("PUT", "/mod/dashboard/api/keys/a?value=2")?.status, 404);
    Ok(())
}

#[test]
fn rights_are_asked_for() -> Check {
    let (_folder, member) = member(&[])?;
    member.set("/a", "1")?;
    let put = |target: &str, body: &str| -> Check {
        let mut request = with("PUT", target, "Authorization", "Basic cm9vdDpwdw==");
        request.headers.push(("Content-Type".into(), "application/json".into()));
        request.body = body.as_bytes().to_vec();
        let answer = member.send(&request)?;
        if !matches!(answer.status, 200 | 201) {
            fail!("{target}: {} {}", answer.status, answer.text());
        }
        Ok(())
    };
    put("/v2/auth/users/root", r#"{"user":"root","password":"pw"}"#)?;
    put("/v2/auth/enable", "")?;
    put(
        "/v2/auth/roles/guest",
        r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}},"grant":{"kv":{"read":[],"write":[]}}}"#,
    )?;
    let api = "/mod/dashboard/api";
    for target in ["node/a", "node/", "search/?text=a", "keys/a"] {
        assert_eq!(member.call("GET", &format!("{api}/{target}"))?.status, 401, "{target}");
        let root = with("GET", &format!("{api}/{target}"), "Authorization", "Basic cm9vdDpwdw==");
        assert_eq!(member.send(&root)?.status, 200, "{target}");
    }
    assert_eq!(member.call("PUT", &format!("{api}/keys/a?value=2"))?.status, 401);
    let session = |credentials: &str| -> Check<String> {
        let request = with("GET", &format!("{api}/session"), "Authorization", credentials);
        Ok(member.send(&request)?.text())
    };
    assert_eq!(session("Basic cm9vdDpwdw==")?, r#"{"auth":true,"known":true}"#);
    assert_eq!(session("Basic cm9vdDp3cm9uZw==")?, r#"{"auth":true,"known":false}"#);
    // As /v2/members and /v2/stats, for all users.
    assert_eq!(json(&member, "/mod/dashboard/api/cluster")?["auth"], true);
    Ok(())
}

#[test]
fn the_cluster_is_told_by_each_member() -> Check {
    let folder = files::scratch("dashboard-cluster")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let mut members = server::cluster(folder.path(), &names, &[])?;
    // A member without a dashboard answers as a Go member.
    members[1].stop();
    members[1].args = vec!["-dashboard=off".to_owned()];
    members[1].start()?;
    members[1].wait_ready(server::START_LIMIT)?;
    let states = |member: &Server| -> Check<Vec<(String, String)>> {
        let cluster = json(member, "/mod/dashboard/api/cluster")?;
        let mut states: Vec<(String, String)> = cluster["members"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| (one["name"].to_string(), one["health"].as_str().unwrap_or_default().to_owned()))
            .collect();
        states.sort();
        Ok(states)
    };
    let wanted = |third: &str| {
        [("\"m1\"", "healthy"), ("\"m2\"", "healthy"), ("\"m3\"", third)]
            .map(|(name, state)| (name.to_owned(), state.to_owned()))
            .to_vec()
    };
    assert_eq!(states(&members[0])?, wanted("healthy"));
    let cluster = json(&members[0], "/mod/dashboard/api/cluster")?;
    let second = cluster["members"].as_array().into_iter().flatten().find(|one| one["name"] == "m2");
    let second = second.context("m2")?;
    assert_eq!(second["report"]["version"], "2.3.8");
    assert_eq!((&second["report"]["commit"], &second["linked"]), (&Value::Null, &Value::Bool(true)));

    members[2].kill();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while states(&members[0])? != wanted("unreachable") {
        assert!(std::time::Instant::now() < end, "{:?}", states(&members[0])?);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(())
}

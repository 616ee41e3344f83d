//! The v1 API of 0.1 and 0.4, and the pages of 0.4: what etcd 0.4.9 was recorded to answer, asked of a real process.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::http::{Connection, PATIENCE, Request, Response, call};
use tests::json::Json;
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files};

/// A server whose v1 API is that of 0.4.
fn of_0_4(folder: &Path) -> Check<Server> {
    Server::new(folder, "m")?.with_args(["-v1-dialect", "0.4"]).started()
}

/// `method` on `target`, with a form.
fn send(server: &Server, method: &str, target: &str, form: &[(&str, &str)]) -> Check<Response> {
    server.send(&Request::new(method, target).form(form))
}

/// An answer's status and body.
fn told(response: &Response) -> (u16, String) {
    (response.status, response.text())
}

/// A success of v1 in full: its body, and the headers that it has and has not.
#[track_caller]
fn assert_v1(response: &Response, body: &str) {
    assert_eq!(told(response), (200, body.to_owned()));
    assert_eq!(response.header("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(response.header("X-Etcd-Index"), None);
}

/// An error of v1 of 0.4 in full.
#[track_caller]
fn assert_refused(response: &Response, status: u16, body: &str) {
    assert_eq!(told(response), (status, format!("{body}\n")));
    assert_eq!(response.header("Content-Type").as_deref(), Some("application/json"));
    assert!(response.number("X-Etcd-Index").is_some());
}

/// `body` with the time in it replaced by a T, once it is seen to be one.
fn without_time(body: &str) -> String {
    let Some((before, rest)) = body.split_once("\"expiration\":\"") else { return body.to_owned() };
    let Some((time, after)) = rest.split_once('"') else { return body.to_owned() };
    assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
    format!("{before}\"expiration\":\"T\"{after}")
}

#[test]
fn the_recorded_examples_of_v1_of_0_4() -> Check {
    let folder = files::scratch("v1")?;
    let server = of_0_4(folder.path())?;
    let b = server.index()?;
    let x = "/v1/keys/x";

    let first = send(&server, "POST", x, &[("value", "1")])?;
    assert_v1(
        &first,
        &format!(r#"{{"action":"set","key":"/x","value":"1","newKey":true,"index":{}}}"#, b + 1),
    );
    let again = send(&server, "PUT", x, &[("value", "2"), ("ttl", "5")])?;
    let wanted = format!(
        r#"{{"action":"set","key":"/x","prevValue":"1","value":"2","expiration":"T","ttl":5,"index":{}}}"#,
        b + 2
    );
    assert_eq!(without_time(&again.text()), wanted);
    // The index of a read is the store's, not the key's.
    send(&server, "PUT", "/v2/keys/other", &[("value", "1")])?;
    let read = server.call("GET", x)?;
    let wanted =
        format!(r#"{{"action":"get","key":"/x","value":"2","expiration":"T","ttl":5,"index":{}}}"#, b + 3);
    assert_eq!(without_time(&read.text()), wanted);
    let head = server.call("HEAD", x)?;
    assert_eq!(told(&head), (200, String::new()));

    send(&server, "PUT", "/v1/keys/v1k", &[("value", "z")])?;
    let swapped = send(&server, "PUT", "/v1/keys/v1k", &[("value", "z2"), ("prevValue", "z")])?;
    assert_v1(
        &swapped,
        &format!(r#"{{"action":"testAndSet","key":"/v1k","prevValue":"z","value":"z2","index":{}}}"#, b + 5),
    );
    let mismatch = send(&server, "PUT", x, &[("value", "3"), ("prevValue", "9")])?;
    let body =
        format!(r#"{{"errorCode":101,"message":"Compare failed","cause":"[9 != 2]","index":{}}}"#, b + 5);
    assert_refused(&mismatch, 412, &body);
    let created = send(&server, "PUT", "/v1/keys/new", &[("value", "1"), ("prevValue", "")])?;
    assert_v1(&created, &format!(r#"{{"action":"testAndSet","key":"/new","value":"1","index":{}}}"#, b + 6));
    let exists = send(&server, "PUT", "/v1/keys/new", &[("value", "1"), ("prevValue", "")])?;
    let body =
        format!(r#"{{"errorCode":105,"message":"Key already exists","cause":"/new","index":{}}}"#, b + 6);
    assert_refused(&exists, 412, &body);

    let deleted = server.call("DELETE", x)?;
    assert_v1(&deleted, &format!(r#"{{"action":"delete","key":"/x","prevValue":"2","index":{}}}"#, b + 7));
    let missing = server.call("GET", x)?;
    let body = format!(r#"{{"errorCode":100,"message":"Key not found","cause":"/x","index":{}}}"#, b + 7);
    assert_refused(&missing, 404, &body);

    send(&server, "PUT", "/v1/keys/dir/y", &[("value", "1")])?;
    send(&server, "PUT", "/v1/keys/dir/_hidden", &[("value", "1")])?;
    send(&server, "PUT", "/v1/keys/dir/sub/z", &[("value", "1")])?;
    let listed = server.call("GET", "/v1/keys/dir/")?;
    let wanted = format!(
        r#"[{{"action":"get","key":"/dir/sub","dir":true,"index":{0}}},{{"action":"get","key":"/dir/y","value":"1","index":{0}}}]"#,
        b + 10
    );
    assert_v1(&listed, &wanted);
    let refused = server.call("DELETE", "/v1/keys/dir")?;
    let body = format!(r#"{{"errorCode":102,"message":"Not a file","cause":"/dir","index":{}}}"#, b + 10);
    assert_refused(&refused, 403, &body);
    for form in [&[][..], &[("value", "")]] {
        let refused = send(&server, "POST", x, form)?;
        let body = r#"{"errorCode":200,"message":"Value is Required in POST form","cause":"Set""#;
        assert_refused(&refused, 400, &format!("{body},\"index\":{}}}", b + 10));
    }
    let refused = send(&server, "POST", x, &[("value", "1"), ("ttl", "abc")])?;
    let body = r#"{"errorCode":202,"message":"The given TTL in POST form is not a number","cause":"Set""#;
    assert_refused(&refused, 400, &format!("{body},\"index\":{}}}", b + 10));
    for (method, target) in [("PATCH", x), ("DELETE", "/v1/watch/x"), ("GET", "/v1/keys"), ("GET", "/v1/no")]
    {
        let lost = server.call(method, target)?;
        assert_eq!(told(&lost), (404, "404 page not found\n".to_owned()), "{method} {target}");
    }

    // v1 reads and writes what 0.x kept hidden.
    let hidden = send(&server, "PUT", "/v1/keys/_etcd/x", &[("value", "1")])?;
    assert_eq!(hidden.status, 200);
    assert_eq!(server.call("GET", "/v1/keys/_etcd")?.text().matches("/_etcd/x").count(), 1);
    Ok(())
}

/// The words of a shell's line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for character in line.chars() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if character == open => quote = None,
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().unwrap_or_else(|| panic!("{line}")).push(character),
        }
    }
    words
}

/// A line of the page as a request: the port, and what is sent.
fn curl(line: &str) -> (u16, Request) {
    let words = words(line);
    let mut words = words.iter().map(String::as_str);
    let url = words.next().unwrap_or_default().strip_prefix("http://127.0.0.1:").unwrap_or_default();
    let (port, target) = url.split_at(4);
    let (mut method, mut form, mut body) = ("", Vec::new(), None);
    while let Some(word) = words.next() {
        match word {
            "-X" => method = words.next().unwrap_or_default(),
            "-d" => form.push(words.next().unwrap_or_default().to_owned()),
            "--data" => body = words.next(),
            other => panic!("{line}: {other}"),
        }
    }
    let posts = !form.is_empty();
    let method = if method.is_empty() { if posts { "POST" } else { "GET" } } else { method };
    let pairs: Vec<(&str, &str)> =
        form.iter().map(|pair| pair.split_once('=').unwrap_or_else(|| panic!("{line}"))).collect();
    let mut request = Request::new(method, target);
    if posts {
        request = request.form(&pairs);
    }
    if let Some(body) = body {
        request.body = body.as_bytes().to_vec();
    }
    (port.parse().unwrap_or_else(|_| panic!("{line}")), request)
}

/// Asks the server for each example in `text`; how many there are.
fn ask_examples(server: &Server, text: &str) -> Check<usize> {
    let mut seen = 0;
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for example in block.split("$ curl ").skip(1) {
            let (line, wanted) = example.split_once('\n').unwrap_or_else(|| panic!("{example}"));
            let (port, request) = curl(line);
            let port = if port == 7001 { server.peer_port } else { server.client_port };
            let answer = without_time(call(port, &request, PATIENCE)?.text().trim_end());
            let told = answer
                .replace(&server.client_port.to_string(), "4001")
                .replace(&server.peer_port.to_string(), "7001");
            assert_eq!(told, without_time(wanted.trim_end()), "{line}");
            seen += 1;
        }
    }
    Ok(seen)
}

#[test]
fn the_examples_of_the_page_are_true() -> Check {
    let page = files::read(&files::repository().join("Documentation/api_v1.md"))?;
    let (of_0_1, rest) = page.split_once("\n## The dialect of 0.4\n").context("the section on 0.4")?;
    let folder = files::scratch("v1-page")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    assert_eq!(ask_examples(&server, of_0_1)?, 25, "examples");
    let folder = files::scratch("v1-page-of-0.4")?;
    assert_eq!(ask_examples(&of_0_4(folder.path())?, rest)?, 12, "examples of 0.4");
    Ok(())
}

#[test]
fn what_is_no_key_of_0_1_is_refused_in_its_words() -> Check {
    let folder = files::scratch("v1-no-key")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    send(&server, "PUT", "/v1/keys/dir/key", &[("value", "1")])?;
    let not_found = r#""errorCode":100,"message":"Key Not Found""#;
    let no_file = r#""errorCode":102,"message":"Not A File""#;
    let tested = "TestAndSet: key not found and previousValue is not empty";
    for (method, key, form, error, cause) in [
        ("DELETE", "/dir", &[][..], not_found, "delete: /dir".to_owned()),
        ("DELETE", "/", &[], not_found, "delete: /".to_owned()),
        ("PUT", "/dir", &[("value", "1")], no_file, "set: /dir".to_owned()),
        ("PUT", "/", &[("value", "1")], no_file, "set: /".to_owned()),
        ("PUT", "/dir/key/below", &[("value", "1")], no_file, "set: /dir/key/below".to_owned()),
        ("PUT", "/no", &[("value", "1"), ("prevValue", "2")], not_found, format!("{tested} /no:2 ")),
        ("PUT", "/dir", &[("value", "1"), ("prevValue", "2")], not_found, format!("{tested} /dir:2 ")),
    ] {
        let refused = send(&server, method, &format!("/v1/keys{key}"), form)?;
        let wanted = format!("{{{error},\"cause\":\"{cause}\"}}\n");
        assert_eq!(told(&refused), (400, wanted), "{method} {key} {form:?}");
        assert_eq!(refused.header("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(refused.header("X-Etcd-Index"), None);
    }
    Ok(())
}

#[test]
fn watches_of_0_4_end_with_one_event_of_the_key_itself() -> Check {
    let folder = files::scratch("v1-watch")?;
    let server = of_0_4(folder.path())?;
    let b = server.index()?;

    let mut waiting = Connection::open(server.client_port, PATIENCE)?;
    waiting.send(&Request::new("GET", "/v1/watch/x").bytes(&server.host()))?;
    let head = waiting.head()?;
    assert_eq!((head.status, head.header("X-Etcd-Index")), (200, None));
    // It waits neither for keys below the key nor for other keys.
    send(&server, "PUT", "/v1/keys/x/below", &[("value", "1")])?;
    server.call("DELETE", "/v2/keys/x?recursive=true")?;
    let mut body = Vec::new();
    waiting.body("GET", &head, |bytes| body.extend_from_slice(bytes))?;
    // A directory that goes away is a list of nothing, as in 0.4.
    assert_eq!(String::from_utf8_lossy(&body), "[]");

    send(&server, "POST", "/v1/keys/x", &[("value", "1")])?;
    send(&server, "POST", "/v1/keys/y", &[("value", "1")])?;
    // The event is that of the requested index; the index in it is the store's.
    let from = (b + 3).to_string();
    let past = send(&server, "POST", "/v1/watch/x", &[("index", &from)])?;
    assert_v1(
        &past,
        &format!(r#"{{"action":"set","key":"/x","value":"1","newKey":true,"index":{}}}"#, b + 4),
    );
    for form in [&[][..], &[("index", "x")]] {
        let refused = send(&server, "POST", "/v1/watch/x", form)?;
        let body = r#"{"errorCode":203,"message":"The given index in POST form is not a number","#;
        let body = format!("{body}\"cause\":\"Watch From Index\",\"index\":{}}}", b + 4);
        assert_refused(&refused, 400, &body);
    }
    assert_eq!(told(&server.call("HEAD", "/v1/watch/x")?), (200, String::new()));
    Ok(())
}

#[test]
fn the_pages_of_0_4_tell_of_the_cluster() -> Check {
    let folder = files::scratch("old-pages")?;
    let names = ["o1", "o2", "o3"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &[])?;
    let leader = members[0].call("GET", "/leader")?.text();
    members.sort_by_key(|member| (member.peer_url() != leader, member.name.clone()));
    let urls: Vec<String> = members.iter().map(Server::client_url).collect();
    for (number, member) in members.iter().enumerate() {
        for page in ["/leader", "/v1/leader", "/v2/leader"] {
            let answer = member.call("GET", page)?;
            assert_eq!(told(&answer), (200, members[0].peer_url()), "{page}");
            assert_eq!(answer.header("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
        }
        for page in ["/machines", "/v1/machines", "/v1/peers", "/v2/peers"] {
            assert_eq!(told(&member.call("GET", page)?), (200, urls.join(", ")), "{page}");
        }
        assert_eq!(member.call("POST", "/v1/machines")?.status, 404);

        let own = member.call("GET", "/v1/stats/self")?.text();
        let state = if number == 0 { "leader" } else { "follower" };
        let begin = format!(r#"{{"name":"{}","state":"{state}","startTime":"20"#, member.name);
        assert!(own.starts_with(&begin) && !own.contains("\"id\""), "{own}");
        assert!(own.contains(&format!(r#""leaderInfo":{{"leader":"{}","#, members[0].name)), "{own}");
        let store = member.call("GET", "/v1/stats/store")?.text();
        assert!(store.starts_with("{\"getsSuccess\":") && store.contains("\"watchers\":0"), "{store}");
        let followers = member.call("GET", "/v1/stats/leader")?;
        if number > 0 {
            assert_eq!(told(&followers), (403, "not current leader".to_owned()));
        } else {
            let text = followers.text();
            let begin = format!(r#"{{"leader":"{}","followers":{{""#, member.name);
            assert!(text.starts_with(&begin), "{text}");
            assert!(members[1..].iter().all(|follower| text.contains(&format!("\"{}\":", follower.name))));
        }

        // Every member takes writes and passes them on itself.
        let key = format!("/v1/keys/f{number}");
        let written = send(member, "PUT", &key, &[("value", "1")])?;
        assert!(written.status == 200 && written.text().contains("\"newKey\":true"), "{}", written.text());
        let read = member.call("GET", &format!("/v2/keys/f{number}?consistent=true"))?;
        assert_eq!(read.status, 200);
    }
    Ok(())
}

#[test]
fn members_are_seen_among_the_keys_unless_a_key_stands_there() -> Check {
    let folder = files::scratch("old-machines")?;
    let server = Server::new(folder.path(), "o1")?.started()?;
    let escaped = |url: String| url.replace(':', "%3A").replace('/', "%2F");
    let value = format!("etcd={}&raft={}", escaped(server.client_url()), escaped(server.peer_url()));
    let b = server.index()?;

    let view = server.call("GET", "/v2/keys/_etcd/machines")?;
    assert_eq!((view.status, view.number("X-Etcd-Index")), (200, Some(b)));
    let text = view.text();
    let begin =
        r#"{"action":"get","node":{"key":"/_etcd/machines","dir":true,"nodes":[{"key":"/_etcd/machines/o1","#;
    assert!(
        text.starts_with(begin) && text.contains(&format!("\"value\":\"{}\"", value.replace('&', "\\u0026"))),
        "{text}"
    );
    let one = server.call("GET", "/v2/keys/_etcd/machines/o1")?;
    assert!(one.status == 200 && one.text().contains("\"key\":\"/_etcd/machines/o1\""), "{}", one.text());
    let v1 = server.call("GET", "/v1/keys/_etcd/machines")?.text();
    let wanted = format!(
        r#"[{{"action":"GET","key":"/_etcd/machines/o1","value":"{}","index":{b}}}]"#,
        value.replace('&', "\\u0026")
    );
    assert_eq!(v1, wanted);

    // Without the parameter there is no difference.
    for target in ["/v2/keys/_etcd", "/v2/keys/_etcd/machines/o2", "/v2/keys/_etcd/machinery"] {
        assert_eq!(server.call("GET", target)?.status, 404, "{target}");
    }
    assert!(!server.call("GET", "/v2/keys/?recursive=true")?.text().contains("_etcd"));
    assert_eq!(server.call("DELETE", "/v2/keys/_etcd/machines/o1")?.status, 404);
    assert_eq!(server.index()?, b);

    server.set("/_etcd/machines/other", "1")?;
    let real = server.call("GET", "/v2/keys/_etcd/machines")?.text();
    assert!(real.contains("/_etcd/machines/other") && !real.contains("/_etcd/machines/o1"), "{real}");
    assert_eq!(server.call("GET", "/v2/keys/_etcd/machines/o1")?.status, 404);
    Ok(())
}

/// `PUT` of settings on a port.
/// Members that were started as 0.1 was, without names.
#[test]
fn members_that_are_called_alike_are_all_seen() -> Check {
    let folder = files::scratch("old-namesakes")?;
    let names = ["o1", "o2", "o3"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &[])?;
    // The founder of a cluster needs its own name; later starts may have another one.
    for member in &mut members {
        member.stop();
        member.name = "default".to_owned();
        member.start()?;
    }
    for member in &mut members {
        member.wait_ready(START_LIMIT)?;
    }
    let begun = Instant::now();
    let ids: Vec<String> = loop {
        let listed = Json::parse(&members[0].call("GET", "/v2/members")?.text())?;
        let Some(Json::List(listed)) = listed.get("members") else { fail!("no members") };
        let named = |member: &&Json| member.get("name").and_then(Json::text) == Some("default");
        let ids =
            listed.iter().filter(named).filter_map(|member| member.get("id")?.text().map(str::to_owned));
        let ids: Vec<String> = ids.collect();
        if ids.len() == 3 {
            break ids;
        }
        if begun.elapsed() > START_LIMIT {
            fail!("the new names are not published");
        }
        thread::sleep(Duration::from_millis(50));
    };
    let v2 = members[0].call("GET", "/v2/keys/_etcd/machines")?.text();
    let v1 = members[0].call("GET", "/v1/keys/_etcd/machines")?.text();
    let admin = call(members[0].peer_port, &Request::new("GET", "/v2/admin/machines"), PATIENCE)?.text();
    for id in &ids {
        let key = format!("\"key\":\"/_etcd/machines/default.{id}\"");
        assert!(v2.contains(&key) && v1.contains(&key), "{key}: {v2} {v1}");
        assert!(admin.contains(&format!("\"name\":\"default.{id}\"")), "{admin}");
        let one = members[0].call("GET", &format!("/v2/keys/_etcd/machines/default.{id}"))?;
        assert_eq!(one.status, 200);
    }
    for member in &members {
        let url = member.client_url().replace(':', "%3A").replace('/', "%2F");
        assert!(v2.contains(&url) && v1.contains(&url), "{url}: {v2} {v1}");
    }
    let leader = members
        .iter()
        .find(|member| member.call("GET", "/v1/stats/leader").is_ok_and(|answer| answer.status == 200));
    let followers = leader.context("nobody leads")?.call("GET", "/v1/stats/leader")?.text();
    assert_eq!(followers.matches("\"latency\"").count(), 2, "{followers}");
    let admin = |method: &str, name: &str| {
        let request = Request::new(method, format!("/v2/admin/machines/{name}"));
        call(members[0].peer_port, &request, PATIENCE)
    };
    for method in ["GET", "DELETE"] {
        let answer = admin(method, "default")?;
        assert!(
            answer.status == 409 && answer.text().contains(&ids[2]),
            "{} {}",
            answer.status,
            answer.text()
        );
    }
    assert!(admin("GET", &format!("default.{}", ids[1]))?.text().contains("\"clientURL\":"));
    Ok(())
}

fn configure(port: u16, body: &str) -> Check<(u16, String)> {
    let mut request = Request::new("PUT", "/v2/admin/config");
    request.body = body.as_bytes().to_vec();
    Ok(told(&call(port, &request, PATIENCE)?))
}

#[test]
fn the_settings_of_0_4_are_kept_by_the_cluster() -> Check {
    let folder = files::scratch("old-admin")?;
    let names = ["o1", "o2"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &[])?;
    let asked = |port: u16, target: &str| -> Check<(u16, String)> {
        Ok(told(&call(port, &Request::new("GET", target), PATIENCE)?))
    };
    let ports: Vec<u16> = members.iter().flat_map(|member| [member.client_port, member.peer_port]).collect();
    let shown = |size: &str, delay: &str, interval: &str| {
        (200, format!("{{\"activeSize\":{size},\"removeDelay\":{delay},\"syncInterval\":{interval}}}\n"))
    };
    for port in &ports {
        assert_eq!(asked(*port, "/v2/admin/config")?, shown("9", "1800", "5"));
    }
    assert_eq!(configure(ports[0], r#"{"activeSize":5,"removeDelay":20.5}"#)?, shown("5", "20.5", "5"));
    assert_eq!(configure(ports[1], r#"{"activeSize":1,"syncInterval":0}"#)?, shown("3", "20.5", "1"));
    assert_eq!(
        configure(ports[0], "x")?,
        (500, "invalid character 'x' looking for beginning of value\n".to_owned())
    );
    let key = members[0].call("GET", "/v2/keys/_etcd/config")?.text();
    assert!(key.contains(r#""value":"{\"activeSize\":3,\"removeDelay\":20.5,\"syncInterval\":1}""#), "{key}");
    let leader = members[0].call("GET", "/v2/leader")?.text();
    let machine = |member: &Server| {
        let state = if member.peer_url() == leader { "leader" } else { "follower" };
        let (client, peer) = (member.client_url(), member.peer_url());
        format!(r#"{{"name":"{}","state":"{state}","clientURL":"{client}","peerURL":"{peer}"}}"#, member.name)
    };
    for port in &ports {
        let list = format!("[{},{}]\n", machine(&members[0]), machine(&members[1]));
        assert_eq!(asked(*port, "/v2/admin/machines")?, (200, list));
        assert_eq!(asked(*port, "/v2/admin/machines/o2")?, (200, machine(&members[1]) + "\n"));
        assert_eq!(asked(*port, "/v2/admin/machines/o3")?, (200, "null\n".to_owned()));
        assert_eq!(asked(*port, "/v2/admin/other")?.0, 404);
    }

    // A restart reads the settings from the log.
    members[0].kill();
    members[0].start()?;
    members[0].wait_ready(Duration::from_secs(30))?;
    assert_eq!(asked(members[0].peer_port, "/v2/admin/config")?, shown("3", "20.5", "1"));

    let remove = |name: &str| {
        let target = format!("/v2/admin/machines/{name}");
        call(members[0].peer_port, &Request::new("DELETE", target), PATIENCE)
    };
    let unknown = remove("o3")?;
    assert_eq!((unknown.status, unknown.body.len()), (200, 0));
    let removed = remove("o2")?;
    assert_eq!((removed.status, removed.body.len()), (200, 8));
    assert_eq!(asked(members[0].peer_port, "/v2/admin/machines/o2")?, (200, "null\n".to_owned()));
    Ok(())
}

#[test]
fn rights_hold_for_v1_and_the_administration_too() -> Check {
    let folder = files::scratch("v1-auth")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    let as_root = |method: &str, target: &str, body: &str| -> Check<u16> {
        let mut request = Request::new(method, target);
        request.headers.push(("Authorization".to_owned(), "Basic cm9vdDpw".to_owned()));
        request.body = body.as_bytes().to_vec();
        Ok(server.send(&request)?.status)
    };
    assert_eq!(as_root("PUT", "/v2/auth/users/root", r#"{"user":"root","password":"p"}"#)?, 201);
    assert_eq!(as_root("PUT", "/v2/auth/enable", "")?, 200);
    let revoke = r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    assert_eq!(as_root("PUT", "/v2/auth/roles/guest", revoke)?, 200);
    for (method, target) in [
        ("GET", "/v1/keys/x"),
        ("DELETE", "/v1/keys/x"),
        ("GET", "/v1/watch/x"),
        ("GET", "/v2/keys/_etcd/machines"),
        ("PUT", "/v2/admin/config"),
        ("DELETE", "/v2/admin/machines/m"),
    ] {
        assert_eq!(server.call(method, target)?.status, 401, "{method} {target}");
    }
    for (method, target) in
        [("PUT", "/v2/admin/config"), ("DELETE", "/v2/admin/machines/m"), ("DELETE", "/remove/m")]
    {
        let refused = call(server.peer_port, &Request::new(method, target), PATIENCE)?;
        assert_eq!(refused.status, 401, "{method} {target}");
        assert!(refused.text().starts_with("auth is on: send this to a client port"), "{}", refused.text());
    }
    assert_eq!(as_root("DELETE", "/v1/keys/x", "")?, 400);
    assert_eq!(as_root("PUT", "/v2/admin/config", "{}")?, 200);
    Ok(())
}

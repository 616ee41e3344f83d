//! Runs of the program itself, against a member that plays a part.
//!
//! What etcdctl 2.3.8 prints is in the recorded suite of the `tests` crate; here is what no recording has.

#![expect(clippy::unwrap_used, reason = "a run that cannot be made fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Plays a member: answers each request with what `answer` makes of its first line. Returns its address and
/// the requests that it sees.
fn member(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, play(listener, move |line| answer(line).map(|body| (200, body))))
}

/// The same with statuses, and a listener that is there already.
fn play(
    listener: TcpListener,
    answer: impl Fn(&str) -> Option<(u16, String)> + Send + 'static,
) -> Receiver<String> {
    let (seen, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            while let Some(line) = request(&mut reader) {
                let _ = seen.send(line.clone());
                // Without an answer, the connection is cut.
                let Some((status, body)) = answer(&line) else { break };
                let length = match status {
                    204 => String::new(),
                    _ => format!("Content-Length: {}\r\n", body.len()),
                };
                let head = format!("HTTP/1.1 {status} X\r\nX-Etcd-Index: 9\r\n{length}\r\n");
                reader.get_mut().write_all((head + &body).as_bytes()).unwrap();
            }
        }
    });
    requests
}

/// `GET /path`, after the whole request was read.
fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut lines = Vec::new();
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(bytes) = line.strip_prefix("Content-Length: ") {
            body_bytes = bytes.trim().parse().unwrap();
        }
        lines.push(line);
    }
    reader.read_exact(&mut vec![0; body_bytes]).ok()?;
    Some(lines[0].rsplit_once(' ').unwrap().0.to_owned())
}

fn event(index: u64, value: &str) -> String {
    format!(
        r#"{{"action":"set","node":{{"key":"/k","value":"{value}","modifiedIndex":{index},"createdIndex":1}}}}"#
    )
}

fn etcdctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcdctl"));
    command.args(arguments).env_clear().env("ETCDCTL_API", "2").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    etcdctl(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// An address at which nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn endpoints_need_no_scheme_and_the_next_one_is_tried() {
    let (address, requests) = member(|_| Some(event(5, "v")));
    // The order is drawn: in some of these runs the dead one is asked first.
    for _ in 0..8 {
        let endpoints = format!("{},{address}", nobody());
        let output = run(&["--no-sync", "--endpoints", &endpoints, "get", "/k"]);
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("v\n", ""));
        assert_eq!(requests.recv().unwrap(), "GET /v2/keys/k?quorum=false&recursive=false&sorted=false");
    }
}

#[test]
fn the_members_urls_are_used_once_they_are_known() {
    let (published, requests) = member(|_| Some(event(5, "v")));
    let members = format!(
        r#"{{"members":[{{"id":"a1","name":"x","peerURLs":["http://p:1"],"clientURLs":["http://{published}"]}}]}}"#
    );
    let (given, first_requests) = member(move |_| Some(members.clone()));
    let output = run(&["--endpoints", &given, "get", "/k"]);
    assert_eq!(text(&output.stdout), "v\n");
    assert_eq!(first_requests.recv().unwrap(), "GET /v2/members");
    assert!(requests.recv().unwrap().starts_with("GET /v2/keys/k"));
}

#[test]
fn a_watch_whose_connection_breaks_goes_on_where_it_was() {
    // After its first answer the member cuts every connection.
    let (address, requests) = member(|line| line.ends_with("=5").then(|| event(5, "one")));
    let mut child =
        etcdctl(&["--no-sync", "--endpoints", &address, "watch", "--forever", "--after-index", "4", "/k"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(printed.next().unwrap().unwrap(), "one");
    let told = said.next().unwrap().unwrap();
    assert!(
        told.starts_with("watch interrupted (") && told.ends_with("trying to resume at index 6"),
        "{told}"
    );
    let asked: Vec<String> = requests.iter().take(4).collect();
    assert!(asked[0].ends_with("waitIndex=5"), "{asked:?}");
    assert!(asked[1..].iter().all(|request| request.ends_with("waitIndex=6")), "{asked:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn exec_watch_begins_right_behind_its_index() {
    let (address, _requests) = member(|line| {
        let index: u64 = line.rsplit('=').next().unwrap().parse().unwrap();
        (index < 8).then(|| event(index, "v"))
    });
    let words = ["--no-sync", "--endpoints", &address, "exec-watch", "--after-index", "4", "/k", "--"];
    let shell = ["sh", "-c", "echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_MODIFIED_INDEX"];
    let mut child = etcdctl(&[&words[..], &shell].concat())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen: Vec<String> = lines.take(3).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, ["set /k 5", "set /k 6", "set /k 7"]);
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let nodes: Vec<String> = (0..20_000).map(|n| format!(r#"{{"key":"/a/long/path/{n}"}}"#)).collect();
    let listing = format!(r#"{{"action":"get","node":{{"dir":true,"nodes":[{}]}}}}"#, nodes.join(","));
    let (address, _requests) = member(move |_| Some(listing.clone()));
    let mut child = etcdctl(&["--no-sync", "--endpoints", &address, "ls", "--recursive", "/"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(first, "/a/long/path/0\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn an_import_refuses_what_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(content.as_bytes())
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    let store = file("store", "{\"Root\":{\"Path\":\"/\",\"Children\":{}},\"CurrentIndex\":1}");
    let export = file("export", "{\"end\":{\"nodes\":0,\"index\":1}}\n");
    file("export.import", "{\"source\":{\"bytes\":1,\"head_crc\":1},\"done\":{}}");
    for (words, why) in [
        (&["--resume", &store][..], "--resume is for exports"),
        (&["--hidden", "/_h", &export], "--hidden is for snapshots"),
        (&["--resume", &export], "remove it to begin anew"),
        (&[dir.path().to_str().unwrap()], "is a directory"),
    ] {
        let output = run(&[&["import"], words].concat());
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(text(&output.stderr).to_lowercase().contains(why), "{words:?}: {output:?}");
    }
}

#[test]
fn a_wrong_flag_ends_with_2_and_help() {
    let output = run(&["set", "--tll", "5", "/k", "v"]);
    assert_eq!(output.status.code(), Some(2));
    let printed = text(&output.stdout);
    assert!(printed.starts_with("Incorrect Usage.\n\nflag provided but not defined: -tll\n"), "{printed}");
    assert!(printed.contains("--swap-with-value"), "{printed}");
}

#[test]
fn shells_and_man_get_their_files() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell]);
        let script = text(&output.stdout);
        assert!(output.status.success() && script.contains("swap-with-index"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["man", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(dir.path().join("etcdctl-exec-watch.1")).unwrap();
    assert!(page.contains("ETCD_WATCH_KEY"), "{page}");
    assert!(!dir.path().join("etcdctl-man.1").exists());
}

#[test]
fn a_replacement_that_fails_half_way_says_how_to_finish_it() {
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, two) = (listen(), listen());
    let address = one.local_addr().unwrap().to_string();
    let member = |id: &str, port: u16, url: &str| {
        format!(r#"{{"id":"{id}","name":"{id}","peerURLs":["http://p:{port}"],"clientURLs":[{url}]}}"#)
    };
    let url = |listener: &TcpListener| format!(r#""http://{}""#, listener.local_addr().unwrap());
    let list = [member("a1", 1, &url(&one)), member("b2", 2, &url(&two)), member("c3", 3, "")].join(",");
    let mut requests = Vec::new();
    for (listener, id) in [(one, "a1"), (two, "b2")] {
        let list = format!(r#"{{"members":[{list}]}}"#);
        requests.push(play(listener, move |line| {
            Some(match line {
                "GET /v2/members" => (200, list.clone()),
                "GET /v2/stats/self" => (200, format!(r#"{{"id":"{id}"}}"#)),
                "GET /health" => (200, r#"{"health": "true"}"#.to_owned()),
                "DELETE /v2/members/c3" => (204, String::new()),
                "POST /v2/members" => (409, r#"{"message":"no, thanks"}"#.to_owned()),
                _ => (404, String::new()),
            })
        }));
    }
    let output = run(&["--endpoints", &address, "member", "replace", "c3", "d4", "http://n:1,http://n:2"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "Removed member c3 (c3) from cluster\n");
    assert_eq!(
        text(&output.stderr),
        "Member c3 (c3) is removed, but the new one is not added: no, thanks\n\
         The cluster has 2 members now (a1, b2) and works with 2 of them. To finish:\n\n\
         \tetcdctl member add d4 http://n:1,http://n:2\n\n"
    );
    let asked: Vec<String> = requests.iter().flat_map(|requests| requests.try_iter()).collect();
    assert!(asked.iter().any(|line| line == "DELETE /v2/members/c3"), "{asked:?}");
    // Without a majority nothing is removed: one is asked for that does not answer.
    let output = run(&["--endpoints", &address, "member", "replace", "b2", "d4", "http://n:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing was changed"), "{}", text(&output.stderr));
    let asked: Vec<String> = requests.iter().flat_map(|requests| requests.try_iter()).collect();
    assert!(!asked.iter().any(|line| line.starts_with("DELETE")), "{asked:?}");
}

#[test]
fn the_cluster_decides_about_what_both_apis_have() {
    let (address, requests) = member(|line| match line {
        "GET /version" => Some(r#"{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}"#.to_owned()),
        _ => None,
    });
    let endpoint = format!("--endpoints=http://{address}");
    let output = etcdctl(&[&endpoint, "--no-sync", "get", "/k"]).env_remove("ETCDCTL_API").output().unwrap();
    // A flag of version 2 alone decides without a question.
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(requests.recv().unwrap(), "GET /v2/keys/k?quorum=false&recursive=false&sorted=false");
    while requests.try_recv().is_ok() {}
    etcdctl(&[&endpoint, "get", "/k"]).env_remove("ETCDCTL_API").output().unwrap();
    assert_eq!(requests.recv().unwrap(), "GET /version");
    assert_eq!(requests.recv().unwrap(), "GET /v2/members");
}

//! What `Documentation/debugging.md` says: its examples, the forms of the log, and where the time of slow requests
//! went.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tests::http::Request;
use tests::json::Json;
use tests::server::{Server, cluster};
use tests::{Check, Context, examples, fail, files};

/// The time that the others sleep, and less than their leader waits for them.
const PAUSE: Duration = Duration::from_millis(900);

/// A line without its numbers.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            c => shape.push(c),
        }
    }
    // Whole numbers of milliseconds have no decimals.
    shape.replace("#.#", "#")
}

/// The lines of a block of this kind in the page that contain a text.
fn documented(part: &str, kind: &str) -> Check<String> {
    let page = files::read(&files::repository().join("Documentation/debugging.md"))?;
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == format!("```{kind}");
        } else if inside && line.contains(part) {
            return Ok(line.to_owned());
        }
    }
    fail!("no line with {part} in a block of {kind}")
}

fn said(server: &Server, part: &str) -> Check<String> {
    let line = server.said().lines().find(|line| line.contains(part)).map(str::to_owned);
    line.context(format!("no line with {part} in the log of {}:\n{}", server.name, server.said()))
}

#[test]
fn the_documents_examples_do_what_they_say() -> Check {
    let folder = files::scratch("debugging-examples")?;
    let server = Server::new(folder.path(), "m")?.with_args(["-enable-pprof"]).started()?;
    examples::play("debugging.md", &server, folder.path())?;
    let wanted = documented("name = m", "text")?;
    assert_eq!(shape(&said(&server, "name = m")?), shape(&wanted));
    Ok(())
}

#[test]
fn a_log_of_objects_has_nothing_else() -> Check {
    let folder = files::scratch("debugging-json")?;
    let mut server = Server::new(folder.path(), "m")?;
    server.env.push(("ETCD_LOG_FORMAT".to_owned(), "json".to_owned()));
    let mut server = server.started()?;
    server.send(&Request::new("GET", "/v2/keys/%ff%0a%22%7b"))?;
    server.stop().context("the server ends by itself")?;
    let log = server.said();
    for line in log.lines() {
        let object = Json::parse(line).context(line)?;
        for member in ["ts", "level", "pkg", "msg"] {
            assert!(object.get(member).is_some(), "{line}");
        }
    }
    assert_eq!(shape(&said(&server, "name = m")?), shape(&documented("name = m", "json")?));
    assert!(log.contains(r#""pkg":"raft""#) && log.contains(r#","term":"#), "{log}");
    let mut refused = Server::new(folder.path(), "n")?.with_args(["-log-format", "yaml"]);
    refused.start()?;
    refused.wait_exit(Duration::from_secs(20)).context("the server refuses it")?;
    said(&refused, r#"invalid value "yaml" for flag -log-format: must be "text" or "json""#)?;
    Ok(())
}

#[test]
fn a_slow_write_tells_that_it_waited_for_the_others() -> Check {
    for (format, kind) in [("text", "text"), ("json", "json")] {
        let folder = files::scratch("debugging-slow")?;
        let names = ["a", "b", "c"].map(str::to_owned);
        let args = ["-election-timeout", "5000", "-slow-request", "400", "-log-format", format];
        let mut members = cluster(folder.path(), &names, &args.map(str::to_owned))?;
        let state = |member: &Server| member.call("GET", "/v2/stats/self").map(|stats| stats.text());
        let mut leader = None;
        for (at, member) in members.iter().enumerate() {
            if state(member)?.contains("StateLeader") {
                leader = Some(at);
            }
        }
        let leader = members.remove(leader.context("a leader")?);
        for follower in &mut members {
            follower.process().context("a process")?.signal(Signal::STOP);
        }
        let waker = thread::spawn(move || {
            thread::sleep(PAUSE);
            for follower in &mut members {
                if let Some(process) = follower.process() {
                    process.signal(Signal::CONT);
                }
            }
            members
        });
        leader.set("/a", "1")?;
        let _members = waker.join().ok().context("a thread that does not panic")?;
        let line = said(&leader, "slow request: PUT /a took ")?;
        assert_eq!(shape(&line), shape(&documented("slow request: PUT /a took", kind)?));
        let part = |name: &str| {
            let after = line.split_once(&format!("{name} ")).map(|(_, after)| after);
            after.and_then(|after| after.split("ms").next()?.parse::<f64>().ok()).context(name)
        };
        let (took, peers) = (part("took")?, part("peers")?);
        assert!(took > 400.0 && peers > 0.8 * took, "{line}");
    }
    Ok(())
}

/// A member is added that never starts: the disk is not the reason.
#[test]
fn a_write_without_a_majority_tells_who_is_missing() -> Check {
    let folder = files::scratch("debugging-missing")?;
    let args = ["-slow-request", "400"];
    let server = Server::new(folder.path(), "m")?.with_args(args).started()?;
    let mut add = Request::new("POST", "/v2/members");
    add.body = br#"{"peerURLs":["http://127.0.0.1:1"]}"#.to_vec();
    add.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    let added = Json::parse(&server.send(&add)?.text())?;
    let id = added.get("id").and_then(Json::text).context("an id")?;
    let put = server.send(&Request::new("PUT", "/v2/keys/a").form(&[("value", "1")]))?;
    assert_eq!(put.status, 500, "{}", put.text());
    let line = said(&server, "slow request: PUT /a has no answer after ")?;
    let part = |name: &str| {
        let after = line.split_once(&format!("{name} ")).map(|(_, after)| after);
        after.and_then(|after| after.split("ms").next()?.parse::<f64>().ok()).context(name)
    };
    let (took, peers) = (part("after")?, part("peers")?);
    assert!(peers > 0.8 * took, "{line}");
    assert!(line.ends_with(&format!(": waiting for {id} (http://127.0.0.1:1, never started)")), "{line}");
    Ok(())
}

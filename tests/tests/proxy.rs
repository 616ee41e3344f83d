//! A proxy before a member, as processes.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::http::{Connection, PATIENCE, Request};
use tests::server::{START_LIMIT, STOP_LIMIT, Server};
use tests::{Check, Context, fail, files};

/// A proxy that knows the member from its flags.
fn proxy(folder: &std::path::Path, member: &Server, mode: &str) -> Check<Server> {
    let mut proxy = Server::new(folder, "proxy")?.with_args(["-proxy", mode]);
    proxy.initial_cluster = member.initial_cluster.clone();
    proxy.start()?;
    wait_serves(&proxy)?;
    Ok(proxy)
}

fn wait_serves(proxy: &Server) -> Check {
    let begun = Instant::now();
    while !proxy.call("GET", "/v2/keys").is_ok_and(|answer| answer.status == 200) {
        if begun.elapsed() > START_LIMIT {
            fail!("the proxy does not serve: {}", proxy.last_words());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a_proxy_stays_one_and_stops_at_once() -> Check {
    let folder = files::scratch("proxy")?;
    let mut member = Server::new(folder.path(), "m")?.started()?;
    let mut proxy = proxy(folder.path(), &member, "on")?;
    proxy.set("/a", "1")?;
    assert!(member.call("GET", "/v2/keys/a")?.text().contains("\"value\":\"1\""));
    let local = proxy.call("GET", "/v2/config/local/proxy")?.text();
    assert_eq!(local, format!("{{\"endpoints\":[\"{}\"]}}\n", member.client_url()));
    let cluster = files::read(&proxy.data_dir.join("proxy/cluster"))?;
    assert_eq!(cluster, format!("{{\"PeerURLs\":[\"{}\"]}}", member.peer_url()));

    // A watch does not hold up the end, and its client sees an end.
    let mut watcher = Connection::open(proxy.client_port, PATIENCE)?;
    watcher.send(&Request::new("GET", "/v2/keys/w?wait=true").bytes(&proxy.host()))?;
    assert_eq!(watcher.head()?.status, 200);
    let begun = Instant::now();
    let status = proxy.stop().context("the proxy did not stop")?;
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    assert!(begun.elapsed() < STOP_LIMIT / 4, "{:?}", begun.elapsed());
    assert_eq!(watcher.chunk()?, None);

    // The directory decides, and the flags of the first start do not count.
    proxy.args = vec!["-proxy".to_owned(), "off".to_owned()];
    proxy.initial_cluster = "proxy=http://127.0.0.1:1".to_owned();
    proxy.start()?;
    wait_serves(&proxy)?;
    assert!(
        proxy.said().contains("the server is already initialized as proxy before, starting as etcd proxy...")
    );

    member.kill();
    let message = |answer: tests::http::Response| (answer.status, answer.text());
    let answer = message(proxy.call("GET", "/v2/keys/a")?);
    assert_eq!(
        answer,
        (502, "{\"message\":\"proxy: unable to get response from 1 endpoint(s)\"}".to_owned())
    );
    let answer = message(proxy.call("PUT", "/v2/keys/a")?);
    assert_eq!(answer, (503, "{\"message\":\"proxy: zero endpoints currently available\"}".to_owned()));
    Ok(())
}

#[test]
fn a_readonly_proxy_writes_nothing() -> Check {
    let folder = files::scratch("proxy-readonly")?;
    let member = Server::new(folder.path(), "m")?.started()?;
    let proxy = proxy(folder.path(), &member, "readonly")?;
    member.set("/a", "1")?;
    assert!(proxy.call("GET", "/v2/keys/a")?.text().contains("\"value\":\"1\""));
    for method in ["PUT", "POST", "DELETE", "OPTIONS"] {
        let answer = proxy.call(method, "/v2/keys/a")?;
        assert_eq!((answer.status, answer.text()), (501, String::new()), "{method}");
    }
    assert!(member.call("GET", "/v2/keys/a")?.text().contains("\"value\":\"1\""));
    Ok(())
}

//! Tests of the whole proxy with scripted members: bytes in, bytes out.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use shared::disk::SimDisk;
use shared::net::{Acceptor, Dialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::{self, Invocation, ProxyConfig};
use crate::connections::ConnectionSlots;

/// The longest wait of any test.
const PATIENCE: Duration = Duration::from_secs(10);

const CHECK_INTERVAL: Duration = Duration::from_millis(20);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("waited for too long")
}

/// A running proxy that does not refresh its members.
struct RunningProxy {
    proxy: Arc<Proxy>,
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl RunningProxy {
    async fn start(words: &[&str], endpoints: &[&StubMember]) -> RunningProxy {
        let words = ["-proxy=on", "-listen-client-urls=http://127.0.0.1:1"].iter().chain(words);
        let config = match config::read(words.map(OsString::from), [], |_| panic!("no file is named")) {
            Invocation::Run(start) => start.config,
            Invocation::Exit(early_exit) => panic!("{early_exit:?}"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let connector = Connector::new(Dialer::plain(), &config.proxy);
        let mut proxy = Proxy::new(&config, connector, stopping.clone(), 128).unwrap();
        // Connections are checked so often that each test covers several checks.
        proxy.http_server.check_interval = CHECK_INTERVAL;
        let proxy = Arc::new(proxy);
        let urls: Vec<String> = endpoints.iter().map(|member| member.url()).collect();
        proxy.director.replace(&urls);
        let served = tokio::spawn(transport::serve(
            listener,
            Acceptor::plain(),
            proxy.clone(),
            stopping,
            ConnectionSlots::many(),
            Arc::default(),
        ));
        RunningProxy { proxy, addr, stop, served }
    }

    async fn connect(&self) -> TestClient {
        TestClient { socket: TcpStream::connect(self.addr).await.unwrap(), read: Vec::new() }
    }

    /// Sends one request on its own connection.
    async fn ask(&self, request: &str) -> String {
        self.connect().await.ask(request).await
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }
}

struct TestClient {
    socket: TcpStream,
    read: Vec<u8>,
}

impl TestClient {
    async fn send(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Sends a request, and reads a response with a `Content-Length`.
    async fn ask(&mut self, request: &str) -> String {
        self.send(request).await;
        let head = self.until("\r\n\r\n").await;
        if request.starts_with("HEAD") {
            return head;
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap_or_else(|| panic!("no length: {head}"))
            .parse()
            .unwrap();
        head + &self.take(length).await
    }

    async fn until(&mut self, end: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some(at) = text.find(end) {
                self.read.drain(..at + end.len());
                return text[..at + end.len()].to_owned();
            }
            assert!(soon(self.socket.read_buf(&mut self.read)).await.unwrap() > 0, "closed after {text:?}");
        }
    }

    async fn take(&mut self, length: usize) -> String {
        while self.read.len() < length {
            assert!(soon(self.socket.read_buf(&mut self.read)).await.unwrap() > 0, "closed");
        }
        String::from_utf8(self.read.drain(..length).collect()).unwrap()
    }

    /// Reads until the other side closes.
    async fn rest(mut self) -> String {
        soon(self.socket.read_to_end(&mut self.read)).await.unwrap();
        String::from_utf8(self.read).unwrap()
    }
}

/// A member that answers every request with the same bytes.
struct StubMember {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    /// Each response takes a permit.
    gate: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl StubMember {
    /// Connections close after `closes_after` responses.
    async fn start(answer: &'static str, closes_after: usize) -> StubMember {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(1_000_000));
        let shared = (seen.clone(), accepted.clone(), open.clone(), gate.clone());
        let task = tokio::spawn(async move {
            let (seen, accepted, open, gate) = shared;
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                accepted.fetch_add(1, SeqCst);
                open.fetch_add(1, SeqCst);
                let (seen, open, gate) = (seen.clone(), open.clone(), gate.clone());
                connections.spawn(async move {
                    let mut client = TestClient { socket, read: Vec::new() };
                    for _ in 0..closes_after {
                        let Some(request) = read_request(&mut client).await else { break };
                        seen.lock().push(request);
                        tokio::select! {
                            permit = gate.acquire() => permit.unwrap().forget(),
                            // Nothing more is sent on it; it is closed.
                            _ = client.socket.read_u8() => break,
                        }
                        client.send(answer).await;
                    }
                    open.fetch_sub(1, SeqCst);
                });
            }
        });
        StubMember { addr, seen, accepted, open, gate, task }
    }

    async fn ok() -> StubMember {
        StubMember::start(OK, usize::MAX).await
    }

    /// A member that has stopped: nothing listens at its address.
    async fn dead() -> StubMember {
        let member = StubMember::ok().await;
        member.task.abort();
        while TcpStream::connect(member.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
        member
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    async fn wait_open(&self, wanted: impl Fn(usize) -> bool) {
        let reached = async {
            while !wanted(self.open.load(SeqCst)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, reached).await.is_ok(), "{} connections", self.open.load(SeqCst));
    }

    async fn wait_seen(&self, wanted: usize) {
        let reached = async {
            while self.seen.lock().len() < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, reached).await.is_ok(), "{:?}", self.seen());
    }
}

/// Reads a request with a body of a known length. `None` at the end of the connection.
async fn read_request(client: &mut TestClient) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(&client.read).into_owned();
        if let Some(at) = text.find("\r\n\r\n") {
            let length = text[..at]
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.parse().unwrap());
            return Some(client.take(at + 4 + length).await);
        }
        if client.socket.read_buf(&mut client.read).await.ok()? == 0 {
            return None;
        }
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn a_request_reaches_the_member_as_it_was() {
    let member = StubMember::ok().await;
    let proxy = RunningProxy::start(&[], &[&member]).await;
    let mut client = proxy.connect().await;
    let answer = client
        .ask(
            "PUT /v2/keys/a%20b?prevExist=true&x=#y HTTP/1.1\r\nHost: some.host:80\r\nAuthorization: Basic eDp5\r\n\
             X-Forwarded-For: 9.9.9.9\r\nTe: trailers\r\nKeep-Alive: 300\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\n\
             Trailers: y\r\nConnection: keep-alive\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 7\r\n\r\nvalue=1",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let seen = member.seen().remove(0);
    let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!((lines.remove(0), sent), ("PUT /v2/keys/a%20b?prevExist=true&x=%23y HTTP/1.1", "value=1"));
    lines.sort_unstable();
    // The id differs at each start.
    let hops = lines.iter().position(|line| line.starts_with("X-Etcd-Proxy-Hops: ")).unwrap();
    assert_eq!(lines.remove(hops).len(), "X-Etcd-Proxy-Hops: ".len() + 16);
    assert_eq!(
        lines,
        [
            "Authorization: Basic eDp5",
            "Content-Length: 7",
            "Content-Type: application/x-www-form-urlencoded",
            "Host: some.host:80",
            "X-Forwarded-For: 9.9.9.9, 127.0.0.1",
        ]
    );
    // A chunked body is forwarded with a length, and both connections stay open.
    let chunked = "POST http://other.host/q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.ask(chunked).await;
    let seen = member.seen().remove(1);
    assert!(seen.starts_with("POST /q HTTP/1.1\r\n") && seen.ends_with("\r\n\r\nabc"), "{seen}");
    assert!(
        seen.contains("\r\nContent-Length: 3\r\n") && seen.contains("\r\nHost: other.host\r\n"),
        "{seen}"
    );
    assert!(seen.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"), "{seen}");
    assert_eq!(member.accepted.load(SeqCst), 1);
}

#[tokio::test]
async fn a_later_request_that_comes_in_two_pieces_reaches_the_member_as_it_was() {
    let member = StubMember::ok().await;
    let proxy = RunningProxy::start(&[], &[&member]).await;
    for first in
        ["GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n"]
    {
        for sent in
            ["value=abc", "GET /{}{}{} HTTP/1.1\nvalue", "XX / HTTP/9.9\n...", "GET / HTTP/1.1\r\n\r\n"]
        {
            let before = member.seen().len();
            let mut client = proxy.connect().await;
            let head =
                format!("PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", sent.len());
            client.ask(&format!("{first}{head}")).await;
            let (now, later) = sent.split_at(7);
            client.send(now).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = client.ask(&format!("{later}GET /v2/keys/#{{}} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{sent:?}: {answer}");
            client.until("\r\n\r\nok").await;
            let seen = member.seen().split_off(before);
            assert_eq!(body(&seen[1]), sent);
            assert!(seen[2].starts_with("GET /v2/keys/%23%7b%7d HTTP/1.1\r\n"), "{}", seen[2]);
        }
    }
}

#[tokio::test]
async fn a_version_that_is_not_spoken_is_refused_behind_the_answers_before() {
    let member = StubMember::ok().await;
    member.gate.forget_permits(1_000_000);
    let proxy = RunningProxy::start(&[], &[&member]).await;
    let mut client = proxy.connect().await;
    client.send("GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    member.wait_seen(1).await;
    client.send("GET /v2/keys/a HTTP/7.0\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    member.gate.add_permits(1);
    let answers = client.rest().await;
    let (first, second) = answers.split_once("\r\n\r\nok").unwrap_or_else(|| panic!("{answers}"));
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(second.starts_with("HTTP/1.1 505 "), "{answers}");
}

#[tokio::test]
async fn an_answer_reaches_the_client_as_it_was() {
    let answer = "HTTP/1.1 412 Whatever\r\nX-Etcd-Index: 7\r\nX-Raft-Term: 2\r\nKeep-Alive: 1\r\nUpgrade: x\r\n\
                  Connection: keep-alive\r\nContent-Length: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
                  Date: Sat, 21 Nov 2026 11:01:26 GMT\r\n\r\nno\n";
    let member = StubMember::start(answer, usize::MAX).await;
    let proxy = RunningProxy::start(&[], &[&member]).await;
    let answer = proxy.get("/v2/keys/a").await;
    assert_eq!(body(&answer), "no\n");
    let mut lines: Vec<&str> = answer.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(lines.remove(0), "HTTP/1.1 412 Precondition Failed");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Content-Length: 3",
            "Date: Sat, 21 Nov 2026 11:01:26 GMT",
            "Set-Cookie: a",
            "Set-Cookie: b",
            "X-Etcd-Index: 7",
            "X-Raft-Term: 2",
        ]
    );
}

/// A member that sends the head of a response, and the rest only on a signal.
async fn slow_member() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

async fn accept(listener: &TcpListener) -> TestClient {
    let (socket, _) = soon(listener.accept()).await.unwrap();
    let mut member = TestClient { socket, read: Vec::new() };
    read_request(&mut member).await.unwrap();
    member
}

const WATCH: &str = "GET /v2/keys/a?wait=true&stream=true HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_stream_passes_as_it_comes() {
    let (listener, url) = slow_member().await;
    let proxy = RunningProxy::start(&[], &[]).await;
    proxy.proxy.director.replace(&[url]);
    let mut client = proxy.connect().await;
    client.send(WATCH).await;
    let mut member = accept(&listener).await;
    member.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Etcd-Index: 3\r\n\r\n").await;
    let head = client.until("\r\n\r\n").await;
    assert!(
        head.contains("X-Etcd-Index: 3\r\n") && head.contains("Transfer-Encoding: chunked\r\n"),
        "{head}"
    );
    for event in ["{\"a\":1}\n", "{\"a\":2}\n"] {
        tokio::time::sleep(5 * CHECK_INTERVAL).await;
        member.send(&format!("8\r\n{event}\r\n")).await;
        assert_eq!(client.until("}\n\r\n").await, format!("8\r\n{event}\r\n"));
    }
    member.send("0\r\n\r\n").await;
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    // Both connections stay usable.
    client.send(WATCH).await;
    assert!(soon(read_request(&mut member)).await.is_some());
}

#[tokio::test]
async fn who_goes_away_is_not_waited_for() {
    let (listener, url) = slow_member().await;
    let proxy = RunningProxy::start(&[], &[]).await;
    proxy.proxy.director.replace(&[url]);
    // Before the response begins, and within it.
    for head in ["", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
        let mut client = proxy.connect().await;
        client.send(WATCH).await;
        let mut member = accept(&listener).await;
        member.send(head).await;
        if !head.is_empty() {
            client.until("\r\n\r\n").await;
        }
        drop(client);
        assert_eq!(soon(member.socket.read(&mut [0])).await.unwrap_or(0), 0);
    }
    assert_eq!(proxy.proxy.director.available(Instant::now()).len(), 1);
}

#[tokio::test]
async fn a_cut_answer_is_cut_for_the_client_too() {
    let (listener, url) = slow_member().await;
    let proxy = RunningProxy::start(&[], &[]).await;
    proxy.proxy.director.replace(&[url]);
    let mut client = proxy.connect().await;
    client.send(WATCH).await;
    let mut member = accept(&listener).await;
    member.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    client.until("abc\r\n").await;
    drop(member);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_stop_ends_watches_and_finishes_the_rest() {
    let (listener, url) = slow_member().await;
    let proxy = RunningProxy::start(&[], &[]).await;
    proxy.proxy.director.replace(&[url]);
    let mut watching = proxy.connect().await;
    watching.send(WATCH).await;
    let mut watched = accept(&listener).await;
    watched.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    watching.until("\r\n\r\n").await;
    let mut asking = proxy.connect().await;
    asking.send("GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut asked = accept(&listener).await;
    let mut idle = proxy.connect().await;
    idle.ask("GET /v2/config/local/proxy HTTP/1.1\r\nHost: x\r\n\r\n").await;
    proxy.stop.send_replace(true);
    assert_eq!(watching.rest().await, "0\r\n\r\n");
    assert_eq!(idle.rest().await, "");
    asked.send(OK).await;
    assert!(asking.rest().await.ends_with("\r\n\r\nok"));
    soon(proxy.served).await.unwrap();
}

#[tokio::test]
async fn the_next_endpoint_gets_the_same_request() {
    let (dead, alive) = (StubMember::dead().await, StubMember::ok().await);
    let proxy = RunningProxy::start(&[], &[&dead, &alive]).await;
    let put = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nvalue=1";
    // Repeat until the random order starts with the dead endpoint.
    for round in 1..=100 {
        proxy.proxy.director.replace(&[dead.url(), alive.url()]);
        assert_eq!(body(&proxy.ask(put).await), "ok");
        let seen = alive.seen();
        assert_eq!(seen.len(), round);
        assert!(seen[round - 1].ends_with("\r\n\r\nvalue=1"), "{seen:?}");
        if proxy.proxy.director.available(Instant::now()).len() == 1 {
            assert_eq!(body(&proxy.get("/v2/config/local/proxy").await), endpoints_page(&alive));
            return;
        }
    }
    panic!("the dead endpoint was never tried");
}

fn endpoints_page(member: &StubMember) -> String {
    format!("{{\"endpoints\":[\"{}\"]}}\n", member.url())
}

#[tokio::test]
async fn without_endpoints_and_with_failing_ones() {
    let dead = StubMember::dead().await;
    let proxy = RunningProxy::start(&["-proxy-failure-wait=300"], &[]).await;
    let answer = proxy.get("/v2/keys/").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"),
        "{answer}"
    );
    assert_eq!(body(&answer), "{\"message\":\"proxy: zero endpoints currently available\"}");
    proxy.proxy.director.replace(&[dead.url()]);
    for _ in 0..2 {
        let answer = proxy.get("/v2/keys/").await;
        assert!(
            answer.starts_with("HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\n"),
            "{answer}"
        );
        assert_eq!(body(&answer), "{\"message\":\"proxy: unable to get response from 1 endpoint(s)\"}");
        assert!(proxy.get("/v2/keys/").await.starts_with("HTTP/1.1 503 "));
        assert_eq!(body(&proxy.get("/v2/config/local/proxy").await), "{\"endpoints\":[]}\n");
        tokio::time::sleep(Duration::from_millis(310)).await;
    }
    let page = proxy.get("/metrics").await;
    for line in [
        "etcd_proxy_requests_total{method=\"GET\"} 5",
        "etcd_proxy_dropped_total{method=\"GET\",proxying_error=\"failed_sending_request\"} 2",
        "etcd_proxy_dropped_total{method=\"GET\",proxying_error=\"failed_getting_response\"} 2",
        "etcd_proxy_dropped_total{method=\"GET\",proxying_error=\"zero_endpoints\"} 3",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

#[tokio::test]
async fn a_silent_member_is_given_up() {
    let (listener, url) = slow_member().await;
    let proxy = RunningProxy::start(&["-proxy-read-timeout=50"], &[]).await;
    proxy.proxy.director.replace(&[url]);
    let mut client = proxy.connect().await;
    client.send("GET /v2/keys/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let _member = accept(&listener).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 502 "));
    assert_eq!(proxy.proxy.director.available(Instant::now()), [""; 0]);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_no_failure() {
    let member = StubMember::start(OK, 1).await;
    let proxy = RunningProxy::start(&[], &[&member]).await;
    for round in 1..=20 {
        let answer = proxy.ask("POST /v2/keys/q HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx").await;
        assert_eq!(body(&answer), "ok", "{round}");
        member.wait_open(|open| open == 0).await;
    }
    assert_eq!((member.seen().len(), member.accepted.load(SeqCst)), (20, 20));
}

#[tokio::test]
async fn so_many_connections_are_kept() {
    const AT_ONCE: usize = 140;
    let member = StubMember::ok().await;
    member.gate.forget_permits(1_000_000);
    let proxy = RunningProxy::start(&[], &[&member]).await;
    let mut clients = Vec::new();
    for _ in 0..AT_ONCE {
        let mut client = proxy.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        clients.push(client);
    }
    member.wait_seen(AT_ONCE).await;
    assert_eq!(member.open.load(SeqCst), AT_ONCE);
    member.gate.add_permits(AT_ONCE);
    for client in &mut clients {
        client.until("ok").await;
    }
    member.wait_open(|open| open == 128).await;
    // The kept connections serve the next requests.
    member.gate.add_permits(AT_ONCE);
    for _ in 0..10 {
        proxy.get("/").await;
    }
    assert_eq!(member.accepted.load(SeqCst), AT_ONCE);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let member = StubMember::ok().await;
    let proxy = RunningProxy::start(&["-max-request-bytes=1024"], &[&member]).await;
    let put = |length: usize| {
        format!(
            "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{}",
            "x".repeat(length)
        )
    };
    assert_eq!(body(&proxy.ask(&put(1024)).await), "ok");
    let answer = proxy.ask(&put(1025)).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("Connection: close\r\n"), "{answer}");
    assert_eq!(body(&answer), "{\"message\":\"proxy: failed to read request body: request body too large\"}");
    let broken = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answer = proxy.ask(broken).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert_eq!(body(&answer), "{\"message\":\"proxy: failed to read request body: unexpected EOF\"}");
    assert_eq!(member.seen().len(), 1);
}

#[tokio::test]
async fn a_readonly_proxy_passes_reads() {
    let member = StubMember::ok().await;
    let proxy = RunningProxy::start(&["-proxy=readonly", "-cors=*"], &[&member]).await;
    assert_eq!(body(&proxy.get("/v2/keys/a").await), "ok");
    let mut client = proxy.connect().await;
    for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"] {
        let request = format!("{method} /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
        let answer = client.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{answer}");
        assert_eq!((body(&answer), answer.contains("Content-Type")), ("", false), "{answer}");
    }
    let chunked = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let answer = client.ask(chunked).await;
    assert!(answer.starts_with("HTTP/1.1 501 ") && !answer.contains("close"), "{answer}");
    assert_eq!(member.seen().len(), 1);
    assert!(client.ask("PUT /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let moved = client.ask("PUT //a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(moved.starts_with("HTTP/1.1 301 "), "{moved}");
}

#[tokio::test]
async fn other_origins() {
    let member = StubMember::ok().await;
    let proxy = RunningProxy::start(&["-cors=http://a.example"], &[&member]).await;
    let ask = async |method: &str, path: &str, origin: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n");
        proxy.ask(&request).await
    };
    let allowed = "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n\
                   Access-Control-Allow-Origin: http://a.example\r\n\
                   Access-Control-Allow-Headers: accept, content-type, authorization\r\n";
    for (method, path) in
        [("OPTIONS", "/v2/keys/a"), ("GET", "/v2/keys/a"), ("GET", "/v2/config/local/proxy")]
    {
        let answer = ask(method, path, "http://a.example").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(allowed), "{answer}");
        let answer = ask(method, path, "http://b.example").await;
        assert!(!answer.contains("Access-Control"), "{answer}");
    }
    assert_eq!(member.seen().len(), 2);
}

#[tokio::test]
async fn the_local_page_knows_one_method() {
    let member = StubMember::ok().await;
    let proxy = RunningProxy::start(&[], &[&member]).await;
    let answer = proxy.get("/v2/config/local/proxy").await;
    assert!(answer.contains("Content-Type: text/plain; charset=utf-8\r\n"), "{answer}");
    assert_eq!(body(&answer), endpoints_page(&member));
    let answer = proxy.ask("PUT /v2/config/local/proxy HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: GET\r\n"), "{answer}");
    assert_eq!(body(&answer), "Method Not Allowed\n");
    assert_eq!(member.seen(), [""; 0]);
}

/// A refresher that asks the stubs for the member list, and its cluster file.
fn asking(stubs: &[&StubMember]) -> (MemberRefresher<SimDisk>, ClusterFile<SimDisk>, Arc<Director>) {
    let config = ProxyConfig {
        mode: ProxyMode::On,
        failure_wait: PATIENCE,
        refresh_interval: PATIENCE,
        dial_timeout: Some(PATIENCE),
        write_timeout: None,
        read_timeout: None,
    };
    let file = ClusterFile::in_data_dir(SimDisk::new(1), Path::new("/d")).unwrap();
    let director =
        Arc::new(Director::new(PATIENCE, 128, shared::url::Urls::parse("http://10.0.0.1:1").unwrap()));
    let connector = Connector::new(shared::net::Dialer::plain(), &config);
    let urls = stubs.iter().map(|member| member.url()).collect();
    (MemberRefresher::new(connector, director.clone(), file.clone(), urls), file, director)
}

#[tokio::test]
async fn the_members_tell_where_to_go() {
    let list = "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 1\r\nConnection: close\r\n\r\n\
                [{\"id\":2,\"peerURLs\":[\"http://h:2\"],\"name\":\"a\",\"clientURLs\":[\"http://h:4\",\"http://h:3\"]},\
                {\"id\":1,\"peerURLs\":[\"http://h:1\"],\"name\":\"b\",\"clientURLs\":[\"http://h:5\"]},\
                {\"id\":3,\"peerURLs\":[\"http://h:6\"],\"name\":\"\"}]";
    let (dead, member) = (StubMember::dead().await, StubMember::start(list, 1).await);
    let (mut members, file, director) = asking(&[&dead, &member]);
    members.refresh().await;
    let mut available = director.available(Instant::now());
    available.sort();
    assert_eq!(available, ["http://h:3", "http://h:4", "http://h:5"]);
    assert_eq!(file.read().unwrap().unwrap(), ["http://h:1", "http://h:2", "http://h:6"]);
    let seen = member.seen().remove(0);
    assert!(seen.starts_with("GET /members HTTP/1.1\r\n"), "{seen}");
}

#[tokio::test]
async fn nobody_who_answers_means_no_endpoints_and_an_empty_list_no_news() {
    let list = "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 1\r\nConnection: close\r\n\r\n\
                [{\"id\":1,\"peerURLs\":[\"http://127.0.0.1:1\"],\"clientURLs\":[\"http://h:5\"]}]";
    let member = StubMember::start(list, 1).await;
    let (mut members, file, director) = asking(&[&member]);
    members.refresh().await;
    assert_eq!(director.available(Instant::now()), ["http://h:5"]);
    // The listed member does not answer: nothing listens at port 1.
    members.refresh().await;
    assert_eq!(director.available(Instant::now()), [""; 0]);
    assert_eq!(file.read().unwrap().unwrap(), ["http://127.0.0.1:1"]);

    let empty =
        StubMember::start("HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 1\r\nConnection: close\r\n\r\n[]", 1).await;
    let (mut members, file, director) = asking(&[&empty]);
    members.refresh().await;
    assert_eq!((director.available(Instant::now()), file.read().unwrap()), (Vec::new(), None));
}

impl RunningProxy {
    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn lead_to(&self, urls: &[String]) {
        self.proxy.director.replace(urls);
    }

    fn requests(&self) -> f64 {
        let families = self.proxy.process_metrics.registry().gather();
        let requests = families.iter().filter(|family| family.name() == "etcd_proxy_requests_total");
        requests.flat_map(|family| family.get_metric()).map(|metric| metric.get_counter().get_value()).sum()
    }
}

const PUT: &str = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nvalue=1";
const HEAD: &str = "HEAD /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_request_that_comes_back_is_answered_once() {
    // A loop to itself, and one over another proxy.
    let (alone, first, second) = (
        RunningProxy::start(&[], &[]).await,
        RunningProxy::start(&[], &[]).await,
        RunningProxy::start(&[], &[]).await,
    );
    for request in [PUT, HEAD, WATCH] {
        alone.lead_to(&[alone.url()]);
        first.lead_to(&[second.url()]);
        second.lead_to(&[first.url()]);
        for proxy in [&alone, &first, &second] {
            // The second request finds the endpoint marked.
            for _ in 0..2 {
                let before: f64 = [&alone, &first, &second].iter().map(|proxy| proxy.requests()).sum();
                let answer = proxy.ask(request).await;
                assert!(answer.starts_with("HTTP/1.1 508 Loop Detected\r\n"), "{answer}");
                assert!(request == HEAD || answer.contains("-advertise-client-urls"), "{answer}");
                let after: f64 = [&alone, &first, &second].iter().map(|proxy| proxy.requests()).sum();
                assert!(after - before <= 3.0, "{} requests", after - before);
            }
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_leads_back_does_not_spoil_the_others() {
    let member = StubMember::ok().await;
    let proxy = RunningProxy::start(&[], &[]).await;
    for _ in 0..8 {
        // In random order.
        proxy.lead_to(&[proxy.url(), member.url()]);
        assert!(proxy.ask(PUT).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    // A client's own hops header affects only that request.
    let ids: Vec<String> = (0..20).map(|number| format!("{number:016x}")).collect();
    let far = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Etcd-Proxy-Hops: {}\r\n\r\n", ids.join(", "));
    assert!(proxy.ask(&far).await.starts_with("HTTP/1.1 508 "));
    assert!(proxy.ask(PUT).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_chain_of_proxies_passes_requests_on() {
    let member = StubMember::ok().await;
    let mut chain = vec![RunningProxy::start(&[], &[&member]).await];
    for _ in 0..3 {
        let next = RunningProxy::start(&[], &[]).await;
        next.lead_to(&[chain[chain.len() - 1].url()]);
        chain.push(next);
    }
    for request in [PUT, HEAD, WATCH] {
        let answer = chain[3].ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let hops = member.seen().remove(0);
    let hops = hops.lines().find_map(|line| line.strip_prefix("X-Etcd-Proxy-Hops: ")).unwrap();
    assert_eq!(hops.split(", ").count(), 4, "{hops}");
}

#[tokio::test]
async fn an_answer_may_have_many_header_lines() {
    let lines: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok");
    let member = StubMember::start(answer.leak(), usize::MAX).await;
    let proxy = RunningProxy::start(&[], &[&member]).await;
    let answer = proxy.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\nX-199: y\r\n"), "{answer}");
}

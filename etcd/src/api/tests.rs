//! The HTTP side as a whole, in front of a member without a log: bytes in, bytes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus::proto::Metric;
use shared::net::{Acceptor, ClientTlsFiles, Dialer, ServerTlsFiles, Stream};
use shared::store::Store;
use shared::time::UnixNanos;
use shared::v2;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

mod depth;
mod framing;
mod head;
mod listings;
mod pipelines;
mod plain_reads;
mod v3_api;
mod watches;

use super::{Context, Options};
use crate::backend::Backend as _;
use crate::backend::stand_in::StandIn;
use crate::connections::ConnectionSlots;
use crate::metrics::Metrics as ProcessMetrics;
use crate::transport::{Cors, Limits, serve};

/// The longest wait in a test.
const PATIENCE: Duration = Duration::from_secs(10);

/// A clock that only moves when it is read: two nanoseconds each time.
fn clock() -> UnixNanos {
    static NOW: AtomicI64 = AtomicI64::new(1_795_258_886_000_000_000);
    UnixNanos(NOW.fetch_add(2, Ordering::Relaxed))
}

struct Server {
    context: Arc<Context<StandIn>>,
    addr: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Server {
    async fn start() -> Server {
        Server::start_with(Limits::default(), |_| {}, Acceptor::plain()).await
    }

    async fn start_with(
        limits: Limits,
        change: impl FnOnce(&mut Context<StandIn>),
        acceptor: Acceptor,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Small buffers, so that the server notices how its clients read.
        SockRef::from(&listener).set_send_buffer_size(64 * 1024).unwrap();
        let addr = listener.local_addr().unwrap();
        let backend = StandIn::new("m", "http://127.0.0.1:1", &format!("http://{addr}"), clock);
        let options = Options { limits, ..Options::default() };
        let metrics = Arc::new(ProcessMetrics::new());
        let mut context = Context::new(backend, options, metrics, crate::log::start(clock)).unwrap();
        change(&mut context);
        let context = Arc::new(context);
        let (stop, stopping) = watch::channel(false);
        let served = tokio::spawn(serve(
            listener,
            acceptor,
            context.clone(),
            stopping,
            ConnectionSlots::many(),
            Arc::default(),
        ));
        Server { context, addr, stop, served }
    }

    async fn connect(&self) -> Client {
        Client { socket: Stream::Plain(TcpStream::connect(self.addr).await.unwrap()), read: Vec::new() }
    }

    fn put(&self, key: &str, value: &str) {
        let path = format!("/1{key}").into();
        let val = value.to_owned().into();
        let request = v2::Request { verb: v2::Verb::Put, path, val, ..v2::Request::default() };
        self.context.backend.apply(&request).unwrap();
    }

    fn watchers(&self) -> u64 {
        use crate::backend::Backend;
        self.context.backend.store().watchers()
    }

    async fn wait_for_watchers(&self, wanted: u64) {
        let reached = async {
            while self.watchers() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{} watchers", self.watchers()));
    }
}

struct Client {
    socket: Stream,
    read: Vec<u8>,
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    async fn fill(&mut self) -> bool {
        let read = timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await.expect("bytes or the end");
        read.unwrap_or(0) > 0
    }

    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(self.fill().await, "the connection ended: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The status line and headers of the next response, and its body.
    async fn answer(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n").await;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.fill().await, "the connection ended inside a body");
        }
        let rest = self.read.split_off(length);
        let body = std::mem::replace(&mut self.read, rest);
        (head, String::from_utf8(body).unwrap())
    }

    async fn read_to_end(mut self) -> String {
        while self.fill().await {}
        String::from_utf8(self.read).unwrap()
    }
}

fn status(head: &str) -> &str {
    head.lines().next().unwrap_or_default()
}

const GET_A: &str = "GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn requests_that_come_together_are_answered_in_order() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client
        .send(&format!(
            "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 7\r\n\r\nvalue=1{GET_A}GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
        ))
        .await;
    let (head, body) = client.answer().await;
    assert_eq!(status(&head), "HTTP/1.1 201 Created");
    assert_eq!(
        body,
        "{\"action\":\"set\",\"node\":{\"key\":\"/a\",\"value\":\"1\",\"modifiedIndex\":2,\"createdIndex\":2}}\n"
    );
    let (head, body) = client.answer().await;
    let names: Vec<&str> =
        head.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let wanted = [
        "X-Etcd-Cluster-Id",
        "Content-Type",
        "X-Etcd-Index",
        "X-Raft-Index",
        "X-Raft-Term",
        "Content-Length",
        "Date",
    ];
    assert_eq!(names, wanted);
    assert!(body.starts_with("{\"action\":\"get\""), "{body}");
    assert_eq!(client.answer().await.1, "{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"2.3.0\"}");
}

#[tokio::test]
async fn odd_request_lines_are_understood_on_a_connection_s_later_requests_too() {
    let server = Server::start().await;
    server.put("/a", "<1>");
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.send("GET /v2/keys/a#b HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = client.answer().await;
        assert_eq!(status(&head), "HTTP/1.1 404 Not Found");
        assert!(body.contains("\"cause\":\"/a#b\""), "{body}");
        client
            .send(
                "PUT /v2/keys/a?prevValue=<1> HTTP/1.1\r\nHost: x\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nvalue=<1>",
            )
            .await;
        assert_eq!(status(&client.answer().await.0), "HTTP/1.1 200 OK");
    }
    // In a body the same bytes are not changed.
    client
        .send(
            "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 25\r\n\r\n",
        )
        .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.send("value=GET /a# HTTP/1.1\r\n\r").await;
    let (_, body) = client.answer().await;
    assert!(body.contains("\"value\":\"GET /a# HTTP/1.1\\r\\n\\r\""), "{body}");
    client.send("GET / HTTP/7.0\r\n\r\n").await;
    let end = client.read_to_end().await;
    assert!(
        end.starts_with("HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version\r\n"),
        "{end}"
    );
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_in_json() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let server = Server::start_with(limits, |_| {}, Acceptor::plain()).await;
    let put = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let mut announced = server.connect().await;
    announced.send(&format!("{put}Content-Length: 1001\r\n\r\n")).await;
    let mut chunked = server.connect().await;
    chunked.send(&format!("{put}Transfer-Encoding: chunked\r\n\r\n")).await;
    for _ in 0..2 {
        chunked.send(&format!("1f5\r\n{}\r\n", "x".repeat(501))).await;
    }
    for mut client in [announced, chunked] {
        let (head, body) = client.answer().await;
        assert_eq!(status(&head), "HTTP/1.1 413 Payload Too Large");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        let wanted = "{\"errorCode\":210,\"message\":\"Invalid POST form\",\"cause\":\"request body too large\",\"index\":0}\n";
        assert_eq!(body, wanted);
        assert_eq!(client.read_to_end().await, "");
    }
    let mut fits = server.connect().await;
    fits.send(&format!("{put}Content-Length: 1000\r\n\r\nvalue={}", "x".repeat(994))).await;
    assert_eq!(status(&fits.answer().await.0), "HTTP/1.1 201 Created");
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let limits = Limits { head_bytes_max: 8192, ..Limits::default() };
    let server = Server::start_with(limits, |_| {}, Acceptor::plain()).await;
    for head in [format!("X: {}\r\n", "x".repeat(9000)), format!("X: {}", "x".repeat(20_000))] {
        let mut client = server.connect().await;
        client.send(&format!("GET /version HTTP/1.1\r\nHost: x\r\n{head}\r\n")).await;
        let (head, _) = client.answer().await;
        assert_eq!(status(&head), "HTTP/1.1 431 Request Header Fields Too Large");
    }
}

#[tokio::test]
async fn a_body_that_nobody_wants_does_not_end_the_connection() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n0123456789").await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    client.send(&format!("0123456789{GET_A}")).await;
    let (head, body) = client.answer().await;
    assert_eq!((status(&head), &body[..]), ("HTTP/1.1 404 Not Found", "404 page not found\n"));
    assert_eq!(status(&client.answer().await.0), "HTTP/1.1 404 Not Found");
    // A long body, one that waits for `100 Continue`, or the last one on its connection ends it.
    for (length, more) in [("1000000", ""), ("5", "Expect: 100-continue\r\n"), ("5", "Connection: close\r\n")]
    {
        let mut client = server.connect().await;
        let head = format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n");
        client.send(&head).await;
        let answer = client.read_to_end().await;
        assert!(
            answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("Connection: close"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn what_go_refuses_before_any_page_is_refused() {
    let server = Server::start().await;
    for (head, wanted) in [
        ("GET /version HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"),
        ("GET /version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        ("GET version HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        ("GET /version HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request: malformed Host header"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
    ] {
        let mut client = server.connect().await;
        client.send(head).await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}\r\n")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{wanted}")), "{answer}");
    }
    let mut client = server.connect().await;
    client.send("GET /version HTTP/1.1\r\nHost: a\r\nExpect: gold\r\n\r\n").await;
    assert_eq!(status(&client.answer().await.0), "HTTP/1.1 417 Expectation Failed");
}

#[tokio::test]
async fn an_idle_connection_rests_and_goes_on() {
    let interval = Duration::from_millis(20);
    let server = Server::start_with(
        Limits::default(),
        |context| context.http_server.check_interval = interval,
        Acceptor::plain(),
    )
    .await;
    server.put("/a", "1");
    let mut client = server.connect().await;
    for _ in 0..3 {
        tokio::time::sleep(interval * 4).await;
        client.send(GET_A).await;
        assert_eq!(status(&client.answer().await.0), "HTTP/1.1 200 OK");
        // A part of a request survives an idle phase too.
        let (start, end) = GET_A.split_at(20);
        client.send(start).await;
        tokio::time::sleep(interval * 4).await;
        client.send(end).await;
        assert_eq!(status(&client.answer().await.0), "HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up() {
    let interval = Duration::from_millis(5);
    let server = Server::start_with(
        Limits::default(),
        |context| context.http_server.check_interval = interval,
        Acceptor::plain(),
    )
    .await;
    for start in [
        "GET /v2/ke",
        "GET /v2/keys/a HTTP/1.1\r\nHost: ",
        "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nval",
    ] {
        let mut client = server.connect().await;
        client.send(start).await;
        client.read_to_end().await;
    }
}

/// A client that requests a long value with a small receive buffer, so that the server has to wait. If `later`, it
/// has sent another request before.
async fn slow_reader(server: &Server, later: bool) -> Client {
    server.put("/a", &"x".repeat(LONG));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let socket = Stream::Plain(socket.connect(server.addr).await.unwrap());
    let mut client = Client { socket, read: Vec::new() };
    if later {
        client.send("GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.answer().await;
    }
    client.send(GET_A).await;
    client.until("\r\n\r\n").await;
    client
}

const LONG: usize = 12 * 1024 * 1024;

#[tokio::test]
async fn a_slow_reader_gets_all_of_a_long_answer() {
    let interval = Duration::from_millis(20);
    let server = Server::start_with(
        Limits::default(),
        |context| context.http_server.check_interval = interval,
        Acceptor::plain(),
    )
    .await;
    for later in [false, true] {
        let mut client = slow_reader(&server, later).await;
        // Longer than one check, shorter than the patience with a stalled client.
        tokio::time::sleep(interval * 5).await;
        assert!(client.until("}\n").await.len() > LONG);
    }
}

#[tokio::test]
async fn a_reader_that_goes_on_slowly_is_not_given_up() {
    let interval = Duration::from_millis(20);
    let server = Server::start_with(
        Limits::default(),
        |context| context.http_server.check_interval = interval,
        Acceptor::plain(),
    )
    .await;
    for later in [false, true] {
        let mut client = slow_reader(&server, later).await;
        let began = std::time::Instant::now();
        let mut part = vec![0; 128 * 1024];
        let mut got = client.read.len();
        while got < LONG {
            tokio::time::sleep(interval * 2).await;
            let read =
                timeout(PATIENCE, client.socket.read(&mut part)).await.expect("bytes or the end").unwrap();
            assert!(read > 0, "given up after {got} bytes");
            got += read;
        }
        let patience = server.context.http_server.stall_time_max();
        assert!(began.elapsed() > patience, "the test is too quick to tell: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_reader_that_stops_is_given_up() {
    let interval = Duration::from_millis(5);
    let server = Server::start_with(
        Limits::default(),
        |context| context.http_server.check_interval = interval,
        Acceptor::plain(),
    )
    .await;
    for later in [false, true] {
        let client = slow_reader(&server, later).await;
        tokio::time::sleep(interval * 60).await;
        assert!(client.read_to_end().await.len() < LONG);
    }
}

#[tokio::test]
async fn the_end_answers_what_was_asked_and_cuts_watches() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    idle.send(GET_A).await;
    idle.answer().await;
    let mut watching = server.connect().await;
    watching.send("GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    watching.until("\r\n\r\n").await;
    let held = server.context.backend.gate.write().await;
    let mut writing = server.connect().await;
    writing.send("DELETE /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    server.stop.send_replace(true);
    assert_eq!(idle.read_to_end().await, "");
    // No final chunk, so that the client knows that its response is incomplete.
    assert_eq!(watching.read_to_end().await, "");
    assert!(!server.served.is_finished());
    drop(held);
    let answer = writing.read_to_end().await;
    assert!(
        answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("Connection: close"),
        "{answer}"
    );
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn who_closes_its_side_behind_a_request_gets_the_answer() {
    let server = Server::start().await;
    let held = server.context.backend.gate.write().await;
    let mut client = server.connect().await;
    client.send("DELETE /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.socket.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(held);
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 404 Not Found\r\n"));
}

/// A server with TLS, and a dialer that can connect to it.
async fn encrypted(change: impl FnOnce(&mut Context<StandIn>)) -> (Server, Dialer) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cert = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let files = ServerTlsFiles { cert: Some(cert.clone()), key: Some(key), ..ServerTlsFiles::default() };
    let server = Server::start_with(Limits::default(), change, Acceptor::tls(&files).unwrap()).await;
    let dialer = Dialer::new(&ClientTlsFiles { ca: vec![cert], ..ClientTlsFiles::default() }).unwrap();
    (server, dialer)
}

async fn dial(dialer: &Dialer, server: &Server) -> Client {
    let url = format!("https://localhost:{}", server.addr.port()).parse().unwrap();
    Client { socket: dialer.dial(&url, PATIENCE).await.unwrap(), read: Vec::new() }
}

#[tokio::test]
async fn encrypted_connections_do_all_the_same() {
    let interval = Duration::from_millis(20);
    let (server, dialer) = encrypted(|context| context.http_server.check_interval = interval).await;
    let mut socket = dial(&dialer, &server).await.socket;
    for round in 0..3 {
        socket.write_all(b"GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        server.wait_for_watchers(1).await;
        server.put("/a", &"x".repeat(round * 40_000));
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n0\r\n\r\n") {
            assert!(timeout(PATIENCE, socket.read_buf(&mut read)).await.unwrap().unwrap() > 0);
        }
        tokio::time::sleep(interval * 4).await;
    }
    // A client without TLS gets an error.
    let mut plain = server.connect().await;
    plain.send(GET_A).await;
    let answer = plain.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    let mut neither = server.connect().await;
    neither.send("SSH-2.0-x\r\n").await;
    assert!(!neither.read_to_end().await.contains("HTTP"));
}

#[tokio::test]
async fn checks_tell_which_of_them_failed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let ask = async |client: &mut Client, line: &str| {
        client.send(&format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let (head, body) = client.answer().await;
        (status(&head)["HTTP/1.1 ".len()..].to_owned(), body)
    };
    let all =
        "[+]serializable_read ok\n[+]leader ok\n[+]caught_up ok\n[+]linearizable_read ok\n[+]log ok\nok\n";
    for (line, wanted, text) in [
        ("GET /livez", "200 OK", "ok\n"),
        ("GET /livez?verbose", "200 OK", "[+]serializable_read ok\nok\n"),
        ("GET /readyz", "200 OK", "ok\n"),
        ("GET /readyz?verbose=1", "200 OK", all),
        ("GET /readyz/leader?verbose", "200 OK", "[+]leader ok\nok\n"),
        ("GET /readyz/leader", "200 OK", "ok\n"),
        ("GET /livez/leader", "404 Not Found", "404 page not found\n"),
        ("GET /readyz/", "404 Not Found", "404 page not found\n"),
        ("PUT /readyz", "405 Method Not Allowed", "Method Not Allowed\n"),
        ("GET /livezz", "404 Not Found", "404 page not found\n"),
    ] {
        let (code, body) = ask(&mut client, line).await;
        assert_eq!((code.as_str(), body.as_str()), (wanted, text), "{line}");
    }
    // No entry is applied.
    let gate = server.context.backend.gate.write().await;
    let (code, body) = ask(&mut client, "GET /readyz").await;
    assert_eq!(code, "503 Service Unavailable");
    assert!(body.starts_with("[+]serializable_read ok\n[+]leader ok\n[+]caught_up ok\n"), "{body}");
    assert!(body.contains("\n[-]linearizable_read failed: ") && body.contains("\n[-]log failed: "), "{body}");
    assert_eq!(ask(&mut client, "GET /livez").await.0, "200 OK");
    let rest = "GET /readyz?verbose&exclude=log&exclude=linearizable_read";
    assert_eq!(ask(&mut client, rest).await.0, "200 OK");
    assert_eq!(ask(&mut client, "GET /readyz?allowlist=log").await.0, "503 Service Unavailable");
    drop(gate);
    assert_eq!(ask(&mut client, "GET /readyz").await.0, "200 OK");
}

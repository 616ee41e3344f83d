use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const GOOD: &str =
    "X-Server-Version: 2.3.8\r\nX-Min-Cluster-Version: 2.2.0\r\nX-Etcd-Cluster-Id: c46df306ea09afe5";

/// Sends a request and reads until the connection ends. Returns the status and the body, both empty if nothing was
/// sent.
async fn ask(node: &Node, request: &str, headers: &str, body: &[u8]) -> (String, String) {
    let mut socket = TcpStream::connect(node.address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: x\r\n{headers}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = String::new();
    timeout(TIME_MAX, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return (answer, String::new()) };
    let status = head.split("\r\n").next().unwrap().trim_start_matches("HTTP/1.1 ");
    if !request.starts_with("GET /version")
        && status != "405 Method Not Allowed"
        && !status.starts_with("200")
    {
        assert!(head.contains("\r\nX-Etcd-Cluster-Id: c46df306ea09afe5"), "{head}");
    }
    (status.to_owned(), body.to_owned())
}

async fn answers(node: &Node, request: &str, headers: &str, body: &[u8], status: &str, text: &str) {
    let got = ask(node, request, headers, body).await;
    let wanted = if text.is_empty() { String::new() } else { format!("{text}\n") };
    assert_eq!(got, (status.to_owned(), wanted), "{request} {headers}");
}

#[tokio::test]
async fn requests_for_streams_are_checked_in_order() {
    let (node, other) = (Node::start(0x11).await, Node::start(0x22).await);
    node.knows(&other);
    let get = "GET /raft/stream/msgapp/22";
    let not_allowed = ("405 Method Not Allowed", "Method Not Allowed");
    answers(&node, "POST /raft/stream/msgapp/22", "A: b", b"", not_allowed.0, not_allowed.1).await;
    let failed = "412 Precondition Failed";
    answers(&node, get, "X-Etcd-Cluster-Id: 1", b"", failed, "incompatible version").await;
    let other_cluster = GOOD.replace("c46d", "c46e");
    answers(&node, "GET /raft/stream/x", &other_cluster, b"", failed, "cluster ID mismatch").await;
    answers(&node, "GET /raft/stream/22", GOOD, b"", "404 Not Found", "invalid path").await;
    answers(&node, "GET /raft/stream/msgapp/a/b", GOOD, b"", "404 Not Found", "invalid path").await;
    answers(&node, "GET /raft/stream/msgapp/xyz", GOOD, b"", "404 Not Found", "invalid from").await;
    answers(&node, "GET /raft/stream/message/", GOOD, b"", "404 Not Found", "invalid from").await;
    answers(&node, "GET /raft/stream/message/dead", GOOD, b"", "410 Gone", "removed member").await;
    answers(&node, "GET /raft/stream/message/44", GOOD, b"", "404 Not Found", "error sender not found").await;
    answers(&node, get, GOOD, b"", failed, "to field mismatch").await;
    // A sender that is no known member, but names its URLs, gets answers.
    let mut joiner = Node::start(0x55).await;
    let remote = format!("{GOOD}\r\nX-Peerurls: {}", joiner.url());
    answers(&node, "GET /raft/stream/message/55", &remote, b"", "404 Not Found", "error sender not found")
        .await;
    let reply = plain(APPEND_RESPONSE, node.id, joiner.id, 1);
    node.transport.send(vec![reply.clone()]);
    assert_eq!(joiner.next_message().await, reply);
}

#[tokio::test]
async fn posted_messages_are_checked_in_order() {
    let mut node = Node::start(0x11).await;
    let post = "POST /raft";
    answers(&node, "GET /raft", GOOD, b"", "405 Method Not Allowed", "Method Not Allowed").await;
    answers(&node, post, "A: b", b"", "412 Precondition Failed", "incompatible version").await;
    let too_new = GOOD.replace("2.2.0", "3.0.0");
    answers(&node, post, &too_new, b"", "412 Precondition Failed", "incompatible version").await;
    let other_cluster = GOOD.replace("c46d", "c46e");
    answers(&node, post, &other_cluster, b"", "412 Precondition Failed", "cluster ID mismatch").await;
    answers(&node, post, GOOD, b"\x08", "400 Bad Request", "error unmarshaling raft message").await;
    answers(&node, post, GOOD, b"", "204 No Content", "").await;
    answers(&node, post, GOOD, &[8, 99], "204 No Content", "").await;
    let from_removed = [8, 8, 16, 0x11, 24, 0xad, 0xbd, 3];
    let refused = "500 Internal Server Error";
    answers(&node, post, GOOD, &from_removed, refused, "error processing raft message").await;
    let heartbeat = [8, 8, 16, 0x11, 24, 0x22];
    answers(&node, post, GOOD, &heartbeat, "204 No Content", "").await;
    let got = node.next_message().await;
    assert_eq!((got.from(), got.to()), (MemberId(0x22), MemberId(0x11)));
}

#[tokio::test]
async fn a_posted_store_of_version_three_is_refused() {
    let node = Node::start(0x11).await;
    let post = "POST /raft/snapshot";
    answers(&node, "GET /raft/snapshot", GOOD, b"", "405 Method Not Allowed", "Method Not Allowed").await;
    answers(&node, post, "A: b", b"", "412 Precondition Failed", "incompatible version").await;
    let cut = "failed to decode raft message (unexpected EOF)";
    answers(&node, post, GOOD, &[0, 0, 0], "400 Bad Request", cut).await;
    let heartbeat = [0, 0, 0, 0, 0, 0, 0, 2, 8, 8];
    answers(&node, post, GOOD, &heartbeat, "400 Bad Request", "wrong raft message type").await;
    let snapshot = [0, 0, 0, 0, 0, 0, 0, 2, 8, 7, b'd', b'b'];
    let refused = "failed to save KV snapshot (this member keeps no v3 data)";
    answers(&node, post, GOOD, &snapshot, "500 Internal Server Error", refused).await;
}

#[tokio::test]
async fn a_version_that_is_none_closes_the_connection() {
    let node = Node::start(0x11).await;
    for request in ["POST /raft", "GET /raft/stream/msgapp/22", "POST /raft/snapshot"] {
        let headers = GOOD.replace("2.3.8", "new");
        assert_eq!(ask(&node, request, &headers, b"").await, (String::new(), String::new()), "{request}");
    }
}

#[tokio::test]
async fn who_closes_its_side_behind_a_request_gets_the_answer() {
    let node = Node::start(0x11).await;
    let socket = TcpStream::connect(node.address).await.unwrap();
    // Gives the server time to wait for the request.
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The request and the end of the connection arrive together, because the server runs on this thread.
    let mut socket = socket.into_std().unwrap();
    std::io::Write::write_all(
        &mut socket,
        b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\x08",
    )
    .unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let mut socket = TcpStream::from_std(socket).unwrap();
    timeout(TIME_MAX, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 412 Precondition Failed\r\n"), "{answer:?}");
}

#[tokio::test]
async fn pages_tell_about_the_member() {
    let node = Node::start(0x11).await;
    let version =
        ("200 OK".to_owned(), "{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"not_decided\"}".to_owned());
    assert_eq!(ask(&node, "GET /version", "A: b", b"").await, version);
    let members = format!("[{{\"id\":17,\"peerURLs\":[\"{}\"],\"name\":\"m\"}}]", node.url());
    answers(&node, "GET /members", "A: b", b"", "200 OK", &members).await;
    let probing = "{\"OK\":true,\"Now\":\"2026-11-21T07:43:29Z\"}";
    answers(&node, "GET /raft/probing", "A: b", b"", "200 OK", probing).await;
    answers(&node, "PUT /members", "A: b", b"", "405 Method Not Allowed", "Method Not Allowed").await;
}

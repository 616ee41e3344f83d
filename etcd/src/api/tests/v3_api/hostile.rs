//! Clients that send what no client should.

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// `POST /x`, compressed by the static table alone.
fn head() -> Vec<u8> {
    let mut head = vec![0x83, 0x86, 0x04, 2];
    head.extend(b"/x");
    head.extend([0x01, 1, b'x']);
    head
}

/// Reads frames until one of this kind comes; `None` if the connection ends before.
async fn read_until(socket: &mut TcpStream, kind: u8) -> Option<Vec<u8>> {
    let read = async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
            socket.read_exact(&mut payload).await.ok()?;
            if head[3] == kind {
                return Some(payload);
            }
        }
    };
    timeout(PATIENCE, read).await.expect("a frame or the end")
}

async fn greet(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    socket
}

/// The server still answers others.
async fn assert_serves(server: &Server) {
    assert!(Channel::to(server).await.kv().put(put("a", "1")).await.is_ok());
    let mut client = server.connect().await;
    client.send(GET_A).await;
    client.answer().await;
}

#[tokio::test]
async fn the_preface_may_come_in_any_pieces() {
    let (server, _) = start().await;
    for cut in [1, 3, 4, 16, 23] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(&PREFACE[..cut]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        socket.write_all(&PREFACE[cut..]).await.unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        assert!(read_until(&mut socket, SETTINGS).await.is_some(), "{cut}");
    }
}

#[tokio::test]
async fn what_only_begins_like_the_preface_is_http_1() {
    let (server, _) = start().await;
    for (first, rest) in
        [("P", "UT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), ("PR", "I / X\r\n\r\n")]
    {
        let mut client = server.connect().await;
        client.send(first).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.send(rest).await;
        let (head, _) = client.answer().await;
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
    }
    // After a request of HTTP/1 the preface is a request, and a malformed one.
    let mut client = server.connect().await;
    client.send(GET_A).await;
    client.answer().await;
    client.send(std::str::from_utf8(PREFACE).unwrap()).await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 505"), "{answer}");
}

#[tokio::test]
async fn half_a_preface_does_not_keep_its_connection_for_ever() {
    let member = Arc::new(Member::new());
    let services = Services::new(member, Settings::default());
    let change = |context: &mut Context<StandIn>| {
        context.v3 = Some(services);
        context.http_server.check_interval = Duration::from_millis(5);
    };
    let server = Server::start_with(Limits::default(), change, Acceptor::plain()).await;
    let mut client = server.connect().await;
    client.send("PRI * HTT").await;
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn a_rapid_reset_ends_the_connection_and_nothing_else() {
    let (server, _) = start().await;
    let mut socket = greet(&server).await;
    let mut frames = Vec::new();
    for number in 0..5000_u32 {
        frames.extend(frame(HEADERS, END_HEADERS, 2 * number + 1, &head()));
        frames.extend(frame(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8]));
    }
    // The server may close before all is written.
    let _ = socket.write_all(&frames).await;
    let goaway = read_until(&mut socket, GOAWAY).await;
    if let Some(goaway) = goaway {
        assert_eq!(goaway[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let (server, _) = start().await;
    // Ever more parts of one head.
    let mut socket = greet(&server).await;
    let mut sent = socket.write_all(&frame(HEADERS, 0, 1, &head())).await;
    let mut field = vec![0x00, 1, b'a', 127, 0x81, 0x7e];
    field.extend(vec![b'v'; 16_384]);
    field.truncate(16_384);
    for _ in 0..200 {
        if sent.is_err() {
            break;
        }
        sent = socket.write_all(&frame(CONTINUATION, 0, 1, &field)).await;
    }
    let _ = read_until(&mut socket, GOAWAY).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_giant_head_is_refused_and_the_connection_goes_on() {
    let (server, _) = start().await;
    let channel = Channel::to(&server).await;
    let mut request = tonic::Request::new(put("a", "1"));
    request.metadata_mut().insert("token", "x".repeat(200 * 1024).parse().unwrap());
    assert!(channel.kv().put(request).await.is_err());
    assert!(channel.kv().put(put("a", "1")).await.is_ok());
    assert_serves(&server).await;
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection() {
    let (server, _) = start().await;
    for garbage in [
        &[0xff; 64][..],
        &frame(HEADERS, END_HEADERS | END_STREAM, 2, &head()),
        &frame(HEADERS, END_HEADERS, 1, &[0xff; 40]),
        &frame(200, 0xff, 7, &[0; 100]),
    ] {
        let mut socket = greet(&server).await;
        let _ = socket.write_all(garbage).await;
        let _ = socket.write_all(&[0xff; 64]).await;
        let ended = async {
            let mut read = Vec::new();
            let _ = socket.read_to_end(&mut read).await;
        };
        timeout(PATIENCE, ended).await.expect("the end");
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn json_of_any_depth_is_refused_in_words() {
    let (server, _) = start().await;
    let mut client = server.connect().await;
    let nested = |depth: usize| {
        let (start, end) = (r#"{"success":[{"request_txn":"#, "}]}");
        format!("{}{{}}{}", start.repeat(depth), end.repeat(depth))
    };
    let lists = "[".repeat(100_000);
    let unknown = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for (body, wanted) in [
        (nested(20), " 200 "),
        (nested(60), " 400 "),
        (nested(10_000), " 400 "),
        (lists, " 400 "),
        (unknown, " "),
    ] {
        let text =
            format!("POST /v3/kv/txn HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        client.send(&text).await;
        let (head, answer) = client.answer().await;
        assert!(head.lines().next().unwrap().contains(wanted), "{head} {answer}");
    }
}

#[tokio::test]
async fn a_message_in_many_pieces_is_put_together() {
    let (server, member) = start().await;
    let value = vec![b'v'; 300_000];
    Channel::to(&server).await.kv().put(put("long", value.clone())).await.unwrap();
    let mut socket = greet(&server).await;
    // A request that never gets its last byte holds no other one up.
    let head = [
        &[0x83, 0x86, 0x44, 20][..],
        b"/etcdserverpb.KV/Put",
        &[0x5f, 16],
        b"application/grpc",
        &[0x01, 1, b'x'],
    ]
    .concat();
    socket.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await.unwrap();
    socket.write_all(&frame(0, 0, 1, &[0, 0, 1, 0, 0, 1, 2, 3])).await.unwrap();
    let found = Channel::to(&server).await.kv().range(get("long")).await.unwrap().into_inner();
    assert!(found.kvs[0].value == value);
    drop((socket, member));
}

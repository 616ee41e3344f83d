//! Responses that are longer than one piece.

use super::*;

/// Reads a chunked body. Returns the number of chunks and their content.
async fn chunks(client: &mut Client) -> (usize, String) {
    let (mut number, mut body) = (0, String::new());
    loop {
        let line = client.until("\r\n").await;
        let length = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("{line:?}"));
        while client.read.len() < length + 2 {
            assert!(client.fill().await, "the connection ended inside a chunk");
        }
        let rest = client.read.split_off(length + 2);
        let chunk = std::mem::replace(&mut client.read, rest);
        body.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        if length == 0 {
            return (number, body);
        }
        number += 1;
    }
}

fn whole(server: &Server, path: &str, recursive: bool) -> String {
    let event = server.context.backend.store().get(path.as_bytes(), recursive, false).unwrap();
    let mut json = Vec::new();
    event.write_json(&mut json, clock());
    json.push(b'\n');
    String::from_utf8(json).unwrap()
}

fn fill(server: &Server) {
    for number in 0..3000 {
        server.put(&format!("/d{}/{number}", number % 40), &"v".repeat(100));
    }
    for number in 0..3000 {
        server.put(&format!("/wide/{number}"), &"w".repeat(100));
    }
}

#[tokio::test]
async fn a_long_listing_comes_in_chunks_on_both_ways() {
    let server = Server::start().await;
    fill(&server);
    for (target, path, recursive) in
        [("/v2/keys/?recursive=true&sorted=true", "/1", true), ("/v2/keys/wide", "/1/wide", false)]
    {
        let mut heads = Vec::new();
        for header in ["Accept: */*", "TE: trailers"] {
            let mut client = server.connect().await;
            client.send(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")).await;
            let (head, date) = {
                let head = client.until("\r\n\r\n").await;
                let (before, date) = head.split_once("\r\nDate: ").unwrap();
                (before.to_owned(), date.len())
            };
            let (number, body) = chunks(&mut client).await;
            assert!(body == whole(&server, path, recursive), "{target}: another body");
            assert!(number > 4, "{number} chunks");
            heads.push((head, date));
            // The connection can be used again.
            client.send(&GET_A.replace("/a ", "/d1/1 ")).await;
            assert!(client.answer().await.1.contains("/d1/1"));
        }
        assert_eq!(heads[0], heads[1]);
        assert!(heads[0].0.ends_with("\r\nTransfer-Encoding: chunked"), "{:?}", heads[0]);
    }
}

#[tokio::test]
async fn a_long_listing_of_v1_comes_in_chunks() {
    let server = Server::start().await;
    fill(&server);
    let mut client = server.connect().await;
    client
        .send("GET /v1/keys/wide HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/keys/d1 HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert!(client.until("\r\n\r\n").await.contains("Transfer-Encoding: chunked"));
    let (number, body) = chunks(&mut client).await;
    assert!(number > 4, "{number} chunks");
    let listed: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    assert_eq!(listed.len(), 3000);
    assert_eq!(listed[2999]["key"], "/wide/999");
    let (head, short) = client.answer().await;
    assert!(head.contains("Content-Length"), "{head}");
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&short).unwrap().len(), 75);
}

#[tokio::test]
async fn a_client_that_knows_no_chunks_gets_a_long_listing_as_it_is() {
    let server = Server::start().await;
    fill(&server);
    let mut client = server.connect().await;
    client.send("GET /v2/keys/wide HTTP/1.0\r\n\r\n").await;
    let head = client.until("\r\n\r\n").await;
    assert!(!head.contains("Transfer-Encoding") && !head.contains("Content-Length"), "{head}");
    assert!(client.read_to_end().await == whole(&server, "/1/wide", false));
}

#[tokio::test]
async fn a_client_that_leaves_ends_a_long_listing() {
    let server = Server::start().await;
    fill(&server);
    for header in ["Accept: */*", "TE: trailers"] {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let socket = Stream::Plain(socket.connect(server.addr).await.unwrap());
            let mut client = Client { socket, read: Vec::new() };
            let target = "/v2/keys/?recursive=true";
            client.send(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")).await;
            client.until("\r\n\r\n").await;
            clients.push(client);
        }
        // Slow readers hold no lock: writes and other reads go on.
        server.put("/a", "1");
        let mut other = server.connect().await;
        other.send(GET_A).await;
        assert!(other.answer().await.1.contains("\"value\":\"1\""));
        drop(clients);
    }
    // Listings end with their clients, and do not delay the end of the server.
    server.stop.send(true).unwrap();
    timeout(PATIENCE, server.served).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn a_pipelined_read_waits_for_the_end_of_a_long_listing() {
    let server = Server::start().await;
    fill(&server);
    server.put("/a", "1");
    for header in ["Accept: */*", "TE: trailers"] {
        let mut client = server.connect().await;
        client.send(&format!("GET /v2/keys/wide HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")).await;
        client.until("\r\n\r\n").await;
        client.send(GET_A).await;
        assert!(chunks(&mut client).await.1 == whole(&server, "/1/wide", false));
        assert!(client.answer().await.1.contains("\"value\":\"1\""));
    }
}

//! The end of a request: whatever two servers could read differently is refused and not carried out.

use super::*;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// Sends the head of a write with these lines and a body, followed by another write. Returns the responses.
async fn answers(server: &Server, version: &str, lines: &str, body: &str) -> String {
    let mut client = server.connect().await;
    let head = format!("PUT /v2/keys/a?value=1 HTTP/{version}\r\nHost: x\r\n{FORM}\r\n{lines}\r\n\r\n");
    // The server may close the connection before it has read everything.
    let _ = client.socket.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = client.socket.shutdown().await;
    client.read_to_end().await
}

const SMUGGLED: &str = "PUT /v2/keys/smuggled?value=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn a_body_has_one_coding_and_one_length() {
    let server = Server::start().await;
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    let index = server.context.backend.store().index();
    let refused = ["HTTP/1.1 400 Bad Request", "HTTP/1.1 501 Not Implemented"];
    for (version, lines) in [
        ("1.1", "Transfer-Encoding: gzip, chunked"),
        ("1.1", "Transfer-Encoding: gzip,chunked"),
        ("1.1", "Transfer-Encoding: chunked, chunked"),
        ("1.1", "Transfer-Encoding: identity, chunked"),
        ("1.1", "Transfer-Encoding: , chunked"),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("1.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("1.1", "Transfer-Encoding: chunked, identity"),
        ("1.1", "Transfer-Encoding: identity"),
        ("1.1", "Transfer-Encoding: gzip"),
        ("1.1", "Transfer-Encoding: xchunked"),
        ("1.1", "Transfer-Encoding: chunkedx"),
        ("1.1", "Transfer-Encoding: \"chunked\""),
        ("1.1", "Transfer-Encoding: chunked;x=1"),
        ("1.1", "Transfer-Encoding: chun\u{b}ked"),
        ("1.1", "Transfer-Encoding:"),
        ("1.1", "Transfer-Encoding : chunked"),
        ("1.1", " Transfer-Encoding: chunked"),
        ("1.1", "Transfer-Encoding:\r\n chunked"),
        ("1.0", "Transfer-Encoding: chunked"),
        ("1.1", "Content-Length: 5\r\nContent-Length: 6"),
        ("1.1", "Content-Length: 5, 5"),
        ("1.1", "Content-Length: 5,6"),
        ("1.1", "Content-Length: +5"),
        ("1.1", "Content-Length: -5"),
        ("1.1", "Content-Length: 0x5"),
        ("1.1", "Content-Length: 5 5"),
        ("1.1", "Content-Length:"),
        ("1.1", "Content-Length : 5"),
        ("1.1", "Content-Length: 18446744073709551616"),
        ("1.1", "X: y\r\n Content-Length: 5"),
        ("1.1", "X\u{0}: y"),
        ("1.1", "Content-Length: 5\rContent-Length: 6"),
    ] {
        let answer = answers(&server, version, lines, &chunked).await;
        assert!(refused.contains(&status(&answer)), "{lines:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines:?}: {answer}");
    }
    assert_eq!(server.context.backend.store().index(), index);
    let answer = answers(&server, "1.1", "Transfer-Encoding: gzip, chunked", &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nUnsupported transfer encoding"), "{answer}");
}

#[tokio::test]
async fn chunks_count_and_not_a_length_beside_them() {
    let server = Server::start().await;
    server.put("/other", "1");
    for (lines, wanted) in [
        ("Transfer-Encoding: chunked", 2),
        ("transfer-encoding:\tCHUNKED ", 2),
        // With both headers the connection ends after the response: a proxy in between may have found another end.
        ("Content-Length: 60\r\nTransfer-Encoding: chunked", 1),
        ("Transfer-Encoding: chunked\r\nContent-Length: 60", 1),
    ] {
        let body = "7\r\nvalue=2\r\n0\r\n\r\nGET /v2/keys/other HTTP/1.1\r\nHost: x\r\n\r\n";
        let answer = answers(&server, "1.1", lines, body).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), wanted, "{lines:?}: {answer}");
        assert!(answer.contains("\"value\":\"2\""), "{lines:?}: {answer}");
        assert_eq!(answer.contains("\"key\":\"/other\""), wanted == 2, "{lines:?}: {answer}");
    }
    // The same length twice counts as one.
    let answer = answers(&server, "1.1", "Content-Length: 7\r\nContent-Length: 7", "value=3").await;
    assert!(answer.contains("\"value\":\"3\""), "{answer}");
}

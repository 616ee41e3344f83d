//! Pipelined requests, split into any pieces: each one is answered as if it were alone, and no byte of a body is
//! taken for something else.

use std::collections::HashMap;

use serde_json::Value;

use super::*;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

const SMUGGLED: &str = "PUT /v2/keys/smuggled?value=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";

impl Client {
    /// The status and the body of the next response, without `100 Continue`; `None` at the end of the connection.
    async fn next(&mut self) -> Option<(u16, String)> {
        loop {
            if self.read.is_empty() && !self.fill().await {
                return None;
            }
            let (head, body) = self.answer().await;
            let status = status(&head).split(' ').nth(1).and_then(|code| code.parse().ok());
            match status.unwrap_or_else(|| panic!("{head}")) {
                100 => {}
                // The response ends with the connection.
                505 => {
                    while self.fill().await {}
                    return Some((505, String::from_utf8(std::mem::take(&mut self.read)).unwrap()));
                }
                status => return Some((status, body)),
            }
        }
    }

    /// Sends pieces, with some time for the server to read each.
    async fn send_slowly(&mut self, pieces: &[&str]) {
        for piece in pieces {
            // After a refusal the server reads no more.
            let _ = self.socket.write_all(piece.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The statuses of all further responses.
    async fn statuses(mut self) -> Vec<u16> {
        let _ = self.socket.shutdown().await;
        let mut statuses = Vec::new();
        while let Some((status, _)) = self.next().await {
            statuses.push(status);
        }
        statuses
    }
}

/// The value of the node in a response, or the cause of its error.
fn value_or_cause(body: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(body).ok()?;
    answer.pointer("/node/value").or(answer.get("cause"))?.as_str().map(str::to_owned)
}

/// The value of a key.
async fn stored(server: &Server, key: &str) -> Option<String> {
    let mut client = server.connect().await;
    client.send(&format!("GET /v2/keys/{key} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let (status, body) = client.next().await.unwrap();
    if status == 200 { value_or_cause(&body) } else { None }
}

#[tokio::test]
async fn a_body_behind_the_head_of_a_later_request_is_stored_as_it_is() {
    let server = Server::start().await;
    let mut index = 0;
    for (first, answered) in [
        ("GET /version HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("DELETE /v2/keys/none HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /v2/keys/none HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /v2/keys/none#{} HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ] {
        for value in [
            "abc",
            "GET /{}{}{} HTTP/1.1\nthe-rest-of-the-value-0123456789",
            "XX / HTTP/9.9\n...",
            "GET /v2/keys/none HTTP/1.1\r\nHost: x\r\n\r\n",
            "\n\n\r\n\r\n",
            SMUGGLED,
        ] {
            for lines in ["", "Expect: 100-continue\r\n"] {
                let case = format!("{first:?} {value:?} {lines:?}");
                index += 1;
                let key = format!("a{index}");
                let mut client = server.connect().await;
                let head = format!(
                    "PUT /v2/keys/{key} HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{lines}Content-Length: {}\r\n\r\n",
                    "value=".len() + value.len()
                );
                client.send(&format!("{first}{head}")).await;
                assert_eq!(client.next().await.unwrap().0, answered, "{case}");
                client.send_slowly(&["value=", value, GET_A]).await;
                let (status, body) = client.next().await.expect("an answer to the write");
                assert_eq!((status, value_or_cause(&body).as_deref()), (201, Some(value)), "{case}");
                assert_eq!(client.statuses().await, [404], "{case}");
                assert_eq!(stored(&server, &key).await.as_deref(), Some(value), "{case}");
            }
        }
    }
    assert_eq!(stored(&server, "smuggled").await, None);
}

#[tokio::test]
async fn chunks_behind_the_head_of_a_later_request_are_a_body() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let head = format!("PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n{FORM}\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(&format!("GET /version HTTP/1.1\r\nHost: x\r\n\r\n{head}")).await;
    assert_eq!(client.next().await.unwrap().0, 200);
    let value = "GET /# HTTP/1.1\n\n0\r\n\r\n";
    client
        .send_slowly(&["6\r\nvalue=\r\n16", ";x\r\n", value, "\r\n0\r\nA: b\r", "\n\r\nGET /v2/keys/a#{}"])
        .await;
    let (status, body) = client.next().await.unwrap();
    assert_eq!((status, value_or_cause(&body).as_deref()), (201, Some(value)));
    client.send(" HTTP/1.3\r\nHost: x\r\n\r\n").await;
    let (status, body) = client.next().await.unwrap();
    assert_eq!((status, value_or_cause(&body).as_deref()), (404, Some("/a#{}")));
    assert!(client.statuses().await.is_empty());
}

#[tokio::test]
async fn a_head_whose_empty_line_comes_alone_ends_where_it_ends() {
    let server = Server::start().await;
    let inner = "GET /v2/keys/nonono HTTP/1.1\r\nHost: x\r\n\r\n";
    let next = "PUT /v2/keys/outer?value=1 HTTP/1.1\r\nX-Y: ";
    for blank in ["\n\n", "\r\n\r\n"] {
        let body = format!("{}{blank}tail", "v".repeat(next.len() - blank.len()));
        let head =
            format!("PUT /v2/keys/a?value=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
        for end in [&["\r\n"][..], &["\r", "\n"]] {
            let mut client = server.connect().await;
            client.send_slowly(&[&head]).await;
            client.send_slowly(end).await;
            let together = format!("{body}{next}");
            client.send_slowly(&[&together, inner]).await;
            // What looks like a read is the value of a header, and ends with the head.
            let answered = client.next().await.unwrap().0;
            assert!(matches!(answered, 200 | 201), "{answered}");
            let statuses = client.statuses().await;
            assert!(matches!(statuses[..], [200 | 201]), "{statuses:?}");
        }
    }
}

#[tokio::test]
async fn an_options_request_s_body_is_no_request_when_it_comes_later() {
    let server = Server::start().await;
    for pieces in [&[SMUGGLED][..], &["PUT ", &SMUGGLED["PUT ".len()..]]] {
        let mut client = server.connect().await;
        let head =
            format!("OPTIONS /v2/keys HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", SMUGGLED.len());
        client.send_slowly(&[&head]).await;
        client.send_slowly(pieces).await;
        client.send(GET_A).await;
        assert_eq!(client.statuses().await, [200, 404]);
    }
    assert_eq!(stored(&server, "smuggled").await, None);
}

#[tokio::test]
async fn a_later_request_may_have_as_many_header_lines_as_the_first() {
    let server = Server::start().await;
    let lines: String = (0..200).map(|line| format!("X-H{line}: v\r\n")).collect();
    let read = format!("GET /v2/keys/none HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let write =
        format!("PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n{lines}{FORM}\r\nContent-Length: 9\r\n\r\nvalue=abc");
    let version = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
    for (requests, wanted) in [
        ([version, &read, version], [200, 404, 200]),
        ([&read, &read, &read], [404, 404, 404]),
        ([version, &write, &read], [200, 201, 404]),
        ([&write, version, &write], [200, 200, 200]),
        ([GET_A, &read, &write], [200, 404, 200]),
    ] {
        let mut client = server.connect().await;
        client.send(&requests.concat()).await;
        assert_eq!(client.statuses().await, wanted, "{:.20} {:.20}", requests[0], requests[1]);
    }
}

#[tokio::test]
async fn many_short_lines_are_counted_and_few_long_ones_are_not() {
    let server = Server::start().await;
    let long = format!("X: {}\r\n", "v".repeat(2000));
    for lines in ["a:\n".repeat(98), "a:\n".repeat(99), "a:\n".repeat(100), "a:\n".repeat(1100), long] {
        for split in [1, lines.len() / 2, lines.len() - 1] {
            let mut client = server.connect().await;
            let (now, later) = lines.split_at(split);
            client.send_slowly(&[&format!("GET /version HTTP/1.1\nHost: x\n{now}"), later, "\n"]).await;
            assert_eq!(client.statuses().await, [200], "{} bytes", lines.len());
        }
    }
}

/// A generator of numbers, the same in each run.
struct Dice(u64);

impl Dice {
    /// A number less than `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    /// A value that looks like a request.
    fn value(&mut self) -> String {
        let mut value = String::new();
        for _ in 0..self.roll(6) {
            value.push_str(self.pick(&[
                "GET / HTTP/1.1\r\n\r\n",
                "GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n",
                "GET /{}#é HTTP/1.1\n",
                "XX / HTTP/9.9\r\n",
                "\n\n",
                "\r\n\r\n",
                "\r\n",
                "0\r\n\r\n",
                "PUT /v2/keys/smuggled?value=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                "X-Y: ",
                "x",
            ]));
        }
        if self.roll(40) == 0 {
            value.push_str(&"\n\nGET / HTTP/1.2\n".repeat(1500));
        }
        value
    }

    /// A body with the headers for its framing.
    fn framed(&mut self, body: &str) -> String {
        let other = if self.roll(30) == 0 { "X: y\r\n".repeat(150) } else { String::new() };
        if self.roll(2) == 0 {
            return format!("{other}Content-Length: {}\r\n\r\n{body}", body.len());
        }
        let mut framed = format!("{other}Transfer-Encoding: chunked\r\n\r\n");
        let mut rest = body;
        while !rest.is_empty() {
            let mut length = 1 + self.roll(rest.len().min(5000));
            while !rest.is_char_boundary(length) {
                length += 1;
            }
            let (chunk, after) = rest.split_at(length);
            let extension = self.pick(&["", "", " ", ";a=b", ";GET / HTTP/1.2"]);
            framed.push_str(&format!("{length:X}{extension}\r\n{chunk}\r\n"));
            rest = after;
        }
        framed + self.pick(&["0\r\n\r\n", "00;x\r\n\r\n", "0\r\nGET: / HTTP/1.2\r\n\r\n"])
    }
}

/// A request, and the status and the value or cause of its response.
type PageRequest = (String, u16, Option<String>);

/// A request of any kind. `values` are the stored values.
fn any_request(dice: &mut Dice, prefix: &str, values: &mut HashMap<String, String>) -> PageRequest {
    let key = format!("{prefix}{}", dice.roll(3));
    let version = dice.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.4"]);
    let known = values.get(&key).cloned();
    let missing = (404, Some(format!("/{key}")));
    match dice.roll(9) {
        0 => (format!("GET /version {version}\r\nHost: x\r\n\r\n"), 200, None),
        1 | 2 => {
            // Some plain reads, and some that are not.
            let more = dice.pick(&["", "", "Content-Length: 0\r\n", "Expect: 100-continue\r\n"]);
            let empty = if version == "HTTP/1.1" { dice.pick(&["", "", "\r\n", "\n"]) } else { "" };
            let (status, value_or_cause) = known.map_or(missing, |value| (200, Some(value)));
            (format!("{empty}GET /v2/keys/{key} {version}\r\nHost: x\r\n{more}\r\n"), status, value_or_cause)
        }
        3 => {
            let end = dice.pick(&["\r\n", "\n"]);
            let request = format!("GET /v2/keys/no<{prefix}>#{{}}é {version}{end}Host: x{end}{end}");
            (request, 404, Some(format!("/no<{prefix}>#{{}}é")))
        }
        4 => {
            let body = dice.value();
            let framed = dice.framed(&body);
            let request = format!("DELETE /v2/keys/{key} {version}\r\nHost: x\r\n{framed}");
            match values.remove(&key) {
                Some(_) => (request, 200, None),
                None => (request, missing.0, missing.1),
            }
        }
        5 => {
            let body = dice.value();
            let framed = dice.framed(&body);
            (format!("OPTIONS /v2/keys/{key} {version}\r\nHost: x\r\n{framed}"), 200, None)
        }
        6 => {
            let value = dice.value();
            let framed = dice.framed(&format!("value={value}"));
            let request = format!("POST /v2/keys/{prefix}-list {version}\r\nHost: x\r\n{FORM}\r\n{framed}");
            (request, 201, Some(value))
        }
        _ => {
            let value = dice.value();
            let expect = dice.pick(&["", "", "Expect: 100-continue\r\n"]);
            let odd = dice.pick(&["", "?x=<{}>#"]);
            let framed = dice.framed(&format!("value={value}"));
            let request =
                format!("PUT /v2/keys/{key}{odd} {version}\r\nHost: x\r\n{FORM}\r\n{expect}{framed}");
            let status = if values.insert(key, value.clone()).is_some() { 200 } else { 201 };
            (request, status, Some(value))
        }
    }
}

/// Sends `bytes` in pieces of any size; the server reads some of them separately.
async fn send_in_pieces(client: &mut Client, dice: &mut Dice, bytes: &[u8]) {
    let mut rest = bytes;
    let longest = [1, 3, 40, 400, 100_000][dice.roll(5)];
    // Single bytes only if there are not too many.
    let longest = if bytes.len() > 4000 { longest.max(400) } else { longest };
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + dice.roll(rest.len().min(longest)));
        client.socket.write_all(piece).await.unwrap();
        client.socket.flush().await.unwrap();
        rest = after;
        for _ in 0..dice.roll(4) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn requests_of_all_kinds_in_pieces_of_all_sizes_are_answered_in_order() {
    let server = Server::start().await;
    let mut dice = Dice(20_261_130);
    for pipeline in 0..150 {
        let prefix = format!("p{pipeline}k");
        let mut values = HashMap::new();
        let mut wanted: Vec<PageRequest> =
            (0..=dice.roll(12)).map(|_| any_request(&mut dice, &prefix, &mut values)).collect();
        if dice.roll(4) == 0 {
            wanted.push(("GET / HTTP/7.0\r\n\r\n".to_owned(), 505, None));
        }
        let bytes: String = wanted.iter().map(|(request, ..)| request.as_str()).collect();
        let mut client = server.connect().await;
        send_in_pieces(&mut client, &mut dice, bytes.as_bytes()).await;
        client.socket.shutdown().await.unwrap();
        for (at, (_, wanted_status, wanted_told)) in wanted.iter().enumerate() {
            let case = || format!("pipeline {pipeline}, request {at} of {bytes:?}");
            let Some((status, body)) = client.next().await else { panic!("no answer: {}", case()) };
            assert_eq!(status, *wanted_status, "{body} {}", case());
            if wanted_told.is_some() {
                assert_eq!(value_or_cause(&body), *wanted_told, "{}", case());
            }
        }
        assert_eq!(client.next().await, None, "pipeline {pipeline}: {bytes:?}");
        for (key, value) in values {
            assert_eq!(stored(&server, &key).await, Some(value), "pipeline {pipeline}: {bytes:?}");
        }
    }
    assert_eq!(stored(&server, "smuggled").await, None);
}

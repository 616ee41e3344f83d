//! Plain reads, which are answered without the HTTP library: with the same bytes, and in order.

use super::*;

/// The response to a read with one further header, and the counters that it changed.
async fn read_with(server: &Server, target: &str, header: &str) -> (String, String, [f64; 5]) {
    read_from(server, server.connect().await, target, header).await
}

async fn read_from(
    server: &Server,
    mut client: Client,
    target: &str,
    header: &str,
) -> (String, String, [f64; 5]) {
    let before = read_counts(server);
    client.send(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")).await;
    let (head, body) = client.answer().await;
    // The library has its own clock.
    let (before_date, date) = head.split_once("\r\nDate: ").expect("a date");
    let after_date = &date["Sat, 21 Nov 2026 11:01:26 GMT".len()..];
    let head = format!("{before_date}\r\nDate: …{after_date}");
    let after = read_counts(server);
    let counted = std::array::from_fn(|at| after[at] - before[at]);
    (head, body, counted)
}

/// All counters of reads: of the store, and on the page of metrics.
fn read_counts(server: &Server) -> [f64; 5] {
    let [hits, misses] = server.context.backend.store().stats().reads().map(|reads| reads as f64);
    let families = server.context.process_metrics.registry().gather();
    let sum = |name: &str| {
        let of_gets = |metric: &&Metric| metric.get_label().iter().any(|label| label.value() == "GET");
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.into_iter().flat_map(|family| family.get_metric()).filter(of_gets);
        metrics
            .map(|metric| metric.get_counter().get_value() + metric.get_histogram().get_sample_count() as f64)
            .sum()
    };
    [
        hits,
        misses,
        sum("etcd_http_received_total"),
        sum("etcd_http_failed_total"),
        sum("etcd_http_successful_duration_second"),
    ]
}

#[tokio::test]
async fn a_plain_read_is_answered_as_any_other() {
    let server = Server::start().await;
    server.put("/a", "1");
    server.put("/d/c", "\u{1}\"\\\u{2028}<é>");
    server.put("/d/b", "");
    server.put("/d/_hidden", "x");
    server.put("/long", &"y".repeat(20_000));
    for target in [
        "/v2/keys",
        "/v2/keys/",
        "/v2/keys?",
        "/v2/keys/a",
        "/v2/keys/a/",
        "/v2/keys/a/b",
        "/v2/keys/d",
        "/v2/keys/d?sorted=true",
        "/v2/keys/?recursive=true&sorted=true",
        "/v2/keys/?recursive=1&unknown=x",
        "/v2/keys/d/_hidden",
        "/v2/keys/long",
        "/v2/keys/missing",
        "/v2/keys/a+b",
        "/v2/keys/a@b:c=d,e",
        "/v2/keys/_etcd/machines",
        "/v2/keys/_etcd/machines/m",
        "/v2/keys/_etcd/machines?recursive=true",
        "/v2/keys/a?wait=false&quorum=false&stream=false",
        // These are never plain.
        "/v2/keys/%61",
        "/v2/keys/a?recursive=maybe",
        "/v2/keys/a?waitIndex=x",
        "/v2/keys//a",
        "/v2/keys/./a",
        "/v2/keys/d/../a",
        "/v2/keysa",
        "/v2/keys/a?a;b",
        "/v2/keys/a?x=%zz",
        "/v2/keys/a#b",
    ] {
        let plain = read_with(&server, target, "Accept: */*").await;
        // The header only changes the path that the request takes.
        let other = read_with(&server, target, "TE: trailers").await;
        let mut later = server.connect().await;
        later.send("GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await;
        later.answer().await;
        let later = read_from(&server, later, target, "Accept: */*").await;
        assert_eq!(
            (&later.0, &later.2),
            (&other.0, &other.2),
            "{target}, on a connection that was used before"
        );
        assert!(later.1 == other.1, "{target}: another body on a connection that was used before");
        assert_eq!((&plain.0, &plain.2), (&other.0, &other.2), "{target}");
        assert!(plain.1 == other.1, "{target}: another body");
    }
}

#[tokio::test]
async fn who_may_not_read_or_reads_across_origins_is_no_plain_reader() {
    let cors = |context: &mut Context<StandIn>| context.browsers.cors = Cors::new(["*"]);
    let server = Server::start_with(Limits::default(), cors, Acceptor::plain()).await;
    let (head, _, _) = read_with(&server, "/v2/keys/a", "Accept: */*").await;
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{head}");

    let server = Server::start().await;
    let request = v2::Request {
        verb: v2::Verb::Put,
        path: "/2/enabled".into(),
        val: "true".into(),
        ..v2::Request::default()
    };
    server.context.backend.apply(&request).unwrap();
    let (head, _, _) = read_with(&server, "/v2/keys/a", "Accept: */*").await;
    assert_eq!(status(&head), "HTTP/1.1 401 Unauthorized");
}

#[tokio::test]
async fn plain_reads_that_come_together_are_answered_in_order() {
    let server = Server::start().await;
    server.put("/a", "1");
    server.put("/long", &"y".repeat(20_000));
    let mut client = server.connect().await;
    let long = GET_A.replace("/a ", "/long ");
    let (whole, part) = GET_A.split_at(30);
    client
        .send(&format!("{GET_A}{long}{long}{GET_A}GET /version HTTP/1.1\r\nHost: x\r\n\r\n{GET_A}{whole}"))
        .await;
    client.send(part).await;
    for wanted in ["/a", "/long", "/long", "/a"] {
        let (_, body) = client.answer().await;
        assert!(body.contains(&format!("\"key\":\"{wanted}\"")), "{wanted}: {body}");
    }
    assert!(client.answer().await.1.contains("etcdserver"));
    for _ in 0..2 {
        assert!(client.answer().await.1.contains("\"key\":\"/a\""));
    }
}

#[tokio::test]
async fn a_plain_read_waits_for_the_answer_to_what_was_asked_before() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        let held = server.context.backend.gate.write().await;
        client.send("DELETE /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        client.send(GET_A).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        server.put("/a", "1");
        drop(held);
        assert!(client.answer().await.1.contains("\"action\":\"delete\""));
        assert_eq!(status(&client.answer().await.0), "HTTP/1.1 404 Not Found");
    }
}

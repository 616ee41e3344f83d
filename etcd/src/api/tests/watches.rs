//! Watches: long polls, streams, snapshots, and many watches on two threads.

use super::*;

#[tokio::test]
async fn a_long_poll_gives_its_connection_back() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    // The next request arrives before the response to the first.
    client.send(&format!("GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n{GET_A}")).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 719e5b79a02829f4\r\n"), "{head}");
    for line in ["X-Etcd-Index: 1", "Transfer-Encoding: chunked", "Date: Sat, 21 Nov 2026 11:01:26 GMT"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    server.put("/a", "1");
    let event = "{\"action\":\"set\",\"node\":{\"key\":\"/a\",\"value\":\"1\",\"modifiedIndex\":2,\"createdIndex\":2}}\n";
    assert_eq!(client.until("\r\n0\r\n\r\n").await, format!("{:x}\r\n{event}\r\n0\r\n\r\n", event.len()));
    assert_eq!(client.answer().await.1, event.replace("set", "get"));
    server.wait_for_watchers(0).await;
    client
        .send("GET /v2/keys/a?wait=true&waitIndex=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    let answer = client.read_to_end().await;
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_knows_no_chunks_gets_the_events_as_they_are() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET /v2/keys/a?wait=true HTTP/1.0\r\n\r\n").await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("chunked"), "{head}");
    server.put("/a", "1");
    let body = client.read_to_end().await;
    assert!(body.starts_with('{') && body.ends_with("}\n"), "{body}");
}

#[tokio::test]
async fn a_stream_goes_on_and_ends_with_its_client() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET /v2/keys/?wait=true&stream=true&recursive=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    let large = "x".repeat(100_000);
    for value in ["1", "2", &large] {
        server.put("/a", value);
        let event = client.until("}\n\r\n").await;
        assert!(event.contains(&format!("\"node\":{{\"key\":\"/a\",\"value\":\"{value}\"")));
        let length = usize::from_str_radix(event.split("\r\n").next().unwrap(), 16).unwrap();
        assert_eq!(event.len() - event.find("\r\n").unwrap(), length + 4);
    }
    assert_eq!(server.watchers(), 1);
    drop(client);
    server.wait_for_watchers(0).await;
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_ended_in_order() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET /v2/keys/a?wait=true&stream=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    for round in 0..=shared::store::WATCHER_QUEUE_MAX {
        server.put("/a", &round.to_string());
    }
    client.until("\r\n0\r\n\r\n").await;
    assert_eq!(server.watchers(), 0);
}

/// A store with this number of further changes of `/a`, and a history of this length.
fn later(server: &Server, changes: usize, history_length: usize) -> Store {
    let mut json = Vec::new();
    server.context.backend.store().image().write_json(&mut json).unwrap();
    let mut store = Store::recover(&json, history_length).unwrap();
    for n in 0..changes {
        let value = n.to_string();
        let expiry = shared::store::Expiry::default();
        store.set(b"/1/a", false, value.as_bytes(), expiry, clock()).unwrap();
    }
    store
}

#[tokio::test]
async fn a_snapshot_s_events_go_to_those_who_watch() {
    let server = Server::start().await;
    let [mut poll, mut stream] = [server.connect().await, server.connect().await];
    poll.send("GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    stream.send("GET /v2/keys/?wait=true&stream=true&recursive=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.wait_for_watchers(2).await;
    server.context.backend.install(later(&server, 300, 1000));
    assert!(poll.until("\r\n0\r\n\r\n").await.contains("\"modifiedIndex\":2,"));
    for index in 2..=301 {
        assert!(stream.until("}\n\r\n").await.contains(&format!("\"modifiedIndex\":{index},")));
    }
    server.put("/a", "after");
    assert!(stream.until("}\n\r\n").await.contains("\"modifiedIndex\":302,"));
}

#[tokio::test]
async fn watches_break_off_where_a_snapshot_s_history_has_a_gap() {
    let server = Server::start().await;
    let queries = ["wait=true", "wait=true&stream=true", "wait=true&recursive=true&progress=1"];
    let mut clients = Vec::new();
    for query in queries {
        let mut client = server.connect().await;
        client.send(&format!("GET /v2/keys/a?{query} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.until("\r\n\r\n").await;
        clients.push(client);
    }
    server.context.backend.install(later(&server, 300, 10));
    for client in clients {
        // No final chunk: otherwise the response would look like one without events.
        assert_eq!(client.read_to_end().await.trim_matches(['1', '\r', '\n']), "");
    }
    // The client watches again, and gets the reason.
    let mut client = server.connect().await;
    client
        .send("GET /v2/keys/a?wait=true&waitIndex=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(client.read_to_end().await.contains("{\"errorCode\":401,"));
}

#[tokio::test]
async fn a_watch_ends_when_its_client_closes_its_side() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.wait_for_watchers(1).await;
    client.socket.shutdown().await.unwrap();
    server.wait_for_watchers(0).await;
}

/// The number of watches in [`many_watches`].
const WATCHES: usize = 100;

#[tokio::test]
async fn many_watches_live_on_two_threads() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..WATCHES {
        clients.push(server.connect().await);
    }
    many_watches(server, clients).await;
}

#[tokio::test]
async fn many_encrypted_watches_live_on_two_threads() {
    let (server, dialer) = encrypted(|_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..WATCHES {
        clients.push(dial(&dialer, &server).await);
    }
    many_watches(server, clients).await;
}

async fn many_watches(server: Server, mut clients: Vec<Client>) {
    for (at, client) in clients.iter_mut().enumerate() {
        let query = if at % 3 == 0 { "wait=true" } else { "wait=true&stream=true" };
        client.send(&format!("GET /v2/keys/a?{query} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.until("\r\n\r\n").await;
    }
    let moved = server.context.http_server.watch_thread.moved();
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert_eq!(moved, (WATCHES - 32) / 2);
    }
    server.put("/a", "1");
    for client in &mut clients {
        client.until("\"value\":\"1\"").await;
        client.until("}\n\r\n").await;
    }
    // Connections whose watch ended can be used again, on either thread.
    for client in clients.iter_mut().step_by(3) {
        assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
        client.send(GET_A).await;
        assert!(client.answer().await.1.contains("\"value\":\"1\""));
        client.send("DELETE /v2/keys/missing HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(status(&client.answer().await.0), "HTTP/1.1 404 Not Found");
        client.send("GET /v2/keys/a?wait=true&waitIndex=3 HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.until("\r\n\r\n").await;
    }
    server.put("/a", "2");
    for client in &mut clients {
        client.until("\"value\":\"2\"").await;
    }
    drop(clients.split_off(WATCHES / 2));
    let left = clients.iter().enumerate().filter(|(at, _)| at % 3 != 0).count() as u64;
    server.wait_for_watchers(left).await;
    server.stop.send_replace(true);
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
    for client in clients {
        client.read_to_end().await;
    }
}

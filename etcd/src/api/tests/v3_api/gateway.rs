//! The v3 API as JSON. The answers are those that were recorded from the original.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use super::*;

/// The header of the stand-in at a revision.
fn header(revision: i64) -> Value {
    json!({"cluster_id": "11", "member_id": "22", "revision": revision.to_string(), "raft_term": "2"})
}

async fn send(client: &mut Client, line: &str, body: &str) -> (String, String) {
    let text = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.send(&text).await;
    client.answer().await
}

/// Posts JSON and returns the status and the JSON of the answer.
async fn post(client: &mut Client, path: &str, body: &str) -> (u16, Value) {
    let (head, body) = send(client, &format!("POST {path}"), body).await;
    assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(
        head.contains("\r\nGrpc-Metadata-Content-Type: application/grpc\r\n"),
        status == 200,
        "{head}"
    );
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn json_is_read_as_the_original_reads_it() {
    let (server, _) = start().await;
    let mut client = server.connect().await;
    let empty = json!({"header": header(1)});
    let error = |code: i32, message: &str| json!({"code": code, "message": message});
    for (body, status, wanted) in [
        (r#"{"key":"zz"#, 400, error(3, "unexpected EOF")),
        ("", 400, error(3, "etcdserver: key is not provided")),
        ("[]", 400, error(3, "proto:\u{a0}syntax error (line 1:1): unexpected token [")),
        ("null", 400, error(3, "proto:\u{a0}syntax error (line 1:1): unexpected token null")),
        (r#"{"key":"Zm9v","nope":1}"#, 200, empty.clone()),
        (r#"{"nope":{"a":[1,{"b":"}"}],"c":null},"key":"Zm9v"}"#, 200, empty.clone()),
        (
            r#"{"key":"not base64!"}"#,
            400,
            error(3, "proto:\u{a0}(line 1:8): invalid value for bytes field key: \"not base64!\""),
        ),
        (r#"{"key":5}"#, 400, error(3, "proto:\u{a0}(line 1:8): invalid value for bytes field key: 5")),
        (
            r#"{"key":"Zm9v","limit":"x"}"#,
            400,
            error(3, "proto:\u{a0}(line 1:23): invalid value for int64 field limit: \"x\""),
        ),
        (
            r#"{"key":"Zm9v","limit":1.5}"#,
            400,
            error(3, "proto:\u{a0}(line 1:23): invalid value for int64 field limit: 1.5"),
        ),
        (r#"{"key":"Zm9v","limit":1.0}"#, 200, empty.clone()),
        (r#"{"key":"Zm9v","limit":"7","sort_order":"NO_SUCH_NAME"}"#, 200, empty.clone()),
        (
            r#"{"key":"Zm9v","serializable":"true"}"#,
            400,
            error(3, "proto:\u{a0}(line 1:30): invalid value for bool field serializable: \"true\""),
        ),
        (r#"{"key":"Zm9v","key":"eHg="}"#, 400, error(3, "proto:\u{a0}(line 1:15): duplicate field \"key\"")),
        (r#"{"key":"_-8="}{"key":5}"#, 200, empty.clone()),
        (" { \"key\" : \"Zm9v\" , \"limit\" : null } \n", 200, empty),
    ] {
        assert_eq!(post(&mut client, "/v3/kv/range", body).await, (status, wanted), "{body}");
    }
}

#[tokio::test]
async fn keys_are_written_and_read_under_both_names() {
    let (server, member) = start().await;
    let mut client = server.connect().await;
    let first = post(&mut client, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","prevKv":true}"#).await;
    assert_eq!(first, (200, json!({"header": header(2)})));
    let kv =
        json!({"key": "Zm9v", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "YmFy"});
    let (_, second) =
        post(&mut client, "/v3beta/kv/put", r#"{"key":"Zm9v","value":"YQ==","prev_kv":true}"#).await;
    assert_eq!(second, json!({"header": header(3), "prev_kv": kv}));
    let txn = r#"{"compare":[{"target":"VALUE","key":"Zm9v","value":"YQ=="}],
        "success":[{"requestPut":{"key":"Zm9v","value":"Yg=="}},{"request_range":{"key":"Zm9v"}}]}"#;
    let (status, answer) = post(&mut client, "/v3/kv/txn", txn).await;
    assert_eq!((status, &answer["succeeded"]), (200, &json!(true)));
    assert_eq!(answer["responses"][1]["response_range"]["kvs"][0]["value"], json!("Yg=="));
    let two = r#"{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}"#;
    let (status, answer) = post(&mut client, "/v3/kv/txn", two).await;
    let wanted = "proto:\u{a0}(line 1:43): error parsing \"request_range\", oneof etcdserverpb.RequestOp.request is \
                  already set";
    assert_eq!((status, answer["message"].as_str()), (400, Some(wanted)));
    // The token comes bare.
    client
        .send("POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nAuthorization: t.5\r\nContent-Length: 14\r\n\r\n{\"key\":\"Zm9v\"}")
        .await;
    client.answer().await;
    assert_eq!(member.caller.lock().token.as_deref(), Some("t.5"));
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_told_apart() {
    let (server, member) = start().await;
    let mut client = server.connect().await;
    for (line, status, wanted) in [
        ("GET /v3/kv/range", "501", r#"{"code":12,"message":"Method Not Allowed"}"#),
        ("PUT /v3/kv/range", "501", r#"{"code":12,"message":"Method Not Allowed"}"#),
        ("POST /v3/kv/nothing", "404", r#"{"code":5,"message":"Not Found"}"#),
        ("POST /v3/", "404", r#"{"code":5,"message":"Not Found"}"#),
        ("POST /v3/kv/range/", "404", r#"{"code":5,"message":"Not Found"}"#),
        ("POST /v3alpha/kv/range", "404", "404 page not found\n"),
    ] {
        let (head, body) = send(&mut client, line, "").await;
        assert_eq!((head.split(' ').nth(1), body.as_str()), (Some(status), wanted), "{line}");
    }
    let (status, answer) = post(&mut client, "/v3/cluster/member/add", "{}").await;
    assert_eq!((status, &answer["code"]), (501, &json!(12)));
    // At level 2.3 nothing is there, as in the original of that level.
    member.level.store(23, Relaxed);
    let (head, body) = send(&mut client, "POST /v3/kv/range", r#"{"key":"Zm9v"}"#).await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    assert_eq!(body, "404 page not found\n");
}

/// The next chunk of a response.
async fn chunk(client: &mut Client) -> String {
    let length = client.until("\r\n").await;
    let length = usize::from_str_radix(length.trim(), 16).unwrap();
    let text = client.until("\r\n").await;
    assert_eq!(text.len(), length + 2);
    text
}

#[tokio::test]
async fn a_stream_is_a_line_for_each_answer() {
    let (server, member) = start().await;
    let mut client = server.connect().await;
    let body = r#"{"create_request":{"key":"Zm9v"}} {"create_request":{"key":"YQ=="}}"#;
    client
        .send(&format!("POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Transfer-Encoding: chunked"), "{head}");
    let created = json!({"result": {"header": header(1), "created": true}});
    assert_eq!(serde_json::from_str::<Value>(&chunk(&mut client).await).unwrap(), created);
    let second = json!({"result": {"header": header(1), "watch_id": "1", "created": true}});
    assert_eq!(serde_json::from_str::<Value>(&chunk(&mut client).await).unwrap(), second);
    let mut other = server.connect().await;
    post(&mut other, "/v3/kv/put", r#"{"key":"Zm9v","value":"MQ=="}"#).await;
    let line = chunk(&mut client).await;
    assert!(line.ends_with("}\n\r\n"), "{line:?}");
    let kv =
        json!({"key": "Zm9v", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "MQ=="});
    let event = json!({"result": {"header": header(2), "events": [{"kv": kv}]}});
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), event);
    // A client that leaves is noticed although nothing happens.
    assert_eq!(Arc::strong_count(&member.streams), 2);
    drop(client);
    let ended = async {
        while Arc::strong_count(&member.streams) != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the end of the stream");
}

#[tokio::test]
async fn streams_answer_row_by_row_and_tell_their_errors() {
    let (server, member, services) = start_with(Settings::default(), Acceptor::plain()).await;
    let mut client = server.connect().await;
    post(&mut client, "/v3/lease/grant", r#"{"TTL":"60","ID":"7"}"#).await;
    let body = r#"{"ID":"7"}{"ID":8}"#;
    client
        .send(&format!(
            "POST /v3/lease/keepalive HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    client.until("\r\n\r\n").await;
    for wanted in
        [json!({"header": header(1), "ID": "7", "TTL": "60"}), json!({"header": header(1), "ID": "8"})]
    {
        let line: Value = serde_json::from_str(&chunk(&mut client).await).unwrap();
        assert_eq!(line, json!({"result": wanted}));
    }
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    let (status, answer) = post(&mut client, "/v3/lease/keepalive", r#"{"ID":"x"}"#).await;
    assert_eq!((status, &answer["code"]), (500, &json!(2)));
    // An error after the first answer is a line of its own.
    client
        .send("POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n{\"create_request\":{\"key\":\"Zm9v\"}}")
        .await;
    client.until("\r\n\r\n").await;
    chunk(&mut client).await;
    services.stop();
    let line: Value = serde_json::from_str(&chunk(&mut client).await).unwrap();
    assert_eq!(line, json!({"error": {"code": 14, "message": "etcdserver: server stopped"}}));
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    drop(member);
}

#[tokio::test]
async fn the_gateway_is_there_over_http2_too() {
    let (server, _) = start().await;
    let mut channel = Channel::to(&server).await;
    let call = async |channel: &mut Channel, path: &str, body: &'static str| {
        let request = Request::post(format!("http://x{path}"))
            .body(Body::new(http_body_util::Full::new(bytes::Bytes::from_static(body.as_bytes()))))
            .unwrap();
        let response = tower_service::Service::call(channel, request).await.unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, body) = call(&mut channel, "/v3/kv/range", r#"{"key":"Zm9v"}"#).await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({"header": header(1)}));
    let (status, body) = call(&mut channel, "/v2/keys", "").await;
    assert_eq!(status, 415);
    assert!(body.contains("use HTTP/1.1"), "{body}");
}

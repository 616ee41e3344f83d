//! Tests of the protocol with a service that gives scripted answers.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::Fallback;

/// The request lines that the service has received.
type Seen = Arc<Mutex<Vec<String>>>;

/// A service that gives these answers in turn, one per connection, and then none.
async fn service(answers: Vec<(u16, &'static str)>) -> (DiscoveryService, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let requests = seen.clone();
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = socket.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..read]).lines().next().unwrap().to_owned();
            requests.lock().unwrap().push(line.trim_end_matches(" HTTP/1.1").to_owned());
            if status == 0 {
                continue;
            }
            let answer = format!(
                "HTTP/1.1 {status} Whatever\r\nX-Etcd-Index: 9\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let url = format!("http://{address}/v2/keys/tok/");
    let mut service =
        DiscoveryService::new(&Discovery { url, proxy: None, fallback: Fallback::Exit }).unwrap();
    service.pause_min = Duration::from_millis(1);
    (service, seen)
}

const ONE: (u16, &str) = (200, r#"{"action":"get","node":{"key":"/tok/_config/size","value":"1"}}"#);
const TWO: (u16, &str) = (200, r#"{"action":"get","node":{"key":"/tok/_config/size","value":"2"}}"#);
const NOBODY: (u16, &str) =
    (200, r#"{"node":{"key":"/tok","dir":true,"nodes":[{"key":"/tok/_config","dir":true}]}}"#);
const A: (u16, &str) =
    (200, r#"{"node":{"key":"/tok","dir":true,"nodes":[{"key":"/tok/a","value":"one=http://a:1"}]}}"#);
/// A token whose registrations are not in the order of creation.
const B_AND_A: (u16, &str) = (
    200,
    r#"{"node":{"key":"/tok","dir":true,"nodes":[
        {"key":"/tok/b","value":"two=http://b:1,two=http://b:2","createdIndex":8},
        {"key":"/tok/a","value":"one=http://a:1","createdIndex":7}]}}"#,
);
const MADE: (u16, &str) =
    (201, r#"{"action":"create","node":{"key":"/tok/a","value":"one=http://a:1","createdIndex":7}}"#);
const EXISTS: (u16, &str) =
    (412, r#"{"errorCode":105,"message":"Key already exists","cause":"/tok/a","index":9}"#);
/// Closes the connection without an answer.
const HANGS_UP: (u16, &str) = (0, "");

const A_ID: MemberId = MemberId(0xa);

fn own() -> InitialCluster {
    "one=http://a:1".parse().unwrap()
}

async fn joins(answers: Vec<(u16, &'static str)>) -> (Result<String, String>, Vec<String>) {
    let (mut service, seen) = service(answers).await;
    let joined = tokio::time::timeout(Duration::from_secs(20), service.join(A_ID, &own())).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    (joined.map(|cluster| cluster.to_string()).map_err(|error| error.to_string()), seen)
}

#[tokio::test]
async fn a_member_registers_and_waits_for_the_others() {
    let changed_size =
        (200, r#"{"action":"set","node":{"key":"/tok/_config/size","value":"3","modifiedIndex":10}}"#);
    let again =
        (200, r#"{"action":"set","node":{"key":"/tok/a","value":"one=http://a:1","modifiedIndex":11}}"#);
    let second =
        (200, r#"{"action":"create","node":{"key":"/tok/b","value":"two=http://b:1","modifiedIndex":12}}"#);
    let (joined, seen) = joins(vec![TWO, NOBODY, MADE, MADE, TWO, A, changed_size, again, second]).await;
    assert_eq!(joined.as_deref(), Ok("one=http://a:1,two=http://b:1"));
    let wait = "GET /v2/keys/tok?recursive=true&wait=true&waitIndex";
    assert_eq!(
        seen,
        [
            "GET /v2/keys/tok/_config/size?quorum=false&recursive=false&sorted=false",
            "GET /v2/keys/tok?quorum=false&recursive=false&sorted=false",
            "PUT /v2/keys/tok/a?prevExist=false",
            "GET /v2/keys/tok/a?recursive=false&wait=true&waitIndex=7",
            "GET /v2/keys/tok/_config/size?quorum=false&recursive=false&sorted=false",
            "GET /v2/keys/tok?quorum=false&recursive=false&sorted=false",
            &format!("{wait}=10"),
            &format!("{wait}=11"),
            &format!("{wait}=12"),
        ]
    );
}

#[tokio::test]
async fn the_first_to_register_are_the_cluster() {
    let full = Err("discovery: cluster is full".to_owned());
    let (joined, seen) =
        joins(vec![ONE, (200, r#"{"node":{"key":"/tok","dir":true,"nodes":[{"key":"/tok/b"}]}}"#)]).await;
    assert_eq!((joined, seen.len()), (full.clone(), 2), "it must not register where there is no room");
    // Another member registered between the read and the registration.
    let b_first = (
        200,
        r#"{"node":{"key":"/tok","dir":true,"nodes":[
            {"key":"/tok/a","createdIndex":8},{"key":"/tok/b","createdIndex":7}]}}"#,
    );
    assert_eq!(joins(vec![ONE, NOBODY, MADE, MADE, ONE, b_first]).await.0, full);
    // A proxy takes the registered cluster, in its order.
    let (mut service, _) = service(vec![ONE, B_AND_A]).await;
    assert_eq!(service.cluster().await.unwrap().to_string(), "one=http://a:1");
}

#[tokio::test]
async fn what_is_registered_may_make_no_cluster() {
    let error = |answers| async { joins(answers).await.0.unwrap_err() };
    let size = |text: &'static str| (200, text);
    for bad in [r#"{"node":{"value":"many"}}"#, r#"{"node":{"value":"0"}}"#, r#"{"node":{"value":"-1"}}"#] {
        assert_eq!(error(vec![size(bad)]).await, "discovery: size key is bad");
    }
    let missing = (404, r#"{"errorCode":100,"message":"Key not found","cause":"/tok","index":3}"#);
    assert_eq!(error(vec![missing]).await, "100: Key not found (/tok) [3]");
    assert_eq!(error(vec![(404, "404 page not found")]).await, "discovery: bad discovery endpoint");
    assert_eq!(error(vec![TWO, A]).await, "discovery: found duplicate id");
    let named_twice = (
        200,
        r#"{"node":{"key":"/tok","dir":true,"nodes":[
            {"key":"/tok/a","value":"one=http://a:1"},{"key":"/tok/b","value":"one=http://b:1"}]}}"#,
    );
    let before = vec![TWO, NOBODY, MADE, MADE, TWO];
    assert_eq!(error([before.clone(), vec![named_twice]].concat()).await, "discovery: found duplicate name");
    let no_url = (
        200,
        r#"{"node":{"key":"/tok","dir":true,"nodes":[
            {"key":"/tok/a","value":"one=http://a:1"},{"key":"/tok/b","value":"hello"}]}}"#,
    );
    assert_eq!(error([before, vec![no_url]].concat()).await, "discovery: invalid URL");
}

#[tokio::test]
async fn a_service_that_fails_is_asked_again() {
    let ill = (503, "");
    let (joined, seen) = joins(vec![HANGS_UP, ill, ONE, NOBODY, MADE, MADE, ill, ONE, A]).await;
    assert_eq!(joined.as_deref(), Ok("one=http://a:1"));
    assert_eq!(seen.len(), 9);
    // The same while it waits: the next read finds members that registered meanwhile.
    let (joined, _) = joins(vec![TWO, NOBODY, MADE, MADE, TWO, A, HANGS_UP, TWO, B_AND_A]).await;
    assert_eq!(joined.as_deref(), Ok("one=http://a:1,two=http://b:1,two=http://b:2"));
}

#[tokio::test]
async fn a_registration_without_an_answer_may_have_come_through() {
    let (joined, seen) = joins(vec![ONE, NOBODY, HANGS_UP, EXISTS, ONE, A]).await;
    assert_eq!((joined.as_deref(), seen.len()), (Ok("one=http://a:1"), 6));
    let (joined, _) = joins(vec![ONE, NOBODY, EXISTS]).await;
    assert_eq!(joined, Err("discovery: found duplicate id".to_owned()), "somebody else has made it");
}

#[tokio::test]
async fn who_goes_is_no_longer_counted() {
    let gone = (200, r#"{"action":"expire","node":{"key":"/tok/b","modifiedIndex":10}}"#);
    let three = (200, r#"{"action":"get","node":{"key":"/tok/_config/size","value":"3"}}"#);
    let c =
        (200, r#"{"action":"create","node":{"key":"/tok/c","value":"three=http://c:1","modifiedIndex":11}}"#);
    let d =
        (200, r#"{"action":"create","node":{"key":"/tok/d","value":"four=http://d:1","modifiedIndex":12}}"#);
    let (mut service, _) = service(vec![three, B_AND_A, gone, c, d]).await;
    let cluster = service.cluster().await.unwrap();
    assert_eq!(cluster.to_string(), "four=http://d:1,one=http://a:1,three=http://c:1");
}

#[test]
fn a_token_needs_a_service() {
    for url in ["example.com/tok", "ftp://example.com/tok", ""] {
        let discovery = Discovery { url: url.to_owned(), proxy: None, fallback: Fallback::Exit };
        assert!(DiscoveryService::new(&discovery).is_err(), "{url}");
    }
    let proxy = Some("http://a:port".to_owned());
    let url = "http://example.com/tok".to_owned();
    let error = DiscoveryService::new(&Discovery { url, proxy, fallback: Fallback::Exit }).unwrap_err();
    assert!(error.to_string().starts_with("invalid proxy address"), "{error}");
}

#[test]
fn pauses_are_told_as_go_does() {
    assert_eq!([2, 60, 64, 256].map(go_seconds), ["2s", "1m0s", "1m4s", "4m16s"]);
}

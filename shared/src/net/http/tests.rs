use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{HOST, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn client() -> HttpClient {
    let options = HttpOptions {
        dial_timeout: Duration::from_secs(20),
        header_lines_max: 100,
        idle_max: 8,
        proxy: None,
    };
    HttpClient::new(Dialer::plain(), options)
}

fn request(method: Method, path: &str) -> HttpRequest {
    let host = HeaderValue::from_static("The-Host:1");
    let headers = HeaderMap::from_iter([(HOST, host)]);
    HttpRequest { method, path: path.to_owned(), headers, body: Bytes::new() }
}

/// Serves each connection in a task of its own; counts them.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> (Target, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { tls: false, host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, count.fetch_add(1, Ordering::SeqCst)));
        }
    });
    (target, taken)
}

async fn head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

async fn said(client: &HttpClient, target: &Target, request: &HttpRequest) -> Result<Bytes, HttpError> {
    client.send(target, request).await?.body(10).await
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let (target, taken) = server(async |mut socket: TcpStream, _| {
        while head(&mut socket).await.is_some() {
            socket.write_all(OK).await.unwrap();
        }
    })
    .await;
    let client = client();
    for _ in 0..50 {
        assert_eq!(said(&client, &target, &request(Method::PUT, "/a")).await.unwrap(), "ok");
    }
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_idle_connection_that_is_cut_costs_a_reader_nothing() {
    // The first connection answers once, and hangs up on the second request without a word.
    let (target, taken) = server(async |mut socket: TcpStream, number| {
        while head(&mut socket).await.is_some() {
            socket.write_all(OK).await.unwrap();
            if number == 0 {
                let _ = head(&mut socket).await;
                return;
            }
        }
    })
    .await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(said(&client, &target, &request(Method::GET, "/a")).await.unwrap(), "ok");
    }
    assert_eq!(taken.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_write_is_never_sent_twice() {
    let (target, taken) = server(async |mut socket: TcpStream, _| {
        if head(&mut socket).await.is_some() {
            socket.write_all(OK).await.unwrap();
            let _ = head(&mut socket).await;
        }
    })
    .await;
    let client = client();
    let write = request(Method::PUT, "/a");
    said(&client, &target, &write).await.unwrap();
    let error = said(&client, &target, &write).await.unwrap_err();
    assert!(matches!(error, HttpError::Closed(_) | HttpError::Io(_)), "{error:?}");
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_sent_is_what_was_asked_for() {
    let (target, _) = server(async |mut socket: TcpStream, _| {
        let head = head(&mut socket).await.unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    // All that the texts of keys and queries are made of (see `escape_path`), and a dot that is no folder.
    let path = "/v2/keys/aZ0-_.~$&+,/:;=@%00%2F%C3%A9/.../..a?x=a+b&y=%27%22";
    let answer = client().send(&target, &request(Method::GET, path)).await.unwrap();
    let head = answer.body(1000).await.unwrap();
    assert_eq!(head, format!("GET {path} HTTP/1.1\r\nHost: The-Host:1\r\nAccept: */*\r\n\r\n"));
}

#[tokio::test]
async fn a_body_has_its_limit() {
    let (target, _) = server(async |mut socket: TcpStream, _| {
        let _ = head(&mut socket).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789a").await;
    })
    .await;
    let error = said(&client(), &target, &request(Method::GET, "/")).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge), "{error:?}");
}

#[tokio::test]
async fn a_zone_does_not_get_lost() {
    // Two addresses that differ by their zones only must not share connections.
    let zoned = |zone: &str| Target { tls: false, host: format!("fe80::1%{zone}"), port: 1 };
    assert_ne!(url(&zoned("a"), "/").unwrap(), url(&zoned("b"), "/").unwrap());
    // The loopback's zone is its number.
    let listener = TcpListener::bind("[::1]:0").await;
    let Ok(listener) = listener else { return };
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = head(&mut socket).await;
        socket.write_all(OK).await.unwrap();
    });
    let target = Target { tls: false, host: "::1%1".to_owned(), port };
    assert_eq!(said(&client(), &target, &request(Method::GET, "/")).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_request_that_cannot_be_said_is_not_sent() {
    let (target, taken) = server(async |_, _| {}).await;
    let long = request(Method::GET, &format!("/{}", "a".repeat(70_000)));
    let error = said(&client(), &target, &long).await.unwrap_err();
    assert!(matches!(&error, HttpError::Unsendable(why) if why == "uri too long"), "{error:?}");
    assert_eq!(taken.load(Ordering::SeqCst), 0);
}

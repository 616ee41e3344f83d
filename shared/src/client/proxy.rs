//! An HTTP proxy between a client and its cluster.
//!
//! ```text
//! http:   GET http://host:port/v2/keys/…   sent to the proxy, which sends it on
//! https:  CONNECT host:port                and on that connection TLS with the host
//! ```

use url::Url;

use super::endpoint::Origin;
use super::error::ClientError;
use crate::net::Proxy;
use crate::quote::quote;

/// Reads the URL of a proxy; without a scheme it is `http`.
pub(super) fn parse(text: &str) -> Result<Proxy, ClientError> {
    let refuse = |why: &str| ClientError::Url(format!("invalid proxy address {}: {why}", quote(text)));
    let whole = match text.starts_with("http") && text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let url = Url::parse(&whole).map_err(|error| refuse(&error.to_string()))?;
    let origin =
        Origin::of(&url).map_err(|scheme| refuse(&format!("the scheme {scheme} is not supported")))?;
    if origin.target.tls {
        return Err(refuse("a proxy is reached by http only"));
    }
    Ok(Proxy { url, target: origin.target })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::{Client, GetOptions, Options};
    use super::*;

    #[test]
    fn a_proxy_is_a_url_or_less() {
        assert_eq!(parse("127.0.0.1:8080").unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(parse("http://me:pa%3Ass@proxy:3128/").unwrap().to_string(), "proxy:3128");
        for bad in ["http://a:port", "https://a:1", "http%zz"] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid proxy address \"{bad}\": ")), "{error}");
        }
    }

    /// The client's error if its proxy gives these answers, one a connection; and the first request that the proxy
    /// got.
    async fn through(proxy: &str, endpoint: &str, answers: Vec<&'static str>) -> (String, String) {
        let (before, after) = proxy.split_once("PORT").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let mut first = String::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                if first.is_empty() {
                    first = String::from_utf8_lossy(&head[..read]).into_owned();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            first
        });
        let client = Client::new(Options {
            endpoints: vec![endpoint.to_owned()],
            http_proxy: Some(format!("{before}{}{after}", address.port())),
            ..Options::default()
        })
        .unwrap();
        let said = match client.get(b"/a", GetOptions::default()).await {
            Ok(response) => response.node.value,
            Err(error) => error.detail().unwrap_or_else(|| error.to_string()),
        };
        drop(client);
        (said.replace(&address.to_string(), "PROXY"), served.await.unwrap())
    }

    #[tokio::test]
    async fn a_plain_request_names_its_host_to_the_proxy() {
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
                      {\"action\":\"get\",\"node\":{\"key\":\"/a\",\"value\":\"v\",\"modifiedIndex\":5}}\n";
        let (said, seen) = through("http://me:pa%3Ass@127.0.0.1:PORT", "http://h:1", vec![answer]).await;
        assert_eq!(said, "v", "{seen}");
        assert!(seen.starts_with("GET http://h:1/v2/keys/a?"), "{seen}");
        assert!(seen.contains("\r\nHost: h:1\r\n"), "{seen}");
        assert!(seen.contains("\r\nProxy-Authorization: Basic bWU6cGE6c3M=\r\n"), "{seen}");
    }

    #[tokio::test]
    async fn a_proxy_may_refuse_or_talk_nonsense() {
        for (answer, error) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "Proxy Authentication Required"),
            ("HTTP/1.1 403 Not From Here\r\n\r\n", "Not From Here"),
            ("HTTP/1.1 200 OK\r\n", "unexpected EOF from PROXY"),
            ("hello\r\n\r\n", "malformed HTTP response from the proxy PROXY"),
        ] {
            let (said, seen) = through("u@127.0.0.1:PORT", "https://h:1", vec![answer, answer]).await;
            assert_eq!(said, format!("error #0: {error}\n"));
            assert_eq!(seen, "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nProxy-Authorization: Basic dTo=\r\n\r\n");
        }
    }

    #[tokio::test]
    async fn a_proxy_is_looked_for_at_all_its_addresses() {
        // No program listens at the IPv6 address of this name, which comes first if there is one.
        let answer = "HTTP/1.1 403 Not From Here\r\n\r\n";
        let (said, _) = through("localhost:PORT", "https://h:1", vec![answer, answer]).await;
        assert_eq!(said, "error #0: Not From Here\n");
    }
}

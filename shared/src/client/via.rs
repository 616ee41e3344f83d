//! An HTTP proxy between a client and its cluster.
//!
//! ```text
//! http:   GET http://host:port/v2/keys/…   sent to the proxy, which sends it on
//! https:  CONNECT host:port                and on that connection TLS with the host
//! ```

use bytes::Bytes;
use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Uri};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use url::Url;

use super::Credentials;
use super::endpoint::Origin;
use super::error::{ClientError, RequestError};
use crate::quote::quote;

/// Of a proxy's answer to `CONNECT`; what a proxy says beyond that is not for us.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// A proxy.
#[derive(Debug)]
pub(super) struct Via {
    pub(super) origin: Origin,
    authorization: Option<HeaderValue>,
}

impl Via {
    /// Reads the URL of a proxy; without a scheme it is `http`.
    pub(super) fn parse(text: &str) -> Result<Via, ClientError> {
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
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let authorization = (!url.username().is_empty()).then(|| {
            let password = decoded(url.password().unwrap_or_default());
            Credentials { user: decoded(url.username()), password }.header()
        });
        Ok(Via { origin, authorization })
    }

    /// A request to `http://…` as the proxy wants it: with the whole URL.
    pub(super) fn addressed(
        &self,
        mut request: Request<Full<Bytes>>,
        to: &Origin,
    ) -> Result<Request<Full<Bytes>>, RequestError> {
        let path = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let whole: Uri = format!("http://{}{path}", to.authority)
            .parse()
            .map_err(|error: http::uri::InvalidUri| RequestError::Http(error.to_string()))?;
        *request.uri_mut() = whole;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    /// Asks the proxy, on a connection to it, to be a mere cable to a host.
    pub(super) async fn tunnel<S>(&self, stream: S, to: &Origin) -> Result<S, RequestError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error: std::io::Error| RequestError::Read {
            address: self.origin.authority.clone(),
            reason: crate::net::io_reason(&error),
        };
        let mut request = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", to.authority);
        if let Some(value) = self.authorization.as_ref().and_then(|value| value.to_str().ok()) {
            request.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        request.push_str("\r\n");
        // A byte at a time: what follows the head belongs to whoever uses the tunnel.
        let mut stream = BufReader::with_capacity(1, stream);
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut head = String::new();
        let mut limited = tokio::io::AsyncReadExt::take(&mut stream, HEAD_BYTES_MAX);
        while !head.ends_with("\r\n\r\n") {
            if limited.read_line(&mut head).await.map_err(broken)? == 0 {
                return Err(RequestError::Eof { address: self.origin.authority.clone() });
            }
        }
        let line = head.lines().next().unwrap_or_default();
        match line.split_once(' ') {
            Some((_, status)) if status.starts_with('2') => Ok(stream.into_inner()),
            // The original says no more than this.
            Some((_, status)) => {
                let reason = status.split_once(' ').map_or(status, |(_, reason)| reason);
                Err(RequestError::Http(reason.to_owned()))
            }
            None => Err(RequestError::Http(format!(
                "malformed HTTP response from the proxy {}",
                self.origin.authority
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;
    use crate::net::Target;

    fn target() -> Origin {
        Origin { target: Target { tls: true, host: "h".into(), port: 1 }, authority: "h:1".into() }
    }

    #[test]
    fn a_proxy_is_a_url_or_less() {
        let via = Via::parse("127.0.0.1:8080").unwrap();
        assert_eq!((via.origin.authority.as_str(), via.authorization), ("127.0.0.1:8080", None));
        let via = Via::parse("http://me:pa%3Ass@proxy:3128/").unwrap();
        assert_eq!(via.origin.authority, "proxy:3128");
        assert_eq!(via.authorization.unwrap(), "Basic bWU6cGE6c3M=");
        for bad in ["http://a:port", "https://a:1", "http%zz"] {
            let error = Via::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid proxy address \"{bad}\": ")), "{error}");
        }
    }

    #[test]
    fn a_plain_request_names_its_host_to_the_proxy() {
        let via = Via::parse("http://u@p:1").unwrap();
        let request = Request::get("/v2/keys/a?wait=true").body(Full::default()).unwrap();
        let request = via.addressed(request, &target()).unwrap();
        assert_eq!(request.uri(), "http://h:1/v2/keys/a?wait=true");
        assert_eq!(request.headers()[PROXY_AUTHORIZATION], "Basic dTo=");
    }

    /// What becomes of a tunnel when the proxy answers this.
    async fn answered(answer: &'static str) -> (Result<String, String>, String) {
        let (ours, mut theirs) = duplex(1024);
        let proxy = tokio::spawn(async move {
            let mut seen = vec![0; 1024];
            let read = theirs.read(&mut seen).await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
            drop(theirs);
            String::from_utf8(seen[..read].to_vec()).unwrap()
        });
        let opened = Via::parse("p:1").unwrap().tunnel(ours, &target()).await;
        let opened = match opened {
            Ok(mut stream) => {
                let mut rest = String::new();
                stream.read_to_string(&mut rest).await.unwrap();
                Ok(rest)
            }
            Err(error) => Err(error.to_string()),
        };
        (opened, proxy.await.unwrap())
    }

    #[tokio::test]
    async fn a_tunnel_begins_where_the_head_of_the_answer_ends() {
        let (opened, asked) = answered("HTTP/1.1 200 Connection established\r\nA: b\r\n\r\nhello").await;
        assert_eq!(opened.as_deref(), Ok("hello"));
        assert_eq!(asked, "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_proxy_may_refuse_or_talk_nonsense() {
        let refused = answered("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.0;
        assert_eq!(refused, Err("Proxy Authentication Required".to_owned()));
        assert_eq!(answered("HTTP/1.1 200 OK\r\n").await.0, Err("unexpected EOF from p:1".to_owned()));
        let nonsense = answered("hello\r\n\r\n").await.0;
        assert_eq!(nonsense, Err("malformed HTTP response from the proxy p:1".to_owned()));
    }
}

//! An HTTP client over a [`Dialer`], for all requests except the peer streams and the requests that a proxy forwards.
//!
//! `reqwest` keeps the connections, speaks HTTP/1.1 and supports proxies. It makes its connections itself, so this
//! file wraps it to behave as a dialler: which addresses are tried and for how long, the present certificates, and
//! the texts of the errors.

mod connect;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use hyper::ext::ReasonPhrase;
use parking_lot::Mutex;
use reqwest::{Request, Response, Url};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::dial::{
    ClientTlsConfig, DialError, Dialer, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, Target,
    plain_config,
};
use super::explain::{LocalSide, TlsFailure};
use super::io_reason;
use connect::{Addresses, DialLayer, Dialling, NotConnected};

/// Makes requests, and keeps idle connections for the next ones.
#[derive(Debug)]
pub struct HttpClient {
    dialer: Dialer,
    options: HttpOptions,
    made: Mutex<Clients>,
}

/// The options of a client.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// How long dialling may take at most; a TLS handshake has ten seconds of its own.
    pub dial_timeout: Duration,
    /// The most header lines of an answer.
    pub header_lines_max: usize,
    /// How many idle connections to a host are kept.
    pub idle_max: usize,
    /// A proxy that all requests go through.
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its URL, with user and password if it requires them.
    pub url: Url,
    /// The target of the URL.
    pub target: Target,
}

/// The library's clients, created on first use.
#[derive(Debug, Default)]
struct Clients {
    plain: Option<reqwest::Client>,
    /// With the TLS settings that it was made from.
    secure: Option<(Arc<ClientTlsConfig>, reqwest::Client)>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// Path and query, escaped.
    pub path: String,
    /// The lines of the head, `Host` among them, in the order in which they are sent.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
}

/// The head of an answer; its body is still to be read. Dropping it closes the connection.
#[derive(Debug)]
pub struct HttpAnswer {
    response: Response,
    side: Option<Arc<LocalSide>>,
}

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS ended the connection.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The connection broke.
    #[error("{0}")]
    Io(io::Error),
    /// The other side hung up before its answer was complete.
    #[error("{0}")]
    Closed(String),
    /// The answer is not HTTP.
    #[error("{0}")]
    Malformed(String),
    /// The request is not valid in HTTP: nothing was sent.
    #[error("{0}")]
    Unsendable(String),
    /// The proxy refused the tunnel to the host: its status line.
    #[error("{0}")]
    Proxy(String),
    /// The request for a tunnel to the proxy failed.
    #[error("{0}")]
    OfProxy(Box<HttpError>),
    /// The body is longer than the limit.
    #[error("length limit exceeded")]
    TooLarge,
}

impl HttpClient {
    /// A client that connects as a dialler does. Nothing is sent yet.
    #[must_use]
    pub fn new(dialer: Dialer, options: HttpOptions) -> HttpClient {
        HttpClient { dialer, options, made: Mutex::default() }
    }

    /// Sends a request and waits for the head of the answer, without a limit.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, target: &Target, request: &HttpRequest) -> Result<HttpAnswer, HttpError> {
        let (client, side) = if target.tls { self.secure(target)? } else { (self.plain()?, None) };
        let url = url(target, &request.path)?;
        url.as_str().parse::<http::Uri>().map_err(|error| HttpError::Unsendable(error.to_string()))?;
        if self.options.proxy.is_some() && target.tls && target.host.contains(':') {
            // The library would verify the certificate for a name in brackets.
            let why = format!("{} cannot be reached through a proxy: use a name", target.authority());
            return Err(HttpError::Proxy(why));
        }
        let tcp = self.options.proxy.as_ref().map_or(target, |proxy| &proxy.target);
        let dialling = Dialling::new(tcp, target, self.options.dial_timeout, side.clone());
        let mut first = None;
        loop {
            let attempt = library_request(request, url.clone());
            let error = match dialling.during(client.execute(attempt)).await {
                Ok(response) => return Ok(HttpAnswer { response, side }),
                Err(error) => error,
            };
            match find(&error) {
                // Every address is tried, and the first failure is reported.
                Some(NotConnected::Dial(failure @ DialError::Connect { .. })) => {
                    first.get_or_insert_with(|| failure.clone());
                    if !dialling.has_next() {
                        return Err(first.unwrap_or_else(|| failure.clone()).into());
                    }
                }
                Some(NotConnected::Dial(failure)) => return Err(failure.clone().into()),
                Some(NotConnected::Tunnel) => return Err(self.refusal(target).await),
                None => {
                    let error = failed(&error, side.as_deref());
                    // The other side closed the idle connection while the request was on its way: a repeated read
                    // does no harm.
                    let is_cut = matches!(error, HttpError::Closed(_) | HttpError::Io(_));
                    if dialling.has_dialled() || !is_cut || !request.method.is_safe() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Why a proxy refused a tunnel. The library does not say, so the request to the proxy is repeated here.
    async fn refusal(&self, target: &Target) -> HttpError {
        let nonsense = || HttpError::Proxy(String::new());
        let host = Target { tls: false, ..target.clone() };
        let Ok(url) = url(&host, "") else { return nonsense() };
        let client = match self.plain() {
            Ok(client) => client,
            Err(error) => return error,
        };
        let tcp = self.options.proxy.as_ref().map_or(target, |proxy| &proxy.target);
        let dialling = Dialling::new(tcp, &host, self.options.dial_timeout, None);
        loop {
            match dialling.during(client.execute(Request::new(Method::CONNECT, url.clone()))).await {
                Ok(answer) if answer.status().is_success() => return nonsense(),
                Ok(answer) => return HttpError::Proxy(reason(&answer)),
                Err(error) => match find(&error) {
                    // No proxy listens at this address.
                    Some(NotConnected::Dial(DialError::Connect { .. })) if dialling.has_next() => {}
                    Some(NotConnected::Dial(failure)) => return failure.clone().into(),
                    _ => return HttpError::OfProxy(Box::new(failed(&error, None))),
                },
            }
        }
    }

    fn plain(&self) -> Result<reqwest::Client, HttpError> {
        let mut made = self.made.lock();
        if let Some(client) = &made.plain {
            return Ok(client.clone());
        }
        let config = plain_config().map_err(|error| TlsFailure::other(format!("tls: {error}")))?;
        let client = self.make(config)?;
        made.plain = Some(client.clone());
        Ok(client)
    }

    /// The TLS client for the present contents of the dialler's files.
    fn secure(&self, target: &Target) -> Result<(reqwest::Client, Option<Arc<LocalSide>>), HttpError> {
        let loaded = self.dialer.loaded()?;
        let host = target.host_or_own();
        ServerName::try_from(host)
            .map_err(|_| TlsFailure::other(format!("tls: {host} is no name of a server")))?;
        let mut made = self.made.lock();
        if let Some((from, client)) = &made.secure
            && Arc::ptr_eq(from, &loaded)
        {
            return Ok((client.clone(), Some(loaded.side())));
        }
        let config = loaded.config().map_err(TlsFailure::other)?;
        let client = self.make(ClientConfig::clone(&config))?;
        made.secure = Some((loaded.clone(), client.clone()));
        Ok((client, Some(loaded.side())))
    }

    fn make(&self, config: ClientConfig) -> Result<reqwest::Client, HttpError> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .http1_title_case_headers()
            .http1_max_headers(self.options.header_lines_max)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .pool_idle_timeout(None)
            .pool_max_idle_per_host(self.options.idle_max)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE_IDLE)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(None)
            .dns_resolver(Addresses)
            .connector_layer(DialLayer);
        let builder = match &self.options.proxy {
            Some(proxy) => {
                let proxy = reqwest::Proxy::all(proxy.url.clone());
                builder.proxy(proxy.map_err(|error| HttpError::Malformed(deepest(&error)))?)
            }
            None => builder,
        };
        builder.build().map_err(|error| HttpError::Malformed(deepest(&error)))
    }
}

impl HttpAnswer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The head.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection fails before.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.response.chunk().await.map_err(|error| failed(&error, self.side.as_deref()))
    }

    /// The whole body.
    ///
    /// # Errors
    /// When the connection fails before its end, or it has more than `bytes_max`.
    pub async fn body(mut self, bytes_max: usize) -> Result<Bytes, HttpError> {
        let Some(first) = self.piece().await? else { return Ok(Bytes::new()) };
        if first.len() > bytes_max {
            return Err(HttpError::TooLarge);
        }
        let Some(mut piece) = self.piece().await? else { return Ok(first) };
        let mut body = first.to_vec();
        loop {
            if body.len() + piece.len() > bytes_max {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&piece);
            match self.piece().await? {
                Some(next) => piece = next,
                None => return Ok(body.into()),
            }
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target.authority())
    }
}

/// The URL of a request for the library. [`Dialling`] decides where to connect, and the header names the host; the
/// URL only decides which idle connections can be reused.
fn url(target: &Target, path: &str) -> Result<Url, HttpError> {
    let scheme = if target.tls { "https" } else { "http" };
    let host = Target { host: target.host_or_own().to_owned(), ..target.clone() };
    let parsed = Url::parse(&format!("{scheme}://{}{path}", host.authority()));
    match parsed {
        // Such a URL cannot hold the zone of an address.
        Err(_) if !target.tls => {
            let host: String = host.host.bytes().map(|byte| format!("{byte:02x}")).collect();
            Url::parse(&format!("http://{host}.invalid:{}{path}", target.port))
        }
        parsed => parsed,
    }
    .map_err(|error| HttpError::Malformed(error.to_string()))
}

fn library_request(request: &HttpRequest, url: Url) -> Request {
    let mut out = Request::new(request.method.clone(), url);
    out.headers_mut().clone_from(&request.headers);
    if !request.body.is_empty() {
        *out.body_mut() = Some(request.body.clone().into());
    }
    out
}

/// Converts an error of the library.
fn failed(error: &reqwest::Error, side: Option<&LocalSide>) -> HttpError {
    if let (Some(tls), Some(side)) = (find::<rustls::Error>(error), side) {
        return side.explain(tls, None).into();
    }
    if let Some(error) = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last() {
        return HttpError::Io(same(error, side.is_some()));
    }
    let text = deepest(error);
    match find::<hyper::Error>(error) {
        Some(error) if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
            HttpError::Closed(text)
        }
        _ => HttpError::Malformed(text),
    }
}

/// A copy of an I/O error, from the system or not.
fn same(error: &io::Error, over_tls: bool) -> io::Error {
    match (error.raw_os_error(), error.kind()) {
        (Some(code), _) => io::Error::from_raw_os_error(code),
        // The other side closed the connection without the TLS closing alert.
        (None, kind @ io::ErrorKind::UnexpectedEof) if over_tls => io::Error::new(kind, "unexpected EOF"),
        (None, kind) => io::Error::new(kind, io_reason(error)),
    }
}

/// An error and its sources, one after the other.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            // Its source is that of what it wraps.
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The innermost source of an error: the libraries' own texts say little.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

/// The status line of an answer.
fn reason(answer: &Response) -> String {
    let own = answer.extensions().get::<ReasonPhrase>().map(|own| String::from_utf8_lossy(own.as_bytes()));
    let status = answer.status();
    match own {
        Some(own) => own.into_owned(),
        None => status.canonical_reason().map_or_else(|| status.as_str().to_owned(), str::to_owned),
    }
}

#[cfg(test)]
mod tests;

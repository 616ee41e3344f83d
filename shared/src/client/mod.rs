//! A client of the v2 API: endpoints, failover, typed calls.
//!
//! [`Client`] knows the members of one cluster. A call goes to the endpoint that answered last; if that one
//! does not answer, to the next, until all were tried. Nothing here prints, reads the environment or sets a
//! limit for a whole call: callers wrap a call in [`tokio::time::timeout`]. Dropping a call closes its
//! connection.
//!
//! Used by `etcdctl`, and by what the server does as a client.

mod auth;
mod credentials;
mod endpoint;
mod error;
mod keys;
mod locks;
mod members;
mod page;
mod proxy;
mod request;
mod srv;
mod text;
mod transport;
#[cfg(feature = "grpc-client")]
pub mod v3;
mod watch;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};

pub use auth::{Change, KeyPatterns, Permissions, Role, User};
pub use credentials::Credentials;
pub use endpoint::Endpoint;
pub use error::{ApiFailure, ClientError, RequestError};
pub use keys::{DeleteOptions, GetOptions, Node, Response, SetOptions};
pub use locks::{LockError, Queue};
pub use members::{HealthError, Member};
pub use page::Page;
pub use srv::{SrvError, SrvLookup, SrvRecord, discover};
pub use text::canonical_path;
pub use watch::{WatchItem, WatchNotice, Watcher};

use endpoint::{Origin, parse_url};
use request::Request;
use transport::{Answer, Transport};

use crate::net::{ClientTlsFiles, Dialer};

/// As many redirects as the original follows for one request.
const REDIRECTS_MAX: usize = 10;

/// A callback that gets each request as a `curl` command.
pub type Trace = Box<dyn Fn(&str) + Send + Sync>;

/// The options of a client.
#[derive(Default)]
pub struct Options {
    /// URLs of members; the scheme may be missing.
    pub endpoints: Vec<String>,
    /// Certificates and keys.
    pub tls: ClientTlsFiles,
    /// How long one request may take until the head of its answer is there; watches may take longer.
    pub header_timeout: Option<Duration>,
    /// How long dialling may take at most.
    pub dial_timeout: Option<Duration>,
    /// The user and the password.
    pub credentials: Option<Credentials>,
    /// Called with each request before it leaves.
    pub trace: Option<Trace>,
    /// The path of the keys API; without it `/v2/keys`. A discovery service may have it elsewhere.
    pub keys_below: Option<String>,
    /// An HTTP proxy that all requests go through: a URL whose scheme may be missing.
    pub http_proxy: Option<String>,
}

/// The original's limit for dialling.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one cluster.
pub struct Client {
    transport: Transport,
    known: Mutex<EndpointList>,
    /// The last received list of members.
    cluster: Mutex<Option<Cluster>>,
    header_timeout: Option<Duration>,
    authorization: Option<HeaderValue>,
    trace: Option<Trace>,
    keys_below: String,
}

/// The endpoints, in the order in which they are tried.
#[derive(Debug, Clone)]
struct EndpointList {
    endpoints: Vec<Endpoint>,
    /// The one that answered last: an index into `endpoints`, 0 if that is empty.
    pinned: usize,
}

/// The members of a cluster, from the list of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's id, in hexadecimal; `None` if the answer did not have it.
    pub id: Option<String>,
    /// Its members.
    pub members: Vec<Member>,
}

/// The whole answer of a member.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// When an endpoint or the proxy is no URL or there is no endpoint, or a file of the TLS options cannot be
    /// used.
    pub fn new(options: Options) -> Result<Client, ClientError> {
        let known = EndpointList::new(&options.endpoints)?;
        let dialer = Dialer::new(&options.tls)?;
        let proxy = options.http_proxy.as_deref().map(proxy::parse).transpose()?;
        let dial_timeout = options.dial_timeout.unwrap_or(DIAL_TIMEOUT).min(DIAL_TIMEOUT);
        Ok(Client {
            transport: Transport::new(dialer, dial_timeout, proxy),
            known: Mutex::new(known),
            cluster: Mutex::new(None),
            header_timeout: options.header_timeout,
            authorization: options.credentials.map(|credentials| credentials.header()),
            trace: options.trace,
            keys_below: options.keys_below.unwrap_or_else(|| keys::KEYS.to_owned()),
        })
    }

    /// The endpoints, in the order in which they are tried.
    pub fn endpoints(&self) -> Vec<String> {
        self.known().endpoints.iter().map(Endpoint::to_string).collect()
    }

    /// Replaces the endpoints.
    ///
    /// # Errors
    /// When one is no URL, or there is none; the old ones stay then.
    pub fn set_endpoints(&self, endpoints: &[String]) -> Result<(), ClientError> {
        let known = EndpointList::new(endpoints)?;
        *self.lock() = known;
        Ok(())
    }

    /// Asks the cluster for its members' client URLs and uses these from now on.
    ///
    /// # Errors
    /// If no member answers, or the members publish no client URLs ([`ClientError::NoEndpoints`]).
    pub async fn sync(&self) -> Result<(), ClientError> {
        let members = self.members().await?;
        let mut urls: Vec<String> = members.into_iter().flat_map(|member| member.client_urls).collect();
        let mut current = self.endpoints();
        urls.sort_unstable();
        current.sort_unstable();
        // Without a change the pinned endpoint stays pinned.
        if urls == current { Ok(()) } else { self.set_endpoints(&urls) }
    }

    /// The last answer to [`members`](Client::members) or [`sync`](Client::sync); sends no request.
    pub fn cluster(&self) -> Option<Cluster> {
        self.lock_cluster().clone()
    }

    fn lock_cluster(&self) -> std::sync::MutexGuard<'_, Option<Cluster>> {
        self.cluster.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, EndpointList> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn known(&self) -> EndpointList {
        self.lock().clone()
    }

    /// Sends a call and reads the answer.
    async fn send(&self, request: &Request) -> Result<Reply, ClientError> {
        self.exchange(request, async |_, answer| {
            let status = answer.status();
            let headers = answer.headers().clone();
            Ok(Reply { status, headers, body: answer.body().await? })
        })
        .await
    }

    /// Sends a call to one endpoint after the other until `finish` accepts an answer.
    async fn exchange<T>(
        &self,
        request: &Request,
        finish: impl AsyncFn(&Endpoint, Answer) -> Result<T, RequestError>,
    ) -> Result<T, ClientError> {
        let EndpointList { endpoints, pinned } = self.known();
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        let mut errors = Vec::new();
        for step in 0..endpoints.len() {
            let at = (pinned + step) % endpoints.len();
            let endpoint = &endpoints[at];
            let outcome = match self.ask(endpoint, request).await {
                Ok(answer) => finish(endpoint, answer).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(value) => {
                    let mut known = self.lock();
                    if known.endpoints == endpoints {
                        known.pinned = at;
                    }
                    return Ok(value);
                }
                Err(error) => errors.push(error),
            }
        }
        Err(ClientError::Unavailable(errors))
    }

    /// Sends a call to one endpoint; a status that is about the member and not the call is an error.
    async fn ask(&self, endpoint: &Endpoint, request: &Request) -> Result<Answer, RequestError> {
        let answer = self.follow(endpoint, request, self.trace.as_ref()).await?;
        let status = answer.status();
        let is_answer = request.takes_500 && status == StatusCode::INTERNAL_SERVER_ERROR;
        if is_answer || !status.is_server_error() {
            return Ok(answer);
        }
        let endpoint = endpoint.to_string();
        Err(match status {
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => {
                RequestError::NoLeader { endpoint }
            }
            status => {
                let status = status.canonical_reason().unwrap_or_default().to_owned();
                RequestError::ServerError { endpoint, status }
            }
        })
    }

    /// Sends a call to one endpoint and follows redirects.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        trace: Option<&Trace>,
    ) -> Result<Answer, RequestError> {
        let (mut url, mut target) = request.url(endpoint);
        let mut origin = endpoint.origin().map_err(|scheme| RequestError::Scheme(scheme.to_owned()))?.clone();
        for _ in 0..=REDIRECTS_MAX {
            if let Some(trace) = trace {
                trace(&request.curl(&url));
            }
            let answer = self.one_request(endpoint, request, &origin, &target).await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            (url, target, origin) = redirected(&url, answer.headers())?;
        }
        Err(RequestError::TooManyRedirects)
    }

    /// Sends a call once and waits for the head of the answer, within the time limit of one request.
    async fn one_request(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        origin: &Origin,
        target: &str,
    ) -> Result<Answer, RequestError> {
        let question = request
            .to_http(&origin.authority, target, self.authorization.as_ref())
            .map_err(|error| RequestError::Http(error.to_string()))?;
        let answer = self.transport.round_trip(origin, &question);
        match self.header_timeout {
            Some(limit) if !request.wait => tokio::time::timeout(limit, answer)
                .await
                .map_err(|_| RequestError::HeaderTimeout { endpoint: endpoint.to_string() })?,
            _ => answer.await,
        }
    }
}

impl EndpointList {
    /// In random order, so that the clients of a cluster do not all use the member that is named first.
    fn new(endpoints: &[String]) -> Result<EndpointList, ClientError> {
        let mut endpoints =
            endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        let random = RandomState::new();
        endpoints.sort_by_cached_key(|endpoint| random.hash_one(endpoint.to_string()));
        Ok(EndpointList { endpoints, pinned: 0 })
    }
}

/// The target of a redirect from a URL: the URL, the part after its host, and where to connect.
fn redirected(url: &str, headers: &HeaderMap) -> Result<(String, String, Origin), RequestError> {
    let header = headers.get(LOCATION);
    let location = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if location.is_empty() {
        return Err(RequestError::Location("Location header not set".to_owned()));
    }
    let next = parse_url(url).ok().and_then(|base| base.join(location).ok());
    let Some(next) = next else {
        return Err(RequestError::Location(format!("Location header not valid URL: {location}")));
    };
    let origin = Origin::of(&next).map_err(RequestError::Scheme)?;
    let target = next[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    Ok((next.into(), target, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_redirect_may_be_absolute_or_not() {
        let from = "http://a:1/v2/keys/x?quorum=true";
        let (url, target, origin) = redirected(from, &location("https://b:2/v2/keys/y?z=1")).unwrap();
        assert_eq!((url.as_str(), target.as_str()), ("https://b:2/v2/keys/y?z=1", "/v2/keys/y?z=1"));
        assert_eq!((origin.target.tls, origin.authority.as_str()), (true, "b:2"));
        let (url, target, origin) = redirected(from, &location("/v2/keys/y")).unwrap();
        assert_eq!(
            (url.as_str(), target.as_str(), origin.target.port),
            ("http://a:1/v2/keys/y", "/v2/keys/y", 1)
        );
        assert!(redirected(from, &HeaderMap::new()).is_err());
        assert!(redirected(from, &location("ftp://b/")).is_err());
    }

    #[test]
    fn the_order_of_endpoints_is_drawn_and_none_is_lost() {
        let names: Vec<String> = (0..8).map(|n| format!("http://h{n}:1")).collect();
        let orders: Vec<Vec<String>> = (0..20)
            .map(|_| EndpointList::new(&names).unwrap().endpoints.iter().map(Endpoint::to_string).collect())
            .collect();
        assert!(orders.iter().any(|order| *order != orders[0]));
        for mut order in orders {
            order.sort();
            assert_eq!(order, names);
        }
        assert!(matches!(EndpointList::new(&[]), Err(ClientError::NoEndpoints)));
    }
}

//! The discovery protocol: members of a new cluster register under a token at another etcd, and wait until the number
//! of members that the token wants is reached.
//!
//! ```text
//! TOKEN/_config/size      the initial number of members
//! TOKEN/<member id>       name=URL,name=URL    created by the member itself, once
//! ```
//!
//! The first `size` registrations, in the order of creation, form the cluster. Requests to a service that cannot be
//! reached are retried forever; only an answer of the service can be an error.

use std::future::Future;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use shared::client::{
    Client, ClientError, Credentials, GetOptions, Node, Options, Response, SetOptions, WatchItem,
};
use shared::id::MemberId;
use shared::net::{ClientTlsFiles, Role};
use shared::url::InitialCluster;
use url::{Position, Url};

use super::DiscoveryError;
use crate::config::Discovery;
use crate::log;

/// The timeout of one request, except for watches.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// The pause after the first failure; it doubles with each further failure.
const PAUSE_MIN: Duration = Duration::from_secs(2);

/// The longest pause, so that a recovered service is noticed within minutes. The original doubles without a limit.
const PAUSE_MAX: Duration = Duration::from_secs(256);

/// The pause before a token is read again after the watch missed events.
const REREAD_DELAY: Duration = Duration::from_secs(1);

/// The API's error codes that are handled here.
const EVENT_INDEX_CLEARED: u16 = 401;
const NODE_EXIST: u16 = 105;
const KEY_NOT_FOUND: u16 = 100;

/// The client of a discovery service, for one token.
#[derive(Debug)]
pub struct DiscoveryService {
    client: Client,
    /// The URL without the token's path, for the log.
    endpoint: String,
    /// The path of the token.
    token: String,
    /// The number of failures in a row.
    failures: u32,
    pause_min: Duration,
}

/// The content of a token.
#[derive(Debug)]
struct TokenState {
    /// The token's key as the service returns it.
    dir: String,
    /// The initial number of members, at least 1.
    size: usize,
    /// The registrations, in the order of creation.
    registered: Vec<Registration>,
    /// The service's index at the time of the read.
    index: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registration {
    /// The member's id, if it registered correctly.
    id: String,
    /// The member's name and URLs.
    value: String,
}

/// Why one attempt failed.
enum AttemptError {
    /// No answer, or an answer that the service cannot serve the request now: try again.
    Temporary(String),
    Final(DiscoveryError),
}

impl DiscoveryService {
    /// The client for the token at a URL. Sends nothing yet.
    pub fn new(discovery: &Discovery) -> Result<DiscoveryService, DiscoveryError> {
        let invalid =
            |why: &str| DiscoveryError::Url(format!("parse {}: {why}", shared::quote::quote(&discovery.url)));
        let url = Url::parse(&discovery.url).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("the URL of a discovery token must begin with http:// or https://"));
        }
        if let Some(proxy) = discovery.proxy_shown() {
            let scheme = if proxy.starts_with("http") { "" } else { "http://" };
            log::info!("discovery", "using proxy \"{scheme}{proxy}\"");
        }
        let endpoint = format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort]);
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty()).then(|| Credentials {
            user: decoded(url.username()),
            password: decoded(url.password().unwrap_or_default()),
        });
        let client = Client::new(Options {
            endpoints: vec![endpoint.clone()],
            keys_below: Some(String::new()),
            http_proxy: discovery.proxy.clone(),
            credentials,
            tls: ClientTlsFiles { role: Role::Outside, ..ClientTlsFiles::default() },
            ..Options::default()
        })?;
        let token = decoded(url.path()).trim_end_matches('/').to_owned();
        Ok(DiscoveryService { client, endpoint, token, failures: 0, pause_min: PAUSE_MIN })
    }

    /// The values of all registrations: 2.x registers `name=URL`, 0.4 only its peer URL. Empty if the token does not
    /// exist. Sends one request with the timeout `limit`.
    ///
    /// # Errors
    /// If the service gives no answer or refuses.
    pub async fn registrations(&self, limit: Duration) -> Result<Vec<String>, DiscoveryError> {
        let response =
            tokio::time::timeout(limit, self.client.get(self.token.as_bytes(), GetOptions::default())).await;
        let nodes = match response.unwrap_or(Err(ClientError::DeadlineExceeded)) {
            Ok(answer) => answer.node.nodes.unwrap_or_default(),
            Err(ClientError::Api(failure)) if failure.code == KEY_NOT_FOUND => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(nodes.into_iter().filter(|node| !node.dir).map(|node| node.value).collect())
    }

    /// Registers a member with its name and URLs, and waits until all members have registered.
    ///
    /// # Errors
    /// If the cluster is full without this member, or the registrations are not a valid cluster.
    pub async fn join(
        &mut self,
        id: MemberId,
        own: &InitialCluster,
    ) -> Result<InitialCluster, DiscoveryError> {
        let id = id.to_string();
        let before = self.token_state().await?;
        if before.is_full_without(&id) {
            return Err(DiscoveryError::Full);
        }
        if before.registered.iter().any(|other| other.id == id) {
            return Err(DiscoveryError::DuplicateId);
        }
        self.register(&id, &own.to_string()).await?;
        let token_state = self.token_state().await?;
        if token_state.is_full_without(&id) {
            return Err(DiscoveryError::Full);
        }
        self.wait_for_members(token_state, Some(&id)).await
    }

    /// Waits until all members have registered, without registering.
    ///
    /// # Errors
    /// If the registrations are not a valid cluster.
    pub async fn cluster(&mut self) -> Result<InitialCluster, DiscoveryError> {
        let token_state = self.token_state().await?;
        self.wait_for_members(token_state, None).await
    }

    /// Reads the token; retries until there is an answer.
    async fn token_state(&mut self) -> Result<TokenState, DiscoveryError> {
        loop {
            match self.read_token().await {
                Ok(token_state) => {
                    self.failures = 0;
                    return Ok(token_state);
                }
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Temporary(why)) => self.pause("cluster status check", &why).await,
            }
        }
    }

    async fn read_token(&self) -> Result<TokenState, AttemptError> {
        let size =
            with_timeout(self.client.get(self.key("_config/size").as_bytes(), GetOptions::default())).await?;
        let size: usize = match size.node.value.parse() {
            Ok(size) if size > 0 => size,
            _ => return Err(AttemptError::Final(DiscoveryError::BadSize)),
        };
        let token = with_timeout(self.client.get(self.token.as_bytes(), GetOptions::default())).await?;
        let (dir, index) = (token.node.key, token.index);
        let mut nodes: Vec<Node> = token.node.nodes.unwrap_or_default();
        nodes.sort_by_key(|node| node.created_index);
        let registered = nodes.into_iter().filter_map(|node| Registration::of(&dir, node)).collect();
        Ok(TokenState { dir, size, registered, index })
    }

    /// Creates the member's own key, which must not exist.
    async fn register(&mut self, id: &str, value: &str) -> Result<(), DiscoveryError> {
        let key = self.key(id);
        let mut earlier_attempt_unknown = false;
        loop {
            let create = SetOptions { prev_exist: Some(false), ..SetOptions::default() };
            match with_timeout(self.client.set(key.as_bytes(), value.as_bytes(), create)).await {
                Ok(response) => return self.wait_until_visible(&key, response.node.created_index).await,
                Err(AttemptError::Final(DiscoveryError::Refused(failure))) if failure.code == NODE_EXIST => {
                    // An earlier attempt without an answer may have succeeded.
                    return if earlier_attempt_unknown { Ok(()) } else { Err(DiscoveryError::DuplicateId) };
                }
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Temporary(why)) => {
                    earlier_attempt_unknown = true;
                    self.pause("registration", &why).await;
                }
            }
        }
    }

    /// Waits, for a limited time, until the key is visible: another member of the service may serve the next read.
    async fn wait_until_visible(&mut self, key: &str, index: u64) -> Result<(), DiscoveryError> {
        let mut watcher = self.client.watch(key.as_bytes(), false, Some(index));
        // If that fails, the next read of the token reports why.
        let _ = tokio::time::timeout(REQUEST_TIME_MAX, watcher.next()).await;
        Ok(())
    }

    /// Waits until the number of members that the token wants is reached, and returns the cluster.
    async fn wait_for_members(
        &mut self,
        mut token_state: TokenState,
        own_id: Option<&str>,
    ) -> Result<InitialCluster, DiscoveryError> {
        loop {
            token_state.registered.truncate(token_state.size);
            for Registration { id, .. } in &token_state.registered {
                if own_id == Some(id) {
                    log::notice!("discovery", "found self {id} in the cluster");
                } else {
                    log::notice!("discovery", "found peer {id} in the cluster");
                }
            }
            match self.watch_until_complete(&mut token_state).await {
                Ok(()) => break,
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Temporary(why)) => {
                    if why.is_empty() {
                        tokio::time::sleep(REREAD_DELAY).await;
                    } else {
                        self.pause("waiting for other nodes", &why).await;
                    }
                    token_state = self.token_state().await?;
                    if own_id.is_some_and(|own_id| token_state.is_full_without(own_id)) {
                        return Err(DiscoveryError::Full);
                    }
                }
            }
        }
        log::notice!("discovery", "found {} needed peer(s)", token_state.registered.len());
        token_state.into_cluster()
    }

    /// Watches the token until all members have registered. A temporary error with an empty text is not a failure of
    /// the service: the watch has missed events.
    async fn watch_until_complete(&self, token_state: &mut TokenState) -> Result<(), AttemptError> {
        let mut watcher = self.client.watch(self.token.as_bytes(), true, Some(token_state.index + 1));
        while token_state.registered.len() < token_state.size {
            let found = token_state.registered.len();
            let more = token_state.size - found;
            log::notice!("discovery", "found {found} peer(s), waiting for {more} more");
            match watcher.next().await {
                Ok(WatchItem::Event(event)) => token_state.apply_event(*event),
                Ok(WatchItem::Notice(notice)) => return Err(AttemptError::Temporary(notice.to_string())),
                // The service no longer has the oldest events: read the token again.
                Err(ClientError::Api(failure)) if failure.code == EVENT_INDEX_CLEARED => {
                    return Err(AttemptError::Temporary(String::new()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Logs the failure, and waits before the next attempt.
    async fn pause(&mut self, step: &str, why: &str) {
        let pause = self.pause_min.saturating_mul(1 << self.failures.min(20)).min(PAUSE_MAX);
        self.failures += 1;
        log::error!("discovery", "{}", why.trim_end());
        log::info!(
            "discovery",
            "{step}: error connecting to {}, retrying in {}",
            self.endpoint,
            go_seconds(pause.as_secs())
        );
        tokio::time::sleep(pause).await;
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.token)
    }
}

impl Registration {
    /// The registration in a node of the token's directory; `None` if the node is not a registration.
    fn of(dir: &str, node: Node) -> Option<Registration> {
        let id = node.key.strip_prefix(dir)?.trim_start_matches('/');
        let registers = !node.dir && !id.is_empty() && !id.contains('/') && id != "_config";
        registers.then(|| Registration { id: id.to_owned(), value: node.value })
    }
}

impl TokenState {
    /// Whether other members fill the cluster.
    fn is_full_without(&self, id: &str) -> bool {
        self.registered.len() >= self.size && !self.registered[..self.size].iter().any(|other| other.id == id)
    }

    /// Applies an event below the token.
    fn apply_event(&mut self, event: Response) {
        let gone = matches!(event.action.as_str(), "delete" | "expire" | "compareAndDelete");
        let Some(registration) = Registration::of(&self.dir, event.node) else { return };
        if gone {
            log::warning!("discovery", "peer {} is no longer registered", registration.id);
            self.registered.retain(|other| other.id != registration.id);
        } else if let Some(known) = self.registered.iter_mut().find(|other| other.id == registration.id) {
            *known = registration;
        } else {
            log::notice!("discovery", "found peer {} in the cluster", registration.id);
            self.registered.push(registration);
        }
    }

    fn into_cluster(self) -> Result<InitialCluster, DiscoveryError> {
        let values: Vec<String> =
            self.registered.into_iter().map(|registration| registration.value).collect();
        let cluster = InitialCluster::parse(&values.join(",")).map_err(|_| DiscoveryError::InvalidUrl)?;
        if cluster.len() == self.size { Ok(cluster) } else { Err(DiscoveryError::DuplicateName) }
    }
}

impl From<ClientError> for AttemptError {
    fn from(error: ClientError) -> AttemptError {
        match error {
            ClientError::Unavailable(_) => AttemptError::Temporary(error.detail().unwrap_or_default()),
            ClientError::DeadlineExceeded => AttemptError::Temporary(error.to_string()),
            error => AttemptError::Final(error.into()),
        }
    }
}

/// Runs one call with the timeout of a request.
async fn with_timeout<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, AttemptError> {
    let answer = tokio::time::timeout(REQUEST_TIME_MAX, call).await;
    Ok(answer.unwrap_or(Err(ClientError::DeadlineExceeded))?)
}

/// Seconds in Go's format: `2s`, `1m4s`.
fn go_seconds(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests;

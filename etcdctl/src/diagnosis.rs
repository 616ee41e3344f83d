//! Finds the probable mistake when no member can be reached.
//!
//! After a failure each endpoint is checked once more in several ways, and the result is printed as a hint after the
//! error, on standard error. The error itself is the original's. Scripts compare the texts for an endpoint where no
//! program listens or answers: for these, hints are printed on a terminal only.

use std::env;
use std::io::{ErrorKind, IsTerminal as _, stderr};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use shared::client::{Client, ClientError, Endpoint, Options, Page, RequestError};
use shared::net::{self, Target, TlsCause};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::CliError;
use crate::settings::Settings;

/// The time limit for the diagnosis of one endpoint.
const ENDPOINT_TIME_MAX: Duration = Duration::from_secs(3);
/// The time limit of one query.
const QUERY_TIME_MAX: Duration = Duration::from_millis(1500);
/// The most endpoints that are diagnosed.
const ENDPOINTS_MAX: usize = 9;
/// The largest answer.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// The default client ports: today, and before 2.0.
const USUAL_PORTS: [u16; 2] = [2379, 4001];
const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// What is probably wrong with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// The text of the hint, with advice.
    pub(crate) text: String,
    /// Whether scripts compare the error's output, so that the hint is printed on a terminal only.
    recorded: bool,
    /// Whether the members publish client URLs of the wrong scheme.
    wrong_scheme: bool,
}

impl Diagnosis {
    fn new(text: impl Into<String>) -> Diagnosis {
        Diagnosis { text: text.into(), recorded: false, wrong_scheme: false }
    }

    fn recorded(text: impl Into<String>) -> Diagnosis {
        Diagnosis { text: text.into(), recorded: true, wrong_scheme: false }
    }
}

/// Hints after a failure. Empty if the failure is not one of the network, or nothing was found.
///
/// `endpoints_answered` and `scheme_differs` are those of the session.
pub(crate) async fn diagnose(
    settings: &Settings,
    error: &CliError,
    endpoints_answered: bool,
    scheme_differs: bool,
) -> Vec<String> {
    let is_about_reaching = is_about_reaching(error, endpoints_answered);
    // `cluster-health` queries the published URLs, whatever the flags say.
    let is_about_health = matches!(error, CliError::Unhealthy);
    let is_odd = is_about_health || (endpoints_answered && scheme_differs && is_odd_answer(error));
    if !is_about_reaching && !is_odd {
        return Vec::new();
    }
    let Some(client) = probe_client(settings) else { return Vec::new() };
    let mut checks = JoinSet::new();
    for (at, text) in settings.endpoints.iter().take(ENDPOINTS_MAX).enumerate() {
        let (client, text, follow) = (Arc::clone(&client), text.clone(), settings.sync || is_about_health);
        checks.spawn(async move {
            let diagnosis = timeout(ENDPOINT_TIME_MAX, diagnose_endpoint(&client, &text, follow)).await;
            (at, text, diagnosis.unwrap_or_else(|_| Some(silent())))
        });
    }
    let mut found: Vec<(usize, String, Diagnosis)> = Vec::new();
    while let Some(Ok((at, endpoint, diagnosis))) = checks.join_next().await {
        // If a cluster answered oddly, only a wrong scheme explains that.
        let diagnosis = diagnosis.filter(|diagnosis| is_about_reaching || diagnosis.wrong_scheme);
        found.extend(diagnosis.map(|diagnosis| (at, endpoint, diagnosis)));
    }
    found.sort_by_key(|(at, ..)| *at);
    let diagnoses = found.into_iter().map(|(_, endpoint, diagnosis)| (endpoint, diagnosis)).collect();
    lines(diagnoses, proxy_variable().as_deref(), stderr().is_terminal())
}

/// The hints as they are printed.
fn lines(diagnoses: Vec<(String, Diagnosis)>, proxy: Option<&str>, terminal: bool) -> Vec<String> {
    let shown: Vec<(String, Diagnosis)> =
        diagnoses.into_iter().filter(|(_, diagnosis)| terminal || !diagnosis.recorded).collect();
    let mut lines: Vec<String> =
        shown.iter().map(|(endpoint, diagnosis)| format!("hint: {endpoint}: {}", diagnosis.text)).collect();
    if let Some(proxy) = proxy.filter(|_| !shown.is_empty()) {
        lines.push(format!(
            "hint: {proxy} is set, but etcdctl goes through no proxy: the members must be reachable from here"
        ));
    }
    lines
}

fn proxy_variable() -> Option<String> {
    PROXY_VARIABLES
        .into_iter()
        .find(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
        .map(str::to_owned)
}

/// Whether an error is about reaching a cluster, and not a cluster's answer. `endpoints_answered`: the given endpoints
/// have answered as a cluster does; then only the URLs that it publishes can be wrong.
fn is_about_reaching(error: &CliError, endpoints_answered: bool) -> bool {
    let unreachable = |error: &RequestError| {
        !matches!(error, RequestError::NoLeader { .. } | RequestError::ServerError { .. })
    };
    match error {
        CliError::Unreachable(_) => true,
        CliError::Server(ClientError::Unavailable(errors)) => errors.iter().any(unreachable),
        CliError::Server(ClientError::Request(error)) => unreachable(error),
        CliError::Server(error) => {
            let odd = matches!(
                error,
                ClientError::InvalidJson
                    | ClientError::EmptyBody
                    | ClientError::UnexpectedStatus(_)
                    | ClientError::DeadlineExceeded
            );
            !endpoints_answered && odd
        }
        // Errors of commands for which the original prints no details.
        CliError::Failed(text) => {
            let texts = [ClientError::Unavailable(Vec::new()), ClientError::InvalidJson];
            !endpoints_answered && texts.iter().any(|known| text.ends_with(&known.to_string()))
        }
        _ => false,
    }
}

/// Whether a failure after the list of members was received may be that of a request to a URL of the wrong scheme: a
/// TLS server answers a plain request with a text.
fn is_odd_answer(error: &CliError) -> bool {
    match error {
        CliError::Server(error) => matches!(
            error,
            ClientError::InvalidJson | ClientError::EmptyBody | ClientError::UnexpectedStatus(_)
        ),
        CliError::Failed(text) => {
            let known = [
                ClientError::Unavailable(Vec::new()).to_string(),
                ClientError::InvalidJson.to_string(),
                ClientError::UnexpectedStatus(400).to_string(),
            ];
            known.iter().any(|known| text.ends_with(known))
        }
        _ => false,
    }
}

/// A client for the diagnosis: without user and trace.
fn probe_client(settings: &Settings) -> Option<Arc<Client>> {
    let options = Options {
        endpoints: settings.endpoints.clone(),
        tls: settings.tls.clone(),
        dial_timeout: Some(QUERY_TIME_MAX),
        ..Options::default()
    };
    Client::new(options).ok().map(Arc::new)
}

fn silent() -> Diagnosis {
    Diagnosis::recorded(
        "a program accepts connections and does not answer: a member that hangs or is overloaded, or a program that is \
         not etcd",
    )
}

/// Diagnoses one endpoint. `follow`: also the URLs that its members publish.
pub(crate) async fn diagnose_endpoint(client: &Client, text: &str, follow: bool) -> Option<Diagnosis> {
    let endpoint = Endpoint::parse(text).ok()?;
    let Some(target) = endpoint.target().cloned() else {
        return Some(Diagnosis::new("URLs of etcd begin with http:// or https://"));
    };
    match query(client, &endpoint, "/v2/members").await {
        None => Some(silent()),
        Some(Ok(page)) => match members(&page) {
            Some(urls) if follow => published(client, text, &urls).await,
            Some(_) => None,
            None => diagnose_response(client, &endpoint, &target, &page).await,
        },
        Some(Err(error)) => diagnose_failure(client, &target, &error).await,
    }
}

/// Sends a query; `None` on a timeout.
async fn query(client: &Client, endpoint: &Endpoint, path: &str) -> Option<Result<Page, RequestError>> {
    let request = client.page(Method::GET, endpoint, path, &[], PAGE_BYTES_MAX);
    timeout(QUERY_TIME_MAX, request).await.ok()
}

/// The JSON answer to a query, if its status is 200.
async fn query_json(client: &Client, endpoint: &Endpoint, path: &str) -> Option<Value> {
    let page = query(client, endpoint, path).await?.ok()?;
    serde_json::from_slice(&page.body).ok().filter(|_| page.status == 200)
}

/// The client URLs in a list of members, if the page is one.
fn members(page: &Page) -> Option<Vec<String>> {
    let list = serde_json::from_slice::<Value>(&page.body).ok().filter(|_| page.status == 200)?;
    Some(client_urls(list.get("members")?.as_array()?))
}

fn client_urls(members: &[Value]) -> Vec<String> {
    let lists = members.iter().filter_map(|member| member.get("clientURLs")?.as_array());
    lists.flatten().filter_map(|url| url.as_str().map(str::to_owned)).collect()
}

/// Diagnoses the published URLs of an endpoint that works.
async fn published(client: &Client, given: &str, urls: &[String]) -> Option<Diagnosis> {
    let mut problems = Vec::new();
    for url in urls {
        if url == given {
            return None;
        }
        problems.push(url_problem(client, url).await?);
    }
    let first = problems.first()?;
    let list = urls.join(", ");
    let right: Option<Vec<&str>> = problems
        .iter()
        .map(|url_problem| match url_problem {
            UrlProblem::Scheme(right) => Some(right.as_str()),
            UrlProblem::Other(_) => None,
        })
        .collect();
    if let Some(right) = right {
        let (published, spoken) = match first {
            UrlProblem::Scheme(right) if right.starts_with("https") => ("http://", "TLS"),
            _ => ("https://", "plain HTTP, without TLS"),
        };
        let right = right.join(",");
        return Some(Diagnosis {
            wrong_scheme: true,
            ..Diagnosis::new(format!(
                "a cluster answers here, but the client URLs that its members publish begin with {published} ({list}), and \
                 what answers there speaks {spoken}: set -advertise-client-urls of the members to {right}; until then \
                 use --no-sync"
            ))
        });
    }
    let why = match first {
        UrlProblem::Other(why) => format!(" ({why})"),
        UrlProblem::Scheme(right) => format!(" (it would be {right})"),
    };
    Some(Diagnosis::new(format!(
        "a cluster answers here, but the client URLs that its members publish cannot be reached from here: {list}{why}. \
         Use --no-sync, or correct -advertise-client-urls of the members"
    )))
}

/// Why a published client URL does not work.
enum UrlProblem {
    /// The port uses the other scheme: the correct URL.
    Scheme(String),
    /// Any other reason, as text.
    Other(String),
}

/// Checks a published URL; `None` if it works.
async fn url_problem(client: &Client, url: &str) -> Option<UrlProblem> {
    let endpoint = Endpoint::parse(url).ok();
    let target = endpoint.as_ref().and_then(|endpoint| endpoint.target().cloned());
    let (Some(endpoint), Some(target)) = (endpoint, target) else {
        return Some(UrlProblem::Other("it is not a URL of http:// or https://".to_owned()));
    };
    let error = match query(client, &endpoint, "/version").await {
        None => return Some(UrlProblem::Other("no answer in time".to_owned())),
        Some(Ok(page)) => {
            let is_tls = page.status == 400
                && String::from_utf8_lossy(&page.body).contains("HTTP request to an HTTPS server");
            return is_tls.then(|| UrlProblem::Scheme(format!("https://{}", target.authority())));
        }
        Some(Err(error)) => error,
    };
    if target.tls && plain_http_hint(client, &target).await.is_some() {
        return Some(UrlProblem::Scheme(format!("http://{}", target.authority())));
    }
    let is_cut =
        matches!(error, RequestError::Eof { .. } | RequestError::Read { .. } | RequestError::Http(_));
    if !target.tls && is_cut && net::peer_certificate(&target, QUERY_TIME_MAX).await.is_ok() {
        return Some(UrlProblem::Scheme(format!("https://{}", target.authority())));
    }
    Some(UrlProblem::Other(match (&error, own_machine(&target.host)) {
        (RequestError::Lookup { host, .. }, _) => format!("the name {host} has no address here"),
        (_, Some(what)) => format!("{} is {what}: clients elsewhere cannot use it", target.host),
        _ => error.to_string(),
    }))
}

/// Describes an address that means the machine that uses it; `None` for other addresses.
fn own_machine(host: &str) -> Option<&'static str> {
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    match address {
        _ if host == "localhost" => Some("the name of each machine for itself"),
        Some(address) if address.is_unspecified() => Some("no address to connect to"),
        Some(address) if address.is_loopback() => Some("the address of each machine for itself"),
        _ => None,
    }
}

/// Diagnoses an HTTP answer that is not a list of members.
async fn diagnose_response(
    client: &Client,
    endpoint: &Endpoint,
    target: &Target,
    page: &Page,
) -> Option<Diagnosis> {
    let body = String::from_utf8_lossy(&page.body);
    if page.status == 400 && body.contains("HTTP request to an HTTPS server") {
        return Some(speaks_tls(target));
    }
    if page.status == 503 || page.status == 500 || body.contains("\"errorCode\"") {
        return None;
    }
    if let Some(Value::Array(members)) = query_json(client, endpoint, "/members").await
        && members.iter().any(|member| member.get("peerURLs").is_some())
    {
        let urls = client_urls(&members);
        let where_to = match urls.is_empty() {
            true => "clients use another one, usually 2379".to_owned(),
            false => format!("clients use {}", urls.join(", ")),
        };
        return Some(Diagnosis::new(format!("this port is for the other members (a peer URL): {where_to}")));
    }
    let version = query_json(client, endpoint, "/version").await;
    let version = version.as_ref().and_then(|version| version.get("etcdserver")?.as_str());
    Some(match version {
        Some(version) if version.starts_with("3.") => Diagnosis::new(format!(
            "etcd {version} answers, without the v2 API: start it with --enable-v2 (up to 3.5; later ones have no v2 API), \
             or use the etcdctl of its version"
        )),
        Some(version) => Diagnosis::new(format!(
            "etcd {version} answers, but with status {} to a question for its members: is there a proxy in between?",
            page.status
        )),
        None => {
            let server = page.headers.get(http::header::SERVER).and_then(|server| server.to_str().ok());
            let server = server.map(|server| format!(" ({server})")).unwrap_or_default();
            Diagnosis::new(format!(
                "an HTTP server answers that is no etcd{server}: is the port right? Clients of etcd use 2379 usually"
            ))
        }
    })
}

fn speaks_tls(target: &Target) -> Diagnosis {
    Diagnosis::new(format!("this port speaks TLS: use https://{}", target.authority()))
}

/// Diagnoses a failure without an HTTP answer.
async fn diagnose_failure(client: &Client, target: &Target, error: &RequestError) -> Option<Diagnosis> {
    match error {
        RequestError::Lookup { host, .. } => Some(Diagnosis::new(format!(
            "the name {host} has no address: is it spelt right, and does the DNS know it here?"
        ))),
        RequestError::Dial { kind: ErrorKind::ConnectionRefused, .. } => {
            Some(diagnose_refused_connection(client, target).await)
        }
        RequestError::Dial { reason, .. } => Some(Diagnosis::recorded(format!(
            "the host cannot be reached ({reason}): is the address right, is the host up, is there a firewall in between?"
        ))),
        RequestError::Tls(failure) => diagnose_tls_failure(client, target, failure.cause()).await,
        RequestError::Eof { .. } | RequestError::Read { .. } | RequestError::Http(_) if !target.tls => {
            match net::peer_certificate(target, QUERY_TIME_MAX).await {
                Ok(_) => Some(speaks_tls(target)),
                Err(_) => Some(Diagnosis::new("what answers here speaks no HTTP: is the port right?")),
            }
        }
        RequestError::Eof { .. } | RequestError::Read { .. } => plain_http_hint(client, target).await,
        _ => None,
    }
}

async fn diagnose_refused_connection(client: &Client, target: &Target) -> Diagnosis {
    for port in USUAL_PORTS.into_iter().filter(|port| *port != target.port) {
        let other = Target { port, ..target.clone() };
        let scheme = if target.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", other.authority());
        if let Ok(endpoint) = Endpoint::parse(&url)
            && let Some(Ok(page)) = query(client, &endpoint, "/v2/members").await
            && members(&page).is_some()
        {
            return Diagnosis::recorded(format!(
                "no program listens at this port, but an etcd answers at {url}"
            ));
        }
    }
    Diagnosis::recorded(
        "no program listens at this port: is etcd running there, does it listen at this address \
         (-listen-client-urls), and is the port right? Clients use 2379 usually",
    )
}

async fn diagnose_tls_failure(client: &Client, target: &Target, cause: TlsCause) -> Option<Diagnosis> {
    match cause {
        TlsCause::NotTls => plain_http_hint(client, target).await,
        TlsCause::UnknownAuthority => {
            let shown = net::peer_certificate(target, QUERY_TIME_MAX).await.ok()?;
            Some(Diagnosis::new(format!(
                "the server's certificate is signed by {}: give the file of that authority with --ca-file",
                shown.issuer
            )))
        }
        TlsCause::CertificateWanted => Some(Diagnosis::new(
            "the server asks for a certificate: give one that its authority has signed with --cert-file and --key-file",
        )),
        TlsCause::Other => None,
    }
}

/// The hint for a TLS URL whose port speaks plain HTTP; `None` if it does not.
async fn plain_http_hint(client: &Client, target: &Target) -> Option<Diagnosis> {
    let url = format!("http://{}", target.authority());
    let endpoint = Endpoint::parse(&url).ok()?;
    match query(client, &endpoint, "/version").await? {
        Ok(page) if page.status != 400 => {
            Some(Diagnosis::new(format!("this port speaks plain HTTP, without TLS: use {url}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_errors_get_hints_on_a_terminal_only() {
        let diagnoses =
            || vec![("a:1".to_owned(), Diagnosis::recorded("x")), ("b:1".to_owned(), Diagnosis::new("y"))];
        assert_eq!(lines(diagnoses(), None, true), ["hint: a:1: x", "hint: b:1: y"]);
        assert_eq!(lines(diagnoses(), None, false), ["hint: b:1: y"]);
        let only_recorded = || diagnoses()[..1].to_vec();
        assert!(lines(only_recorded(), Some("HTTP_PROXY"), false).is_empty());
        let shown = lines(only_recorded(), Some("HTTP_PROXY"), true);
        assert!(shown[1].starts_with("hint: HTTP_PROXY is set"), "{shown:?}");
    }

    #[test]
    fn refusals_of_a_cluster_are_no_mystery() {
        let diagnose_refused_connection = || RequestError::Dial {
            address: "a:1".into(),
            reason: "connection refused".into(),
            kind: ErrorKind::ConnectionRefused,
        };
        let leaderless = || RequestError::NoLeader { endpoint: "a:1".into() };
        assert!(is_about_reaching(
            &CliError::Server(ClientError::Unavailable(vec![diagnose_refused_connection(), leaderless()])),
            true
        ));
        let diagnose_failure =
            CliError::Failed(format!("Failed to get leader:  {}", ClientError::Unavailable(Vec::new())));
        for error in [CliError::Server(ClientError::InvalidJson), diagnose_failure] {
            assert!(is_about_reaching(&error, false) && !is_about_reaching(&error, true), "{error:?}");
        }
        for error in [
            CliError::Failed("Insufficient credentials".to_owned()),
            CliError::Server(ClientError::Refused("no".to_owned())),
            CliError::Server(ClientError::Unavailable(vec![leaderless()])),
            CliError::BadArguments("key required"),
        ] {
            assert!(!is_about_reaching(&error, false), "{error:?}");
        }
    }
}

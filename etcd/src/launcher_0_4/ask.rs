//! Asks other processes for the protocol of the cluster: members at their client URLs, 0.4 peers for their client URL,
//! a discovery service for peers.
//!
//! Answers are not trusted: their size and time are bounded, and an invalid answer counts as no answer.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use shared::disk::{RealDisk, read_file};
use shared::net::{ClientTlsFiles, Dialer, Role, TlsFileError};
use shared::url::Url;

use super::decide::Protocol;
use super::flags::LauncherFlags;
use crate::config::{Discovery, Fallback, PeerList};
use crate::discovery::{DiscoveryError, DiscoveryService};
use crate::log;
use crate::peers::info;

/// The timeout of one request. The original has none.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The longest accepted peers file.
const PEERS_FILE_BYTES_MAX: u64 = 1 << 20;

/// The result of asking the peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerAnswers {
    /// The peers that were asked.
    pub(super) peers: Vec<String>,
    /// The cluster's protocol, if a peer answered.
    pub(super) protocol: Option<Protocol>,
}

/// Asks members, one after the other, until one answers with its protocol.
pub(super) async fn members_protocol(
    flags: &LauncherFlags,
    urls: &[String],
) -> Result<Option<Protocol>, TlsFileError> {
    let dialer = dialer(flags, Role::Clients)?;
    for url in urls {
        match get(&dialer, url, "/version").await {
            Ok((status, body)) => match protocol(status, &body) {
                Some(internal) => return Ok(Some(internal)),
                None => log::warning!(
                    "starter",
                    "{url}/version answers with status {status} and no known version: {}",
                    log_excerpt(&body)
                ),
            },
            Err(why) => log::warning!("starter", "{why}"),
        }
    }
    Ok(None)
}

/// Asks the peers that the flags and the discovery service name.
pub(super) async fn ask_peers(flags: &LauncherFlags) -> Result<PeerAnswers, TlsFileError> {
    let mut peers = Vec::new();
    match discovery_content(flags).await {
        Ok(DiscoveryContent::New) => return Ok(PeerAnswers { peers, protocol: Some(Protocol::Two) }),
        Ok(DiscoveryContent::Peers(urls)) => peers = urls,
        // The version that starts asks the discovery service again and reports the error.
        Err(error) => {
            log::warning!("starter", "the discovery service does not return the registered members: {error}")
        }
    }
    peers.extend(flag_peers(flags));
    let dialer = dialer(flags, Role::Peers)?;
    let mut clients = Vec::new();
    for peer in &peers {
        match get(&dialer, peer, "/etcdURL").await {
            Ok((StatusCode::OK, body)) => match client_url(&body) {
                Some(url) => clients.push(url),
                None => {
                    log::warning!(
                        "starter",
                        "{peer}/etcdURL does not answer with a valid URL: {}",
                        log_excerpt(&body)
                    )
                }
            },
            // A 2.x member does not have this page.
            Ok((status, _)) => {
                let urls = [peer.trim_end_matches('/').to_owned()];
                if info::members_if_there(&dialer, &urls, ANSWER_MAX).await.is_some() {
                    return Ok(PeerAnswers { peers, protocol: Some(Protocol::Two) });
                }
                log::warning!("starter", "{peer}/etcdURL answers with status {status}");
            }
            Err(why) => log::warning!("starter", "{why}"),
        }
    }
    let protocol = members_protocol(flags, &clients).await?;
    Ok(PeerAnswers { peers, protocol })
}

/// What is registered at a discovery service.
enum DiscoveryContent {
    /// 2.x members.
    New,
    /// The peer URLs of 0.4 members; empty if none is registered.
    Peers(Vec<String>),
}

async fn discovery_content(flags: &LauncherFlags) -> Result<DiscoveryContent, DiscoveryError> {
    let url = flags.value_of("discovery");
    if url.is_empty() {
        return Ok(DiscoveryContent::Peers(Vec::new()));
    }
    let proxy = Some(flags.value_of("discovery-proxy").to_owned()).filter(|proxy| !proxy.is_empty());
    let service = DiscoveryService::new(&Discovery { url: url.to_owned(), proxy, fallback: Fallback::Exit })?;
    let values = service.registrations(ANSWER_MAX).await?;
    // 2.x registers `name=URL`.
    if values.iter().any(|value| value.split("://").next().is_some_and(|name| name.contains('='))) {
        return Ok(DiscoveryContent::New);
    }
    Ok(DiscoveryContent::Peers(values))
}

/// The URLs of the peers in `-peers` or `-peers-file`.
fn flag_peers(flags: &LauncherFlags) -> Vec<String> {
    let mut list = flags.value_of("peers").to_owned();
    let file = flags.value_of("peers-file");
    if list.is_empty() && !file.is_empty() {
        match read_file(&RealDisk, file.as_ref(), PEERS_FILE_BYTES_MAX) {
            Ok(text) => list = String::from_utf8_lossy(&text).into_owned(),
            Err(error) => log::warning!("starter", "cannot read the file of -peers-file: {error}"),
        }
    }
    let tls = !flags.value_of("peer-cert-file").is_empty() && !flags.value_of("peer-key-file").is_empty();
    PeerList::read(&list, if tls { "https" } else { "http" }).urls
}

fn dialer(flags: &LauncherFlags, role: Role) -> Result<Dialer, TlsFileError> {
    let prefix = if role == Role::Peers { "peer-" } else { "" };
    let file = |name: &str| {
        let path = flags.value_of(&format!("{prefix}{name}"));
        (!path.is_empty()).then(|| PathBuf::from(path))
    };
    let (cert, key) = (file("cert-file"), file("key-file"));
    let ca = file("ca-file").or_else(|| file("trusted-ca-file")).into_iter().collect();
    let accept_common_name = flags.value_of("tls-accept-common-name") == "true";
    Dialer::new(&ClientTlsFiles { cert, key, ca, accept_common_name, role })
}

async fn get(dialer: &Dialer, url: &str, path: &str) -> Result<(StatusCode, Vec<u8>), String> {
    let answer = info::fetch(dialer, url.trim_end_matches('/'), path, ANSWER_MAX).await?;
    Ok((answer.status(), answer.body().to_vec()))
}

/// The client URL in a 0.4 peer's answer.
fn client_url(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?.trim().trim_end_matches('/');
    text.parse::<Url>().ok().map(|url| url.to_string())
}

/// The protocol in a member's answer to `/version`.
///
/// 0.4.7, 0.4.8 and the first 2.0 releases have `internalVersion`. Other 0.x and 2.0 releases answer with text such as
/// `etcd 0.4.9`; later ones have `etcdserver`.
fn protocol(status: StatusCode, body: &[u8]) -> Option<Protocol> {
    #[derive(Deserialize)]
    struct Versions {
        #[serde(rename = "internalVersion")]
        internal: Option<String>,
        #[serde(rename = "etcdserver")]
        server: Option<String>,
    }
    if status != StatusCode::OK {
        return None;
    }
    if let Ok(Versions { internal, server }) = serde_json::from_slice(body) {
        return match (internal.as_deref(), server) {
            (Some("1"), _) => Some(Protocol::One),
            (Some("2"), _) | (None, Some(_)) => Some(Protocol::Two),
            _ => None,
        };
    }
    let version = str::from_utf8(body).ok()?.trim().strip_prefix("etcd ")?;
    match version.split('.').next()?.trim_start_matches('v') {
        "0" => Some(Protocol::One),
        "2" => Some(Protocol::Two),
        _ => None,
    }
}

/// The beginning of a response body, for the log.
fn log_excerpt(body: &[u8]) -> String {
    const SHOWN_BYTES: usize = 100;
    body[..body.len().min(SHOWN_BYTES)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_ages_are_understood() {
        let protocol = |body: &str| protocol(StatusCode::OK, body.as_bytes());
        for body in
            ["{\"releaseVersion\":\"0.4.7\",\"internalVersion\":\"1\"}", "etcd 0.4.9", "etcd v0.2.0\n"]
        {
            assert_eq!(protocol(body), Some(Protocol::One), "{body}");
        }
        for body in [
            "{\"releaseVersion\":\"2.0.0\",\"internalVersion\":\"2\"}",
            "etcd 2.0.13",
            "{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"not_decided\"}",
            "{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"2.3.0\",\"internalVersion\":\"2\"}",
        ] {
            assert_eq!(protocol(body), Some(Protocol::Two), "{body}");
        }
        for body in
            ["", "{}", "[]", "etcd", "nginx 2.0", "{\"internalVersion\":\"3\"}", "{\"internalVersion\":2}"]
        {
            assert_eq!(protocol(body), None, "{body}");
        }
        assert_eq!(super::protocol(StatusCode::NOT_FOUND, b"etcd 2.0.13"), None);
    }

    #[test]
    fn peers_are_named_with_and_without_scheme() {
        let flags = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
            LauncherFlags::read(&words).unwrap()
        };
        assert_eq!(flag_peers(&flags("-peers a:1,http://root:p@b:2,,")), ["http://a:1", "http://b:2"]);
        assert_eq!(flag_peers(&flags("-peers a:1 -peer-cert-file c -peer-key-file k")), ["https://a:1"]);
        assert!(flag_peers(&flags("-peers-file /nowhere/at/all")).is_empty());
        assert!(flag_peers(&flags("")).is_empty());
    }

    #[test]
    fn a_client_url_is_a_url() {
        assert_eq!(client_url(b"http://h:4001/\n").as_deref(), Some("http://h:4001"));
        for body in [&b"404 page not found\n"[..], b"", b"\xff", b"ftp://h:1"] {
            assert_eq!(client_url(body), None);
        }
    }
}

//! Asking others what they speak: members at their client URLs, peers of 0.4 for those, a discovery service for peers.
//!
//! The answers are not trusted: they are bounded in size and time, and what cannot be understood counts as none.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use shared::disk::{RealDisk, read_file};
use shared::net::{ClientTlsFiles, Dialer, Role, TlsFileError};
use shared::url::Url;

use super::decide::Internal;
use super::flags::Given;
use crate::config::{Discovery, Fallback, PeerList};
use crate::discovery::{DiscoveryError, Service};
use crate::log;
use crate::peers::info;

/// How long one question may take. The original waits without end.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// A longer list of peers is none.
const PEERS_FILE_BYTES_MAX: u64 = 1 << 20;

/// What peers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// Who was asked.
    pub(super) peers: Vec<String>,
    /// What is spoken, if anybody said it.
    pub(super) spoken: Option<Internal>,
}

/// Asks members, one after the other, until one says what it speaks.
pub(super) async fn members(given: &Given, urls: &[String]) -> Result<Option<Internal>, TlsFileError> {
    let dialer = dialer(given, Role::Clients)?;
    for url in urls {
        match ask(&dialer, url, "/version").await {
            Ok((status, body)) => match spoken(status, &body) {
                Some(internal) => return Ok(Some(internal)),
                None => log::warning!(
                    "starter",
                    "{url}/version answers with status {status} and no version that is known: {}",
                    shown(&body)
                ),
            },
            Err(why) => log::warning!("starter", "{why}"),
        }
    }
    Ok(None)
}

/// Asks the peers that the flags and the discovery service name.
pub(super) async fn peers(given: &Given) -> Result<Heard, TlsFileError> {
    let mut peers = Vec::new();
    match registered(given).await {
        Ok(Registered::New) => return Ok(Heard { peers, spoken: Some(Internal::Two) }),
        Ok(Registered::Peers(urls)) => peers = urls,
        // Whoever starts then asks it again, and says what is wrong.
        Err(error) => log::warning!("starter", "the discovery service does not tell who is there: {error}"),
    }
    peers.extend(named(given));
    let dialer = dialer(given, Role::Peers)?;
    let mut clients = Vec::new();
    for peer in &peers {
        match ask(&dialer, peer, "/etcdURL").await {
            Ok((StatusCode::OK, body)) => match client_url(&body) {
                Some(url) => clients.push(url),
                None => {
                    log::warning!("starter", "{peer}/etcdURL answers with what is no URL: {}", shown(&body))
                }
            },
            // A member of 2.x does not know this page.
            Ok((status, _)) => {
                let urls = [peer.trim_end_matches('/').to_owned()];
                if info::members_if_there(&dialer, &urls, ANSWER_MAX).await.is_some() {
                    return Ok(Heard { peers, spoken: Some(Internal::Two) });
                }
                log::warning!("starter", "{peer}/etcdURL answers with status {status}");
            }
            Err(why) => log::warning!("starter", "{why}"),
        }
    }
    let spoken = members(given, &clients).await?;
    Ok(Heard { peers, spoken })
}

/// What a discovery service has.
enum Registered {
    /// Members of 2.x.
    New,
    /// The peer URLs of members of 0.4; none if nobody is there.
    Peers(Vec<String>),
}

async fn registered(given: &Given) -> Result<Registered, DiscoveryError> {
    let url = given.text("discovery");
    if url.is_empty() {
        return Ok(Registered::Peers(Vec::new()));
    }
    let proxy = Some(given.text("discovery-proxy").to_owned()).filter(|proxy| !proxy.is_empty());
    let service = Service::new(&Discovery { url: url.to_owned(), proxy, fallback: Fallback::Exit })?;
    let values = service.registrations(ANSWER_MAX).await?;
    // 2.x registers `name=URL`.
    if values.iter().any(|value| value.split("://").next().is_some_and(|name| name.contains('='))) {
        return Ok(Registered::New);
    }
    Ok(Registered::Peers(values))
}

/// The peers that `-peers` and `-peers-file` name, as URLs.
fn named(given: &Given) -> Vec<String> {
    let mut list = given.text("peers").to_owned();
    let file = given.text("peers-file");
    if list.is_empty() && !file.is_empty() {
        match read_file(&RealDisk, file.as_ref(), PEERS_FILE_BYTES_MAX) {
            Ok(text) => list = String::from_utf8_lossy(&text).into_owned(),
            Err(error) => log::warning!("starter", "the file of -peers-file cannot be read: {error}"),
        }
    }
    let tls = !given.text("peer-cert-file").is_empty() && !given.text("peer-key-file").is_empty();
    PeerList::read(&list, if tls { "https" } else { "http" }).urls
}

fn dialer(given: &Given, role: Role) -> Result<Dialer, TlsFileError> {
    let prefix = if role == Role::Peers { "peer-" } else { "" };
    let file = |name: &str| {
        let path = given.text(&format!("{prefix}{name}"));
        (!path.is_empty()).then(|| PathBuf::from(path))
    };
    let (cert, key) = (file("cert-file"), file("key-file"));
    let ca = file("ca-file").or_else(|| file("trusted-ca-file")).into_iter().collect();
    let accept_common_name = given.text("tls-accept-common-name") == "true";
    Dialer::new(&ClientTlsFiles { cert, key, ca, accept_common_name, role })
}

async fn ask(dialer: &Dialer, url: &str, path: &str) -> Result<(StatusCode, Vec<u8>), String> {
    let answer = info::ask(dialer, url.trim_end_matches('/'), path, ANSWER_MAX).await?;
    Ok((answer.status(), answer.body().to_vec()))
}

/// What a peer of 0.4 says is its URL for clients.
fn client_url(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?.trim().trim_end_matches('/');
    text.parse::<Url>().ok().map(|url| url.to_string())
}

/// Which protocol a member speaks that answers so when it is asked for its version.
///
/// 0.4.7, 0.4.8 and the first of 2.0 name it. Others of 0.x and 2.0 say `etcd 0.4.9`, later ones name `etcdserver`.
fn spoken(status: StatusCode, body: &[u8]) -> Option<Internal> {
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
            (Some("1"), _) => Some(Internal::One),
            (Some("2"), _) | (None, Some(_)) => Some(Internal::Two),
            _ => None,
        };
    }
    let version = str::from_utf8(body).ok()?.trim().strip_prefix("etcd ")?;
    match version.split('.').next()?.trim_start_matches('v') {
        "0" => Some(Internal::One),
        "2" => Some(Internal::Two),
        _ => None,
    }
}

/// The beginning of an answer, for the log.
fn shown(body: &[u8]) -> String {
    const SHOWN_BYTES: usize = 100;
    body[..body.len().min(SHOWN_BYTES)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_ages_are_understood() {
        let spoken = |body: &str| spoken(StatusCode::OK, body.as_bytes());
        for body in
            ["{\"releaseVersion\":\"0.4.7\",\"internalVersion\":\"1\"}", "etcd 0.4.9", "etcd v0.2.0\n"]
        {
            assert_eq!(spoken(body), Some(Internal::One), "{body}");
        }
        for body in [
            "{\"releaseVersion\":\"2.0.0\",\"internalVersion\":\"2\"}",
            "etcd 2.0.13",
            "{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"not_decided\"}",
            "{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"2.3.0\",\"internalVersion\":\"2\"}",
        ] {
            assert_eq!(spoken(body), Some(Internal::Two), "{body}");
        }
        for body in
            ["", "{}", "[]", "etcd", "nginx 2.0", "{\"internalVersion\":\"3\"}", "{\"internalVersion\":2}"]
        {
            assert_eq!(spoken(body), None, "{body}");
        }
        assert_eq!(super::spoken(StatusCode::NOT_FOUND, b"etcd 2.0.13"), None);
    }

    #[test]
    fn peers_are_named_with_and_without_scheme() {
        let given = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
            Given::read(&words).unwrap()
        };
        assert_eq!(named(&given("-peers a:1,http://root:p@b:2,,")), ["http://a:1", "http://b:2"]);
        assert_eq!(named(&given("-peers a:1 -peer-cert-file c -peer-key-file k")), ["https://a:1"]);
        assert!(named(&given("-peers-file /nowhere/at/all")).is_empty());
        assert!(named(&given("")).is_empty());
    }

    #[test]
    fn a_client_url_is_a_url() {
        assert_eq!(client_url(b"http://h:4001/\n").as_deref(), Some("http://h:4001"));
        for body in [&b"404 page not found\n"[..], b"", b"\xff", b"ftp://h:1"] {
            assert_eq!(client_url(body), None);
        }
    }
}

//! Requests to the peer port of a cluster: its members (`GET /members`) and the version of a member (`GET /version`).
//!
//! Used before this member exists, when it starts or joins, and by a proxy; later by the leader, which determines the
//! version that all members speak. Responses are not trusted: their size is limited, and a malformed one counts as a
//! failure of its URL.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use node::member::MemberInfo;
use node::version::Version;
use serde::Deserialize;
use shared::id::{ClusterId, MemberId};
use shared::net::{Dialer, HttpClient, HttpError, HttpOptions, HttpRequest, Target};
use shared::url::Url;
use tokio::time::timeout;

use crate::log;
use crate::transport::HEADER_LINES_SHORT;

/// Larger than the member list of any cluster that works.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The members of a cluster, according to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCluster {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Its members, sorted by id.
    pub members: Vec<MemberInfo>,
}

/// The versions that a member reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerVersion {
    /// The version of its program.
    pub server: Version,
    /// The version of the cluster; `None` while the members have not agreed on one.
    pub cluster: Option<Version>,
}

/// Why no response could be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// No URL returned a usable list of members. The reasons are in the log.
    #[error("could not retrieve cluster information from the given urls")]
    NoMembers,
    /// Why the last URL returned no version.
    #[error("{0}")]
    NoVersion(String),
    /// No URL is known.
    #[error("no peer URL is known")]
    NoUrls,
}

/// Requests the members of a cluster from one URL after the other, in the given order, and returns the first valid
/// list. Each request may take `limit`. Failures are logged.
pub async fn members_of(
    dialer: &Dialer,
    urls: &[String],
    limit: Duration,
) -> Result<RemoteCluster, InfoError> {
    first_members(dialer, urls, limit, |why| log::warning!("etcdserver", "{why}")).await
}

/// As [`members_of`], where it is no failure that no URL responds: logs nothing.
pub async fn members_if_there(dialer: &Dialer, urls: &[String], limit: Duration) -> Option<RemoteCluster> {
    first_members(dialer, urls, limit, |_| ()).await.ok()
}

/// Requests the versions of one member from one of its peer URLs after the other. Each request may take `limit`. A
/// member that does not serve `/version` is one of 2.0.
pub async fn version_of(dialer: &Dialer, urls: &[String], limit: Duration) -> Result<PeerVersion, InfoError> {
    let mut failed = InfoError::NoUrls;
    for url in urls {
        match fetch(dialer, url, "/version", limit).await.and_then(|answer| read_version(&answer)) {
            Ok(version) => return Ok(version),
            Err(why) => failed = InfoError::NoVersion(why),
        }
    }
    Err(failed)
}

async fn first_members(
    dialer: &Dialer,
    urls: &[String],
    limit: Duration,
    log_failure: impl Fn(&str),
) -> Result<RemoteCluster, InfoError> {
    for url in urls {
        match fetch(dialer, url, "/members", limit).await {
            Ok(answer) => match read_members(&answer) {
                Ok(cluster) => return Ok(cluster),
                Err(why) => log_failure(&why),
            },
            Err(why) => log_failure(&format!("could not get cluster response from {url}: {why}")),
        }
    }
    Err(InfoError::NoMembers)
}

/// A response with its whole body.
pub(crate) type WholeResponse = Response<Bytes>;

/// Sends one request. The error has the text of Go's client.
pub(crate) async fn fetch(
    dialer: &Dialer,
    url: &str,
    path: &str,
    limit: Duration,
) -> Result<WholeResponse, String> {
    let failed = |why: &dyn fmt::Display| format!("Get {url}{path}: {why}");
    let parsed: Url = url.parse().map_err(|error| failed(&error))?;
    match timeout(limit, get(dialer, &parsed, path, limit)).await {
        Ok(answer) => answer.map_err(|why| failed(&why)),
        Err(_) => Err(failed(&"net/http: request canceled (Client.Timeout exceeded)")),
    }
}

async fn get(dialer: &Dialer, url: &Url, path: &str, limit: Duration) -> Result<WholeResponse, HttpError> {
    let options =
        HttpOptions { dial_timeout: limit, header_lines_max: HEADER_LINES_SHORT, idle_max: 0, proxy: None };
    let host =
        HeaderValue::from_str(url.address()).map_err(|error| HttpError::Malformed(error.to_string()))?;
    let request = HttpRequest {
        method: Method::GET,
        path: path.to_owned(),
        headers: HeaderMap::from_iter([(HOST, host)]),
        body: Bytes::new(),
    };
    let answer = HttpClient::new(dialer.clone(), options).send(&Target::of(url)?, &request).await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut whole = Response::new(answer.body(ANSWER_BYTES_MAX).await?);
    (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
    Ok(whole)
}

/// A member in the response to `/members`: its id is a decimal number.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemberRecord {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
}

fn read_members(answer: &WholeResponse) -> Result<RemoteCluster, String> {
    let listed: Option<Vec<MemberRecord>> = serde_json::from_slice(answer.body())
        .map_err(|error| format!("could not unmarshal cluster response: {error}"))?;
    let id = answer.headers().get("x-etcd-cluster-id").map_or(&[][..], |id| id.as_bytes());
    let cluster_id = String::from_utf8_lossy(id)
        .parse()
        .map_err(|error| format!("could not parse the cluster ID from cluster res: {error}"))?;
    let mut members: Vec<MemberInfo> = listed
        .unwrap_or_default()
        .into_iter()
        .map(|member| MemberInfo {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_urls.unwrap_or_default(),
            client_urls: member.client_urls.unwrap_or_default(),
        })
        .collect();
    members.sort_by_key(|member| member.id);
    members.dedup_by_key(|member| member.id);
    Ok(RemoteCluster { cluster_id, members })
}

/// The response to `/version`.
#[derive(Deserialize)]
struct VersionReply {
    #[serde(rename = "etcdserver", default)]
    server: String,
    #[serde(rename = "etcdcluster", default)]
    cluster: String,
}

fn read_version(answer: &WholeResponse) -> Result<PeerVersion, String> {
    if answer.status() == StatusCode::NOT_FOUND {
        let first = Version { major: 2, minor: 0, patch: 0 };
        return Ok(PeerVersion { server: first, cluster: Some(first) });
    }
    let versions: VersionReply = serde_json::from_slice(answer.body())
        .map_err(|error| format!("failed to unmarshal the response body: {error}"))?;
    let server = versions
        .server
        .parse()
        .map_err(|error| format!("cannot understand the version {:?}: {error}", versions.server))?;
    // A cluster without a version reports `not_decided`.
    Ok(PeerVersion { server, cluster: versions.cluster.parse().ok() })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A peer that sends this response to every request.
    async fn peer(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = socket.read(&mut head).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    async fn unused_url() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    #[tokio::test]
    async fn the_first_usable_list_is_taken() {
        let urls = [
            unused_url().await,
            peer("HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 1\r\nContent-Length: 2\r\n\r\n{}").await,
            peer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await,
            peer(
                "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: c46df306ea09afe5\r\nConnection: close\r\n\r\n\
                 [{\"id\":15389247126186673770,\"peerURLs\":[\"http://h:1\"]},\
                 {\"id\":7,\"peerURLs\":[\"http://h:2\"],\"name\":\"a\",\"clientURLs\":[\"http://h:3\"]}]\n",
            )
            .await,
        ];
        let cluster = members_of(&Dialer::plain(), &urls, LIMIT).await.unwrap();
        assert_eq!(cluster.cluster_id.to_string(), "c46df306ea09afe5");
        let ids: Vec<u64> = cluster.members.iter().map(|member| member.id.0).collect();
        assert_eq!(ids, [7, 15_389_247_126_186_673_770]);
        assert_eq!(cluster.members[0].client_urls, ["http://h:3"]);
        assert!(!cluster.members[1].is_started());

        let error = members_of(&Dialer::plain(), &urls[..3], LIMIT).await.unwrap_err();
        assert_eq!(error.to_string(), "could not retrieve cluster information from the given urls");
        assert_eq!(members_if_there(&Dialer::plain(), &urls[..3], LIMIT).await, None);
        assert_eq!(members_if_there(&Dialer::plain(), &urls, LIMIT).await, Some(cluster));
    }

    #[tokio::test]
    async fn a_silent_peer_costs_its_time_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("http://{}", listener.local_addr().unwrap());
        let limit = Duration::from_millis(50);
        assert_eq!(members_if_there(&Dialer::plain(), std::slice::from_ref(&silent), limit).await, None);
        let error = version_of(&Dialer::plain(), &[silent], limit).await.unwrap_err();
        assert!(error.to_string().contains("Client.Timeout exceeded"), "{error}");
    }

    #[tokio::test]
    async fn versions_are_read_also_from_the_first_release() {
        let new = peer(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"2.3.0\"}\n",
        );
        let young = peer(
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
             {\"etcdserver\":\"2.3.0+git\",\"etcdcluster\":\"not_decided\"}   ",
        );
        let old = peer("HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n").await;
        let dialer = Dialer::plain();
        let version = version_of(&dialer, &[unused_url().await, new.await], LIMIT).await.unwrap();
        assert_eq!(
            (version.server.to_string(), version.cluster.unwrap().to_string()),
            ("2.3.8".into(), "2.3.0".into())
        );
        let version = version_of(&dialer, &[young.await], LIMIT).await.unwrap();
        assert_eq!((version.server.to_string().as_str(), version.cluster), ("2.3.0", None));
        let version = version_of(&dialer, &[old], LIMIT).await.unwrap();
        assert_eq!(version.cluster.map(|version| version.to_string()).as_deref(), Some("2.0.0"));
        assert_eq!(version_of(&dialer, &[], LIMIT).await, Err(InfoError::NoUrls));
    }

    #[test]
    fn versions_are_three_numbers() {
        for bad in ["", "2", "2.3", "2.3.x", "v2.3.0", "not_decided"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        let version: Version = "2.10.0-alpha.1".parse().unwrap();
        assert!(version > "2.9.9".parse().unwrap());
    }
}

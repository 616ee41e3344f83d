//! The members, and changes of the membership.

use http::{Method, StatusCode};
use serde::Deserialize;

use super::endpoint::Endpoint;
use super::error::{ClientError, RequestError};
use super::request::{JSON, Request};
use super::{Client, Cluster, Reply};
use crate::url::Urls;

/// The path of the members API.
const MEMBERS: &str = "/v2/members";

/// A member of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Member {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where the other members reach it.
    #[serde(rename = "peerURLs", deserialize_with = "list_or_null")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    #[serde(rename = "clientURLs", deserialize_with = "list_or_null")]
    pub client_urls: Vec<String>,
}

#[derive(Deserialize)]
struct Members {
    #[serde(default, deserialize_with = "list_or_null")]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct RefusalBody {
    #[serde(default)]
    message: String,
}

/// Go writes an empty list as `null`.
pub(super) fn list_or_null<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Why the health of a member is not known.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is no answer from this URL.
    #[error("Get {url}: {error}")]
    Request {
        /// The URL asked.
        url: String,
        /// What happened.
        error: RequestError,
    },
    /// The answer does not have the health.
    #[error("the answer is not {{\"health\": \"true\"}} nor {{\"health\": \"false\"}}")]
    NotHealth,
    /// No URL.
    #[error("{0}")]
    Url(ClientError),
}

impl Client {
    /// All members.
    ///
    /// # Errors
    /// If no member answers, or the answer is not a list of members.
    pub async fn members(&self) -> Result<Vec<Member>, ClientError> {
        let reply = self.send(&Request::new(Method::GET, MEMBERS)).await?;
        expect(&reply, &[StatusCode::OK])?;
        let members = parse::<Members>(&reply)?.members;
        let id = reply.headers.get("x-etcd-cluster-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        *self.lock_cluster() = Some(Cluster { id, members: members.clone() });
        Ok(members)
    }

    /// The member that leads.
    ///
    /// # Errors
    /// As for [`Client::members`]; also while there is no leader.
    pub async fn leader(&self) -> Result<Member, ClientError> {
        let reply = self.send(&Request::new(Method::GET, format!("{MEMBERS}/leader"))).await?;
        expect(&reply, &[StatusCode::OK])?;
        parse(&reply)
    }

    /// Adds a member with one peer URL.
    ///
    /// # Errors
    /// If the URL is not valid for a peer, or the cluster refuses.
    pub async fn add_member(&self, peer_url: &str) -> Result<Member, ClientError> {
        self.add_member_at(&[peer_url]).await
    }

    /// Adds a member with these peer URLs.
    ///
    /// # Errors
    /// As for [`Client::add_member`].
    pub async fn add_member_at(&self, peer_urls: &[&str]) -> Result<Member, ClientError> {
        let body = peer_urls_json(peer_urls)?;
        let reply = self.send(&Request::new(Method::POST, MEMBERS).with_body(JSON, body)).await?;
        expect(&reply, &[StatusCode::CREATED, StatusCode::CONFLICT])?;
        if reply.status == StatusCode::CREATED { parse(&reply) } else { Err(refusal(&reply)) }
    }

    /// Gives a member other peer URLs.
    ///
    /// # Errors
    /// As for [`Client::add_member`].
    pub async fn update_member(&self, id: &str, peer_urls: &[&str]) -> Result<(), ClientError> {
        let body = peer_urls_json(peer_urls)?;
        let path = format!("{MEMBERS}/{id}");
        let reply = self.send(&Request::new(Method::PUT, path).with_body(JSON, body)).await?;
        expect(&reply, &[StatusCode::NO_CONTENT, StatusCode::NOT_FOUND, StatusCode::CONFLICT])?;
        if reply.status == StatusCode::NO_CONTENT { Ok(()) } else { Err(refusal(&reply)) }
    }

    /// Removes a member.
    ///
    /// # Errors
    /// When the cluster refuses; not when the member is gone already.
    pub async fn remove_member(&self, id: &str) -> Result<(), ClientError> {
        let reply = self.send(&Request::new(Method::DELETE, format!("{MEMBERS}/{id}"))).await?;
        expect(&reply, &[StatusCode::NO_CONTENT, StatusCode::GONE])
    }

    /// Whether the member at a client URL reports that it is healthy.
    ///
    /// # Errors
    /// If there is no such report.
    pub async fn is_healthy(&self, client_url: &str) -> Result<bool, HealthError> {
        let endpoint = Endpoint::parse(client_url).map_err(HealthError::Url)?;
        let request = Request::new(Method::GET, "/health");
        let failed = |error| HealthError::Request { url: request.url(&endpoint).0, error };
        let answer = self.follow(&endpoint, &request, None).await.map_err(failed)?;
        let body = answer.body().await.map_err(failed)?;
        read_health(&body).ok_or(HealthError::NotHealth)
    }

    /// Asks a member of etcd 0.4, at its peer URL, to change the cluster over to 2.x. Returns the status: 200 for
    /// success, 404 if the member does not know the request, 503 if the cluster is not ready. The answer may take
    /// minutes.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn request_next_internal_version(&self, peer_url: &str) -> Result<u16, ClientError> {
        let endpoint = Endpoint::parse(peer_url)?;
        let request = Request::new(Method::GET, "/v2/admin/next-internal-version");
        let answer = self.follow(&endpoint, &request, self.trace.as_ref()).await?;
        Ok(answer.status().as_u16())
    }

    /// The endpoints of a cluster of etcd 0.4, which has another API for them.
    ///
    /// # Errors
    /// `None` if there was an answer, but not with such a list.
    pub async fn legacy_endpoints(&self) -> Result<Vec<String>, Option<ClientError>> {
        let mut failed = None;
        for endpoint in self.known().endpoints {
            let request = Request::new(Method::GET, "/v2/peers");
            let outcome = match self.follow(&endpoint, &request, None).await {
                Ok(answer) if answer.status() == StatusCode::OK => answer.body().await,
                Ok(_) => {
                    failed = None;
                    continue;
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(body) => {
                    return Ok(String::from_utf8_lossy(&body).split(", ").map(str::to_owned).collect());
                }
                Err(error) => failed = Some(error.into()),
            }
        }
        Err(failed)
    }
}

fn expect(reply: &Reply, known: &[StatusCode]) -> Result<(), ClientError> {
    if known.contains(&reply.status) {
        Ok(())
    } else {
        Err(ClientError::UnexpectedStatus(reply.status.as_u16()))
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, ClientError> {
    serde_json::from_slice(&reply.body).map_err(|_| ClientError::InvalidJson)
}

pub(super) fn refusal(reply: &Reply) -> ClientError {
    match parse::<RefusalBody>(reply) {
        Ok(refusal) => ClientError::Refused(refusal.message),
        Err(error) => error,
    }
}

/// `{"peerURLs":[…]}`, sorted.
fn peer_urls_json(urls: &[&str]) -> Result<String, ClientError> {
    let urls = Urls::from_texts(urls.iter().copied()).map_err(|error| ClientError::Url(error.to_string()))?;
    crate::json::to_string(&serde_json::json!({ "peerURLs": urls.to_strings() }))
        .map_err(|_| ClientError::InvalidJson)
}

fn read_health(body: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Health {
        #[serde(default)]
        health: serde_json::Value,
    }
    match serde_json::from_slice::<Health>(body).ok()?.health {
        serde_json::Value::Bool(healthy) => Some(healthy),
        serde_json::Value::String(text) => Some(text == "true"),
        serde_json::Value::Null => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_members_may_have_holes() {
        let members: Members = serde_json::from_str(
            r#"{"members":[{"id":"a1","name":"x","peerURLs":["http://h:1"],"clientURLs":["http://h:2"]},
                {"id":"b2","name":"","peerURLs":["http://h:3"],"clientURLs":null}]}"#,
        )
        .unwrap();
        assert_eq!(members.members.len(), 2);
        assert_eq!(members.members[0].client_urls, ["http://h:2"]);
        assert!(members.members[1].client_urls.is_empty());
        assert!(serde_json::from_str::<Members>(r#"{"members":null}"#).unwrap().members.is_empty());
    }

    #[test]
    fn peer_urls_are_checked_and_sorted() {
        assert_eq!(
            peer_urls_json(&["http://b:2", " http://a:1"]).unwrap(),
            r#"{"peerURLs":["http://a:1","http://b:2"]}"#
        );
        let error = peer_urls_json(&["notaurl"]).unwrap_err();
        assert_eq!(error.to_string(), "URL scheme must be http or https: notaurl");
        assert!(peer_urls_json(&["https://[::1]:2380"]).is_ok());
    }

    #[test]
    fn health_is_a_text_or_a_boolean() {
        assert_eq!(read_health(br#"{"health": "true"}"#), Some(true));
        assert_eq!(read_health(br#"{"health": true}"#), Some(true));
        assert_eq!(read_health(br#"{"health": "false"}"#), Some(false));
        assert_eq!(read_health(b"fine"), None);
    }
}

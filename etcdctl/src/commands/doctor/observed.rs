//! The answers of the members: values only. [`super::queries`] fills them in, [`super::checks`] checks them.

use std::collections::BTreeSet;

use serde::Serialize;
use shared::client::Member;
use shared::net::PeerCertificate;

/// What was observed of a cluster.
#[derive(Debug, Default)]
pub(super) struct ObservedCluster {
    /// The members, from their own lists.
    pub(super) members: Vec<ObservedMember>,
    /// If members have different lists of members: each list, with the members that have it.
    pub(super) other_lists: Vec<String>,
    /// Given endpoints of which no member is known: URL and error.
    pub(super) unknown_endpoints: Vec<(String, String)>,
    /// Certificates in the given files.
    pub(super) files: Vec<Certificate>,
    /// The cluster ids in the answers of the endpoints.
    pub(super) ids: BTreeSet<String>,
}

impl ObservedCluster {
    /// The cluster's id, if known.
    pub(super) fn id(&self) -> Option<&str> {
        self.ids.first().map(String::as_str)
    }

    /// The name of the leader, according to the first member that knows one.
    pub(super) fn leader(&self) -> Option<&str> {
        let id =
            self.members.iter().find_map(|member| member.leader.as_deref().filter(|id| !id.is_empty()))?;
        self.members.iter().find(|member| member.listed.id == id).map(ObservedMember::label)
    }
}

/// What was observed of a member.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObservedMember {
    /// As the cluster lists it.
    #[serde(serialize_with = "member")]
    pub(super) listed: Member,
    /// The URL that answers; `None` if the member cannot be reached.
    pub(super) url: Option<String>,
    /// Client URLs that do not answer, with the cause.
    pub(super) unreachable: Vec<(String, String)>,
    /// `2.3.8`
    pub(super) version: Option<String>,
    /// The version of the cluster.
    pub(super) cluster_version: Option<String>,
    /// The id of the leader; empty if there is none.
    pub(super) leader: Option<String>,
    /// Whether it says that it is healthy.
    pub(super) healthy: Option<bool>,
    /// Its raft index.
    pub(super) raft_index: Option<u64>,
    /// Its etcd index.
    pub(super) etcd_index: Option<u64>,
    /// Its clock minus ours, in milliseconds: the least and the most possible.
    pub(super) clock_ms: Option<(i64, i64)>,
    /// The time of a query, in seconds, on an open connection.
    pub(super) round_trip: Option<f64>,
    /// The result of a quorum read.
    pub(super) quorum_read: Option<QuorumRead>,
    /// The sync times of its log.
    pub(super) fsync: Option<Fsync>,
    /// Its watch history.
    pub(super) history: Option<History>,
    /// Whether authentication is on.
    pub(super) auth: Option<bool>,
    /// The certificates of its URLs.
    pub(super) certificates: Vec<Certificate>,
}

impl ObservedMember {
    /// Its name, or its id if it has no name.
    pub(super) fn label(&self) -> &str {
        if self.listed.name.is_empty() { &self.listed.id } else { &self.listed.name }
    }

    /// Whether it was ever started.
    pub(super) fn started(&self) -> bool {
        !self.listed.name.is_empty()
    }
}

fn member<S: serde::Serializer>(member: &Member, serializer: S) -> Result<S::Ok, S::Error> {
    let Member { id, name, peer_urls, client_urls } = member;
    serde_json::json!({ "id": id, "name": name, "peerURLs": peer_urls, "clientURLs": client_urls })
        .serialize(serializer)
}

/// The result of a quorum read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum QuorumRead {
    /// It took this many seconds.
    Took(f64),
    /// The user may not read.
    NotAllowed,
    /// Why it failed.
    Failed(String),
}

/// Times of the log's syncs since the member started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fsync {
    /// How many there were.
    pub(super) count: u64,
    /// The 99th percentile, in seconds.
    pub(super) p99: f64,
}

/// The watch history of a member.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct History {
    /// The index of the oldest event.
    pub(super) oldest_index: u64,
    /// How many indexes it covers.
    pub(super) reach: u64,
    /// The age of the oldest event, in seconds, if the member reports it.
    pub(super) age: Option<f64>,
}

/// A certificate, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    /// A URL or a file.
    pub(super) at: String,
    /// Its contents, or why it could not be read.
    #[serde(serialize_with = "validity")]
    pub(super) shown: Result<PeerCertificate, String>,
}

fn validity<S: serde::Serializer>(
    shown: &Result<PeerCertificate, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match shown {
        Ok(shown) => {
            serde_json::json!({ "subject": shown.subject, "issuer": shown.issuer, "notAfter": shown.ends() })
                .serialize(serializer)
        }
        Err(why) => serde_json::json!({ "notSeen": why }).serialize(serializer),
    }
}

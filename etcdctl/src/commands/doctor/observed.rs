//! What the members have answered: values only. [`super::queries`] fills them in, [`super::checks`] judges them.

use std::collections::BTreeSet;

use serde::Serialize;
use shared::client::Member;
use shared::net::PeerCertificate;

/// All that was seen of a cluster.
#[derive(Debug, Default)]
pub(super) struct ObservedCluster {
    /// The members, as the members know each other.
    pub(super) members: Vec<ObservedMember>,
    /// Whether members differ in whom they know, and who knows whom then.
    pub(super) other_lists: Vec<String>,
    /// Endpoints that were given and of which no member is known: URL and what is wrong.
    pub(super) unknown_endpoints: Vec<(String, String)>,
    /// Certificates in files that were given: the file, and what is in it.
    pub(super) files: Vec<Certificate>,
    /// Cluster ids, as different endpoints told them.
    pub(super) ids: BTreeSet<String>,
}

impl ObservedCluster {
    /// The cluster's id, if there is one.
    pub(super) fn id(&self) -> Option<&str> {
        self.ids.first().map(String::as_str)
    }

    /// The name of the member that most take for the leader.
    pub(super) fn leader(&self) -> Option<&str> {
        let id =
            self.members.iter().find_map(|member| member.leader.as_deref().filter(|id| !id.is_empty()))?;
        self.members.iter().find(|member| member.listed.id == id).map(ObservedMember::label)
    }
}

/// All that was seen of a member.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObservedMember {
    /// As the cluster lists it.
    #[serde(serialize_with = "member")]
    pub(super) listed: Member,
    /// The URL that answers; none when the member cannot be reached.
    pub(super) url: Option<String>,
    /// Client URLs that do not answer, with the cause.
    pub(super) unreachable: Vec<(String, String)>,
    /// `2.3.8`
    pub(super) version: Option<String>,
    /// What the whole cluster can speak.
    pub(super) cluster_version: Option<String>,
    /// The id of the leader, empty when there is none.
    pub(super) leader: Option<String>,
    /// What it says of its own health.
    pub(super) healthy: Option<bool>,
    /// Entries committed, as it knows.
    pub(super) raft_index: Option<u64>,
    /// Changes of the store.
    pub(super) etcd_index: Option<u64>,
    /// Its clock minus ours, in milliseconds: at least and at most.
    pub(super) clock_ms: Option<(i64, i64)>,
    /// From a question to its answer, in seconds, on a connection that is there.
    pub(super) round_trip: Option<f64>,
    /// The same for a read that a majority has to confirm.
    pub(super) quorum_read: Option<QuorumRead>,
    /// How long its disk takes.
    pub(super) fsync: Option<Fsync>,
    /// How far back its watch history goes.
    pub(super) history: Option<History>,
    /// Whether users must give passwords.
    pub(super) auth: Option<bool>,
    /// What its URLs present.
    pub(super) certificates: Vec<Certificate>,
}

impl ObservedMember {
    /// Its name; its id when it has none.
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

/// What became of a quorum read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum QuorumRead {
    /// Seconds.
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
    /// Of a hundred, 99 took no longer than this: seconds.
    pub(super) p99: f64,
}

/// How far back the events go that a member remembers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct History {
    /// The index of the oldest event.
    pub(super) oldest_index: u64,
    /// How many indexes it covers.
    pub(super) reach: u64,
    /// How old the oldest event is, in seconds, where the member tells.
    pub(super) age: Option<f64>,
}

/// A certificate, and where it was seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    /// A URL or a file.
    pub(super) at: String,
    /// What it says, or why it could not be seen.
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

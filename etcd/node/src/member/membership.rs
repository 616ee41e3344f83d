//! The members of the cluster, parsed from the store's keys below `/0`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shared::error::ApiError;
use shared::id::{ClusterId, MemberId};
use shared::store::{Expiry, Store};
use shared::time::UnixNanos;

use super::content::{ChangeKind, MemberChange};
use crate::version::Level;

/// A member as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id, made from its first peer URLs.
    pub id: MemberId,
    /// Its name, empty until it has started once.
    pub name: String,
    /// The URLs for other members.
    pub peer_urls: Vec<String>,
    /// The URLs for clients, empty until it has started once.
    pub client_urls: Vec<String>,
}

impl MemberInfo {
    /// Whether it has ever started: it publishes its name when it starts.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// The members of a cluster at one point of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// The cluster's id, made from its first members.
    pub cluster_id: ClusterId,
    /// The members by id.
    pub members: BTreeMap<MemberId, MemberInfo>,
    /// Ids of removed members. They are never used again.
    pub removed: BTreeSet<MemberId>,
    /// The extensions of 2.3 that each member has published, as it wrote them. Go members publish none.
    pub features: BTreeMap<MemberId, String>,
    /// The version that all members support, such as `2.3.0`; `None` until the first leader has set it.
    pub version: Option<String>,
}

/// Why a change of the members was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigureError {
    /// The id belongs to a member that was removed.
    #[error("membership: ID removed")]
    IdRemoved,
    /// There is already a member with this id.
    #[error("membership: ID exists")]
    IdExists,
    /// Another member has one of these peer URLs.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// There is no member with this id.
    #[error("membership: ID not found")]
    IdNotFound,
    /// The change is impossible in this cluster. All members skip it.
    #[error("membership: the change cannot be carried out")]
    Impossible,
}

/// A change would leave the cluster without a majority of started members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the number of started member ({started}) will be less than the quorum number of the cluster ({quorum})"
)]
pub struct TooFewStarted {
    /// Members that have ever started, after the change.
    pub started: usize,
    /// The majority after the change.
    pub quorum: usize,
}

/// Why the store of a snapshot does not match the snapshot's cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterMismatch {
    /// A voter is not a member in the store.
    #[error("its voter {0} is not among its members")]
    Unknown(MemberId),
    /// A voter is a removed member in the store.
    #[error("its voter {0} is among its removed members")]
    Removed(MemberId),
    /// The cluster's version is not supported by this server.
    #[error("its cluster version is {0:?}")]
    Version(String),
}

impl TooFewStarted {
    fn check(started: usize, members: usize) -> Result<(), TooFewStarted> {
        let quorum = members / 2 + 1;
        if started < quorum { Err(TooFewStarted { started, quorum }) } else { Ok(()) }
    }
}

/// `/0/members/ID/raftAttributes`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RaftAttributes {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
}

/// `/0/members/ID/attributes`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Attributes {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
    /// Not in the original, which ignores it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    features: String,
}

/// The context of a [`pb::ConfChange`](shared::pb::ConfChange) that adds or updates a member. The id is a decimal number above 2^53.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ConfChangeContext {
    /// The member.
    pub id: u64,
    /// The URLs for other members.
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Vec<String>,
    /// Its name; the original puts it into the member's attributes only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it, likewise.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

impl ConfChangeContext {
    /// Its bytes in the log.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// The path of a member's own attributes in the store.
pub fn attributes_path(id: MemberId) -> String {
    format!("/0/members/{id}/attributes")
}

/// The value that a member publishes at [`attributes_path`].
pub fn attributes_value(name: &str, client_urls: &[String], features: String) -> Vec<u8> {
    encode(&Attributes { name: name.to_owned(), client_urls: client_urls.to_vec(), features })
}

/// The member whose attributes are at this path, if it is such a path.
pub(super) fn attributes_id(path: &[u8]) -> Option<MemberId> {
    id_of(path.strip_prefix(b"/0/members/")?.strip_suffix(b"/attributes")?)
}

/// The path of the cluster's version in the store.
pub const VERSION_PATH: &[u8] = b"/0/version";

impl Membership {
    /// Parses the members in the store.
    pub fn from_store(cluster_id: ClusterId, store: &Store) -> Membership {
        let mut membership = Membership { cluster_id, ..Membership::default() };
        membership.removed.extend(ids_below(store, b"/0/removed_members"));
        for id in ids_below(store, b"/0/members") {
            let raft: RaftAttributes = read_json(store, &format!("/0/members/{id}/raftAttributes"));
            let own: Attributes = read_json(store, &attributes_path(id));
            if !own.features.is_empty() {
                membership.features.insert(id, own.features);
            }
            let peer =
                MemberInfo { id, name: own.name, peer_urls: raft.peer_urls, client_urls: own.client_urls };
            membership.members.insert(id, peer);
        }
        membership.version = value(store, VERSION_PATH).and_then(|version| String::from_utf8(version).ok());
        membership
    }

    /// Checks that the store of a snapshot matches the voters in its metadata. A member that took two
    /// contradicting lists could never elect a leader again.
    ///
    /// # Errors
    /// If they contradict each other, or the cluster's version is not supported by this server.
    pub fn check_voters(&self, voters: &[u64], level: Level) -> Result<(), ClusterMismatch> {
        for voter in voters.iter().map(|id| MemberId(*id)) {
            if self.removed.contains(&voter) {
                return Err(ClusterMismatch::Removed(voter));
            }
            if !self.members.contains_key(&voter) {
                return Err(ClusterMismatch::Unknown(voter));
            }
        }
        match self.version.as_deref() {
            Some(version) if !level.supports(version) => {
                Err(ClusterMismatch::Version(version.escape_default().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the started members are still a majority after one more member is added. A cluster of one
    /// may always grow: that is how a cluster is restored.
    pub fn check_addition(&self) -> Result<(), TooFewStarted> {
        let members = self.members.len() + 1;
        let started = self.started();
        if started == 1 && members == 2 { Ok(()) } else { TooFewStarted::check(started, members) }
    }

    /// Checks that the started members are still a majority without this one.
    pub fn check_removal(&self, id: MemberId) -> Result<(), TooFewStarted> {
        let lost = self.members.get(&id);
        let members = self.members.len() - usize::from(lost.is_some());
        let started = self.started() - usize::from(lost.is_some_and(MemberInfo::is_started));
        TooFewStarted::check(started, members)
    }

    fn started(&self) -> usize {
        self.members.values().filter(|peer| peer.is_started()).count()
    }

    /// Checks whether a change is possible. Deterministic: all members decide alike at the same entry.
    pub fn check(&self, change: &MemberChange, peer_urls: &[String]) -> Result<(), ConfigureError> {
        let id = change.member;
        if self.removed.contains(&id) {
            return Err(ConfigureError::IdRemoved);
        }
        let known = self.members.contains_key(&id);
        match change.kind {
            ChangeKind::Add if known => return Err(ConfigureError::IdExists),
            ChangeKind::Remove | ChangeKind::Update if !known => return Err(ConfigureError::IdNotFound),
            ChangeKind::Remove => return Ok(()),
            ChangeKind::Add | ChangeKind::Update => {}
        }
        let others = self.members.values().filter(|peer| peer.id != id);
        let taken = others.flat_map(|peer| &peer.peer_urls).any(|url| peer_urls.contains(url));
        if taken { Err(ConfigureError::PeerUrlExists) } else { Ok(()) }
    }
}

/// Writes an accepted change into the store, as all members do at the same entry.
///
/// # Errors
/// If the store holds something else at the path of the member; then nothing has changed. Only a log that
/// another program wrote can cause that.
pub(super) fn write_change(
    store: &mut Store,
    change: &MemberChange,
    peer_urls: &[String],
    now: UnixNanos,
) -> Result<(), ApiError> {
    let id = change.member;
    let path = format!("/0/members/{id}/raftAttributes");
    let value = encode(&RaftAttributes { peer_urls: peer_urls.to_vec() });
    match change.kind {
        ChangeKind::Add => store.create(path.as_bytes(), false, &value, false, Expiry::default(), now)?,
        ChangeKind::Update => store.update(path.as_bytes(), &value, Expiry::default(), now)?,
        ChangeKind::Remove => {
            let member = format!("/0/members/{id}");
            let tombstone = format!("/0/removed_members/{id}");
            let removed = store.delete(member.as_bytes(), true, true, now)?;
            // A key at the path of the folder prevents the tombstone; the member is removed all the same.
            store.create(tombstone.as_bytes(), false, b"", false, Expiry::default(), now).unwrap_or(removed)
        }
    };
    Ok(())
}

/// JSON of one of our own types, which never fails.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    match shared::json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("strings and numbers are always JSON: {error}"),
    }
}

/// The member id of a name in the store. Only one spelling is valid, or two folders could be one member.
fn id_of(name: &[u8]) -> Option<MemberId> {
    let name = std::str::from_utf8(name).ok()?;
    let id = MemberId(u64::from_str_radix(name, 16).ok()?);
    (id.to_string() == name).then_some(id)
}

/// The member ids among a directory's children; empty if there is no directory.
fn ids_below(store: &Store, path: &[u8]) -> Vec<MemberId> {
    match store.get(path, false, false) {
        Ok(event) => event.node().children().filter_map(|child| id_of(child.name())).collect(),
        Err(_) => Vec::new(),
    }
}

/// The value of a key; `None` if there is no key.
pub fn value(store: &Store, path: &[u8]) -> Option<Vec<u8>> {
    let event = store.get(path, false, false).ok()?;
    event.node().value().map(<[u8]>::to_vec)
}

fn read_json<T: Default + serde::de::DeserializeOwned>(store: &Store, path: &str) -> T {
    let bytes = value(store, path.as_bytes()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(started: usize, silent: usize) -> Membership {
        let mut membership = Membership::default();
        for n in 0..started + silent {
            let id = MemberId(n as u64 + 1);
            let name = if n < started { format!("m{n}") } else { String::new() };
            let peer_urls = vec![format!("http://m{n}:1")];
            membership.members.insert(id, MemberInfo { id, name, peer_urls, client_urls: Vec::new() });
        }
        membership
    }

    #[test]
    fn growth_and_loss_keep_the_majority() {
        let bears = |started, silent| membership(started, silent).check_addition().is_ok();
        assert!(bears(1, 0) && bears(3, 0) && bears(2, 0));
        assert!(!bears(1, 1) && !bears(2, 1));
        assert!(membership(3, 0).check_removal(MemberId(1)).is_ok());
        assert!(membership(2, 1).check_removal(MemberId(1)).is_err());
        assert!(membership(2, 1).check_removal(MemberId(3)).is_ok());
    }

    #[test]
    fn a_snapshot_that_contradicts_itself_is_recognised() {
        let mut store = membership(3, 0);
        assert_eq!(store.check_voters(&[1, 2, 3], Level::V2_3), Ok(()));
        assert_eq!(store.check_voters(&[1, 4], Level::V2_3), Err(ClusterMismatch::Unknown(MemberId(4))));
        for (version, fits) in
            [("2.3.0", true), ("2.0.0", true), ("2.4.0", false), ("9.9.0", false), ("x", false)]
        {
            store.version = Some(version.to_owned());
            assert_eq!(store.check_voters(&[1, 2, 3], Level::V2_3).is_ok(), fits, "{version}");
        }
        store.version = None;
        store.removed.insert(MemberId(2));
        assert_eq!(store.check_voters(&[1, 2], Level::V2_3), Err(ClusterMismatch::Removed(MemberId(2))));
    }

    #[test]
    fn a_context_is_written_as_recorded() {
        let context = ConfChangeContext {
            id: 2162793056178592701,
            peer_urls: vec!["http://127.0.0.1:22502".to_owned()],
            name: "s1".to_owned(),
            client_urls: Vec::new(),
        };
        let text = br#"{"id":2162793056178592701,"peerURLs":["http://127.0.0.1:22502"],"name":"s1"}"#;
        assert_eq!(context.encode(), text);
    }
}

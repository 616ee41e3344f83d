//! Replays a log: the v2 store and the members as a server has them after each entry.
//!
//! For programs that look at a directory without a server. Pure; what a server would not survive is an error here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::entry::{Content, ContentError, V3Membership, content};
use crate::error::ApiError;
use crate::event::Event;
use crate::id::MemberId;
use crate::pb;
use crate::store::{Expiry, RecoverError, Store};
use crate::time::UnixNanos;
use crate::wal::Frames;

/// Remaining times are shown to nobody here.
const NOW: UnixNanos = UnixNanos::ZERO;

/// A store and its members at one place of a log.
pub struct Replay {
    store: Store,
    voters: BTreeSet<u64>,
    applied: pb::WalSnapshot,
    frames: Frames,
}

/// What came of an entry.
#[derive(Debug)]
pub enum Applied {
    /// Nothing is in it.
    Nothing,
    /// A request to the store.
    Request(pb::Request, Result<Event, ApiError>),
    /// A request about a member that was removed; no server carries it out.
    OfRemoved(pb::Request),
    /// A request of 3.x. Of these the store takes those about the cluster only.
    V3(crate::entry::V3Request),
    /// A change of the members, and whether it was accepted.
    Change(pb::ConfChange, bool),
    /// Changes of the members that this program does not know how to make.
    Changes,
}

impl Replay {
    /// Before the first entry of a log.
    #[must_use]
    pub fn new(frames: Frames) -> Replay {
        let applied = pb::WalSnapshot::default();
        Replay {
            store: Store::new(crate::store::HISTORY_LENGTH_DEFAULT),
            voters: BTreeSet::new(),
            applied,
            frames,
        }
    }

    /// After a snapshot.
    ///
    /// # Errors
    /// If its body is no store.
    pub fn from_snapshot(snapshot: &pb::Snapshot, frames: Frames) -> Result<Replay, RecoverError> {
        let json = snapshot.data.as_deref().unwrap_or_default();
        let metadata = &snapshot.metadata;
        Ok(Replay {
            store: Store::recover(json, crate::store::HISTORY_LENGTH_DEFAULT)?,
            voters: metadata.conf_state.nodes.iter().copied().collect(),
            applied: pb::WalSnapshot { index: metadata.index, term: metadata.term },
            frames,
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who votes.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<u64> {
        &self.voters
    }

    /// The last entry that was applied, or the snapshot.
    #[must_use]
    pub fn applied(&self) -> pb::WalSnapshot {
        self.applied
    }

    /// The ids of all members that the store has.
    #[must_use]
    pub fn members(&self) -> BTreeSet<u64> {
        self.ids_below(b"/0/members")
    }

    /// Whether that member was removed.
    #[must_use]
    pub fn is_removed(&self, id: u64) -> bool {
        let path = format!("/0/removed_members/{}", MemberId(id));
        self.store.get(path.as_bytes(), false, false).is_ok()
    }

    /// Applies the next entry.
    ///
    /// # Errors
    /// If it does not hold what its kind says; then nothing has changed.
    pub fn apply(&mut self, entry: &pb::Entry) -> Result<Applied, ContentError> {
        let content = content(entry, self.frames)?;
        self.applied = pb::WalSnapshot { index: entry.index, term: entry.term };
        Ok(match content {
            Content::Empty => Applied::Nothing,
            Content::Request(request) => self.request(request),
            Content::V3(request) => {
                if let Some(membership) = &request.membership {
                    self.membership(membership);
                }
                Applied::V3(request)
            }
            Content::Change(change) => {
                let accepted = self.change(&change);
                Applied::Change(change, accepted)
            }
            Content::Changes => Applied::Changes,
        })
    }

    fn request(&mut self, request: pb::Request) -> Applied {
        if &request.method[..] == b"PUT" && attributes_of(&request.path).is_some_and(|id| self.is_removed(id))
        {
            return Applied::OfRemoved(request);
        }
        let result = self.store.apply(&request, NOW);
        Applied::Request(request, result)
    }

    /// What 3.5 writes by requests of its own where older servers use v2 requests.
    fn membership(&mut self, change: &V3Membership) {
        let (path, value) = match change {
            V3Membership::Version(version) => ("/0/version".to_owned(), version.to_vec()),
            V3Membership::Attributes { member, .. } if self.is_removed(*member) => return,
            V3Membership::Attributes { member, name, client_urls } => {
                let value = Attributes { name, client_urls };
                (format!("/0/members/{}/attributes", MemberId(*member)), encode(&value))
            }
        };
        // Such a path is only in the way of a store that no server has written.
        let _ = self.store.set(path.as_bytes(), false, &value, Expiry::default(), NOW);
    }

    /// Makes a change of the members, unless servers refuse it.
    fn change(&mut self, change: &pb::ConfChange) -> bool {
        let context = change.context.as_deref().unwrap_or_default();
        let context: Context = serde_json::from_slice(context).unwrap_or_default();
        let id = MemberId(change.node_id);
        let known = self.members().contains(&id.0);
        let promotes = change.kind == pb::ADD_NODE && context.is_promote;
        let is_new = matches!(change.kind, pb::ADD_NODE | pb::ADD_LEARNER_NODE) && !promotes;
        if self.is_removed(id.0) || known == is_new {
            return false;
        }
        if change.kind != pb::REMOVE_NODE && !promotes && self.is_taken(id.0, &context.peer_urls) {
            return false;
        }
        let path = format!("/0/members/{id}/raftAttributes");
        let never = Expiry::default();
        let written = match change.kind {
            pb::ADD_NODE | pb::ADD_LEARNER_NODE => {
                let old = self.raft_attributes(id.0);
                let value = encode(&RaftAttributes {
                    peer_urls: if promotes { old.peer_urls } else { context.peer_urls },
                    is_learner: change.kind == pb::ADD_LEARNER_NODE,
                });
                if promotes {
                    self.store.update(path.as_bytes(), &value, never, NOW)
                } else {
                    self.store.create(path.as_bytes(), false, &value, false, never, NOW)
                }
            }
            pb::UPDATE_NODE => {
                let is_learner = self.raft_attributes(id.0).is_learner;
                let value = encode(&RaftAttributes { peer_urls: context.peer_urls, is_learner });
                self.store.update(path.as_bytes(), &value, never, NOW)
            }
            pb::REMOVE_NODE => {
                let member = format!("/0/members/{id}");
                let tombstone = format!("/0/removed_members/{id}");
                let deleted = self.store.delete(member.as_bytes(), true, true, NOW);
                deleted.and_then(|_| self.store.create(tombstone.as_bytes(), false, b"", false, never, NOW))
            }
            _ => return false,
        };
        match change.kind {
            pb::ADD_NODE => drop(self.voters.insert(id.0)),
            pb::REMOVE_NODE => drop(self.voters.remove(&id.0)),
            _ => {}
        }
        written.is_ok()
    }

    /// Whether another member has one of these URLs.
    fn is_taken(&self, id: u64, peer_urls: &[String]) -> bool {
        let others = self.members().into_iter().filter(|other| *other != id);
        others.flat_map(|other| self.raft_attributes(other).peer_urls).any(|url| peer_urls.contains(&url))
    }

    fn raft_attributes(&self, id: u64) -> RaftAttributes {
        let path = format!("/0/members/{}/raftAttributes", MemberId(id));
        let event = self.store.get(path.as_bytes(), false, false);
        let value = event.ok().and_then(|event| event.node().value().map(<[u8]>::to_vec)).unwrap_or_default();
        serde_json::from_slice(&value).unwrap_or_default()
    }

    fn ids_below(&self, path: &[u8]) -> BTreeSet<u64> {
        let Ok(event) = self.store.get(path, false, false) else { return BTreeSet::new() };
        let names = event.node().children().filter_map(|child| id_of(child.name()));
        names.collect()
    }
}

fn id_of(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.parse().ok().map(|MemberId(id)| id)
}

/// Whose attributes stand at a path of the store.
fn attributes_of(path: &[u8]) -> Option<u64> {
    id_of(path.strip_prefix(b"/0/members/")?.strip_suffix(b"/attributes")?)
}

/// `/0/members/ID/raftAttributes`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RaftAttributes {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    /// Of 3.4 and later.
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
}

/// `/0/members/ID/attributes`.
#[derive(Debug, Serialize)]
struct Attributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

/// The context of a [`pb::ConfChange`].
#[derive(Debug, Default, Deserialize)]
struct Context {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    /// Of 3.4 and later: a member without a vote gets one.
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

/// JSON of one of our own types, which always can be written.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    match crate::json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("strings and booleans are always JSON: {error}"),
    }
}

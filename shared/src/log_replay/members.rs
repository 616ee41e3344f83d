//! The members in a store, and their changes by the log.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use super::NOW;
use crate::entry::V3Membership;
use crate::id::MemberId;
use crate::pb;
use crate::store::{Expiry, Store};

/// The ids of all members in a store.
#[must_use]
pub fn members(store: &Store) -> BTreeSet<u64> {
    let Ok(event) = store.get(b"/0/members", false, false) else { return BTreeSet::new() };
    event.node().children().filter_map(|child| id_of(child.name())).collect()
}

/// Whether a member was removed; its id is never used again.
#[must_use]
pub fn is_removed(store: &Store, id: u64) -> bool {
    let path = format!("/0/removed_members/{}", MemberId(id));
    store.get(path.as_bytes(), false, false).is_ok()
}

/// Whether a request publishes the attributes of a removed member: servers ignore it.
#[must_use]
pub fn is_of_removed(store: &Store, request: &pb::Request) -> bool {
    &request.method[..] == b"PUT" && attributes_of(&request.path).is_some_and(|id| is_removed(store, id))
}

/// Applies a change of the members as all servers do; false for one that they refuse. Also supports the members
/// without a vote of 3.x.
pub fn change(store: &mut Store, change: &pb::ConfChange) -> bool {
    let context = change.context.as_deref().unwrap_or_default();
    let context: Context = serde_json::from_slice(context).unwrap_or_default();
    let id = MemberId(change.node_id);
    let known = members(store).contains(&id.0);
    let promotes = change.kind == pb::ADD_NODE && context.is_promote;
    let is_new = matches!(change.kind, pb::ADD_NODE | pb::ADD_LEARNER_NODE) && !promotes;
    if is_removed(store, id.0) || known == is_new {
        return false;
    }
    if change.kind != pb::REMOVE_NODE && !promotes && is_taken(store, id.0, &context.peer_urls) {
        return false;
    }
    let path = format!("/0/members/{id}/raftAttributes");
    let never = Expiry::default();
    let written = match change.kind {
        pb::ADD_NODE if promotes => {
            let peer_urls = raft_attributes(store, id.0).peer_urls;
            let value = encode(&RaftAttributes { peer_urls, is_learner: false });
            store.update(path.as_bytes(), &value, never, NOW)
        }
        pb::ADD_NODE | pb::ADD_LEARNER_NODE => {
            let is_learner = change.kind == pb::ADD_LEARNER_NODE;
            let value = encode(&RaftAttributes { peer_urls: context.peer_urls, is_learner });
            store.create(path.as_bytes(), false, &value, false, never, NOW)
        }
        pb::UPDATE_NODE => {
            let is_learner = raft_attributes(store, id.0).is_learner;
            let value = encode(&RaftAttributes { peer_urls: context.peer_urls, is_learner });
            store.update(path.as_bytes(), &value, never, NOW)
        }
        pb::REMOVE_NODE => {
            let member = format!("/0/members/{id}");
            let tombstone = format!("/0/removed_members/{id}");
            let deleted = store.delete(member.as_bytes(), true, true, NOW);
            deleted.and_then(|_| store.create(tombstone.as_bytes(), false, b"", false, never, NOW))
        }
        _ => return false,
    };
    // Only a store that a server has not written can refuse it.
    written.is_ok()
}

/// Applies a membership request of 3.5; older servers use requests to the v2 store.
pub fn publish(store: &mut Store, change: &V3Membership) {
    let (path, value) = match change {
        V3Membership::Version(version) => ("/0/version".to_owned(), version.to_vec()),
        V3Membership::Attributes { member, .. } if is_removed(store, *member) => return,
        V3Membership::Attributes { member, name, client_urls } => {
            let value = Attributes { name, client_urls };
            (format!("/0/members/{}/attributes", MemberId(*member)), encode(&value))
        }
    };
    // Only a store that a server has not written can refuse it.
    let _ = store.set(path.as_bytes(), false, &value, Expiry::default(), NOW);
}

/// Whether another member has one of these URLs.
fn is_taken(store: &Store, id: u64, peer_urls: &[String]) -> bool {
    let others = members(store).into_iter().filter(|other| *other != id);
    others.flat_map(|other| raft_attributes(store, other).peer_urls).any(|url| peer_urls.contains(&url))
}

fn raft_attributes(store: &Store, id: u64) -> RaftAttributes {
    let path = format!("/0/members/{}/raftAttributes", MemberId(id));
    let event = store.get(path.as_bytes(), false, false);
    let value = event.ok().and_then(|event| event.node().value().map(<[u8]>::to_vec)).unwrap_or_default();
    serde_json::from_slice(&value).unwrap_or_default()
}

fn id_of(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.parse().ok().map(|MemberId(id)| id)
}

/// The member whose attributes are at a path of the store.
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
    #[serde(rename = "peerURLs", default, deserialize_with = "null_as_none")]
    peer_urls: Vec<String>,
    /// Of 3.4 and later: a member without a vote gets one.
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

/// Go writes `null` for a list without elements.
fn null_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Encodes one of these types as JSON, which cannot fail.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    match crate::json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("strings and booleans are always JSON: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(store: &mut Store, kind: i32, id: u64, url: &str, more: &str) -> bool {
        let urls = if url.is_empty() { "null".to_owned() } else { format!("[\"{url}\"]") };
        let context = format!("{{\"id\":{id},\"peerURLs\":{urls},\"name\":\"m\"{more}}}");
        change(store, &pb::ConfChange { id: 0, kind, node_id: id, context: Some(context.into()) })
    }

    fn urls(store: &Store) -> Vec<(u64, String)> {
        let of = |id: &u64| raft_attributes(store, *id).peer_urls.concat();
        members(store).iter().map(|id| (*id, of(id))).collect()
    }

    #[test]
    fn changes_do_what_they_do_in_a_server() {
        let mut store = Store::new(1);
        assert!(configure(&mut store, pb::ADD_NODE, 10, "a", ""));
        assert!(configure(&mut store, pb::ADD_NODE, 255, "b", ""));
        assert_eq!((urls(&store), store.index()), (vec![(10, "a".to_owned()), (255, "b".to_owned())], 2));
        // Known, taken, unknown.
        assert!(!configure(&mut store, pb::ADD_NODE, 10, "c", ""));
        assert!(!configure(&mut store, pb::ADD_NODE, 3, "b", ""));
        assert!(!configure(&mut store, pb::UPDATE_NODE, 10, "b", ""));
        assert!(!configure(&mut store, pb::REMOVE_NODE, 3, "", ""));
        assert_eq!(store.index(), 2);
        assert!(configure(&mut store, pb::UPDATE_NODE, 10, "c", ""));
        assert!(configure(&mut store, pb::REMOVE_NODE, 255, "", ""));
        assert_eq!((urls(&store), store.index()), (vec![(10, "c".to_owned())], 5));
        assert!(is_removed(&store, 255) && !is_removed(&store, 10));
        assert!(!configure(&mut store, pb::ADD_NODE, 255, "d", ""), "who was removed never comes back");
    }

    #[test]
    fn a_member_without_a_vote_gets_one() {
        let mut store = Store::new(1);
        assert!(configure(&mut store, pb::ADD_LEARNER_NODE, 7, "a", ",\"isPromote\":false"));
        assert!(raft_attributes(&store, 7).is_learner);
        assert!(configure(&mut store, pb::ADD_NODE, 7, "", ",\"isPromote\":true"));
        let RaftAttributes { peer_urls, is_learner } = raft_attributes(&store, 7);
        assert_eq!((peer_urls.concat().as_str(), is_learner), ("a", false));
    }

    #[test]
    fn a_removed_member_is_not_heard() {
        let mut store = Store::new(1);
        configure(&mut store, pb::ADD_NODE, 255, "b", "");
        let request = |id: &str| pb::Request {
            method: "PUT".into(),
            path: format!("/0/members/{id}/attributes").into(),
            ..Default::default()
        };
        let names = || V3Membership::Attributes { member: 255, name: "m".into(), client_urls: Vec::new() };
        assert!(!is_of_removed(&store, &request("ff")));
        publish(&mut store, &names());
        assert_eq!(store.index(), 2);
        configure(&mut store, pb::REMOVE_NODE, 255, "", "");
        assert!(is_of_removed(&store, &request("ff")) && !is_of_removed(&store, &request("f")));
        publish(&mut store, &names());
        assert_eq!(store.index(), 4, "removed and remembered, not more");
    }
}

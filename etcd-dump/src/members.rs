//! The members as they stand in a store, and what changes of them do to it.

use serde::{Deserialize, Serialize};
use shared::id::MemberId;
use shared::json;
use shared::pb;
use shared::store::{Expiry, Store};
use shared::time::UnixNanos;

use crate::entry::Context;

const MEMBERS: &[u8] = b"/0/members";
const REMOVED: &[u8] = b"/0/removed_members";

/// A member.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// Empty until it has started once.
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
    /// Empty until it has started once.
    pub(crate) client_urls: Vec<String>,
}

/// `/0/members/ID/raftAttributes`.
#[derive(Serialize, Deserialize)]
struct RaftAttributes {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
}

/// The members, by id.
pub(crate) fn all(store: &Store) -> Vec<Member> {
    let Ok(listing) = store.get(MEMBERS, true, false) else { return Vec::new() };
    let mut members = Vec::new();
    for node in listing.node().children() {
        let Some(id) = id_of(node.name()) else { continue };
        let read = |name: &[u8]| -> Context {
            let value = node.child(name).and_then(|child| child.value()).unwrap_or_default();
            serde_json::from_slice(value).unwrap_or_default()
        };
        let Context { peer_urls, .. } = read(b"raftAttributes");
        let Context { name, client_urls, .. } = read(b"attributes");
        members.push(Member { id, name, peer_urls, client_urls });
    }
    members.sort_by_key(|member| member.id);
    members
}

/// The ids of those that were members once.
pub(crate) fn removed(store: &Store) -> Vec<u64> {
    let Ok(listing) = store.get(REMOVED, false, false) else { return Vec::new() };
    let mut ids: Vec<u64> = listing.node().children().filter_map(|node| id_of(node.name())).collect();
    ids.sort_unstable();
    ids
}

fn id_of(name: &[u8]) -> Option<u64> {
    str::from_utf8(name).ok()?.parse::<MemberId>().ok().map(|id| id.0)
}

/// Whether a request is one by which a member that was removed publishes itself: servers pass over it.
pub(crate) fn is_of_removed(store: &Store, request: &pb::Request) -> bool {
    let publishes = &request.method[..] == b"PUT" && request.path.ends_with(b"/attributes");
    let id =
        request.path.strip_prefix(b"/0/members/").and_then(|rest| rest.split(|byte| *byte == b'/').next());
    publishes && id.is_some_and(|id| exists(store, &[REMOVED, b"/", id].concat()))
}

fn exists(store: &Store, path: &[u8]) -> bool {
    store.get(path, false, false).is_ok()
}

/// Carries out a change of the members as every server does: one that makes no sense changes nothing.
pub(crate) fn change(store: &mut Store, change: &pb::ConfChange) {
    let id = MemberId(change.node_id);
    let member = format!("/0/members/{id}");
    let context = change.context.as_deref().unwrap_or_default();
    let urls = serde_json::from_slice::<Context>(context).unwrap_or_default().peer_urls;
    let is_known = exists(store, member.as_bytes());
    let was_removed = exists(store, format!("/0/removed_members/{id}").as_bytes());
    let others = || all(store).into_iter().filter(|other| other.id != id.0);
    let is_taken = || others().any(|other| other.peer_urls.iter().any(|url| urls.contains(url)));
    let path = format!("{member}/raftAttributes");
    let value = json::to_vec(&RaftAttributes { peer_urls: urls.clone() }).unwrap_or_default();
    let (never, now) = (Expiry::default(), UnixNanos::ZERO);
    let written = match change.kind {
        _ if was_removed => return,
        pb::ADD_NODE if !is_known && !is_taken() => {
            store.create(path.as_bytes(), false, &value, false, never, now)
        }
        pb::UPDATE_NODE if is_known && !is_taken() => store.update(path.as_bytes(), &value, never, now),
        pb::REMOVE_NODE if is_known => store.delete(member.as_bytes(), true, true, now).and_then(|_| {
            let tombstone = format!("/0/removed_members/{id}");
            store.create(tombstone.as_bytes(), false, b"", false, never, now)
        }),
        _ => return,
    };
    // A member without a `raftAttributes` of its own cannot be updated; nothing is changed then.
    drop(written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(store: &mut Store, kind: i32, id: u64, url: &str) {
        let context = format!("{{\"id\":{id},\"peerURLs\":[\"{url}\"],\"name\":\"m\"}}");
        let node = pb::ConfChange { id: 0, kind, node_id: id, context: Some(context.into()) };
        change(store, &node);
    }

    fn urls(store: &Store) -> Vec<(u64, String)> {
        all(store).into_iter().map(|member| (member.id, member.peer_urls.concat())).collect()
    }

    #[test]
    fn changes_do_what_they_do_in_a_server() {
        let mut store = Store::new(1);
        configure(&mut store, pb::ADD_NODE, 10, "a");
        configure(&mut store, pb::ADD_NODE, 255, "b");
        assert_eq!(urls(&store), [(10, "a".to_owned()), (255, "b".to_owned())]);
        assert_eq!(store.index(), 2);
        // Known, taken, unknown.
        configure(&mut store, pb::ADD_NODE, 10, "c");
        configure(&mut store, pb::ADD_NODE, 3, "b");
        configure(&mut store, pb::UPDATE_NODE, 10, "b");
        configure(&mut store, pb::REMOVE_NODE, 3, "");
        assert_eq!(store.index(), 2);
        configure(&mut store, pb::UPDATE_NODE, 10, "c");
        configure(&mut store, pb::REMOVE_NODE, 255, "");
        assert_eq!((urls(&store), removed(&store)), (vec![(10, "c".to_owned())], vec![255]));
        assert_eq!(store.index(), 5);
        configure(&mut store, pb::ADD_NODE, 255, "d");
        assert_eq!(urls(&store).len(), 1, "who was removed never comes back");
    }

    #[test]
    fn a_removed_member_is_not_heard() {
        let mut store = Store::new(1);
        configure(&mut store, pb::ADD_NODE, 255, "b");
        let publish = |id: &str| pb::Request {
            method: "PUT".into(),
            path: format!("/0/members/{id}/attributes").into(),
            ..Default::default()
        };
        assert!(!is_of_removed(&store, &publish("ff")));
        configure(&mut store, pb::REMOVE_NODE, 255, "");
        assert!(is_of_removed(&store, &publish("ff")));
        assert!(!is_of_removed(&store, &publish("f")));
    }
}

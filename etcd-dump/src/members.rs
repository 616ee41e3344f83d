//! The members in a store.

use shared::id::MemberId;
use shared::store::Store;

use crate::entry::Context;

const MEMBERS: &[u8] = b"/0/members";
const REMOVED: &[u8] = b"/0/removed_members";

/// A member.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// Empty until the member has started.
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
    /// Empty until the member has started.
    pub(crate) client_urls: Vec<String>,
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

/// The members of a 0.x cluster, by name.
pub(crate) fn of_old(members: Vec<etcd_migrate::TreeMember>) -> Vec<Member> {
    let known = |url: String| if url.is_empty() { Vec::new() } else { vec![url] };
    members
        .into_iter()
        .map(|member| Member {
            id: member.id.0,
            name: member.name,
            peer_urls: known(member.peer_url),
            client_urls: known(member.client_url),
        })
        .collect()
}

/// The ids of removed members.
pub(crate) fn removed(store: &Store) -> Vec<u64> {
    let Ok(listing) = store.get(REMOVED, false, false) else { return Vec::new() };
    let mut ids: Vec<u64> = listing.node().children().filter_map(|node| id_of(node.name())).collect();
    ids.sort_unstable();
    ids
}

fn id_of(name: &[u8]) -> Option<u64> {
    str::from_utf8(name).ok()?.parse::<MemberId>().ok().map(|id| id.0)
}

#[cfg(test)]
mod tests {
    use shared::log_replay::change;
    use shared::pb;
    use shared::store::Expiry;
    use shared::time::UnixNanos;

    use super::*;

    #[test]
    fn members_are_read_out_of_the_store() {
        let mut store = Store::new(1);
        assert_eq!((all(&store), removed(&store)), (vec![], vec![]));
        for id in [255, 10, 3] {
            let context = Some(format!("{{\"id\":{id},\"peerURLs\":[\"http://{id}\"]}}").into());
            assert!(change(&mut store, &pb::ConfChange { id: 0, kind: pb::ADD_NODE, node_id: id, context }));
        }
        change(&mut store, &pb::ConfChange { kind: pb::REMOVE_NODE, node_id: 3, ..Default::default() });
        let own = br#"{"name":"m","clientURLs":["http://c"]}"#;
        let path = b"/0/members/ff/attributes";
        store.set(path, false, own, Expiry::default(), UnixNanos::ZERO).unwrap();
        let member = |id: u64, name: &str, client_urls: &[&str]| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://{id}")],
            client_urls: client_urls.iter().map(|url| (*url).to_owned()).collect(),
        };
        assert_eq!(all(&store), [member(10, "", &[]), member(255, "m", &["http://c"])]);
        assert_eq!(removed(&store), [3]);
    }
}

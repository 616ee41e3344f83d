//! The connections to other members, for the member's loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use node::member::{MemberInfo, Membership, Message};
use shared::id::MemberId;

use crate::peers::Features;

/// Carries messages to other members.
pub(super) trait Network: Send + Sync + 'static {
    /// Sends without waiting. A message that cannot be sent is dropped and reported.
    fn send(&self, messages: Vec<Message>);

    /// Connects to a member.
    fn add(&self, id: MemberId, urls: &[String]);

    /// A member has other peer URLs.
    fn update(&self, id: MemberId, urls: &[String]);

    /// A member was removed; it learns that when it connects.
    fn remove(&self, id: MemberId);

    /// Whether a connected member does not support the extensions.
    fn lacks_extensions(&self, id: MemberId) -> bool;
}

/// The most members whose word is doubted in the log: strangers can take any id.
const DOUBTED_MAX: usize = 16;

/// Keeps the network in step with the membership.
pub(super) struct Links {
    own: MemberId,
    network: Arc<dyn Network>,
    /// The members that the network connects to, with their URLs.
    linked: BTreeMap<MemberId, Vec<String>>,
    /// The removed members.
    removed: BTreeSet<MemberId>,
    /// Members whose attributes in the log announce all extensions.
    extended: BTreeSet<MemberId>,
    /// Those that said that this member was removed, and cannot know.
    doubted: BTreeSet<MemberId>,
}

impl Links {
    /// Connects to `known`, the members that a joining member has learned before its log contains them.
    pub(super) fn new(own: MemberId, network: Arc<dyn Network>, known: &[MemberInfo]) -> Links {
        let mut links = Links {
            own,
            network,
            linked: BTreeMap::new(),
            removed: BTreeSet::new(),
            extended: BTreeSet::new(),
            doubted: BTreeSet::new(),
        };
        for peer in known.iter().filter(|peer| peer.id != own) {
            links.link(peer);
        }
        links
    }

    pub(super) fn send(&self, messages: Vec<Message>) {
        self.network.send(messages);
    }

    /// Updates the network to `membership`. Members that it does not contain stay connected: at a start the log
    /// is applied from its beginning.
    pub(super) fn follow(&mut self, membership: &Membership) {
        let own = self.own;
        let ours = Features::OURS.to_string();
        let supporting = membership.features.iter().filter(|(_, features)| **features == ours);
        self.extended = supporting.map(|(id, _)| *id).collect();
        for peer in membership.members.values().filter(|peer| peer.id != own) {
            self.link(peer);
        }
        for id in membership.removed.iter().filter(|id| **id != own) {
            if self.removed.insert(*id) {
                self.linked.remove(id);
                self.network.remove(*id);
            }
        }
    }

    fn link(&mut self, peer: &MemberInfo) {
        match self.linked.get(&peer.id) {
            None => self.network.add(peer.id, &peer.peer_urls),
            Some(urls) if *urls != peer.peer_urls => self.network.update(peer.id, &peer.peer_urls),
            Some(_) => return,
        }
        self.linked.insert(peer.id, peer.peer_urls.clone());
    }

    /// Whether a member supports all extensions: its attributes in the log announce them, and its connection
    /// does not deny them. The log counts for members that are down, too, and is equal for all members.
    pub(super) fn is_extended(&self, id: MemberId) -> bool {
        self.extended.contains(&id) && !self.network.lacks_extensions(id)
    }

    /// Whether the member `by` can know that this one was removed: it has published itself in the log. A member whose log
    /// does not have its own attributes yet knows nothing about others, and believes every member that it was told of.
    /// A stranger, or a URL that was added by mistake, is not believed.
    pub(super) fn may_say_removed(&self, by: MemberId, membership: &Membership) -> bool {
        let has_started = |id| membership.members.get(&id).is_some_and(MemberInfo::is_started);
        has_started(by) || !has_started(self.own) && self.linked.contains_key(&by)
    }

    /// Whether `by` was not believed for the first time.
    pub(super) fn doubts_first(&mut self, by: MemberId) -> bool {
        self.doubted.len() < DOUBTED_MAX && self.doubted.insert(by)
    }

    /// Whether all other members support all extensions.
    pub(super) fn all_extended(&self) -> bool {
        self.linked.keys().all(|id| self.is_extended(*id))
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    #[derive(Default)]
    struct RecordedCalls(Mutex<Vec<String>>);

    impl Network for RecordedCalls {
        fn send(&self, _: Vec<Message>) {}
        fn add(&self, id: MemberId, urls: &[String]) {
            self.0.lock().push(format!("add {id} {}", urls.join(",")));
        }
        fn update(&self, id: MemberId, urls: &[String]) {
            self.0.lock().push(format!("update {id} {}", urls.join(",")));
        }
        fn remove(&self, id: MemberId) {
            self.0.lock().push(format!("remove {id}"));
        }
        fn lacks_extensions(&self, id: MemberId) -> bool {
            id == MemberId(3)
        }
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let recorded = Arc::new(RecordedCalls::default());
        let mut links = Links::new(MemberId(1), recorded.clone(), &[]);
        let mut membership = Membership::default();
        let put = |membership: &mut Membership, id: u64, url: &str| {
            let peer = MemberInfo {
                id: MemberId(id),
                name: String::new(),
                peer_urls: vec![url.to_owned()],
                client_urls: Vec::new(),
            };
            membership.members.insert(MemberId(id), peer);
        };
        put(&mut membership, 1, "a");
        put(&mut membership, 2, "b");
        links.follow(&membership);
        assert!(!links.all_extended());
        membership.features.insert(MemberId(2), Features::OURS.to_string());
        links.follow(&membership);
        assert!(links.all_extended());
        // The connection counts more than the log.
        put(&mut membership, 3, "c");
        membership.features.insert(MemberId(3), Features::OURS.to_string());
        links.follow(&membership);
        assert!(!links.all_extended());
        put(&mut membership, 3, "d");
        membership.members.remove(&MemberId(2));
        links.follow(&membership);
        membership.removed.insert(MemberId(2));
        links.follow(&membership);
        links.follow(&membership);
        assert_eq!(*recorded.0.lock(), ["add 2 b", "add 3 c", "update 3 d", "remove 2"]);
    }
}

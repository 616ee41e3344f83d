//! The keys under which 0.x lists the members of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use node::member::{MemberInfo, Membership};

/// The started members, each with its key in 0.x: its name, or `NAME.ID` if several members have the same name, so that
/// none hides another. If the name cannot be a visible key, the key is the ID.
pub(crate) fn machines(members: &Membership) -> Vec<(String, &MemberInfo)> {
    let started = || members.members.values().filter(|peer| peer.is_started());
    let mut bearers: BTreeMap<&str, usize> = BTreeMap::new();
    for peer in started() {
        *bearers.entry(&peer.name).or_default() += 1;
    }
    let mut taken: BTreeSet<String> =
        bearers.iter().filter(|(_, count)| **count == 1).map(|(name, _)| (*name).to_owned()).collect();
    let mut key = |peer: &MemberInfo| {
        let can_be_key =
            !peer.name.contains('/') && !peer.name.starts_with('_') && ![".", ".."].contains(&&*peer.name);
        let mut key = match (can_be_key, bearers.get(&*peer.name)) {
            (true, Some(1)) => return peer.name.clone(),
            (true, _) => format!("{}.{}", peer.name, peer.id),
            (false, _) => peer.id.to_string(),
        };
        // Another member may have this name.
        while !taken.insert(key.clone()) {
            key.push('.');
        }
        key
    };
    started().map(|peer| (key(peer), peer)).collect()
}

#[cfg(test)]
mod tests {
    use shared::id::MemberId;

    use super::*;

    fn keys(names: &[&str]) -> Vec<String> {
        let mut members = Membership::default();
        for (id, name) in (0xa1..).zip(names) {
            let (id, name) = (MemberId(id), (*name).to_owned());
            members
                .members
                .insert(id, MemberInfo { id, name, peer_urls: Vec::new(), client_urls: Vec::new() });
        }
        machines(&members).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn names_that_repeat_hide_nobody() {
        assert_eq!(keys(&["b", "a", ""]), ["b", "a"]);
        assert_eq!(keys(&["m", "m", "other", "m"]), ["m.a1", "m.a2", "other", "m.a4"]);
        assert_eq!(keys(&["m", "m", "m.a1"]), ["m.a1.", "m.a2", "m.a1"]);
        assert_eq!(keys(&["a/b", "..", "_hidden", "a3"]), ["a1", "a2", "a3.", "a3"]);
    }
}

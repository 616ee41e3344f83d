//! `/_etcd/machines` among the keys, where 0.x kept its members and its clients look for them.
//!
//! A view that is only read, and that nobody meets who does not ask for it: it answers where no key of the store
//! stands, and is in no listing of a directory above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use node::member::{Membership, Peer};
use shared::event::Event;

use super::Context;
use crate::backend::Backend;

/// The directory.
const MACHINES: &str = "/1/_etcd/machines";

/// What a read of `path`, which is not in the store, gives; none if it is not of the view.
pub(super) fn view<B: Backend>(context: &Context<B>, path: &[u8], recursive: bool) -> Option<Event> {
    let below = path.strip_prefix(MACHINES.as_bytes())?;
    if !matches!(below.first(), None | Some(b'/')) {
        return None;
    }
    // Shares all nodes with the store; what is placed in it the store never sees.
    let mut image = context.backend.store().image();
    if image.indexes(MACHINES.as_bytes()).is_some() {
        return None;
    }
    for (key, peer) in machines(&context.backend.members()) {
        // Since when the member is there; one that a snapshot of old tells of may lack it.
        let attributes = format!("/0/members/{}/attributes", peer.id);
        let (created, modified) = image.indexes(attributes.as_bytes()).unwrap_or((1, 1));
        let machine = format!("{MACHINES}/{key}");
        image.place(machine.as_bytes(), Some(value(peer).as_bytes()), created, modified).ok()?;
    }
    image.get(path, recursive).ok()
}

/// The members that have started, each with the key by which 0.x knows it: its name, or where several have the same
/// one `NAME.ID`, so that none hides another. A name that could not be a visible key gives way to the ID.
pub(super) fn machines(members: &Membership) -> Vec<(String, &Peer)> {
    let started = || members.members.values().filter(|peer| peer.is_started());
    let mut bearers: BTreeMap<&str, usize> = BTreeMap::new();
    for peer in started() {
        *bearers.entry(&peer.name).or_default() += 1;
    }
    let mut taken: BTreeSet<String> =
        bearers.iter().filter(|(_, count)| **count == 1).map(|(name, _)| (*name).to_owned()).collect();
    let mut key = |peer: &Peer| {
        let can_be_key =
            !peer.name.contains('/') && !peer.name.starts_with('_') && ![".", ".."].contains(&&*peer.name);
        let mut key = match (can_be_key, bearers.get(&*peer.name)) {
            (true, Some(1)) => return peer.name.clone(),
            (true, _) => format!("{}.{}", peer.name, peer.id),
            (false, _) => peer.id.to_string(),
        };
        // Another member may be called so.
        while !taken.insert(key.clone()) {
            key.push('.');
        }
        key
    };
    started().map(|peer| (key(peer), peer)).collect()
}

/// Where the member is, as a query.
fn value(peer: &Peer) -> String {
    let first = |urls: &[String]| escaped(urls.first().map_or("", String::as_str));
    format!("etcd={}&raft={}", first(&peer.client_urls), first(&peer.peer_urls))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use shared::id::MemberId;

    use super::*;

    fn keys(names: &[&str]) -> Vec<String> {
        let mut members = Membership::default();
        for (id, name) in (0xa1..).zip(names) {
            let (id, name) = (MemberId(id), (*name).to_owned());
            members.members.insert(id, Peer { id, name, peer_urls: Vec::new(), client_urls: Vec::new() });
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

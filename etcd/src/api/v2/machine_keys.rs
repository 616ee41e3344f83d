//! `/_etcd/machines` among the keys, where 0.x kept its members and its clients look for them.
//!
//! A view that is only read, and that nobody meets who does not ask for it: it answers where no key of the store
//! stands, and is in no listing of a directory above it.

use std::fmt::Write as _;

use node::member::Peer;
use shared::event::Event;

use crate::admin::machines;
use crate::api::page::Context;
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
        image.put_node(machine.as_bytes(), Some(value(peer).as_bytes()), created, modified).ok()?;
    }
    image.get(path, recursive).ok()
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

//! The other members: messages to them and from them, over HTTP as members of etcd 2.3 have it.
//!
//! [`Transport`] sends, and dials the streams on which the others send; [`serve`] answers what they ask for on the
//! peer port. What comes in goes to the member as [`Inbound`]. A stream has one task for each direction:
//!
//! ```text
//! Transport::send ─▶ stream_queue ─▶ streams ─▶ the answer to a GET that the peer made
//! Inbound ◀─ streams ◀─ frames ◀─ client ◀─ the answer to a GET that we made
//! Transport::send ─▶ pipeline ─▶ POSTs of ours          Inbound ◀─ posts ◀─ server ◀─ POSTs of the peer
//! ```
//!
//! **Invariant:** nobody waits for a peer but the tasks that talk to that peer; what waits for it is bounded in
//! number and bytes. The protocol is told in `Documentation/peer_protocol.md`.

mod client;
mod compatibility;
mod frames;
pub mod fuzz;
mod group;
pub mod info;
mod local;
mod measures;
mod peer;
mod pipeline;
mod posts;
mod probing;
mod server;
mod stream_queue;
mod streams;

pub use compatibility::Features;
pub use group::Transport;
pub use local::{Inbound, LocalMember, Roster, SnapshotBytes, SnapshotSource};
pub(crate) use server::serve;

#[cfg(test)]
mod tests;

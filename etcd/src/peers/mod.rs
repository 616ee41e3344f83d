//! Communication with the other members, over HTTP in the forms of etcd 2.3.
//!
//! [`Transport`] sends messages and dials the streams on which the peers send theirs; [`serve`] answers requests on
//! the peer port. Messages that arrive go to the member as [`Inbound`]. A stream has one task for each direction:
//!
//! ```text
//! Transport::send ─▶ stream_queue ─▶ streams ─▶ the answer to a GET that the peer made
//! Inbound ◀─ streams ◀─ frames ◀─ client ◀─ the answer to a GET that we made
//! Transport::send ─▶ pipeline ─▶ POSTs of ours          Inbound ◀─ posts ◀─ server ◀─ POSTs of the peer
//! ```
//!
//! **Invariant:** only the tasks of a peer wait for that peer; what is queued for it is bounded in number and bytes.
//! `Documentation/peer_protocol.md` describes the protocol.

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

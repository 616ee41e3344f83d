//! Locks and elections, the modules of etcd 0.2: a fair lock, and a leader election built on it.
//!
//! A lock is a queue in the store: an in-order key with a time to live for each client that holds the lock or waits
//! for it. The first entry holds the lock. The number in a key's name, the store index of its creation, is the
//! *fencing index*: of two holders, the later one has the larger index.
//!
//! ```text
//! /_etcd/mod/lock/KEY/00000000000000000007   value: who, or "-"; first: the holder
//! /_etcd/mod/lock/KEY/00000000000000000012   second: waits until 7 is gone
//! ```
//!
//! The member that serves a request renews the client's entry while it waits, and gives it up when the client
//! disconnects. All state is in the store, so any member can continue where another has stopped.
//!
//! **Invariants.** A request acquires the lock by a write through the log that succeeds only while its entry exists,
//! after the entry was seen to be first; no entry can appear ahead of it, since indexes only grow. Only the request
//! that wrote to an entry last gives it up (see [`position`]), so that no late clean-up takes it from its next owner.

pub(crate) mod lock;
mod position;
mod queue;

#[cfg(test)]
mod tests;

use crate::backend::Backend;

pub(crate) use queue::LockPath;

/// A handle to the member that a request can keep while it waits.
pub(crate) trait MemberHandle: Clone + Send + Sync + 'static {
    /// The member's type.
    type Member: Backend;

    /// The member.
    fn member(&self) -> &Self::Member;
}

//! The modules of etcd 0.2: a fair lock, and the election that is built on it.
//!
//! A lock is a queue in the store: one key with a time to live for each client that holds it or waits for it,
//! made by the store's own in-order keys. Who is first in the queue holds the lock. The number in a key's name,
//! the store's index at which it was made, is the *fencing index*: of two holders the later has the larger one.
//!
//! ```text
//! /_etcd/mod/lock/KEY/00000000000000000007   value: who, or "-"; first: the holder
//! /_etcd/mod/lock/KEY/00000000000000000012   second: waits until 7 is gone
//! ```
//!
//! The member that has taken a request keeps its client's place alive, and gives it up when the client goes
//! away. Nothing is kept beside the store, so any member can go on where another has stopped.
//!
//! **Invariants.** A place is won by a write through the log that succeeds only while the place exists, after it
//! was seen to be the first; a place ahead of it can never come back, for indexes only grow. A place is given up
//! only by whoever wrote to it last ([`position`] tells how), so that no late clean-up takes it from its next owner.

pub(crate) mod lock;
mod position;
mod queue;

#[cfg(test)]
mod tests;

use crate::backend::Backend;

pub(crate) use queue::LockPath;

/// A way to the member that a request may keep for as long as it waits.
pub(crate) trait MemberHandle: Clone + Send + Sync + 'static {
    /// The member.
    type Member: Backend;

    /// The member.
    fn member(&self) -> &Self::Member;
}

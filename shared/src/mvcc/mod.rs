//! The key-value store of version 3: keys with all their versions, until a compaction removes old ones.
//!
//! The values are in a database ([`db`]); the index over the keys is in memory. Both share structure with what a
//! [`Reader`] holds, so ranges, hashes and snapshots run on other threads without a lock. Pure: no I/O of its own, no
//! clock, no threads.
//!
//! **Invariant**: what a write does depends on the requests before it only, never on how far a commit or a
//! compaction has got.

mod check;
mod compact;
pub mod db;
mod error;
mod file;
mod hash;
mod history;
mod leases;
mod memory;
mod reader;
mod record;
mod revision;
mod store;
mod tree;
mod tree_iter;
mod txn;
mod versions;

#[cfg(test)]
mod tests;

pub use compact::Progress;
pub use error::{Error, Failure};
pub use file::new_buckets;
pub use hash::KeyHash;
pub use leases::{Leases, PlainLeases};
pub use memory::MemoryState;
pub use reader::Reader;
pub use revision::Revision;
pub use store::{Applied, Event, EventKind, Store};

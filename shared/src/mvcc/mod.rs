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
mod cost;
pub mod db;
mod error;
mod events;
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
mod txn;
mod versions;
mod watched;

#[cfg(test)]
mod tests;

pub use check::{
    DEPTH_MAX, TXN_OPERATIONS_MAX_DEFAULT, check_delete_range, check_put, check_range, check_txn, has_puts,
    is_read_only, is_serializable,
};
pub use compact::Progress;
pub use cost::{LEASE_COST_BYTES, put_cost_bytes, txn_cost_bytes};
pub use error::{Error, Failure};
pub use events::EventBatch;
pub use file::new_buckets;
pub use hash::KeyHash;
pub use leases::{Leases, PlainLeases};
pub use memory::MemoryState;
pub use reader::Reader;
pub use revision::Revision;
pub use store::{Applied, Event, EventKind, Store};

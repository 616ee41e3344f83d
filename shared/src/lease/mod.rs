//! Leases of the v3 API: keys that are removed together when nobody keeps their lease alive.
//!
//! The [`Lessor`] has no clock and no thread: every call that depends on the time gets `now`. What the log says
//! (grants, revocations, attached keys, checkpoints) has the same effect on every member; expiry depends on the clock of the
//! leader, whose lessor is the primary one, and takes effect only by a revocation in the log.

mod error;
mod expiry;
mod lessor;
mod record;

pub use error::{LeaseError, RecordError};
pub use lessor::{Checkpointing, Grant, KeepAlive, Lessor, Restored, Settings, TimeToLive, minimum_ttl};
pub use record::{decode, encode, record_key};

/// Names a lease. 0 stands for "no lease", and in a request for "the server chooses"; negative ids are valid.
pub type LeaseId = i64;

/// No lease.
pub const NO_LEASE: LeaseId = 0;

/// The longest time to live of a lease, in seconds.
pub const TTL_MAX: i64 = 9_000_000_000;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

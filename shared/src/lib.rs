//! The protocol, formats and types that all programs of etcd-rs stand on.
//!
//! Everything here is pure (no I/O, no clock, no randomness) apart from the real files of `disk`, `client` and
//! `net`: time, bytes and order come in as arguments.

pub mod account;
pub mod bolt;
#[cfg(feature = "net")]
pub mod client;
pub mod disk;
pub mod entry;
pub mod error;
pub mod event;
#[cfg(feature = "flags")]
pub mod flags;
pub mod fuzz;
pub mod go_values;
pub mod id;
pub mod json;
pub mod lease;
pub mod legacy;
pub mod log_replay;
pub mod mvcc;
#[cfg(feature = "net")]
pub mod net;
pub mod pb;
pub mod planted;
pub mod quote;
pub mod snap;
pub mod store;
pub mod suggest;
pub mod time;
pub mod url;
pub mod v2;
pub mod v3;
pub mod version;
pub mod wal;
pub mod watch;

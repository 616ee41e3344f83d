//! The log and the snapshots, through their public interface, on real, simulated and damaged disks.
#![expect(clippy::unwrap_used, reason = "in a test, that is the failure")]

mod common;
mod corpus;
mod crash;
mod damage;
mod displaced;
mod faults;
mod model;
mod real;
mod snapshot;
mod stream;
mod survey;
mod torn;
mod written;

//! Files of bbolt's format: against a model, through crashes, and with damage.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;
mod crash;
mod damage;
mod model;
mod recorded;
mod writer;

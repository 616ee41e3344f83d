//! Tests of the store as a whole.

mod hashes;
mod model;
mod rules;
mod txn;

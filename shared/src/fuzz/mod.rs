//! Bodies for fuzzers: plain functions that panic if a decoder breaks a promise, whatever the bytes are.
//!
//! `cargo test` runs them on the corpora beside the tests and on mutations of them; a fuzzer runs them on
//! anything.

mod storage;

pub use storage::{protobuf, snapshot, urls, wal_open, wal_reader};

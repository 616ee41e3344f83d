//! Bodies for fuzzers: plain functions that panic if a decoder breaks a promise, whatever the bytes are.
//!
//! `cargo test` runs them on the corpora beside the tests and on mutations of them; a fuzzer runs them on
//! anything.

mod legacy;
mod mvcc;
mod storage;

pub use legacy::{legacy_command, legacy_files, legacy_log, legacy_snapshot};
pub use mvcc::transactions;
pub use storage::{bolt_pages, entry_content, protobuf, snapshot, urls, wal_open, wal_reader, wal_survey};

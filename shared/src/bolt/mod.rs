//! Files of bbolt, the embedded store in which etcd 3.x keeps its keys (`member/snap/db`).
//!
//! A file is a tree of pages that are never overwritten while they count: a commit writes new ones and then one of two
//! meta pages. [`Bolt`] is the writer, [`View`] a state for readers, [`read`] opens a file for reading alone, and [`check`]
//! checks a whole one. The
//! layout of the pages is in `format`.
//!
//! Invariants: a page is given to new contents only if neither of the last two states nor a [`View`] uses it; what a
//! meta page refers to is synced before it is written; nothing is written after a failed write.
//! Files are read with plain reads, not mapped: a disk error is an error and not a signal.

mod cache;
mod changes;
mod check;
mod copy;
mod cursor;
mod edit;
mod error;
mod format;
mod free;
mod node;
mod pages;
mod scan;
mod view;
mod writer;

pub use changes::{Changes, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use check::{BucketStats, Finding, PageCounts, Report, check};
pub use copy::Chunks;
pub use error::{BoltError, Damage, MetaDamage};
pub use view::{Bucket, Entries, View};
pub use writer::{Bolt, Committed, Options, read};

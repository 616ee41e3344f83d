//! Watches of the v3 API: who is told of which change, in which order, and how fast a slow receiver catches up.
//!
//! A [`WatchHub`] has the watches of all streams of a member. The store notifies it of each revision with
//! [`notify`](WatchHub::notify), whose cost depends on the watches that match, not on the others. Each stream has a bounded
//! queue of responses; a watch whose stream's queue is full, or that begins in the past, is *behind*: it reads the history
//! of the store in rounds ([`catch_up`](WatchHub::catch_up)) until it has all, and then gets new events as they come.
//!
//! **Invariants.** Each watch gets every event of its keys from its first revision on, once, in the order of revisions, and
//! the events of a revision in one response (unless the client allows fragments). A response of progress comes after all
//! events up to its revision. The queue of a stream is bounded in responses and in bytes.
//!
//! There is no clock, no thread and no I/O here: the time is an argument, the history is a trait, and wakers are
//! returned so that the caller wakes after its locks are released.

mod event;
mod history;
mod hub;
mod index;
mod progress;
mod queue;
mod registry;
mod response;
mod round;
mod selection;
mod stream;

pub use event::{Event, EventKind, Events};
pub use history::{Batch, History, HistoryError, Limits};
pub use hub::{CatchUp, Counts, Settings, WatchHub};
pub use queue::Ended;
pub use response::{Content, Message, Origin, Response};
pub use selection::{Refusal, Selection};
pub use stream::{Create, WatchStream};

/// The id in the response to a request that was refused, and to a request for the progress of a whole stream.
pub const NO_WATCH: i64 = -1;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

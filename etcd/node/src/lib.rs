//! One member of a cluster, as a value: nothing in this crate reads a clock, opens a file or a socket, or
//! starts a thread. Time, messages and the results of disk operations are arguments; the actions to carry out
//! are return values.
//!
//! - [`Node`] is driven by a server or a simulator: it holds the calls that wait, and their deadlines.
//! - [`member`] holds consensus, the list of members, and the effects of their entries.
//! - A [`Command`] is the content of an entry; the [`StateMachine`] applies it.

mod action;
mod command;
mod dead_members;
mod machine;
pub mod member;
mod node;
mod publication;
mod reads;
mod refusals;
pub mod slow;
mod snapshot_policy;
pub mod time;
pub mod v3;
pub use shared::version;

pub use action::{Action, AnsweredCall, Call, Changes, Config, End, Notice, Unavailable};
pub use command::{Command, Outcome};
pub use machine::{Machine, Position, StateMachine};
pub use node::Node;

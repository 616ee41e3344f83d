//! One member of a cluster, as a value: nothing in this crate reads a clock, opens a file or a socket, or starts a
//! thread. Time, messages and what the disk did come in as arguments; what is to be done comes out.
//!
//! - [`Node`] is what a server, or a simulator, drives: it knows who waits for what, and what time does to them.
//! - [`member`] is consensus, the members, and what their entries do.
//! - A [`Command`] is what an entry asks of the [`StateMachine`].

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
pub mod version;

pub use action::{Action, AnsweredCall, Call, Changes, Config, End, Notice, Unavailable};
pub use command::{Command, Outcome};
pub use machine::StateMachine;
pub use node::Node;

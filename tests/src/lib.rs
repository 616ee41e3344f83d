//! Runs the real programs and the recorded suites against them.
//!
//! Everything here goes through the doors that users have: command lines, sockets, signals and files. The
//! crate knows nothing of how the programs are built, so it can be pointed at any other etcd
//! ([`programs`] tells how), which is how the recorded suites were checked themselves.
//!
//! - [`programs`], [`ports`], [`process`], [`server`]: find, start, stop and kill programs;
//! - [`http`], [`json`], [`clock`]: speak to them with control over every byte, read what they answer;
//! - [`recorded`]: plays recorded scenarios and compares; [`examples`]: those of the documentation;
//! - [`prometheus`]: pages of measures, and expressions over them;
//! - [`browser`]: a real one, for the dashboard;
//! - [`load`]: writers that remember what was acknowledged.
//!
//! But for one thing, which looks inside: [`simulator`] runs members of ours in one thread, from a seed.

pub mod browser;
pub mod clock;
pub mod examples;
pub mod failure;
pub mod files;
pub mod guarded;
pub mod http;
pub mod json;
pub mod load;
pub mod ports;
pub mod pprof;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod recorded;
pub mod server;
pub mod simulator;

pub use failure::{Check, Context, Failure};

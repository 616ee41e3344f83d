//! Whole migrations: of recorded directories, of damaged ones, and of those that a crash interrupts.

#![expect(clippy::unwrap_used, reason = "a test that ends here has failed")]

mod agree;
mod common;
mod crash;
mod damage;
#[path = "../../examples/old_directory/generate.rs"]
mod generate;
mod killed;
mod outcome;

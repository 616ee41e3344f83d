//! Files of bbolt's format: against a model, through crashes, and with damage.

mod common;
mod crash;
mod damage;
mod model;
mod recorded;
mod writer;

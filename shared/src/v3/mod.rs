//! The v3 API: its messages, and what they mean.

pub mod internal;
pub mod pb;

//! The v3 API: its messages, and what they mean.

mod error;
pub mod internal;
pub mod pb;

pub use self::error::{Error, StatusCode};
pub use crate::version::Level;

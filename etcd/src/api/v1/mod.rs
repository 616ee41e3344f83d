//! The pages of 0.x: `/v1`, and pages in plain text.

pub(crate) mod dialect;
pub(crate) mod keys;
pub(crate) mod pages;

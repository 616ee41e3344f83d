//! What 0.x had: `/v1`, and its pages in plain text.

pub(crate) mod dialect;
pub(crate) mod keys;
pub(crate) mod pages;

//! `/v2` and `/mod/v2`: keys, members, users and roles, locks.

pub(crate) mod auth;
pub(crate) mod keys;
pub(crate) mod locks;
mod machine_keys;
pub(crate) mod machines;
pub(crate) mod members;
pub(crate) mod plain_get;

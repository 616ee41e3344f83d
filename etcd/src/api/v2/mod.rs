//! `/v2` and `/mod/v2`: keys, members, users and roles, locks.

pub(crate) mod auth;
pub(crate) mod cluster_0_4;
pub(crate) mod keys;
pub(crate) mod locks;
pub(crate) mod members;
pub(crate) mod parse;
pub(crate) mod plain_get;

//! Pages for those who run the member: how it is, what it counts, what it can be told.

pub(crate) mod debug_vars;
pub(crate) mod health;
pub(crate) mod log_level;
pub(crate) mod metrics_page;
pub(crate) mod pprof;
pub(crate) mod stats;
pub(crate) mod version;

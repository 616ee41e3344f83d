//! Pages for those who run the member: how it is, what it counts, what it can be told.

pub(crate) mod health;
pub(crate) mod metrics_page;
pub(crate) mod pprof;
pub(crate) mod process;
pub(crate) mod stats;

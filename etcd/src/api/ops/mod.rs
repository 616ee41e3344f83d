//! Pages for operators: health, metrics, statistics, profiles and the log level.

pub(crate) mod health;
pub(crate) mod metrics_page;
pub(crate) mod pprof;
pub(crate) mod process;
pub(crate) mod stats;

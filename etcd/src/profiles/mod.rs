//! Profiles of this process in pprof's format, for `-enable-pprof`: CPU, heap and threads.
//!
//! Taking a profile reads files, resolves symbols and compresses data: run it on a thread that may block.

mod builder;
pub(crate) mod cpu;
pub(crate) mod heap;
mod proto;
mod symbols;
pub(crate) mod threads;

use std::io;

use shared::time::UnixNanos;

use self::builder::Builder;
use crate::log;

/// Prepares the process for profiles: may restart it (`exec`). Call it before anything else.
pub fn prepare() {
    heap::restart_with_sampling();
}

/// Activates heap sampling and logs that profiles are served.
pub fn enable() {
    log::info!("etcdhttp", "pprof is enabled under /debug/pprof");
    if let Err(error) = heap::switch_on() {
        log::warning!("etcdhttp", "heap profiles are not available: {error}");
    }
}

/// The name of the function at an address in this process.
pub(crate) fn function_at(address: u64) -> Option<String> {
    Some(symbols::resolve(address).pop()?.function)
}

/// A profile without samples, for values of these kinds and units.
pub(crate) fn empty(kinds: &[(&str, &str)], now: UnixNanos) -> io::Result<Vec<u8>> {
    Builder::new(kinds, now, Vec::new(), |_| Vec::new()).pack()
}

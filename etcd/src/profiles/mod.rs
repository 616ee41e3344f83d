//! Profiles of this process, in the format of pprof, for `-enable-pprof`: where it spends its CPU time, who holds its
//! memory, which threads it has.
//!
//! All of it reads files, looks up names and packs: it belongs on a thread that may block, not on the server's.

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

/// Brings the process into a state in which profiles can be taken: it may start once more, in its own place. To be
/// called before it has done anything.
pub fn prepare() {
    heap::restart_with_sampling();
}

/// Lets the allocator take samples, as soon as it is known that somebody may ask.
pub fn enable() {
    log::info!("etcdhttp", "pprof is enabled under /debug/pprof");
    if let Err(error) = heap::switch_on() {
        log::warning!("etcdhttp", "there will be no heap profiles: {error}");
    }
}

/// The name of the function at an address of this process.
pub(crate) fn function_at(address: u64) -> Option<String> {
    Some(symbols::resolve(address).pop()?.function)
}

/// A profile without samples, whose values would be of these kinds and units.
pub(crate) fn empty(kinds: &[(&str, &str)], now: UnixNanos) -> io::Result<Vec<u8>> {
    Builder::new(kinds, now, Vec::new(), |_| Vec::new()).pack()
}

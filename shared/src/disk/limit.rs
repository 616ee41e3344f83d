//! The limit on the size of files (`ulimit -f`).

use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Makes a write beyond the limit on the size of files fail with an error that names the file. Without it the system
/// kills the process with a signal, and the reason is not logged. To be called once, when a program starts.
pub fn report_size_limit() {
    // The signal only has to be caught: the write that caused it fails with EFBIG. An error here is ignored: then the
    // system's default stays.
    let _ = signal_hook::flag::register(Signal::XFSZ.as_raw(), Arc::new(AtomicBool::new(false)));
}

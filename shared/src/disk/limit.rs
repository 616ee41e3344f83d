//! The limit on the size of files (`ulimit -f`).

use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Makes a write beyond the limit on the size of files an error of that write, which names the file. Without it the
/// system ends the process by a signal, and nobody learns why. For a program to call once, when it starts.
pub fn report_size_limit() {
    // The signal only has to be caught: the write that brought it about fails with EFBIG. If it cannot be caught, all is
    // as it would be without this.
    let _ = signal_hook::flag::register(Signal::XFSZ.as_raw(), Arc::new(AtomicBool::new(false)));
}

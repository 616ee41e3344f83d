//! What the program says: its results on standard output, everything else on standard error.

use std::io::{self, Write as _};

/// A line on standard error, with the arguments of `format!`.
macro_rules! note {
    ($($argument:tt)*) => { $crate::output::note(&format!($($argument)*)) };
}

/// A line on standard error. That its reader is gone is no reason to stop: what is asked for is on standard output.
pub(crate) fn note(line: &str) {
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// All of a result on standard output.
///
/// # Errors
/// If it cannot be written, as on a disk that is full.
pub(crate) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

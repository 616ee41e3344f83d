//! Output: results on standard output, everything else on standard error.

use std::io::{self, Write as _};

/// Prints a line on standard error, with the arguments of `format!`.
macro_rules! note {
    ($($argument:tt)*) => { $crate::output::note(&format!($($argument)*)) };
}

/// Prints a line on standard error. A closed standard error is ignored: the results are on standard output.
pub(crate) fn note(line: &str) {
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Prints a whole result on standard output.
///
/// # Errors
/// If it cannot be written, such as on a full disk.
pub(crate) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

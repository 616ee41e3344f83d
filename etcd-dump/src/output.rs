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

/// Whether a result was written, or its reader has left. For commands whose exit status is a verdict: that does not
/// depend on whether anybody reads why.
///
/// # Errors
/// Every other failure.
pub(crate) fn unless_reader_left(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes until the reader leaves, and drops the rest.
pub(crate) struct UntilReaderLeaves<W>(pub(crate) W);

impl<W: io::Write> io::Write for UntilReaderLeaves<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_reader_left(self.0.flush())
    }
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

//! Password prompts.

use std::io::{self, Read as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::CliError;
use crate::output::Output;

/// The byte that a terminal sends for Ctrl-C while signals are off.
const CONTROL_C: u8 = 3;

/// Splits `NAME:PASSWORD`; for `NAME` alone, prompts for the password.
pub(crate) fn split_or_ask(text: &str, prompt: &str, out: &mut Output) -> Result<(String, String), CliError> {
    match text.split_once(':') {
        Some((user, password)) => Ok((user.to_owned(), password.to_owned())),
        None => Ok((text.to_owned(), ask(prompt, out)?)),
    }
}

/// Prompts and reads a line from standard input; a terminal does not show it.
pub(crate) fn ask(prompt: &str, out: &mut Output) -> Result<String, CliError> {
    out.text(prompt)?;
    out.flush()?;
    let echo_off = EchoOff::new();
    let line = read_line();
    drop(echo_off);
    out.line("")?;
    let line = line.map_err(|error| CliError::failed(format!("failed during password entry: {error}")))?;
    Ok(line.trim().to_owned())
}

/// Reads a line byte by byte, so that nothing after it is consumed.
fn read_line() -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while io::stdin().read(&mut byte)? == 1 && byte[0] != b'\n' {
        if byte[0] == CONTROL_C {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// While this value exists, the terminal does not echo.
///
/// It sends no signals either: a signal that ended the process here would leave the echo off.
struct EchoOff {
    before: Option<Termios>,
}

impl EchoOff {
    fn new() -> EchoOff {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &modes);
        }
        EchoOff { before }
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

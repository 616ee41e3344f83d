//! The result of reading the configuration, and how it is logged or printed.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::log::{self, Format, Level, Levels, LogControl, LogLine};

use super::Config;

/// What the program does next.
#[derive(Debug)]
pub enum Invocation {
    /// Run a member or a proxy.
    Run(Box<Startup>),
    /// Print something and exit.
    Exit(EarlyExit),
}

/// A configuration, and the log lines to write before the server starts.
#[derive(Debug)]
pub struct Startup {
    /// The configuration.
    pub config: Config,
    /// The log format.
    pub format: Format,
    /// Lines to write before the levels are applied.
    pub before: Vec<LogLine>,
    /// The log levels.
    pub levels: Levels,
    /// Lines to write after the levels are applied.
    pub after: Vec<LogLine>,
}

impl Startup {
    /// Applies the format and the levels to the log, and writes the lines. Returns the configuration.
    pub fn apply_to_log(self, log: &LogControl) -> Config {
        log.set_format(self.format);
        log::write_lines(&self.before);
        log.replace(self.levels);
        log::write_lines(&self.after);
        self.config
    }
}

/// The output and the exit status of a program that does not run.
#[derive(Debug, PartialEq, Eq)]
pub struct EarlyExit {
    /// The log format, as far as it was read.
    pub format: Format,
    /// Log lines.
    pub lines: Vec<LogLine>,
    /// Text for standard error, after the log lines.
    pub error: String,
    /// Text for standard output.
    pub output: String,
    /// The exit status.
    pub status: u8,
}

impl EarlyExit {
    /// Prints everything and returns the exit code.
    pub fn print(self, log: &LogControl) -> ExitCode {
        log.set_format(self.format);
        log::write_lines(&self.lines);
        // A closed pipe is not an error. A full disk is.
        let _ = io::stderr().write_all(self.error.as_bytes());
        let mut out = io::stdout().lock();
        match out.write_all(self.output.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let line = format!("etcd: write to standard output: {}\n", shared::disk::reason(&error));
                let _ = io::stderr().write_all(line.as_bytes());
                ExitCode::FAILURE
            }
            _ => ExitCode::from(self.status),
        }
    }
}

/// The log lines that are collected while the configuration is read.
#[derive(Debug, Default)]
pub(super) struct StartupLines {
    /// The log format, as far as it is known.
    pub(super) format: Format,
    pub(super) lines: Vec<LogLine>,
}

impl StartupLines {
    fn add(&mut self, level: Level, package: &'static str, text: String) {
        self.lines.push(LogLine { level, package, text });
    }

    pub(super) fn info(&mut self, text: String) {
        self.add(Level::Info, "flags", text);
    }

    pub(super) fn warning(&mut self, text: String) {
        self.add(Level::Warning, "flags", text);
    }

    pub(super) fn ignored(&mut self, what: &str) {
        self.warning(format!("{what} is no longer supported - ignoring."));
    }

    pub(super) fn main_info(&mut self, text: String) {
        self.add(Level::Info, "etcdmain", text);
    }

    pub(super) fn main_warning(&mut self, text: String) {
        self.add(Level::Warning, "etcdmain", text);
    }

    pub(super) fn notice(&mut self, text: String) {
        self.add(Level::Notice, "etcdmain", text);
    }

    pub(super) fn error(&mut self, text: String) {
        self.add(Level::Error, "etcdmain", text);
    }

    pub(super) fn critical(&mut self, text: String) {
        self.add(Level::Critical, "etcdmain", text);
    }
}

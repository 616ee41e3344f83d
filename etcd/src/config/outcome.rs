//! What comes of reading the configuration, and how it is told.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::log::{self, Format, Level, Levels, LogControl, LogLine};

use super::Config;

/// What the program is to do.
#[derive(Debug)]
pub enum Invocation {
    /// Be a member.
    Run(Box<Startup>),
    /// Say something and leave.
    Exit(EarlyExit),
}

/// A configuration, and what the log has to say before the server does.
#[derive(Debug)]
pub struct Startup {
    /// How to run.
    pub config: Config,
    /// The form of the log.
    pub format: Format,
    /// Lines for a log that still has its first levels.
    pub before: Vec<LogLine>,
    /// The levels that were asked for.
    pub levels: Levels,
    /// Lines for a log that has them.
    pub after: Vec<LogLine>,
}

impl Startup {
    /// Gives the log its levels and writes the lines; then the server may begin.
    pub fn apply_to_log(self, log: &LogControl) -> Config {
        log.set_format(self.format);
        log::write_lines(&self.before);
        log.replace(self.levels);
        log::write_lines(&self.after);
        self.config
    }
}

/// The last words of a program that does not run.
#[derive(Debug, PartialEq, Eq)]
pub struct EarlyExit {
    /// The form of the log, as far as it was understood.
    pub format: Format,
    /// For the log.
    pub lines: Vec<LogLine>,
    /// For standard error, after them.
    pub error: String,
    /// For standard output.
    pub output: String,
    /// The exit status.
    pub status: u8,
}

impl EarlyExit {
    /// Says it all.
    pub fn print(self, log: &LogControl) -> ExitCode {
        log.set_format(self.format);
        log::write_lines(&self.lines);
        // Whoever closed a pipe does not want to know. A disk that is full is a failure.
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

/// Lines that are collected while the configuration is read.
#[derive(Debug, Default)]
pub(super) struct StartupLines {
    /// The form of the log, as far as it is known.
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

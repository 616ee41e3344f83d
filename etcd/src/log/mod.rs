//! The log: one line an event on standard error, in the form that tools for etcd 2.x read.
//!
//! ```text
//! 2026-11-21 10:52:00.123456 I | etcdserver: published {Name:m ClientURLs:[…]} to cluster 719e5b79a02829f4
//! ```
//!
//! Events are `tracing` events, so that the libraries below write here too; the target is the *package* of the
//! line; with [`Format::Json`] a line is an object instead. `tracing` has no CRITICAL and no NOTICE: the macros [`critical!`] and [`notice!`] mark an error and an
//! informational event by a field. Each package has a level of its own, changeable while running.
//!
//! **Invariant:** whether an event is wanted is decided once for each place in the source, and again when a
//! level changes, so a line that is filtered out costs one load and no formatting.

mod format;
mod level;
mod raft;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use shared::time::UnixNanos;

pub use format::Format;
pub use level::{Level, Levels, LevelsError};
pub use raft::raft_logger;

use writer::LogWriter;

/// Changes the levels and the form of the running process's log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogControl {
    settings: Arc<LogSettings>,
}

/// What can be changed while the log is written.
#[derive(Debug)]
struct LogSettings {
    levels: RwLock<Levels>,
    is_json: AtomicBool,
}

impl LogSettings {
    fn new(levels: Levels) -> LogSettings {
        LogSettings { levels: RwLock::new(levels), is_json: AtomicBool::new(false) }
    }

    fn format(&self) -> Format {
        if self.is_json.load(Ordering::Relaxed) { Format::Json } else { Format::Text }
    }
}

impl LogControl {
    /// One level for all packages; forgets what was set for single ones.
    pub fn set_all(&self, level: Level) {
        self.replace(Levels::all(level));
    }

    /// Replaces all levels.
    pub fn replace(&self, levels: Levels) {
        *self.settings.levels.write() = levels;
        tracing::callsite::rebuild_interest_cache();
    }

    /// Writes all further lines in this form; as JSON also what a panic says.
    pub fn set_format(&self, format: Format) {
        self.settings.is_json.store(format == Format::Json, Ordering::Relaxed);
        if format == Format::Json {
            std::panic::set_hook(Box::new(log_panic));
        }
    }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let stack = Backtrace::capture();
    let stack = (stack.status() == BacktraceStatus::Captured).then(|| stack.to_string());
    critical!("etcdmain", json_stack = stack, "{panic}");
}

/// A line that is not written yet: configuration is read before the log has its levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How bad it is.
    pub level: Level,
    /// The part of the program that speaks.
    pub package: &'static str,
    /// What it says.
    pub text: String,
}

/// Starts the log of this process on standard error, with the level INFO for all packages.
///
/// Local times are made of what `clock` says. Only the first call of a process has an effect; all give the same
/// control.
pub fn start(clock: fn() -> UnixNanos) -> LogControl {
    static CONTROL: OnceLock<LogControl> = OnceLock::new();
    let control = CONTROL.get_or_init(|| {
        let settings = Arc::new(LogSettings::new(Levels::all(Level::Info)));
        let writer = LogWriter::new(settings.clone(), clock, writer::to_stderr);
        // Somebody else's subscriber stays: then the lines go where it wants them.
        let _ = tracing::subscriber::set_global_default(writer);
        LogControl { settings }
    });
    control.clone()
}

/// Writes lines that were collected before, if their level is wanted.
///
/// The package is not known where the macro stands, so each of those that configuration speaks for has a place.
pub fn write_lines(lines: &[LogLine]) {
    for LogLine { level, package, text } in lines {
        match *package {
            "flags" => emit!("flags", *level, text),
            "etcdmain" => emit!("etcdmain", *level, text),
            other => panic!("no lines of the package {other} are ever collected"),
        }
    }
}

/// Writes a line of a level that is known at run time only, and with these fields.
macro_rules! emit {
    ($package:literal, $level:expr, $text:expr $(, $($fields:tt)+)?) => {
        match $level {
            $crate::log::Level::Critical => $crate::log::critical!($package, $($($fields)+,)? "{}", $text),
            $crate::log::Level::Error => $crate::log::error!($package, $($($fields)+,)? "{}", $text),
            $crate::log::Level::Warning => $crate::log::warning!($package, $($($fields)+,)? "{}", $text),
            $crate::log::Level::Notice => $crate::log::notice!($package, $($($fields)+,)? "{}", $text),
            $crate::log::Level::Info => $crate::log::info!($package, $($($fields)+,)? "{}", $text),
            $crate::log::Level::Debug => $crate::log::debug!($package, $($($fields)+,)? "{}", $text),
            $crate::log::Level::Trace => $crate::log::trace!($package, $($($fields)+,)? "{}", $text),
        }
    };
}

/// The process cannot go on: `critical!("etcdmain", "no room on {disk}")`.
macro_rules! critical {
    ($package:literal, $($text:tt)+) => {
        ::tracing::event!(target: $package, ::tracing::Level::ERROR, critical = true, $($text)+)
    };
}

/// Something failed, the process goes on.
macro_rules! error {
    ($package:literal, $($text:tt)+) => { ::tracing::error!(target: $package, $($text)+) };
}

/// Something is not as it should be.
macro_rules! warning {
    ($package:literal, $($text:tt)+) => { ::tracing::warn!(target: $package, $($text)+) };
}

/// Normal, and rare enough to be worth a look.
macro_rules! notice {
    ($package:literal, $($text:tt)+) => {
        ::tracing::event!(target: $package, ::tracing::Level::INFO, notice = true, $($text)+)
    };
}

/// Normal.
macro_rules! info {
    ($package:literal, $($text:tt)+) => { ::tracing::info!(target: $package, $($text)+) };
}

/// For those who look for a fault in the program.
macro_rules! debug {
    ($package:literal, $($text:tt)+) => { ::tracing::debug!(target: $package, $($text)+) };
}

/// Every step.
macro_rules! trace {
    ($package:literal, $($text:tt)+) => { ::tracing::trace!(target: $package, $($text)+) };
}

pub(crate) use {critical, debug, emit, error, info, notice, trace, warning};

#[cfg(test)]
mod tests;

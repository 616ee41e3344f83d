//! The log: one line per event on standard error, in the format that tools for etcd 2.x read.
//!
//! ```text
//! 2026-11-21 10:52:00.123456 I | etcdserver: published {Name:m ClientURLs:[…]} to cluster 719e5b79a02829f4
//! ```
//!
//! Events are `tracing` events, so libraries log here too; an event's target is the *package* of the line. With
//! [`Format::Json`] each line is a JSON object. `tracing` has no levels CRITICAL and NOTICE: the macros [`critical!`]
//! and [`notice!`] mark an error or an informational event by a field. Each package has its own level, which can be
//! changed at run time.
//!
//! **Invariant:** the level check is made once per call site, and again after each change of levels, so a filtered line
//! costs one load and no formatting.

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

/// Changes the levels and the format of the log at run time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogControl {
    settings: Arc<LogSettings>,
}

/// The settings that can be changed at run time.
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
    /// Sets one level for all packages, and drops the levels of single packages.
    pub fn set_all(&self, level: Level) {
        self.replace(Levels::all(level));
    }

    /// Replaces all levels.
    pub fn replace(&self, levels: Levels) {
        *self.settings.levels.write() = levels;
        tracing::callsite::rebuild_interest_cache();
    }

    /// Writes all further lines in this format. With JSON, panics are logged as JSON too.
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

/// A line to write later: the configuration is read before the log has its levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The level.
    pub level: Level,
    /// The package that the line belongs to.
    pub package: &'static str,
    /// The message.
    pub text: String,
}

/// Starts the log of this process on standard error, with the level INFO for all packages.
///
/// `clock` gives the time of each line, which is shown in local time. Only the first call in a process has an effect;
/// all calls return the same control.
pub fn start(clock: fn() -> UnixNanos) -> LogControl {
    static CONTROL: OnceLock<LogControl> = OnceLock::new();
    let control = CONTROL.get_or_init(|| {
        let settings = Arc::new(LogSettings::new(Levels::all(Level::Info)));
        let writer = LogWriter::new(settings.clone(), clock, writer::to_stderr);
        // If another subscriber is installed already, it stays, and lines go there.
        let _ = tracing::subscriber::set_global_default(writer);
        LogControl { settings }
    });
    control.clone()
}

/// Writes collected lines, if their level is enabled.
///
/// The macros need a literal package, so each package that is used for such lines has its own call.
pub fn write_lines(lines: &[LogLine]) {
    for LogLine { level, package, text } in lines {
        match *package {
            "flags" => emit!("flags", *level, text),
            "etcdmain" => emit!("etcdmain", *level, text),
            other => panic!("no lines of the package {other} are ever collected"),
        }
    }
}

/// Writes a line with these fields, at a level that is known only at run time.
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

/// The process cannot continue: `critical!("etcdmain", "no room on {disk}")`.
macro_rules! critical {
    ($package:literal, $($text:tt)+) => {
        ::tracing::event!(target: $package, ::tracing::Level::ERROR, critical = true, $($text)+)
    };
}

/// Something failed; the process continues.
macro_rules! error {
    ($package:literal, $($text:tt)+) => { ::tracing::error!(target: $package, $($text)+) };
}

/// Something is not as it should be.
macro_rules! warning {
    ($package:literal, $($text:tt)+) => { ::tracing::warn!(target: $package, $($text)+) };
}

/// A normal but rare event.
macro_rules! notice {
    ($package:literal, $($text:tt)+) => {
        ::tracing::event!(target: $package, ::tracing::Level::INFO, notice = true, $($text)+)
    };
}

/// A normal event.
macro_rules! info {
    ($package:literal, $($text:tt)+) => { ::tracing::info!(target: $package, $($text)+) };
}

/// For debugging.
macro_rules! debug {
    ($package:literal, $($text:tt)+) => { ::tracing::debug!(target: $package, $($text)+) };
}

/// Every step, for debugging.
macro_rules! trace {
    ($package:literal, $($text:tt)+) => { ::tracing::trace!(target: $package, $($text)+) };
}

pub(crate) use {critical, debug, emit, error, info, notice, trace, warning};

#[cfg(test)]
mod tests;

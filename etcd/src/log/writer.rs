//! The `tracing` subscriber that writes the lines.
//!
//! It ignores spans: each line is complete by itself.

use std::io::{self, Write as _};
use std::sync::Arc;

use jiff::tz::TimeZone;
use shared::time::UnixNanos;
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use super::LogSettings;
use super::format::{self, Format};
use super::level::Level;

/// Writes events as lines to `out`.
pub(super) struct LogWriter<F> {
    settings: Arc<LogSettings>,
    clock: fn() -> UnixNanos,
    zone: TimeZone,
    out: F,
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> LogWriter<F> {
    pub(super) fn new(settings: Arc<LogSettings>, clock: fn() -> UnixNanos, out: F) -> LogWriter<F> {
        LogWriter { settings, clock, zone: TimeZone::system(), out }
    }

    fn wants(&self, event: &Metadata<'_>) -> bool {
        let package = package(event.target());
        let levels = self.settings.levels.read();
        !event.is_span() && Level::of(event) <= levels.of(package)
    }
}

/// Writes each line with one call, so that lines of several threads do not mix.
pub(super) fn to_stderr(line: &[u8]) {
    // An error of the log cannot be reported anywhere.
    let _ = io::stderr().lock().write_all(line);
}

/// The package of an event: its target, or the package for a module path.
fn package(target: &str) -> &str {
    let Some((krate, module)) = target.split_once("::") else { return target };
    match (krate, module.split("::").next().unwrap_or(module)) {
        ("etcd", "http") => "etcdhttp",
        ("etcd", "peers") => "rafthttp",
        ("etcd", "server" | "member") => "etcdserver",
        ("etcd", "config") => "etcdmain",
        ("etcd" | "shared", part) => part,
        _ => krate,
    }
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Subscriber for LogWriter<F> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.settings.levels.read().widest())
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let (level, package, now) = (Level::of(metadata), package(metadata.target()), (self.clock)());
        let line = match self.settings.format() {
            Format::Text => format::text(now, &self.zone, level, package, event),
            Format::Json => format::json(now, level, package, event),
        };
        (self.out)(line.as_bytes());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

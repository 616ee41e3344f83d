//! The `tracing` subscriber that writes the lines.
//!
//! It keeps no spans: a line says all by itself.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::Arc;

use jiff::tz::TimeZone;
use parking_lot::RwLock;
use shared::time::UnixNanos;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use super::level::{Level, Levels};

/// Writes events as lines to `out`.
pub(super) struct Writer<F> {
    levels: Arc<RwLock<Levels>>,
    clock: fn() -> UnixNanos,
    zone: TimeZone,
    out: F,
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Writer<F> {
    pub(super) fn new(levels: Arc<RwLock<Levels>>, clock: fn() -> UnixNanos, out: F) -> Writer<F> {
        Writer { levels, clock, zone: TimeZone::system(), out }
    }

    fn wants(&self, event: &Metadata<'_>) -> bool {
        let package = package(event.target());
        let levels = self.levels.read();
        !event.is_span() && Level::of(event) <= levels.of(package)
    }
}

/// One write for each line, so that lines of several threads do not mix.
pub(super) fn to_stderr(line: &[u8]) {
    // There is nobody to tell that the log cannot be written.
    let _ = io::stderr().lock().write_all(line);
}

/// The package of an event: its target, or what stands for the module that is its target.
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

impl<F: Fn(&[u8]) + Send + Sync + 'static> Subscriber for Writer<F> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.levels.read().widest())
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = Text(String::with_capacity(160));
        // A clock far outside of the calendar gives no date; the line matters more.
        if let Ok(now) = jiff::Timestamp::from_nanosecond(i128::from((self.clock)().0)) {
            let now = now.to_zoned(self.zone.clone());
            let _ = write!(
                text.0,
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06} ",
                now.year(),
                now.month(),
                now.day(),
                now.hour(),
                now.minute(),
                now.second(),
                now.subsec_nanosecond() / 1000
            );
        }
        let _ = write!(text.0, "{} | {}: ", Level::of(metadata).letter(), package(metadata.target()));
        event.record(&mut text);
        text.0.push('\n');
        (self.out)(text.0.as_bytes());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The line as it grows: the message first, then the other fields as ` name=value`.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(Plain(&mut self.0), "{value:?}"),
            "critical" | "notice" => Ok(()),
            name => write!(Plain(&mut self.0), " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Lets no control character through: what a client sends must not forge lines or steer a terminal.
struct Plain<'a>(&'a mut String);

impl fmt::Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

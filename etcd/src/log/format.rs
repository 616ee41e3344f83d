//! The two log formats: text for people and old tools, and JSON objects.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use shared::time::UnixNanos;
use tracing::Event;
use tracing::field::{Field, Visit};

use super::level::Level;

/// The prefix of fields that appear only in JSON, without the prefix: the message already contains their value.
const JSON_PREFIX: &str = "json_";

/// Fields that mark the level of an event.
const LEVEL_MARKS: [&str; 2] = ["critical", "notice"];

/// The fixed fields of every JSON line. An event's own field with such a name gets a trailing `_`.
const RESERVED_NAMES: [&str; 4] = ["ts", "level", "pkg", "msg"];

/// The format of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `2026-11-21 10:52:00.123456 I | etcdserver: text`, in local time.
    #[default]
    Text,
    /// `{"ts":"2026-11-21T10:52:00.123456Z","level":"info","pkg":"etcdserver","msg":"text"}`, then the event's
    /// fields, if any.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err("must be \"text\" or \"json\"".to_owned()),
        }
    }
}

/// A text line, with the line end.
pub(super) fn text(
    now: UnixNanos,
    zone: &TimeZone,
    level: Level,
    package: &str,
    event: &Event<'_>,
) -> String {
    let mut text = TextVisitor(String::with_capacity(160));
    // A time outside the calendar is left out; the line is still written.
    if let Some(now) = timestamp(now) {
        let now = now.to_zoned(zone.clone());
        // Writing to a String cannot fail.
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
    let _ = write!(text.0, "{} | {package}: ", level.letter());
    event.record(&mut text);
    text.0.push('\n');
    text.0
}

/// A JSON line, with the line end.
pub(super) fn json(now: UnixNanos, level: Level, package: &str, event: &Event<'_>) -> String {
    let mut fields = JsonVisitor::default();
    event.record(&mut fields);
    let mut line = String::with_capacity(160 + fields.others.len());
    // Writing to a String cannot fail.
    let _ = match timestamp(now) {
        Some(now) => write!(line, "{{\"ts\":\"{now:.6}\""),
        None => write!(line, "{{\"ts\":null"),
    };
    let _ = write!(line, ",\"level\":\"{}\",\"pkg\":", level.to_string().to_lowercase());
    quote(&mut line, &package);
    let _ = write!(line, ",\"msg\":\"{}\"{}}}", fields.message, fields.others);
    line.push('\n');
    line
}

fn timestamp(now: UnixNanos) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(now.0)).ok()
}

/// Builds a text line: the message first, then the other fields as ` name=value`.
struct TextVisitor(String);

impl Visit for TextVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(ControlEscaper(&mut self.0), "{value:?}"),
            name if LEVEL_MARKS.contains(&name) || name.starts_with(JSON_PREFIX) => Ok(()),
            name => write!(ControlEscaper(&mut self.0), " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Collects the message and the other fields of a JSON line; both are already escaped, the fields as `,"name":value`.
#[derive(Default)]
struct JsonVisitor {
    message: String,
    others: String,
}

impl JsonVisitor {
    fn add(&mut self, field: &Field, value: impl FnOnce(&mut String)) {
        let name = field.name();
        if LEVEL_MARKS.contains(&name) {
            return;
        }
        let name = name.strip_prefix(JSON_PREFIX).unwrap_or(name);
        self.others.push(',');
        match RESERVED_NAMES.contains(&name) {
            true => quote(&mut self.others, &format_args!("{name}_")),
            false => quote(&mut self.others, &name),
        }
        self.others.push(':');
        value(&mut self.others);
    }

    fn number(&mut self, field: &Field, number: &dyn fmt::Display) {
        self.add(field, |out| {
            let _ = write!(out, "{number}");
        });
    }
}

impl Visit for JsonVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(JsonEscaper(&mut self.message), "{value:?}");
        } else {
            self.add(field, |out| quote(out, &format_args!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities and no NaN.
        if value.is_finite() {
            self.number(field, &value);
        } else {
            self.record_debug(field, &value);
        }
    }
}

fn quote(out: &mut String, value: &dyn fmt::Display) {
    out.push('"');
    let _ = write!(JsonEscaper(out), "{value}");
    out.push('"');
}

/// Escapes control characters: text from a client must not forge lines or control a terminal.
struct ControlEscaper<'a>(&'a mut String);

impl fmt::Write for ControlEscaper<'_> {
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

/// Escapes text for the inside of a JSON string.
struct JsonEscaper<'a>(&'a mut String);

impl fmt::Write for JsonEscaper<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                '\n' => self.0.push_str("\\n"),
                '\t' => self.0.push_str("\\t"),
                // U+2028 and U+2029 end lines for some readers.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    write!(self.0, "\\u{:04x}", u32::from(c))?;
                }
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

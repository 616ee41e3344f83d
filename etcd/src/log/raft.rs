//! What the consensus library says, as lines of the package `raft`.

use std::fmt::{self, Write as _};

use slog::{Drain, KV as _, Key, Logger, Never, OwnedKVList, Record, Serializer};

use super::{Level, emit};

/// A logger for the `raft` crate: `raft: a5532e447404284a became leader at term 2`.
pub fn raft_logger() -> Logger {
    Logger::root(RaftDrain, slog::o!())
}

struct RaftDrain;

/// How messages begin that tell more of the library than of the member.
const LIBRARY_MESSAGES: &[&str] = &["switched to configuration", "RawNode created with id"];

impl Drain for RaftDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let message = record.msg().to_string();
        // What the original does not tell either.
        let own = LIBRARY_MESSAGES.iter().any(|begin| message.starts_with(begin));
        let wanted = if own { slog::Level::Debug } else { record.level() };
        if !self.is_enabled(wanted) {
            return Ok(());
        }
        let mut fields = RaftFields::default();
        // Serializing into a String cannot fail.
        let _ = values.serialize(record, &mut fields);
        let _ = record.kv().serialize(record, &mut fields);
        let member = fields.member.map(|id| format!("{id:x}"));
        emit!("raft", level(wanted), fields.line(&message), json_member = member, json_term = fields.term);
        Ok(())
    }

    fn is_enabled(&self, wanted: slog::Level) -> bool {
        match level(wanted) {
            Level::Critical | Level::Error => tracing::enabled!(target: "raft", tracing::Level::ERROR),
            Level::Warning => tracing::enabled!(target: "raft", tracing::Level::WARN),
            Level::Notice | Level::Info => tracing::enabled!(target: "raft", tracing::Level::INFO),
            Level::Debug => tracing::enabled!(target: "raft", tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(target: "raft", tracing::Level::TRACE),
        }
    }
}

fn level(level: slog::Level) -> Level {
    match level {
        slog::Level::Critical => Level::Critical,
        slog::Level::Error => Level::Error,
        slog::Level::Warning => Level::Warning,
        slog::Level::Info => Level::Info,
        slog::Level::Debug => Level::Debug,
        slog::Level::Trace => Level::Trace,
    }
}

/// The values that come with a message.
#[derive(Default)]
struct RaftFields {
    member: Option<u64>,
    term: Option<u64>,
    /// The last comes first, as the library hands them over.
    others: Vec<String>,
}

impl RaftFields {
    fn line(&self, message: &str) -> String {
        let mut line = self.member.map(|id| format!("{id:x} ")).unwrap_or_default();
        // Most messages tell the term themselves.
        let term = self.term.filter(|_| !message.contains("term")).map(|term| format!("term: {term}"));
        let fields: Vec<&str> = term.iter().chain(self.others.iter().rev()).map(String::as_str).collect();
        match (message, self.term) {
            // Operators look for these words.
            ("starting a new election", Some(term)) => {
                let _ = write!(line, "is starting a new election at term {term}");
            }
            _ if fields.is_empty() => line.push_str(message),
            _ => {
                let _ = write!(line, "{message} [{}]", fields.join(", "));
            }
        }
        line
    }
}

impl Serializer for RaftFields {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        // Lists of members come as the library's own structures: long, and in decimal numbers.
        if !matches!(key, "config" | "peers" | "progress") {
            self.others.push(format!("{key}: {value}"));
        }
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        match key {
            "raft_id" => self.member = Some(value),
            "term" => self.term = Some(value),
            // Members are known by hexadecimal names.
            "from" | "to" | "vote" | "leader_id" => self.others.push(format!("{key}: {value:x}")),
            _ => self.others.push(format!("{key}: {value}")),
        }
        Ok(())
    }
}

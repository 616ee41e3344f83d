//! Logs the messages of the consensus library under the package `raft`.

use std::fmt::{self, Write as _};

use slog::{Drain, KV as _, Key, Logger, Never, OwnedKVList, Record, Serializer};

use super::{Level, emit};

/// A logger for the `raft` crate: `raft: a5532e447404284a became leader at term 2`.
pub fn raft_logger() -> Logger {
    Logger::root(RaftDrain, slog::o!())
}

struct RaftDrain;

/// The beginnings of messages about the library's internals: logged at DEBUG.
const LIBRARY_MESSAGES: &[&str] = &["switched to configuration", "RawNode created with id"];

impl Drain for RaftDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let message = record.msg().to_string();
        // The original does not log these either.
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

/// The values of a message.
#[derive(Default)]
struct RaftFields {
    member: Option<u64>,
    term: Option<u64>,
    /// In reverse order, as the library passes them.
    others: Vec<String>,
}

impl RaftFields {
    fn line(&self, message: &str) -> String {
        let mut line = self.member.map(|id| format!("{id:x} ")).unwrap_or_default();
        // Most messages contain the term already.
        let term = self.term.filter(|_| !message.contains("term")).map(|term| format!("term: {term}"));
        let fields: Vec<&str> = term.iter().chain(self.others.iter().rev()).map(String::as_str).collect();
        match (message, self.term) {
            // Operators search for this text.
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
        // Member lists are formatted as the library's own structures: long, and with decimal ids.
        if !matches!(key, "config" | "peers" | "progress") {
            self.others.push(format!("{key}: {value}"));
        }
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        match key {
            "raft_id" => self.member = Some(value),
            "term" => self.term = Some(value),
            // Member ids are shown in hexadecimal.
            "from" | "to" | "vote" | "leader_id" => self.others.push(format!("{key}: {value:x}")),
            _ => self.others.push(format!("{key}: {value}")),
        }
        Ok(())
    }
}

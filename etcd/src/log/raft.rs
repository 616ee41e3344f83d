//! What the consensus library says, as lines of the package `raft`.

use std::fmt::{self, Write as _};

use slog::{Drain, KV as _, Key, Logger, Never, OwnedKVList, Record, Serializer};

use super::{Level, emit};

/// A logger for the `raft` crate: `raft: a5532e447404284a became leader at term 2`.
pub fn raft_logger() -> Logger {
    Logger::root(Lines, slog::o!())
}

struct Lines;

impl Drain for Lines {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !self.is_enabled(record.level()) {
            return Ok(());
        }
        let mut facts = Facts::default();
        // Serializing into a String cannot fail.
        let _ = values.serialize(record, &mut facts);
        let _ = record.kv().serialize(record, &mut facts);
        emit!("raft", level(record.level()), facts.line(&record.msg().to_string()));
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
struct Facts {
    member: Option<u64>,
    term: Option<u64>,
    others: String,
}

impl Facts {
    fn line(&self, message: &str) -> String {
        let mut line = self.member.map(|id| format!("{id:x} ")).unwrap_or_default();
        match (message, self.term) {
            // Operators look for these words.
            ("starting a new election", Some(term)) => {
                let _ = write!(line, "is starting a new election at term {term}");
            }
            // Most messages tell the term themselves.
            (_, Some(term)) if !message.contains("term") => {
                let _ = write!(line, "{message} [term: {term}{}]", self.others);
            }
            _ if self.others.is_empty() => line.push_str(message),
            _ => {
                let _ = write!(line, "{message} [{}]", self.others.trim_start_matches(", "));
            }
        }
        line
    }
}

impl Serializer for Facts {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.others, ", {key}: {value}")?;
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        match key {
            "raft_id" => self.member = Some(value),
            "term" => self.term = Some(value),
            // Members are known by hexadecimal names.
            "from" | "to" | "vote" | "leader_id" => write!(self.others, ", {key}: {value:x}")?,
            _ => write!(self.others, ", {key}: {value}")?,
        }
        Ok(())
    }
}

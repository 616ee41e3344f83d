//! Writes lines in the chosen format.

use std::io::Write;

use anyhow::Result;

use crate::dump_flags::{Format, Lengths};
use crate::fields::{Fields, Value};

/// A writer of lines, each made of fields or of raw bytes.
pub(crate) struct Lines<'a, W> {
    pub(crate) format: Format,
    pub(crate) lengths: Lengths,
    /// The fields of the next line.
    pub(crate) fields: Fields,
    /// The bytes of the next line, if it is not made of fields.
    pub(crate) line: Vec<u8>,
    out: &'a mut W,
}

impl<'a, W: Write> Lines<'a, W> {
    pub(crate) fn new(format: Format, lengths: Lengths, out: &'a mut W) -> Lines<'a, W> {
        Lines { format, lengths, fields: Fields::default(), line: Vec::new(), out }
    }

    /// Whether the format is text.
    pub(crate) fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// Adds a field to the next line.
    pub(crate) fn add(&mut self, name: &'static str, value: Value) {
        self.fields.add(name, value);
    }

    /// Writes the fields as a line of this type.
    pub(crate) fn write(&mut self, what: &str) -> Result<()> {
        match self.format {
            Format::Json => self.fields.write_json(what, self.lengths, &mut self.line),
            _ => self.fields.write_full(what, self.lengths, &mut self.line),
        }
        self.fields.clear();
        self.flush()
    }

    /// Writes what was appended to `line`.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.out.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

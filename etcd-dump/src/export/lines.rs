//! The lines of an export. `etcdctl import` reads them, so their format does not change.

use std::io::{BufWriter, Write};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shared::json;

use crate::go_text::write_number;

/// Size of the output buffer.
const OUT_BYTES: usize = 256 * 1024;

/// Writes the lines of an export.
pub(crate) struct Writer<W: Write> {
    out: BufWriter<W>,
    line: Vec<u8>,
    nodes: u64,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Writer<W> {
        Writer { out: BufWriter::with_capacity(OUT_BYTES, out), line: Vec::new(), nodes: 0 }
    }

    /// Writes a key with its value, or a directory, which has no value. `expiration` is RFC 3339; `indexes` are the
    /// created and the modified index.
    pub(crate) fn node(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        expiration: Option<&str>,
        indexes: [u64; 2],
    ) -> Result<()> {
        self.line.clear();
        self.line.push(b'{');
        self.bytes("key", key);
        match value {
            Some(value) => {
                self.line.push(b',');
                self.bytes("value", value);
            }
            None => self.line.extend_from_slice(b",\"dir\":true"),
        }
        if let Some(expiration) = expiration {
            self.line.extend_from_slice(b",\"expiration\":");
            json::write_string(&mut self.line, expiration.as_bytes());
        }
        // A directory is created by the first write below it, so its indexes mean nothing.
        if value.is_some() {
            for (name, index) in ["createdIndex", "modifiedIndex"].into_iter().zip(indexes) {
                self.line.extend_from_slice(format!(",\"{name}\":").as_bytes());
                write_number(&mut self.line, index);
            }
        }
        self.line.extend_from_slice(b"}\n");
        self.out.write_all(&self.line)?;
        self.nodes += 1;
        Ok(())
    }

    /// Writes a field with any bytes. If they are not UTF-8, they are written in base64 and the name ends in
    /// `_base64`.
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let line = &mut self.line;
        line.push(b'"');
        line.extend_from_slice(name.as_bytes());
        if str::from_utf8(bytes).is_ok() {
            line.extend_from_slice(b"\":");
            json::write_string(line, bytes);
        } else {
            line.extend_from_slice(b"_base64\":\"");
            line.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            line.push(b'"');
        }
    }

    /// Writes the last line: the number of nodes, and the store's index.
    pub(crate) fn end(&mut self, index: u64) -> Result<()> {
        writeln!(self.out, "{{\"end\":{{\"nodes\":{},\"index\":{index}}}}}", self.nodes)?;
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_that_import_reads() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.node(b"/a", None, None, [3, 3]).unwrap();
        writer.node(b"/a/b", Some(b"x \"y\""), None, [4, 7]).unwrap();
        writer.node(b"/a/c", Some(b"\xff\x00"), Some("2026-11-21T08:00:00Z"), [5, 5]).unwrap();
        writer.node(b"/a/\xff", None, Some("2026-11-21T08:00:00Z"), [6, 6]).unwrap();
        writer.end(7).unwrap();
        drop(writer);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"key\":\"/a\",\"dir\":true}\n\
             {\"key\":\"/a/b\",\"value\":\"x \\\"y\\\"\",\"createdIndex\":4,\"modifiedIndex\":7}\n\
             {\"key\":\"/a/c\",\"value_base64\":\"/wA=\",\"expiration\":\"2026-11-21T08:00:00Z\",\
             \"createdIndex\":5,\"modifiedIndex\":5}\n\
             {\"key_base64\":\"L2Ev/w==\",\"dir\":true,\"expiration\":\"2026-11-21T08:00:00Z\"}\n\
             {\"end\":{\"nodes\":4,\"index\":7}}\n"
        );
    }
}

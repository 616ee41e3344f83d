//! Prints answers in the chosen form.

mod fields;
mod flat;
pub(crate) mod json;
pub(crate) mod table;

use prost::Message;

use shared::v3::pb::mvccpb::KeyValue;

pub(crate) use self::fields::{Fields, header};
pub(crate) use self::json::{Json, Object};

use super::failure::Failure;
use crate::output::Output;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Simple,
    /// `"Name" : value` lines.
    Fields,
    /// The message as JSON, as Go writes it.
    Json,
    /// The message itself.
    Protobuf,
    /// A table.
    Table,
}

impl Format {
    /// The form of a name.
    ///
    /// # Errors
    /// If there is no such form.
    pub(crate) fn new(name: &str) -> Result<Format, Failure> {
        Ok(match name {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return Err(Failure::feature("unsupported output format")),
        })
    }

    /// The error for an answer that this form cannot show.
    pub(crate) fn unsupported(self) -> Failure {
        let name = match self {
            Format::Simple => "simple",
            Format::Fields => "fields",
            Format::Json => "json",
            Format::Protobuf => "protobuf",
            Format::Table => "table",
        };
        Failure::feature(format!("{name} not supported as output format"))
    }
}

/// Prints answers.
#[derive(Debug)]
pub(crate) struct Printer<'a> {
    /// Standard output.
    pub(crate) out: &'a mut Output,
    /// The form.
    pub(crate) format: Format,
    /// Whether the bytes of keys and values are printed in hexadecimal.
    pub(crate) hex: bool,
    /// Whether simple output has the values alone.
    pub(crate) keys_only_values: bool,
}

impl Printer<'_> {
    /// A printer.
    pub(crate) fn new(out: &mut Output, format: Format, hex: bool) -> Printer<'_> {
        Printer { out, format, hex, keys_only_values: false }
    }

    /// Prints an answer; `simple` writes it in the simple form.
    ///
    /// # Errors
    /// If the form cannot show it, or standard output cannot be written.
    pub(crate) fn answer<T: Message + Json + Fields>(
        &mut self,
        answer: &T,
        simple: impl FnOnce(&KeyStyle, &mut Vec<u8>),
    ) -> Result<(), Failure> {
        let mut text = Vec::new();
        match self.format {
            Format::Simple => simple(&self.style(), &mut text),
            Format::Json => {
                json::write(answer, &mut text);
                text.push(b'\n');
            }
            Format::Protobuf => text = answer.encode_to_vec(),
            Format::Fields if answer.fields(&mut text) => {}
            Format::Fields | Format::Table => return Err(self.format.unsupported()),
        }
        self.bytes(&text)
    }

    /// How simple output shows keys.
    pub(crate) fn style(&self) -> KeyStyle {
        KeyStyle { hex: self.hex, values_only: self.keys_only_values }
    }

    /// Prints bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.out.bytes(bytes)?)
    }

    /// Prints text and shows it at once.
    pub(crate) fn now(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

/// How simple output shows keys and values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyStyle {
    /// `\x66` instead of `f`.
    pub(crate) hex: bool,
    /// No keys.
    pub(crate) values_only: bool,
}

impl KeyStyle {
    /// Writes a key and its value, a line each.
    pub(crate) fn write(&self, kv: &KeyValue, out: &mut Vec<u8>) {
        if !self.values_only {
            self.line(&kv.key, out);
        }
        self.line(&kv.value, out);
    }

    fn line(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.hex {
            for byte in bytes {
                out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
        } else {
            out.extend_from_slice(bytes);
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use shared::v3::pb::etcdserverpb::{LeaseGrantResponse, RangeResponse, ResponseHeader, WatchResponse};
    use shared::v3::pb::mvccpb::Event;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn answer() -> RangeResponse {
        let header = ResponseHeader { cluster_id: 7, member_id: 8, revision: 9, raft_term: 2 };
        let kv = KeyValue {
            key: "foo".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: "b\"\n".into(),
            lease: 0,
        };
        RangeResponse { header: Some(header), kvs: vec![kv], more: false, count: 1 }
    }

    #[test]
    fn json_leaves_out_what_is_empty() {
        let header = r#"{"cluster_id":7,"member_id":8,"revision":9,"raft_term":2}"#;
        let kv = r#"{"key":"Zm9v","create_revision":2,"mod_revision":3,"version":2,"value":"YiIK"}"#;
        let range = text(|out| json::write(&answer(), out));
        assert_eq!(range, format!("{{\"header\":{header},\"kvs\":[{kv}],\"count\":1}}"));
        let grant = LeaseGrantResponse { header: answer().header, id: 5, ttl: 60, error: String::new() };
        let grant = text(|out| json::write(&grant, out));
        assert_eq!(grant, format!("{},\"ID\":5,\"TTL\":60,\"Error\":\"\"}}", header.trim_end_matches('}')));
        let event = Event { r#type: 1, kv: answer().kvs.pop(), prev_kv: None };
        let watch =
            WatchResponse { header: answer().header, events: vec![event], ..WatchResponse::default() };
        assert_eq!(
            text(|out| json::write(&watch, out)),
            format!(
                "{{\"Header\":{header},\"Events\":[{{\"type\":1,\"kv\":{kv}}}],\"CompactRevision\":0,\
                 \"Canceled\":false,\"Created\":false}}"
            )
        );
    }

    #[test]
    fn fields_are_quoted_and_all_there() {
        let fields = text(|out| assert!(answer().fields(out)));
        assert_eq!(
            fields,
            "\"ClusterID\" : 7\n\"MemberID\" : 8\n\"Revision\" : 9\n\"RaftTerm\" : 2\n\"Key\" : \"foo\"\n\
             \"CreateRevision\" : 2\n\"ModRevision\" : 3\n\"Version\" : 2\n\"Value\" : \"b\\\"\\n\"\n\"Lease\" : 0\n\
             \"More\" : false\n\"Count\" : 1\n"
        );
    }

    #[test]
    fn simple_output_may_be_hexadecimal_or_values_alone() {
        let kv = answer().kvs.remove(0);
        let simple = |hex, values_only| text(|out| KeyStyle { hex, values_only }.write(&kv, out));
        assert_eq!(simple(false, false), "foo\nb\"\n\n");
        assert_eq!(simple(true, false), "\\x66\\x6f\\x6f\n\\x62\\x22\\x0a\n");
        assert_eq!(simple(false, true), "b\"\n\n");
    }
}

//! A line as a list of names and values, and its two formats: `name=value` and JSON.
//!
//! Both formats have the same names, which do not change: programs read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use shared::json;
use shared::time::UnixNanos;

use crate::dump_flags::Lengths;
use crate::go_text::{quote_into, write_number};

/// How many bytes of a truncated value are shown.
const CUT_BYTES: usize = 128;

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A fixed word of this program.
    Word(&'static str),
    /// Any bytes, never truncated.
    Text(Bytes),
    /// Any bytes, truncated if there are many.
    Long(Bytes),
    /// A list of texts.
    Texts(Vec<String>),
    /// A number without a sign.
    Number(u64),
    /// A number with a sign.
    Signed(i64),
    /// A number with a fraction.
    Decimal(f64),
    /// An id: hexadecimal, in JSON a string, as it may be above 2^53.
    Id(u64),
    /// A list of ids.
    Ids(Vec<u64>),
    /// A boolean.
    Flag(bool),
    /// A time in Unix nanoseconds.
    Time(i64),
}

/// The fields of a line, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Removes all fields, to begin another line.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fields so far.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Adds a field.
    pub(crate) fn add(&mut self, name: &'static str, value: Value) {
        self.0.push((name, value));
    }

    /// Adds a field if it is true.
    pub(crate) fn add_flag(&mut self, name: &'static str, value: bool) {
        if value {
            self.add(name, Value::Flag(true));
        }
    }

    /// Appends the line `what name=value name="value"`. Values other than words, numbers and times are quoted; a
    /// truncated value has three dots after its quotes, and a field with its full length.
    pub(crate) fn write_full(&self, what: &str, lengths: Lengths, out: &mut Vec<u8>) {
        out.extend_from_slice(what.as_bytes());
        for (name, value) in &self.0 {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            value.write_full(lengths, out);
            if let Some(whole) = value.cut_from(lengths) {
                out.push(b' ');
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"_bytes=");
                write_number(out, whole as u64);
            }
        }
        out.push(b'\n');
    }

    /// Appends the line `{"type":"what","name":value}`. Bytes that are not UTF-8 are written in base64, and the name
    /// ends in `_base64`; the full length of a truncated value is a field whose name ends in `_bytes`.
    pub(crate) fn write_json(&self, what: &str, lengths: Lengths, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(what.as_bytes());
        out.push(b'"');
        for (name, value) in &self.0 {
            write_json_field(name, value, lengths, out);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn write_json_field(name: &str, value: &Value, lengths: Lengths, out: &mut Vec<u8>) {
    let begin = |out: &mut Vec<u8>, suffix: &str| {
        for part in [",\"", name, suffix, "\":"] {
            out.extend_from_slice(part.as_bytes());
        }
    };
    let (Value::Text(bytes) | Value::Long(bytes)) = value else {
        begin(out, "");
        return value.write_json(out);
    };
    let whole = value.cut_from(lengths);
    let text = str::from_utf8(bytes);
    match (text, whole) {
        (Ok(text), whole) => {
            let shown = whole.map_or(text.len(), |_| text.floor_char_boundary(CUT_BYTES));
            begin(out, "");
            json::write_string(out, &text.as_bytes()[..shown]);
        }
        (Err(_), whole) => {
            begin(out, "_base64");
            let shown = whole.map_or(bytes.len(), |_| CUT_BYTES);
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(&bytes[..shown]).as_bytes());
            out.push(b'"');
        }
    }
    if let Some(whole) = whole {
        begin(out, "_bytes");
        write_number(out, whole as u64);
    }
}

impl Value {
    /// The full length of a truncated value.
    fn cut_from(&self, lengths: Lengths) -> Option<usize> {
        match self {
            Value::Long(bytes) if lengths == Lengths::Cut && bytes.len() > CUT_BYTES => Some(bytes.len()),
            _ => None,
        }
    }

    /// Appends the value in the format `name=value`.
    pub(crate) fn write_full(&self, lengths: Lengths, out: &mut Vec<u8>) {
        match self {
            Value::Word(word) => out.extend_from_slice(word.as_bytes()),
            Value::Text(text) if is_word(text) => out.extend_from_slice(text),
            Value::Text(text) => quote_into(out, text),
            Value::Long(bytes) => match self.cut_from(lengths) {
                None => quote_into(out, bytes),
                Some(_) => {
                    quote_into(out, &bytes[..CUT_BYTES]);
                    out.extend_from_slice(b"...");
                }
            },
            Value::Texts(texts) => separated(out, texts, |out, text| quote_into(out, text.as_bytes())),
            Value::Ids(ids) => separated(out, ids, |out, id| write_id(out, *id)),
            Value::Id(id) => write_id(out, *id),
            Value::Time(_) | Value::Number(_) | Value::Signed(_) | Value::Decimal(_) | Value::Flag(_) => {
                self.write_plain(out);
            }
        }
    }

    /// Appends the value as JSON; `Text` and `Long` must be UTF-8.
    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Word(word) => json::write_string(out, word.as_bytes()),
            Value::Text(bytes) | Value::Long(bytes) => json::write_string(out, bytes),
            Value::Texts(texts) => {
                out.push(b'[');
                separated(out, texts, |out, text| json::write_string(out, text.as_bytes()));
                out.push(b']');
            }
            Value::Ids(ids) => {
                out.push(b'[');
                separated(out, ids, |out, id| write_json_id(out, *id));
                out.push(b']');
            }
            Value::Id(id) => write_json_id(out, *id),
            Value::Time(_) => {
                out.push(b'"');
                self.write_plain(out);
                out.push(b'"');
            }
            Value::Number(_) | Value::Signed(_) | Value::Decimal(_) | Value::Flag(_) => self.write_plain(out),
        }
    }

    /// Appends a value that both formats write alike.
    fn write_plain(&self, out: &mut Vec<u8>) {
        match self {
            Value::Number(number) => write_number(out, *number),
            Value::Signed(number) => json::write_i64(out, *number),
            // It was parsed from JSON, so it is neither infinite nor NaN.
            Value::Decimal(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Flag(true) => out.extend_from_slice(b"true"),
            Value::Flag(false) => out.extend_from_slice(b"false"),
            Value::Time(nanos) => json::write_time(out, UnixNanos(*nanos)),
            _ => {}
        }
    }
}

/// Whether a text needs no quotes, such as the method of a request.
fn is_word(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_uppercase())
}

fn write_id(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(format!("{id:x}").as_bytes());
}

fn write_json_id(out: &mut Vec<u8>, id: u64) {
    out.push(b'"');
    write_id(out, id);
    out.push(b'"');
}

fn separated<T>(out: &mut Vec<u8>, all: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for (i, one) in all.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(fields: &[(&'static str, Value)], lengths: Lengths) -> (String, String) {
        let fields = Fields(fields.to_vec());
        let (mut full, mut json) = (Vec::new(), Vec::new());
        fields.write_full("t", lengths, &mut full);
        fields.write_json("t", lengths, &mut json);
        (String::from_utf8(full).unwrap(), String::from_utf8(json).unwrap())
    }

    #[test]
    fn each_kind_of_value_has_its_two_forms() {
        let fields = [
            ("word", Value::Word("w")),
            ("text", Value::Text("a \"b\"".into())),
            ("method", Value::Text("PUT".into())),
            ("long", Value::Long("PUT".into())),
            ("texts", Value::Texts(vec!["a".into(), "b".into()])),
            ("none", Value::Ids(vec![])),
            ("ids", Value::Ids(vec![10, 255])),
            ("id", Value::Id(255)),
            ("number", Value::Number(7)),
            ("signed", Value::Signed(-7)),
            ("flag", Value::Flag(false)),
            ("time", Value::Time(1_500_000_000_120_000_000)),
        ];
        let (full, json) = both(&fields, Lengths::Cut);
        assert_eq!(
            full,
            "t word=w text=\"a \\\"b\\\"\" method=PUT long=\"PUT\" texts=\"a\",\"b\" none= ids=a,ff id=ff number=7 \
             signed=-7 flag=false time=2017-07-14T02:40:00.12Z\n"
        );
        assert_eq!(
            json,
            "{\"type\":\"t\",\"word\":\"w\",\"text\":\"a \\\"b\\\"\",\"method\":\"PUT\",\"long\":\"PUT\",\
             \"texts\":[\"a\",\"b\"],\"none\":[],\"ids\":[\"a\",\"ff\"],\"id\":\"ff\",\"number\":7,\"signed\":-7,\
             \"flag\":false,\"time\":\"2017-07-14T02:40:00.12Z\"}\n"
        );
    }

    #[test]
    fn long_values_are_cut_and_tell_so() {
        let value = Bytes::from("ab".repeat(64) + "c");
        let (full, json) = both(&[("value", Value::Long(value.clone()))], Lengths::Cut);
        let shown = "ab".repeat(64);
        assert_eq!(full, format!("t value=\"{shown}\"... value_bytes=129\n"));
        assert_eq!(json, format!("{{\"type\":\"t\",\"value\":\"{shown}\",\"value_bytes\":129}}\n"));
        let (full, json) = both(&[("value", Value::Long(value))], Lengths::Whole);
        assert_eq!(full, format!("t value=\"{shown}c\"\n"));
        assert_eq!(json, format!("{{\"type\":\"t\",\"value\":\"{shown}c\"}}\n"));
        let (_, json) = both(&[("value", Value::Text("ab".repeat(65).into()))], Lengths::Cut);
        assert!(!json.contains("bytes"), "a text is never cut");
        // In JSON no character is cut in two.
        let (_, json) =
            both(&[("value", Value::Long(("a".to_owned() + &"é".repeat(64)).into()))], Lengths::Cut);
        assert_eq!(
            json,
            format!("{{\"type\":\"t\",\"value\":\"a{}\",\"value_bytes\":129}}\n", "é".repeat(63))
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_in_json() {
        let (full, json) = both(&[("value", Value::Long(Bytes::from_static(b"\xff\x00")))], Lengths::Cut);
        assert_eq!(full, "t value=\"\\xff\\x00\"\n");
        assert_eq!(json, "{\"type\":\"t\",\"value_base64\":\"/wA=\"}\n");
    }
}

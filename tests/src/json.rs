//! JSON with everything that a byte-for-byte comparison needs: members in their order, none twice, integers
//! apart from other numbers, and Go's way to write it.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// `[…]`.
    List(Vec<Json>),
    /// `{…}`, in the order of the text.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a text that holds one value.
    ///
    /// # Errors
    /// If the text is not valid JSON, or an object has a member twice.
    pub fn parse(text: &str) -> Result<Json, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Reads consecutive values of a text; returns them and the rest that is not a value.
    pub fn parse_stream(text: &str) -> (Vec<Json>, &str) {
        let mut values = Vec::new();
        let mut stream = serde_json::Deserializer::from_str(text).into_iter();
        let mut end = 0;
        while let Some(Ok(value)) = stream.next() {
            values.push(value);
            end = stream.byte_offset();
        }
        (values, text[end..].trim_start_matches([' ', '\r', '\n', '\t']))
    }

    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A member of an object, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        match self {
            Json::Object(members) => members.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What lies at `a.b.0.c`.
    pub fn at(&self, path: &str) -> Option<&Json> {
        path.split('.').try_fold(self, |value, part| match value {
            Json::List(items) => items.get(part.parse::<usize>().ok()?),
            value => value.get(part),
        })
    }

    /// A string's text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a number with a fraction or an exponent is in it somewhere.
    pub fn has_float(&self) -> bool {
        match self {
            Json::Float(_) => true,
            Json::List(items) => items.iter().any(Json::has_float),
            Json::Object(members) => members.iter().any(|(_, value)| value.has_float()),
            _ => false,
        }
    }

    /// Without blanks, with the escapes that Go's encoder uses.
    pub fn write_go(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out);
        out
    }

    fn write_to(&self, out: &mut String) {
        // Writing into a String cannot fail.
        let _ = match self {
            Json::Null => out.write_str("null"),
            Json::Bool(value) => write!(out, "{value}"),
            Json::Integer(value) => write!(out, "{value}"),
            Json::Float(value) => write!(out, "{value}"),
            Json::Text(text) => {
                write_text(text, out);
                Ok(())
            }
            Json::List(items) => {
                let mut before = '[';
                for item in items {
                    out.push(before);
                    item.write_to(out);
                    before = ',';
                }
                out.write_str(if items.is_empty() { "[]" } else { "]" })
            }
            Json::Object(members) => {
                let mut before = '{';
                for (key, value) in members {
                    out.push(before);
                    write_text(key, out);
                    out.push(':');
                    value.write_to(out);
                    before = ',';
                }
                out.write_str(if members.is_empty() { "{}" } else { "}" })
            }
        };
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(c))
            }
            c => out.write_char(c),
        };
    }
    out.push('"');
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object: Vec<(String, Json)> = Vec::new();
        while let Some((key, value)) = members.next_entry::<String, Json>()? {
            if object.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format!("member {key:?} twice in one object")));
            }
            object.push((key, value));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_escapes_are_kept() {
        let text = r#"{"b":[1,-2,18446744073709551615],"a":"\u003c\u0026é\u2028\n","c":{},"d":[],"e":null}"#;
        assert_eq!(Json::parse(text).unwrap().write_go(), text);
    }

    #[test]
    fn a_member_comes_once() {
        assert!(Json::parse(r#"{"a":1,"a":1}"#).is_err());
    }

    #[test]
    fn streams_are_split() {
        let (values, rest) = Json::parse_stream("{\"a\":1}\n{\"b\":2}\n{\"c\"");
        assert_eq!((values.len(), rest), (2, "{\"c\""));
        assert_eq!(values[1].at("b"), Some(&Json::Integer(2)));
    }
}

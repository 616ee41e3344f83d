//! JSON as Go's `encoding/json` reads and writes it. Reading: member names in any case, the last duplicate wins, `null`
//! counts as missing; the errors that clients are likely to see have Go's texts. Writing: numbers.

use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use shared::quote::quote;

/// The string list `peerURLs` of the object in `body`; empty if it is missing.
pub(crate) fn peer_urls(body: &[u8]) -> Result<Vec<String>, String> {
    let name = "peerURLs";
    let body = String::from_utf8_lossy(body);
    let value = serde_json::from_str(&body).map_err(|error| syntax_error(body.as_bytes(), &error))?;
    let members = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(members) => members,
        other => {
            let kind = kind(&other);
            let wanted = "struct { PeerURLs []string \"json:\\\"peerURLs\\\"\" }";
            return Err(format!("json: cannot unmarshal {kind} into Go value of type {wanted}"));
        }
    };
    let wrong = |value: &Value, wanted| {
        let kind = kind(value);
        format!("json: cannot unmarshal {kind} into Go struct field .{name} of type {wanted}")
    };
    let Some(value) = member(&members, name) else { return Ok(Vec::new()) };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Null => Ok(String::new()),
                other => Err(wrong(other, "string")),
            })
            .collect(),
        other => Err(wrong(other, "[]string")),
    }
}

/// The string member `name` of the object at the start of `body`; ignores what follows. Empty if the member is missing,
/// `None` if `body` does not begin with such an object.
pub(crate) fn first_string_at(body: &[u8], name: &str) -> Option<String> {
    match first_value(body)? {
        Value::Null => Some(String::new()),
        Value::Object(members) => match member(&members, name) {
            None | Some(Value::Null) => Some(String::new()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => None,
        },
        _ => None,
    }
}

/// The JSON value at the start of `body`; ignores what follows. `None` if there is no valid value.
pub(crate) fn first_value(body: &[u8]) -> Option<Value> {
    let body = String::from_utf8_lossy(body);
    serde_json::Deserializer::from_str(&body).into_iter::<Value>().next()?.ok()
}

/// The member with this name in any case; of several, the last one.
pub(crate) fn member<'a>(members: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next_back()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The members of the object at the start of `body`; ignores what follows. No members for `null`.
pub(crate) fn first_object(body: &[u8]) -> Result<serde_json::Map<String, Value>, String> {
    let body = String::from_utf8_lossy(body);
    match serde_json::Deserializer::from_str(&body).into_iter::<Value>().next() {
        None => Err("EOF".to_owned()),
        Some(Ok(Value::Null)) => Ok(serde_json::Map::new()),
        Some(Ok(Value::Object(members))) => Ok(members),
        Some(Ok(other)) => {
            let kind = kind(&other);
            Err(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
        }
        Some(Err(error)) if error.classify() == Category::Eof => Err("unexpected EOF".to_owned()),
        Some(Err(error)) => Err(syntax_error(body.as_bytes(), &error)),
    }
}

const VALUE: &str = "looking for beginning of value";
const OBJECT_KEY: &str = "looking for beginning of object key string";

/// The text for an error in a row of values, as Go's `Decoder` has it.
pub(crate) fn stream_error(body: &[u8], error: &serde_json::Error) -> String {
    if error.classify() == Category::Eof { "unexpected EOF".to_owned() } else { syntax_error(body, error) }
}

fn syntax_error(body: &[u8], error: &serde_json::Error) -> String {
    if error.classify() == Category::Eof {
        return "unexpected end of JSON input".to_owned();
    }
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = line.get(error.column().saturating_sub(1)).copied().unwrap_or(b'\n');
    let text = error.to_string();
    let place = [
        ("key must be a string", OBJECT_KEY),
        ("trailing comma", if found == b'}' { OBJECT_KEY } else { VALUE }),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("expected `:`", "after object key"),
        ("trailing characters", "after top-level value"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("invalid number", "in numeric literal"),
    ]
    .iter()
    .find(|(start, _)| text.starts_with(start))
    .map_or(VALUE, |(_, place)| place);
    let found = match found {
        b'\'' => "\\'".to_owned(),
        b'"' => "\"".to_owned(),
        // Go reports a single byte as a character.
        found => quote(char::from(found).to_string()).trim_matches('"').to_owned(),
    };
    format!("invalid character '{found}' {place}")
}

/// The JSON text of a number.
pub(crate) type Number = Box<RawValue>;

/// A number as Go writes it: without a decimal point for whole numbers, with an exponent only for very large or small
/// values.
pub(crate) fn number(value: f64) -> Number {
    let far = value != 0.0 && !(1e-6..1e21).contains(&value.abs());
    let text = if far { format!("{value:e}") } else { value.to_string() };
    // The text of a number is valid JSON.
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(body: &str) -> Result<Vec<String>, String> {
        peer_urls(body.as_bytes())
    }

    #[test]
    fn reads_lists() {
        assert_eq!(urls(r#"{"peerURLs":["a","b"],"name":"x"}"#), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(urls(r#"{"PEERURLS":["a"]}"#), Ok(vec!["a".into()]));
        for none in ["{}", "null", r#"{"peerURLs":null}"#, r#"{"peerURLs":[]}"#] {
            assert_eq!(urls(none), Ok(vec![]), "{none}");
        }
    }

    #[test]
    fn errors_are_in_go_s_words() {
        for (body, wanted) in [
            ("", "unexpected end of JSON input"),
            ("{\"peerU", "unexpected end of JSON input"),
            ("{bad", "invalid character 'b' looking for beginning of object key string"),
            ("bad", "invalid character 'b' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{'a'}", "invalid character '\\'' looking for beginning of object key string"),
            ("\u{e9}", "invalid character 'Ã' looking for beginning of value"),
            ("{\"a\":\"\u{1}\"}", "invalid character '\\x01' in string literal"),
            (
                "1",
                "json: cannot unmarshal number into Go value of type struct { PeerURLs []string \"json:\\\"peerURLs\\\"\" }",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "{\"peerURLs\":\"x\"}",
                "json: cannot unmarshal string into Go struct field .peerURLs of type []string",
            ),
            (
                "{\"peerURLs\":[1]}",
                "json: cannot unmarshal number into Go struct field .peerURLs of type string",
            ),
        ] {
            assert_eq!(urls(body), Err(wanted.to_owned()), "{body}");
        }
    }

    #[test]
    fn reads_the_first_object_only() {
        assert_eq!(first_object(b"{\"a\":1} rest").map(|members| members.len()), Ok(1));
        assert_eq!(first_object(b"null").map(|members| members.len()), Ok(0));
        for (body, wanted) in [
            ("", "EOF"),
            ("{", "unexpected EOF"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("1", "json: cannot unmarshal number into Go value of type map[string]interface {}"),
        ] {
            assert_eq!(first_object(body.as_bytes()), Err(wanted.to_owned()), "{body}");
        }
    }

    #[test]
    fn numbers_look_as_gos_do() {
        let texts = [0.0, 1.0, 0.25, 9_223_372_036_854_775_808.0].map(|value| number(value).get().to_owned());
        assert_eq!(texts, ["0", "1", "0.25", "9223372036854776000"]);
    }

    #[test]
    fn reads_the_first_value_only() {
        let level = |body: &str| first_string_at(body.as_bytes(), "level");
        assert_eq!(level(r#"{"Level":"info"} rest"#).as_deref(), Some("info"));
        assert_eq!(level("{}").as_deref(), Some(""));
        let odd = first_string_at(b"{\"level\":\"x\xff\"}", "level");
        assert_eq!(odd.as_deref(), Some("x\u{fffd}"));
        for bad in ["", "level=info", "[]", r#"{"level":1}"#, "{"] {
            assert_eq!(level(bad), None, "{bad}");
        }
    }
}

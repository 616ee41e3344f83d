//! Makes a message of a JSON value, as protojson does: both forms of field names, 64-bit numbers also as strings, both
//! alphabets of base64; unknown members and unknown names of enumerations are ignored. The texts of errors are those
//! of Go's library, because clients show them and some compare them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

/// The most messages within messages. The decoder behind the gateway has the same bound.
const DEPTH_MAX: usize = 100;

const PADDED: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
const BARE: GeneralPurposeConfig = PADDED.with_decode_padding_mode(DecodePaddingMode::RequireNone);

/// The message that a valid JSON value stands for.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn message(descriptor: &MessageDescriptor, json: &str) -> Result<DynamicMessage, String> {
    Reader { json, at: 0 }.message(descriptor, 0)
}

/// Reads a JSON value whose syntax is known to be valid.
struct Reader<'a> {
    json: &'a str,
    at: usize,
}

/// A value that is not an object or an array, or the beginning of one of those.
#[derive(Clone, Copy)]
struct Token<'a> {
    at: usize,
    raw: &'a str,
}

impl<'a> Reader<'a> {
    fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> Result<DynamicMessage, String> {
        let start = self.token();
        if start.raw != "{" {
            return Err(self.unexpected(start));
        }
        if depth == DEPTH_MAX {
            return Err("proto:\u{a0}exceeded max recursion depth".to_owned());
        }
        let mut message = DynamicMessage::new(descriptor.clone());
        let (mut seen, mut seen_unions) = (Vec::new(), Vec::new());
        while self.has_next(b'}') {
            let name = self.token();
            self.pass(b':');
            let known = string(name.raw);
            let field =
                descriptor.get_field_by_json_name(&known).or_else(|| descriptor.get_field_by_name(&known));
            let Some(field) = field else {
                self.skip();
                continue;
            };
            if seen.contains(&field.number()) {
                return Err(self.error(name.at, &format!("duplicate field {}", name.raw)));
            }
            seen.push(field.number());
            if self.peek() == b'n' {
                self.skip();
                continue;
            }
            if let Some(union) = field.containing_oneof() {
                if seen_unions.contains(&union.name().to_owned()) {
                    let (raw, union) = (name.raw, union.full_name());
                    return Err(
                        self.error(name.at, &format!("error parsing {raw}, oneof {union} is already set"))
                    );
                }
                seen_unions.push(union.name().to_owned());
            }
            let value =
                if field.is_list() { Some(self.list(&field, depth)?) } else { self.value(&field, depth)? };
            if let Some(value) = value {
                message.set_field(&field, value);
            }
        }
        Ok(message)
    }

    fn list(&mut self, field: &FieldDescriptor, depth: usize) -> Result<Value, String> {
        let start = self.token();
        if start.raw != "[" {
            return Err(self.unexpected(start));
        }
        let mut values = Vec::new();
        while self.has_next(b']') {
            values.extend(self.value(field, depth)?);
        }
        Ok(Value::List(values))
    }

    /// One value of a field. `None` for an unknown name of an enumeration.
    fn value(&mut self, field: &FieldDescriptor, depth: usize) -> Result<Option<Value>, String> {
        let kind = field.kind();
        if let Kind::Message(descriptor) = &kind {
            return Ok(Some(Value::Message(self.message(descriptor, depth + 1)?)));
        }
        let token = self.token();
        if let Kind::Enum(descriptor) = &kind
            && token.raw.starts_with('"')
        {
            let value = descriptor.get_value_by_name(&string(token.raw));
            return Ok(value.map(|value| Value::EnumNumber(value.number())));
        }
        match scalar(&kind, token.raw) {
            Some(value) => Ok(Some(value)),
            None => {
                let (kind, name, raw) = (name_of(&kind), field.json_name(), token.raw);
                Err(self.error(token.at, &format!("invalid value for {kind} field {name}: {raw}")))
            }
        }
    }

    /// The next byte that is not blank, without passing it; 0 at the end.
    fn peek(&mut self) -> u8 {
        let rest = &self.json.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.json.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn pass(&mut self, byte: u8) {
        if self.peek() == byte {
            self.at += 1;
        }
    }

    /// Whether another element comes before the closing bracket, which is passed if not.
    fn has_next(&mut self, end: u8) -> bool {
        self.pass(b',');
        let next = self.peek();
        if next == end {
            self.at += 1;
        }
        next != end && next != 0
    }

    /// Passes a scalar, or the opening bracket of an object or an array.
    fn token(&mut self) -> Token<'a> {
        let first = self.peek();
        let rest = &self.json[self.at..];
        let length = match first {
            b'"' => string_length(rest.as_bytes()),
            b'{' | b'[' => 1,
            _ => {
                rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count()
            }
        };
        let token = Token { at: self.at, raw: &rest[..length] };
        self.at += length;
        token
    }

    /// Passes a value of any kind and depth.
    fn skip(&mut self) {
        let mut open = 0_usize;
        loop {
            match self.peek() {
                0 => return,
                b'}' | b']' => {
                    self.at += 1;
                    open = open.saturating_sub(1);
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                byte => {
                    let before = self.at;
                    self.token();
                    if self.at == before {
                        return;
                    }
                    open += usize::from(matches!(byte, b'{' | b'['));
                }
            }
            if open == 0 {
                return;
            }
        }
    }

    fn unexpected(&self, token: Token<'_>) -> String {
        let (line, column) = self.position(token.at);
        format!("proto:\u{a0}syntax error (line {line}:{column}): unexpected token {}", token.raw)
    }

    fn error(&self, at: usize, what: &str) -> String {
        let (line, column) = self.position(at);
        format!("proto:\u{a0}(line {line}:{column}): {what}")
    }

    /// Lines and columns count from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.json[..at];
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.bytes().filter(|byte| *byte == b'\n').count() + 1, line.chars().count() + 1)
    }
}

/// The length of the string at the beginning, with its quotes.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at = (at + 2).min(bytes.len()),
            Some(_) => at += 1,
        }
    }
}

/// The text of a string token. Half a surrogate pair makes it empty.
fn string(raw: &str) -> Cow<'_, str> {
    match raw.get(1..raw.len().saturating_sub(1)) {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        _ => Cow::Owned(serde_json::from_str(raw).unwrap_or_default()),
    }
}

fn scalar(kind: &Kind, raw: &str) -> Option<Value> {
    let is_string = raw.starts_with('"');
    let number = || {
        if is_string {
            let text = string(raw);
            // Blanks around the number are not allowed.
            serde_json::from_str::<&serde_json::value::RawValue>(&text)
                .ok()
                .filter(|value| *value.get() == *text)?;
            integer(&text)
        } else {
            integer(raw)
        }
    };
    Some(match kind {
        Kind::Bool => Value::Bool(match raw {
            "true" => true,
            "false" => false,
            _ => return None,
        }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number()?.try_into().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number()?.try_into().ok()?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number()?.try_into().ok()?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number()?.try_into().ok()?),
        Kind::Enum(_) => Value::EnumNumber(integer(raw)?.try_into().ok()?),
        Kind::String if is_string => Value::String(serde_json::from_str(raw).ok()?),
        Kind::Bytes if is_string => Value::Bytes(decode_base64(&string(raw))?),
        _ => return None,
    })
}

/// The integer that a JSON number stands for; `None` if it has a fraction, or is no number.
fn integer(number: &str) -> Option<i128> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let shift = i64::from(exponent) - i64::try_from(fraction.len()).ok()?;
    let digits = format!("{whole}{fraction}");
    if digits.trim_start_matches('-').bytes().all(|digit| digit == b'0') {
        return digits.ends_with('0').then_some(0);
    }
    if shift >= 0 {
        digits.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(shift.try_into().ok()?)?)
    } else {
        let zeros = usize::try_from(-shift).ok()?;
        let (whole, cut) = digits.split_at_checked(digits.len().checked_sub(zeros)?)?;
        cut.bytes().all(|digit| digit == b'0').then(|| whole.parse().ok()).flatten()
    }
}

fn decode_base64(text: &str) -> Option<Bytes> {
    let text: Cow<'_, str> =
        if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "").into() } else { text.into() };
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let config = if text.len().is_multiple_of(4) { PADDED } else { BARE };
    GeneralPurpose::new(alphabet, config).decode(text.as_bytes()).ok().map(Bytes::from)
}

fn name_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Message(_) => "message",
        Kind::Enum(_) => "enum",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_every_form() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("1.0", Some(1)),
            ("1.50", None),
            ("1.5e1", Some(15)),
            ("10e-1", Some(1)),
            ("15e-1", None),
            ("-12", Some(-12)),
            ("9223372036854775807", Some(i128::from(i64::MAX))),
            ("1e400", None),
            ("0e999999999", Some(0)),
            ("1e-999999999", None),
            ("x", None),
            ("", None),
            ("true", None),
        ] {
            assert_eq!(integer(text), wanted, "{text}");
        }
    }

    #[test]
    fn base64_has_two_alphabets_and_may_lack_its_padding() {
        for (text, wanted) in [
            ("/+8=", Some(&b"\xff\xef"[..])),
            ("_-8=", Some(b"\xff\xef")),
            ("_-8", Some(b"\xff\xef")),
            ("", Some(b"")),
            ("Zm\n9v", Some(b"foo")),
            ("not base64!", None),
            ("Zm9v=", None),
        ] {
            assert_eq!(decode_base64(text).as_deref(), wanted, "{text}");
        }
    }
}

//! Reads JSON as a stream, without building a tree: snapshots have hundreds of megabytes.
//!
//! Lenient where Go is: bytes that are not UTF-8 and lone surrogates become U+FFFD.

use std::borrow::Cow;

use super::RecoverError;
use memchr::memchr2;

/// A position in a JSON text.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

type Result<T> = std::result::Result<T, RecoverError>;

const REPLACEMENT: char = '\u{fffd}';

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    /// An error about what comes next.
    pub(super) fn error(&self, problem: &'static str) -> RecoverError {
        RecoverError { offset: self.at, problem }
    }

    /// The next byte that is not a blank.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes the next byte if it is this one.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8, problem: &'static str) -> Result<()> {
        if self.take(byte) { Ok(()) } else { Err(self.error(problem)) }
    }

    /// Takes `null`, if it is next.
    pub(super) fn null(&mut self) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(b"null");
        self.at += if found { 4 } else { 0 };
        found
    }

    /// The name of the next member of an open object; `None` at its end, which is consumed. `first` says whether it
    /// would be the first one.
    pub(super) fn member(&mut self, first: &mut bool) -> Result<Option<Cow<'a, [u8]>>> {
        if self.take(b'}') {
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',', "neither a comma nor the end of an object")?;
        }
        let name = self.string()?;
        self.expect(b':', "no colon after a name")?;
        Ok(Some(name))
    }

    /// Whether there is another element in an open array; if not, its end is consumed.
    pub(super) fn element(&mut self, first: &mut bool) -> Result<bool> {
        if self.take(b']') {
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',', "neither a comma nor the end of an array")?;
        }
        Ok(true)
    }

    pub(super) fn bool(&mut self) -> Result<bool> {
        self.peek();
        for (word, value) in [(&b"true"[..], true), (b"false", false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("neither true nor false"))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.peek();
        let rest = &self.text[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = rest[..digits]
            .iter()
            .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        match number {
            Some(number) if digits > 0 => {
                self.at += digits;
                Ok(number)
            }
            _ => Err(self.error("no number from 0 to 2^64-1")),
        }
    }

    pub(super) fn i64(&mut self) -> Result<i64> {
        let problem = "no number from -2^63 to 2^63-1";
        let negative = self.take(b'-');
        let number = i128::from(self.u64()?);
        i64::try_from(if negative { -number } else { number }).map_err(|_| self.error(problem))
    }

    /// A string, borrowed if it has no escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        self.expect(b'"', "no string")?;
        let rest = &self.text[self.at..];
        let end = memchr2(b'"', b'\\', rest).ok_or_else(|| self.error("a string without an end"))?;
        let plain = &rest[..end];
        if rest[end] == b'"' && !has_control(plain) && (plain.is_ascii() || str::from_utf8(plain).is_ok()) {
            self.at += end + 1;
            return Ok(Cow::Borrowed(plain));
        }
        self.escaped_string().map(Cow::Owned)
    }

    /// The rest of a string after its first quote.
    fn escaped_string(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let end = memchr2(b'"', b'\\', rest).ok_or_else(|| self.error("a string without an end"))?;
            let plain = &rest[..end];
            if has_control(plain) {
                return Err(self.error("a control character in a string"));
            }
            for chunk in plain.utf8_chunks() {
                out.extend_from_slice(chunk.valid().as_bytes());
                for _ in chunk.invalid() {
                    push_char(&mut out, REPLACEMENT);
                }
            }
            self.at += end + 1;
            if rest[end] == b'"' {
                return Ok(out);
            }
            let escape = self.text.get(self.at).copied();
            self.at += 1;
            match escape {
                Some(byte @ (b'"' | b'\\' | b'/')) => out.push(byte),
                Some(b'b') => out.push(0x08),
                Some(b'f') => out.push(0x0c),
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b't') => out.push(b'\t'),
                Some(b'u') => {
                    let unit = self.hex()?;
                    push_char(&mut out, self.surrogates(unit)?);
                }
                _ => {
                    self.at -= 1;
                    return Err(self.error("an unknown escape"));
                }
            }
        }
    }

    /// The character that starts with this UTF-16 unit.
    fn surrogates(&mut self, unit: u16) -> Result<char> {
        if !(0xd800..0xdc00).contains(&unit) || !self.text[self.at..].starts_with(b"\\u") {
            return Ok(char::from_u32(u32::from(unit)).unwrap_or(REPLACEMENT));
        }
        let before = self.at;
        self.at += 2;
        let low = self.hex()?;
        match char::decode_utf16([unit, low]).next() {
            Some(Ok(both)) => Ok(both),
            _ => {
                // The second escape stands for itself.
                self.at = before;
                Ok(REPLACEMENT)
            }
        }
    }

    fn hex(&mut self) -> Result<u16> {
        let digits = self.text.get(self.at..self.at + 4).and_then(|digits| {
            digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + (*digit as char).to_digit(16)?))
        });
        let unit = digits.and_then(|unit| u16::try_from(unit).ok());
        let unit = unit.ok_or_else(|| self.error("no four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }

    /// Skips a value of any kind, however deep it is.
    pub(super) fn skip(&mut self) -> Result<()> {
        // For each array or object: whether it is an object, and whether its first element is still to come.
        let mut open: Vec<(bool, bool)> = Vec::new();
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    open.push((true, true));
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push((false, true));
                }
                Some(b'"') => drop(self.string()?),
                Some(b't' | b'f') => drop(self.bool()?),
                Some(b'n') if self.null() => {}
                Some(b'-' | b'0'..=b'9') => {
                    let number = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                    self.at += self.text[self.at..].iter().take_while(number).count();
                }
                _ => return Err(self.error("no value")),
            }
            // To the next value.
            loop {
                let Some((object, first)) = open.last_mut() else { return Ok(()) };
                let more = if *object { self.member(first)?.is_some() } else { self.element(first)? };
                if more {
                    break;
                }
                open.pop();
            }
        }
    }

    /// Nothing but blanks may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("more after the end")),
        }
    }
}

fn has_control(text: &[u8]) -> bool {
    // Without an early exit the compiler makes vector instructions of it.
    text.iter().fold(false, |any, byte| any | (*byte < 0x20))
}

fn push_char(out: &mut Vec<u8>, char: char) {
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(json: &[u8]) -> std::result::Result<Vec<u8>, (usize, &'static str)> {
        let mut reader = Reader::new(json);
        let text = reader.string().map_err(|error| (error.offset, error.problem))?;
        reader.end().map_err(|error| (error.offset, error.problem))?;
        Ok(text.into_owned())
    }

    #[test]
    fn strings_read_as_go_reads_them() {
        assert_eq!(string(br#" "plain" "#).unwrap(), b"plain");
        assert_eq!(string(br#""\"\\\/\b\f\n\r\t\u003c""#).unwrap(), b"\"\\/\x08\x0c\n\r\t<");
        assert_eq!(
            string(br#""\ud83d\ude00 \ud83dx \ude00 \ud83d\u0041""#).unwrap(),
            "😀 \u{fffd}x \u{fffd} \u{fffd}A".as_bytes()
        );
        assert_eq!(string(b"\"a\xff\xe2\x80b\"").unwrap(), "a\u{fffd}\u{fffd}\u{fffd}b".as_bytes());
        assert_eq!(string(b"\"\\n\xff\"").unwrap(), "\n\u{fffd}".as_bytes());
    }

    #[test]
    fn bad_strings_say_where() {
        assert_eq!(string(b"\"abc"), Err((1, "a string without an end")));
        assert_eq!(string(b"\"a\\x\""), Err((3, "an unknown escape")));
        assert_eq!(string(b"\"a\\u00g0\""), Err((4, "no four hexadecimal digits")));
        assert_eq!(string(b"\"a\nb\""), Err((1, "a control character in a string")));
        assert_eq!(string(b"\"\\"), Err((2, "an unknown escape")));
        assert_eq!(string(b"\"\\u12"), Err((3, "no four hexadecimal digits")));
        assert_eq!(string(b"x"), Err((0, "no string")));
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(Reader::new(b" 18446744073709551615").u64(), Ok(u64::MAX));
        assert!(Reader::new(b"18446744073709551616").u64().is_err());
        assert!(Reader::new(b"-1").u64().is_err());
        assert_eq!(Reader::new(b"-9223372036854775808").i64(), Ok(i64::MIN));
        assert!(Reader::new(b"9223372036854775808").i64().is_err());
    }

    #[test]
    fn skips_anything_however_deep() {
        for json in ["null", "-1.5e+9", r#""a\"b""#, r#"{"a":[1,{},[]],"b":{"c":null}}"#, "[true,false]"] {
            let mut reader = Reader::new(json.as_bytes());
            reader.skip().unwrap();
            reader.end().unwrap();
        }
        let mut deep = vec![b'['; 1_000_000];
        deep.extend_from_slice(&vec![b']'; 1_000_000]);
        Reader::new(&deep).skip().unwrap();
        for json in ["", "[1,]", "[1 2]", r#"{"a" 1}"#, r#"{"a":1,}"#, "{1:2}", "[", "nul", "tru"] {
            assert!(Reader::new(json.as_bytes()).skip().is_err(), "{json}");
        }
    }
}

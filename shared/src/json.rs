//! JSON as Go's `encoding/json` writes it: `<`, `>`, `&`, U+2028 and U+2029 escaped, no blanks, bytes that
//! are no UTF-8 as `\ufffd`. All programs print through this, so that no script sees a difference.

use std::io;

use serde::Serialize;

use crate::time::UnixNanos;

/// Appends `text` in quotes, escaped as Go does it.
///
/// Control characters are `\u00xx` but for `\n`, `\r` and `\t`; a byte that is no UTF-8 is the six
/// characters `\ufffd`, while a real U+FFFD stays as it is.
pub fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` escaped, without quotes. Cutting a text between two characters and writing the parts
/// one after the other gives the same bytes.
pub fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let (plain, tail) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some(first) = tail.first() else { return };
        rest = if first.is_ascii() {
            write_ascii_escape(out, *first);
            &tail[1..]
        } else {
            let (run, after) = tail.split_at(tail.iter().position(u8::is_ascii).unwrap_or(tail.len()));
            write_non_ascii(out, run);
            after
        };
    }
}

/// How many bytes at the start of `text` need no escape.
fn plain_length(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let special = special_bytes(*word);
        if special != 0 {
            return at * 8 + first_byte(special);
        }
    }
    let mut last = [b'a'; 8];
    last[..rest.len()].copy_from_slice(rest);
    let special = special_bytes(last);
    if special == 0 { text.len() } else { words.len() * 8 + first_byte(special) }
}

/// Which of eight bytes cannot simply be copied: those below 0x20, those that are not ASCII, and `"`, `\`, `<`, `>`, `&`.
/// The lowest bit that is set is the high bit of the first such byte; nothing is set if there is none.
const fn special_bytes(bytes: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    /// Marks the bytes of `word` that are zero. A borrow may mark bytes after a zero, never before.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let word = u64::from_le_bytes(bytes);
    let control = word.wrapping_sub(0x20 * ONES) & !word;
    // Each of the first two pairs differs in one bit only.
    let angle = zeros((word | (0x02 * ONES)) ^ (0x3e * ONES));
    let quote_or_and = zeros((word | (0x04 * ONES)) ^ (0x26 * ONES));
    let backslash = zeros(word ^ (0x5c * ONES));
    (word | control | angle | quote_or_and | backslash) & HIGH
}

/// The position of the first byte that is marked.
const fn first_byte(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

fn write_ascii_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}

/// Writes a run of bytes of which none is ASCII.
fn write_non_ascii(out: &mut Vec<u8>, run: &[u8]) {
    for chunk in run.utf8_chunks() {
        write_separators_escaped(out, chunk.valid().as_bytes());
        // As Go: each byte of a bad sequence counts by itself.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Writes UTF-8, with U+2028 and U+2029 escaped.
fn write_separators_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, b"\xe2\x80") {
        out.extend_from_slice(&rest[..at]);
        // `text` is well-formed, so there is a third byte.
        let (found, after) = rest[at..].split_at(3);
        match found[2] {
            0xa8 => out.extend_from_slice(b"\\u2028"),
            0xa9 => out.extend_from_slice(b"\\u2029"),
            _ => out.extend_from_slice(found),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Appends a number in decimal.
pub fn write_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a number in decimal.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a point in time as Go's `time.RFC3339Nano` has it, in UTC and without quotes.
pub fn write_time(out: &mut Vec<u8>, time: UnixNanos) {
    const SECOND: i64 = 1_000_000_000;
    let (seconds, nanos) = (time.0.div_euclid(SECOND), time.0.rem_euclid(SECOND));
    // All of `i64` lies in the years 1677 to 2262.
    let date = jiff::Timestamp::from_second(seconds)
        .map(|timestamp| jiff::tz::Offset::UTC.to_datetime(timestamp))
        .unwrap_or_default();
    let mut digits = |number: i64, width: u32, after: u8| {
        for place in (0..width).rev() {
            out.push(b'0' + (number / 10_i64.pow(place) % 10) as u8);
        }
        out.push(after);
    };
    digits(date.year().into(), 4, b'-');
    digits(date.month().into(), 2, b'-');
    digits(date.day().into(), 2, b'T');
    digits(date.hour().into(), 2, b':');
    digits(date.minute().into(), 2, b':');
    digits(date.second().into(), 2, b'.');
    digits(nanos, 9, b'0');
    while out.pop_if(|byte| *byte == b'0').is_some() {}
    out.pop_if(|byte| *byte == b'.');
    out.push(b'Z');
}

/// `value` as Go's `json.Marshal` would write it, if its fields stand in the same order.
///
/// # Errors
/// Those of `value`'s own `Serialize`.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

/// As [`to_vec`], for text.
///
/// # Errors
/// Those of `value`'s own `Serialize`.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let bytes = to_vec(value)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// Makes `serde_json` print as Go does (`serde_json::Serializer::with_formatter`).
#[derive(Debug, Clone, Copy, Default)]
pub struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // serde_json has cut out what it escapes itself; these are left.
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (head, tail) = rest.split_at(at);
            writer.write_all(head.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(found) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(found))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: serde_json::ser::CharEscape,
    ) -> io::Result<()> {
        use serde_json::ser::CharEscape;
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        write_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(escaped(b"plain/text"), "\"plain/text\"");
        assert_eq!(escaped(b"<a href=\"x\">&\\"), r#""\u003ca href=\"x\"\u003e\u0026\\""#);
        assert_eq!(escaped(b"\n\r\t\x08\x0c\x00\x1f\x7f"), "\"\\n\\r\\t\\u0008\\u000c\\u0000\\u001f\u{7f}\"");
        assert_eq!(escaped("é😀\u{2028}\u{2029}\u{2027}".as_bytes()), "\"é😀\\u2028\\u2029\u{2027}\"");
        assert_eq!(escaped("\u{fffd}".as_bytes()), "\"\u{fffd}\"");
    }

    #[test]
    fn the_first_special_byte_is_found_at_any_place() {
        let is_special =
            |byte: u8| !(0x20..0x80).contains(&byte) || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
        for byte in 0..=u8::MAX {
            for len in 1..20 {
                for at in 0..len {
                    // A space is the least plain byte: a borrow from the byte before it would show.
                    let mut text = vec![b' '; len];
                    text[at] = byte;
                    let expected = if is_special(byte) { at } else { len };
                    assert_eq!(plain_length(&text), expected, "{byte:#x} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn each_bad_byte_becomes_one_replacement() {
        assert_eq!(escaped(b"\xff"), r#""\ufffd""#);
        assert_eq!(escaped(b"a\xe2\x80b"), r#""a\ufffd\ufffdb""#);
        // A surrogate and a sequence cut short at the end.
        assert_eq!(escaped(b"\xed\xa0\x80"), r#""\ufffd\ufffd\ufffd""#);
        assert_eq!(escaped(b"\xc3\xa9\xc3"), "\"é\\ufffd\"");
        assert_eq!(escaped(b"\xe2\x80\xa8\xff\xe2\x80\xa9"), r#""\u2028\ufffd\u2029""#);
    }

    #[test]
    fn times_have_the_fraction_they_need() {
        let text = |nanos| {
            let mut out = Vec::new();
            write_time(&mut out, UnixNanos(nanos));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(text(1_500_000_000_000_000_000), "2017-07-14T02:40:00Z");
        assert_eq!(text(1_500_000_010_120_000_000), "2017-07-14T02:40:10.12Z");
        assert_eq!(text(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(text(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    #[test]
    fn serde_values_print_alike() {
        for text in ["<>&", "\u{2028}x\u{2029}", "\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}", "\"\\/", "é😀\u{fffd}"]
        {
            assert_eq!(to_string(text).unwrap(), escaped(text.as_bytes()), "{text:?}");
        }
        let map = std::collections::BTreeMap::from([("<k>", vec![1, 2]), ("a", vec![])]);
        assert_eq!(to_string(&map).unwrap(), r#"{"\u003ck\u003e":[1,2],"a":[]}"#);
    }

    proptest::proptest! {
        #[test]
        fn any_text_prints_as_serde_prints_it(text in "\\PC*|[<>&\u{2028}\u{0}-\u{1f}é]*") {
            proptest::prop_assert_eq!(escaped(text.as_bytes()), to_string(&text).unwrap());
        }

        #[test]
        fn any_bytes_read_back_as_their_lossy_text(bytes: Vec<u8>) {
            let back: String = serde_json::from_str(&escaped(&bytes)).unwrap();
            let mut want = String::new();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                match std::str::from_utf8(rest) {
                    Ok(valid) => { want.push_str(valid); rest = &[]; }
                    Err(error) => {
                        let (valid, bad) = rest.split_at(error.valid_up_to());
                        want.push_str(std::str::from_utf8(valid).unwrap());
                        want.push('\u{fffd}');
                        rest = &bad[1..];
                    }
                }
            }
            proptest::prop_assert_eq!(back, want);
        }
    }
}

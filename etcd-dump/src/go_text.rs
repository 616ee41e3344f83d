//! Texts in the form that Go prints them.

use std::fmt::Write;

use shared::time::UnixNanos;

/// Quotes bytes as Go's `%q` does a string: what is no UTF-8 byte by byte, what is not printable escaped.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for byte in chunk.invalid() {
            push(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' | '\\' => {
            out.push('\\');
            out.push(c);
        }
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        _ if is_printable(c) => out.push(c),
        '\0'..' ' | '\x7f' => push(out, format_args!("\\x{:02x}", u32::from(c))),
        '\0'..='\u{ffff}' => push(out, format_args!("\\u{:04x}", u32::from(c))),
        _ => push(out, format_args!("\\U{:08x}", u32::from(c))),
    }
}

/// Letters, marks, numbers, punctuation, symbols and the plain space, as Go's `unicode.IsPrint`.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // Rust's own escaping has the same table, but escapes marks too where they stand first.
    let mut text = [0; 5];
    text[0] = b'a';
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    let Ok(text) = std::str::from_utf8(&text[..len]) else { return false };
    text.escape_debug().eq(text.chars())
}

/// The first `before` and the last `after` bytes of a text, each quoted, or all of it if it is not longer.
pub(crate) fn excerpt(bytes: &[u8], before: usize, after: usize) -> String {
    if before + after > bytes.len() {
        return quote(bytes);
    }
    format!("{}...{}", quote(&bytes[..before]), quote(&bytes[bytes.len() - after..]))
}

/// A time in UTC as Go's `Time.String` prints it.
pub(crate) fn time(unix_nanos: i64) -> String {
    let text = UnixNanos(unix_nanos).to_string().replacen('T', " ", 1);
    format!("{} +0000 UTC", text.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote(b"a b\tc\nd"), r#""a b\tc\nd""#);
        assert_eq!(quote("\"\\\0\x01\u{2028}<&>".as_bytes()), r#""\"\\\x00\x01\u2028<&>""#);
        assert_eq!(quote(b"\x07\x08\x0b\x0c\r\x7f\xff\xe2\x82"), r#""\a\b\v\f\r\x7f\xff\xe2\x82""#);
        // Letters, marks, symbols and U+FFFD are printed; other spaces, private and unassigned ones are not.
        assert_eq!(quote("é☃e\u{301}\u{fffd}".as_bytes()), "\"é☃e\u{301}\u{fffd}\"");
        assert_eq!(quote("\u{301}x".as_bytes()), "\"\u{301}x\"");
        assert_eq!(quote("\u{a0}\u{200b}\u{e000}\u{ad}".as_bytes()), r#""\u00a0\u200b\ue000\u00ad""#);
        assert_eq!(quote("\u{1f600}\u{10ffff}".as_bytes()), "\"\u{1f600}\\U0010ffff\"");
    }

    #[test]
    fn long_texts_are_cut_in_bytes() {
        assert_eq!(excerpt(b"abcd", 2, 3), r#""abcd""#);
        assert_eq!(excerpt(b"abcde", 2, 3), r#""ab"..."cde""#);
        assert_eq!(excerpt(b"abcdef", 2, 0), r#""ab"..."""#);
        assert_eq!(excerpt("aéb".as_bytes(), 2, 1), r#""a\xc3"..."b""#);
        assert_eq!(excerpt(b"", 2, 0), r#""""#);
    }

    #[test]
    fn times_are_in_utc_without_trailing_zeros() {
        assert_eq!(time(1_795_247_009_960_384_720), "2026-11-21 07:43:29.96038472 +0000 UTC");
        assert_eq!(time(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(time(-1), "1969-12-31 23:59:59.999999999 +0000 UTC");
    }
}

//! Texts in the form that Go prints them.

use std::fmt::Write;

use shared::flags;
use shared::time::UnixNanos;

/// Quotes bytes as Go's `%q` does a string: what is no UTF-8 byte by byte, what is not printable escaped.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        let quoted = flags::quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
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

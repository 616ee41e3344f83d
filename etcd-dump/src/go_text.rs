//! Texts as Go prints them.

use shared::quote::quote;
use shared::time::UnixNanos;

/// Appends bytes quoted as Go's `%q` quotes a string: bytes that are not UTF-8 one by one, unprintable characters
/// escaped.
pub(crate) fn quote_into(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    // Most texts need no escapes.
    if bytes.iter().copied().all(is_plain) {
        out.extend_from_slice(bytes);
    } else {
        escape_into(out, bytes);
    }
    out.push(b'"');
}

fn escape_into(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for run in chunk.valid().as_bytes().chunk_by(|a, b| is_plain(*a) == is_plain(*b)) {
            match run {
                [byte, ..] if is_plain(*byte) => out.extend_from_slice(run),
                // Frequent in JSON.
                [byte @ (b'"' | b'\\')] => out.extend_from_slice(&[b'\\', *byte]),
                run => escape_run(out, run),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(b"\\x");
            for nibble in [byte >> 4, byte & 15] {
                out.push(b"0123456789abcdef"[usize::from(nibble)]);
            }
        }
    }
}

/// Appends whole characters that all need an escape.
fn escape_run(out: &mut Vec<u8>, run: &[u8]) {
    let quoted = quote(run);
    out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
}

/// Whether a byte needs no escape.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// Appends the first `before` and the last `after` bytes of a text, each quoted, or all of it if it is not longer.
pub(crate) fn excerpt_into(out: &mut Vec<u8>, bytes: &[u8], before: usize, after: usize) {
    if before + after > bytes.len() {
        return quote_into(out, bytes);
    }
    quote_into(out, &bytes[..before]);
    out.extend_from_slice(b"...");
    quote_into(out, &bytes[bytes.len() - after..]);
}

/// Appends a number, right-aligned in `columns` columns.
pub(crate) fn write_right(out: &mut Vec<u8>, number: u64, columns: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    out.resize(out.len() + columns.saturating_sub(digits.len()), b' ');
    out.extend_from_slice(digits);
}

/// Appends a number.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    write_right(out, number, 0);
}

/// A time in UTC as Go's `Time.String` prints it.
pub(crate) fn time(unix_nanos: i64) -> String {
    let text = UnixNanos(unix_nanos).to_string().replacen('T', " ", 1);
    format!("{} +0000 UTC", text.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        quote_into(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    fn excerpt(bytes: &[u8], before: usize, after: usize) -> String {
        let mut out = Vec::new();
        excerpt_into(&mut out, bytes, before, after);
        String::from_utf8(out).unwrap()
    }

    fn right(number: u64, columns: usize) -> String {
        let mut out = Vec::new();
        write_right(&mut out, number, columns);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_stand_at_the_right() {
        assert_eq!([right(7, 4), right(12345, 4), right(7, 0)], ["   7", "12345", "7"]);
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quoted(b"a b\tc\nd"), r#""a b\tc\nd""#);
        assert_eq!(quoted("\"\\\0\x01\u{2028}<&>".as_bytes()), r#""\"\\\x00\x01\u2028<&>""#);
        assert_eq!(quoted(b"\x07\x08\x0b\x0c\r\x7f\xff\xe2\x82"), r#""\a\b\v\f\r\x7f\xff\xe2\x82""#);
        // Letters, marks, symbols and U+FFFD are printed; other spaces, private and unassigned ones are not.
        assert_eq!(quoted("é☃e\u{301}\u{fffd}".as_bytes()), "\"é☃e\u{301}\u{fffd}\"");
        assert_eq!(quoted("\u{301}x".as_bytes()), "\"\u{301}x\"");
        assert_eq!(quoted("\u{a0}\u{200b}\u{e000}\u{ad}".as_bytes()), r#""\u00a0\u200b\ue000\u00ad""#);
        assert_eq!(quoted("\u{1f600}\u{10ffff}".as_bytes()), "\"\u{1f600}\\U0010ffff\"");
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

//! Quotes text as Go's `%q` does, for messages that clients and operators compare.

use std::fmt::Write as _;

/// `text` in double quotes. What is not printable is escaped, and bytes that are not UTF-8 become `\xNN`.
pub fn quote(text: impl AsRef<[u8]>) -> String {
    let bytes = text.as_ref();
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for byte in chunk.invalid() {
            push_hex(&mut out, "\\x", 2, u32::from(*byte));
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        ' '..='~' => out.push(c),
        '\0'..='\u{7f}' => push_hex(out, "\\x", 2, u32::from(c)),
        _ if is_printable(c) => out.push(c),
        '\0'..='\u{ffff}' => push_hex(out, "\\u", 4, u32::from(c)),
        _ => push_hex(out, "\\U", 8, u32::from(c)),
    }
}

fn push_hex(out: &mut String, prefix: &str, digits: usize, number: u32) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{prefix}{number:0digits$x}");
}

/// Letters, marks, numbers, punctuation and symbols: what Go calls printable, apart from ASCII.
fn is_printable(c: char) -> bool {
    // `escape_debug` leaves printable characters alone, and escapes a combining mark only at the start of a text:
    // behind a letter the mark is in its usual place.
    !c.is_control() && c != '\u{a0}' && format!("a{c}").escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, quoted) in [
            ("plain 'text' <&>", r#""plain 'text' <&>""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}\u{1}\u{7f}", r#""\a\b\f\n\r\t\v\x01\x7f""#),
            ("é ü ß 日本 \u{fffd}", "\"é ü ß 日本 \u{fffd}\""),
            ("e\u{301}", "\"e\u{301}\""),
            ("\u{a0}\u{85}\u{200b}\u{2028}\u{feff}\u{e000}", r#""\u00a0\u0085\u200b\u2028\ufeff\ue000""#),
            ("\u{1f600}\u{e0001}", "\"\u{1f600}\\U000e0001\""),
        ] {
            assert_eq!(quote(text), quoted);
        }
        assert_eq!(quote(b"a\xffb\xe2\x82"), r#""a\xffb\xe2\x82""#);
    }
}

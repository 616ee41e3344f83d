//! Small forms of text that Go programs write and clients may compare: escaped URLs, HTML, durations, dates.

use std::cell::Cell;
use std::fmt::Write;

use shared::time::UnixNanos;

/// The length of a date.
const DATE_LENGTH: usize = 29;

thread_local! {
    /// The second of the last date, and the date.
    static LAST: Cell<(i64, [u8; DATE_LENGTH])> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
}

/// Appends `path` as a part of a URL: other bytes than those that a path may contain become `%XX`, in upper case.
pub(crate) fn push_url_path(out: &mut String, path: &[u8]) {
    for &byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' => {
                out.push(char::from(byte));
            }
            _ => push_escaped(out, byte),
        }
    }
}

fn push_escaped(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

/// Appends `text` with the five special characters of HTML escaped.
pub(super) fn push_html(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
}

/// A duration in Go's format: `1h2m3.5s`, `12.3ms`, `4µs`.
pub(crate) fn duration(nanos: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let small = |unit: u64, name: &str| format!("{sign}{}{name}", fraction(nanos, unit));
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => small(1, "ns"),
        1_000..1_000_000 => small(1_000, "µs"),
        1_000_000..SECOND => small(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanos / (60 * SECOND), nanos % (60 * SECOND));
            let seconds = fraction(rest, SECOND);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `value / unit` with as many decimals as necessary; `unit` is a power of ten.
fn fraction(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

/// `now` in HTTP's format: `Sat, 21 Nov 2026 11:01:26 GMT`.
pub(crate) fn http_date(now: UnixNanos) -> [u8; DATE_LENGTH] {
    let second = now.0.div_euclid(1_000_000_000);
    let (last, date) = LAST.get();
    if second == last {
        return date;
    }
    let date = format_date(second).unwrap_or(date);
    LAST.set((second, date));
    date
}

fn format_date(second: i64) -> Option<[u8; DATE_LENGTH]> {
    let time = jiff::Timestamp::from_second(second).ok()?;
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().into_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_path_may_not_hold() {
        let mut out = String::new();
        push_url_path(&mut out, "/a b?c!é'(%".as_bytes());
        assert_eq!(out, "/a%20b%3Fc%21%C3%A9%27%28%25");
        out.clear();
        push_url_path(&mut out, b"/-_.~$&+,:;=@");
        assert_eq!(out, "/-_.~$&+,:;=@");
    }

    #[test]
    fn durations() {
        for (nanos, wanted) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (12_300_000, "12.3ms"),
            (1_000_000_000, "1s"),
            (61_000_000_001, "1m1.000000001s"),
            (7_262_500_000_000, "2h1m2.5s"),
            (-1_500_000_000, "-1.5s"),
        ] {
            assert_eq!(duration(nanos), wanted);
        }
    }

    #[test]
    fn escapes_html() {
        let mut out = String::new();
        push_html(&mut out, "/a?b=<1>&c='\"");
        assert_eq!(out, "/a?b=&lt;1&gt;&amp;c=&#39;&#34;");
    }

    #[test]
    fn dates() {
        for (second, wanted) in [
            (1_795_258_886, "Sat, 21 Nov 2026 11:01:26 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        ] {
            let date = http_date(UnixNanos(second * 1_000_000_000 + 999_999_999));
            assert_eq!(std::str::from_utf8(&date), Ok(wanted));
        }
    }
}

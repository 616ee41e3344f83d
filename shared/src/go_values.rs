//! Values of flags as Go parses them: integers with prefixes, booleans and durations.

use std::time::Duration;

/// Errors for texts that are not values of the kind.
const NOT_A_NUMBER: &str = "it must be a whole number, such as 60, 0x3c or 074";
const NOT_A_DURATION: &str = "it must be a number with a unit, such as 500ms, 1.5s or 2m";
const TOO_LARGE: &str = "it does not fit into 64 bits";

/// A whole number with an optional sign, decimal or with `0x`, `0o`, `0b` or `0` in front.
///
/// # Errors
/// Why it is none, for people.
pub fn integer(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NOT_A_NUMBER.to_owned());
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| TOO_LARGE.to_owned())
}

/// Parses a boolean in one of Go's spellings.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Parses a duration: numbers with units, `1h2m3.5s`. A negative one becomes zero.
///
/// # Errors
/// Why it is none, for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(NOT_A_DURATION.to_owned());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_while(after, |c| !c.is_ascii_digit() && c != '.');
        nanos = nanos.saturating_add(part_nanos(number, unit).ok_or(NOT_A_DURATION)?);
        rest = after;
    }
    match i64::try_from(nanos) {
        Ok(_) if negative => Ok(Duration::ZERO),
        Ok(nanos) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Err(_) => Err(TOO_LARGE.to_owned()),
    }
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}

fn part_nanos(number: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    // More than the 19 digits of 64 bits would not fit; further digits of a fraction do not matter.
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()? };
    let fraction = &fraction[..fraction.len().min(19)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    Some(whole.saturating_mul(unit).saturating_add(fraction * unit / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_gos_prefixes() {
        for (text, value) in [
            ("0", 0),
            ("100", 100),
            ("-1", -1),
            ("+7", 7),
            ("0x10", 16),
            ("010", 8),
            ("0b11", 3),
            ("0o17", 15),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
        for text in ["", "-", "x", "1.5", "08", "0x", "--1", "99999999999999999999", " 1"] {
            assert!(integer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("0", 0),
            ("300ms", 300),
            ("1s", 1000),
            ("1.5s", 1500),
            (".5s", 500),
            ("1m1s", 61_000),
            ("-5s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("2us"), Ok(Duration::from_micros(2)));
        for text in ["", "5", "x", "s", "1.2.3s", "1 s", ".s", "-", "1d", "9999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans_have_gos_spellings() {
        assert_eq!(boolean("T"), Some(true));
        assert_eq!(boolean("0"), Some(false));
        assert_eq!(boolean("maybe"), None);
        assert_eq!(boolean(""), None);
    }
}

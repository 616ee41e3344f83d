//! Parameters of a request: the query and, in some requests, a form in the body.
//!
//! A parameter may occur several times; the first one counts, and those of the body come before those of the query.
//! Everything is checked, also unused parameters: one bad escape refuses the request.

use std::borrow::Cow;
use std::fmt;

use shared::quote::quote;

/// The parameters of the API. Any other one is checked and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    /// The value to set.
    Value,
    /// The value for a compare.
    PrevValue,
    /// The modified index for a compare.
    PrevIndex,
    /// Whether the key must exist.
    PrevExist,
    /// The first index of a watch.
    WaitIndex,
    /// Includes everything below.
    Recursive,
    /// Sorted by name.
    Sorted,
    /// A watch.
    Wait,
    /// A directory.
    Dir,
    /// A quorum read.
    Quorum,
    /// A watch that continues after its first event.
    Stream,
    /// Seconds to live.
    Ttl,
    /// Changes the expiration and keeps the value.
    Refresh,
    /// The first index of a watch of v1.
    Index,
}

const PARAMS: usize = 14;

impl Param {
    fn by_name(name: &[u8]) -> Option<Param> {
        Some(match name {
            b"value" => Param::Value,
            b"prevValue" => Param::PrevValue,
            b"prevIndex" => Param::PrevIndex,
            b"prevExist" => Param::PrevExist,
            b"waitIndex" => Param::WaitIndex,
            b"recursive" => Param::Recursive,
            b"sorted" => Param::Sorted,
            b"wait" => Param::Wait,
            b"dir" => Param::Dir,
            b"quorum" => Param::Quorum,
            b"stream" => Param::Stream,
            b"ttl" => Param::Ttl,
            b"refresh" => Param::Refresh,
            b"index" => Param::Index,
            _ => return None,
        })
    }
}

/// The parameters of one request. Values without escapes are borrowed from it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Form<'a> {
    first: [Option<Cow<'a, [u8]>>; PARAMS],
}

/// Why parameters cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FormError {
    /// A `;`, although only `&` separates.
    Semicolon,
    /// A `%` without two hexadecimal digits, and up to two bytes after it.
    Escape(Vec<u8>),
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormError::Semicolon => f.write_str("invalid semicolon separator in query"),
            FormError::Escape(bytes) => write!(f, "invalid URL escape {}", quote(bytes)),
        }
    }
}

impl<'a> Form<'a> {
    /// Parses a form body, which may be empty, and a query. Errors of the body come first.
    pub(crate) fn parse(body: &'a [u8], query: &'a [u8]) -> Result<Form<'a>, FormError> {
        let mut form = Form::default();
        let body_error = form.take_pairs(body);
        let query_error = form.take_pairs(query);
        match body_error.or(query_error) {
            None => Ok(form),
            Some(error) => Err(error),
        }
    }

    /// The same for v1, where malformed parameters are ignored.
    pub(crate) fn parse_what_can_be(body: &'a [u8], query: &'a [u8]) -> Form<'a> {
        let mut form = Form::default();
        let _ = form.take_pairs(body);
        let _ = form.take_pairs(query);
        form
    }

    /// The first value of the parameter; `None` if the request does not have it.
    pub(crate) fn get(&self, param: Param) -> Option<&[u8]> {
        self.first[param as usize].as_deref()
    }

    /// Of several errors the last semicolon is reported, otherwise the first escape.
    fn take_pairs(&mut self, mut rest: &'a [u8]) -> Option<FormError> {
        let mut error = None;
        while !rest.is_empty() {
            let (pair, after) = split_at_byte(rest, b'&');
            rest = after.unwrap_or_default();
            if memchr::memchr(b';', pair).is_some() {
                error = Some(FormError::Semicolon);
            } else if !pair.is_empty()
                && let Err(bad) = self.take_pair(pair)
            {
                error.get_or_insert(bad);
            }
        }
        error
    }

    fn take_pair(&mut self, pair: &'a [u8]) -> Result<(), FormError> {
        let (name, value) = split_at_byte(pair, b'=');
        let name = unescape(name)?;
        let value = unescape(value.unwrap_or_default())?;
        if let Some(param) = Param::by_name(&name) {
            self.first[param as usize].get_or_insert(value);
        }
        Ok(())
    }
}

/// The first values of these parameters, empty if missing, parsed like [`Form::parse`].
pub(crate) fn values<'a, const N: usize>(
    names: [&str; N],
    body: &'a [u8],
    query: &'a [u8],
) -> Result<[Cow<'a, [u8]>; N], FormError> {
    // Checks everything first, so that the code below meets no error.
    Form::parse(body, query)?;
    let mut values = [const { None }; N];
    let pairs = [body, query].into_iter().flat_map(|text| text.split(|byte| *byte == b'&'));
    for (name, value) in pairs.map(|pair| split_at_byte(pair, b'=')) {
        let name = unescape(name)?;
        if let Some(at) = names.iter().position(|known| known.as_bytes() == &*name) {
            values[at].get_or_insert(unescape(value.unwrap_or_default())?);
        }
    }
    Ok(values.map(Option::unwrap_or_default))
}

fn split_at_byte(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(separator, bytes) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// Replaces `+` by a blank and `%XX` by a byte.
fn unescape(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FormError> {
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let Some(decoded) = hex_pair(rest) else {
                    let from = bytes.len() - rest.len() - 1;
                    return Err(FormError::Escape(bytes[from..bytes.len().min(from + 3)].to_vec()));
                };
                rest = &rest[2..];
                decoded
            }
            _ => byte,
        });
    }
    Ok(Cow::Owned(out))
}

/// The byte that the two hexadecimal digits at the start of `bytes` encode.
pub(super) fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let (high, low) = (hex_digit(*bytes.first()?)?, hex_digit(*bytes.get(1)?)?);
    Some(high << 4 | low)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A boolean in one of the twelve spellings that Go's `strconv` accepts.
pub(crate) fn parse_bool(bytes: &[u8]) -> Option<bool> {
    match bytes {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

/// A decimal number of up to 64 bits, without a sign.
pub(crate) fn parse_u64(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(body: &str, query: &str) -> Result<Option<String>, String> {
        let form = Form::parse(body.as_bytes(), query.as_bytes()).map_err(|error| error.to_string())?;
        Ok(form.get(Param::Value).map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    #[test]
    fn the_first_value_counts_and_the_body_wins() {
        assert_eq!(value("", "value=1&value=2"), Ok(Some("1".into())));
        assert_eq!(value("value=b", "value=q"), Ok(Some("b".into())));
        assert_eq!(value("other=b", "value=q"), Ok(Some("q".into())));
        assert_eq!(value("", "Value=1&VALUE=2"), Ok(None));
        assert_eq!(value("value", ""), Ok(Some(String::new())));
        assert_eq!(value("&&value=x&&", ""), Ok(Some("x".into())));
        assert_eq!(value("", "value=a=b"), Ok(Some("a=b".into())));
        assert_eq!(value("", "=value"), Ok(None));
    }

    #[test]
    fn unescapes_names_and_values() {
        assert_eq!(value("", "v%61lue=a+b%2B%26"), Ok(Some("a b+&".into())));
        assert_eq!(value("", "value=%E6%97%a5"), Ok(Some("日".into())));
    }

    #[test]
    fn names_the_bad_escape() {
        let bad = |query| value("", query).expect_err("is refused");
        assert_eq!(bad("value=%zz"), "invalid URL escape \"%zz\"");
        assert_eq!(bad("%zzz=1"), "invalid URL escape \"%zz\"");
        assert_eq!(bad("value=a%4"), "invalid URL escape \"%4\"");
        assert_eq!(bad("value=%"), "invalid URL escape \"%\"");
        assert_eq!(bad("unknown=%g1"), "invalid URL escape \"%g1\"");
        assert_eq!(bad("a=%1x&b=%2y"), "invalid URL escape \"%1x\"");
        assert_eq!(bad("value=%\"a"), "invalid URL escape \"%\\\"a\"");
    }

    #[test]
    fn a_semicolon_beats_an_escape_and_the_body_beats_the_query() {
        let semicolon = Err("invalid semicolon separator in query".to_owned());
        assert_eq!(value("value=a;dir=true", ""), semicolon);
        assert_eq!(value("", "a=%zz&value=a;b"), semicolon);
        assert_eq!(value("", "value=a;b&a=%zz"), semicolon);
        assert_eq!(value("a=%zz", "b;c"), Err("invalid URL escape \"%zz\"".into()));
    }

    #[test]
    fn reads_numbers_strictly() {
        assert_eq!(parse_u64(b"0"), Some(0));
        assert_eq!(parse_u64(b"007"), Some(7));
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "-1", "+1", "1_0", "1.0", " 1", "0x1", "99999999999999999999"]
        {
            assert_eq!(parse_u64(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn reads_booleans_strictly() {
        for (text, wanted) in
            [("t", Some(true)), ("TRUE", Some(true)), ("F", Some(false)), ("0", Some(false))]
        {
            assert_eq!(parse_bool(text.as_bytes()), wanted, "{text}");
        }
        for bad in ["", "tRUE", "yes", "2", " true"] {
            assert_eq!(parse_bool(bad.as_bytes()), None, "{bad}");
        }
    }
}

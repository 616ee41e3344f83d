//! Numbers as Go's `strconv` reads them, with its errors.

use std::num::IntErrorKind;

use shared::quote::quote;

use shared::go_values;

/// Why a text is not a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("strconv.{function}: parsing {}: {}", quote(.text), if *.too_large { "value out of range" } else { "invalid syntax" })]
pub(crate) struct NumberError {
    function: &'static str,
    text: String,
    too_large: bool,
}

/// A whole number, decimal or with a prefix such as `0x`.
pub(crate) fn integer(text: &str) -> Result<i64, NumberError> {
    go_values::integer(text).map_err(|_| NumberError {
        function: "ParseInt",
        text: text.to_owned(),
        too_large: text.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit())
            && text.bytes().any(|byte| byte.is_ascii_digit()),
    })
}

/// A decimal number.
pub(crate) fn decimal(text: &str) -> Result<i64, NumberError> {
    text.parse().map_err(|error: std::num::ParseIntError| wrong("ParseInt", text, error.kind()))
}

/// A lease: hexadecimal, signed.
pub(crate) fn lease(text: &str) -> Result<i64, NumberError> {
    i64::from_str_radix(text, 16).map_err(|error| wrong("ParseInt", text, error.kind()))
}

/// A member: hexadecimal.
pub(crate) fn member(text: &str) -> Result<u64, NumberError> {
    let error = |kind: &IntErrorKind| wrong("ParseUint", text, kind);
    if text.starts_with('+') {
        return Err(error(&IntErrorKind::InvalidDigit));
    }
    u64::from_str_radix(text, 16).map_err(|failure| error(failure.kind()))
}

fn wrong(function: &'static str, text: &str, kind: &IntErrorKind) -> NumberError {
    let too_large = matches!(kind, IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
    NumberError { function, text: text.to_owned(), too_large }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_gos() {
        for (error, text) in [
            (lease("zz").unwrap_err(), "strconv.ParseInt: parsing \"zz\": invalid syntax"),
            (member("zz").unwrap_err(), "strconv.ParseUint: parsing \"zz\": invalid syntax"),
            (decimal("").unwrap_err(), "strconv.ParseInt: parsing \"\": invalid syntax"),
            (
                integer("99999999999999999999").unwrap_err(),
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
            (
                lease("fffffffffffffffff").unwrap_err(),
                "strconv.ParseInt: parsing \"fffffffffffffffff\": value out of range",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(lease("694d7a550c4c1203").unwrap(), 0x694d_7a55_0c4c_1203);
        assert_eq!(member("8e9e05c52164694d").unwrap(), 0x8e9e_05c5_2164_694d);
        assert_eq!(integer("0x10").unwrap(), 16);
    }
}

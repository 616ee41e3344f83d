//! The lines of a transaction: comparisons and requests.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use bytes::Bytes;
use shared::quote::quote;
use shared::v3::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use shared::v3::pb::etcdserverpb::request_op::Request;
use shared::v3::pb::etcdserverpb::{Compare, RequestOp};

use super::super::definition::Flag;
use super::super::failure::Failure;
use super::super::{numbers, table, words};
use super::kv;

/// Reads `value("key") = "text"`.
pub(super) fn comparison(line: &str) -> Result<Compare, Failure> {
    let Some((target, rest)) = line.split_once('(') else {
        return Err(Failure::input(format!("malformed comparison: {line}")));
    };
    let (key, operator, operand) = parts(rest);
    let (Some(key), Some(operator), Some(operand)) = (&key, &operator, &operand) else {
        return Err(Failure::input(format!(
            "malformed comparison: {line}; got {target}({}) {} {}",
            quote(key.unwrap_or_default()),
            operator.unwrap_or_default(),
            quote(operand.unwrap_or_default())
        )));
    };
    let result = match operator.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => {
            return Err(Failure::input(format!(
                "malformed comparison: {line} (unknown operator {operator})"
            )));
        }
    };
    let text = String::from_utf8_lossy(operand).into_owned();
    let number = |number: Result<i64, numbers::NumberError>| {
        number.map_err(|_| Failure::input(format!("invalid txn compare request: {line}")))
    };
    let (target, operand) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(numbers::decimal(&text))?)),
        "c" | "create" => {
            (CompareTarget::Create, TargetUnion::CreateRevision(number(numbers::decimal(&text))?))
        }
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(numbers::decimal(&text))?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(Bytes::copy_from_slice(operand))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(numbers::lease(&text))?)),
        other => {
            return Err(Failure::input(format!("malformed comparison: {line} (unknown target {other})")));
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::copy_from_slice(key),
        range_end: Bytes::new(),
        target_union: Some(operand),
    })
}

type Parts = (Option<Vec<u8>>, Option<String>, Option<Vec<u8>>);

/// Reads `"key") operator "operand"` as far as it goes.
fn parts(text: &str) -> Parts {
    let Some((key, rest)) = quoted(text.trim_start()) else { return (None, None, None) };
    let Some(rest) = rest.strip_prefix(')') else { return (Some(key), None, None) };
    let rest = rest.trim_start();
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (operator, rest) = rest.split_at(end);
    if operator.is_empty() {
        return (Some(key), None, None);
    }
    let operand = quoted(rest.trim_start()).map(|(operand, _)| operand);
    (Some(key), Some(operator.to_owned()), operand)
}

/// Reads a text in double quotes with Go's escapes, or in backquotes; also returns what follows.
fn quoted(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (inside, rest) = rest.split_once('`')?;
        return Some((inside.as_bytes().to_vec(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut out = Vec::new();
    loop {
        let next = rest.chars().next()?;
        rest = &rest[next.len_utf8()..];
        match next {
            '"' => return Some((out, rest)),
            '\\' => rest = escape(rest, &mut out)?,
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Reads what follows a backslash; returns the rest.
fn escape<'a>(text: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let plain = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '"' => u8::try_from(kind).ok()?,
        'x' => {
            out.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
            return rest.get(2..);
        }
        '0'..='7' => {
            out.push(u8::from_str_radix(text.get(..3)?, 8).ok()?);
            return text.get(3..);
        }
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            let c = char::from_u32(u32::from_str_radix(rest.get(..digits)?, 16).ok()?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return rest.get(digits..);
        }
        _ => return None,
    };
    out.push(plain);
    Some(rest)
}

/// Splits a line into words: plain ones, `'…'` as it is, `"…"` with escapes.
///
/// # Errors
/// For an escape that there is not.
pub(super) fn words_of(line: &str) -> Result<Vec<OsString>, Failure> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' if has_end(rest) => {
                let unreadable = || Failure::input(format!("invalid quoted string: {rest}"));
                let (word, after) = quoted(rest).ok_or_else(unreadable)?;
                words.push(OsString::from_vec(word));
                after
            }
            '\'' if rest[1..].contains('\'') => {
                let (word, after) = rest[1..].split_once('\'').unwrap_or((&rest[1..], ""));
                words.push(word.into());
                after
            }
            // A quote without its other one.
            '"' | '\'' => &rest[1..],
            _ => {
                let (word, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
                words.push(word.into());
                after
            }
        }
        .trim_start();
    }
    Ok(words)
}

/// Whether a text that begins with a double quote has the other one.
fn has_end(text: &str) -> bool {
    let mut escaped = false;
    text.chars().skip(1).any(|c| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    })
}

/// Reads a request: `get`, `put` or `del` with flags and arguments.
pub(super) fn request(line: &str) -> Result<RequestOp, Failure> {
    let words = words_of(line)?;
    if words.len() < 2 {
        return Err(Failure::input(format!("invalid txn compare request: {line}")));
    }
    let invalid = || Failure::input(format!("invalid txn request: {line}"));
    let name = words[0].to_str().ok_or_else(invalid)?;
    let name = if matches!(name, "get" | "put" | "del") { name } else { return Err(invalid()) };
    let command = table::ROOT.find(name).ok_or_else(invalid)?;
    let known: Vec<&'static Flag> = command.flags.iter().collect();
    let (flags, arguments, ..) = words::read_flags(&words[1..], &known).map_err(|_| invalid())?;
    let request = match name {
        "get" => Request::RequestRange(kv::get_request(&flags, &arguments)?),
        "del" => Request::RequestDeleteRange(kv::del_request(&flags, &arguments)?),
        // Standard input has the transaction, not the value.
        _ => Request::RequestPut(kv::put_request(&flags, &arguments, Vec::new)?),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(outcome: Result<impl Sized, Failure>) -> (u8, String) {
        match outcome {
            Err(failure) => (failure.status(), failure.to_string()),
            Ok(_) => (0, String::new()),
        }
    }

    #[test]
    fn comparisons_have_a_target_an_operator_and_quotes() {
        for (line, target, result, operand) in [
            (
                "value(\"x\") = \"1\"",
                CompareTarget::Value,
                CompareResult::Equal,
                TargetUnion::Value("1".into()),
            ),
            (
                "val(`x`)  != \"a\\n\\x41\\u00e9\"",
                CompareTarget::Value,
                CompareResult::NotEqual,
                TargetUnion::Value("a\nAé".into()),
            ),
            ("mod(\"x\") > \"5\"", CompareTarget::Mod, CompareResult::Greater, TargetUnion::ModRevision(5)),
            (
                "c(\"x\") < \"10\"",
                CompareTarget::Create,
                CompareResult::Less,
                TargetUnion::CreateRevision(10),
            ),
            (
                "version(\"x\") = \"0\" more",
                CompareTarget::Version,
                CompareResult::Equal,
                TargetUnion::Version(0),
            ),
            ("lease(\"x\") = \"a1\"", CompareTarget::Lease, CompareResult::Equal, TargetUnion::Lease(0xa1)),
        ] {
            let compare = comparison(line).unwrap();
            assert_eq!(compare.key, "x", "{line}");
            assert_eq!((compare.target(), compare.result()), (target, result), "{line}");
            assert_eq!(compare.target_union, Some(operand), "{line}");
        }
    }

    #[test]
    fn malformed_comparisons_are_told_as_far_as_they_go() {
        for (line, text) in [
            ("nonsense", "malformed comparison: nonsense"),
            ("foo(\"x\") = \"1\"", "malformed comparison: foo(\"x\") = \"1\" (unknown target foo)"),
            ("mod(\"x\") = \"abc\"", "invalid txn compare request: mod(\"x\") = \"abc\""),
            ("value(x) = \"1\"", "malformed comparison: value(x) = \"1\"; got value(\"\")  \"\""),
            ("value(\"x\") = 1", "malformed comparison: value(\"x\") = 1; got value(\"x\") = \"\""),
            ("value(\"x\") ~ \"1\"", "malformed comparison: value(\"x\") ~ \"1\" (unknown operator ~)"),
            ("value(\"x", "malformed comparison: value(\"x; got value(\"\")  \"\""),
        ] {
            assert_eq!(reason(comparison(line)), (3, text.to_owned()));
        }
    }

    #[test]
    fn words_may_be_quoted() {
        for (line, words) in [
            ("put key \"two words\"", &["put", "key", "two words"][..]),
            ("get 'a b' --prefix", &["get", "a b", "--prefix"]),
            ("get --prefix \"\"", &["get", "--prefix", ""]),
            ("put k \"a\\tb\\\"c\"", &["put", "k", "a\tb\"c"]),
            ("  del   x  ", &["del", "x"]),
            ("put it's \"open", &["put", "it's", "open"]),
            ("", &[]),
        ] {
            assert_eq!(words_of(line).unwrap(), words, "{line}");
        }
        assert_eq!(reason(words_of("put \"\\q\"")).0, 3);
    }

    #[test]
    fn requests_are_commands() {
        let Some(Request::RequestPut(put)) = request("put z 1 --prev-kv").unwrap().request else { panic!() };
        assert_eq!((&put.key[..], &put.value[..], put.prev_kv), (&b"z"[..], &b"1"[..], true));
        let Some(Request::RequestRange(get)) = request("get --prefix \"\"").unwrap().request else {
            panic!()
        };
        assert_eq!((&get.key[..], &get.range_end[..]), (&b"\0"[..], &b"\0"[..]));
        assert_eq!(reason(request("fly x")), (3, "invalid txn request: fly x".to_owned()));
        assert_eq!(reason(request("get x --nope")), (3, "invalid txn request: get x --nope".to_owned()));
        assert_eq!(reason(request("get")), (3, "invalid txn compare request: get".to_owned()));
        assert_eq!(reason(request("put x")).0, 128);
    }
}

//! Bodies for fuzzers: input from clients causes no panic, and the results keep their rules.

use http::Method;
use shared::time::UnixNanos;
use shared::v2::Verb;

use super::page::keys::KeysRequest;
use super::v2::parse::parse;
use super::v2::plain_get;
use crate::go_json;
use crate::transport::form::Form;
use crate::transport::request_line::{self, RequestLine};
use crate::transport::{media_type, path, text};

/// Reads `input` as a form and, after its first newline, a query.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_form(input: &[u8]) {
    let (body, query) = split(input, b'\n');
    let both = Form::parse(body, query);
    let alone = [Form::parse(body, b""), Form::parse(b"", query)];
    let readable = alone.iter().all(Result::is_ok);
    assert_eq!(both.is_ok(), readable, "a form is readable if both its parts are");
    if let Err(error) = &alone[0] {
        assert_eq!(both.as_ref(), Err(error), "the body's error comes first");
    }
}

/// Reads `input` as the path of a request, and cleans it.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_path(input: &[u8]) {
    let Ok(unescaped) = path::unescape(input) else {
        assert!(input.contains(&b'%'), "only a percent sign can be wrong");
        return;
    };
    let clean = path::cleaned(&unescaped).unwrap_or_else(|| unescaped.to_vec());
    assert_eq!(path::cleaned(&clean), None, "a cleaned path is clean");
    assert_eq!(clean.first(), Some(&b'/'));
    // The redirect leads to the same path.
    let mut url = String::new();
    text::push_url_path(&mut url, &clean);
    assert_eq!(path::unescape(url.as_bytes()).as_deref(), Ok(&clean[..]));
}

/// Reads `input` as the first bytes of a connection.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_request_line(input: &[u8]) {
    match request_line::check(input) {
        RequestLine::Fine | RequestLine::VersionUnknown => {}
        RequestLine::Partial => assert!(!input.contains(&b'\n')),
        RequestLine::Rewritten { line, consumed } => {
            assert_eq!(input.get(consumed - 1), Some(&b'\n'));
            assert_eq!(request_line::check(&line), RequestLine::Fine, "once is enough");
            let (given, kept) = (target(&input[..consumed]), target(&line));
            // A wrong escape stays wrong.
            assert_eq!(path::unescape(given), path::unescape(kept), "the target means the same");
        }
    }
}

/// Reads `input` as the first bytes of a connection that can only read keys.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_plain_get(input: &[u8]) {
    let Some((get, end)) = plain_get::read(input) else { return };
    let request = &input[..end];
    assert!(request.ends_with(b"\r\n\r\n") || request.ends_with(b"\n\n") || request.ends_with(b"\n\r\n"));
    assert_eq!(request_line::check(request), RequestLine::Fine, "plain is what needs no repair");
    assert_eq!(path::unescape(get.rest), Ok(get.rest.into()), "and no unescaping");
    let path = [b"/v2/keys", get.rest].concat();
    assert_eq!(path::cleaned(&path), None, "and no cleaning");
}

/// Reads `input`, a line each, as method, path, query, content type and body of a request for keys.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_keys_request(input: &[u8]) {
    let (method, rest) = split(input, b'\n');
    let (below, rest) = split(rest, b'\n');
    let (query, rest) = split(rest, b'\n');
    let (content_type, body) = split(rest, b'\n');
    let method = match method.first().copied().unwrap_or_default() % 5 {
        0 => Method::GET,
        1 => Method::PUT,
        2 => Method::POST,
        3 => Method::DELETE,
        _ => Method::HEAD,
    };
    let _ = media_type::is_form(content_type);
    let _ = go_json::peer_urls(body);
    let _ = go_json::first_string_at(body, "level");
    match parse(&method, below, query, content_type, body, UnixNanos(1)) {
        Ok(KeysRequest::Write(request)) => {
            assert!(request.path.starts_with(b"/1"));
            assert!(!request.wait || request.verb == Verb::QuorumGet);
            assert!(request.refresh != Some(true) || request.val.is_empty());
        }
        Ok(KeysRequest::Read { path, .. } | KeysRequest::Watch { path, .. }) => {
            assert!(path.starts_with(b"/1") && matches!(method, Method::GET | Method::HEAD));
        }
        Err(error) => assert!(error.index == 0 && error.http_status() == 400, "{error}"),
    }
}

fn target(line: &[u8]) -> &[u8] {
    let (_, rest) = split(line, b' ');
    memchr::memrchr(b' ', rest).map_or(rest, |at| &rest[..at])
}

fn split(input: &[u8], at: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(at, input) {
        Some(found) => (&input[..found], &input[found + 1..]),
        None => (input, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that often have a special meaning.
    fn special_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![prop::sample::select(b"%&=;+/.?# \r\n\"\\0aFz,{}[]:-".to_vec()), any::<u8>(),];
        prop::collection::vec(byte, 0..64)
    }

    /// A form or a query of known names.
    fn pairs() -> impl Strategy<Value = Vec<u8>> {
        let name = prop::sample::select(vec![
            "value",
            "prevValue",
            "prevIndex",
            "prevExist",
            "waitIndex",
            "recursive",
            "wait",
            "ttl",
            "refresh",
            "quorum",
            "x",
        ]);
        let value =
            prop::sample::select(vec!["", "=", "=1", "=true", "=0", "=maybe", "=%zz", "=a+b", ";", "=-1"]);
        prop::collection::vec((name, value), 0..5).prop_map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}{value}")).collect();
            pairs.join("&").into_bytes()
        })
    }

    proptest! {
        #[test]
        fn any_bytes(input in special_bytes()) {
            fuzz_form(&input);
            fuzz_path(&input);
            fuzz_request_line(&input);
            fuzz_request_line(&[b"GET /", &input[..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
            fuzz_plain_get(&[b"GET /v2/keys/", &input[..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
            fuzz_plain_get(&[b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n", &input[..], b"\r\n\r\n"].concat());
            fuzz_keys_request(&input);
        }

        #[test]
        fn requests(kind in any::<u8>(), key in special_bytes(), query in pairs(), form in pairs(), is_form: bool) {
            fuzz_form(&[&form[..], b"\n", &query].concat());
            let content_type = if is_form { media_type::FORM } else { b"text/plain; a" };
            fuzz_keys_request(&[&[kind], &b"\n"[..], &key, b"\n", &query, b"\n", content_type, b"\n", &form].concat());
        }
    }
}

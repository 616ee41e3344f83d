//! Parses requests for keys, of v2 and v1.

use bytes::Bytes;
use http::Method;
use shared::error::{ApiError, Code};
use shared::time::UnixNanos;
use shared::v2::{self, Verb};

use crate::api::page::PageRequest;
use crate::api::page::keys::{Api, KeysRequest, NEVER, check_depth, expiration, refusal, store_path};
use crate::api::v1::dialect::Dialect;
use crate::api::v1::keys as v1;
use crate::transport::form::{Form, Param, parse_bool, parse_u64};
use crate::transport::media_type;
use crate::transport::progress::ProgressInterval;

/// Parses a request. `rest` is the path below `/v2/keys`, unescaped.
pub(crate) fn parse(
    method: &Method,
    rest: &[u8],
    query: &[u8],
    content_type: &[u8],
    body: &[u8],
    now: UnixNanos,
) -> Result<KeysRequest, ApiError> {
    let form = form(method, query, content_type, body)?;
    let prev_index = number(&form, Param::PrevIndex, Code::IndexNaN, "invalid value for \"prevIndex\"")?;
    let since = number(&form, Param::WaitIndex, Code::IndexNaN, "invalid value for \"waitIndex\"")?;
    let recursive = switch(&form, Param::Recursive, "invalid value for \"recursive\"")?.unwrap_or(false);
    let sorted = switch(&form, Param::Sorted, "invalid value for \"sorted\"")?.unwrap_or(false);
    let wait = switch(&form, Param::Wait, "invalid value for \"wait\"")?.unwrap_or(false);
    let dir = switch(&form, Param::Dir, "invalid value for \"dir\"")?.unwrap_or(false);
    let quorum = switch(&form, Param::Quorum, "invalid value for \"quorum\"")?.unwrap_or(false);
    let stream = switch(&form, Param::Stream, "invalid value for \"stream\"")?.unwrap_or(false);
    if wait && *method != Method::GET {
        return Err(refusal(Code::InvalidField, "\"wait\" can only be used with GET requests"));
    }
    let prev_value = form.get(Param::PrevValue);
    if prev_value.is_some_and(<[u8]>::is_empty) {
        return Err(refusal(Code::PrevValueRequired, "\"prevValue\" cannot be empty"));
    }
    let ttl = match form.get(Param::Ttl) {
        None | Some(b"") => None,
        Some(_) => Some(number(&form, Param::Ttl, Code::TtlNaN, "invalid value for \"ttl\"")?),
    };
    let prev_exist = switch(&form, Param::PrevExist, "invalid value for prevExist")?;
    let refresh = switch(&form, Param::Refresh, "invalid value for refresh")?;
    let value = form.get(Param::Value).unwrap_or_default();
    if refresh == Some(true) {
        if !value.is_empty() {
            return Err(refusal(Code::RefreshValue, "A value was provided on a refresh"));
        }
        if ttl.is_none() {
            return Err(refusal(Code::RefreshTtlRequired, "No TTL value set"));
        }
    }

    let path = store_path(rest);
    let verb = match *method {
        // A quorum read does not wait, whatever the other parameters say.
        Method::GET if quorum => Verb::QuorumGet,
        Method::GET if wait => {
            let progress = ProgressInterval::from_query(query)
                .map_err(|()| refusal(Code::InvalidField, "invalid value for \"progress\""))?;
            return Ok(KeysRequest::Watch { path, recursive, stream, since, progress });
        }
        Method::GET | Method::HEAD => return Ok(KeysRequest::Read { path, recursive, sorted }),
        Method::PUT => Verb::Put,
        Method::POST => Verb::Post,
        _ => Verb::Delete,
    };
    Ok(KeysRequest::Write(v2::Request {
        id: 0,
        verb,
        path: path.into(),
        // Copied: the value may live long, and the buffer that it arrived in is many times larger.
        val: Bytes::copy_from_slice(value),
        dir,
        prev_value: Bytes::copy_from_slice(prev_value.unwrap_or_default()),
        prev_index,
        prev_exist,
        expiration: ttl.map_or(NEVER, |seconds| expiration(now, seconds)),
        wait,
        since,
        recursive,
        sorted,
        quorum,
        time: 0,
        stream,
        refresh,
    }))
}

/// The same for v1.
pub(super) fn parse_v1(
    api: Api,
    dialect: Dialect,
    page_request: &PageRequest<'_>,
    now: UnixNanos,
) -> Result<KeysRequest, ApiError> {
    let path = store_path(page_request.rest);
    let form = Form::parse_what_can_be(&page_request.body, page_request.query.as_bytes());
    match (api, page_request.method) {
        (Api::V1Watch, method) => v1::watch(method, path, &form, dialect),
        (_, &Method::GET | &Method::HEAD) => Ok(KeysRequest::Read { path, recursive: false, sorted: false }),
        (_, &Method::DELETE) => Ok(KeysRequest::Write(v1::delete(path))),
        _ => v1::set(path, &form, now).map(KeysRequest::Write),
    }
}

/// Checks that a request cannot create a key with too many levels.
pub(super) fn check_levels(request: KeysRequest, levels_max: usize) -> Result<KeysRequest, ApiError> {
    if let KeysRequest::Write(write) = &request {
        check_depth(write, levels_max)?;
    }
    Ok(request)
}

fn form<'a>(
    method: &Method,
    query: &'a [u8],
    content_type: &[u8],
    body: &'a [u8],
) -> Result<Form<'a>, ApiError> {
    let mut in_body: &[u8] = b"";
    if matches!(*method, Method::PUT | Method::POST) {
        match media_type::is_form(content_type) {
            Ok(true) => in_body = body,
            Ok(false) => {}
            Err(why) => return Err(refusal(Code::InvalidForm, why)),
        }
    }
    Form::parse(in_body, query).map_err(|error| refusal(Code::InvalidForm, &error.to_string()))
}

fn number(form: &Form<'_>, param: Param, code: Code, cause: &str) -> Result<u64, ApiError> {
    match form.get(param) {
        None => Ok(0),
        Some(text) => parse_u64(text).ok_or_else(|| refusal(code, cause)),
    }
}

fn switch(form: &Form<'_>, param: Param, cause: &str) -> Result<Option<bool>, ApiError> {
    match form.get(param) {
        None => Ok(None),
        Some(text) => parse_bool(text).map(Some).ok_or_else(|| refusal(Code::InvalidField, cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_000_000_000_000);

    fn parsed(method: Method, rest: &str, query: &str, body: &str) -> Result<KeysRequest, (Code, String)> {
        parse(&method, rest.as_bytes(), query.as_bytes(), media_type::FORM, body.as_bytes(), NOW)
            .map_err(|error| (error.code, String::from_utf8(error.cause).unwrap()))
    }

    fn written(method: Method, rest: &str, query: &str, body: &str) -> v2::Request {
        match parsed(method, rest, query, body) {
            Ok(KeysRequest::Write(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads() {
        let read = |path: &str, recursive, sorted| {
            Ok(KeysRequest::Read { path: path.as_bytes().to_vec(), recursive, sorted })
        };
        assert_eq!(parsed(Method::GET, "", "", ""), read("/1", false, false));
        assert_eq!(parsed(Method::GET, "/", "recursive=true", ""), read("/1", true, false));
        assert_eq!(parsed(Method::HEAD, "/a/", "sorted=1&quorum=true", ""), read("/1/a", false, true));
        // A read ignores a form in its body.
        assert_eq!(parsed(Method::GET, "/a", "", "recursive=banana"), read("/1/a", false, false));
    }

    #[test]
    fn watches() {
        let watch = |stream, since| {
            let (path, progress) = (b"/1/a".to_vec(), ProgressInterval::default());
            Ok(KeysRequest::Watch { path, recursive: true, stream, since, progress })
        };
        assert_eq!(parsed(Method::GET, "/a", "wait=true&recursive=t", ""), watch(false, 0));
        assert_eq!(parsed(Method::GET, "/a", "wait=1&recursive=1&stream=1&waitIndex=7", ""), watch(true, 7));
        let quorum = written(Method::GET, "/a", "wait=true&quorum=true", "");
        assert_eq!((quorum.verb, quorum.wait, quorum.quorum), (Verb::QuorumGet, true, true));
        for method in [Method::HEAD, Method::PUT, Method::POST, Method::DELETE] {
            let cause = "\"wait\" can only be used with GET requests".to_owned();
            assert_eq!(parsed(method, "/a", "wait=true", ""), Err((Code::InvalidField, cause)));
        }
    }

    #[test]
    fn writes() {
        let put = written(Method::PUT, "/a", "prevExist=false&ttl=9", "value=x+y&dir=false&prevIndex=3");
        let wanted = v2::Request {
            verb: Verb::Put,
            path: "/1/a".into(),
            val: "x y".into(),
            prev_index: 3,
            prev_exist: Some(false),
            expiration: NOW.0 + 9_000_000_000,
            ..v2::Request::default()
        };
        assert_eq!(put, wanted);
        let delete = written(Method::DELETE, "/a", "recursive=true&prevValue=v", "prevValue=nothing");
        assert_eq!((delete.verb, &delete.prev_value[..], delete.recursive), (Verb::Delete, &b"v"[..], true));
        let refresh = written(Method::PUT, "/a", "refresh=true&ttl=1&value=", "");
        assert_eq!((refresh.refresh, &refresh.val[..]), (Some(true), &b""[..]));
        assert_eq!(written(Method::POST, "/q", "", "value=1").verb, Verb::Post);
        assert_eq!(written(Method::PUT, "/a", "ttl=", "").expiration, 0);
    }

    #[test]
    fn a_time_to_live_beyond_the_clock_is_never_over() {
        assert_eq!(expiration(NOW, 0), NOW.0);
        // NOW is 1000 seconds after the beginning of 1970.
        let most = 9_223_372_036 - 1000;
        assert_eq!(expiration(NOW, most), (most + 1000).cast_signed() * 1_000_000_000);
        // Some of these would wrap around to now or to a second ago.
        for beyond in
            [most + 1, 9_223_372_037, 18_446_744_073, 18_446_744_074, i64::MAX as u64, 1 << 63, u64::MAX]
        {
            assert_eq!(expiration(NOW, beyond), NEVER);
            for (method, query) in [
                (Method::PUT, ""),
                (Method::PUT, "&refresh=true"),
                (Method::PUT, "&prevExist=true"),
                (Method::POST, ""),
            ] {
                let request = written(method, "/a", &format!("ttl={beyond}{query}"), "");
                assert_eq!(request.expiration, NEVER, "{beyond}{query}");
            }
        }
    }

    #[test]
    fn each_parameter_has_its_error() {
        for (query, code, cause) in [
            ("prevIndex=x", Code::IndexNaN, "invalid value for \"prevIndex\""),
            ("waitIndex=-1", Code::IndexNaN, "invalid value for \"waitIndex\""),
            ("recursive=yes", Code::InvalidField, "invalid value for \"recursive\""),
            ("sorted=", Code::InvalidField, "invalid value for \"sorted\""),
            ("wait=2", Code::InvalidField, "invalid value for \"wait\""),
            ("dir=maybe", Code::InvalidField, "invalid value for \"dir\""),
            ("quorum=maybe", Code::InvalidField, "invalid value for \"quorum\""),
            ("stream=maybe", Code::InvalidField, "invalid value for \"stream\""),
            ("prevValue=", Code::PrevValueRequired, "\"prevValue\" cannot be empty"),
            ("ttl=1.5", Code::TtlNaN, "invalid value for \"ttl\""),
            ("prevExist=", Code::InvalidField, "invalid value for prevExist"),
            ("refresh=", Code::InvalidField, "invalid value for refresh"),
            ("refresh=true&value=x", Code::RefreshValue, "A value was provided on a refresh"),
            ("refresh=true", Code::RefreshTtlRequired, "No TTL value set"),
            ("value=%zz", Code::InvalidForm, "invalid URL escape \"%zz\""),
            ("a;b", Code::InvalidForm, "invalid semicolon separator in query"),
            // Of several errors, the one that is checked first.
            ("stream=maybe&recursive=maybe&waitIndex=x", Code::IndexNaN, "invalid value for \"waitIndex\""),
            ("refresh=maybe&ttl=x", Code::TtlNaN, "invalid value for \"ttl\""),
        ] {
            assert_eq!(parsed(Method::PUT, "/a", query, ""), Err((code, cause.to_owned())), "{query}");
        }
    }

    #[test]
    fn a_malformed_content_type_refuses_writes_only() {
        let bad = b"text/plain; ;x".as_slice();
        let error = parse(&Method::PUT, b"/a", b"", bad, b"", NOW).unwrap_err();
        assert_eq!(
            (error.code, &error.cause[..]),
            (Code::InvalidForm, &b"mime: invalid media parameter"[..])
        );
        assert!(parse(&Method::DELETE, b"/a", b"", bad, b"", NOW).is_ok());
    }
}

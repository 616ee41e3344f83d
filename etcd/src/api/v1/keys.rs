//! The v1 API of 0.1 to 0.4 for the same keys: the meaning of its requests, and the form of its responses.
//!
//! The form is that of 0.1, or optionally that of 0.4.9: see [the differences](super::dialect). A response is flat,
//! without nested nodes; the response for a directory is a list of such responses.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use shared::error::{ApiError, Code, client_path};
use shared::event::{Event, LongValue, NodeView, Rendering};
use shared::json;
use shared::store::EXPIRATION_MIN;
use shared::time::UnixNanos;
use shared::v2;

use super::dialect::{Dialect, whole_seconds};
use crate::api::page::keys::{KeysRequest, expiration, refusal};
use crate::transport::form::{Form, Param, parse_u64};
use crate::transport::pieces::Pieces;
use crate::transport::progress::ProgressInterval;
use crate::transport::reply::{self, Response};

/// The cause in the errors of malformed writes.
const SET: &str = "Set";

/// A write. With `prevValue` it is conditional: the key must have that value, or must not exist if the value is
/// empty.
pub(crate) fn set(path: Vec<u8>, form: &Form<'_>, now: UnixNanos) -> Result<v2::Request, ApiError> {
    let value = form.get(Param::Value).unwrap_or_default();
    if value.is_empty() {
        return Err(refusal(Code::ValueRequired, SET));
    }
    let expiration = match form.get(Param::Ttl).unwrap_or_default() {
        b"" => 0,
        text => expires(now, seconds(text).ok_or_else(|| refusal(Code::TtlNaN, SET))?),
    };
    let prev_value = form.get(Param::PrevValue);
    Ok(v2::Request {
        verb: v2::Verb::Put,
        path: path.into(),
        val: Bytes::copy_from_slice(value),
        expiration,
        prev_value: Bytes::copy_from_slice(prev_value.unwrap_or_default()),
        prev_exist: prev_value.is_some_and(<[u8]>::is_empty).then_some(false),
        ..v2::Request::default()
    })
}

/// The removal of a key. Directories are not removed.
pub(crate) fn delete(path: Vec<u8>) -> v2::Request {
    v2::Request { verb: v2::Verb::Delete, path: path.into(), ..v2::Request::default() }
}

/// A watch for one event of the key. With `POST` it starts at `index`.
pub(crate) fn watch(
    method: &Method,
    path: Vec<u8>,
    form: &Form<'_>,
    dialect: Dialect,
) -> Result<KeysRequest, ApiError> {
    let since = match *method {
        Method::POST => form.get(Param::Index).and_then(parse_u64),
        _ => Some(0),
    };
    let since = since.ok_or_else(|| refusal(Code::IndexNaN, "Watch From Index"))?;
    let (recursive, progress) = (dialect.watches_below(), ProgressInterval::default());
    Ok(KeysRequest::Watch { path, recursive, stream: false, since, progress })
}

/// The error when a watch cannot start: 0.4 has one for all reasons.
pub(crate) fn watch_refusal(path: &[u8], index: u64) -> ApiError {
    ApiError::new(Code::ClientInternal, path, index)
}

/// The expiration of a key with this time to live. A negative one is in the past, but not so far that the store would
/// take it for "never".
fn expires(now: UnixNanos, seconds: i64) -> i64 {
    match u64::try_from(seconds) {
        Ok(seconds) => expiration(now, seconds),
        Err(_) => now.0.saturating_add(seconds.saturating_mul(1_000_000_000)).max(EXPIRATION_MIN.0),
    }
}

/// A decimal number with or without a sign.
fn seconds(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The response to a successful request.
pub(crate) fn answer(mut headers: HeaderMap, event: &Event, now: UnixNanos, dialect: Dialect) -> Response {
    headers.insert(CONTENT_TYPE, reply::TEXT);
    if event.node().is_dir() {
        return reply::pieces(headers, StatusCode::OK, Listing::new(event, event.index, now, dialect));
    }
    let (text, values) = key_text(event, event.index, now, dialect);
    match values.is_empty() {
        true => reply::answer(headers, StatusCode::OK, text),
        false => reply::pieces(headers, StatusCode::OK, Rendering::around(text, values)),
    }
}

/// A directory as a list of responses, produced in pieces. Holds the directory as of the read.
struct Listing {
    event: Event,
    index: u64,
    now: UnixNanos,
    dialect: Dialect,
    state: ListingState,
}

enum ListingState {
    Before,
    /// After the child with this name.
    Behind(Vec<u8>),
    /// In the child with this name, whose value is long.
    Inside(Rendering, Vec<u8>),
    Done,
}

impl Listing {
    fn new(event: &Event, index: u64, now: UnixNanos, dialect: Dialect) -> Listing {
        Listing { event: event.clone(), index, now, dialect, state: ListingState::Before }
    }
}

impl Pieces for Listing {
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        while out.len() < bytes {
            if !self.write_children(out, bytes) {
                return false;
            }
        }
        true
    }
}

impl Listing {
    /// Appends children, up to one with a long value, or the next piece of such a value. False once all are written.
    fn write_children(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        let Listing { event, index, now, dialect, state } = self;
        let (last, mut any) = match std::mem::replace(state, ListingState::Done) {
            ListingState::Done => return false,
            ListingState::Before => {
                out.push(b'[');
                (Vec::new(), false)
            }
            ListingState::Behind(last) => (last, true),
            ListingState::Inside(mut child, name) => {
                let more = child.write(out, bytes);
                *state = if more { ListingState::Inside(child, name) } else { ListingState::Behind(name) };
                return true;
            }
        };
        let (key, node) = (client_path(event.key()), event.node());
        // Names of hidden nodes begin with an underscore.
        let shown = |child: &NodeView<'_>| dialect.lists_hidden() || !child.name().starts_with(b"_");
        for child in node.children_after(&last).filter(shown) {
            if any {
                out.push(b',');
            }
            any = true;
            let begin = out.len();
            let gaps = write_child(out, event, key, &child, *index, *now, *dialect);
            if !gaps.is_empty() {
                let text = out.split_off(begin);
                let gaps = gaps.into_iter().map(|(at, value)| (at - begin, value)).collect();
                *state = ListingState::Inside(Rendering::around(text, gaps), child.name().to_vec());
                return true;
            }
            if out.len() >= bytes {
                *state = ListingState::Behind(child.name().to_vec());
                return true;
            }
        }
        out.push(b']');
        false
    }
}

/// An event in the form of v1, with the store's index `index`. No final newline.
pub(crate) fn render(event: &Event, index: u64, now: UnixNanos, dialect: Dialect) -> Vec<u8> {
    let mut out = Vec::new();
    if event.node().is_dir() {
        Listing::new(event, index, now, dialect).write(&mut out, usize::MAX);
        return out;
    }
    let (text, values) = key_text(event, index, now, dialect);
    if values.is_empty() {
        return text;
    }
    Rendering::around(text, values).write(&mut out, usize::MAX);
    out
}

/// Values that are missing in a text, each with its offset.
type Gaps = Vec<(usize, LongValue)>;

/// The response about a key, without its long values.
fn key_text(event: &Event, index: u64, now: UnixNanos, dialect: Dialect) -> (Vec<u8>, Gaps) {
    let node = event.node();
    let key = client_path(event.key());
    let mut text = Vec::with_capacity(128 + key.len());
    let mut gaps = Gaps::new();
    let out = &mut text;
    open(out, dialect.action(event.action));
    json::write_escaped(out, if key.is_empty() { b"/" } else { key });
    out.push(b'"');
    if let Some(prev) = event.prev() {
        write_value(out, &mut gaps, "prevValue", &prev);
    }
    write_value(out, &mut gaps, "value", &node);
    if dialect.tells_of_new_key(event) {
        write_name(out, "newKey");
        out.extend_from_slice(b"true");
    }
    if let Some(expiration) = dialect.expiration(event) {
        write_times(out, expiration, dialect.ttl(event, now));
    }
    close(out, index);
    (text, gaps)
}

/// Appends the value of a node, or the quotes around it if it is long.
fn write_value(out: &mut Vec<u8>, gaps: &mut Gaps, name: &str, node: &NodeView<'_>) {
    let Some(value) = node.value() else { return };
    write_name(out, name);
    match node.long_value() {
        Some(long) => {
            out.push(b'"');
            gaps.push((out.len(), long));
            out.push(b'"');
        }
        None => json::write_string(out, value),
    }
}

/// Appends the expiration and the remaining seconds.
fn write_times(out: &mut Vec<u8>, expiration: UnixNanos, ttl: i64) {
    write_name(out, "expiration");
    // A time is a string in Go's JSON.
    out.push(b'"');
    json::write_time(out, expiration);
    out.push(b'"');
    if ttl != 0 {
        write_name(out, "ttl");
        json::write_i64(out, ttl);
    }
}

fn write_child(
    out: &mut Vec<u8>,
    read: &Event,
    dir: &[u8],
    child: &NodeView<'_>,
    index: u64,
    now: UnixNanos,
    dialect: Dialect,
) -> Gaps {
    let mut gaps = Gaps::new();
    open(out, dialect.action(read.action));
    json::write_escaped(out, dir);
    out.push(b'/');
    json::write_escaped(out, child.name());
    out.push(b'"');
    if child.is_dir() {
        write_name(out, "dir");
        out.extend_from_slice(b"true");
    }
    write_value(out, &mut gaps, "value", child);
    if let Some(expiration) = child.expiration().filter(|_| dialect == Dialect::Of01) {
        write_times(out, expiration, whole_seconds(expiration, now));
    }
    close(out, index);
    gaps
}

fn open(out: &mut Vec<u8>, action: &str) {
    out.extend_from_slice(b"{\"action\":\"");
    out.extend_from_slice(action.as_bytes());
    out.extend_from_slice(b"\",\"key\":\"");
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn close(out: &mut Vec<u8>, index: u64) {
    write_name(out, "index");
    json::write_u64(out, index);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::store::Store;

    const NOW: UnixNanos = UnixNanos(1_795_258_886_000_000_000);

    /// The response of v1 of 0.4 to a write with this form.
    fn put(store: &mut Store, key: &str, form: &str) -> String {
        let form = Form::parse_what_can_be(form.as_bytes(), b"");
        let request = match set(format!("/1{key}").into(), &form, NOW) {
            Ok(request) => request,
            Err(error) => return format!("{error:?}"),
        };
        match store.apply(&request, NOW) {
            Ok(event) => String::from_utf8(render(&event, event.index, NOW, Dialect::Of04)).unwrap(),
            Err(error) => String::from_utf8(error.to_json()).unwrap(),
        }
    }

    fn read(store: &Store, key: &str) -> String {
        let event = store.get(format!("/1{key}").as_bytes(), false, false).unwrap();
        String::from_utf8(render(&event, event.index, NOW, Dialect::Of04)).unwrap()
    }

    #[test]
    fn answers_are_those_of_0_4() {
        let mut store = Store::new(10);
        assert_eq!(
            put(&mut store, "/x", "value=1"),
            r#"{"action":"set","key":"/x","value":"1","newKey":true,"index":1}"#
        );
        assert_eq!(
            put(&mut store, "/x", "value=2&ttl=5"),
            r#"{"action":"set","key":"/x","prevValue":"1","value":"2","expiration":"2026-11-21T11:01:31Z","ttl":5,"index":2}"#
        );
        assert_eq!(
            put(&mut store, "/x", "value=3&prevValue=2"),
            r#"{"action":"testAndSet","key":"/x","prevValue":"2","value":"3","index":3}"#
        );
        assert_eq!(
            put(&mut store, "/x", "value=3&prevValue=9"),
            r#"{"errorCode":101,"message":"Compare failed","cause":"[9 != 3]","index":3}"#
        );
        assert_eq!(
            put(&mut store, "/x", "value=3&prevValue="),
            r#"{"errorCode":105,"message":"Key already exists","cause":"/x","index":3}"#
        );
        assert_eq!(
            put(&mut store, "/dir/y", "value=1&prevValue="),
            r#"{"action":"testAndSet","key":"/dir/y","value":"1","index":4}"#
        );
        put(&mut store, "/_hidden", "value=1");
        assert_eq!(read(&store, "/x"), r#"{"action":"get","key":"/x","value":"3","index":5}"#);
        assert_eq!(
            read(&store, ""),
            r#"[{"action":"get","key":"/dir","dir":true,"index":5},{"action":"get","key":"/x","value":"3","index":5}]"#
        );
        assert_eq!(read(&store, "/dir"), r#"[{"action":"get","key":"/dir/y","value":"1","index":5}]"#);
        let gone = store.apply(&delete(b"/1/x".to_vec()), NOW).unwrap();
        assert_eq!(
            String::from_utf8(render(&gone, gone.index, NOW, Dialect::Of04)).unwrap(),
            r#"{"action":"delete","key":"/x","prevValue":"3","index":6}"#
        );
    }

    /// An event in the form of 0.1, one and a half seconds later.
    fn of_0_1(event: &Event) -> String {
        let later = UnixNanos(NOW.0 + 1_500_000_000);
        String::from_utf8(render(event, event.index, later, Dialect::Of01)).unwrap()
    }

    #[test]
    fn answers_are_those_of_0_1() {
        let mut store = Store::new(10);
        let mut put = |key: &str, form: &str| {
            let form = Form::parse_what_can_be(form.as_bytes(), b"");
            let request = set(format!("/1{key}").into(), &form, NOW).unwrap();
            of_0_1(&store.apply(&request, NOW).unwrap())
        };
        assert_eq!(
            put("/x", "value=1"),
            r#"{"action":"SET","key":"/x","value":"1","newKey":true,"index":1}"#
        );
        // The time to live is that of the write, even if a watch gets the event later.
        assert_eq!(
            put("/x", "value=2&ttl=5"),
            r#"{"action":"SET","key":"/x","prevValue":"1","value":"2","expiration":"2026-11-21T11:01:31Z","ttl":4,"index":2}"#
        );
        assert_eq!(
            put("/new", "value=1&prevValue="),
            r#"{"action":"SET","key":"/new","value":"1","newKey":true,"index":3}"#
        );
        put("/_hidden", "value=1");
        // Of 5 s, 3.5 s are left.
        let read = |store: &Store, key: &[u8]| of_0_1(&store.get(key, false, false).unwrap());
        assert_eq!(
            read(&store, b"/1/x"),
            r#"{"action":"GET","key":"/x","value":"2","expiration":"2026-11-21T11:01:31Z","ttl":3,"index":4}"#
        );
        assert_eq!(
            read(&store, b"/1"),
            concat!(
                r#"[{"action":"GET","key":"/_hidden","value":"1","index":4},{"action":"GET","key":"/new","value":"1","index":4},"#,
                r#"{"action":"GET","key":"/x","value":"2","expiration":"2026-11-21T11:01:31Z","ttl":3,"index":4}]"#
            )
        );
        // A removed key has the expiration that it had.
        let gone = store.apply(&delete(b"/1/x".to_vec()), NOW).unwrap();
        assert_eq!(
            of_0_1(&gone),
            r#"{"action":"DELETE","key":"/x","prevValue":"2","expiration":"2026-11-21T11:01:31Z","index":5}"#
        );
        let gone = store.apply(&delete(b"/1/new".to_vec()), NOW).unwrap();
        assert_eq!(of_0_1(&gone), r#"{"action":"DELETE","key":"/new","prevValue":"1","index":6}"#);
    }

    #[test]
    fn writes_without_sense_are_refused() {
        for (form, code) in [
            ("", Code::ValueRequired),
            ("value=", Code::ValueRequired),
            ("value=%zz", Code::ValueRequired),
            ("value=1&ttl=abc", Code::TtlNaN),
            ("value=1&ttl=1.5", Code::TtlNaN),
        ] {
            let parsed = Form::parse_what_can_be(form.as_bytes(), b"");
            assert_eq!(set(b"/1/x".to_vec(), &parsed, NOW), Err(refusal(code, SET)), "{form}");
        }
        let lenient = Form::parse_what_can_be(b"a=%zz&value=1", b"ttl=-1");
        assert_eq!(set(b"/1/x".to_vec(), &lenient, NOW).unwrap().expiration, NOW.0 - 1_000_000_000);
    }

    #[test]
    fn a_time_to_live_is_never_taken_for_another_one() {
        let expiration = |ttl: &str| {
            let form = format!("value=1&ttl={ttl}");
            let form = Form::parse_what_can_be(form.as_bytes(), b"");
            set(b"/1/x".to_vec(), &form, NOW).unwrap().expiration
        };
        for beyond in ["7428113151", "9223372037", "18446744074", "9223372036854775807"] {
            assert_eq!(expiration(beyond), 0, "{beyond} is never");
        }
        assert_eq!(expiration("7428113150"), 9_223_372_036_000_000_000);
        for over in ["-1", "-1000000000", "-9223372037", "-9223372036854775808"] {
            assert!((EXPIRATION_MIN.0..NOW.0).contains(&expiration(over)), "{over}");
        }
    }

    #[test]
    fn only_a_post_says_from_where_a_watch_is() {
        let since = |method: Method, form: &str| {
            let form = Form::parse_what_can_be(form.as_bytes(), b"");
            match watch(&method, b"/1/x".to_vec(), &form, Dialect::Of04) {
                Ok(KeysRequest::Watch { since, recursive: false, stream: false, .. }) => Ok(since),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.code),
            }
        };
        assert_eq!(since(Method::POST, "index=7"), Ok(7));
        assert_eq!(since(Method::GET, "index=7"), Ok(0));
        for bad in ["", "index=", "index=x", "index=-1"] {
            assert_eq!(since(Method::POST, bad), Err(Code::IndexNaN), "{bad}");
        }
    }

    #[test]
    fn long_values_are_written_in_pieces() {
        let mut store = Store::new(10);
        let value = "a<\u{e9}\u{1}".repeat(40_000);
        let mut quoted = Vec::new();
        json::write_string(&mut quoted, value.as_bytes());
        let quoted = String::from_utf8(quoted).unwrap();
        for (key, value) in [("/1/d/a", "1"), ("/1/d/b", &*value), ("/1/d/c", "3"), ("/1/d/d", &*value)] {
            let (path, val) = (key.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
            let request = v2::Request { verb: v2::Verb::Put, path, val, ..v2::Request::default() };
            store.apply(&request, NOW).unwrap();
        }
        let key = store.get(b"/1/d/b", false, false).unwrap();
        let text = String::from_utf8(render(&key, 4, NOW, Dialect::Of04)).unwrap();
        assert!(text == format!("{{\"action\":\"get\",\"key\":\"/d/b\",\"value\":{quoted},\"index\":4}}"));
        let dir = store.get(b"/1/d", false, false).unwrap();
        let child = |name: &str, value: &str| {
            format!("{{\"action\":\"get\",\"key\":\"/d/{name}\",\"value\":{value},\"index\":4}}")
        };
        let children = [("a", "\"1\""), ("b", &*quoted), ("c", "\"3\""), ("d", &*quoted)];
        let wanted = format!("[{}]", children.map(|(name, value)| child(name, value)).join(","));
        for bytes in [1, 5000, usize::MAX] {
            let mut listing = Listing::new(&dir, 4, NOW, Dialect::Of04);
            let mut out = Vec::new();
            loop {
                let mut piece = Vec::new();
                let more = listing.write(&mut piece, bytes);
                assert!(bytes == usize::MAX || piece.len() < 64 * 1024, "{}", piece.len());
                out.extend_from_slice(&piece);
                if !more {
                    break;
                }
            }
            assert!(String::from_utf8(out).unwrap() == wanted, "pieces of {bytes}");
        }
    }
}

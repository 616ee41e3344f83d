//! Events as JSON, in the order of members of Go's structs. Answering a request spends a good part of its
//! time here: everything is written straight into the buffer, and values are copied once.

use std::collections::VecDeque;

use triomphe::Arc;

use super::{Action, Event, EventNode, NodeContent};
use crate::error::KEYS_PREFIX;
use crate::json;
use crate::store::node::{Child, Dir, Key, Meta};
use crate::time::UnixNanos;

/// The reader of the JSON.
#[derive(Clone, Copy)]
pub(super) enum Reader {
    /// A client: keys without the store's prefix, a `ttl` as of now.
    Client {
        /// The time of the answer.
        now: UnixNanos,
    },
    /// A member that recovers from a snapshot: keys as they are, with `refresh`.
    Snapshot,
}

/// The approximate size of an event's JSON without its keys and values.
const FRAME_BYTES: usize = 256;

/// Appends the event.
pub(super) fn write_event(out: &mut Vec<u8>, event: &Event, reader: Reader) {
    let values =
        [Some(&event.node), event.prev.as_ref()].into_iter().flatten().map(|node| match &node.content {
            NodeContent::Key(key) => key.value().len(),
            _ => 0,
        });
    out.reserve(FRAME_BYTES + 2 * event.key.len() + values.sum::<usize>());
    // Escaped once for both nodes.
    let mut path = Vec::with_capacity(event.key.len() + 16);
    json::write_escaped(&mut path, &event.key);

    out.extend_from_slice(b"{\"action\":\"");
    out.extend_from_slice(event.action.name().as_bytes());
    out.extend_from_slice(b"\",\"node\":");
    write_node(out, &event.node, event.action == Action::Get, &mut path, reader);
    if let Some(prev) = &event.prev {
        out.extend_from_slice(b",\"prevNode\":");
        write_node(out, prev, false, &mut path, reader);
    }
    if let Reader::Snapshot = reader
        && event.refresh
    {
        out.extend_from_slice(b",\"refresh\":true");
    }
    out.push(b'}');
}

fn write_node(out: &mut Vec<u8>, node: &EventNode, is_read: bool, path: &mut Vec<u8>, reader: Reader) {
    match &node.content {
        NodeContent::Listing { dir, recursive } => {
            let path = std::mem::take(path);
            Listing::new(dir.clone(), *recursive, path, reader).write(out, usize::MAX);
        }
        NodeContent::Gone => {
            open(out, path, reader);
            write_expiration(out, node.meta, node.ttl);
            close(out, node.meta);
        }
        NodeContent::Dir => {
            open(out, path, reader);
            member(out, b"\"dir\":true");
            write_expiration(out, node.meta, node.ttl);
            close(out, node.meta);
        }
        NodeContent::Key(key) => {
            let ttl = shown_ttl(node, is_read, reader);
            write_key(out, key.value(), node.meta, ttl, path, reader);
        }
    }
}

/// The JSON of an event that may not fit into memory, produced in pieces.
///
/// **Invariant:** it holds the nodes that it shows, so later changes of the store do not affect it.
pub struct Rendering {
    /// What is still to be written, in order.
    parts: VecDeque<Part>,
}

/// A part of an event's JSON.
enum Part {
    Bytes(Vec<u8>),
    Value(LongValue),
    Listing(Box<Listing>),
}

impl Rendering {
    /// For the output of [`Event::write_json`] with this `now`, and a newline. `None` for an event that is neither the
    /// read of a directory nor has a long value: it is written as a whole.
    pub(super) fn of(event: &Event, now: UnixNanos) -> Option<Rendering> {
        let nodes = || [Some(&event.node), event.prev.as_ref()].into_iter().flatten();
        if !nodes().any(|node| is_long(&node.content)) {
            return None;
        }
        let reader = Reader::Client { now };
        let mut path = Vec::with_capacity(event.key.len() + 16);
        json::write_escaped(&mut path, &event.key);
        let (mut parts, mut out) = (VecDeque::new(), Vec::with_capacity(FRAME_BYTES));
        for (name, node) in [&b"\"node\":"[..], b"\"prevNode\":"].into_iter().zip(nodes()) {
            if parts.is_empty() && out.is_empty() {
                out.extend_from_slice(b"{\"action\":\"");
                out.extend_from_slice(event.action.name().as_bytes());
                out.push(b'"');
            }
            out.push(b',');
            out.extend_from_slice(name);
            let is_read = event.action == Action::Get;
            match &node.content {
                NodeContent::Listing { dir, recursive } => {
                    parts.push_back(Part::Bytes(std::mem::take(&mut out)));
                    let listing = Listing::new(dir.clone(), *recursive, path.clone(), reader);
                    parts.push_back(Part::Listing(Box::new(listing)));
                }
                NodeContent::Key(key) if key.value().len() > LONG_VALUE_BYTES => {
                    open_value(&mut out, &path, reader);
                    parts.push_back(Part::Bytes(std::mem::take(&mut out)));
                    parts.extend(LongValue::of(key).map(Part::Value));
                    close_value(&mut out, node.meta, shown_ttl(node, is_read, reader));
                }
                _ => write_node(&mut out, node, is_read, &mut path.clone(), reader),
            }
        }
        out.extend_from_slice(b"}\n");
        parts.push_back(Part::Bytes(out));
        Some(Rendering { parts })
    }

    /// For `text` with each of the values at its offset, in the order of the offsets.
    pub fn around(text: Vec<u8>, values: Vec<(usize, LongValue)>) -> Rendering {
        let (mut parts, mut rest) = (VecDeque::new(), text);
        for (offset, value) in values.into_iter().rev() {
            parts.push_front(Part::Bytes(rest.split_off(offset)));
            parts.push_front(Part::Value(value));
        }
        parts.push_front(Part::Bytes(rest));
        Rendering { parts }
    }

    /// Appends the next piece, until `out` has about `bytes` bytes or more. False when all is written.
    pub fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        while let Some(part) = self.parts.front_mut() {
            let more = match part {
                Part::Bytes(part) => {
                    out.extend_from_slice(part);
                    false
                }
                Part::Value(value) => value.write(out, bytes),
                Part::Listing(listing) => listing.write(out, bytes),
            };
            if !more {
                self.parts.pop_front();
            }
            if out.len() >= bytes {
                break;
            }
        }
        !self.parts.is_empty()
    }
}

/// Whether the JSON of a node may be long.
fn is_long(content: &NodeContent) -> bool {
    match content {
        NodeContent::Listing { .. } => true,
        NodeContent::Key(key) => key.value().len() > LONG_VALUE_BYTES,
        NodeContent::Gone | NodeContent::Dir => false,
    }
}

/// A longer value is written in several pieces.
const LONG_VALUE_BYTES: usize = 64 * 1024;

/// The least bytes of a long value in a piece.
const VALUE_PIECE_MIN: usize = 4 * 1024;

/// A long value that is written in pieces.
pub struct LongValue {
    key: Key,
    /// The bytes that are written.
    written: usize,
}

impl LongValue {
    /// The value of a key, from its beginning; `None` if it is not long.
    pub(super) fn of(key: &Key) -> Option<LongValue> {
        (key.value().len() > LONG_VALUE_BYTES).then(|| LongValue { key: key.clone(), written: 0 })
    }

    /// Appends the next piece, escaped, until `out` has about `bytes` bytes. False once all is written.
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        let value = self.key.value();
        while self.written < value.len() {
            // Escaped, a byte can become six.
            let room = (bytes.saturating_sub(out.len()) / 4).max(VALUE_PIECE_MIN);
            let end = self.written.saturating_add(room).min(value.len());
            let end = char_start(value, self.written, end);
            json::write_escaped(out, &value[self.written..end]);
            self.written = end;
            if out.len() >= bytes {
                break;
            }
        }
        self.written < value.len()
    }
}

/// The last place up to `end` where a character of the text can begin, but more than `start`.
fn char_start(text: &[u8], start: usize, end: usize) -> usize {
    let is_start = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    // A character has four bytes at most. Longer runs of continuation bytes are not text, and can be cut anywhere.
    (end.saturating_sub(3).max(start + 1)..=end).rev().find(is_start).unwrap_or(end)
}

/// The `ttl` that a node's JSON shows: the remaining time of a read is that at the answer, of a change that at its time.
fn shown_ttl(node: &EventNode, is_read: bool, reader: Reader) -> i64 {
    match reader {
        Reader::Client { now } if is_read => ttl_seconds(node.meta.expiration, now),
        _ => node.ttl,
    }
}

/// Writes a directory with its children, or with everything below it. Hidden nodes are left out, with everything
/// below them. Uses a stack of its own: a tree may be deeper than a thread's stack allows.
struct Listing {
    recursive: bool,
    reader: Reader,
    now: UnixNanos,
    /// The path of the last node that was begun, escaped.
    path: Vec<u8>,
    /// The open directories, from the top down. Empty before the start and after the end.
    levels: Vec<Level>,
    /// The top one, until it is begun.
    top: Option<Arc<Dir>>,
    /// The value of the last child, if it is long and not written yet.
    value: Option<LongValue>,
}

/// How a directory goes on behind a child.
enum Step {
    /// With the children of this one.
    Into(Arc<Dir>),
    /// With the rest of a long value.
    Value(LongValue),
    /// All children are written.
    Out,
}

struct Level {
    dir: Arc<Dir>,
    /// The length of its path, escaped.
    path_length: usize,
    /// The last child that was written or begun.
    last: Option<Child>,
}

impl Listing {
    fn new(dir: Arc<Dir>, recursive: bool, path: Vec<u8>, reader: Reader) -> Listing {
        let now = match reader {
            Reader::Client { now } => now,
            Reader::Snapshot => UnixNanos::ZERO,
        };
        Listing { recursive, reader, now, path, levels: Vec::new(), top: Some(dir), value: None }
    }

    /// Appends nodes until `out` has `bytes` bytes or more. False once all are written.
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        if let Some(dir) = self.top.take() {
            begin(out, &dir, &self.path, self.now, self.reader);
            // The children of "/" are "/name".
            let path_length = if self.path == b"/" { 0 } else { self.path.len() };
            self.levels.push(Level { dir, path_length, last: None });
        }
        while let Some(level) = self.levels.last_mut() {
            if out.len() >= bytes {
                return true;
            }
            if let Some(value) = &mut self.value {
                if value.write(out, bytes) {
                    return true;
                }
                let meta = value.key.meta();
                close_value(out, meta, ttl_seconds(meta.expiration, self.now));
                self.value = None;
                continue;
            }
            // Another reference, so that the stack can grow during the iteration over the children.
            let dir = level.dir.clone();
            let mut children = match &level.last {
                None => dir.children.iter(),
                Some(last) => dir.children.iter_after(last.name()),
            };
            let mut last = None;
            let mut any = level.last.is_some();
            let step = loop {
                let Some(child) = children.by_ref().find(|child| !child.is_hidden()) else {
                    if any {
                        out.push(b']');
                    }
                    close(out, dir.meta);
                    break Step::Out;
                };
                out.extend_from_slice(if any { b"," } else { b",\"nodes\":[" });
                any = true;
                last = Some(child);
                self.path.truncate(level.path_length);
                self.path.push(b'/');
                json::write_escaped(&mut self.path, child.name());
                match child {
                    Child::Key(_, key) => {
                        if let Some(value) = LongValue::of(key) {
                            open_value(out, &self.path, self.reader);
                            break Step::Value(value);
                        }
                        let (meta, now) = (key.meta(), self.now);
                        let ttl = ttl_seconds(meta.expiration, now);
                        write_key(out, key.value(), meta, ttl, &self.path, self.reader);
                    }
                    Child::Dir(_, dir) => {
                        begin(out, dir, &self.path, self.now, self.reader);
                        if self.recursive {
                            break Step::Into(dir.clone());
                        }
                        close(out, dir.meta);
                    }
                }
                if out.len() >= bytes {
                    level.last = last.cloned();
                    return true;
                }
            };
            match step {
                Step::Into(dir) => {
                    level.last = last.cloned();
                    self.levels.push(Level { dir, path_length: self.path.len(), last: None });
                }
                Step::Value(value) => {
                    level.last = last.cloned();
                    self.value = Some(value);
                }
                Step::Out => drop(self.levels.pop()),
            }
        }
        false
    }
}

/// Begins a directory, up to its children.
fn begin(out: &mut Vec<u8>, dir: &Dir, path: &[u8], now: UnixNanos, reader: Reader) {
    open(out, path, reader);
    member(out, b"\"dir\":true");
    write_expiration(out, dir.meta, ttl_seconds(dir.meta.expiration, now));
}

/// Begins a node with its key, which is left out when it is empty: the root of the clients' keys.
fn open(out: &mut Vec<u8>, path: &[u8], reader: Reader) {
    out.push(b'{');
    let key = match reader {
        Reader::Client { .. } => path.strip_prefix(KEYS_PREFIX).unwrap_or(path),
        Reader::Snapshot => path,
    };
    if !key.is_empty() {
        out.extend_from_slice(b"\"key\":\"");
        out.extend_from_slice(key);
        out.push(b'"');
    }
}

/// Appends a member with the comma before it, unless it is the first.
fn member(out: &mut Vec<u8>, text: &[u8]) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(text);
}

fn write_key(out: &mut Vec<u8>, value: &[u8], meta: Meta, ttl: i64, path: &[u8], reader: Reader) {
    open_value(out, path, reader);
    json::write_escaped(out, value);
    close_value(out, meta, ttl);
}

/// Begins a key, up to its value.
fn open_value(out: &mut Vec<u8>, path: &[u8], reader: Reader) {
    open(out, path, reader);
    member(out, b"\"value\":\"");
}

/// Ends a key behind its value.
fn close_value(out: &mut Vec<u8>, meta: Meta, ttl: i64) {
    out.push(b'"');
    write_expiration(out, meta, ttl);
    close(out, meta);
}

fn write_expiration(out: &mut Vec<u8>, meta: Meta, ttl: i64) {
    if let Some(expiration) = meta.expiration {
        member(out, b"\"expiration\":\"");
        json::write_time(out, expiration);
        out.push(b'"');
    }
    if ttl != 0 {
        member(out, b"\"ttl\":");
        json::write_i64(out, ttl);
    }
}

/// Ends a node with its indexes, which are left out when they are 0.
fn close(out: &mut Vec<u8>, meta: Meta) {
    if meta.modified != 0 {
        member(out, b"\"modifiedIndex\":");
        json::write_u64(out, meta.modified);
    }
    if meta.created != 0 {
        member(out, b"\"createdIndex\":");
        json::write_u64(out, meta.created);
    }
    out.push(b'}');
}

/// The remaining seconds, rounded up; 0 without an expiration. Negative seconds are rounded towards 0.
pub(crate) fn ttl_seconds(expiration: Option<UnixNanos>, now: UnixNanos) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    let Some(UnixNanos(expiration)) = expiration else { return 0 };
    let left = expiration.saturating_sub(now.0);
    left / SECOND + i64::from(left % SECOND > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::v2::{Request, Verb};

    const NOW: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

    /// Text of which every part is written in another way: plain, escaped, of two to four bytes, and not UTF-8.
    fn long_value(bytes: usize) -> Vec<u8> {
        let unit: &[u8] = b"plain <\"\\> \x01\n\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80 \xff\xe2\x80 \x80\x80\x80\x80\x80\xf0\x9f";
        unit.iter().copied().cycle().take(bytes).collect()
    }

    fn put(store: &mut Store, path: &str, value: &[u8]) -> Event {
        let (path, val) = (path.as_bytes().to_vec().into(), value.to_vec().into());
        let request = Request { verb: Verb::Put, path, val, ..Request::default() };
        store.apply(&request, NOW).unwrap()
    }

    fn check(event: &Event) {
        let mut whole = Vec::new();
        event.write_json(&mut whole, NOW);
        whole.push(b'\n');
        for bytes in [1, 100, 4096, 65_536, usize::MAX] {
            let (mut rendering, mut out) = (event.in_pieces(NOW).expect("it is long"), Vec::new());
            loop {
                let mut piece = Vec::new();
                let more = rendering.write(&mut piece, bytes);
                // However long a value is, a piece is not much longer than wanted.
                assert!(
                    piece.len() <= bytes.max(VALUE_PIECE_MIN).saturating_mul(8),
                    "{} of {bytes}",
                    piece.len()
                );
                out.extend_from_slice(&piece);
                if !more {
                    break;
                }
            }
            assert!(!rendering.write(&mut Vec::new(), bytes));
            assert!(out == whole, "{} and {} bytes in pieces of {bytes}", out.len(), whole.len());
        }
    }

    #[test]
    fn long_values_in_pieces_are_the_same_bytes() {
        let mut store = Store::new(10);
        let long = long_value(3 * LONG_VALUE_BYTES + 5);
        check(&put(&mut store, "/1/a/long", &long));
        check(&put(&mut store, "/1/a/long", &long[7..]));
        check(&put(&mut store, "/1/a/long", b"short"));
        check(&put(&mut store, "/1/a/long", &long));
        put(&mut store, "/1/a/b", b"short");
        put(&mut store, "/1/a/m/z", &long);
        put(&mut store, "/1/a/z", &long[1..]);
        for recursive in [false, true] {
            check(&store.get(b"/1/a", recursive, false).unwrap());
        }
        check(&store.get(b"/1/a/long", false, false).unwrap());
    }

    #[test]
    fn every_length_of_a_piece_cuts_between_characters() {
        let value = long_value(400);
        let mut whole = Vec::new();
        json::write_escaped(&mut whole, &value);
        for length in 1..60 {
            let (mut at, mut out) = (0, Vec::new());
            while at < value.len() {
                let end = char_start(&value, at, (at + length).min(value.len()));
                assert!(end > at);
                json::write_escaped(&mut out, &value[at..end]);
                at = end;
            }
            // A piece that is shorter than a character has to split it.
            assert!(length < 4 || out == whole, "pieces of {length}");
        }
    }

    #[test]
    fn short_events_are_written_as_a_whole() {
        let mut store = Store::new(10);
        let event = put(&mut store, "/1/a", &[b'x'; LONG_VALUE_BYTES]);
        assert!(event.in_pieces(NOW).is_none());
    }
}

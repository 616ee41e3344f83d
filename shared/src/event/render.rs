//! Events as JSON, in the order of members of Go's structs. Answering a request spends a good part of its
//! time here: everything is written straight into the buffer, and values are copied once.

use triomphe::Arc;

use super::{Action, Event, EventNode, NodeContent};
use crate::error::KEYS_PREFIX;
use crate::json;
use crate::store::node::{Child, Dir, Meta};
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
            // The remaining time of a read is that at the answer, of a change that at its time.
            let ttl = match reader {
                Reader::Client { now } if is_read => ttl_seconds(node.meta.expiration, now),
                _ => node.ttl,
            };
            write_key(out, key.value(), node.meta, ttl, path, reader);
        }
    }
}

/// The JSON of a directory that was read, produced in pieces: it may not fit into memory.
///
/// **Invariant:** it holds the nodes that it shows, so later changes of the store do not affect it.
pub struct Rendering {
    listing: Listing,
    ended: bool,
}

impl Rendering {
    /// For the output of [`Event::write_json`] with this `now`, and a newline. `None` if the event is not the read of
    /// a directory.
    pub(super) fn of(event: &Event, now: UnixNanos) -> Option<Rendering> {
        let NodeContent::Listing { dir, recursive } = &event.node.content else { return None };
        let mut path = Vec::with_capacity(event.key.len() + 16);
        json::write_escaped(&mut path, &event.key);
        let listing = Listing::new(dir.clone(), *recursive, path, Reader::Client { now });
        Some(Rendering { listing, ended: false })
    }

    /// Appends the next piece, until `out` has `bytes` bytes or more (much more if the last key is long). False when
    /// all is written.
    pub fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        if self.ended {
            return false;
        }
        if self.listing.top.is_some() {
            out.extend_from_slice(b"{\"action\":\"get\",\"node\":");
        }
        if !self.listing.write(out, bytes) {
            out.extend_from_slice(b"}\n");
            self.ended = true;
        }
        !self.ended
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
        Listing { recursive, reader, now, path, levels: Vec::new(), top: Some(dir) }
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
            // Another reference, so that the stack can grow during the iteration over the children.
            let dir = level.dir.clone();
            let mut children = match &level.last {
                None => dir.children.iter(),
                Some(last) => dir.children.iter_after(last.name()),
            };
            let mut last = None;
            let mut any = level.last.is_some();
            let below = loop {
                let Some(child) = children.by_ref().find(|child| !child.is_hidden()) else {
                    if any {
                        out.push(b']');
                    }
                    close(out, dir.meta);
                    break None;
                };
                out.extend_from_slice(if any { b"," } else { b",\"nodes\":[" });
                any = true;
                last = Some(child);
                self.path.truncate(level.path_length);
                self.path.push(b'/');
                json::write_escaped(&mut self.path, child.name());
                match child {
                    Child::Key(_, key) => {
                        let (meta, now) = (key.meta(), self.now);
                        let ttl = ttl_seconds(meta.expiration, now);
                        write_key(out, key.value(), meta, ttl, &self.path, self.reader);
                    }
                    Child::Dir(_, dir) => {
                        begin(out, dir, &self.path, self.now, self.reader);
                        if self.recursive {
                            break Some(dir.clone());
                        }
                        close(out, dir.meta);
                    }
                }
                if out.len() >= bytes {
                    level.last = last.cloned();
                    return true;
                }
            };
            match below {
                Some(dir) => {
                    level.last = last.cloned();
                    self.levels.push(Level { dir, path_length: self.path.len(), last: None });
                }
                None => drop(self.levels.pop()),
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
    open(out, path, reader);
    member(out, b"\"value\":");
    json::write_string(out, value);
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

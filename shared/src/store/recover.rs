//! A store from the body of a snapshot, written by us or by Go.
//!
//! Members may be in any order, their names in any case, and unknown ones are skipped. The text is read once and
//! nodes are made immediately; only the path from the root is kept besides.

pub(super) mod version_0_1;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::Store;
use super::children::{Children, Iter};
use super::history::History;
use super::node::{Child, Dir, Key, Meta};
use super::reader::Reader;
use super::stats::{Counter, Counters};
use super::tree::Tree;
use super::ttl::Expirations;
use crate::event::{Action, Event, EventNode, NodeContent};
use crate::time::UnixNanos;

/// Why a text is not a snapshot of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} of the store's JSON: {problem}")]
pub struct RecoverError {
    /// Where.
    pub offset: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

type Result<T> = std::result::Result<T, RecoverError>;

/// Reads the store.
pub(super) fn recover(json: &[u8], history_length: usize) -> Result<Store> {
    let mut reader = Reader::new(json);
    let mut store = Store::new(history_length);
    let mut root = None;
    let mut scratch = Scratch::default();
    object(&mut reader, |reader, name| {
        match field(name) {
            b"root" => root = Some(read_tree(reader, &mut scratch)?),
            b"watcherhub" => object(reader, |reader, name| match field(name) {
                b"eventhistory" => {
                    store.history = read_history(reader, history_length, &mut scratch)?;
                    Ok(())
                }
                _ => reader.skip(),
            })?,
            b"currentindex" => store.index = number(reader)?,
            b"stats" => store.stats.set_counters(read_stats(reader)?),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    store.tree.root = triomphe::Arc::new(root.ok_or_else(|| reader.error("there is no root"))?);
    if scratch.any_expiration {
        store.expirations = expirations(&store.tree);
    }
    Ok(store)
}

/// Buffers that are reused for each node.
#[derive(Default)]
struct Scratch {
    key: Vec<u8>,
    /// Whether any node expires.
    any_expiration: bool,
}

/// A name in the form in which it is compared.
fn field(name: &mut [u8]) -> &[u8] {
    name.make_ascii_lowercase();
    name
}

/// Reads an object, or null for an empty one. `member` gets each name and must read the value.
fn object<'a>(
    reader: &mut Reader<'a>,
    mut member: impl FnMut(&mut Reader<'a>, &mut [u8]) -> Result<()>,
) -> Result<()> {
    if reader.null() {
        return Ok(());
    }
    reader.expect(b'{', "no object")?;
    let mut first = true;
    while let Some(name) = reader.member(&mut first)? {
        // No name that we know is longer; a longer one stays unknown when it is cut.
        let mut known = [0; 32];
        let length = name.len().min(known.len());
        known[..length].copy_from_slice(&name[..length]);
        member(reader, &mut known[..length])?;
    }
    Ok(())
}

/// As Go: null leaves a value as it was, here always the zero of its type.
fn number(reader: &mut Reader<'_>) -> Result<u64> {
    if reader.null() { Ok(0) } else { reader.u64() }
}

fn string<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    if reader.null() { Ok(Cow::Borrowed(b"")) } else { reader.string() }
}

/// A time as RFC 3339 in any zone. Go's zero time is none.
fn time(reader: &mut Reader<'_>) -> Result<Option<UnixNanos>> {
    const GO_ZERO: &[u8] = b"0001-01-01T00:00:00Z";
    const GO_ZERO_SECOND: i64 = -62_135_596_800;
    let error = reader.error("no time");
    let text = string(reader)?;
    if text.is_empty() || *text == *GO_ZERO {
        return Ok(None);
    }
    let text = str::from_utf8(&text).map_err(|_| error.clone())?;
    let time: jiff::Timestamp = text.parse().map_err(|_| error)?;
    if time.as_second() == GO_ZERO_SECOND && time.subsec_nanosecond() == 0 {
        return Ok(None);
    }
    // Later years than a request can express become the last possible one.
    let nanos = time.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into());
    Ok(i64::try_from(nanos).ok().map(UnixNanos))
}

/// A node that is being read.
#[derive(Default)]
struct OpenNode<'a> {
    name: Cow<'a, [u8]>,
    meta: Meta,
    value: Cow<'a, [u8]>,
    /// The children so far, of a directory.
    children: Option<Siblings>,
    /// Whether its children are being read, rather than its own members.
    in_children: bool,
    /// Whether a member, or a child, was read.
    first_member: bool,
    first_child: bool,
}

/// Children in the order of the text.
#[derive(Default)]
struct Siblings {
    all: Vec<Child>,
    unsorted: bool,
}

impl Siblings {
    fn push(&mut self, child: Child) {
        self.unsorted |= self.all.last().is_some_and(|last| last.name() >= child.name());
        self.all.push(child);
    }

    fn finish(self) -> Children {
        if !self.unsorted {
            return Children::from_sorted(self.all);
        }
        // As in Go, the last of several with one name counts.
        let mut children = Children::default();
        self.all.into_iter().for_each(|child| children.insert(child));
        children
    }
}

impl<'a> OpenNode<'a> {
    fn new(name: Cow<'a, [u8]>) -> OpenNode<'a> {
        OpenNode { name, first_member: true, first_child: true, ..OpenNode::default() }
    }

    /// Reads a member other than the children.
    fn read_member(&mut self, reader: &mut Reader<'a>, name: &[u8]) -> Result<()> {
        // By far the most nodes are as Go writes them.
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"CreatedIndex") {
            self.meta.created = number(reader)?;
        } else if is(b"ModifiedIndex") {
            self.meta.modified = number(reader)?;
        } else if is(b"ExpireTime") {
            self.meta.expiration = time(reader)?;
        } else if is(b"Value") {
            self.value = string(reader)?;
        } else {
            // `Path` follows from the position in the tree; `ACL` of 2.0 was never used.
            reader.skip()?;
        }
        Ok(())
    }

    fn finish(self, scratch: &mut Scratch) -> Child {
        scratch.any_expiration |= self.meta.expiration.is_some();
        match self.children {
            Some(children) => {
                Child::dir(Dir { name: Box::from(&*self.name), meta: self.meta, children: children.finish() })
            }
            None => Child::key(Key::new(&self.name, &self.value, self.meta, &mut scratch.key)),
        }
    }
}

/// Reads the root with everything below it. Uses a stack of its own: a tree may be deeper than a thread's stack
/// allows.
fn read_tree<'a>(reader: &mut Reader<'a>, scratch: &mut Scratch) -> Result<Dir> {
    reader.expect(b'{', "no node")?;
    let mut above: Vec<OpenNode<'a>> = Vec::new();
    let mut open = OpenNode::new(Cow::Borrowed(b""));
    loop {
        if open.in_children {
            let Some(name) = reader.member(&mut open.first_child)? else {
                open.in_children = false;
                continue;
            };
            if name.is_empty() || name.contains(&b'/') {
                return Err(reader.error("a name that no path leads to"));
            }
            reader.expect(b'{', "no node")?;
            above.push(std::mem::replace(&mut open, OpenNode::new(name)));
        } else if let Some(name) = reader.member(&mut open.first_member)? {
            if !name.eq_ignore_ascii_case(b"Children") {
                open.read_member(reader, &name)?;
            } else if !reader.null() {
                reader.expect(b'{', "no children")?;
                open.children.get_or_insert_default();
                open.in_children = true;
                open.first_child = true;
            }
        } else {
            let child = open.finish(scratch);
            let Some(parent) = above.pop() else {
                return match child {
                    Child::Dir(_, root) => Ok(triomphe::Arc::unwrap_or_clone(root)),
                    Child::Key(..) => Err(reader.error("the root is no directory")),
                };
            };
            open = parent;
            open.children.get_or_insert_default().push(child);
        }
    }
}

fn read_stats(reader: &mut Reader<'_>) -> Result<Counters> {
    let mut counters = Counters::default();
    object(reader, |reader, name| {
        match Counter::NAMES.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            Some(at) => counters.0[at] = number(reader)?,
            None => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(counters)
}

/// The ring of events as it stands in a snapshot.
#[derive(Default)]
struct SnapshotRing {
    slots: Vec<Option<Arc<Event>>>,
    size: usize,
    front: usize,
}

fn read_history(reader: &mut Reader<'_>, length: usize, scratch: &mut Scratch) -> Result<History> {
    let mut ring = SnapshotRing::default();
    object(reader, |reader, name| match field(name) {
        b"queue" => object(reader, |reader, name| {
            match field(name) {
                b"events" => ring.slots = read_events(reader, scratch)?,
                b"size" => ring.size = usize::try_from(number(reader)?).unwrap_or(usize::MAX),
                b"front" => ring.front = usize::try_from(number(reader)?).unwrap_or(usize::MAX),
                _ => reader.skip()?,
            }
            Ok(())
        }),
        _ => reader.skip(),
    })?;
    if ring.size > ring.slots.len() || ring.front > 0 && ring.front >= ring.slots.len() {
        return Err(reader.error("the history has other slots than it says"));
    }
    let slots = ring.slots.len();
    let mut events = VecDeque::with_capacity(ring.size);
    for at in 0..ring.size {
        let event = ring.slots[(ring.front + at) % slots].take();
        let event = event.ok_or_else(|| reader.error("the history has fewer events than it says"))?;
        // Indexes ascend; events before a lower index belong to another store.
        if events.back().is_some_and(|last: &Arc<Event>| last.node.meta.modified >= event.node.meta.modified)
        {
            events.clear();
        }
        events.push_back(event);
    }
    let as_it_was = slots == length && events.len() == ring.size;
    Ok(History::with_events(events, if as_it_was { ring.front } else { 0 }, length))
}

fn read_events(reader: &mut Reader<'_>, scratch: &mut Scratch) -> Result<Vec<Option<Arc<Event>>>> {
    let mut events = Vec::new();
    if reader.null() {
        return Ok(events);
    }
    reader.expect(b'[', "no array of events")?;
    let mut first = true;
    while reader.element(&mut first)? {
        events.push(if reader.null() { None } else { Some(Arc::new(read_event(reader, scratch)?)) });
    }
    Ok(events)
}

fn read_event(reader: &mut Reader<'_>, scratch: &mut Scratch) -> Result<Event> {
    let mut action = None;
    let mut node = None;
    let mut prev = None;
    let mut refresh = false;
    object(reader, |reader, name| {
        match field(name) {
            b"action" => {
                let error = reader.error("an unknown action");
                action = Some(Action::from_name(&reader.string()?).ok_or(error)?);
            }
            b"node" => node = Some(read_event_node(reader, scratch)?),
            b"prevnode" if !reader.null() => prev = Some(read_event_node(reader, scratch)?.1),
            b"prevnode" => {}
            b"refresh" => refresh = reader.bool()?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let (Some(action), Some((key, node))) = (action, node) else {
        return Err(reader.error("an event without an action or a node"));
    };
    Ok(Event { refresh, ..Event::new(action, Arc::from(&*key), node, prev) })
}

fn read_event_node<'a>(reader: &mut Reader<'a>, scratch: &mut Scratch) -> Result<(Cow<'a, [u8]>, EventNode)> {
    let mut path = Cow::Borrowed(&b""[..]);
    let mut value = None;
    let mut dir = false;
    let mut ttl = 0;
    let mut meta = Meta::default();
    object(reader, |reader, name| {
        match field(name) {
            b"key" => path = string(reader)?,
            b"value" if !reader.null() => value = Some(reader.string()?),
            b"value" => {}
            b"dir" => dir = reader.bool()?,
            b"expiration" => meta.expiration = time(reader)?,
            b"ttl" => ttl = reader.i64()?,
            b"modifiedindex" => meta.modified = number(reader)?,
            b"createdindex" => meta.created = number(reader)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let content = match value {
        Some(value) => NodeContent::Key(Key::new(b"", &value, meta, &mut scratch.key)),
        None if dir => NodeContent::Dir,
        None => NodeContent::Gone,
    };
    Ok((path, EventNode { meta, ttl, content }))
}

/// All nodes of a tree that have an expiration.
pub(super) fn expirations(tree: &Tree) -> Expirations {
    let mut all = Expirations::default();
    let mut path = Vec::new();
    let mut levels: Vec<(Iter<'_>, usize)> = vec![(tree.root.children.iter(), 0)];
    while let Some((children, path_length)) = levels.last_mut() {
        let Some(child) = children.next() else {
            levels.pop();
            continue;
        };
        let meta = child.meta();
        let dir = match child {
            Child::Dir(_, dir) => Some(dir),
            Child::Key(..) => None,
        };
        if meta.expiration.is_none() && dir.is_none() {
            continue;
        }
        path.truncate(*path_length);
        path.push(b'/');
        path.extend_from_slice(child.name());
        if meta.expiration.is_some() {
            all.record(&Arc::from(&*path), None, Some(meta));
        }
        if let Some(dir) = dir {
            levels.push((dir.children.iter(), path.len()));
        }
    }
    all
}

//! Events: the store's answers, which watchers also receive, and their JSON form.

mod render;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::children::Iter;
use crate::store::node::{Child, Dir, Key, Meta};
use crate::time::UnixNanos;
use render::Reader;

pub(crate) use render::ttl_seconds;
pub use render::{LongValue, Rendering};

/// The action of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A read.
    Get,
    /// A new node where there was none.
    Create,
    /// A new node, whether or not there was one.
    Set,
    /// A change of a node that was there.
    Update,
    /// A node was removed with everything below it.
    Delete,
    /// A change of a key whose value or index matched.
    CompareAndSwap,
    /// A removal of a key whose value or index matched.
    CompareAndDelete,
    /// A node expired and was removed with everything below it.
    Expire,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 8] = [
        Action::Get,
        Action::Create,
        Action::Set,
        Action::Update,
        Action::Delete,
        Action::CompareAndSwap,
        Action::CompareAndDelete,
        Action::Expire,
    ];

    /// The name in the field `action` of the answer.
    pub fn name(self) -> &'static str {
        match self {
            Action::Get => "get",
            Action::Create => "create",
            Action::Set => "set",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::CompareAndSwap => "compareAndSwap",
            Action::CompareAndDelete => "compareAndDelete",
            Action::Expire => "expire",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &[u8]) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.name().as_bytes() == name)
    }
}

/// A change or a read of a node: an answer of the store, which watchers also receive.
///
/// Values are not copied: the event keeps the nodes of the tree alive.
pub struct Event {
    /// The action of an event.
    pub action: Action,
    /// The store's index at this answer, `X-Etcd-Index`. Not part of the JSON; for an event from a snapshot, its own
    /// index.
    pub index: u64,
    /// Whether only the expiration changed: such an event is in the history, but watchers do not receive it.
    pub refresh: bool,
    pub(crate) key: Arc<[u8]>,
    pub(crate) node: EventNode,
    pub(crate) prev: Option<EventNode>,
    /// The cached result of [`rendered`](Event::rendered).
    pub(crate) rendering: Mutex<Option<Bytes>>,
}

/// One of the two nodes of an event.
#[derive(Clone)]
pub(crate) struct EventNode {
    pub(crate) meta: Meta,
    /// The remaining seconds at the time of a change. Not used for reads.
    pub(crate) ttl: i64,
    pub(crate) content: NodeContent,
}

/// The part of a node that an event shows.
#[derive(Clone)]
pub(crate) enum NodeContent {
    /// Its indexes only: a removed node.
    Gone,
    /// A key with its value.
    Key(Key),
    /// A directory without its children.
    Dir,
    /// A directory that was read.
    Listing {
        /// The directory as it was.
        dir: triomphe::Arc<Dir>,
        /// Whether everything below is shown, or its children only.
        recursive: bool,
    },
}

impl Event {
    pub(crate) fn new(action: Action, key: Arc<[u8]>, node: EventNode, prev: Option<EventNode>) -> Event {
        let index = node.meta.modified;
        Event { action, index, refresh: false, key, node, prev, rendering: Mutex::new(None) }
    }

    /// The answer to a `SYNC`, which has no node.
    pub fn nothing(index: u64) -> Event {
        let node = EventNode { meta: Meta::default(), ttl: 0, content: NodeContent::Gone };
        Event { index, ..Event::new(Action::Get, Arc::from([]), node, None) }
    }

    /// The node's path in the store, with the store's prefix.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The node after the change.
    pub fn node(&self) -> NodeView<'_> {
        self.node.view(&self.key)
    }

    /// The node before the change, if there was one.
    pub fn prev(&self) -> Option<NodeView<'_>> {
        self.prev.as_ref().map(|prev| prev.view(&self.key))
    }

    /// The remaining seconds of the node, rounded up: for a read at `now`, for a change at its time. 0 for a node
    /// that does not expire.
    pub fn ttl(&self, now: UnixNanos) -> i64 {
        if self.action == Action::Get { ttl_seconds(self.node.meta.expiration, now) } else { self.node.ttl }
    }

    /// Whether a node was created where there was none: then the answer's status is 201.
    pub fn is_created(&self) -> bool {
        match self.action {
            Action::Create => true,
            Action::Set => self.prev.is_none(),
            _ => false,
        }
    }

    /// Appends the JSON that clients see: without the store's prefix in keys, without a final newline.
    ///
    /// `now` determines the `ttl` of a read; the `ttl` of a change is that at its time.
    pub fn write_json(&self, out: &mut Vec<u8>, now: UnixNanos) {
        render::write_event(out, self, Reader::Client { now });
    }

    /// Appends the JSON that a snapshot's history holds.
    pub(crate) fn write_snapshot_json(&self, out: &mut Vec<u8>) {
        render::write_event(out, self, Reader::Snapshot);
    }

    /// The same JSON and a final newline in pieces, for a directory that was read and for long values; `None` for an event
    /// that is written as a whole.
    pub fn in_pieces(&self, now: UnixNanos) -> Option<Rendering> {
        Rendering::of(self, now)
    }

    /// The JSON with the final newline, made at the first call and shared by all that hold this event.
    pub fn rendered(&self, now: UnixNanos) -> Bytes {
        self.rendering
            .lock()
            .get_or_insert_with(|| {
                let mut out = Vec::new();
                self.write_json(&mut out, now);
                out.push(b'\n');
                out.into()
            })
            .clone()
    }
}

impl Event {
    /// Drops the cached result of [`rendered`](Event::rendered).
    pub(crate) fn forget_rendering(&self) {
        *self.rendering.lock() = None;
    }
}

impl Clone for Event {
    fn clone(&self) -> Event {
        Event {
            key: Arc::clone(&self.key),
            node: self.node.clone(),
            prev: self.prev.clone(),
            rendering: Mutex::new(None),
            ..*self
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = Vec::new();
        self.write_json(&mut json, UnixNanos::ZERO);
        write!(f, "{} {}", self.index, String::from_utf8_lossy(&json))
    }
}

impl EventNode {
    /// A key as it is, or a directory without its children.
    pub(crate) fn of(child: &Child, now: UnixNanos) -> EventNode {
        let meta = child.meta();
        let content = match child {
            Child::Key(_, key) => NodeContent::Key(key.clone()),
            Child::Dir(..) => NodeContent::Dir,
        };
        EventNode { meta, ttl: ttl_seconds(meta.expiration, now), content }
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.content, NodeContent::Dir | NodeContent::Listing { .. })
    }

    fn view<'a>(&'a self, key: &'a [u8]) -> NodeView<'a> {
        let name = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let content = match &self.content {
            NodeContent::Gone => ViewContent::Nothing,
            NodeContent::Key(key) => ViewContent::Value(key),
            NodeContent::Dir => ViewContent::Dir(None),
            NodeContent::Listing { dir, .. } => ViewContent::Dir(Some(dir)),
        };
        NodeView { name, meta: self.meta, content }
    }
}

/// A node of an event, or a child of it. For the server's own use: hidden nodes are included.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    name: &'a [u8],
    meta: Meta,
    content: ViewContent<'a>,
}

#[derive(Clone, Copy)]
enum ViewContent<'a> {
    Nothing,
    Value(&'a Key),
    Dir(Option<&'a Dir>),
}

impl<'a> NodeView<'a> {
    /// The last element of its path.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// The value of a key.
    pub fn value(&self) -> Option<&'a [u8]> {
        match self.content {
            ViewContent::Value(key) => Some(key.value()),
            _ => None,
        }
    }

    /// The value of a key if it is so long that its JSON is written in pieces.
    pub fn long_value(&self) -> Option<LongValue> {
        match self.content {
            ViewContent::Value(key) => LongValue::of(key),
            _ => None,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.content, ViewContent::Dir(_))
    }

    /// The store's index at its creation.
    pub fn created_index(&self) -> u64 {
        self.meta.created
    }

    /// The store's index of its last change.
    pub fn modified_index(&self) -> u64 {
        self.meta.modified
    }

    /// When it expires.
    pub fn expiration(&self) -> Option<UnixNanos> {
        self.meta.expiration
    }

    /// The children of a directory that was read, in the order of their names.
    pub fn children(&self) -> impl Iterator<Item = NodeView<'a>> + use<'a> {
        match self.content {
            ViewContent::Dir(Some(dir)) => dir.children.iter(),
            _ => Iter::default(),
        }
        .map(NodeView::of)
    }

    /// The children whose names come after this one, in order.
    pub fn children_after(&self, name: &[u8]) -> impl Iterator<Item = NodeView<'a>> + use<'a> {
        match self.content {
            ViewContent::Dir(Some(dir)) => dir.children.iter_after(name),
            _ => Iter::default(),
        }
        .map(NodeView::of)
    }

    /// The child of that name, of a directory that was read.
    pub fn child(&self, name: &[u8]) -> Option<NodeView<'a>> {
        match self.content {
            ViewContent::Dir(Some(dir)) => dir.children.get(name).map(NodeView::of),
            _ => None,
        }
    }

    fn of(child: &'a Child) -> NodeView<'a> {
        let content = match child {
            Child::Key(_, key) => ViewContent::Value(key),
            Child::Dir(_, dir) => ViewContent::Dir(Some(dir)),
        };
        NodeView { name: child.name(), meta: child.meta(), content }
    }
}

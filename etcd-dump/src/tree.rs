//! Shows the store with its members.

use std::io::Write;

use anyhow::Result;
use bytes::Bytes;
use shared::event::{Event, NodeView};
use shared::pb::WalSnapshot;
use shared::store::Store;

use crate::dump_flags::{Format, Lengths};
use crate::fields::Value;
use crate::go_text::quote_into;
use crate::lines::Lines;
use crate::members::{self, Member};
use crate::text;

/// Shows a whole store as of an entry, with the members, in the order of paths.
pub(crate) fn show(
    store: &Store,
    at: WalSnapshot,
    members: Vec<Member>,
    format: Format,
    lengths: Lengths,
    out: &mut impl Write,
) -> Result<()> {
    let mut lines = Tree(Lines::new(format, lengths, out));
    lines.head(store, at)?;
    for member in members {
        lines.member(member)?;
    }
    for id in members::removed(store) {
        lines.0.add("member", Value::Id(id));
        lines.0.write("removed")?;
    }
    let Ok(listing) = store.get(b"/", true, false) else { return Ok(()) };
    walk(&listing, |path, node| lines.node(path, &node))
}

/// Calls `each` for every node below one that was read recursively, parents before children, with its path relative
/// to that one. Uses a stack of its own: a tree may be deeper than a thread's stack allows.
pub(crate) fn walk(listing: &Event, mut each: impl FnMut(&[u8], NodeView<'_>) -> Result<()>) -> Result<()> {
    let mut path = Vec::new();
    let mut levels = vec![(listing.node().children(), 0)];
    while let Some((children, length)) = levels.last_mut() {
        path.truncate(*length);
        let Some(child) = children.next() else {
            levels.pop();
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(child.name());
        each(&path, child)?;
        if child.is_dir() {
            levels.push((child.children(), path.len()));
        }
    }
    Ok(())
}

/// Prints the lines of a store.
struct Tree<'a, W>(Lines<'a, W>);

impl<W: Write> Tree<'_, W> {
    fn head(&mut self, store: &Store, at: WalSnapshot) -> Result<()> {
        self.0.add("index", Value::Number(store.index()));
        self.0.add("entry", Value::Number(at.index));
        self.0.add("term", Value::Number(at.term));
        self.0.write("store")
    }

    fn member(&mut self, member: Member) -> Result<()> {
        self.0.add("member", Value::Id(member.id));
        self.0.add("name", Value::Text(member.name.into()));
        self.0.add("peerURLs", Value::Texts(member.peer_urls));
        self.0.add("clientURLs", Value::Texts(member.client_urls));
        self.0.write("member")
    }

    fn node(&mut self, path: &[u8], node: &NodeView<'_>) -> Result<()> {
        if self.0.is_text() {
            return self.plain_node(path, node);
        }
        self.0.add("path", Value::Text(Bytes::copy_from_slice(path)));
        match node.value() {
            Some(value) => self.0.add("value", Value::Long(Bytes::copy_from_slice(value))),
            None => self.0.add("dir", Value::Flag(true)),
        }
        if let Some(expiration) = node.expiration() {
            self.0.add("expiration", Value::Time(expiration.0));
        }
        self.0.add("createdIndex", Value::Number(node.created_index()));
        self.0.add("modifiedIndex", Value::Number(node.modified_index()));
        self.0.write("node")
    }

    /// Prints a node as text: path, value, and expiration.
    fn plain_node(&mut self, path: &[u8], node: &NodeView<'_>) -> Result<()> {
        quote_into(&mut self.0.line, path);
        match node.value() {
            Some(value) => {
                self.0.line.extend_from_slice(b" = ");
                text::value(value, self.0.lengths, &mut self.0.line);
            }
            None => self.0.line.extend_from_slice(b" (dir)"),
        }
        if let Some(expiration) = node.expiration() {
            self.0.line.extend_from_slice(format!(" until {expiration}").as_bytes());
        }
        self.0.line.push(b'\n');
        self.0.flush()
    }
}

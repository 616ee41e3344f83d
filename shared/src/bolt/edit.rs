//! Changes trees by copy-on-write: what is touched is read, changed in memory, and gets new pages.

use bytes::Bytes;

use super::error::{BoltError, Damage};
use super::format::{BUCKET_FLAG, DEPTH_MAX, Page};
use super::free::{Free, Run};
use super::node::{self, Child, Elements, Item, Node, To};
use super::pages::Pages;
use super::view::Root;

/// A new value of a key, or its removal.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) key: Bytes,
    pub(super) value: Option<Bytes>,
}

/// A page to write, with its overflow pages.
#[derive(Debug)]
pub(super) struct NewPage {
    pub(super) run: Run,
    pub(super) bytes: Vec<u8>,
}

/// What became of a tree.
pub(super) enum Edited {
    Unchanged,
    /// It has a new root page.
    Page(u64),
    /// It stands in the value of its bucket.
    Inline(Bytes),
}

/// The pages of one commit.
pub(super) struct Editor<'a> {
    pages: &'a Pages,
    high_water: u64,
    free: &'a mut Free,
    /// What the new state no longer uses.
    pub(super) freed: Vec<Run>,
    pub(super) written: Vec<NewPage>,
}

impl<'a> Editor<'a> {
    /// For a commit after a state with `high_water` pages.
    pub(super) fn new(pages: &'a Pages, high_water: u64, free: &'a mut Free) -> Editor<'a> {
        Editor { pages, high_water, free, freed: Vec::new(), written: Vec::new() }
    }

    /// Gives back all pages it took: the commit is not to be.
    pub(super) fn roll_back(self) {
        for page in self.written {
            self.free.release(page.run);
        }
    }

    fn damaged(&self, id: u64, damage: Damage) -> BoltError {
        self.pages.damaged(id, damage)
    }

    /// Applies edits, which ascend, to a bucket; `None` is one that is missing.
    pub(super) fn edit_bucket(&mut self, root: Option<&Root>, edits: &[Edit]) -> Result<Edited, BoltError> {
        let edited = match root {
            None => {
                let mut node = Node::empty();
                let items = edits.iter().filter_map(|edit| new_item(edit, 0)).collect();
                node.elements = Elements::Leaf(items);
                Some(node)
            }
            Some(Root::Page(id)) => self.edit(*id, edits, 0, true, 0)?,
            Some(Root::Inline(page, id)) => self.edit_leaf(page, *id, edits, 0, true)?,
        };
        let Some(node) = edited else { return Ok(Edited::Unchanged) };
        match collapse(node) {
            To::Page(id) => Ok(Edited::Page(id)),
            To::Node(node) if node.is_inline(self.pages.page_size()) => {
                let Elements::Leaf(items) = &node.elements else { unreachable!("a branch is never inline") };
                Ok(Edited::Inline(node::encode_leaf(0, items, self.pages.page_size()).into()))
            }
            To::Node(node) => self.write_tree(*node).map(Edited::Page),
        }
    }

    /// Applies edits to the tree of buckets; returns its new root.
    pub(super) fn edit_root(&mut self, root: u64, edits: &[Edit]) -> Result<u64, BoltError> {
        match self.edit(root, edits, BUCKET_FLAG, true, 0)?.map(collapse) {
            None => Ok(root),
            Some(To::Page(id)) => Ok(id),
            Some(To::Node(node)) => self.write_tree(*node),
        }
    }

    /// The changed node of page `id`; `None` if the edits change nothing. `last`: the tree ends with it.
    fn edit(
        &mut self,
        id: u64,
        edits: &[Edit],
        flags: u32,
        last: bool,
        depth: usize,
    ) -> Result<Option<Node>, BoltError> {
        if depth == DEPTH_MAX {
            return Err(self.damaged(id, Damage::Depth(DEPTH_MAX)));
        }
        let page = self.pages.page(id, self.high_water)?;
        let edited = if page.is_leaf() {
            if page.count() == 0 && depth > 0 {
                return Err(self.damaged(id, Damage::Empty));
            }
            self.edit_leaf(&page, id, edits, flags, last)?
        } else {
            self.edit_branch(&page, id, edits, flags, last, depth)?
        };
        if edited.is_some() {
            self.free_page(id, &page);
        }
        Ok(edited)
    }

    fn free_page(&mut self, id: u64, page: &Page) {
        let len = (page.len() / self.pages.page_size()) as u64;
        self.freed.push(Run { start: id, len });
    }

    fn edit_leaf(
        &self,
        page: &Page,
        id: u64,
        edits: &[Edit],
        flags: u32,
        last: bool,
    ) -> Result<Option<Node>, BoltError> {
        let mut items: Vec<Item> = Vec::with_capacity(page.count() + edits.len());
        let mut edits = edits.iter().peekable();
        let (mut inside, mut shrunk) = (false, false);
        let mut before: Option<Bytes> = None;
        for i in 0..page.count() {
            let item = node::item(page, i).map_err(|damage| self.damaged(id, damage))?;
            if before.is_some_and(|before| before >= item.key) {
                return Err(self.damaged(id, Damage::KeyOrder(i)));
            }
            before = Some(item.key.clone());
            while let Some(edit) = edits.next_if(|edit| edit.key < item.key) {
                let new = new_item(edit, flags);
                inside |= new.is_some();
                items.extend(new);
            }
            let Some(edit) = edits.next_if(|edit| edit.key == item.key) else {
                items.push(item);
                continue;
            };
            if item.flags & BUCKET_FLAG != flags {
                return Err(BoltError::Incompatible(item.key.to_vec()));
            }
            match new_item(edit, flags) {
                Some(new) if new.value == item.value => items.push(item),
                new => {
                    (inside, shrunk) = (inside | new.is_some(), shrunk | new.is_none());
                    items.extend(new);
                }
            }
        }
        let len = items.len();
        items.extend(edits.filter_map(|edit| new_item(edit, flags)));
        let changed = inside || shrunk || items.len() > len;
        let appended = last && !inside;
        Ok(changed.then_some(Node { elements: Elements::Leaf(items), shrunk, appended }))
    }

    fn edit_branch(
        &mut self,
        page: &Page,
        id: u64,
        edits: &[Edit],
        flags: u32,
        last: bool,
        depth: usize,
    ) -> Result<Option<Node>, BoltError> {
        let count = page.count();
        if count == 0 {
            return Err(self.damaged(id, Damage::Empty));
        }
        let mut children = Vec::with_capacity(count);
        let mut rest = edits;
        let (mut changed, mut appended) = (0, false);
        for i in 0..count {
            let damaged = |damage| self.damaged(id, damage);
            let key = page.key_bytes(i).map_err(damaged)?;
            let mine = if i + 1 < count {
                let next = page.key(i + 1).map_err(damaged)?;
                if *key >= *next {
                    return Err(damaged(Damage::KeyOrder(i + 1)));
                }
                rest.partition_point(|edit| *edit.key < *next)
            } else {
                rest.len()
            };
            let (mine, later) = rest.split_at(mine);
            rest = later;
            let child = page.child(i);
            let mut to = To::Page(child);
            if !mine.is_empty() {
                let last = last && i + 1 == count;
                if let Some(node) = self.edit(child, mine, flags, last, depth + 1)? {
                    changed += 1;
                    appended = node.appended;
                    to = To::Node(Box::new(node));
                }
            }
            children.push(Child { key, to });
        }
        if changed == 0 {
            return Ok(None);
        }
        let shrunk = self.merge_small(&mut children)?;
        let appended = appended && changed == 1 && !shrunk;
        Ok(Some(Node { elements: Elements::Branch(children), shrunk, appended }))
    }

    /// Removes empty children, and merges those that removals have made too small; returns whether it did.
    fn merge_small(&mut self, children: &mut Vec<Child>) -> Result<bool, BoltError> {
        let page_size = self.pages.page_size();
        let len = children.len();
        children.retain(|child| !matches!(&child.to, To::Node(node) if node.is_empty()));
        let mut i = 0;
        while i < children.len() {
            let too_small = matches!(&children[i].to, To::Node(node) if node.is_too_small(page_size));
            match if too_small { self.neighbour(children, i)? } else { None } {
                Some(neighbour) => {
                    let left = i.min(neighbour);
                    let right = children.remove(left + 1);
                    let id = match &children[left].to {
                        To::Page(id) => *id,
                        To::Node(_) => match &right.to {
                            To::Page(id) => *id,
                            To::Node(_) => 0,
                        },
                    };
                    let right = self.take(right.to)?;
                    let mut merged = self.take(std::mem::replace(&mut children[left].to, To::Page(0)))?;
                    merged.extend(right).map_err(|damage| self.damaged(id, damage))?;
                    // A child that was alone in its parent has neighbours now.
                    if let Elements::Branch(children) = &mut merged.elements {
                        self.merge_small(children)?;
                    }
                    children[left].to = To::Node(Box::new(merged));
                    i = left;
                }
                None => i += 1,
            }
        }
        Ok(children.len() < len)
    }

    /// The child before or after `i` that has no more than a page: a large value is not moved for a small one. A branch
    /// that has too few children is merged with any other.
    fn neighbour(&self, children: &[Child], i: usize) -> Result<Option<usize>, BoltError> {
        for at in [i.checked_sub(1), Some(i + 1)].into_iter().flatten() {
            let size = match children.get(at).map(|child| &child.to) {
                None => continue,
                Some(To::Node(node)) => node.size(),
                Some(To::Page(id)) => self.pages.page(*id, self.high_water)?.len(),
            };
            let must = matches!(&children[i].to, To::Node(node) if node.has_too_few());
            if must || size <= self.pages.page_size() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// A child as a node; its page is freed.
    fn take(&mut self, to: To) -> Result<Node, BoltError> {
        match to {
            To::Node(node) => Ok(*node),
            To::Page(id) => {
                let page = self.pages.page(id, self.high_water)?;
                self.free_page(id, &page);
                Node::of(&page).map_err(|damage| self.damaged(id, damage))
            }
        }
    }

    /// Gives pages to a tree and returns its root.
    fn write_tree(&mut self, node: Node) -> Result<u64, BoltError> {
        let appended = node.appended;
        let mut level = self.write_node(node)?;
        while level.len() > 1 {
            level = self.write_branches(&level, appended)?;
        }
        Ok(level.first().map_or(0, |(_, id)| *id))
    }

    /// The first key and the number of each page.
    fn write_node(&mut self, node: Node) -> Result<Vec<(Bytes, u64)>, BoltError> {
        let page_size = self.pages.page_size();
        match node.elements {
            Elements::Leaf(items) => {
                let parts = node::split_items(&items, page_size, node.appended);
                let mut written = Vec::with_capacity(parts.len());
                for part in parts {
                    let run = self.allocate(node::leaf_bytes(part))?;
                    self.add(run, node::encode_leaf(run.start, part, page_size));
                    let key = part.first().map(|item| item.key.clone()).unwrap_or_default();
                    written.push((key, run.start));
                }
                Ok(written)
            }
            Elements::Branch(children) => {
                let mut below = Vec::with_capacity(children.len());
                for child in children {
                    match child.to {
                        To::Page(id) => below.push((child.key, id)),
                        To::Node(node) => below.extend(self.write_node(*node)?),
                    }
                }
                self.write_branches(&below, node.appended)
            }
        }
    }

    fn write_branches(
        &mut self,
        below: &[(Bytes, u64)],
        appended: bool,
    ) -> Result<Vec<(Bytes, u64)>, BoltError> {
        let page_size = self.pages.page_size();
        let parts = node::split_children(below, page_size, appended);
        let mut written = Vec::with_capacity(parts.len());
        for part in parts {
            let run = self.allocate(node::branch_bytes(part))?;
            self.add(run, node::encode_branch(run.start, part, page_size));
            let key = part.first().map(|(key, _)| key.clone()).unwrap_or_default();
            written.push((key, run.start));
        }
        Ok(written)
    }

    fn allocate(&mut self, bytes: usize) -> Result<Run, BoltError> {
        let len = bytes.div_ceil(self.pages.page_size()) as u64;
        let run = self.free.allocate(len).ok_or(BoltError::Exhausted)?;
        for id in run.start..run.end() {
            self.pages.cache.forget(id);
        }
        Ok(run)
    }

    fn add(&mut self, run: Run, mut bytes: Vec<u8>) {
        bytes.resize(usize::try_from(run.len).unwrap_or(usize::MAX) * self.pages.page_size(), 0);
        self.written.push(NewPage { run, bytes });
    }
}

fn new_item(edit: &Edit, flags: u32) -> Option<Item> {
    edit.value.clone().map(|value| Item { flags, key: edit.key.clone(), value })
}

/// A root without levels that have one child only.
fn collapse(mut node: Node) -> To {
    loop {
        let Elements::Branch(children) = &mut node.elements else { return To::Node(Box::new(node)) };
        if children.len() > 1 {
            return To::Node(Box::new(node));
        }
        match children.pop().map(|child| child.to) {
            None => return To::Node(Box::new(Node::empty())),
            Some(To::Page(id)) => return To::Page(id),
            Some(To::Node(child)) => node = *child,
        }
    }
}

//! Pages that a commit changes, in memory, and how they are split and encoded.

use bytes::Bytes;

use super::error::Damage;
use super::format::{BRANCH, BUCKET_FLAG, ELEMENT_BYTES, HEADER_BYTES, Header, LEAF, Page};

/// How full a page is after a split, in per cent, as bbolt does it.
const FILL: usize = 50;
/// The same where keys are only added at the end: the pages before it will not grow any more.
const FILL_APPENDED: usize = 90;
/// The fewest children of a branch below the root: bbolt stops with a failed assertion when it finds fewer.
pub(super) const CHILDREN_LEAST: usize = 2;

/// An element of a leaf.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) flags: u32,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// An element of a branch.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) key: Bytes,
    pub(super) to: To,
}

#[derive(Debug)]
pub(super) enum To {
    /// A page that is not changed.
    Page(u64),
    Node(Box<Node>),
}

#[derive(Debug)]
pub(super) enum Elements {
    Leaf(Vec<Item>),
    Branch(Vec<Child>),
}

/// A page that is changed, of any size until it is split.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) elements: Elements,
    /// Whether elements were removed, so that it may have become too small.
    pub(super) shrunk: bool,
    /// Whether it is at the end of the tree, and only grew at its own end.
    pub(super) appended: bool,
}

impl Node {
    pub(super) fn empty() -> Node {
        Node { elements: Elements::Leaf(Vec::new()), shrunk: false, appended: true }
    }

    /// What is on a page.
    pub(super) fn of(page: &Page) -> Result<Node, Damage> {
        let elements = if page.is_leaf() {
            Elements::Leaf((0..page.count()).map(|i| item(page, i)).collect::<Result<_, _>>()?)
        } else {
            let child = |i| Ok(Child { key: page.key_bytes(i)?, to: To::Page(page.child(i)) });
            Elements::Branch((0..page.count()).map(child).collect::<Result<_, _>>()?)
        };
        Ok(Node { elements, shrunk: false, appended: false })
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.elements {
            Elements::Leaf(items) => items.is_empty(),
            Elements::Branch(children) => children.is_empty(),
        }
    }

    /// The bytes that it would need on one page.
    pub(super) fn size(&self) -> usize {
        HEADER_BYTES
            + match &self.elements {
                Elements::Leaf(items) => items.iter().map(item_bytes).sum::<usize>(),
                Elements::Branch(children) => {
                    children.iter().map(|child| ELEMENT_BYTES + child.key.len()).sum::<usize>()
                }
            }
    }

    /// Whether it is a branch with fewer children than bbolt can work with below the root.
    pub(super) fn has_too_few(&self) -> bool {
        matches!(&self.elements, Elements::Branch(children) if children.len() < CHILDREN_LEAST)
    }

    /// Whether removals have left so little that it is to be merged with a neighbour.
    pub(super) fn is_too_small(&self, page_size: usize) -> bool {
        self.has_too_few() || self.shrunk && self.size() < page_size / 4
    }

    /// Whether the tree may stand in the value of its bucket.
    pub(super) fn is_inline(&self, page_size: usize) -> bool {
        let plain = |item: &Item| item.flags & BUCKET_FLAG == 0;
        matches!(&self.elements, Elements::Leaf(items) if items.iter().all(plain))
            && self.size() <= page_size / 4
    }

    /// Adds the elements of the next node, which must be of the same kind.
    pub(super) fn extend(&mut self, next: Node) -> Result<(), Damage> {
        match (&mut self.elements, next.elements) {
            (Elements::Leaf(items), Elements::Leaf(more)) => items.extend(more),
            (Elements::Branch(children), Elements::Branch(more)) => children.extend(more),
            (Elements::Leaf(_), Elements::Branch(_)) => return Err(Damage::Kind(BRANCH)),
            (Elements::Branch(_), Elements::Leaf(_)) => return Err(Damage::Kind(LEAF)),
        }
        self.shrunk = true;
        self.appended = false;
        Ok(())
    }
}

pub(super) fn item(page: &Page, i: usize) -> Result<Item, Damage> {
    let (key, value) = page.key_and_value(i)?;
    Ok(Item { flags: page.flags(i), key, value })
}

pub(super) fn item_bytes(item: &Item) -> usize {
    ELEMENT_BYTES + item.key.len() + item.value.len()
}

/// Splits leaf items into pages.
pub(super) fn split_items(items: &[Item], page_size: usize, appended: bool) -> Vec<&[Item]> {
    split(items, item_bytes, page_size, appended, 1)
}

/// Splits the elements of a branch, first key and page, into pages.
pub(super) fn split_children(
    children: &[(Bytes, u64)],
    page_size: usize,
    appended: bool,
) -> Vec<&[(Bytes, u64)]> {
    split(children, |(key, _)| ELEMENT_BYTES + key.len(), page_size, appended, CHILDREN_LEAST)
}

/// Elements that fit into one page stay together; else pages are filled so far, from the front. The last one gets the
/// rest, up to a whole page. An element that is larger than a page has pages of its own.
fn split<T>(
    mut rest: &[T],
    bytes: impl Fn(&T) -> usize,
    page_size: usize,
    appended: bool,
    least: usize,
) -> Vec<&[T]> {
    let fill = page_size * if appended { FILL_APPENDED } else { FILL } / 100;
    let mut left: usize = rest.iter().map(&bytes).sum();
    let mut parts = Vec::new();
    while HEADER_BYTES + left > page_size {
        let mut used = HEADER_BYTES;
        let mut count = 0;
        for element in rest {
            let with = used + bytes(element);
            // Two elements of more than a quarter each fit as well.
            let fits = with <= if count < 2 { page_size } else { fill };
            if count >= least && !fits {
                break;
            }
            used = with;
            count += 1;
        }
        if rest.len() < count + least {
            break;
        }
        let (part, later) = rest.split_at(count);
        parts.push(part);
        rest = later;
        left -= used - HEADER_BYTES;
    }
    parts.push(rest);
    parts
}

/// A number that is within the format's bounds, as keys and values are.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or_else(|_| unreachable!("{number} bytes on a page"))
}

fn begin(id: u64, kind: u16, elements: usize, bytes: usize, page_size: usize) -> Vec<u8> {
    let pages = bytes.div_ceil(page_size);
    let count = u16::try_from(elements).unwrap_or_else(|_| unreachable!("{elements} elements on a page"));
    let mut out = Vec::with_capacity(pages * page_size);
    Header { id, kind, count, overflow: narrow(pages - 1) }.encode(&mut out);
    out
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&narrow(number).to_le_bytes());
}

/// The bytes of a leaf, without padding.
pub(super) fn encode_leaf(id: u64, items: &[Item], page_size: usize) -> Vec<u8> {
    let mut out = begin(id, LEAF, items.len(), leaf_bytes(items), page_size);
    let mut at = HEADER_BYTES + items.len() * ELEMENT_BYTES;
    for item in items {
        let position = at - out.len();
        out.extend_from_slice(&item.flags.to_le_bytes());
        put_u32(&mut out, position);
        put_u32(&mut out, item.key.len());
        put_u32(&mut out, item.value.len());
        at += item.key.len() + item.value.len();
    }
    for item in items {
        out.extend_from_slice(&item.key);
        out.extend_from_slice(&item.value);
    }
    out
}

/// The bytes of a branch, without padding.
pub(super) fn encode_branch(id: u64, children: &[(Bytes, u64)], page_size: usize) -> Vec<u8> {
    let mut out = begin(id, BRANCH, children.len(), branch_bytes(children), page_size);
    let mut at = HEADER_BYTES + children.len() * ELEMENT_BYTES;
    for (key, page) in children {
        let position = at - out.len();
        put_u32(&mut out, position);
        put_u32(&mut out, key.len());
        out.extend_from_slice(&page.to_le_bytes());
        at += key.len();
    }
    for (key, _) in children {
        out.extend_from_slice(key);
    }
    out
}

pub(super) fn leaf_bytes(items: &[Item]) -> usize {
    HEADER_BYTES + items.iter().map(item_bytes).sum::<usize>()
}

pub(super) fn branch_bytes(children: &[(Bytes, u64)]) -> usize {
    HEADER_BYTES + children.iter().map(|(key, _)| ELEMENT_BYTES + key.len()).sum::<usize>()
}

//! The nodes of the tree: keys and directories, shared between the tree, its images and events.
//!
//! A key is one immutable allocation: a write replaces it. A directory is copied before a change only if it is
//! shared, and its children are in a separate [`Children`], so that such a copy is small.

use std::mem;

use triomphe::{Arc, ThinArc};

use super::children::{Children, Garbage};
use crate::time::UnixNanos;

/// A key with its value. Cloning takes another reference.
#[derive(Clone)]
pub(crate) struct Key(ThinArc<KeyHeader, u8>);

/// The header of a key's bytes: its expiration if it has one (8 bytes), its name, its value.
struct KeyHeader {
    created: u64,
    modified: u64,
    name_length: u32,
    expires: bool,
}

const EXPIRATION_BYTES: usize = size_of::<i64>();

/// The metadata of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    /// The store's index at its creation.
    pub(crate) created: u64,
    /// The store's index of its last change.
    pub(crate) modified: u64,
    /// When it expires.
    pub(crate) expiration: Option<UnixNanos>,
}

impl Key {
    /// Makes a key. `scratch` is overwritten; it is an argument so that no call allocates more than the key.
    pub(crate) fn new(name: &[u8], value: &[u8], meta: Meta, scratch: &mut Vec<u8>) -> Key {
        scratch.clear();
        if let Some(UnixNanos(expiration)) = meta.expiration {
            scratch.extend_from_slice(&expiration.to_le_bytes());
        }
        scratch.extend_from_slice(name);
        scratch.extend_from_slice(value);
        let header = KeyHeader {
            created: meta.created,
            modified: meta.modified,
            name_length: u32::try_from(name.len()).expect("a name is shorter than 4 GiB"),
            expires: meta.expiration.is_some(),
        };
        Key(ThinArc::from_header_and_slice(header, scratch))
    }

    pub(crate) fn meta(&self) -> Meta {
        let header = &self.0.header.header;
        Meta { created: header.created, modified: header.modified, expiration: self.expiration() }
    }

    pub(crate) fn expiration(&self) -> Option<UnixNanos> {
        let bytes = self.0.header.header.expires.then(|| self.0.slice.first_chunk())??;
        Some(UnixNanos(i64::from_le_bytes(*bytes)))
    }

    pub(crate) fn name(&self) -> &[u8] {
        self.parts().0
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.parts().1
    }

    /// Whether it is shared.
    #[cfg(test)]
    pub(crate) fn is_shared(&self) -> bool {
        ThinArc::strong_count(&self.0) > 1
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let header = &self.0.header.header;
        let bytes = if header.expires { &self.0.slice[EXPIRATION_BYTES..] } else { &self.0.slice };
        bytes.split_at(header.name_length as usize)
    }
}

/// A directory.
#[derive(Clone, Default)]
pub(crate) struct Dir {
    pub(crate) name: Box<[u8]>,
    pub(crate) meta: Meta,
    pub(crate) children: Children,
}

impl Dir {
    pub(crate) fn new(name: &[u8], meta: Meta, children: Children) -> Dir {
        Dir { name: Box::from(name), meta, children }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Dropping the fields in turn would recurse as deep as the tree goes.
        let mut garbage = Garbage::default();
        garbage.add(mem::take(&mut self.children));
    }
}

/// A key or a directory, in its parent's list of children.
#[derive(Clone)]
pub(crate) enum Child {
    /// A key, and the tag of its name.
    Key(u32, Key),
    /// A directory, and the tag of its name.
    Dir(u32, Arc<Dir>),
}

const _: () = assert!(size_of::<Child>() == 16, "a slot is a tag and a pointer");

impl Child {
    pub(crate) fn key(key: Key) -> Child {
        Child::Key(name_tag(key.name()), key)
    }

    pub(crate) fn dir(dir: Dir) -> Child {
        Child::Dir(name_tag(&dir.name), Arc::new(dir))
    }

    pub(crate) fn name(&self) -> &[u8] {
        match self {
            Child::Key(_, key) => key.name(),
            Child::Dir(_, dir) => &dir.name,
        }
    }

    pub(crate) fn tag(&self) -> u32 {
        match self {
            Child::Key(tag, _) | Child::Dir(tag, _) => *tag,
        }
    }

    pub(crate) fn meta(&self) -> Meta {
        match self {
            Child::Key(_, key) => key.meta(),
            Child::Dir(_, dir) => dir.meta,
        }
    }

    /// The node at a path relative to this one: `/name/name`, or empty for this node.
    pub(crate) fn below(&self, path: &[u8]) -> Option<&Child> {
        let mut child = self;
        for name in path.split(|byte| *byte == b'/').skip(1) {
            let Child::Dir(_, dir) = child else { return None };
            child = dir.children.get(name)?;
        }
        Some(child)
    }

    /// Whether listings leave it out.
    pub(crate) fn is_hidden(&self) -> bool {
        self.name().first() == Some(&b'_')
    }
}

/// A small fingerprint of a name: nodes whose tags differ have different names, so that a search in a list of
/// children reads the name of one node only.
pub(crate) fn name_tag(name: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    (mix(hash, u64::from_le_bytes(last)) >> 32) as u32
}

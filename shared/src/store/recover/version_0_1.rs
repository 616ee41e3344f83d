//! A store of etcd 0.1, which had another shape and no indexes in its nodes.
//!
//! ```text
//! {"Tree":{"Root":NODE},"ResponseMap":{"7":{"action":"SET","key":"/a","newKey":true,…},…},…,"Index":9,…}
//! NODE: {"InternalNode":{"value":"…","expireTime":"…"},"Dir":false,"NodeMap":null or {name: NODE,…}}
//! ```
//!
//! The responses have the indexes of the keys. Keys without a response are older than all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Result, Scratch, Siblings, expirations, field, number, object, string, time};
use crate::store::Store;
use crate::store::node::{Child, Dir, Key, Meta};
use crate::store::reader::Reader;
use crate::store::tree::Tree;
use crate::time::UnixNanos;

/// 0.1 writes the start of 1970, in any time zone, for "never".
const EXPIRATION_MIN: UnixNanos = UnixNanos(946_684_800_000_000_000);

/// Whether a text looks like a store of 0.1; otherwise it is one of 0.2 or later, or not a store.
#[must_use]
pub fn is_0_1(json: &[u8]) -> bool {
    json.starts_with(b"{\"Tree\"")
}

/// Reads the store, with the keys right below `/`.
pub(crate) fn recover(json: &[u8], history_length: usize) -> Result<Store> {
    let mut store = Store::new(history_length);
    let mut responses = Vec::new();
    let mut reader = Reader::new(json);
    object(&mut reader, |reader, name| {
        match field(name) {
            b"index" => store.index = number(reader)?,
            b"responsemap" => read_responses(reader, &mut responses)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    let indexes = Indexes::new(responses, store.index);
    let mut root = None;
    let mut reader = Reader::new(json);
    object(&mut reader, |reader, name| match field(name) {
        b"tree" => object(reader, |reader, name| match field(name) {
            b"root" => {
                root = Some(read_tree(reader, &indexes)?);
                Ok(())
            }
            _ => reader.skip(),
        }),
        _ => reader.skip(),
    })?;
    let root = root.ok_or_else(|| reader.error("there is no root"))?;
    store.tree = Tree { root: triomphe::Arc::new(root) };
    store.expirations = expirations(&store.tree);
    Ok(store)
}

/// The index of a key from a response.
struct Response {
    index: u64,
    key: Vec<u8>,
    set: bool,
    new: bool,
}

fn read_responses(reader: &mut Reader<'_>, responses: &mut Vec<Response>) -> Result<()> {
    object(reader, |reader, _| {
        let mut response = Response { index: 0, key: Vec::new(), set: false, new: false };
        object(reader, |reader, name| {
            match field(name) {
                b"action" => response.set = *string(reader)? == *b"SET",
                b"key" => response.key = string(reader)?.into_owned(),
                b"newkey" => response.new = reader.bool()?,
                b"index" => response.index = number(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        responses.push(response);
        Ok(())
    })
}

/// The created and modified indexes of keys.
struct Indexes {
    known: BTreeMap<Vec<u8>, (u64, u64)>,
    /// The index for keys without a response.
    before: u64,
}

impl Indexes {
    fn new(mut responses: Vec<Response>, last: u64) -> Indexes {
        responses.sort_by_key(|response| response.index);
        let before = responses.first().map_or(last, |first| first.index.saturating_sub(1)).max(1);
        let mut known = BTreeMap::new();
        for Response { index, key, set, new } in responses {
            if !set {
                known.remove(&key);
            } else {
                let made = known.get(&key).map_or(before, |(made, _)| *made);
                known.insert(key, (if new { index } else { made }, index));
            }
        }
        Indexes { known, before }
    }

    fn of(&self, path: &[u8]) -> (u64, u64) {
        self.known.get(path).copied().unwrap_or((self.before, self.before))
    }
}

/// A node that is being read.
struct OpenNode<'a> {
    name: Cow<'a, [u8]>,
    path_length: usize,
    value: Cow<'a, [u8]>,
    expiration: Option<UnixNanos>,
    is_dir: bool,
    children: Siblings,
    /// The lowest created index of the children.
    made: Option<u64>,
    in_children: bool,
    first_member: bool,
    first_child: bool,
}

impl<'a> OpenNode<'a> {
    fn new(name: Cow<'a, [u8]>, path_length: usize) -> OpenNode<'a> {
        OpenNode {
            name,
            path_length,
            value: Cow::Borrowed(b""),
            expiration: None,
            is_dir: false,
            children: Siblings::default(),
            made: None,
            in_children: false,
            first_member: true,
            first_child: true,
        }
    }

    fn read_member(&mut self, reader: &mut Reader<'a>, name: &[u8]) -> Result<()> {
        if name.eq_ignore_ascii_case(b"InternalNode") {
            object(reader, |reader, name| {
                match field(name) {
                    b"value" => self.value = string(reader)?,
                    b"expiretime" => self.expiration = time(reader)?.filter(|time| *time >= EXPIRATION_MIN),
                    _ => reader.skip()?,
                }
                Ok(())
            })
        } else if name.eq_ignore_ascii_case(b"Dir") {
            self.is_dir = reader.bool()?;
            Ok(())
        } else {
            reader.skip()
        }
    }

    fn finish(self, path: &[u8], indexes: &Indexes, scratch: &mut Scratch) -> Child {
        if self.is_dir {
            let made = self.made.unwrap_or(indexes.before);
            let meta = Meta { created: made, modified: made, expiration: None };
            return Child::dir(Dir::new(&self.name, meta, self.children.finish()));
        }
        let (created, modified) = indexes.of(path);
        let meta = Meta { created, modified, expiration: self.expiration };
        Child::key(Key::new(&self.name, &self.value, meta, &mut scratch.key))
    }
}

/// Reads the root with everything below it. Uses a stack of its own: a tree may be deeper than a thread's stack
/// allows.
fn read_tree(reader: &mut Reader<'_>, indexes: &Indexes) -> Result<Dir> {
    reader.expect(b'{', "no node")?;
    let mut scratch = Scratch::default();
    let mut path = Vec::new();
    let mut above: Vec<OpenNode<'_>> = Vec::new();
    let mut open = OpenNode::new(Cow::Borrowed(b""), 0);
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
            path.push(b'/');
            path.extend_from_slice(&name);
            above.push(std::mem::replace(&mut open, OpenNode::new(name, path.len())));
        } else if let Some(name) = reader.member(&mut open.first_member)? {
            if !name.eq_ignore_ascii_case(b"NodeMap") {
                open.read_member(reader, &name)?;
            } else if !reader.null() {
                reader.expect(b'{', "no children")?;
                open.in_children = true;
                open.first_child = true;
            }
        } else {
            path.truncate(open.path_length);
            let child = open.finish(&path, indexes, &mut scratch);
            let Some(parent) = above.pop() else {
                return match child {
                    Child::Dir(_, root) => {
                        // As in later versions, the root was there before the first change.
                        let mut root = triomphe::Arc::unwrap_or_clone(root);
                        root.meta = Meta::default();
                        Ok(root)
                    }
                    Child::Key(..) => Err(reader.error("the root is no directory")),
                };
            };
            open = parent;
            let made = child.meta().created;
            open.made = Some(open.made.map_or(made, |first| first.min(made)));
            open.children.push(child);
            path.truncate(open.path_length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_as_0_1_wrote_it() {
        let node = |value: &str, time: &str| {
            format!(
                r#"{{"InternalNode":{{"value":"{value}","expireTime":"{time}"}},"Dir":false,"NodeMap":null}}"#
            )
        };
        let never = "1970-01-01T01:00:00+01:00";
        let dir = |children: &str| {
            format!(
                r#"{{"InternalNode":{{"value":"","expireTime":"{never}"}},"Dir":true,"NodeMap":{{{children}}}}}"#
            )
        };
        let sub = dir(&format!(r#""x":{}"#, node("2", "2036-11-18T07:58:35.5Z")));
        let children = format!(
            r#""old":{},"message":{},"foo":{}"#,
            node("0", never),
            node("b", never),
            dir(&format!(r#""sub":{sub}"#))
        );
        let json = format!(
            r#"{{"Tree":{{"Root":{}}},"ResponseMap":{{"5":{{"action":"SET","key":"/foo/sub/x","value":"2","newKey":true,"index":5}},"6":{{"action":"SET","key":"/message","prevValue":"a","value":"b","index":6}},"4":{{"action":"SET","key":"/message","value":"a","newKey":true,"index":4}}}},"ResponseMaxSize":1024,"ResponseStartIndex":0,"Index":6,"BasicStats":{{}}}}"#,
            dir(&children)
        );
        assert!(is_0_1(json.as_bytes()));
        let store = Store::recover_legacy(json.as_bytes(), 1, true).unwrap();
        let image = store.image();
        assert_eq!(store.index(), 6);
        assert_eq!(image.indexes(b"/1/message"), Some((4, 6)));
        assert_eq!(image.indexes(b"/1/foo"), Some((5, 5)));
        assert_eq!(image.indexes(b"/1/old"), Some((3, 3)), "older than all responses");
        let count_nodes = image.count_nodes(b"/1");
        assert_eq!((count_nodes.keys, count_nodes.directories, count_nodes.expiring), (3, 2, 1));
        for cut in 0..json.len() {
            assert!(recover(&json.as_bytes()[..cut], 1).is_err(), "cut at {cut}");
        }
    }
}

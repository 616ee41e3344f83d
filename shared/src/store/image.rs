//! The body of a snapshot: the store as one JSON object, byte for byte as Go's `encoding/json` writes it.

use std::io::{self, Write};

use super::SNAPSHOT_VERSION;
use super::children::Iter;
use super::history::History;
use super::node::{Child, Dir, Meta};
use super::stats::Counters;
use super::tree::Tree;
use crate::json;

/// The buffer is written out at this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// An immutable state of a store.
pub struct Image {
    pub(super) tree: Tree,
    pub(super) index: u64,
    pub(super) history: History,
    pub(super) counters: Counters,
}

impl Image {
    /// The store's index of this image.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Writes the body of a snapshot, in pieces of about 64 KiB.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Chunks { buffer: Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4), out };
        out.buffer.extend_from_slice(b"{\"Root\":");
        write_tree(&self.tree.root, &mut out, b"")?;
        out.buffer.extend_from_slice(b",\"WatcherHub\":{\"EventHistory\":");
        write_history(&self.history, &mut out)?;
        out.buffer.extend_from_slice(b"},\"CurrentIndex\":");
        json::write_u64(&mut out.buffer, self.index);
        out.buffer.extend_from_slice(b",\"Stats\":");
        self.counters.write_json(&mut out.buffer);
        out.buffer.extend_from_slice(b",\"CurrentVersion\":");
        json::write_u64(&mut out.buffer, SNAPSHOT_VERSION);
        out.buffer.push(b'}');
        out.flush()
    }

    /// Writes the body of a snapshot as etcd-migrate 2.0 writes it: without a history and counters, and with the
    /// member `ACL` that 2.0 had.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json_2_0(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Chunks { buffer: Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4), out };
        out.buffer.extend_from_slice(b"{\"Root\":");
        write_tree(&self.tree.root, &mut out, b"\"ACL\":\"\",")?;
        out.buffer.extend_from_slice(b",\"CurrentIndex\":");
        json::write_u64(&mut out.buffer, self.index);
        out.buffer.extend_from_slice(b",\"CurrentVersion\":");
        json::write_u64(&mut out.buffer, SNAPSHOT_VERSION);
        out.buffer.push(b'}');
        out.flush()
    }
}

/// A buffer that is written out when it is full.
struct Chunks<'a> {
    buffer: Vec<u8>,
    out: &'a mut dyn Write,
}

impl Chunks<'_> {
    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// A directory that is being written.
struct Level<'a> {
    children: Iter<'a>,
    /// The length of its path, escaped.
    path_length: usize,
    /// Whether a child was written.
    any: bool,
}

impl<'a> Level<'a> {
    fn of(dir: &'a Dir, path_length: usize) -> Level<'a> {
        Level { children: dir.children.iter(), path_length, any: false }
    }
}

/// Writes all nodes, each with `more` among its members. The stack is our own: a tree may be deeper than a thread's.
fn write_tree(root: &Dir, out: &mut Chunks<'_>, more: &[u8]) -> io::Result<()> {
    let mut path = Vec::new();
    open(&mut out.buffer, b"/", root.meta, more, b"");
    out.buffer.push(b'{');
    let mut levels = vec![Level::of(root, 0)];
    while let Some(level) = levels.last_mut() {
        out.flush_if_full()?;
        let out = &mut out.buffer;
        let Some(child) = level.children.next() else {
            out.extend_from_slice(b"}}");
            levels.pop();
            continue;
        };
        out.extend_from_slice(if level.any { b",\"" } else { b"\"" });
        level.any = true;
        path.truncate(level.path_length);
        path.push(b'/');
        json::write_escaped(&mut path, child.name());
        out.extend_from_slice(&path[level.path_length + 1..]);
        out.extend_from_slice(b"\":");
        match child {
            Child::Key(_, key) => {
                open(out, &path, key.meta(), more, key.value());
                out.extend_from_slice(b"null}");
            }
            Child::Dir(_, dir) => {
                open(out, &path, dir.meta, more, b"");
                out.push(b'{');
                levels.push(Level::of(dir, path.len()));
            }
        }
    }
    Ok(())
}

/// Writes a node up to its children.
fn open(out: &mut Vec<u8>, path: &[u8], meta: Meta, more: &[u8], value: &[u8]) {
    out.extend_from_slice(b"{\"Path\":\"");
    out.extend_from_slice(path);
    out.extend_from_slice(b"\",\"CreatedIndex\":");
    json::write_u64(out, meta.created);
    out.extend_from_slice(b",\"ModifiedIndex\":");
    json::write_u64(out, meta.modified);
    out.extend_from_slice(b",\"ExpireTime\":\"");
    match meta.expiration {
        Some(expiration) => json::write_time(out, expiration),
        // Go's zero time.
        None => out.extend_from_slice(b"0001-01-01T00:00:00Z"),
    }
    out.extend_from_slice(b"\",");
    out.extend_from_slice(more);
    out.extend_from_slice(b"\"Value\":");
    json::write_string(out, value);
    out.extend_from_slice(b",\"Children\":");
}

fn write_history(history: &History, out: &mut Chunks<'_>) -> io::Result<()> {
    out.buffer.extend_from_slice(b"{\"Queue\":{\"Events\":[");
    for slot in 0..history.capacity() {
        if slot > 0 {
            out.buffer.push(b',');
        }
        match history.slot(slot) {
            Some(event) => event.write_snapshot_json(&mut out.buffer),
            None => out.buffer.extend_from_slice(b"null"),
        }
        out.flush_if_full()?;
    }
    let size = history.len();
    let back = (history.front() + size) % history.capacity();
    let numbers = [
        ("],\"Size\":", size as u64),
        (",\"Front\":", history.front() as u64),
        (",\"Back\":", back as u64),
        (",\"Capacity\":", history.capacity() as u64),
        ("},\"StartIndex\":", history.start_index()),
        (",\"LastIndex\":", history.last_index()),
    ];
    for (name, number) in numbers {
        out.buffer.extend_from_slice(name.as_bytes());
        json::write_u64(&mut out.buffer, number);
    }
    out.buffer.push(b'}');
    Ok(())
}

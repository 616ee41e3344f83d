//! The queue of a lock as it stands in the store.

use bytes::Bytes;
use shared::error::Code;
use shared::event::{Event, NodeView};
use shared::time::UnixNanos;
use shared::v2;

use super::MemberHandle;
use crate::backend::{Backend as _, SubmitError};

/// Where all locks are: the store's prefix of client keys, then where 0.2 kept them.
const LOCKS: &str = "/1/_etcd/mod/lock";

/// The value of a place whose client gave none: such a place cannot be found by its value.
pub(super) const ANONYMOUS: &[u8] = b"-";

/// The directory of one lock in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockPath(Vec<u8>);

impl LockPath {
    /// The lock with this key: what follows the page's own path. `None` when that names no lock.
    pub(crate) fn new(rest: &[u8]) -> Option<LockPath> {
        let mut path = LOCKS.as_bytes().to_vec();
        for part in rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            // Paths that lead upwards are cleaned before a page sees them; this one must not leave its place.
            if matches!(part, b"." | b"..") {
                return None;
            }
            path.push(b'/');
            path.extend_from_slice(part);
        }
        (path.len() > LOCKS.len()).then_some(LockPath(path))
    }

    /// The directory's key, as clients know it.
    pub(crate) fn key(&self) -> &[u8] {
        self.0.strip_prefix(b"/1").unwrap_or(&self.0)
    }

    /// The directory in the store.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path of what is below by this name.
    pub(super) fn child(&self, name: &[u8]) -> Bytes {
        [&self.0, b"/".as_slice(), name].concat().into()
    }
}

/// One client's place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LockEntry {
    /// The number in its name.
    pub(super) index: u64,
    /// Its name, which may have zeros in front of the number.
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) modified: u64,
    pub(super) expiration: Option<UnixNanos>,
}

impl LockEntry {
    fn of(node: NodeView<'_>) -> Option<LockEntry> {
        let index = std::str::from_utf8(node.name()).ok()?.parse().ok()?;
        Some(LockEntry {
            index,
            name: node.name().to_vec(),
            value: node.value()?.to_vec(),
            modified: node.modified_index(),
            expiration: node.expiration(),
        })
    }
}

/// The places in a directory that was read, the first one first. Locks below this one are none of its places.
pub(super) fn entries(event: &Event) -> Vec<LockEntry> {
    let mut entries: Vec<LockEntry> = event.node().children().filter_map(LockEntry::of).collect();
    // By number: names of another length may have come from elsewhere.
    entries.sort_by_key(|entry| entry.index);
    entries
}

/// The queue as this member knows it.
pub(super) fn local_queue(handle: &impl MemberHandle, lock: &LockPath) -> Vec<LockEntry> {
    handle
        .member()
        .store()
        .get(lock.as_bytes(), false, true)
        .map_or_else(|_| Vec::new(), |event| entries(&event))
}

/// The queue as a majority knows it. A lock that nobody ever asked for has an empty one.
pub(super) async fn quorum_queue(
    handle: &impl MemberHandle,
    lock: &LockPath,
) -> Result<Vec<LockEntry>, SubmitError> {
    let request = v2::Request {
        verb: v2::Verb::QuorumGet,
        path: lock.as_bytes().to_vec().into(),
        sorted: true,
        quorum: true,
        ..v2::Request::default()
    };
    match handle.member().submit(request).await {
        Ok(event) => Ok(entries(&event)),
        Err(SubmitError::Api(error)) if error.code == Code::KeyNotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A place with this value, which must name somebody.
pub(super) fn find_by_value<'a>(entries: &'a [LockEntry], value: &[u8]) -> Option<&'a LockEntry> {
    entries.iter().find(|entry| value != ANONYMOUS && entry.value == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_have_parts_but_must_stay_below_the_locks() {
        let path = |rest: &[u8]| LockPath::new(rest).map(|lock| String::from_utf8(lock.0).unwrap());
        assert_eq!(path(b"/foo").as_deref(), Some("/1/_etcd/mod/lock/foo"));
        assert_eq!(path(b"/a/b/").as_deref(), Some("/1/_etcd/mod/lock/a/b"));
        for nothing in ["", "/", "//", "/a/../b", "/.."] {
            assert_eq!(path(nothing.as_bytes()), None, "{nothing}");
        }
    }
}

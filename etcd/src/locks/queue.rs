//! The queue of a lock in the store.

use bytes::Bytes;
use shared::error::Code;
use shared::event::{Event, NodeView};
use shared::time::UnixNanos;
use shared::v2;

use super::MemberHandle;
use crate::backend::{Backend as _, SubmitError};

/// The directory of all locks: the store's prefix for client keys, then the path that 0.2 used.
const LOCKS: &str = "/1/_etcd/mod/lock";

/// The value of an entry whose client gave none: such an entry cannot be found by its value.
pub(super) const ANONYMOUS: &[u8] = b"-";

/// The directory of one lock in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockPath(Vec<u8>);

impl LockPath {
    /// The lock with this key, the rest of the request path. `None` if it is not a valid lock key.
    pub(crate) fn new(rest: &[u8]) -> Option<LockPath> {
        let mut path = LOCKS.as_bytes().to_vec();
        for part in rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            // The router cleans such paths; this check makes sure that the path stays below `LOCKS`.
            if matches!(part, b"." | b"..") {
                return None;
            }
            path.push(b'/');
            path.extend_from_slice(part);
        }
        (path.len() > LOCKS.len()).then_some(LockPath(path))
    }

    /// The directory's key as clients see it.
    pub(crate) fn key(&self) -> &[u8] {
        self.0.strip_prefix(b"/1").unwrap_or(&self.0)
    }

    /// The directory in the store.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The store path of the entry with this name.
    pub(super) fn child(&self, name: &[u8]) -> Bytes {
        [&self.0, b"/".as_slice(), name].concat().into()
    }
}

/// One client's entry in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LockEntry {
    /// The number in the entry's name.
    pub(super) index: u64,
    /// The name, which may have leading zeros.
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

/// The entries of a lock's directory, first entry first. Locks below this one are not entries.
pub(super) fn entries(event: &Event) -> Vec<LockEntry> {
    let mut entries: Vec<LockEntry> = event.node().children().filter_map(LockEntry::of).collect();
    // Sorted by number: other programs may have created names of another length.
    entries.sort_by_key(|entry| entry.index);
    entries
}

/// The queue in this member's store.
pub(super) fn local_queue(handle: &impl MemberHandle, lock: &LockPath) -> Vec<LockEntry> {
    handle
        .member()
        .store()
        .get(lock.as_bytes(), false, true)
        .map_or_else(|_| Vec::new(), |event| entries(&event))
}

/// The queue by a quorum read; empty if the lock was never used.
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

/// The first entry with this value; `None` for [`ANONYMOUS`].
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
